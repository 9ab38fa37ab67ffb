//! What each parameter makes of tokens that a test samples by hand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use sglhost_core::StopConditions;
use sglhost_text::GgufVocabulary;

use super::*;

/// After the letters, which are tokens 0 to 25: ends a text, another control token, and two tokens of several letters.
const END: TokenId = 26;
const TOOL: TokenId = 27;
const XYZ: TokenId = 28;
const ZQ: TokenId = 29;
const VOCABULARY: usize = 30;

fn tokenizer() -> Arc<Tokenizer> {
    let mut tokens: Vec<String> = ('a'..='z').map(String::from).collect();
    tokens.extend(["<end>", "<tool>", "xyz", "zq"].map(str::to_owned));
    let mut token_types = vec![1; VOCABULARY];
    token_types[END as usize] = 3;
    token_types[TOOL as usize] = 3;
    let (model, pre) = ("gpt2".to_owned(), Some("gpt-2".to_owned()));
    Arc::new(
        Tokenizer::from_gguf(GgufVocabulary { model, pre, tokens, token_types, eos: Some(END), ..Default::default() })
            .unwrap(),
    )
}

fn defaults() -> SamplingParams {
    SamplingParams::default()
}

fn stop(strings: &[&str], tokens: &[TokenId]) -> StopConditions {
    let strings = strings.iter().map(|&string| string.to_owned()).collect();
    StopConditions { strings, tokens: tokens.to_vec(), ..StopConditions::default() }
}

fn generation(params: SamplingParams) -> Generation {
    let start =
        Start { prompt: &[], end_tokens: &[END], tokenizer: &tokenizer(), fallback_seed: 11, jump_forward: true };
    Generation::new(params, None, &start).unwrap()
}

/// What is asked of the sampler after `tokens`.
fn row_after(params: SamplingParams, tokens: &[TokenId]) -> SampleRow {
    let mut generation = generation(params);
    for &token in tokens {
        assert!(generation.push(&result(token), true).unwrap().ending.is_none());
    }
    let RowRequest::Sample(row) = generation.row(VOCABULARY).unwrap() else { panic!("a generation samples") };
    *row
}

fn result(token: TokenId) -> RowResult {
    RowResult { token, logprob: -0.5, top: vec![(token, -0.5), (0, -2.0)], ..RowResult::default() }
}

/// The outcome of sampling `tokens` until one ends the call, and the text that was delivered on the way.
fn outcome(params: SamplingParams, tokens: &[TokenId]) -> (Outcome, String) {
    let mut generation = generation(params);
    let mut delivered = String::new();
    for &token in tokens {
        let progress = generation.push(&result(token), true).unwrap();
        delivered += &progress.delta;
        if let Some(ending) = progress.ending {
            return (generation.outcome(ending), delivered);
        }
    }
    panic!("{tokens:?} do not end the call; delivered so far: {delivered:?}");
}

/// Text, tokens, how many of those and which text the context keeps, and why the call ended at what.
type Expected<'a> = (&'a str, &'a [TokenId], usize, &'a str, FinishReason, Option<&'a str>);

fn check(params: SamplingParams, sampled: &[TokenId], expect: Expected<'_>) {
    let (outcome, delivered) = outcome(params.clone(), sampled);
    let reason = outcome.finish_reason.unwrap();
    let matched = outcome.matched.as_deref();
    let actual = (&*outcome.text, &*outcome.tokens, outcome.kept_tokens, &*outcome.pending, reason, matched);
    assert_eq!(actual, expect, "{sampled:?} with {params:?}");
    assert_eq!(delivered, outcome.text, "what is delivered is the outcome");
    assert_eq!(outcome.usage.completion_tokens, outcome.tokens.len() as u64);
}

