//! The runtime: loads programs and starts runs.

use std::fmt;
use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sglhost_core::{Clock, Error, RunId, limits};
use sglhost_engine::Engine;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use wasmtime::component::Linker;

use crate::bindings::{self, ProgramPre};
use crate::compile::{self, CompileCache};
use crate::config::RuntimeConfig;
use crate::constraints::ConstraintCache;
use crate::error::RuntimeError;
use crate::host::Host;
use crate::interface::HostData;
use crate::meter::Ticker;
use crate::probe::{self, RunCost};
use crate::program::{Loaded, Program, Registry};
use crate::run::{CancelOnDrop, Run, RunRequest};
use crate::supervise::{self, Sandbox};

/// Loads programs and starts runs. A clone is another handle to the same runtime.
#[derive(Clone)]
pub struct Runtime(Arc<Inner>);

struct Inner {
    config: RuntimeConfig,
    wasmtime: wasmtime::Engine,
    linker: Linker<Host>,
    cache: Option<CompileCache>,
    programs: Registry,
    /// One program compiles at a time: the compiler uses all cores by itself.
    compiling: Semaphore,
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
        let setup = |error: wasmtime::Error| RuntimeError::Setup(format!("{error:#}"));
        // Older kernels cannot tell which pages a run touched; then all that stay resident are cleared.
        let wasmtime = wasmtime::Engine::new(&config.wasmtime(true))
            .or_else(|_| wasmtime::Engine::new(&config.wasmtime(false)))
            .map_err(setup)?;
        let mut linker = Linker::new(&wasmtime);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(setup)?;
        bindings::Program::add_to_linker::<_, HostData>(&mut linker, |host| host).map_err(setup)?;
        let cache = config.compile_cache.as_deref().map(|root| CompileCache::open(root, &wasmtime)).transpose()?;
        let ticker = Ticker::start(wasmtime.weak()).map_err(|error| RuntimeError::Setup(error.to_string()))?;
        let sandbox = Sandbox {
            wasmtime: wasmtime.clone(),
            engine,
            clock,
            entropy,
            ticker,
            constraints: Arc::new(ConstraintCache::default()),
            tokenizing: Arc::new(Semaphore::new(limits::TOKENIZING_MAX)),
            places: Arc::new(Semaphore::new(config.host_limits.concurrent_runs_max as usize)),
            stack_max_bytes: config.host_limits.stack_max_bytes,
        };
        Ok(Self(Arc::new(Inner {
            wasmtime,
            linker,
            cache,
            programs: Registry::new(config.host_limits.loaded_programs_max),
            compiling: Semaphore::new(1),
            sandbox: Arc::new(sandbox),
            config,
        })))
    }

    /// Loads a program: checks that it is a component of the right world, compiles it (or takes it from the cache),
    /// links it and asks it, in the sandbox, to describe itself. A program in memory is given back at once.
    ///
    /// # Errors
    /// [`RuntimeError`], each saying what is wrong with the program and the way out.
    pub async fn load(&self, component: &[u8]) -> Result<Program, RuntimeError> {
        compile::inspect(component)?;
        let id = compile::program_id(component);
        if let Some(program) = self.0.programs.get(&id) {
            return Ok(program);
        }
        let gone = || RuntimeError::Setup("the host is shutting down".to_owned());
        let _turn = self.0.compiling.acquire().await.map_err(|_| gone())?;
        // Somebody may have loaded it meanwhile.
        if let Some(program) = self.0.programs.get(&id) {
            return Ok(program);
        }
        let (inner, bytes, key) = (Arc::clone(&self.0), component.to_vec(), id.clone());
        let compiled = tokio::task::spawn_blocking(move || match &inner.cache {
            Some(cache) => cache.component(&inner.wasmtime, &key, &bytes),
            None => compile::compile(&inner.wasmtime, &bytes),
        });
        let compiled = compiled.await.map_err(|_| RuntimeError::Compile("the compiler failed".to_owned()))??;
        let world = |error: wasmtime::Error| RuntimeError::WrongWorld(format!("{error:#}"));
        let pre = self.0.linker.instantiate_pre(&compiled).map_err(world)?;
        let imports = compiled.component_type().imports(&self.0.wasmtime).map(|(name, _)| name.to_owned()).collect();
        let pre = ProgramPre::new(pre).map_err(world)?;
        let description = supervise::describe(&self.0.sandbox, &pre, &self.0.config.run_limits).await?;
        let size_bytes = component.len();
        let program = Program::new(Loaded { id, description, imports, size_bytes, pre });
        self.0.programs.put(program.clone());
        Ok(program)
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
        tokio::spawn(supervise::run(Arc::clone(&self.0.sandbox), run));
        Run { id, events, cancel: CancelOnDrop(cancel) }
    }

    /// What a run of the program costs besides its work. The program must end without calling a model.
    ///
    /// # Errors
    /// What ended the program early.
    pub async fn cost(&self, program: &Program, arguments: String) -> Result<RunCost, Error> {
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
