//! Runs under way and lately ended: started, followed, cancelled, drained.
//!
//! # Invariants
//! - A run is in the store before whoever started it hears of it, and under its id in memory before that.
//! - A start that was asked for is carried through though its client goes away meanwhile; then an attached run is
//!   cancelled like any other whose owner is gone.
//! - Whoever asks for another tenant's run finds none.

mod drive;
mod follower;
mod live;
mod log;
mod shelf;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sglhost_core::limits::{RunLimits, ServerLimits};
use sglhost_core::{Clock, RunId, SamplingParams, TenantId, Usage};
use sglhost_runtime::{Program, RunRequest, Runtime};
use sglhost_store::{NewRun, ProgramVersion, RunRow, RunStatus, Started, Store, StoreError};

use self::drive::Driver;
pub(crate) use self::drive::millis;
pub use self::follower::{Follower, RunHandle};
pub use self::live::LiveRun;
use self::live::{Beginning, CancelReason};
use self::shelf::Shelf;
use crate::admission::{Admission, Place};
use crate::config::ServerConfig;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::tenant::Tenant;

/// What [`Runs`] is made of.
pub struct RunsParts {
    /// What runs them.
    pub runtime: Runtime,
    /// What keeps them.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted of them.
    pub metrics: Arc<Metrics>,
    /// Limits.
    pub config: Arc<ServerConfig>,
}

/// What a client asks for when it starts a run.
#[derive(Clone, Debug)]
pub struct StartRun {
    /// The arguments: a JSON object.
    pub arguments: String,
    /// What the guest's options start from.
    pub sampling: SamplingParams,
    /// Makes the run's randomness reproducible.
    pub seed: Option<u64>,
    /// Before others of its tenant.
    pub priority: i32,
    /// Goes on without whoever started it.
    pub detached: bool,
    /// The client's key, and SHA-256 of what it asked for.
    pub idempotency: Option<(String, [u8; 32])>,
}

/// What became of a run that was to begin.
#[derive(Debug)]
pub enum Begun {
    /// It is under way, and durable.
    New(RunHandle),
    /// The client asked for the same before: for this run, which may be under way still ([`Runs::live`]).
    Before(Box<RunRow>),
}

/// Between two looks at which runs are still to be cancelled when the server stops.
const CANCEL_PERIOD: Duration = Duration::from_millis(100);

/// Runs under way, and those whose events are still kept.
pub struct Runs {
    runtime: Runtime,
    driver: Arc<Driver>,
    admission: Arc<Admission>,
    config: Arc<ServerConfig>,
}

/// A run on its way into the store.
struct Start {
    live: Arc<LiveRun>,
    tenant: Arc<Tenant>,
    program: Program,
    request: RunRequest,
    detached: bool,
    place: Place,
}

impl Runs {
    /// None yet.
    #[must_use]
    pub fn new(parts: RunsParts) -> Arc<Self> {
        let RunsParts { runtime, store, clock, metrics, config } = parts;
        let limits = &config.limits;
        let runs_max = config.host_limits.concurrent_runs_max;
        let admission = Admission::new(runs_max, Arc::clone(&clock), Arc::clone(&metrics));
        let shelf = Shelf::new(limits.run_events_kept, limits.events_bytes_max);
        let ServerLimits { slow_reader, store_retry, store_retry_max, .. } = *limits;
        let guests = runtime.guests().cloned();
        let driver = Driver { store, clock, metrics, shelf, guests, slow_reader, store_retry, store_retry_max };
        Arc::new(Self { runtime, driver: Arc::new(driver), admission, config })
    }

    /// Ends what a process before this one left under way, as interrupted, and takes up the counters where it left them.
    /// To be called once, before the first start. Gives the number of those runs.
    ///
    /// # Errors
    /// [`StoreError`], if the store fails.
    pub async fn recover(&self) -> Result<u64, StoreError> {
        let Driver { store, clock, metrics, .. } = &*self.driver;
        let interrupted = store.interrupt_runs(millis(clock.wall())).await?;
        if interrupted > 0 {
            tracing::warn!(interrupted, "runs were under way when the server ended last");
        }
        metrics.ended(RunStatus::Interrupted, interrupted);
        for (tenant, ..) in store.usage_totals().await? {
            for day in store.usage(&tenant, 0).await? {
                metrics.used(&tenant, &day);
            }
        }
        Ok(interrupted)
    }