#[test]
fn the_sampler_is_asked_for_what_the_parameters_say() {
    let row = row_after(
        SamplingParams { temperature: 0.7, top_p: 0.9, top_k: 40, min_p: 0.05, seed: Some(5), ..defaults() },
        &[0, 1, 0],
    );
    assert_eq!((row.temperature, row.top_p, row.top_k, row.min_p), (0.7, 0.9, 40, 0.05));
    assert_eq!((row.seed, row.position), (5, 3));
    assert!(row.mask.is_none() && row.counts.is_empty() && row.bias.is_empty() && row.top_logprobs.is_none());

    let row = row_after(SamplingParams { logit_bias: vec![(3, -4.0)], top_logprobs: Some(7), ..defaults() }, &[]);
    assert_eq!((row.top_k, row.seed, row.position), (0, 11, 0), "all tokens; the seed drawn for the call");
    assert_eq!((&*row.bias, row.top_logprobs), (&[(3, -4.0)][..], Some(7)));
}

#[test]
fn a_temperature_next_to_nothing_is_greedy() {
    for (temperature, expect) in [(0.0, 0.0), (1e-7, 0.0), (1e-40, 0.0), (1e-6, 1e-6), (0.01, 0.01)] {
        assert_eq!(row_after(SamplingParams { temperature, ..defaults() }, &[]).temperature, expect);
    }
}

#[test]
fn penalties_count_this_calls_output() {
    let sampled = [3, 1, 3, 3];
    for params in [
        SamplingParams { frequency_penalty: 0.5, ..defaults() },
        SamplingParams { presence_penalty: -0.5, ..defaults() },
        SamplingParams { repetition_penalty: 1.1, ..defaults() },
    ] {
        let row = row_after(params.clone(), &sampled);
        assert_eq!(row.counts, [(1, 1), (3, 3)], "{params:?}");
        let penalties = (row.frequency_penalty, row.presence_penalty, row.repetition_penalty);
        assert_eq!(penalties, (params.frequency_penalty, params.presence_penalty, params.repetition_penalty));
    }
}

#[test]
fn min_tokens_masks_what_would_end_the_text() {
    let params = SamplingParams { min_tokens: 2, stop: stop(&["<tool>"], &[4]), ..defaults() };
    for sampled in [&[][..], &[0]] {
        let mask = row_after(params.clone(), sampled).mask.unwrap();
        let forbidden: Vec<TokenId> = (0..VOCABULARY as u32).filter(|&token| !mask.allows(token)).collect();
        assert_eq!(forbidden, [4, END, TOOL]);
    }
    assert!(row_after(params, &[0, 0]).mask.is_none());
}

#[test]
fn max_tokens_ends_the_call() {
    use FinishReason::Length;
    check(SamplingParams { max_tokens: 3, ..defaults() }, &[0, 1, 2], ("abc", &[0, 1, 2], 3, "", Length, None));
    assert!(generation(SamplingParams { max_tokens: 0, ..defaults() }).wants_nothing());
}

#[test]
fn the_end_of_text_is_no_part_of_the_output_unless_it_is_kept() {
    use FinishReason::EndOfText;
    check(defaults(), &[0, END], ("a", &[0], 1, "", EndOfText, None));
    // What a stop string held back comes before the end.
    let held = SamplingParams { stop: stop(&["ab"], &[]), ..defaults() };
    check(held.clone(), &[2, 0, END], ("ca", &[2, 0], 2, "", EndOfText, None));
    let kept = SamplingParams { no_stop_trim: true, ..held };
    check(kept.clone(), &[2, 0, END], ("ca", &[2, 0, END], 3, "", EndOfText, None));
    let seen = SamplingParams { skip_special_tokens: false, ..kept };
    check(seen, &[2, 0, END], ("ca<end>", &[2, 0, END], 3, "", EndOfText, None));
}

#[test]
fn ignore_eos_goes_on() {
    let ignoring = SamplingParams { ignore_eos: true, max_tokens: 3, ..defaults() };
    check(ignoring, &[0, END, 1], ("ab", &[0, END, 1], 3, "", FinishReason::Length, None));
}

