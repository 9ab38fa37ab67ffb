//! Who is served when, on a machine whose steps take time: a little each, and more the more tokens they compute.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sglhost_core::{
    SamplingParams, TokenId,
    limits::{EngineLimits, SchedulePolicy},
};
use tokio::sync::mpsc::Receiver;

use super::scripted::{Bench, Caller, Sizes, collect, expected_text};
use crate::CallEvent;

/// What a step takes, and each of its tokens: roughly a small model on a CPU.
const STEP: Duration = Duration::from_millis(2);
const TOKEN: Duration = Duration::from_micros(100);
const CHUNK: usize = 128;

fn limits(policy: SchedulePolicy, running_max: usize) -> EngineLimits {
    EngineLimits { policy, running_max, prefill_chunk_tokens: CHUNK, step_tokens_max: 512, ..EngineLimits::default() }
}

/// Tokens that no other seed begins with.
fn prompt(length: usize, seed: u32) -> Vec<TokenId> {
    let mut random = StdRng::seed_from_u64(u64::from(seed));
    (0..length).map(|_| random.random_range(0..26)).collect()
}

/// A step, and the time it takes.
fn step(bench: &mut Bench) {
    let before = bench.seen.lock().unwrap().tokens;
    bench.step();
    let tokens = bench.seen.lock().unwrap().tokens - before;
    bench.advance(STEP + TOKEN * tokens as u32);
}

fn now(bench: &Bench) -> Duration {
    *bench.clock.0.lock().unwrap()
}

fn generate(bench: &Bench, caller: &Caller, prompt: &[TokenId], max_tokens: u32) -> Receiver<CallEvent> {
    bench.call_by(caller, prompt, bench.generation(SamplingParams { max_tokens, ..SamplingParams::default() }))
}

/// Steps until the call has said something; how long that took.
fn time_to_first_token(bench: &mut Bench, events: &mut Receiver<CallEvent>) -> Duration {
    let start = now(bench);
    while events.try_recv().is_err() {
        step(bench);
    }
    now(bench) - start
}

/// The quiet tenant's time to first token with a pool of `slots`: alone, and after `flood` came.
fn quiet_beside(slots: usize, length: usize, served_before: bool, flood: fn(&Bench) -> Vec<Receiver<CallEvent>>) {
    let fair = || Bench::new(slots, limits(SchedulePolicy::LeastAttainedService, 16));
    let quiet = |bench: &Bench, run| generate(bench, &Caller::of("quiet", run), &prompt(length, 77), 10);
    let mut alone = fair();
    let mut call = quiet(&alone, 1);
    let alone = time_to_first_token(&mut alone, &mut call);

    let mut bench = fair();
    if served_before {
        let veteran = generate(&bench, &Caller::of("quiet", 1), &prompt(10, 5), 3000);
        bench.finish();
        collect(veteran).1.unwrap();
    }
    let mut flood = flood(&bench);
    for _ in 0..200 {
        step(&mut bench);
    }
    assert!(flood.iter_mut().any(|call| call.try_recv().is_ok()), "the flood is served too");
    let mut call = quiet(&bench, 2);
    let flooded = time_to_first_token(&mut bench, &mut call);
    let chunk = STEP + TOKEN * CHUNK as u32;
    assert!(flooded <= 2 * alone + chunk, "{flooded:?} beside {alone:?} alone");
}

fn many_calls(bench: &Bench) -> Vec<Receiver<CallEvent>> {
    (0..500).map(|run| generate(bench, &Caller::of("flood", run), &prompt(900, 1000 + run as u32), 300)).collect()
}

#[test]
fn a_tenant_that_floods_does_not_keep_another_waiting() {
    quiet_beside(20_000, 1000, false, many_calls);
}

#[test]
fn a_newcomer_that_floods_does_not_keep_one_waiting_that_was_served_before() {
    quiet_beside(20_000, 1000, true, many_calls);
}

