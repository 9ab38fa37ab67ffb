//! Microseconds to instantiate a program, call it with one host call, and tear it down: medians.
//!
//! `cargo bench -p sglhost-tests --bench host_calls`

#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use sglhost_core::{Event, SamplingParams, TenantId};
use sglhost_engine::SystemClock;
use sglhost_runtime::{Program, RunRequest, Runtime, RuntimeConfig};
use sglhost_tests::guests;
use sglhost_tests::scripted::ScriptedEngine;

const WARM_UP: usize = 500;
const ROUNDS: usize = 5_000;

fn main() {
    // Two workers, as in a small host: one runs, the other tears down.
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    // In a task: what blocks on the runtime from outside pays for waking another thread.
    tokio.block_on(async { tokio::spawn(measure()).await.unwrap() });
}

async fn measure() {
    let clock = Arc::new(SystemClock::default());
    let runtime = Runtime::new(RuntimeConfig::default(), ScriptedEngine::new(), clock, Arc::new(|| 1)).unwrap();
    let bytes = guests::component("tests/attacks/guests", "attacks");
    let compiling = Instant::now();
    let program = runtime.load(&bytes).await.unwrap();
    println!("component {} KB, loaded in {:.0} ms", bytes.len() / 1000, compiling.elapsed().as_secs_f64() * 1e3);
    for arguments in [r#"{"attack": "nothing"}"#, r#"{"attack": "left"}"#] {
        let mut costs = Vec::with_capacity(ROUNDS);
        for round in 0..WARM_UP + ROUNDS {
            let cost = runtime.cost(&program, Some(arguments.to_owned())).await.unwrap();
            if round >= WARM_UP {
                costs.push(cost);
            }
        }
        println!("{arguments}");
        println!("  instantiate {:6.1} µs", median(costs.iter().map(|cost| cost.instantiate)));
        println!("  call        {:6.1} µs", median(costs.iter().map(|cost| cost.call)));
        println!("  teardown    {:6.1} µs", median(costs.iter().map(|cost| cost.teardown)));
        println!(
            "  together    {:6.1} µs",
            median(costs.iter().map(|cost| cost.instantiate + cost.call + cost.teardown))
        );
        let mut whole = Vec::with_capacity(ROUNDS);
        for round in 0..WARM_UP + ROUNDS {
            let took = run(&runtime, &program, arguments).await;
            if round >= WARM_UP {
                whole.push(took);
            }
        }
        println!(
            "  a whole run, from start to run.finished as its caller sees it {:6.1} µs",
            median(whole.into_iter())
        );
    }
}

async fn run(runtime: &Runtime, program: &Program, arguments: &str) -> Duration {
    let request = RunRequest {
        tenant: TenantId::local(),
        arguments: arguments.to_owned(),
        defaults: SamplingParams::default(),
        priority: 0,
        limits: None,
        seed: Some(0),
    };
    let start = Instant::now();
    let mut run = runtime.start(program, request);
    while let Some(event) = run.events.recv().await {
        if let Event::RunFinished { result, .. } = event {
            result.unwrap();
            break;
        }
    }
    start.elapsed()
}

fn median(durations: impl Iterator<Item = Duration>) -> f64 {
    let mut sorted: Vec<Duration> = durations.collect();
    sorted.sort_unstable();
    sorted[sorted.len() / 2].as_secs_f64() * 1e6
}