    /// Starts a run. When it answers, the run is durable.
    ///
    /// # Errors
    /// 429 where the tenant has used up what it may, 503 where the machine has or the store fails, 409 where the
    /// idempotency key was used for something else.
    pub async fn start(
        self: &Arc<Self>,
        tenant: &Arc<Tenant>,
        program: Program,
        version: &ProgramVersion,
        request: StartRun,
    ) -> Result<Begun, ApiError> {
        let Driver { clock, shelf, .. } = &*self.driver;
        // Whoever asks again for a run that is there needs no place.
        if let Some((key, sha256)) = &request.idempotency
            && let Some(live) = shelf.by_key(&tenant.id, key, clock.monotonic())
        {
            let then = live.idempotency.as_ref().map(|(_, sha256)| *sha256);
            return before(live.row(), then == Some(*sha256));
        }
        let place = self.admission.admit(tenant)?;
        let row = RunRow {
            id: self.fresh_id(),
            program: version.name.clone(),
            version: version.version,
            digest: version.digest.clone(),
            status: RunStatus::Running,
            started_ms: millis(clock.wall()),
            finished_ms: None,
            record: None,
            error: None,
            usage: Usage::default(),
            cpu_time_us: 0,
        };
        let live = LiveRun::new(Beginning {
            tenant: tenant.id.clone(),
            row,
            began: clock.monotonic(),
            idempotency: request.idempotency,
            detached: request.detached,
            tenant_gone: tenant.gone.clone(),
            events_bytes_max: self.config.limits.run_events_bytes_max,
        });
        shelf.put(Arc::clone(&live));
        let start = Start {
            live: Arc::clone(&live),
            tenant: Arc::clone(tenant),
            program,
            request: RunRequest {
                tenant: tenant.id.clone(),
                arguments: request.arguments,
                defaults: request.sampling,
                priority: request.priority,
                limits: Some(self.run_limits(tenant)),
                seed: request.seed,
            },
            detached: request.detached,
            place,
        };
        // In a task of its own: a client that goes away now must not leave a run that nobody ends.
        match tokio::spawn(Arc::clone(self).begin(start)).await {
            Ok(begun) => begun,
            Err(_) => {
                tokio::spawn(Arc::clone(&self.driver).abandon(live, None));
                Err(ApiError::internal())
            }
        }
    }

    async fn begin(self: Arc<Self>, start: Start) -> Result<Begun, ApiError> {
        let Start { live, tenant, program, request, detached, place } = start;
        let row = live.row();
        let new = NewRun {
            id: row.id,
            tenant: tenant.id.clone(),
            program: row.program,
            version: row.version,
            digest: row.digest,
            started_ms: row.started_ms,
            idempotency: live.idempotency.clone(),
        };
        let run = |request| self.runtime.start_as(row.id, &program, request);
        // The store takes the time of a disk: meanwhile the run begins, unless it may turn out to be there already.
        let (early, request) =
            if new.idempotency.is_none() { (Some(run(request)), None) } else { (None, Some(request)) };
        match self.driver.store.start_run(new).await {
            Ok(Started::New) => {}
            Ok(Started::Before { run, request_sha256 }) => {
                self.driver.never_began(&live);
                let same = live.idempotency.as_ref().is_some_and(|(_, sha256)| *sha256 == request_sha256);
                return before(*run, same);
            }
            // It says for certain that nothing was taken down. (A run of that id may be there, but is not this one.)
            Err(error @ (StoreError::NotFound { .. } | StoreError::Quota(_) | StoreError::Taken { .. })) => {
                self.driver.never_began(&live);
                return Err(error.into());
            }
            Err(error) => {
                self.driver.metrics.store_failed();
                tokio::spawn(Arc::clone(&self.driver).abandon(live, Some(place)));
                return Err(error.into());
            }
        }
        self.driver.metrics.started();
        self.driver.shelf.index(&live);
        let handle = RunHandle::new(Arc::clone(&live), detached);
        if let Some(source) = early.or_else(|| request.map(run)) {
            tokio::spawn(Arc::clone(&self.driver).drive(live, tenant, source, place));
        }
        Ok(Begun::New(handle))
    }

