//! What a run costs besides its work, step by step: for the benchmark in `tests/perf`.

use std::sync::Arc;
use std::time::Duration;

use sglhost_core::limits::RunLimits;
use sglhost_core::{Error, RunId, SamplingParams, TenantId};
use tokio::sync::mpsc;

use crate::program::Program;
use crate::runtime::random;
use crate::sandbox::Sandbox;
use crate::supervise::{NewInstance, end_of};

/// The steps of one run.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RunCost {
    /// From nothing to an instance: the store, its limits, the pooled memory.
    pub instantiate: Duration,
    /// The program's export, with whatever it calls.
    pub call: Duration,
    /// Giving all of it back.
    pub teardown: Duration,
}

/// Runs a program as a run does, without events and without a place of its own, and times the steps. Without arguments
/// it is not called.
pub(crate) async fn probe(
    sandbox: &Sandbox,
    program: &Program,
    limits: RunLimits,
    arguments: Option<String>,
) -> Result<RunCost, Error> {
    // Nobody reads; there is room for what a program that calls no model has to tell.
    let (events, _unread) = mpsc::channel(16);
    let stack = sandbox.stack_max_bytes;
    let start = sandbox.clock.monotonic();
    let ticking = sandbox.ticker.activate();
    let instance = NewInstance {
        id: RunId(0),
        tenant: TenantId::local(),
        priority: 0,
        defaults: SamplingParams::default(),
        random: random(Some(0), &*sandbox.entropy),
        limits,
        events,
    };
    let (mut store, meter) = instance.store(sandbox);
    let run = Arc::clone(&store.data().run);
    let end = |error: wasmtime::Error| end_of(&error, stack, run.ledger.limits());
    let program = meter.charge(program.pre().instantiate_async(&mut store)).await.map_err(end)?;
    let instantiated = sandbox.clock.monotonic();
    let result = match arguments {
        Some(arguments) => {
            let call = store.run_concurrent(async |accessor| program.call_run_program(accessor, arguments).await);
            meter.charge(call).await.and_then(|result| result).map_err(end)?
        }
        None => Ok(String::new()),
    };
    let called = sandbox.clock.monotonic();
    run.stop.cancel();
    drop((store, ticking));
    let torn_down = sandbox.clock.monotonic();
    result.map_err(Error::from)?;
    Ok(RunCost { instantiate: instantiated - start, call: called - instantiated, teardown: torn_down - called })
}
