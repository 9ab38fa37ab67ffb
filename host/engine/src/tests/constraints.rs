//! Calls under a constraint: what is forced is appended without being sampled, and masks may come late.

use std::time::Duration;

use sglhost_core::{ErrorCode, FinishReason, SamplingParams, StopConditions, limits::EngineLimits};
use sglhost_text::Constraint;
use tokio::sync::mpsc::Receiver;

use super::scripted::{Bench, Sizes, collect, constrained_text, expected_text};
use crate::{CallEvent, Outcome};

/// Something sampled, a forced run, something sampled, a forced end.
const PATTERN: &str = "[a-m]{2}nopqrstu[a-m]{3}vwxyw";

fn bench(ahead: bool, limits: EngineLimits) -> Bench {
    Bench::with(Sizes { kv_slots: 200, page_tokens: 1, context_length: 200, ahead }, limits)
}

fn regex(bench: &Bench, pattern: &str) -> Constraint {
    Constraint::regex(pattern, &bench.tokenizer).unwrap()
}

fn params() -> SamplingParams {
    SamplingParams { max_tokens: 100, ..SamplingParams::default() }
}

/// The outcome of one call, which delivers what it says, and the forward passes it took.
fn generate(bench: &mut Bench, prompt: &[u32], pattern: &str, params: SamplingParams) -> (Outcome, u64) {
    let constraint = regex(bench, pattern);
    let before = bench.metrics.steps.get();
    let call = bench.call(prompt, bench.constrained(params, Some(&constraint)));
    bench.finish();
    let (text, outcome) = collect(call);
    let outcome = outcome.unwrap();
    assert_eq!(text, outcome.text, "what is delivered is the outcome");
    assert_eq!(outcome.usage.completion_tokens, outcome.tokens.len() as u64);
    (outcome, bench.metrics.steps.get() - before)
}

fn constrained_calls(bench: &Bench, prompts: &[[u32; 4]], constraint: &Constraint) -> Vec<Receiver<CallEvent>> {
    let job = || bench.constrained(SamplingParams { max_tokens: 40, ..params() }, Some(constraint));
    prompts.iter().map(|prompt| bench.call(prompt, job())).collect()
}

#[test]
fn what_is_forced_takes_no_pass_and_changes_no_text() {
    for ahead in [false, true] {
        let mut jumping = bench(ahead, EngineLimits::default());
        let mut plain = bench(ahead, EngineLimits { jump_forward: false, ..EngineLimits::default() });
        for seed in [None, Some(7)] {
            let params = SamplingParams { seed, temperature: 1.0, ..params() };
            let (jumped, few) = generate(&mut jumping, &[1, 2, 3], PATTERN, params.clone());
            let (sampled, many) = generate(&mut plain, &[1, 2, 3], PATTERN, params);
            let expected = constrained_text(0, &[1, 2, 3], 100, seed, &regex(&plain, PATTERN));
            assert_eq!((&*jumped.text, &*sampled.text), (&*expected, &*expected));
            assert_eq!(jumped.tokens, sampled.tokens);
            assert_eq!((jumped.forced_tokens, sampled.forced_tokens), (13, 0));
            // A pass for each of 5 tokens. One step ahead, that of a token which forces others, or which turns out to be
            // the last, is launched before this is known.
            assert_eq!((few, many), if ahead { (7, 19) } else { (5, 18) });
        }
        assert_eq!(jumping.metrics.forced_tokens.get(), 26);
        assert_eq!(jumping.metrics.generation_tokens.get(), 10);
    }
}

#[test]
fn a_call_that_wants_log_probabilities_samples_every_token() {
    let mut bench = bench(false, EngineLimits::default());
    let params = SamplingParams { top_logprobs: Some(1), ..params() };
    let (outcome, steps) = generate(&mut bench, &[1, 2, 3], PATTERN, params);
    assert_eq!((outcome.forced_tokens, outcome.logprobs.len(), steps), (0, 18, 18));
}

#[test]
fn a_forced_beginning_is_computed_with_the_prompt() {
    for ahead in [false, true] {
        let mut bench = bench(ahead, EngineLimits::default());
        let (outcome, steps) = generate(&mut bench, &[1; 30], "abcdefgh[a-z]", params());
        assert_eq!(outcome.text.len(), 9);
        assert_eq!((outcome.forced_tokens, steps), (8, 1 + u64::from(ahead)));
        assert_eq!((outcome.usage.prompt_tokens, outcome.usage.cached_tokens), (30, 0));
        let (again, _) = generate(&mut bench, &[1; 30], "abcdefgh[a-z]", params());
        assert_eq!(again.text, outcome.text);
        // All of the prompt and of what was forced was cached.
        assert_eq!((again.usage.prompt_tokens, again.usage.cached_tokens), (30, 30));
        assert_eq!((bench.metrics.prompt_tokens.get(), bench.metrics.cached_tokens.get()), (60, 30));
    }
}