    /// A run of the tenant that is under way, or ended so lately that its events are still there.
    #[must_use]
    pub fn live(&self, tenant: &TenantId, id: RunId) -> Option<Arc<LiveRun>> {
        self.driver.shelf.get(tenant, id, self.driver.clock.monotonic())
    }

    /// A run of the tenant, wherever it stands: as [`LiveRun::row`] while it is live, else as the store has it.
    ///
    /// # Errors
    /// 404, or 503 if the store fails.
    pub async fn get(&self, tenant: &TenantId, id: RunId) -> Result<RunRow, ApiError> {
        if let Some(live) = self.live(tenant, id) {
            return Ok(live.row());
        }
        let row = self.driver.store.run(tenant, id).await?;
        row.ok_or_else(|| ApiError::not_found(format!("there is no run {id}")))
    }

    /// Ends a run and waits for its end; one that has ended stays as it is.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn cancel(&self, tenant: &TenantId, id: RunId) -> Result<RunRow, ApiError> {
        let Some(live) = self.live(tenant, id) else { return self.get(tenant, id).await };
        live.cancel(CancelReason::Asked);
        Ok(live.ended().await)
    }

    /// Forgets the events of runs that ended longer than `run_events_kept` ago: to be called now and then, so that
    /// memory is given back where nothing happens.
    pub fn sweep(&self) {
        self.driver.shelf.sweep(self.driver.clock.monotonic());
    }

    /// Has the store forget runs older than `runs_kept` and beyond `runs_kept_max`: to be called every `forget_period`.
    /// Gives their number.
    ///
    /// # Errors
    /// [`StoreError`], if the store fails.
    pub async fn forget(&self) -> Result<u64, StoreError> {
        let ServerLimits { runs_kept, runs_kept_max, .. } = self.config.limits;
        let before_ms = millis(self.driver.clock.wall().saturating_sub(runs_kept));
        self.driver.store.forget_runs(before_ms, runs_kept_max).await
    }

    /// From now on each start is refused with 503.
    pub fn stop_admitting(&self) {
        self.admission.close();
    }

    /// Whether [`Self::stop_admitting`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.admission.is_closed()
    }

    /// Refuses new runs, gives those under way `timeout` to end, cancels the others, and waits until all ends are
    /// stored, at most `flush_timeout`.
    pub async fn drain(&self, timeout: Duration) {
        self.stop_admitting();
        if self.admission.vacant(timeout).await {
            return;
        }
        tracing::warn!(runs = self.live_count(), "the server stops: runs under way are cancelled");
        let cancelling = async {
            loop {
                for live in self.driver.shelf.all() {
                    live.cancel(CancelReason::Stopping);
                }
                if self.admission.vacant(CANCEL_PERIOD).await {
                    break;
                }
            }
        };
        if tokio::time::timeout(self.config.limits.flush_timeout, cancelling).await.is_err() {
            let runs = self.live_count();
            tracing::error!(
                runs,
                "the ends of runs could not be stored; the next start says that they were interrupted"
            );
        }
    }

    /// Runs under way, or whose end is not stored yet.
    #[must_use]
    pub fn live_count(&self) -> u32 {
        self.admission.live()
    }

    /// No run in memory has it.
    fn fresh_id(&self) -> RunId {
        loop {
            let id = self.runtime.new_run_id();
            if !self.driver.shelf.contains(id) {
                return id;
            }
        }
    }

    fn run_limits(&self, tenant: &Tenant) -> RunLimits {
        let limits = self.config.run_limits.clone();
        let contexts_max = limits.contexts_max.min(tenant.quotas().contexts_max);
        RunLimits { contexts_max, ..limits }
    }
}

/// The client used its key before.
fn before(run: RunRow, same: bool) -> Result<Begun, ApiError> {
    if same {
        return Ok(Begun::Before(Box::new(run)));
    }
    Err(ApiError::conflict(format!(
        "this Idempotency-Key was used for another request, which is run {}; use a new key for a new request",
        run.id
    )))
}

impl fmt::Debug for Runs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runs").field("live", &self.live_count()).finish_non_exhaustive()
    }
}
