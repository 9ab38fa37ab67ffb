//! Many calls at once: sharing, memory, slow and absent readers, failure.

use std::time::Duration;

use sglhost_core::{ErrorCode, SamplingParams, limits::EngineLimits};
use sglhost_model::{DeviceError, ModelError};

use super::scripted::{Bench, REFUSED_SEED, collect, expected_text};
use crate::CallEvent;

fn prompt(length: usize, seed: u32) -> Vec<u32> {
    (0..length as u32).map(|index| (index * 7 + seed * index * index) % 26).collect()
}

#[test]
fn calls_are_batched_and_do_not_change_each_other() {
    let mut bench = Bench::new(10_000, EngineLimits::default());
    let prompts: Vec<_> = (0..40).map(|seed| prompt(30 + seed as usize, seed)).collect();
    let calls: Vec<_> = prompts.iter().map(|prompt| bench.generate(prompt, 25)).collect();
    bench.finish();
    for (prompt, call) in prompts.iter().zip(calls) {
        assert_eq!(collect(call).0, expected_text(prompt, 25));
    }
    assert_eq!(bench.seen.lock().unwrap().most_sequences, 40);
}

#[test]
fn memory_pressure_retracts_and_resumes_but_fails_nothing() {
    let limits = EngineLimits { step_tokens_max: 16, prefill_chunk_tokens: 8, ..EngineLimits::default() };
    let mut bench = Bench::new(100, limits);
    let prompts: Vec<_> = (0..12).map(|seed| prompt(20 + 3 * seed as usize, seed)).collect();
    let calls: Vec<_> = prompts.iter().map(|prompt| bench.generate(prompt, 40)).collect();
    bench.finish();
    for (prompt, call) in prompts.iter().zip(calls) {
        assert_eq!(collect(call).0, expected_text(prompt, 40));
    }
}

#[test]
fn a_shared_prompt_is_computed_once_and_reused_later() {
    let mut bench = Bench::new(10_000, EngineLimits::default());
    let shared = prompt(300, 3);
    let fork = |tail: u32| [&shared[..], &[tail, 1]].concat();
    let calls: Vec<_> = (0..4).map(|tail| bench.generate(&fork(tail), 3)).collect();
    bench.finish();
    for (tail, call) in calls.into_iter().enumerate() {
        let (text, outcome) = collect(call);
        assert_eq!(text, expected_text(&fork(tail as u32), 3));
        let cached = outcome.unwrap().usage.cached_tokens;
        assert_eq!(cached, if tail == 0 { 0 } else { 300 });
    }
    assert!(bench.seen.lock().unwrap().tokens < 300 + 4 * (2 + 3));
    let again = bench.generate(&fork(0), 3);
    bench.finish();
    assert_eq!(collect(again).1.unwrap().usage.cached_tokens, 301, "all but the token whose logits are wanted");
}

#[test]
fn a_long_prefill_does_not_stall_running_streams() {
    let limits = EngineLimits { step_tokens_max: 64, prefill_chunk_tokens: 16, ..EngineLimits::default() };
    let mut bench = Bench::new(10_000, limits);
    let mut stream = bench.generate(&[1, 2, 3], 100);
    bench.step();
    let long = bench.generate(&prompt(500, 1), 1);
    for _ in 0..20 {
        while stream.try_recv().is_ok() {}
        bench.step();
        assert!(matches!(stream.try_recv(), Ok(CallEvent::Delta(_))), "a token every step");
    }
    bench.finish();
    assert_eq!(collect(long).0, expected_text(&prompt(500, 1), 1));
}

#[test]
fn a_reader_that_went_away_gives_its_memory_back() {
    let mut bench = Bench::new(100, EngineLimits::default());
    let abandoned = bench.generate(&[1, 2, 3], 90);
    let kept = bench.generate(&[4, 5], 10);
    bench.step();
    bench.step();
    drop(abandoned);
    bench.finish();
    assert!(bench.seen.lock().unwrap().steps < 20, "the abandoned call ended early");
    assert_eq!(collect(kept).0, expected_text(&[4, 5], 10));
    assert_eq!(bench.engine.scheduler().cache().locked(), 0, "nothing is locked");
}