#[test]
fn one_sequence_that_fills_the_memory_does_not_keep_another_tenant_waiting() {
    quiet_beside(4000, 2500, false, |bench| vec![generate(bench, &Caller::of("flood", 1), &prompt(2500, 9), 1400)]);
}

/// A short program of three calls beside long ones: how long it takes.
fn short_program(policy: SchedulePolicy, long: u64) -> Duration {
    let mut bench = Bench::new(20_000, limits(policy, 4));
    let mut others: Vec<_> =
        (0..long).map(|run| generate(&bench, &Caller::run(run), &prompt(100, run as u32), 1500)).collect();
    for _ in 0..300 {
        step(&mut bench);
    }
    let (caller, start) = (Caller::run(1000), now(&bench));
    let mut context = prompt(50, 99);
    for _ in 0..3 {
        let mut events = generate(&bench, &caller, &context, 20);
        let outcome = loop {
            match events.try_recv() {
                Ok(CallEvent::Finished(outcome)) => break outcome,
                Ok(CallEvent::Failed(error)) => panic!("{error}"),
                Ok(CallEvent::Delta(_)) => {}
                Err(_) => step(&mut bench),
            }
        };
        context.extend(outcome.tokens);
    }
    for call in &mut others {
        while call.try_recv().is_ok() {}
    }
    now(&bench) - start
}

#[test]
fn a_short_program_is_not_held_up_by_long_ones() {
    let fair = SchedulePolicy::LeastAttainedService;
    let alone = short_program(fair, 0);
    let beside = short_program(fair, 12);
    assert!(beside <= alone * 3 / 2, "{beside:?} beside {alone:?} alone");
    let plain = short_program(SchedulePolicy::FirstComeFirstServed, 12);
    assert!(plain > alone * 3 / 2, "first come, first served holds it up: {plain:?}");
}

#[test]
fn a_run_that_is_overtaken_again_and_again_is_served_in_the_end() {
    let mut bench = Bench::new(20_000, limits(SchedulePolicy::LeastAttainedService, 1));
    let veteran = Caller::run(0);
    let first = generate(&bench, &veteran, &prompt(10, 0), 500);
    bench.finish();
    collect(first).1.unwrap();
    let mut late = generate(&bench, &veteran, &prompt(10, 1), 1);
    let mut shorts = Vec::new();
    for run in 1..400 {
        // Two new ones for each that can be served: without regard to waiting, the veteran would never come first.
        shorts.extend([0, 1000].map(|more| generate(&bench, &Caller::run(run + more), &prompt(10, run as u32), 40)));
        for _ in 0..40 {
            step(&mut bench);
        }
        if late.try_recv().is_ok() {
            assert!(now(&bench) > Duration::from_secs(10), "it was overtaken for a while");
            return;
        }
    }
    panic!("it waits for ever");
}

#[test]
fn higher_priority_goes_first() {
    let mut bench = Bench::new(1000, limits(SchedulePolicy::LeastAttainedService, 1));
    let mut usual: Vec<_> =
        (0..4).map(|run| generate(&bench, &Caller::run(run), &prompt(10, run as u32), 50)).collect();
    step(&mut bench);
    let mut urgent = generate(&bench, &Caller { priority: 1, ..Caller::run(9) }, &prompt(10, 9), 5);
    for _ in 0..6 {
        step(&mut bench);
    }
    let mut text = String::new();
    while let Ok(CallEvent::Delta(piece)) = urgent.try_recv() {
        text.push_str(&piece);
    }
    assert_eq!(text, expected_text(&prompt(10, 9), 5));
    bench.finish();
    for (run, call) in usual.drain(..).enumerate() {
        assert_eq!(collect(call).0, expected_text(&prompt(10, run as u32), 50), "what was overtaken is whole");
    }
}

#[test]
fn a_burst_with_one_prefix_computes_it_once() {
    for page_tokens in [1, 16] {
        burst(page_tokens);
    }
}