#[test]
fn what_is_forced_from_beginning_to_end_needs_no_model() {
    let mut bench = bench(false, EngineLimits::default());
    let (outcome, steps) = generate(&mut bench, &[1], "abcdefgh", params());
    assert_eq!((&*outcome.text, outcome.finish_reason, steps), ("abcdefgh", Some(FinishReason::Stop), 0));
    assert_eq!((outcome.forced_tokens, outcome.kept_tokens), (8, 8));
    assert_eq!((outcome.usage.prompt_tokens, outcome.usage.cached_tokens), (1, 0));
    assert_eq!(bench.metrics.finished_calls.get(), 1);
}

#[test]
fn a_stop_string_is_found_in_what_is_forced() {
    for ahead in [false, true] {
        let mut bench = bench(ahead, EngineLimits::default());
        let stop = |string: &str| StopConditions { strings: vec![string.to_owned()], ..StopConditions::default() };
        let (outcome, _) = generate(&mut bench, &[5], PATTERN, SamplingParams { stop: stop("qrs"), ..params() });
        assert_eq!((&outcome.text[2..], outcome.matched.as_deref()), ("nop", Some("qrs")));
        assert_eq!((outcome.kept_tokens, outcome.finish_reason), (5, Some(FinishReason::Stop)));
        let (outcome, steps) = generate(&mut bench, &[5], "abcde[a-z]", SamplingParams { stop: stop("d"), ..params() });
        assert_eq!((&*outcome.text, steps), ("abc", 0));
    }
}

#[test]
fn a_stop_token_is_found_in_what_is_forced() {
    let mut bench = bench(false, EngineLimits::default());
    let stop = StopConditions { tokens: vec![16], ..StopConditions::default() };
    let (outcome, _) = generate(&mut bench, &[5], PATTERN, SamplingParams { stop, ..params() });
    assert_eq!((&outcome.text[2..], outcome.matched.as_deref(), outcome.forced_tokens), ("nop", Some("q"), 3));
}

#[test]
fn the_number_of_tokens_cuts_what_is_forced() {
    for ahead in [false, true] {
        let mut bench = bench(ahead, EngineLimits::default());
        let (outcome, steps) = generate(&mut bench, &[5], PATTERN, SamplingParams { max_tokens: 6, ..params() });
        assert_eq!((&outcome.text[2..], outcome.finish_reason), ("nopq", Some(FinishReason::Length)));
        assert_eq!((outcome.forced_tokens, steps), (4, if ahead { 3 } else { 2 }));
        let (outcome, steps) = generate(&mut bench, &[5], "abcde[a-z]", SamplingParams { max_tokens: 3, ..params() });
        assert_eq!((&*outcome.text, outcome.finish_reason, steps), ("abc", Some(FinishReason::Length), 0));
        // So does the end of the context.
        let (outcome, _) = generate(&mut bench, &[1; 195], PATTERN, params());
        assert_eq!((outcome.tokens.len(), outcome.finish_reason), (5, Some(FinishReason::Length)));
    }
}

#[test]
fn what_is_forced_counts_for_penalties_and_positions() {
    let mut bench = bench(false, EngineLimits { jump_forward: false, ..EngineLimits::default() });
    let params = SamplingParams { frequency_penalty: 0.5, seed: Some(3), temperature: 1.0, ..params() };
    let (sampled, _) = generate(&mut bench, &[5], PATTERN, params.clone());
    let mut bench = self::bench(false, EngineLimits::default());
    let (jumped, _) = generate(&mut bench, &[5], PATTERN, params);
    assert_eq!(jumped.text, sampled.text);
}

#[test]
fn a_sequence_that_has_forced_tokens_to_compute_can_be_retracted() {
    for ahead in [false, true] {
        let sizes = Sizes { kv_slots: 70, page_tokens: 1, context_length: 70, ahead };
        let mut bench = Bench::with(sizes, EngineLimits { prefill_chunk_tokens: 8, ..EngineLimits::default() });
        let pattern = "[a-z]{2}(aaaabbbbccccdddd[e-z]{2}){2}";
        let constraint = regex(&bench, pattern);
        let prompts: Vec<[u32; 4]> = (0..6).map(|seed| [1, 2, 3, seed]).collect();
        let calls = constrained_calls(&bench, &prompts, &constraint);
        bench.finish();
        for (prompt, call) in prompts.iter().zip(calls) {
            assert_eq!(collect(call).0, constrained_text(0, prompt, 100, None, &constraint));
        }
        assert!(bench.metrics.retractions.get() > 0);
    }
}

