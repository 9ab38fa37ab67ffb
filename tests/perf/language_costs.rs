//! What a program costs to hold and to start, by language.
//!
//! `language_costs [--rounds N] [--idle N] NAME=FILE.wasm…` prints a row for each component, which is a program whose
//! arguments all have defaults and which calls the model first of all: `tip_suggestion` of `plugins/`. The model answers
//! after the measuring is over.
//!
//! - *compile*: from bytes to a program, with nothing in the cache; *load*: the same from the cache.
//! - *instance*: from a program to an instance of it, median.
//! - *first call*: from the start of a run to its first call of the model, of the first run of a process that loaded it
//!   from the cache, and of those after it. On the way the host finds a place, makes an instance and tells events.
//! - *idle*: what a run takes that waits for the model, beside others of the same program; pages that it shares with them
//!   count by shares (`Pss` of Linux).

#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use sglhost_core::limits::{EngineLimits, HostLimits};
use sglhost_core::{Event, SamplingParams, TenantId};
use sglhost_engine::SystemClock;
use sglhost_runtime::{Program, Run, RunRequest, Runtime, RuntimeConfig};
use sglhost_tests::scripted_model::ScriptedModel;

const SLOTS: usize = 1 << 20;
/// What a pass of the model takes: nothing ends while it is looked at.
const STEP: Duration = Duration::from_secs(2);

fn main() {
    let (mut rounds, mut idle, mut components) = (100, 50, Vec::new());
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--rounds" => rounds = arguments.next().unwrap().parse().unwrap(),
            "--idle" => idle = arguments.next().unwrap().parse().unwrap(),
            named => {
                let (name, file) = named.split_once('=').expect("NAME=FILE.wasm");
                components.push((name.to_owned(), fs::read(file).unwrap_or_else(|error| panic!("{file}: {error}"))));
            }
        }
    }
    println!(
        "| program | KB | compile, ms | load, ms | instance, ms | first call of a process, ms | of a run, ms, p50 | p99 | idle, KiB |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for (name, component) in components {
        tokio.block_on(async {
            let cost = tokio::spawn(async move { measure(&component, rounds, idle).await }).await.unwrap();
            println!("| {name} {cost}");
        });
    }
}

async fn measure(component: &[u8], rounds: usize, idle: usize) -> String {
    let cache = tempfile::tempdir().unwrap();
    let runtime = || {
        let config = RuntimeConfig {
            compile_cache: Some(cache.path().to_owned()),
            host_limits: HostLimits { concurrent_runs_max: 256, ..HostLimits::default() },
            ..RuntimeConfig::default()
        };
        let engine = ScriptedModel::new(SLOTS, STEP).engine(EngineLimits::default());
        Runtime::new(config, engine, Arc::new(SystemClock::default()), Arc::new(|| 1)).unwrap()
    };
    let timed_load = async |runtime: &Runtime| {
        let started = Instant::now();
        let program = runtime.load(component).await.unwrap_or_else(|error| panic!("{error}"));
        (program, started.elapsed())
    };
    let (_, compile) = timed_load(&runtime()).await;
    let runtime = runtime();
    let (program, load) = timed_load(&runtime).await;

    let cold = first_call(&runtime, &program).await;
    let (mut warm, mut instances) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        warm.push(first_call(&runtime, &program).await);
        instances.push(runtime.cost(&program, None).await.unwrap().instantiate);
    }
    warm.sort();
    instances.sort();

    let before = proportional_bytes();
    let mut runs: Vec<Run> = (0..idle).map(|_| start(&runtime, &program)).collect();
    for run in &mut runs {
        wait_for_call(run).await;
    }
    // The guest goes on to its next wait.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let each = proportional_bytes().saturating_sub(before) / idle;
    end(&runtime, runs).await;

    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let p99 = warm[(warm.len() - 1) * 99 / 100];
    format!(
        "| {} | {:.0} | {:.1} | {:.2} | {:.1} | {:.2} | {:.2} | {} |",
        component.len().div_ceil(1000),
        ms(compile),
        ms(load),
        ms(instances[instances.len() / 2]),
        ms(cold),
        ms(warm[warm.len() / 2]),
        ms(p99),
        each >> 10
    )
}

fn start(runtime: &Runtime, program: &Program) -> Run {
    let request = RunRequest {
        tenant: TenantId::local(),
        arguments: "{}".to_owned(),
        defaults: SamplingParams::default(),
        priority: 0,
        limits: None,
        seed: Some(0),
    };
    runtime.start(program, request)
}

async fn wait_for_call(run: &mut Run) {
    loop {
        match run.events.recv().await {
            Some(Event::CallStarted { .. }) => return,
            Some(Event::RunFinished { result, .. }) => panic!("{result:?}"),
            Some(_) => {}
            None => panic!("a run ends with RunFinished"),
        }
    }
}

async fn first_call(runtime: &Runtime, program: &Program) -> Duration {
    let started = Instant::now();
    let mut run = start(runtime, program);
    wait_for_call(&mut run).await;
    let took = started.elapsed();
    end(runtime, vec![run]).await;
    took
}

async fn end(runtime: &Runtime, runs: Vec<Run>) {
    runs.iter().for_each(Run::cancel);
    for mut run in runs {
        while run.events.recv().await.is_some() {}
    }
    while runtime.live_runs() > 0 {
        tokio::task::yield_now().await;
    }
}

/// Memory of this process; pages that are mapped several times count once in all.
fn proportional_bytes() -> usize {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<usize>().unwrap() << 10
}
