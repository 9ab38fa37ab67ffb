//! What every request can reach: the parts of the server, and whether it serves.

use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use sglhost_core::{Clock, ProgramId};
use sglhost_engine::{Engine, EngineMetrics};
use sglhost_runtime::{Program, Runtime};
use sglhost_store::Store;

use crate::body::Bodies;
use crate::run::millis;
use crate::{ApiError, Metrics, Runs, ServerConfig, Tenant, Tenants};

/// The parts of the server.
pub(crate) struct Service {
    pub(crate) runtime: Runtime,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) runs: Arc<Runs>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) engine_registry: EngineRegistry,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) bodies: Bodies,
    /// Other machines reach it: see [`crate::auth`].
    pub(crate) always_keyed: bool,
    pub(crate) readiness: RwLock<Readiness>,
}

/// Whether runs can begin.
#[derive(Clone)]
pub(crate) enum Readiness {
    /// Not yet: what is waited for, as the end of "waiting for …".
    Waiting(String),
    /// They can.
    Serving(Served),
    /// Not any more in this process.
    Lost(String),
}

/// What computes, once it is there.
#[derive(Clone)]
pub struct Served {
    /// Its models.
    pub engine: Arc<dyn Engine>,
    /// What the engine of each counts.
    pub metrics: Vec<Arc<EngineMetrics>>,
}

impl std::fmt::Debug for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Served").field("models", &self.engine.models()).finish_non_exhaustive()
    }
}

/// What the engine counts: a registry of its own, since it comes when the server has long been asked for metrics.
#[derive(Debug, Default)]
pub(crate) struct EngineRegistry(OnceLock<Registry>);

impl EngineRegistry {
    pub(crate) fn set(&self, served: &Served) {
        self.0.get_or_init(|| {
            let mut registry = Registry::with_prefix("sglhost");
            // The first engine's: names would collide with those of another.
            if let Some(metrics) = served.metrics.first() {
                metrics.register(&mut registry);
            }
            registry
        });
    }

    /// As text, without the line that ends it; nothing before there is an engine.
    fn encode(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = self.0.get().map(|registry| text::encode_registry(&mut text, registry));
        text
    }
}

impl Service {
    /// All metrics, as text.
    pub(crate) fn encode_metrics(&self) -> String {
        // What ends the text is at the end of the other.
        self.engine_registry.encode() + &self.metrics.encode()
    }

    /// Whether requests need a key.
    pub(crate) fn is_keyed(&self) -> bool {
        self.always_keyed || self.tenants.is_keyed()
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> u64 {
        millis(self.clock.wall())
    }

    pub(crate) fn readiness(&self) -> Readiness {
        self.readiness.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_readiness(&self, readiness: Readiness) {
        *self.readiness.write().unwrap_or_else(PoisonError::into_inner) = readiness;
    }

    /// Whether runs may begin.
    ///
    /// # Errors
    /// 503 before there is a model, after it was lost, and while the server is being stopped.
    pub(crate) fn can_begin(&self) -> Result<(), ApiError> {
        if self.runs.is_draining() {
            return Err(ApiError::unavailable("the server is being stopped"));
        }
        self.served().map(drop)
    }

    /// What computes.
    ///
    /// # Errors
    /// 503 before it is there, and after it was lost.
    pub(crate) fn served(&self) -> Result<Served, ApiError> {
        match self.readiness() {
            Readiness::Serving(served) => Ok(served),
            Readiness::Waiting(what) => Err(ApiError::unavailable(format!("the server waits for {what}"))),
            Readiness::Lost(reason) => Err(ApiError::unavailable(reason)),
        }
    }

    /// The program, from memory or the store.
    ///
    /// # Errors
    /// 404 if it was deleted meanwhile, 503 if it cannot be loaded now.
    pub(crate) async fn load(&self, tenant: &Tenant, id: &ProgramId) -> Result<Program, ApiError> {
        if let Some(program) = self.runtime.loaded(id) {
            return Ok(program);
        }
        if let Some(program) = self.runtime.kept(id).await {
            return Ok(program);
        }
        let component = self.store.component(id).await?;
        self.compile(tenant, &component).await
    }

    /// Compiles when it is the tenant's turn, and counts it.
    ///
    /// # Errors
    /// 422 if it is no program, 429 if too many of the tenant's wait.
    pub(crate) async fn compile(&self, tenant: &Tenant, component: &[u8]) -> Result<Program, ApiError> {
        let _turn = tenant.compile_turn(self.config.limits.tenant_compiles_waiting_max).await?;
        let start = self.clock.monotonic();
        let loaded = self.runtime.load(component).await;
        let time: Duration = self.clock.monotonic().saturating_sub(start);
        self.metrics.loaded(loaded.is_ok(), time);
        Ok(loaded?)
    }
}
