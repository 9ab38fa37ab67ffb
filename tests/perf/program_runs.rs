//! Runs a program inside the host, several at once, and prints what they gave and used as one JSON object.
//!
//! `program_runs --program FILE.wasm --batch FILE.jsonl [--temperature T] [--max-tokens N] [--model PATH] [--threads N]
//! [--kv-tokens N]`: a line of the batch is a run's arguments, and all runs start at once on an engine that is fresh.
//!
//! One side of `programs_against_clients.py`; the other is `completion_server`.

#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]

mod measured_engine;

use std::sync::Arc;
use std::time::{Duration, Instant};

use measured_engine::{Flags, MeasuredEngine};
use serde_json::{Value, json};
use sglhost_core::{Event, SamplingParams, TenantId, Usage};
use sglhost_runtime::{Run, RunRequest, Runtime, RuntimeConfig};

/// What a run gave, and when.
struct Told {
    result: Value,
    usage: Usage,
    first_token: Duration,
    wall: Duration,
}

fn main() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    tokio.block_on(async { tokio::spawn(measure(Flags::read())).await.unwrap() });
}

async fn measure(flags: Flags) {
    let component = std::fs::read(flags.get("program").expect("--program FILE.wasm")).unwrap();
    let batch = std::fs::read_to_string(flags.get("batch").expect("--batch FILE.jsonl")).unwrap();
    let default = SamplingParams::default();
    let defaults = SamplingParams {
        temperature: flags.number("temperature", default.temperature),
        max_tokens: flags.number("max-tokens", default.max_tokens),
        ..default
    };
    let measured = MeasuredEngine::start(&flags).await;
    let (engine, clock) = (measured.engine.clone(), measured.clock.clone());
    let runtime = Runtime::new(RuntimeConfig::default(), engine, clock, Arc::new(|| 1)).unwrap();
    let program = runtime.load(&component).await.unwrap();

    let started = Instant::now();
    let follow = |arguments: &str| {
        let request = RunRequest {
            tenant: TenantId::local(),
            arguments: arguments.to_owned(),
            defaults: defaults.clone(),
            priority: 0,
            limits: None,
            seed: Some(0),
        };
        tokio::spawn(told(runtime.start(&program, request), Instant::now()))
    };
    let following: Vec<_> = batch.lines().map(follow).collect();
    let mut runs = Vec::new();
    for run in following {
        runs.push(run.await.unwrap());
    }
    let wall = started.elapsed();

    let mut usage = Usage::default();
    runs.iter().for_each(|run| usage.add(run.usage));
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    let run = |run: &Told| {
        json!({
            "result": run.result,
            "first_token_ms": milliseconds(run.first_token),
            "wall_ms": milliseconds(run.wall),
        })
    };
    let mut told = measured.counted();
    told["wall_ms"] = milliseconds(wall).into();
    told["runs"] = runs.iter().map(run).collect();
    told["usage"] = serde_json::to_value(usage).unwrap();
    println!("{told}");
}

async fn told(mut run: Run, started: Instant) -> Told {
    let mut first_token = None;
    while let Some(event) = run.events.recv().await {
        match event {
            Event::CallDelta { .. } => {
                first_token.get_or_insert_with(|| started.elapsed());
            }
            Event::RunFinished { result, usage, .. } => {
                let wall = started.elapsed();
                let result = serde_json::from_str(&result.unwrap()).unwrap();
                return Told { result, usage, first_token: first_token.unwrap_or(wall), wall };
            }
            _ => {}
        }
    }
    panic!("a run ends with RunFinished")
}
