//! What a run's store holds, and what its tasks share.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use sglhost_core::{CallId, Clock, ContextId, Error, Event, RunId, SamplingParams, TenantId, Usage};
use sglhost_engine::{Engine, Model};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::constraints::{ConstraintCache, ConstraintsInUse};
use crate::ledger::Ledger;
use crate::limiter::Limiter;
use crate::meter::CpuMeter;
use crate::turns::Turns;

/// A run's store: the guest's side of the host. Imports reach it through wasmtime, one at a time.
pub(crate) struct Host {
    /// Resources the guest has handles to, WASI's among them.
    pub(crate) table: ResourceTable,
    pub(crate) wasi: WasiCtx,
    pub(crate) limiter: Limiter,
    /// Seeds of calls that bring none. Drawn when the guest makes the call, so in the guest's order.
    pub(crate) random: StdRng,
    /// What `options` start from.
    pub(crate) defaults: SamplingParams,
    pub(crate) run: Arc<RunShared>,
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// What a run's store and the tasks of its contexts share.
pub(crate) struct RunShared {
    pub(crate) id: RunId,
    pub(crate) tenant: TenantId,
    pub(crate) priority: i32,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) constraints: Arc<ConstraintCache>,
    pub(crate) constraints_in_use: ConstraintsInUse,
    /// For long texts, of all runs.
    pub(crate) tokenizing: Arc<Turns>,
    pub(crate) meter: Arc<CpuMeter>,
    pub(crate) events: mpsc::Sender<Event>,
    /// Ends the run's tasks.
    pub(crate) stop: CancellationToken,
    /// One task for each context.
    pub(crate) tasks: TaskTracker,
    /// When the run's wall-clock time is over, on the clock's monotonic scale.
    pub(crate) deadline: Duration,
    usage: Mutex<Usage>,
    next_context: AtomicU32,
    next_call: AtomicU32,
}

impl fmt::Debug for RunShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunShared").field("id", &self.id).field("ledger", &self.ledger).finish_non_exhaustive()
    }
}

/// What [`RunShared::new`] is given.
pub(crate) struct RunParts {
    pub(crate) id: RunId,
    pub(crate) tenant: TenantId,
    pub(crate) priority: i32,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ledger: Ledger,
    pub(crate) constraints: Arc<ConstraintCache>,
    /// For long texts, of all runs.
    pub(crate) tokenizing: Arc<Turns>,
    pub(crate) meter: Arc<CpuMeter>,
    pub(crate) events: mpsc::Sender<Event>,
}

impl RunShared {
    pub(crate) fn new(parts: RunParts) -> Arc<Self> {
        let deadline = parts.clock.monotonic().saturating_add(parts.ledger.limits().wall_deadline);
        Arc::new(Self {
            id: parts.id,
            tenant: parts.tenant,
            priority: parts.priority,
            engine: parts.engine,
            clock: parts.clock,
            ledger: Arc::new(parts.ledger),
            constraints: parts.constraints,
            constraints_in_use: ConstraintsInUse::default(),
            tokenizing: parts.tokenizing,
            meter: parts.meter,
            events: parts.events,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            deadline,
            usage: Mutex::default(),
            next_context: AtomicU32::new(0),
            next_call: AtomicU32::new(0),
        })
    }

    /// Whether its time is up.
    pub(crate) fn is_over(&self) -> bool {
        self.clock.monotonic() >= self.deadline
    }

    pub(crate) fn new_context(&self) -> ContextId {
        ContextId(self.next_context.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn new_call(&self) -> CallId {
        CallId(self.next_call.fetch_add(1, Ordering::Relaxed))
    }

    pub(crate) fn add_usage(&self, usage: Usage) {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner).add(usage);
    }

    pub(crate) fn usage(&self) -> Usage {
        *self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A model by its name, or the default: its place among the engine's models, and it.
    pub(crate) fn model(&self, name: Option<&str>) -> Result<(usize, Arc<Model>), Error> {
        let models = self.engine.models();
        let index = match name {
            None => 0,
            Some(name) => models.iter().position(|model| model.name == name).ok_or_else(|| {
                let served = models.iter().map(|model| model.name.as_str()).collect::<Vec<_>>().join(", ");
                Error::invalid(format!("no model is called {name:?}; served here: {served}"))
            })?,
        };
        match models.get(index) {
            Some(model) => Ok((index, Arc::clone(model))),
            None => Err(Error::unavailable("no model is served here")),
        }
    }
}
