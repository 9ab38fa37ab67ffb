//! The engine over the GPU: one step ahead, graphs, memory pressure, failures of the driver.

use sglhost_core::{ErrorCode, SamplingParams, limits::EngineLimits};
use sglhost_device::CudaConfig;
use sglhost_engine::{Call, Engine, EngineHandle, Outcome, Work};
use sglhost_model::{OpenOptions, open};
use sglhost_tests::{
    golden::{Arrays, folder},
    serving::{self, assert_same_outcomes, finish, retractions, submit, try_finish},
};
use sglhost_text::Constraint;

use crate::twin;

const MODEL: &str = "tiny-qwen3";
const CALLS: usize = 9;
const PROMPT: usize = 20;
const GENERATED: u32 = 12;
const ROOMY: usize = 1024;

fn start(config: CudaConfig, options: OpenOptions, limits: EngineLimits) -> EngineHandle {
    let opened = open(&folder().join(MODEL), twin::device(config), &options);
    serving::start(opened.unwrap_or_else(|error| panic!("{error}")), limits)
}

fn roomy() -> OpenOptions {
    OpenOptions { kv_slots: Some(ROOMY), ..OpenOptions::default() }
}

/// Call `index`: a prompt of its own and its own way to sample.
fn call(engine: &EngineHandle, tenant: &str, index: usize) -> Call {
    let ids = Arrays::open("tiny.safetensors").u32(&format!("{MODEL}/2/ids"));
    let prompt: Vec<u32> = ids.iter().cycle().skip(index * 3).take(PROMPT - index).copied().collect();
    let (top_k, top_p, min_p) = [(-1, 1.0, 0.0), (40, 1.0, 0.0), (-1, 0.9, 0.0), (-1, 1.0, 0.05)][index % 4];
    let params = SamplingParams {
        max_tokens: GENERATED,
        // Greedy now and then.
        temperature: if index.is_multiple_of(5) { 0.0 } else { 1.0 },
        top_k,
        top_p,
        min_p,
        frequency_penalty: if index == 3 { 0.5 } else { 0.0 },
        seed: Some(1000 + index as u64),
        ignore_eos: true,
        top_logprobs: Some(8),
        ..SamplingParams::default()
    };
    submit(engine, tenant, &prompt, Work::Generate { params: Box::new(params), constraint: None })
}

/// All calls, one after the other.
fn alone(engine: &EngineHandle, tenant: &str) -> Vec<Outcome> {
    (0..CALLS).map(|index| finish(call(engine, tenant, index))).collect()
}

/// All calls at once.
fn together(engine: &EngineHandle, tenant: &str) -> Vec<Outcome> {
    let calls: Vec<Call> = (0..CALLS).map(|index| call(engine, tenant, index)).collect();
    calls.into_iter().map(finish).collect()
}

#[test]
fn deterministic_calls_are_the_same_alone_together_cached_and_retracted() {
    let deterministic = || CudaConfig { deterministic: true, ..CudaConfig::default() };
    let engine = start(deterministic(), roomy(), EngineLimits::gpu());
    let expect = alone(&engine, "alone");
    assert_same_outcomes("cached", &alone(&engine, "alone"), &expect);
    assert_same_outcomes("together", &together(&engine, "together"), &expect);
    drop(engine);

    let small = EngineLimits { prefill_chunk_tokens: 5, step_tokens_max: 7, ..EngineLimits::default() };
    let engine = start(deterministic(), roomy(), small);
    assert_same_outcomes("in small chunks", &together(&engine, "together"), &expect);
    drop(engine);

    let scarce = OpenOptions { kv_slots: Some(2 * PROMPT + GENERATED as usize), ..roomy() };
    let engine = start(deterministic(), scarce, EngineLimits::gpu());
    assert_same_outcomes("with scarce memory", &together(&engine, "together"), &expect);
    assert!(retractions(&engine) > 0, "what was let in outgrew the memory");
    drop(engine);

    let engine = start(deterministic(), OpenOptions { kv_page_tokens: 16, ..roomy() }, EngineLimits::gpu());
    assert_same_outcomes("in pages", &together(&engine, "together"), &expect);
}

#[test]
fn greedy_calls_agree_with_those_of_a_device_without_graphs() {
    let greedy = |engine: &EngineHandle| -> Vec<Vec<u32>> {
        let calls = (0..CALLS).step_by(5).map(|index| call(engine, "greedy", index));
        calls.collect::<Vec<_>>().into_iter().map(|call| finish(call).tokens).collect()
    };
    let with = start(CudaConfig::default(), roomy(), EngineLimits::gpu());
    let without = start(CudaConfig { graphs: false, ..CudaConfig::default() }, roomy(), EngineLimits::gpu());
    assert_eq!(greedy(&with), greedy(&without));
}

