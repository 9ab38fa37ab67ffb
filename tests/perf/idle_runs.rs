//! What a run costs in memory while it waits for the model, and that it is given back: a thousand runs at once.
//!
//! `cargo test --workspace --test idle_runs -- --nocapture` prints the figures.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sglhost_core::limits::HostLimits;
use sglhost_core::{Error, Event, RunId, SamplingParams, TenantId};
use sglhost_engine::{Call, CallEvent, Engine, Model, Request, SystemClock};
use sglhost_runtime::{Program, Run, RunRequest, Runtime, RuntimeConfig};
use sglhost_tests::binary::plugin;
use sglhost_tests::scripted::ScriptedEngine;
use sglhost_text::Roles;
use tokio::sync::mpsc;

const RUNS: usize = 1000;
const ROUNDS: usize = 8;
/// Calls that each run of `tip_suggestion` waits for, a fork each.
const FORKS: usize = 2;
/// What is promised of each run.
const BYTES_MAX: usize = 400 << 10;

/// On one thread: each thread has places in the pool that it prefers, and with several it is chance how many are used.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn runs_that_wait_cost_little_and_give_it_back() {
    let engine = Arc::new(WaitingEngine::new());
    let config = RuntimeConfig {
        host_limits: HostLimits { concurrent_runs_max: 1024, ..HostLimits::default() },
        ..RuntimeConfig::default()
    };
    let making = Instant::now();
    let runtime = Runtime::new(config, engine.clone(), Arc::new(SystemClock::default()), Arc::new(|| 1)).unwrap();
    println!("a runtime of 1024 places: made in {:?}, {}", making.elapsed(), Memory::now());
    let program = runtime.load(&fs::read(plugin("tip_suggestion")).unwrap()).await.unwrap();
    let loaded = Memory::now();
    println!("a program loaded: {loaded}");
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let runs = wait(&runtime, &program, &engine).await;
        let waiting = Memory::now();
        let each = waiting.resident.saturating_sub(loaded.resident) / RUNS;
        println!("{RUNS} runs wait, {} KiB each: {waiting}", each >> 10);
        end(&runtime, runs).await;
        let after = Memory::now();
        println!("over: {after}");
        rounds.push((each, after.resident));
    }
    assert!(rounds.iter().all(|&(each, _)| each <= BYTES_MAX), "bytes of a run, and resident after it: {rounds:?}");
    // The first rounds bring what stays: warm places of the pool, the allocator's arenas. A run that left a page behind
    // would add 20 MiB over the others.
    let growth = rounds[ROUNDS - 1].1.saturating_sub(rounds[2].1);
    assert!(growth < 16 << 20, "bytes of a run, and resident after it: {rounds:?}");
}

/// Starts the runs and waits until each waits for the model.
async fn wait(runtime: &Runtime, program: &Program, engine: &WaitingEngine) -> Vec<Run> {
    engine.calls.lock().unwrap().clear();
    let request = RunRequest {
        tenant: TenantId::local(),
        arguments: "{}".to_owned(),
        defaults: SamplingParams::default(),
        priority: 0,
        limits: None,
        seed: Some(0),
    };
    let runs: Vec<Run> = (0..RUNS).map(|_| runtime.start(program, request.clone())).collect();
    while engine.calls.lock().unwrap().len() < RUNS * FORKS {
        assert!(runs.iter().all(|run| !run.events.is_closed()), "a run ended");
        tokio::task::yield_now().await;
    }
    runs
}

async fn end(runtime: &Runtime, runs: Vec<Run>) {
    runs.iter().for_each(Run::cancel);
    for mut run in runs {
        let mut last = None;
        while let Some(event) = run.events.recv().await {
            last = Some(event);
        }
        assert!(matches!(last, Some(Event::RunFinished { result: Err(_), .. })), "{last:?}");
    }
    while runtime.live_runs() > 0 {
        tokio::task::yield_now().await;
    }
}

/// An engine that takes calls and never answers.
#[derive(Debug)]
struct WaitingEngine {
    models: Vec<Arc<Model>>,
    calls: Mutex<Vec<mpsc::Sender<CallEvent>>>,
}

impl WaitingEngine {
    fn new() -> Self {
        let scripted = ScriptedEngine::new();
        let tokenizer = Arc::clone(&scripted.models()[0].tokenizer);
        let template = "{% for message in messages %}{{ '<' + message.role + '>' + message.content + '\n' }}{% endfor %}\
            {% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}";
        let roles = Roles::from_template(template, &tokenizer).unwrap();
        let model = Model { name: "waiting".to_owned(), tokenizer, roles, context_length: 4096 };
        Self { models: vec![Arc::new(model)], calls: Mutex::default() }
    }
}

impl Engine for WaitingEngine {
    fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    fn submit(&self, _request: Request) -> Result<Call, Error> {
        let (sender, events) = mpsc::channel(256);
        self.calls.lock().unwrap().push(sender);
        Ok(Call { events })
    }

    fn run_ended(&self, _tenant: &TenantId, _run: RunId) {}
}

/// What of this process is in memory.
#[derive(Clone, Debug)]
struct Memory {
    resident: usize,
    status: String,
    mappings: usize,
}

impl Memory {
    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
        };
        let [total, anonymous, files, shared, tables] =
            ["VmRSS:", "RssAnon:", "RssFile:", "RssShmem:", "VmPTE:"].map(field);
        let [anonymous_mib, files_mib, shared_mib, tables_mib] =
            [anonymous, files, shared, tables].map(|bytes| bytes >> 20);
        Self {
            // Page tables are memory too, and not in the resident set.
            resident: total + tables,
            status: format!(
                "{anonymous_mib} anonymous, {files_mib} of files, {shared_mib} shared, {tables_mib} of page tables"
            ),
            mappings: fs::read_to_string("/proc/self/maps").unwrap().lines().count(),
        }
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { resident, status, mappings } = self;
        write!(f, "{} MiB ({status}) in {mappings} mappings", resident >> 20)
    }
}
