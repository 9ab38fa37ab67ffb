//! How a program comes into memory: from memory, from disk, or from its component; and who waits for whom.
//!
//! What is on disk waits for nobody, so that a stranger whose components take minutes to compile holds up only those
//! who compile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use sglhost_core::ProgramId;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};
use wasmtime::component::{Component, Linker};

use crate::artifacts::{About, CompileCache};
use crate::bindings::ProgramPre;
use crate::compile;
use crate::config::RuntimeConfig;
use crate::description::Description;
use crate::error::RuntimeError;
use crate::host::Host;
use crate::isolation::{self, Isolation};
use crate::program::{Loaded, Program, Registry};
use crate::sandbox::Sandbox;
use crate::supervise;

/// Components that may wait where they are compiled in this process: they are the user's own.
const UNBOUNDED: usize = usize::MAX;

/// Programs in memory, and those that are on their way there.
pub(crate) struct Loading {
    pub(crate) programs: Registry,
    linker: Linker<Host>,
    cache: Option<CompileCache>,
    /// Loads under way: who wants the same program waits for the first of them.
    under_way: DashMap<ProgramId, Arc<Mutex<()>>>,
    /// Places for compilations. In this process one at a time: the compiler uses all cores by itself.
    compiling: Semaphore,
    queued: AtomicUsize,
    queued_max: usize,
}

impl Loading {
    pub(crate) fn new(config: &RuntimeConfig, linker: Linker<Host>, cache: Option<CompileCache>) -> Arc<Self> {
        let limits = config.isolation.as_ref().map(|isolation| &isolation.limits);
        Arc::new(Self {
            programs: Registry::new(config.host_limits.loaded_programs_max),
            linker,
            cache,
            under_way: DashMap::new(),
            compiling: Semaphore::new(limits.map_or(1, |limits| limits.compiles_max.clamp(1, Semaphore::MAX_PERMITS))),
            queued: AtomicUsize::new(0),
            queued_max: limits.map_or(UNBOUNDED, |limits| limits.compiles_queued_max),
        })
    }

    /// See [`crate::Runtime::load`].
    pub(crate) async fn load(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        config: &RuntimeConfig,
        component: &[u8],
    ) -> Result<Program, RuntimeError> {
        // A stranger's is read in a process of its own, but for its first bytes.
        match config.isolation {
            Some(_) => compile::inspect_head(component)?,
            None => compile::inspect(component, &config.run_limits)?,
        }
        let id = compile::program_id(component).await;
        if let Some(program) = self.programs.get(&id) {
            return Ok(program);
        }
        let turn = Arc::clone(&self.under_way.entry(id.clone()).or_default());
        let first = turn.lock().await;
        let program = match self.programs.get(&id) {
            // Somebody loaded it meanwhile.
            Some(program) => Ok(program),
            None => match &config.isolation {
                Some(isolation) => self.isolated(sandbox, config, isolation, &id, component).await,
                None => self.here(sandbox, config, &id, component).await,
            },
        };
        drop(first);
        // Those who still wait have it too.
        self.under_way.remove_if(&id, |_, turn| Arc::strong_count(turn) <= 2);
        program
    }

    /// See [`crate::Runtime::kept`].
    pub(crate) async fn kept(self: &Arc<Self>, sandbox: &Arc<Sandbox>, id: &ProgramId) -> Option<Program> {
        if let Some(program) = self.programs.get(id) {
            return Some(program);
        }
        let (loading, sandbox, id) = (Arc::clone(self), Arc::clone(sandbox), id.clone());
        let linked = tokio::task::spawn_blocking(move || {
            let (component, about, description) = loading.cache.as_ref()?.described(&sandbox.wasmtime, &id)?;
            let pre = loading.link(&component).ok()?;
            Some(loading.put(&sandbox, id, &component, pre, description, about.size_bytes))
        });
        linked.await.ok()?
    }

    async fn isolated(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        config: &RuntimeConfig,
        isolation: &Isolation,
        id: &ProgramId,
        component: &[u8],
    ) -> Result<Program, RuntimeError> {
        if let Some(program) = self.kept(sandbox, id).await {
            return Ok(program);
        }
        let Some(cache) = &self.cache else {
            return Err(RuntimeError::Setup("isolation takes a compile_cache".to_owned()));
        };
        let _place = self.place().await?;
        let draft = cache.draft(id)?;
        let compiled = isolation::compile(isolation, config, component.to_vec(), draft).await?;
        let size_bytes = component.len();
        let (loading, sandbox, id) = (Arc::clone(self), Arc::clone(sandbox), id.clone());
        let kept = tokio::task::spawn_blocking(move || {
            let Some(cache) = &loading.cache else { return Err(failed()) };
            let about = About { description: compiled.json, size_bytes };
            let component = cache.keep(&sandbox.wasmtime, &id, compiled.draft, &about)?;
            let pre = loading.link(&component)?;
            Ok(loading.put(&sandbox, id, &component, pre, compiled.description, size_bytes))
        });
        kept.await.map_err(|_| failed())?
    }

    async fn here(
        self: &Arc<Self>,
        sandbox: &Arc<Sandbox>,
        config: &RuntimeConfig,
        id: &ProgramId,
        component: &[u8],
    ) -> Result<Program, RuntimeError> {
        let _place = self.place().await?;
        let (loading, engine, key, bytes) =
            (Arc::clone(self), sandbox.wasmtime.clone(), id.clone(), component.to_vec());
        let compiled = tokio::task::spawn_blocking(move || match &loading.cache {
            Some(cache) => cache.component(&engine, &key, &bytes),
            None => compile::compile(&engine, &bytes),
        });
        let compiled = compiled.await.map_err(|_| failed())??;
        let pre = self.link(&compiled)?;
        let description = Description::parse(&supervise::describe(sandbox, &pre, &config.run_limits).await?)?;
        Ok(self.put(sandbox, id.clone(), &compiled, pre, description, component.len()))
    }

    /// A place to compile in, once there is one.
    async fn place(&self) -> Result<SemaphorePermit<'_>, RuntimeError> {
        let gone = |_| RuntimeError::Setup("the host is shutting down".to_owned());
        if let Ok(place) = self.compiling.try_acquire() {
            return Ok(place);
        }
        let queued = self.queued.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.queued);
        if queued >= self.queued_max {
            return Err(RuntimeError::Busy { queued });
        }
        self.compiling.acquire().await.map_err(gone)
    }

    fn link(&self, component: &Component) -> Result<ProgramPre<Host>, RuntimeError> {
        let world = |error: wasmtime::Error| RuntimeError::WrongWorld(format!("{error:#}"));
        let pre = self.linker.instantiate_pre(component).map_err(world)?;
        ProgramPre::new(pre).map_err(world)
    }

    fn put(
        &self,
        sandbox: &Sandbox,
        id: ProgramId,
        component: &Component,
        pre: ProgramPre<Host>,
        description: Description,
        size_bytes: usize,
    ) -> Program {
        let imports = component.component_type().imports(&sandbox.wasmtime).map(|(name, _)| name.to_owned()).collect();
        let program = Program::new(Loaded { id, description, imports, size_bytes, pre });
        self.programs.put(program.clone());
        program
    }
}

fn failed() -> RuntimeError {
    RuntimeError::Compile("the compiler failed".to_owned())
}

/// One of those that wait, until it does not.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