#[test]
fn a_slow_reader_pauses_only_itself_and_loses_nothing() {
    let mut bench = Bench::new(60, EngineLimits::default());
    let params = SamplingParams { max_tokens: 30, ..Default::default() };
    let mut slow = bench.call_with_buffer(&[1, 2, 3], bench.generation(params), 2);
    let others: Vec<_> = (4..8).map(|token| bench.generate(&[token; 20], 20)).collect();
    for _ in 0..200 {
        bench.step();
    }
    for (token, call) in (4..8).zip(others) {
        assert_eq!(collect(call).0, expected_text(&[token; 20], 20));
    }
    let mut text = String::new();
    loop {
        match slow.try_recv() {
            Ok(CallEvent::Delta(piece)) => text.push_str(&piece),
            Ok(CallEvent::Finished(_)) => break,
            Ok(CallEvent::Failed(error)) => panic!("{error}"),
            Err(_) => bench.step(),
        }
    }
    assert_eq!(text, expected_text(&[1, 2, 3], 30));
}

#[test]
fn a_reader_that_never_reads_is_cancelled_in_the_end() {
    let mut bench = Bench::new(60, EngineLimits::default());
    let params = SamplingParams { max_tokens: 30, ..Default::default() };
    let _stuck = bench.call_with_buffer(&[1, 2, 3], bench.generation(params), 1);
    for _ in 0..50 {
        bench.step();
    }
    assert!(!bench.engine.is_empty());
    *bench.clock.0.lock().unwrap() += Duration::from_secs(3600);
    bench.finish();
    assert_eq!(bench.engine.scheduler().cache().locked(), 0);
}

#[test]
fn a_device_error_answers_what_was_under_way_and_the_engine_goes_on() {
    let mut bench = Bench::new(1000, EngineLimits::default());
    let calls: Vec<_> = (0..3).map(|token| bench.generate(&[token, 1], 20)).collect();
    bench.step();
    *bench.fail.lock().unwrap() = Some(ModelError::Unsupported("a scripted failure".to_owned()));
    bench.finish();
    for call in calls {
        let error = collect(call).1.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(error.code.retryable());
    }
    let next = bench.generate(&[1, 2], 5);
    bench.finish();
    assert_eq!(collect(next).0, expected_text(&[1, 2], 5));
}

#[test]
fn a_row_without_an_answer_fails_its_call_alone() {
    let mut bench = Bench::new(1000, EngineLimits::default());
    let params = SamplingParams { seed: Some(REFUSED_SEED), max_tokens: 9, ..SamplingParams::default() };
    let (refused, other) = (bench.call(&[1, 3], bench.generation(params)), bench.generate(&[1, 2], 20));
    bench.finish();
    let error = collect(refused).1.unwrap_err();
    assert_eq!((error.code, error.message.contains("a scripted refusal")), (ErrorCode::Unavailable, true));
    assert_eq!(collect(other).0, expected_text(&[1, 2], 20));
}

#[test]
fn a_lost_device_answers_everything_and_is_left_alone() {
    let mut bench = Bench::new(1000, EngineLimits::default());
    let told = bench.engine.lost();
    let running = bench.generate(&[1, 1], 20);
    bench.step();
    assert!(told.borrow().is_none());
    let lost = DeviceError::Lost { call: "cuLaunchKernel", reason: "CUDA_ERROR_ILLEGAL_ADDRESS".to_owned() };
    *bench.fail.lock().unwrap() = Some(lost.into());
    bench.finish();
    assert!(told.borrow().as_ref().is_some_and(|error| error.message.contains("ILLEGAL_ADDRESS")));
    let steps = bench.metrics.steps.get();
    let later = bench.generate(&[1, 2], 5);
    bench.finish();
    for call in [running, later] {
        let error = collect(call).1.unwrap_err();
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(error.message.contains("ILLEGAL_ADDRESS; the process must be started again"), "{error}");
    }
    assert_eq!(bench.metrics.steps.get(), steps, "nothing is computed any more");
}