fn burst(page_tokens: usize) {
    let sizes = Sizes { kv_slots: 20_000, page_tokens, context_length: 20_000, ahead: false };
    let mut bench = Bench::with(sizes, EngineLimits::default());
    let shared = prompt(1000, 3);
    let tail = |index: u32| [index % 26, index / 26, 3];
    let calls: Vec<_> = (0..256)
        .map(|index| {
            let prompt = [&shared[..], &tail(index)].concat();
            generate(&bench, &Caller::run(u64::from(index)), &prompt, 2)
        })
        .collect();
    bench.finish();
    for (index, call) in (0..256).zip(calls) {
        let prompt = [&shared[..], &tail(index)].concat();
        assert_eq!(collect(call).0, expected_text(&prompt, 2));
    }
    let computed = bench.seen.lock().unwrap().tokens;
    // Each its own three tokens, one that it sampled, and of the shared ones those that fill no page.
    assert!(computed <= 1000 + 256 * (4 + 1000 % page_tokens), "{computed} tokens");
}

#[test]
fn many_forking_runs_finish_in_a_tenth_of_their_memory() {
    let forks = 4;
    let (runs, context, own, output) = (64_u64, 60, 20, 30_u32);
    let total = runs as usize * (context + forks * (own + output as usize));
    let mut bench = Bench::new(total / 10, EngineLimits { running_max: 256, ..EngineLimits::default() });
    let mut calls = Vec::new();
    for run in 0..runs {
        let trunk = prompt(context, run as u32);
        for fork in 0..forks {
            let whole = [&trunk[..], &prompt(own, 1000 + fork as u32)].concat();
            calls.push((generate(&bench, &Caller::run(run), &whole, output), whole));
        }
    }
    bench.finish();
    for (call, prompt) in calls {
        assert_eq!(collect(call).0, expected_text(&prompt, output as usize));
    }
    let retractions = bench.metrics.retractions.get();
    println!("{total} tokens in all, {} slots, {retractions} retractions", total / 10);
    assert!(retractions > 0, "memory was tight");
}

#[test]
fn a_run_that_thinks_keeps_its_path_while_others_churn() {
    let mut bench = Bench::new(300, EngineLimits::default());
    let thinker = Caller::run(1);
    let context = prompt(100, 5);
    let first = generate(&bench, &thinker, &context, 2);
    bench.finish();
    let outcome = collect(first).1.unwrap();
    for run in 100..140 {
        let passer_by = Caller::run(run);
        let call = generate(&bench, &passer_by, &prompt(90, run as u32), 2);
        bench.finish();
        collect(call).1.unwrap();
        bench.end_run(&passer_by);
    }
    let again = [&context[..], &outcome.tokens].concat();
    let second = generate(&bench, &thinker, &again, 2);
    bench.finish();
    assert_eq!(collect(second).1.unwrap().usage.cached_tokens, 101, "all but the token whose logits are wanted");
    bench.end_run(&thinker);
    for run in 200..210 {
        let call = generate(&bench, &Caller::run(run), &prompt(90, run as u32), 2);
        bench.finish();
        collect(call).1.unwrap();
    }
    let third = generate(&bench, &Caller::run(300), &again, 2);
    bench.finish();
    assert_eq!(collect(third).1.unwrap().usage.cached_tokens, 0, "a run that ended keeps nothing");
}

#[test]
fn a_call_whose_deadline_passes_ends_with_that_wherever_it_is() {
    let mut bench = Bench::new(1000, limits(SchedulePolicy::LeastAttainedService, 1));
    let deadline = Some(Duration::from_millis(50));
    let running = generate(&bench, &Caller { deadline, ..Caller::run(1) }, &prompt(10, 1), 500);
    let waiting = generate(&bench, &Caller { deadline, ..Caller::run(2) }, &prompt(10, 2), 5);
    for _ in 0..40 {
        step(&mut bench);
    }
    for call in [running, waiting] {
        let error = collect(call).1.unwrap_err();
        assert_eq!(error.code, sglhost_core::ErrorCode::DeadlineExceeded);
    }
    assert_eq!(bench.engine.scheduler().cache().locked(), 0);
}