/// What is forced goes on in chunks, which overtake rows that were launched one step ahead; masks come from other threads.
#[test]
fn constrained_calls_are_the_same_however_they_are_computed() {
    let deterministic = || CudaConfig { deterministic: true, ..CudaConfig::default() };
    let all = |engine: &EngineHandle, tenant: &str| -> Vec<Outcome> {
        let pattern = r#"\{"name": "[a-z]{1,4}", "up": (true|false)\}"#;
        let constraint = Constraint::regex(pattern, &engine.models()[0].tokenizer).unwrap();
        let calls = (0..CALLS).map(|index| {
            let ids = Arrays::open("tiny.safetensors").u32(&format!("{MODEL}/2/ids"));
            let prompt: Vec<u32> = ids.iter().cycle().skip(index * 3).take(PROMPT - index).copied().collect();
            let seed = Some(index as u64);
            let params = Box::new(SamplingParams { max_tokens: 30, seed, ..SamplingParams::default() });
            submit(engine, tenant, &prompt, Work::Generate { params, constraint: Some(constraint.clone()) })
        });
        calls.collect::<Vec<_>>().into_iter().map(finish).collect()
    };
    let texts = |outcomes: &[Outcome]| -> Vec<(String, Vec<u32>, usize)> {
        outcomes.iter().map(|one| (one.text.clone(), one.tokens.clone(), one.forced_tokens)).collect()
    };
    let engine = start(deterministic(), roomy(), EngineLimits::gpu());
    let outcomes = all(&engine, "one");
    for outcome in &outcomes {
        assert!(outcome.text.starts_with(r#"{"name": ""#) && outcome.text.ends_with("e}"), "{}", outcome.text);
        assert!(outcome.forced_tokens > 0, "{outcome:?}");
    }
    let expect = texts(&outcomes);
    assert_eq!(texts(&all(&engine, "one")), expect, "cached");
    drop(engine);
    let small =
        EngineLimits { prefill_chunk_tokens: 5, step_tokens_max: 12, mask_threads: Some(0), ..EngineLimits::default() };
    let engine = start(deterministic(), roomy(), small);
    assert_eq!(texts(&all(&engine, "one")), expect, "in small chunks, masks built on the engine's thread");
    drop(engine);
    let scarce = OpenOptions { kv_slots: Some(80), ..roomy() };
    let engine = start(deterministic(), scarce, EngineLimits::gpu());
    assert_eq!(texts(&all(&engine, "one")), expect, "with scarce memory");
    assert!(retractions(&engine) > 0, "what was let in outgrew the memory");
}

/// In a process of its own: the call that fails is the next one of any thread.
#[test]
fn twin_only_a_failed_call_of_the_driver_is_answered_and_the_engine_goes_on() {
    const NAME: &str = "engine::twin_only_a_failed_call_of_the_driver_is_answered_and_the_engine_goes_on";
    twin::in_another_process(NAME, &[], || {
        let engine = start(CudaConfig::default(), roomy(), EngineLimits::gpu());
        let expect = finish(call(&engine, "before", 0));
        let under_way = call(&engine, "failing", 0);
        twin::fail_next("cuLaunchKernel", twin::INVALID_VALUE);
        // The call may have ended before.
        let error = try_finish(under_way).err().or_else(|| try_finish(call(&engine, "failing", 1)).err()).unwrap();
        assert_eq!(error.code, ErrorCode::Unavailable);
        assert!(error.message.contains("cuLaunchKernel"), "{error}");
        assert_eq!(finish(call(&engine, "after", 0)).tokens, expect.tokens);
    });
}

/// In a process of its own: nothing works after it.
#[test]
fn twin_only_a_lost_device_answers_everything() {
    twin::in_another_process("engine::twin_only_a_lost_device_answers_everything", &[], || {
        let engine = start(CudaConfig::default(), roomy(), EngineLimits::gpu());
        finish(call(&engine, "before", 0));
        twin::break_down(twin::ILLEGAL_ADDRESS);
        for index in 0..3 {
            let error = try_finish(call(&engine, "after", index)).unwrap_err();
            assert_eq!(error.code, ErrorCode::Unavailable);
            assert!(error.message.contains("the process must be started again"), "{error}");
        }
    });
}
