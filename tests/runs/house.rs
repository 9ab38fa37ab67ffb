//! A registry of runs over a store in a folder of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sglhost_core::limits::{HostLimits, RunLimits, ServerLimits};
use sglhost_core::{Quotas, SamplingParams, TenantId};
use sglhost_engine::SystemClock;
use sglhost_runtime::{Program, Runtime, RuntimeConfig};
use sglhost_server::key::ApiKey;
use sglhost_server::{
    ApiError, Begun, LiveRun, Metrics, RunHandle, Runs, RunsParts, ServerConfig, StartRun, Tenant, Tenants,
};
use sglhost_store::{NewKey, ProgramVersion, RunRow, SqliteStore, Store, UsageDay};
use sglhost_tests::guests;
use sglhost_tests::scripted::ScriptedEngine;
use tempfile::TempDir;

pub(crate) struct House {
    pub(crate) engine: Arc<ScriptedEngine>,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) runs: Arc<Runs>,
    program: Program,
    version: ProgramVersion,
    /// Last: the store is closed before its folder goes.
    folder: TempDir,
}

/// A run of the program of attacks.
pub(crate) fn attack(name: &str) -> StartRun {
    StartRun {
        arguments: serde_json::json!({ "attack": name }).to_string(),
        sampling: SamplingParams::default(),
        seed: None,
        priority: 0,
        detached: false,
        idempotency: None,
    }
}

/// The same, not owned by whoever starts it.
pub(crate) fn detached(name: &str) -> StartRun {
    StartRun { detached: true, ..attack(name) }
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::in_folder(tempfile::tempdir().unwrap()).await
    }

    /// As after a restart, with a new process: what the old one held in memory is gone.
    pub(crate) async fn restarted(self) -> Self {
        let Self { folder, engine, store, tenants, runs, metrics, program, version: _ } = self;
        drop((engine, tenants, runs, metrics, program));
        // Tasks that are under way hold the store a little longer; its lock goes with it.
        let weak = Arc::downgrade(&store);
        drop(store);
        while weak.strong_count() > 0 {
            tokio::task::yield_now().await;
        }
        Self::in_folder(folder).await
    }

    async fn in_folder(folder: TempDir) -> Self {
        let component = guests::component("tests/attacks/guests", "attacks");
        let engine = ScriptedEngine::new();
        let clock = Arc::new(SystemClock::default());
        let host_limits = HostLimits { concurrent_runs_max: 24, ..HostLimits::default() };
        let run_limits = RunLimits { cpu_budget: Duration::from_secs(5), contexts_max: 20, ..RunLimits::default() };
        let config = RuntimeConfig {
            run_limits: run_limits.clone(),
            host_limits: host_limits.clone(),
            compile_cache: Some(Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")),
            ..RuntimeConfig::default()
        };
        // No two are alike, after a restart neither.
        static DRAWN: AtomicU64 = AtomicU64::new(1);
        let entropy = Arc::new(|| DRAWN.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let runtime = Runtime::new(config, Arc::clone(&engine) as _, Arc::clone(&clock) as _, entropy).unwrap();
        let program = runtime.load(&component).await.unwrap();
        let store = Arc::new(SqliteStore::open(folder.path()).unwrap());
        let version = ProgramVersion {
            name: "attacks".to_owned(),
            version: 1,
            digest: program.id().clone(),
            size_bytes: component.len() as u64,
            description: serde_json::json!({}),
            tags: Vec::new(),
            created_ms: 0,
        };
        let metrics = Metrics::new(None);
        let config = ServerConfig {
            limits: ServerLimits { flush_timeout: Duration::from_secs(60), ..ServerLimits::default() },
            run_limits,
            host_limits,
            version: "0".to_owned(),
        };
        let runs = Runs::new(RunsParts {
            runtime,
            store: Arc::clone(&store) as _,
            clock: Arc::clone(&clock) as _,
            metrics: Arc::clone(&metrics),
            config: Arc::new(config),
        });
        let tenants = Tenants::open(Arc::clone(&store) as _, clock).await.unwrap();
        Self { engine, store, tenants, metrics, runs, program, version, folder }
    }

    pub(crate) async fn tenant(&self, name: &str, quotas: &Quotas) -> Arc<Tenant> {
        let id = TenantId(name.into());
        self.store.put_tenant(&id, quotas, 0).await.unwrap();
        let (key, record) = ApiKey::generate("", 0).unwrap();
        self.store.add_key(NewKey { tenant: id, key: record }).await.unwrap();
        self.tenants.refresh().await.unwrap();
        self.tenants.by_key(key.text()).unwrap()
    }

    pub(crate) async fn start(&self, tenant: &Arc<Tenant>, request: StartRun) -> Result<Begun, ApiError> {
        self.runs.start(tenant, self.program.clone(), &self.version, request).await
    }

    pub(crate) async fn new_run(&self, tenant: &Arc<Tenant>, request: StartRun) -> RunHandle {
        match self.start(tenant, request).await.unwrap() {
            Begun::New(handle) => handle,
            Begun::Before(row) => panic!("{row:?}"),
        }
    }

    /// Waits until all runs have ended, in the store as well.
    pub(crate) async fn settle(&self) {
        while self.runs.live_count() > 0 {
            tokio::task::yield_now().await;
        }
    }

    /// What the store says that a tenant used, which is what the metrics say.
    pub(crate) async fn used(&self, tenant: &str) -> UsageDay {
        let days = self.store.usage(&TenantId(tenant.into()), 0).await.unwrap();
        let none = UsageDay { day_ms: 0, runs: 0, usage: Default::default(), cpu_time_us: 0, wall_time_ms: 0 };
        let sum = days.into_iter().fold(none, |mut sum, day| {
            sum.runs += day.runs;
            sum.usage.add(day.usage);
            sum.cpu_time_us += day.cpu_time_us;
            sum.wall_time_ms += day.wall_time_ms;
            sum
        });
        for (name, value) in [
            ("runs_total", sum.runs as f64),
            ("prompt_tokens_total", sum.usage.prompt_tokens as f64),
            ("cached_tokens_total", sum.usage.cached_tokens as f64),
            ("completion_tokens_total", sum.usage.completion_tokens as f64),
            ("cpu_seconds_total", sum.cpu_time_us as f64 / 1e6),
            ("wall_seconds_total", sum.wall_time_ms as f64 / 1e3),
        ] {
            assert_eq!(self.metric(&format!("sglhost_tenant_{name}{{tenant=\"{tenant}\"}}")), value, "{name}");
        }
        sum
    }

    /// The value of a metric by its name and labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.trim().parse().unwrap()
    }

    /// The tokens of a minute, and nothing else, are so many.
    pub(crate) fn tokens(per_minute: u64) -> Quotas {
        Quotas { tokens_per_minute: per_minute, ..Quotas::default() }
    }
}

/// The kinds of a run's events, all of them.
pub(crate) async fn kinds(run: &Arc<LiveRun>) -> Vec<&'static str> {
    let (mut follower, mut kinds) = (run.follow(0).unwrap(), Vec::new());
    while let Some((id, kind, _)) = follower.next().await {
        kinds.push(kind);
        assert_eq!(id, kinds.len() as u64);
    }
    kinds
}

/// All that a row says to others.
pub(crate) fn said(row: &RunRow) -> String {
    let RunRow { id, program, version, digest, status, started_ms, finished_ms, record, error, usage, cpu_time_us } =
        row;
    let ended = format!("{finished_ms:?} {record:?} {error:?} {usage:?} {cpu_time_us}");
    format!("{id} {program}@{version} {digest} {status:?} {started_ms} {ended}")
}
