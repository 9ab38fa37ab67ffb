//! Logits are the same bits whatever else is in the batch, chunked or whole, cached or not, wherever the slots lie: of
//! the model by itself, and through the engine, where the log-probabilities of the likeliest tokens stand for all
//! logits (each is computed from all), and what is sampled with a seed is the same too.

use sglhost_core::{SamplingParams, limits::EngineLimits};
use sglhost_engine::{Call, EngineHandle, Outcome, Work};
use sglhost_model::OpenOptions;

use sglhost_tests::serving::retractions;

use crate::{
    compute,
    golden::smollm2,
    model::{self, Model, Part},
    serving::{assert_same_outcomes, finish, start, start_with, submit},
};

/// The longest prompt's length here; keeps the test short.
const TOKENS: usize = 100;

fn tokens(name: &str) -> &'static [u32] {
    let case = smollm2().cases.iter().find(|case| case.name == name).unwrap();
    &case.ids[..case.ids.len().min(TOKENS)]
}

/// Logits after each token, computed in passes of the given sizes (the last one as often as needed) over `slots`.
fn in_chunks(model: &mut Model, tokens: &[u32], slots: &[u32], sizes: &[usize]) -> Vec<f32> {
    let (mut logits, mut start) = (Vec::new(), 0);
    let mut sizes = sizes.iter().chain(std::iter::repeat(sizes.last().unwrap()));
    while start < tokens.len() {
        let end = tokens.len().min(start + sizes.next().unwrap());
        logits.extend(model.forward(&[Part { tokens: &tokens[start..end], slots: &slots[..end] }]));
        start = end;
    }
    logits
}

fn assert_same_bits(what: &str, actual: &[f32], expect: &[f32]) {
    assert_eq!(actual.len(), expect.len(), "{what}");
    let difference = actual.iter().zip(expect).position(|(a, e)| a.to_bits() != e.to_bits());
    assert_eq!(difference, None, "{what}: the first different logit");
}

fn check(mut model: Model) {
    let vocabulary = model.vocabulary();
    let prompt = tokens("austen");
    let slots: Vec<u32> = (0..prompt.len() as u32).collect();
    let whole = in_chunks(&mut model, prompt, &slots, &[prompt.len()]);

    for sizes in [&[64][..], &[1, 7, 32, 3], &[17], &[1]] {
        let chunked = in_chunks(&mut model, prompt, &slots, sizes);
        assert_same_bits(&format!("in chunks of {sizes:?}"), &chunked, &whole);
    }

    // 389 has no factor in common with 1000: every slot once, in an order far from that of the tokens.
    let scattered: Vec<u32> = (0..prompt.len() as u32).map(|index| index * 389 % 1000).collect();
    assert_same_bits("over scattered slots", &in_chunks(&mut model, prompt, &scattered, &[48]), &whole);

    let last = &whole[whole.len() - vocabulary..];
    let before = prompt.len() - 1;
    in_chunks(&mut model, prompt, &slots, &[prompt.len()]);

    // The last token as a decode step among prefills and decodes of others.
    let others = ["alice", "rust_code", "capital"].map(tokens);
    let other_slots = [200..300, 400..500, 600..700].map(|range: std::ops::Range<u32>| range.collect::<Vec<_>>());
    in_chunks(&mut model, &others[1][..60], &other_slots[1], &[60]);
    let logits = model.forward(&[
        Part { tokens: others[0], slots: &other_slots[0][..others[0].len()] },
        Part { tokens: &others[1][60..61], slots: &other_slots[1][..61] },
        Part { tokens: &prompt[before..], slots: &slots },
        Part { tokens: others[2], slots: &other_slots[2][..others[2].len()] },
    ]);
    let row = others[0].len() + 1;
    assert_same_bits("among others", &logits[row * vocabulary..(row + 1) * vocabulary], last);

    // A second sequence on the first one's prefix, side by side with one that computes everything itself.
    let shared = 50;
    let forked: Vec<u32> = slots[..shared].iter().copied().chain(700..700 + (prompt.len() - shared) as u32).collect();
    let own: Vec<u32> = (800..800 + prompt.len() as u32).collect();
    let logits =
        model.forward(&[Part { tokens: &prompt[shared..], slots: &forked }, Part { tokens: prompt, slots: &own }]);
    let cached = (prompt.len() - shared) * vocabulary;
    assert_same_bits("on a cached prefix", &logits[..cached], &whole[shared * vocabulary..]);
    assert_same_bits("beside it", &logits[cached..], &whole);
}

#[test]
fn as_served() {
    let _turn = compute::turn();
    check(model::served());
}

