//! The process that compiles: reads a component, writes its native code, then asks it to describe itself.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;

use sglhost_core::limits::{self, CompileLimits, HostLimits};
use sglhost_core::{Error, RunId, TenantId};
use sglhost_engine::{Call, Engine, Model, Request, SystemClock};
use wasmtime::component::{Component, Linker};

use crate::bindings::ProgramPre;
use crate::compile;
use crate::config::RuntimeConfig;
use crate::description::Description;
use crate::error::RuntimeError;
use crate::host::Host;
use crate::isolation::confine;
use crate::isolation::frame::{self, Kind, Order, Refusal};
use crate::sandbox::Sandbox;
use crate::supervise;

/// Compiles the component on standard input for the process that started this one, which wrote `order`, and answers on
/// standard output. Gives up all else first, and for good: call it in a process that does nothing else, from its main
/// thread, before any other thread is started.
#[must_use]
pub fn compile_child(order: &str) -> ExitCode {
    match attempt(order) {
        Ok(()) => ExitCode::SUCCESS,
        // The other side is gone, or this one never got ready: the exit code and this are what there is.
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

fn attempt(order: &str) -> io::Result<()> {
    let order: Order = serde_json::from_str(order).map_err(io::Error::other)?;
    confine::limit(&CompileLimits {
        compile_memory_max_bytes: usize::try_from(order.memory_max_bytes).unwrap_or(usize::MAX),
        compile_cpu_budget: order.cpu_budget,
        describe_cpu_budget: order.describe_cpu_budget,
        ..CompileLimits::default()
    })?;
    let config = RuntimeConfig {
        run_limits: order.run_limits(),
        host_limits: HostLimits {
            concurrent_runs_max: 1,
            stack_max_bytes: order.stack_max_bytes,
            ..HostLimits::default()
        },
        ..RuntimeConfig::default()
    };
    // Its ticker is a thread: it has to be there before the filter is.
    let clock = Arc::new(SystemClock::default());
    let (sandbox, linker) = Sandbox::for_compiling(&config, Arc::new(NoEngine), clock).map_err(io::Error::other)?;
    confine::filter()?;
    // From here on there is nothing to be had, and what follows may be hostile.
    let mut component = Vec::new();
    io::stdin().take(limits::COMPONENT_BYTES_MAX as u64 + 1).read_to_end(&mut component)?;
    let mut answer = io::stdout().lock();
    let pre = match compiled(&sandbox, &linker, &config, component) {
        Ok((pre, artifact)) => {
            frame::write(&mut answer, Kind::Artifact, &artifact)?;
            pre
        }
        Err(refusal) => return refuse(&mut answer, &refusal),
    };
    match described(&sandbox, &pre, &config)? {
        Ok(json) => frame::write(&mut answer, Kind::Description, json.as_bytes()),
        Err(error) => refuse(&mut answer, &Refusal::new(error)),
    }
}

fn refuse(answer: &mut impl io::Write, refusal: &Refusal) -> io::Result<()> {
    frame::write(answer, Kind::Refusal, &serde_json::to_vec(refusal)?)
}

/// What can be instantiated, and its native code.
fn compiled(
    sandbox: &Sandbox,
    linker: &Linker<Host>,
    config: &RuntimeConfig,
    component: Vec<u8>,
) -> Result<(ProgramPre<Host>, Vec<u8>), Refusal> {
    let compile = |error: wasmtime::Error| refusal(error, compile::compile_error);
    let world = |error: wasmtime::Error| refusal(error, |error| RuntimeError::WrongWorld(format!("{error:#}")));
    compile::inspect(&component, &config.run_limits).map_err(Refusal::new)?;
    let compiled = Component::from_binary(&sandbox.wasmtime, &component).map_err(compile)?;
    drop(component);
    let pre = linker.instantiate_pre(&compiled).map_err(world)?;
    let pre = ProgramPre::new(pre).map_err(world)?;
    let artifact = compiled.serialize().map_err(compile)?;
    Ok((pre, artifact))
}

/// Tells a component that is wrong from a system that had no more memory.
fn refusal(error: wasmtime::Error, other: fn(wasmtime::Error) -> RuntimeError) -> Refusal {
    let no_memory = error.chain().any(|cause| {
        cause.is::<wasmtime::OutOfMemory>()
            || cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::OutOfMemory)
            || cause.downcast_ref::<rustix::io::Errno>().is_some_and(|&error| error == rustix::io::Errno::NOMEM)
    });
    if no_memory { Refusal::out_of_memory(format!("{error:#}")) } else { Refusal::new(other(error)) }
}

fn described(
    sandbox: &Sandbox,
    pre: &ProgramPre<Host>,
    config: &RuntimeConfig,
) -> io::Result<Result<String, RuntimeError>> {
    // Timers and nothing else: there is no file or socket to wait for.
    let tokio = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    Ok(tokio.block_on(async {
        let json = supervise::describe(sandbox, pre, &config.run_limits).await?;
        // The other side reads it again; here it is for the error.
        Description::parse(&json)?;
        Ok(json)
    }))
}

/// A program that describes itself has no model.
#[derive(Debug)]
struct NoEngine;

impl Engine for NoEngine {
    fn models(&self) -> &[Arc<Model>] {
        &[]
    }

    fn submit(&self, _request: Request) -> Result<Call, Error> {
        Err(Error::unavailable("no model is being served"))
    }

    fn run_ended(&self, _tenant: &TenantId, _run: RunId) {}
}
