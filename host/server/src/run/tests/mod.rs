//! The task of a run and its readers, with events that a test makes up.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod ends;
mod readers;
mod shelf;

use std::sync::Arc;
use std::time::Duration;

use sglhost_core::{
    CallId, Clock as _, ContextId, Error, ErrorCode, Event, FinishReason, ProgramId, Quotas, RunId, TenantId, Usage,
};
use sglhost_store::{NewRun, RunRow, RunStatus, Store as _};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::drive::{Driver, Source};
use super::follower::{Follower, RunHandle};
use super::live::{Beginning, LiveRun};
use super::shelf::Shelf;
use crate::admission::Admission;
use crate::metrics::Metrics;
use crate::tenant::Tenant;
use crate::tests::{MemoryStore, TestClock};

const SLOW_READER: Duration = Duration::from_secs(60);
/// Of one run; some forty events of [`text`].
const EVENTS_BYTES_MAX: usize = 40 * 200;

/// All that a run needs but a runtime.
struct House {
    store: Arc<MemoryStore>,
    clock: Arc<TestClock>,
    metrics: Arc<Metrics>,
    driver: Arc<Driver>,
    admission: Arc<Admission>,
    tenant: Arc<Tenant>,
}

/// A run, and the other end of its events.
struct TestRun {
    live: Arc<LiveRun>,
    handle: Option<RunHandle>,
    events: mpsc::Sender<Event>,
    /// What the runtime was asked for.
    cancelled: CancellationToken,
}

/// A [`Source`] that a test writes into.
struct Fake {
    events: mpsc::Receiver<Event>,
    cancelled: CancellationToken,
    /// Has a bug.
    broken: bool,
}

impl Source for Fake {
    fn events(&mut self) -> &mut mpsc::Receiver<Event> {
        assert!(!self.broken, "as the test asked");
        &mut self.events
    }

    fn cancel(&self) {
        self.cancelled.cancel();
    }
}

/// How a run is started.
#[derive(Default)]
struct How {
    detached: bool,
    broken: bool,
}

impl House {
    fn new() -> Self {
        Self::with(Quotas::default())
    }

    fn with(quotas: Quotas) -> Self {
        let (store, clock) = (Arc::new(MemoryStore::default()), Arc::new(TestClock::default()));
        let metrics = Metrics::new(None);
        let driver = Driver {
            store: Arc::clone(&store) as _,
            clock: Arc::clone(&clock) as _,
            metrics: Arc::clone(&metrics),
            shelf: Shelf::new(Duration::from_secs(600), 1 << 20),
            guests: None,
            slow_reader: SLOW_READER,
            store_retry: Duration::from_millis(100),
            store_retry_max: Duration::from_secs(5),
        };
        let admission = Admission::new(8, Arc::clone(&clock) as _, Arc::clone(&metrics));
        let tenant = Tenant::new(TenantId("acme".into()), quotas, Duration::ZERO);
        Self { store, clock, metrics, driver: Arc::new(driver), admission, tenant }
    }

    /// A run that its owner holds.
    async fn start(&self, id: u64, how: How) -> TestRun {
        let place = self.admission.admit(&self.tenant).unwrap();
        let row = RunRow {
            id: RunId(id),
            program: "fable".to_owned(),
            version: 3,
            digest: ProgramId("00".into()),
            status: RunStatus::Running,
            started_ms: 1_000_000_000,
            finished_ms: None,
            record: None,
            error: None,
            usage: Usage::default(),
            cpu_time_us: 0,
        };
        let new = NewRun {
            id: row.id,
            tenant: self.tenant.id.clone(),
            program: row.program.clone(),
            version: row.version,
            digest: row.digest.clone(),
            started_ms: row.started_ms,
            idempotency: None,
        };
        let live = LiveRun::new(Beginning {
            tenant: self.tenant.id.clone(),
            row,
            began: self.clock.monotonic(),
            idempotency: None,
            detached: how.detached,
            tenant_gone: self.tenant.gone.clone(),
            events_bytes_max: EVENTS_BYTES_MAX,
        });
        self.driver.shelf.put(Arc::clone(&live));
        self.store.start_run(new).await.unwrap();
        let (sender, events) = mpsc::channel(8);
        let cancelled = CancellationToken::new();
        let source = Fake { events, cancelled: cancelled.clone(), broken: how.broken };
        let driving = Arc::clone(&self.driver).drive(Arc::clone(&live), Arc::clone(&self.tenant), source, place);
        tokio::spawn(driving);
        let handle = Some(RunHandle::new(Arc::clone(&live), how.detached));
        TestRun { live, handle, events: sender, cancelled }
    }

    async fn stored(&self, run: &TestRun) -> RunRow {
        self.store.run(&self.tenant.id, run.live.id()).await.unwrap().unwrap()
    }

    /// The value of a metric, by the line that begins so.
    fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.encode();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}: {text}"));
        line.trim().parse().unwrap()
    }
}

impl TestRun {
    async fn send(&self, event: Event) {
        self.events.send(event).await.unwrap();
    }

    /// As the runtime does when it is asked to cancel.
    async fn obey(&self) {
        self.cancelled.cancelled().await;
        self.send(finished(Err(Error::new(ErrorCode::Cancelled, "the run was cancelled by its caller")), 0)).await;
    }

    fn follow(&self, after: u64) -> Follower {
        self.live.follow(after).unwrap()
    }
}

/// Some two hundred bytes.
fn text() -> Event {
    Event::ContextText { context: ContextId(0), text: "x".repeat(90) }
}

fn call_finished(prompt_tokens: u64, completion_tokens: u64) -> Event {
    Event::CallFinished {
        call: CallId(0),
        context: ContextId(0),
        name: Some("moral".to_owned()),
        text: "be kind".to_owned(),
        finish_reason: FinishReason::Stop,
        usage: Usage { prompt_tokens, cached_tokens: 1, completion_tokens },
        forced_tokens: 0,
    }
}

/// The end of a run that used so many tokens, a tenth of them sampled.
fn finished(result: Result<String, Error>, tokens: u64) -> Event {
    let completion_tokens = tokens / 10;
    let usage = Usage { prompt_tokens: tokens - completion_tokens, cached_tokens: tokens.min(1), completion_tokens };
    Event::RunFinished { result, usage, cpu_time_us: 5000 }
}

fn well() -> Event {
    finished(Ok("\"be kind\"".to_owned()), 0)
}

/// All that is to come: ids and kinds.
async fn rest(follower: &mut Follower) -> Vec<(u64, &'static str)> {
    let mut rest = Vec::new();
    while let Some((id, kind, _)) = follower.next().await {
        rest.push((id, kind));
    }
    rest
}