#[test]
fn with_f32_activations() {
    let _turn = compute::turn();
    check(model::exact());
}

/// Calls that run together.
const BATCH: usize = 16;
/// The longest prompt's length, and tokens that each generates.
const PROMPT: usize = 48;
const GENERATED: u32 = 32;
/// KV memory in which they all fit.
const ROOMY: usize = 4096;

/// Call `index`: a prompt of its own and its own way to sample.
fn call(engine: &EngineHandle, tenant: &str, index: usize) -> Call {
    let case = &smollm2().cases[index];
    let prompt = &case.ids[..case.ids.len().min(PROMPT)];
    let (top_k, top_p, frequency_penalty) = [(-1, 1.0, 0.0), (40, 1.0, 0.5), (-1, 0.9, 0.0)][index % 3];
    let params = SamplingParams {
        max_tokens: GENERATED,
        // Greedy now and then.
        temperature: if index.is_multiple_of(5) { 0.0 } else { 1.0 },
        top_k,
        top_p,
        frequency_penalty,
        seed: Some(1000 + index as u64),
        ignore_eos: true,
        top_logprobs: Some(256),
        ..SamplingParams::default()
    };
    submit(engine, tenant, prompt, Work::Generate { params: Box::new(params), constraint: None })
}

/// All calls, one after the other.
fn alone(engine: &EngineHandle, tenant: &str) -> Vec<Outcome> {
    (0..BATCH).map(|index| finish(call(engine, tenant, index))).collect()
}

/// All calls at once.
fn together(engine: &EngineHandle, tenant: &str) -> Vec<Outcome> {
    let calls: Vec<Call> = (0..BATCH).map(|index| call(engine, tenant, index)).collect();
    calls.into_iter().map(finish).collect()
}

fn cached(outcomes: &[Outcome]) -> u64 {
    outcomes.iter().map(|outcome| outcome.usage.cached_tokens).sum()
}

fn prompts(outcomes: &[Outcome]) -> u64 {
    outcomes.iter().map(|outcome| outcome.usage.prompt_tokens).sum()
}

#[test]
fn through_the_engine() {
    let _turn = compute::turn();
    let engine = start(ROOMY, EngineLimits::default());
    let expect = alone(&engine, "alone");
    // Prompts begin alike here and there, and nothing else is cached.
    assert!(cached(&expect) < prompts(&expect) / 2, "the first time little is cached");
    assert!((0..BATCH).any(|index| !index.is_multiple_of(5) && expect[index].tokens != smollm2().cases[index].greedy));

    let again = alone(&engine, "alone");
    assert!(cached(&again) > prompts(&again) / 2, "the second time most is cached");
    assert_same_outcomes("cached", &again, &expect);
    assert_same_outcomes("together", &together(&engine, "together"), &expect);
    assert_same_outcomes("together and cached", &together(&engine, "alone"), &expect);
    drop(engine);

    // Prompts in chunks beside the decodes of others, and steps too small for all decodes at once.
    let small = EngineLimits { prefill_chunk_tokens: 16, step_tokens_max: 24, ..EngineLimits::default() };
    let engine = start(ROOMY, small.clone());
    assert_same_outcomes("in chunks, together", &together(&engine, "together"), &expect);
    drop(engine);
    let smaller = EngineLimits { prefill_chunk_tokens: 5, step_tokens_max: 7, ..EngineLimits::default() };
    let engine = start(ROOMY, smaller);
    assert_same_outcomes("in small chunks, together", &together(&engine, "together"), &expect);
    drop(engine);

    // Memory for two or three of the calls: what is let in outgrows it, and is computed again.
    let scarce = 2 * PROMPT + GENERATED as usize;
    for limits in [EngineLimits::default(), small.clone()] {
        let engine = start(scarce, limits);
        assert_same_outcomes("with scarce memory", &together(&engine, "together"), &expect);
        assert!(retractions(&engine) > 0, "what was let in outgrew the memory");
    }

    let pages = |kv_slots| OpenOptions { kv_slots: Some(kv_slots), kv_page_tokens: 16, ..OpenOptions::default() };
    let engine = start_with(&pages(ROOMY), EngineLimits::default());
    assert_same_outcomes("in pages", &together(&engine, "together"), &expect);
    assert_same_outcomes("in pages, cached", &together(&engine, "together"), &expect);
    drop(engine);
    let engine = start_with(&pages(scarce), small);
    assert_same_outcomes("in pages, with scarce memory", &together(&engine, "together"), &expect);
    assert!(retractions(&engine) > 0, "what was let in outgrew the memory");
}
