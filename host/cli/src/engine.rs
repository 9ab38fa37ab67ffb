//! Puts the house together: model, device, engine, sandbox.
//!
//! A model opens while the program compiles; neither needs the other until a run starts. The sandbox wants its engine
//! when it is made, so it is given one whose model comes later.

use std::{
    hash::BuildHasher,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use sglhost_core::{
    Clock, Error, RunId, TenantId,
    limits::{EngineLimits, HostLimits, RunLimits},
};
use sglhost_device::Device;
use sglhost_engine::{Call, Engine, EngineHandle, Model, Request, ServedModel, SystemClock};
use sglhost_model::{ModelError, OpenOptions, Opened};
use sglhost_runtime::{Program, Runtime, RuntimeConfig, RuntimeError};
use sglhost_text::TextError;
use tokio::runtime::Handle;

use crate::{
    compiling, component::read_component, config::ModelConfig, device, environment::CACHE, explain, failure::Failure,
    interrupt::Interrupt, model::ModelStore,
};

/// An engine whose models come after the sandbox that uses it. Until then it serves none.
#[derive(Debug, Default)]
struct LateEngine(OnceLock<Served>);

/// The engine, and what bounds a context of its model.
#[derive(Debug)]
struct Served {
    engine: EngineHandle,
    kv_tokens: usize,
    context_length: usize,
}

impl Engine for LateEngine {
    fn models(&self) -> &[Arc<Model>] {
        self.0.get().map_or(&[], |served| served.engine.models())
    }

    fn submit(&self, request: Request) -> Result<Call, Error> {
        match self.0.get() {
            Some(Served { engine, kv_tokens, context_length }) => {
                engine.submit(request).map_err(|error| explain::too_long(error, *kv_tokens, *context_length))
            }
            None => Err(Error::unavailable("no model is being served")),
        }
    }

    fn run_ended(&self, tenant: &TenantId, run: RunId) {
        if let Some(served) = self.0.get() {
            served.engine.run_ended(tenant, run);
        }
    }
}

/// A sandbox, and the engine behind it.
pub(crate) struct House {
    /// Loads programs and starts runs.
    pub(crate) runtime: Runtime,
    /// What deadlines and figures are measured on.
    pub(crate) clock: Arc<dyn Clock>,
    engine: Arc<LateEngine>,
}

/// What a house is made of.
pub(crate) struct HouseParts<'a> {
    /// Compiled programs are kept below it, if it can be used.
    pub(crate) cache: &'a Path,
    /// What all runs share.
    pub(crate) host_limits: HostLimits,
    /// What each run may use.
    pub(crate) run_limits: RunLimits,
    /// Where strangers' programs are carried out; none for the user's own.
    pub(crate) guests: Option<Handle>,
}

impl House {
    /// A sandbox for `concurrent_runs` runs at once of the user's own programs, with compiled programs kept below `cache`
    /// if that can be used. It serves no model yet.
    ///
    /// # Errors
    /// The machine gives no address space or thread.
    pub(crate) fn new(cache: &Path, concurrent_runs: usize, run_limits: RunLimits) -> Result<Self, Failure> {
        let concurrent_runs_max = u32::try_from(concurrent_runs).unwrap_or(u32::MAX);
        let host_limits = HostLimits { concurrent_runs_max, ..HostLimits::default() };
        Self::open(HouseParts { cache, host_limits, run_limits, guests: None })
    }

