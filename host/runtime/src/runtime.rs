//! The runtime: loads programs and starts runs.

use std::fmt;
use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sglhost_core::{Clock, Error, ProgramId, RunId};
use sglhost_engine::Engine;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::artifacts::CompileCache;
use crate::config::RuntimeConfig;
use crate::error::RuntimeError;
use crate::loading::Loading;
use crate::probe::{self, RunCost};
use crate::program::Program;
use crate::run::{CancelOnDrop, Run, RunRequest};
use crate::sandbox::Sandbox;
use crate::supervise;

/// Loads programs and starts runs. A clone is another handle to the same runtime.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    config: RuntimeConfig,
    loading: Arc<Loading>,
    sandbox: Arc<Sandbox>,
}

impl Runtime {
    /// Sets up the sandbox. `clock` tells guests the time and measures deadlines; `entropy` seeds runs that bring no
    /// seed.
    ///
    /// # Errors
    /// [`RuntimeError::Setup`] where the machine gives too little address space or no thread, [`RuntimeError::Cache`]
    /// where the folder of compiled programs cannot be used.
    pub fn new(
        config: RuntimeConfig,
        engine: Arc<dyn Engine>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> Result<Self, RuntimeError> {
        if config.isolation.is_some() && config.compile_cache.is_none() {
            let reason = "isolation takes a compile_cache, where the code that comes from another process is kept";
            return Err(RuntimeError::Setup(reason.to_owned()));
        }
        let (sandbox, linker) = Sandbox::new(&config, engine, clock, entropy)?;
        let cache =
            config.compile_cache.as_deref().map(|root| CompileCache::open(root, &sandbox.wasmtime)).transpose()?;
        Ok(Self(Arc::new(Inner { loading: Loading::new(&config, linker, cache), sandbox: Arc::new(sandbox), config })))
    }

    /// Loads a program: checks that it is a component of the right world, compiles it (or takes it from the cache),
    /// links it and asks it, in the sandbox, to describe itself. A program in memory is given back at once.
    ///
    /// # Errors
    /// [`RuntimeError`], each saying what is wrong with the program and the way out.
    pub async fn load(&self, component: &[u8]) -> Result<Program, RuntimeError> {
        self.0.loading.load(&self.0.sandbox, &self.0.config, component).await
    }

    /// A program that is in memory.
    #[must_use]
    pub fn loaded(&self, id: &ProgramId) -> Option<Program> {
        self.0.loading.programs.get(id)
    }

    /// A program that is in memory, or that is on disk compiled and described, which takes milliseconds: what there is
    /// of it without its component.
    pub async fn kept(&self, id: &ProgramId) -> Option<Program> {
        self.0.loading.kept(&self.0.sandbox, id).await
    }

    /// Starts a run; it waits its turn where as many as may are running. What is wrong with the request, its arguments
    /// above all, is told by `RunFinished`.
    ///
    /// # Panics
    /// Outside of a tokio runtime with its timers enabled.
    #[must_use = "dropping a run cancels it"]
    pub fn start(&self, program: &Program, request: RunRequest) -> Run {
        self.start_as(self.new_run_id(), program, request)
    }

    /// An id for [`Self::start_as`], drawn at random.
    #[must_use]
    pub fn new_run_id(&self) -> RunId {
        RunId((self.0.sandbox.entropy)())
    }

    /// As [`Self::start`], for those who have to take a run down before it begins.
    ///
    /// # Panics
    /// As [`Self::start`].
    #[must_use = "dropping a run cancels it"]
    pub fn start_as(&self, id: RunId, program: &Program, request: RunRequest) -> Run {
        let (sender, events) = mpsc::channel(self.0.config.host_limits.events_buffered_max.max(1));
        let cancel = CancellationToken::new();
        let limits = request.limits.clone().unwrap_or_else(|| self.0.config.run_limits.clone());
        let run =
            supervise::NewRun { id, program: program.clone(), request, limits, events: sender, cancel: cancel.clone() };
        let running = supervise::run(Arc::clone(&self.0.sandbox), run);
        match &self.0.config.guests {
            Some(guests) => drop(guests.spawn(running)),
            None => drop(tokio::spawn(running)),
        }
        Run { id, events, cancel: CancelOnDrop(cancel) }
    }

    /// Where runs are carried out, unless it is where they are started.
    #[must_use]
    pub fn guests(&self) -> Option<&Handle> {
        self.0.config.guests.as_ref()
    }

    /// What a run of the program costs besides its work: a program that ends without calling a model, or, without
    /// arguments, any, which is then instantiated and not called.
    ///
    /// # Errors
    /// What ended the program early.
    pub async fn cost(&self, program: &Program, arguments: Option<String>) -> Result<RunCost, Error> {
        probe::probe(&self.0.sandbox, program, self.0.config.run_limits.clone(), arguments).await
    }

    /// Runs that have a place now, torn down or not yet.
    #[must_use]
    pub fn live_runs(&self) -> usize {
        self.0.config.host_limits.concurrent_runs_max as usize - self.0.sandbox.places.available_permits()
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("config", &self.0.config).finish_non_exhaustive()
    }
}

/// The source of a run's randomness.
pub(crate) fn random(seed: Option<u64>, entropy: &dyn Fn() -> u64) -> StdRng {
    match seed {
        Some(seed) => StdRng::seed_from_u64(seed),
        None => {
            let mut key = [0; 32];
            for part in key.chunks_exact_mut(8) {
                part.copy_from_slice(&entropy().to_le_bytes());
            }
            StdRng::from_seed(key)
        }
    }
}
