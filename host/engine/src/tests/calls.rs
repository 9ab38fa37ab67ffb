//! What single calls give.

use sglhost_core::{ChoicesMethod, FinishReason, SamplingParams, StopConditions, limits::EngineLimits};

use super::scripted::{Bench, collect, expected_text, logprobs, next_token};
use crate::call::Job;

fn bench() -> Bench {
    Bench::new(1000, EngineLimits::default())
}

#[test]
fn a_generation_streams_what_it_finally_holds() {
    let mut bench = bench();
    let call = bench.generate(&[1, 2, 3], 20);
    bench.finish();
    let (text, outcome) = collect(call);
    let outcome = outcome.unwrap();
    assert_eq!(text, expected_text(&[1, 2, 3], 20));
    assert_eq!(text, outcome.text);
    assert_eq!((outcome.kept_tokens, outcome.pending.as_str()), (20, ""));
    assert_eq!(outcome.finish_reason, Some(FinishReason::Length));
    assert_eq!((outcome.usage.prompt_tokens, outcome.usage.completion_tokens), (3, 20));
}

#[test]
fn a_stop_string_and_what_follows_are_cut() {
    let mut bench = bench();
    let whole = expected_text(&[5], 30);
    let stop = &whole[7..9];
    let cut = whole.find(stop).unwrap();
    let stop = StopConditions { strings: vec![stop.to_owned()], ..StopConditions::default() };
    let call = bench.call(&[5], bench.generation(SamplingParams { max_tokens: 30, stop, ..SamplingParams::default() }));
    bench.finish();
    let (text, outcome) = collect(call);
    let outcome = outcome.unwrap();
    assert_eq!((text.as_str(), outcome.text.as_str()), (&whole[..cut], &whole[..cut]));
    assert_eq!((outcome.finish_reason, outcome.kept_tokens), (Some(FinishReason::Stop), cut));
    assert_eq!(outcome.matched.as_deref(), Some(&whole[cut..cut + 2]));
}

#[test]
fn a_stop_token_ends_the_text_and_is_no_part_of_it() {
    let mut bench = bench();
    let first = next_token(&[9]);
    let second = next_token(&[9, first]);
    let stop = StopConditions { tokens: vec![second], ..StopConditions::default() };
    let params = SamplingParams { max_tokens: 30, stop, ..SamplingParams::default() };
    let call = bench.call(&[9], bench.generation(params.clone()));
    let held_off = bench.call(&[9], bench.generation(SamplingParams { min_tokens: 30, ..params }));
    bench.finish();
    let outcome = collect(call).1.unwrap();
    assert_eq!(outcome.tokens, [first]);
    assert_eq!(outcome.finish_reason, Some(FinishReason::Stop));
    let outcome = collect(held_off).1.unwrap();
    assert_eq!(outcome.tokens.len(), 30);
    assert!(!outcome.tokens.contains(&second), "min_tokens masks stop tokens");
}

#[test]
fn no_tokens_may_be_asked_for() {
    let mut bench = bench();
    let call = bench.generate(&[1, 2], 0);
    bench.finish();
    let (text, outcome) = collect(call);
    assert_eq!((text.as_str(), outcome.unwrap().finish_reason), ("", Some(FinishReason::Length)));
}

#[test]
fn the_context_length_ends_a_generation() {
    let mut bench = Bench::new(32, EngineLimits::default());
    let call = bench.generate(&[1; 20], 1000);
    bench.finish();
    let outcome = collect(call).1.unwrap();
    assert_eq!((outcome.tokens.len(), outcome.finish_reason), (12, Some(FinishReason::Length)));
}

#[test]
fn scores_are_those_of_the_text() {
    let mut bench = bench();
    let prompt: Vec<u32> = (0..20).collect();
    let call = bench.call(&prompt, Job::Score(vec![3, 1, 4]));
    let next = bench.call(&prompt, Job::NextTokens(5));
    bench.finish();
    let scored: Vec<f32> = collect(call).1.unwrap().logprobs.iter().map(|token| token.logprob).collect();
    assert_eq!(scored, logprobs(&prompt, &[3, 1, 4]));
    let likeliest = collect(next).1.unwrap().logprobs;
    assert_eq!(likeliest.len(), 5);
    assert!(likeliest.is_sorted_by(|a, b| a.logprob >= b.logprob));
}

#[test]
fn a_select_takes_the_likeliest_and_computes_its_prompt_once() {
    let choices = [vec![1, 2], vec![3], vec![1, 5, 6, 7]];
    let prompt: Vec<u32> = (0..400).map(|index| index % 26).collect();
    for method in [ChoicesMethod::TokenLengthNormalized, ChoicesMethod::UnconditionalLikelihoodNormalized] {
        let mut bench = bench();
        let call = bench.call(&prompt, Job::Select { choices: choices.to_vec(), method, root: None });
        bench.finish();
        let outcome = collect(call).1.unwrap();
        let mean = |row: Vec<f32>| row.iter().sum::<f32>() / row.len() as f32;
        let expect = |choice: &Vec<u32>| {
            let conditional = mean(logprobs(&prompt, choice));
            if method == ChoicesMethod::TokenLengthNormalized {
                return conditional;
            }
            let mut without = vec![0.0];
            without.extend(logprobs(&choice[..1], &choice[1..]));
            conditional - mean(without)
        };
        let scores: Vec<f32> = choices.iter().map(expect).collect();
        assert_eq!(outcome.scores, scores, "{method:?}");
        let best = (0..3).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        assert_eq!(outcome.choice, Some(best));
        // The prompt once, and of each choice at most the prompt's last token and its own.
        let most = prompt.len() + choices.iter().map(|choice| 2 * choice.len() + 1).sum::<usize>();
        assert!(bench.seen.lock().unwrap().tokens <= most);
    }
}