#[test]
fn a_forced_run_does_not_stall_streams_nor_do_prefills_stall_it() {
    let limits = EngineLimits { step_tokens_max: 64, prefill_chunk_tokens: 16, ..EngineLimits::default() };
    let mut bench = Bench::new(10_000, limits);
    let run = "a".repeat(100);
    let constraint = regex(&bench, &format!("[a-m]{run}[n-z]"));
    let mut stream = bench.generate(&[1, 2, 3], 100);
    let forced = bench.call(&[4], bench.constrained(SamplingParams { max_tokens: 200, ..params() }, Some(&constraint)));
    bench.step();
    // It belongs to a run that was served less.
    let _long = bench.call_by(&super::scripted::Caller::run(1), &[1; 3000], bench.generation(params()));
    while stream.try_recv().is_ok() {}
    let mut steps = 0;
    while bench.metrics.finished_calls.get() == 0 {
        bench.step();
        steps += 1;
        assert!(matches!(stream.try_recv(), Ok(CallEvent::Delta(_))), "a token every step");
    }
    // A token and half a chunk in each step.
    assert_eq!(steps, 101_usize.div_ceil(9));
    assert_eq!(collect(forced).0.len(), 102);
}

#[test]
fn a_late_mask_changes_no_text_and_holds_up_nobody() {
    for ahead in [false, true] {
        let mut bench = bench(ahead, EngineLimits::default());
        let mut count = 0;
        // The first mask, and that of the fourth token that is sampled.
        bench.engine.masks().delays = Some(Box::new(move || {
            count += 1;
            if matches!(count, 1 | 4) { 3 } else { 0 }
        }));
        let constraint = regex(&bench, PATTERN);
        let mut other = bench.generate(&[7], 50);
        let call = bench.call(&[1, 2], bench.constrained(params(), Some(&constraint)));
        if ahead {
            bench.step();
        }
        for _ in 0..20 {
            bench.step();
            assert!(matches!(other.try_recv(), Ok(CallEvent::Delta(_))), "a token every step");
        }
        bench.finish();
        assert_eq!(collect(call).0, constrained_text(0, &[1, 2], 100, None, &constraint));
        assert_eq!(bench.metrics.late_rows.get(), 2);
    }
}

#[test]
fn masks_are_built_by_other_threads() {
    // With some that are always late, if not built by this one.
    for (ahead, stall) in [(false, 0), (true, 0), (false, 2000), (true, 2000)] {
        let mut bench = bench(ahead, EngineLimits { mask_threads: Some(2), ..EngineLimits::default() });
        bench.engine.masks().stall(Duration::from_micros(stall));
        let constraint = regex(&bench, PATTERN);
        let prompts: Vec<[u32; 4]> = (0..6).map(|seed| [1, 2, 3, seed]).collect();
        let calls = constrained_calls(&bench, &prompts, &constraint);
        bench.finish();
        for (prompt, call) in prompts.iter().zip(calls) {
            assert_eq!(collect(call).0, constrained_text(0, prompt, 100, None, &constraint));
        }
    }
}

#[test]
fn a_reader_that_went_away_leaves_no_late_mask_behind() {
    let mut bench = bench(true, EngineLimits::default());
    bench.engine.masks().delays = Some(Box::new(|| 1000));
    let constraint = regex(&bench, PATTERN);
    let call = bench.call(&[1, 2], bench.constrained(params(), Some(&constraint)));
    for _ in 0..10 {
        bench.step();
    }
    drop(call);
    bench.advance(Duration::from_secs(1));
    bench.finish();
    assert_eq!(bench.engine.scheduler().cache().locked(), 0);
}

#[test]
fn a_mask_that_cannot_be_built_fails_its_call_alone() {
    for mask_threads in [0, 1] {
        let mut bench = bench(true, EngineLimits { mask_threads: Some(mask_threads), ..EngineLimits::default() });
        let constraint = regex(&bench, PATTERN);
        bench.engine.masks().plant_panic();
        // The first mask is known since the pattern was compiled, that after the first token is not.
        let failing = bench.call(&[1, 2], bench.constrained(params(), Some(&constraint)));
        let other = bench.generate(&[7], 50);
        bench.finish();
        assert_eq!(collect(failing).1.unwrap_err().code, ErrorCode::Unavailable);
        assert_eq!(collect(other).0, expected_text(&[7], 50));
        assert_eq!(bench.metrics.restarts.get(), 0);
    }
}
