//! A host with small limits, a scripted engine and the program of attacks.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sglhost_core::limits::{HostLimits, RunLimits};
use sglhost_core::{Clock, Error, Event, SamplingParams, TenantId};
use sglhost_engine::SystemClock;
use sglhost_runtime::{Program, Run, RunRequest, Runtime, RuntimeConfig, RuntimeError};
use sglhost_tests::guests;
use sglhost_tests::scripted::ScriptedEngine;
use sglhost_tests::server::attacked;

/// What the attacks run into here, where what they log is not what is looked at.
pub(crate) fn limits() -> RunLimits {
    RunLimits { log_bytes_max: RunLimits::default().log_bytes_max, ..attacked() }
}

/// A host under attack.
pub(crate) struct Host {
    pub(crate) runtime: Runtime,
    pub(crate) engine: Arc<ScriptedEngine>,
    pub(crate) attacks: Program,
}

/// How a run ended, and all that happened in it.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) events: Vec<Event>,
    pub(crate) result: Result<String, Error>,
}

impl Host {
    pub(crate) async fn new() -> Self {
        let engine = ScriptedEngine::new();
        let runtime = runtime(&engine);
        let attacks = runtime.load(&component()).await.unwrap();
        Self { runtime, engine, attacks }
    }

    pub(crate) fn start(&self, attack: &str) -> Run {
        self.start_with(attack, limits(), None)
    }

    pub(crate) fn start_with(&self, attack: &str, limits: RunLimits, seed: Option<u64>) -> Run {
        let request = RunRequest {
            tenant: TenantId::local(),
            arguments: serde_json::json!({ "attack": attack }).to_string(),
            defaults: SamplingParams::default(),
            priority: 0,
            limits: Some(limits),
            seed,
        };
        self.runtime.start(&self.attacks, request)
    }

    /// Starts a program that takes no arguments.
    pub(crate) fn start_program(&self, program: &Program) -> Run {
        let request = RunRequest {
            tenant: TenantId::local(),
            arguments: "{}".to_owned(),
            defaults: SamplingParams::default(),
            priority: 0,
            limits: Some(limits()),
            seed: None,
        };
        self.runtime.start(program, request)
    }

    pub(crate) async fn run(&self, attack: &str) -> End {
        finish(self.start(attack)).await
    }

    /// Runs it and gives its result, which must be there.
    pub(crate) async fn result(&self, attack: &str) -> String {
        self.run(attack).await.result.unwrap_or_else(|error| panic!("{attack}: {error}"))
    }

    /// Waits until every run is torn down and no call is left.
    pub(crate) async fn settle(&self) {
        while self.runtime.live_runs() > 0 || self.engine.active() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// The time by the wall clock, for guests.
pub(crate) const WALL: Duration = Duration::from_secs(1_000_000);

/// Time goes on as the machine's does; the wall clock stands.
struct TestClock(SystemClock);

impl Clock for TestClock {
    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn wall(&self) -> Duration {
        WALL
    }
}

/// A runtime of eight places on a scripted engine.
pub(crate) fn runtime(engine: &Arc<ScriptedEngine>) -> Runtime {
    runtime_at(engine, &Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")).unwrap()
}

/// The same, with a place for compiled programs.
pub(crate) fn runtime_at(engine: &Arc<ScriptedEngine>, compile_cache: &Path) -> Result<Runtime, RuntimeError> {
    let entropy = AtomicU64::new(1);
    let host_limits = HostLimits { concurrent_runs_max: 8, events_buffered_max: 8, ..HostLimits::default() };
    let config = RuntimeConfig {
        run_limits: limits(),
        host_limits,
        compile_cache: Some(compile_cache.to_owned()),
        ..RuntimeConfig::default()
    };
    let engine: Arc<ScriptedEngine> = Arc::clone(engine);
    let entropy = Arc::new(move || entropy.fetch_add(1, Ordering::Relaxed));
    Runtime::new(config, engine, Arc::new(TestClock(SystemClock::default())), entropy)
}

pub(crate) fn component() -> Vec<u8> {
    guests::component("tests/attacks/guests", "attacks")
}

/// Reads a run's events to the end, and checks what holds for every run.
pub(crate) async fn finish(mut run: Run) -> End {
    let mut events = Vec::new();
    while let Some(event) = run.events.recv().await {
        events.push(event);
    }
    assert!(matches!(events.first(), Some(Event::RunStarted { .. })), "{events:?}");
    let ends = events.iter().filter(|event| matches!(event, Event::RunFinished { .. })).count();
    assert_eq!(ends, 1, "exactly one run.finished");
    let (mut started, mut ended) = (Vec::new(), Vec::new());
    for event in &events {
        match event {
            Event::CallStarted { call, .. } => started.push(*call),
            Event::CallFinished { call, .. } | Event::CallFailed { call, .. } => ended.push(*call),
            _ => {}
        }
    }
    started.sort_unstable();
    ended.sort_unstable();
    assert_eq!(started, ended, "every call that started ended, once");
    match events.last() {
        Some(Event::RunFinished { result, .. }) => End { result: result.clone(), events },
        other => panic!("the last event is {other:?}"),
    }
}
