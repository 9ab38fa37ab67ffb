//! The sandbox: wasmtime with its pool, what programs may import, and what all runs share.

use std::sync::Arc;

use sglhost_core::{Clock, limits};
use sglhost_engine::Engine;
use tokio::sync::Semaphore;
use wasmtime::component::Linker;

use crate::bindings;
use crate::config::RuntimeConfig;
use crate::constraints::ConstraintCache;
use crate::error::RuntimeError;
use crate::host::Host;
use crate::interface::HostData;
use crate::meter::Ticker;
use crate::turns::Turns;

/// What all runs share.
pub(crate) struct Sandbox {
    pub(crate) wasmtime: wasmtime::Engine,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Fn() -> u64 + Send + Sync>,
    pub(crate) ticker: Ticker,
    pub(crate) constraints: Arc<ConstraintCache>,
    /// For long texts.
    pub(crate) tokenizing: Arc<Turns>,
    /// Places in the pool. The pool would refuse; here a run waits.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) stack_max_bytes: usize,
}

impl Sandbox {
    /// A sandbox within the limits of `config`, and what its programs may import.
    ///
    /// # Errors
    /// The machine gives too little address space, or no thread.
    pub(crate) fn new(
        config: &RuntimeConfig,
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> Result<(Self, Linker<Host>), RuntimeError> {
        // Older kernels cannot tell which pages a run touched; then all that stay resident are cleared.
        let wasmtime = wasmtime::Engine::new(&config.wasmtime(true))
            .or_else(|_| wasmtime::Engine::new(&config.wasmtime(false)))
            .map_err(|error| RuntimeError::Setup(format!("{error:#}; {}", config.pool_needs())))?;
        Self::on(wasmtime, config, engine, clock, entropy)
    }

    /// A sandbox for a process that compiles: it opens no file, and starts no thread but the ticker.
    ///
    /// # Errors
    /// As [`Sandbox::new`].
    pub(crate) fn for_compiling(
        config: &RuntimeConfig,
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
    ) -> Result<(Self, Linker<Host>), RuntimeError> {
        let mut settings = config.wasmtime(false);
        settings.parallel_compilation(false);
        let wasmtime = wasmtime::Engine::new(&settings).map_err(setup)?;
        Self::on(wasmtime, config, engine, clock, Arc::new(|| 0))
    }

    fn on(
        wasmtime: wasmtime::Engine,
        config: &RuntimeConfig,
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> Result<(Self, Linker<Host>), RuntimeError> {
        let mut linker = Linker::new(&wasmtime);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(setup)?;
        bindings::Program::add_to_linker::<_, HostData>(&mut linker, |host| host).map_err(setup)?;
        let ticker = Ticker::start(wasmtime.weak()).map_err(|error| RuntimeError::Setup(error.to_string()))?;
        let sandbox = Self {
            wasmtime,
            engine,
            clock,
            entropy,
            ticker,
            constraints: Arc::new(ConstraintCache::default()),
            tokenizing: Turns::new(limits::TOKENIZING_MAX),
            places: Arc::new(Semaphore::new(config.host_limits.concurrent_runs_max as usize)),
            stack_max_bytes: config.host_limits.stack_max_bytes,
        };
        Ok((sandbox, linker))
    }
}

fn setup(error: wasmtime::Error) -> RuntimeError {
    RuntimeError::Setup(format!("{error:#}"))
}