#[test]
fn a_stop_token_is_no_part_of_the_output_unless_it_is_kept() {
    use FinishReason::Stop;
    let params = SamplingParams { stop: stop(&[], &[1]), ..defaults() };
    check(params.clone(), &[0, 1], ("a", &[0], 1, "", Stop, Some("b")));
    let kept = SamplingParams { no_stop_trim: true, ..params };
    check(kept, &[0, 1], ("ab", &[0, 1], 2, "", Stop, Some("b")));
}

#[test]
fn a_stop_string_is_cut_unless_it_is_kept() {
    use FinishReason::Stop;
    // The match ends inside a token.
    let params = SamplingParams { stop: stop(&["ay"], &[]), ..defaults() };
    let within = SamplingParams { stop: stop(&["y"], &[]), ..params.clone() };
    check(params, &[2, 0, 24], ("c", &[2, 0, 24], 1, "", Stop, Some("ay")));
    check(within.clone(), &[2, XYZ], ("cx", &[2, XYZ], 1, "x", Stop, Some("y")));
    // What comes after it is cut even if it is kept.
    let kept = SamplingParams { no_stop_trim: true, ..within };
    check(kept, &[2, XYZ], ("cxy", &[2, XYZ], 1, "xy", Stop, Some("y")));
    let across = SamplingParams { stop: stop(&["yzz"], &[]), no_stop_trim: true, ..defaults() };
    check(across, &[XYZ, ZQ], ("xyzz", &[XYZ, ZQ], 1, "z", Stop, Some("yzz")));
}

#[test]
fn a_stop_regex_keeps_its_match() {
    let regexes = vec!["[xy]+".to_owned()];
    let params = SamplingParams { stop: StopConditions { regexes, ..stop(&[], &[]) }, ..defaults() };
    check(params.clone(), &[0, XYZ], ("axy", &[0, XYZ], 1, "xy", FinishReason::Stop, Some("xy")));
    let kept = SamplingParams { no_stop_trim: true, ..params };
    check(kept, &[0, XYZ], ("axy", &[0, XYZ], 1, "xy", FinishReason::Stop, Some("xy")));
}

#[test]
fn control_tokens_are_text_only_if_asked_for() {
    let two = SamplingParams { max_tokens: 3, ..defaults() };
    check(two.clone(), &[0, TOOL, 1], ("ab", &[0, TOOL, 1], 3, "", FinishReason::Length, None));
    let seen = SamplingParams { skip_special_tokens: false, ..two };
    check(seen, &[0, TOOL, 1], ("a<tool>b", &[0, TOOL, 1], 3, "", FinishReason::Length, None));
}

#[test]
fn a_stop_string_may_spell_a_control_token() {
    for skip_special_tokens in [true, false] {
        let params = SamplingParams { stop: stop(&["<tool>"], &[]), skip_special_tokens, ..defaults() };
        check(params, &[0, TOOL], ("a", &[0], 1, "", FinishReason::Stop, Some("<tool>")));
    }
}

#[test]
fn logprobs_are_those_of_the_tokens_of_the_output() {
    let params = SamplingParams { top_logprobs: Some(2), ..defaults() };
    for (no_stop_trim, count) in [(false, 2), (true, 3)] {
        let (outcome, _) = outcome(SamplingParams { no_stop_trim, ..params.clone() }, &[5, 6, END]);
        assert_eq!(outcome.tokens.len(), count);
        let logprobs: Vec<TokenId> = outcome.logprobs.iter().map(|token| token.token).collect();
        assert_eq!(logprobs, outcome.tokens);
        assert!(outcome.top_logprobs.iter().all(|top| top.len() == 2) && outcome.top_logprobs.len() == count);
    }
    let (outcome, _) = outcome(defaults(), &[5, END]);
    assert!(outcome.logprobs.is_empty() && outcome.top_logprobs.is_empty());
}
