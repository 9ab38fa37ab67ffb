//! Runs under way and lately ended.

mod follower;
mod live;

use std::sync::Arc;
use std::time::Duration;

use sglhost_core::{Clock, RunId, SamplingParams, TenantId};
use sglhost_runtime::{Program, Runtime};
use sglhost_store::{ProgramVersion, RunRow, Store};

pub use self::follower::Follower;
pub use self::live::{LiveRun, RunHandle};
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

/// Runs under way, and those whose events are still kept.
pub struct Runs {
    parts: RunsParts,
}

impl Runs {
    /// None yet.
    #[must_use]
    pub fn new(parts: RunsParts) -> Arc<Self> {
        Arc::new(Self { parts })
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
        let _ = (tenant, program, version, request, &self.parts.runtime);
        Err(ApiError::unavailable("not yet"))
    }

    /// A run of the tenant that is under way, or ended so lately that its events are still there.
    #[must_use]
    pub fn live(&self, tenant: &TenantId, id: RunId) -> Option<Arc<LiveRun>> {
        let _ = (tenant, id);
        None
    }

    /// A run of the tenant, wherever it stands: as [`LiveRun::row`] while it is live, else as the store has it.
    ///
    /// # Errors
    /// 404, or 503 if the store fails.
    pub async fn get(&self, tenant: &TenantId, id: RunId) -> Result<RunRow, ApiError> {
        let row = self.parts.store.run(tenant, id).await?;
        row.ok_or_else(|| ApiError::not_found(format!("there is no run {id}")))
    }

    /// Ends a run and waits for its end; one that has ended stays as it is.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn cancel(&self, tenant: &TenantId, id: RunId) -> Result<RunRow, ApiError> {
        self.get(tenant, id).await
    }

    /// Forgets what is older than `run_events_kept`: to be called now and then.
    pub fn sweep(&self) {}

    /// From now on each start is refused with 503.
    pub fn stop_admitting(&self) {}

    /// Whether [`Self::stop_admitting`] was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        false
    }

    /// Refuses new runs, gives those under way `timeout` to end, cancels the others, and waits until all ends are
    /// stored, at most `flush_timeout`.
    pub async fn drain(&self, timeout: Duration) {
        let _ = timeout;
    }

    /// Runs under way.
    #[must_use]
    pub fn live_count(&self) -> u32 {
        0
    }
}