    /// A sandbox. One for strangers' programs compiles them in processes of their own, for which the cache must be there.
    ///
    /// # Errors
    /// The machine gives no address space or thread.
    pub(crate) fn open(parts: HouseParts<'_>) -> Result<Self, Failure> {
        let HouseParts { cache, host_limits, run_limits, guests } = parts;
        let engine = Arc::new(LateEngine::default());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::default());
        let isolation = guests.is_some().then(compiling::isolation).transpose().map_err(Failure::other)?;
        let isolated = isolation.is_some();
        let open = |compile_cache| {
            let config = RuntimeConfig {
                run_limits: run_limits.clone(),
                host_limits: host_limits.clone(),
                compile_cache,
                isolation: isolation.clone(),
                guests: guests.clone(),
            };
            Runtime::new(config, engine.clone(), clock.clone(), entropy())
        };
        let runtime = match open(Some(cache.join("programs"))) {
            Err(error @ RuntimeError::Cache { .. }) if !isolated => {
                // It saves time and nothing else; what needs the folder says so itself.
                eprintln!("note: {error}\nnote: programs are compiled anew each time; {CACHE} names another folder");
                open(None)
            }
            opened => opened,
        };
        Ok(Self { runtime: runtime.map_err(Failure::other)?, clock, engine })
    }

    /// Reads, compiles and links the program at `path`.
    ///
    /// # Errors
    /// The file is no component, or one that does not follow the contract.
    pub(crate) async fn load(&self, path: &Path) -> Result<Program, Failure> {
        let bytes = read_component(path)?;
        let load = |mut error: RuntimeError| {
            match &mut error {
                RuntimeError::Describe(error) => explain::limit(error),
                RuntimeError::DeclaresTooMuch(what) => *what = explain::in_flags(what),
                _ => {}
            }
            Failure::Load { path: path.display().to_string(), reason: error.to_string() }
        };
        self.runtime.load(&bytes).await.map_err(load)
    }

    /// Starts serving a model.
    ///
    /// # Errors
    /// No thread for the engine.
    pub(crate) fn serve(&self, model: ServedModel, limits: EngineLimits) -> Result<(), Failure> {
        let (kv_tokens, context_length) = (model.runner.kv_slots(), model.runner.info().context_length);
        let engine = EngineHandle::start(vec![model], limits, self.clock.clone());
        let served = Served { engine: engine.map_err(Failure::other)?, kv_tokens, context_length };
        assert!(self.engine.0.set(served).is_ok(), "a house serves one model, once");
        Ok(())
    }

    /// What a server asks of it, once it serves a model.
    pub(crate) fn served(&self) -> Option<sglhost_server::Served> {
        let metrics = self.engine.0.get()?.engine.metrics().cloned().collect();
        Some(sglhost_server::Served { engine: self.engine.clone(), metrics })
    }

    /// Waits until the device of the model is lost for good.
    pub(crate) async fn lost(&self) -> Error {
        match self.engine.0.get() {
            Some(served) => served.engine.lost().await,
            None => std::future::pending().await,
        }
    }
}

/// A model that is being opened on a thread of its own.
#[derive(Debug)]
pub(crate) struct OpeningModel(tokio::task::JoinHandle<Result<OpenedModel, Failure>>);

/// A model that is ready.
#[derive(Debug)]
pub(crate) struct OpenedModel {
    /// What an engine serves.
    pub(crate) model: ServedModel,
    /// What an engine on its device starts from.
    pub(crate) limits: EngineLimits,
}

impl OpeningModel {
    /// Starts to open; a model of the catalogue that is not here is fetched first.
    pub(crate) fn start(config: ModelConfig, store: ModelStore, interrupt: Interrupt) -> Self {
        Self(tokio::task::spawn_blocking(move || open(&config, &store, &interrupt)))
    }

    /// Waits until it is open.
    ///
    /// # Errors
    /// It is not there, could not be fetched, or cannot be served; or the device that was asked for is not there.
    pub(crate) async fn opened(self) -> Result<OpenedModel, Failure> {
        self.0.await.map_err(Failure::other)?
    }
}

fn open(config: &ModelConfig, store: &ModelStore, interrupt: &Interrupt) -> Result<OpenedModel, Failure> {
    // Known before anything is fetched.
    let gpu = device::gpu(config.device)?;
    let path = config.reference.locate(store, interrupt)?;
    match gpu {
        Some(gpu) => open_on(config, &path, device::cuda(config, &gpu)?, EngineLimits::gpu()),
        None => open_on(config, &path, device::cpu(config), EngineLimits::default()),
    }
}

fn open_on(
    config: &ModelConfig,
    path: &Path,
    device: impl Device,
    limits: EngineLimits,
) -> Result<OpenedModel, Failure> {
    let options = OpenOptions {
        name: Some(config.reference.short_name()),
        kv_slots: config.kv_tokens,
        memory_fraction: config.memory_fraction,
        kv_page_tokens: config.page_tokens,
        chat_template: config.chat_template.as_ref().map(|file| file.text.clone()),
        ..OpenOptions::default()
    };
    let failure = |error: ModelError| match (error, &config.chat_template) {
        // The model's own is not looked at when there is another.
        (ModelError::Text(TextError::Template { reason }), Some(file)) => {
            Failure::Usage(format!("--chat-template: the template in {} {reason}", file.path.display()))
        }
        (ModelError::NoRoom(reason), _) => Failure::Model(explain::no_room(&reason)),
        (error, _) => Failure::Model(error.to_string()),
    };
    let Opened { runner, tokenizer, roles } = sglhost_model::open(path, device, &options).map_err(failure)?;
    tracing::info!("{}: {}", runner.info().name, runner.info().description);
    Ok(OpenedModel { model: ServedModel { runner, tokenizer, roles }, limits })
}

/// Seeds for runs that bring none: a hash keyed by the operating system's randomness, over a counter.
pub(crate) fn entropy() -> Arc<dyn Fn() -> u64 + Send + Sync> {
    let (state, counter) = (std::hash::RandomState::new(), AtomicU64::new(0));
    Arc::new(move || state.hash_one(counter.fetch_add(1, Ordering::Relaxed)))
}
