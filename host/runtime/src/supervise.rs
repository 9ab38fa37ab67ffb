//! A run from its start to `RunFinished`: a place in the pool, a fresh instance, its budgets, its end.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use sglhost_core::limits::{self, RunLimits};
use sglhost_core::{Error, ErrorCode, Event, RunId, SamplingParams, TenantId, Usage};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wasmtime::component::{ResourceTable, ResourceTableError};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};
use wasmtime_wasi::I32Exit;

use crate::bindings::ProgramPre;
use crate::description::Description;
use crate::error::RuntimeError;
use crate::host::{Host, RunParts, RunShared};
use crate::ledger::Ledger;
use crate::limiter::{BudgetSpent, Limiter};
use crate::logs::Logs;
use crate::meter::CpuMeter;
use crate::program::Program;
use crate::run::RunRequest;
use crate::runtime::random;
use crate::sandbox::Sandbox;
use crate::wasi;

/// Bytes a guest may pass to the host in one call, results included; above every limit that is checked by itself.
const HOSTCALL_BYTES_MAX: usize = 16 << 20;
/// What wasmtime keeps for a handle: a stream has its state and both its ends for as long as one of them is held.
const ENTRIES_PER_HANDLE: usize = 4;

/// A run that is to be.
pub(crate) struct NewRun {
    pub(crate) id: RunId,
    pub(crate) program: Program,
    pub(crate) request: RunRequest,
    pub(crate) limits: RunLimits,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) cancel: CancellationToken,
}

/// Runs and sends every event, the last one included, whatever happens.
pub(crate) async fn run(sandbox: Arc<Sandbox>, new: NewRun) {
    let events = new.events.clone();
    // In a task of its own, so that a bug here ends in an event as well.
    let End { result, usage, cpu_time_us } = match tokio::spawn(attempt(sandbox, new)).await {
        Ok(end) => end,
        Err(_) => End::early(Error::unavailable("the host failed while running the program; see its log")),
    };
    // Fails only when nobody reads.
    let _ = events.send(Event::RunFinished { result, usage, cpu_time_us }).await;
}

/// How a run ended, and what it used.
struct End {
    result: Result<String, Error>,
    usage: Usage,
    cpu_time_us: u64,
}

impl End {
    /// Before the program did anything.
    fn early(error: Error) -> Self {
        Self { result: Err(error), usage: Usage::default(), cpu_time_us: 0 }
    }
}

async fn attempt(sandbox: Arc<Sandbox>, new: NewRun) -> End {
    let NewRun { id, program, request, limits, events, cancel } = new;
    let started = Event::RunStarted { run: id, program: program.id().clone() };
    // The channel is empty: this does not wait, and comes first even in a run that is cancelled by now.
    let _ = events.send(started).await;
    let admitted = async {
        check_arguments(program.description(), &request.arguments)?;
        request.defaults.validate()?;
        let place = Arc::clone(&sandbox.places).acquire_owned().await;
        place.map_err(|_| Error::unavailable("the host is shutting down"))
    };
    let place = tokio::select! {
        biased;
        () = gone(&cancel, &events) => Err(cancelled()),
        place = admitted => place,
    };
    let place = match place {
        Ok(place) => place,
        Err(error) => return End::early(error),
    };
    let wall_deadline = limits.wall_deadline;
    let result_bytes_max = limits.result_bytes_max;
    let ticking = sandbox.ticker.activate();
    let instance = NewInstance {
        id,
        tenant: request.tenant,
        priority: request.priority,
        defaults: request.defaults,
        random: random(request.seed, &*sandbox.entropy),
        limits,
        events: events.clone(),
    };
    let (mut store, meter) = instance.store(&sandbox);
    let run = Arc::clone(&store.data().run);
    let result = tokio::select! {
        biased;
        () = gone(&cancel, &events) => Err(cancelled()),
        () = tokio::time::sleep(wall_deadline) => Err(too_late(wall_deadline)),
        result = meter.charge(call(&mut store, program.pre(), request.arguments)) => match result {
            Ok(Ok(json)) => check_result(json, result_bytes_max),
            // The engine gives a call up at the run's deadline, and may notice it first.
            Ok(Err(error)) if error.code == ErrorCode::DeadlineExceeded && run.is_over() => Err(too_late(wall_deadline)),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(end_of(&error, sandbox.stack_max_bytes, run.ledger.limits())),
        },
    };
    run.stop.cancel();
    run.tasks.close();
    // Off the path of the result: memory is cleared while the reader learns how the run ended.
    tokio::spawn(async move {
        drop(store);
        drop(ticking);
        drop(place);
    });
    run.tasks.wait().await;
    run.engine.run_ended(&run.tenant, run.id);
    End { result, usage: run.usage(), cpu_time_us: meter.spent_us() }
}

/// Instantiates and calls; the store stays with the caller, who drops it.
async fn call(
    store: &mut Store<Host>,
    pre: &ProgramPre<Host>,
    arguments: String,
) -> wasmtime::Result<Result<String, Error>> {
    let program = pre.instantiate_async(&mut *store).await?;
    let result = store.run_concurrent(async |accessor| program.call_run_program(accessor, arguments).await).await??;
    Ok(result.map_err(Error::from))
}

/// Asks a program to describe itself, and gives the JSON as it is. It may compute, and nothing else.
///
/// # Errors
/// [`RuntimeError::Describe`].
pub(crate) async fn describe(
    sandbox: &Sandbox,
    pre: &ProgramPre<Host>,
    limits: &RunLimits,
) -> Result<String, RuntimeError> {
    let limits = RunLimits {
        contexts_max: 0,
        pending_calls_max: 0,
        tokens_max: 0,
        emitted_bytes_max: 0,
        log_bytes_max: DESCRIBE_LOG_BYTES_MAX,
        ..limits.clone()
    };
    let wall_deadline = limits.wall_deadline;
    // There is no run whose events these could be. What it logs tells why it failed, if it does.
    let (events, mut said) = mpsc::channel(1);
    let mut log = String::new();
    let instance = NewInstance {
        id: RunId(0),
        tenant: TenantId::local(),
        priority: 0,
        defaults: SamplingParams::default(),
        // The same at every load: a description is part of the program.
        random: StdRng::seed_from_u64(0),
        limits,
        events,
    };
    let ticking = sandbox.ticker.activate();
    let (mut store, meter) = instance.store(sandbox);
    let run = Arc::clone(&store.data().run);
    let described = async {
        let program = pre.instantiate_async(&mut store).await?;
        program.call_describe(&mut store).await
    };
    let result = tokio::select! {
        biased;
        () = tokio::time::sleep(wall_deadline) => {
            Err(Error::new(ErrorCode::DeadlineExceeded, format!("it took longer than {wall_deadline:?} (wall_deadline)")))
        }
        result = meter.charge(described) => {
            result.map_err(|error| end_of(&error, sandbox.stack_max_bytes, run.ledger.limits()))
        }
        () = listen(&mut said, &mut log) => Err(Error::unavailable("its output is gone")),
    };
    run.stop.cancel();
    drop((store, ticking));
    // Others may hold the sending end still: what is there is all.
    while let Ok(event) = said.try_recv() {
        note(&event, &mut log);
    }
    result.map_err(|mut error| {
        if !log.trim().is_empty() {
            error.message += &format!("; its output:\n{}", log.trim_end());
        }
        RuntimeError::Describe(error)
    })
}

/// Takes what a program logs, until it is gone.
async fn listen(events: &mut mpsc::Receiver<Event>, log: &mut String) {
    while let Some(event) = events.recv().await {
        note(&event, log);
    }
}

fn note(event: &Event, log: &mut String) {
    if let Event::Log { text, .. } = event {
        *log += text;
    }
}

/// Of what a program logs while it describes itself, so much is told.
const DESCRIBE_LOG_BYTES_MAX: u64 = 4 << 10;

/// What a store is made of.
pub(crate) struct NewInstance {
    pub(crate) id: RunId,
    pub(crate) tenant: TenantId,
    pub(crate) priority: i32,
    pub(crate) defaults: SamplingParams,
    pub(crate) random: StdRng,
    pub(crate) limits: RunLimits,
    pub(crate) events: mpsc::Sender<Event>,
}

impl NewInstance {
    /// A store with all its limits set, and the meter of its CPU time.
    pub(crate) fn store(mut self, sandbox: &Sandbox) -> (Store<Host>, Arc<CpuMeter>) {
        let logs = Logs::new(self.events.clone(), self.limits.log_bytes_max);
        let wasi = wasi::context(&sandbox.clock, &mut self.random, &logs);
        let random = StdRng::from_rng(&mut self.random);
        let meter = CpuMeter::new(self.limits.cpu_budget);
        let limiter = Limiter::new(&self.limits);
        let handles = self.limits.all_handles_max();
        let run = RunShared::new(RunParts {
            id: self.id,
            tenant: self.tenant,
            priority: self.priority,
            engine: Arc::clone(&sandbox.engine),
            clock: Arc::clone(&sandbox.clock),
            ledger: Ledger::new(self.limits),
            constraints: Arc::clone(&sandbox.constraints),
            tokenizing: Arc::clone(&sandbox.tokenizing),
            meter: Arc::clone(&meter),
            events: self.events,
        });
        let mut table = ResourceTable::new();
        table.set_max_capacity(handles);
        let host = Host { table, wasi, limiter, random, defaults: self.defaults, run };
        let mut store = Store::new(&sandbox.wasmtime, host);
        store.limiter(|host| &mut host.limiter);
        store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        store.set_max_component_handles(handles);
        if let Some(table) = store.concurrent_resource_table() {
            table.set_max_capacity(handles.saturating_mul(ENTRIES_PER_HANDLE));
        }
        store.set_epoch_deadline(1);
        let at_epoch = Arc::clone(&meter);
        store.epoch_deadline_callback(move |_| at_epoch.at_epoch());
        (store, meter)
    }
}

/// Resolves when the caller asks for the end, or nobody reads the events any more.
async fn gone(cancel: &CancellationToken, events: &mpsc::Sender<Event>) {
    tokio::select! {
        () = cancel.cancelled() => {}
        () = events.closed() => {}
    }
}

fn too_late(wall_deadline: Duration) -> Error {
    let seconds = wall_deadline.as_secs_f64();
    Error::new(
        ErrorCode::DeadlineExceeded,
        format!(
            "the run took longer than its {seconds} s (wall_deadline); ask less of it, or run with a higher wall_deadline"
        ),
    )
}

fn cancelled() -> Error {
    Error::new(ErrorCode::Cancelled, "the run was cancelled by its caller")
}

fn check_arguments(description: &Description, arguments: &str) -> Result<(), Error> {
    let max = limits::ARGUMENTS_BYTES_MAX;
    if arguments.len() > max {
        let bytes = arguments.len();
        return Err(Error::limit(format!(
            "the arguments have {bytes} bytes; the limit is {max} (ARGUMENTS_BYTES_MAX)"
        )));
    }
    let value = serde_json::from_str(arguments)
        .map_err(|error| Error::invalid(format!("the arguments are not JSON: {error}")))?;
    description.check(&value)
}

fn check_result(json: String, max: usize) -> Result<String, Error> {
    if json.len() > max {
        return Err(Error::limit(format!(
            "the program's result has {} bytes and may have {max} (result_bytes_max); return less, emit parts of it, \
             or run with a higher result_bytes_max",
            json.len()
        )));
    }
    // As whoever reads it will: half a character, a number that no double holds, or nesting past all sense is refused
    // here and not there.
    serde_json::from_str::<serde_json::Value>(&json)
        .map_err(|error| Error::invalid(format!("the program's result is not JSON: {error}")))?;
    Ok(json)
}

/// Why the guest was ended, for whoever started the run.
pub(crate) fn end_of(error: &wasmtime::Error, stack_max_bytes: usize, limits: &RunLimits) -> Error {
    if let Some(BudgetSpent(error)) = error.downcast_ref() {
        return error.clone();
    }
    if let Some(I32Exit(status)) = error.downcast_ref() {
        return Error::new(
            ErrorCode::Trap,
            format!("the program exited with status {status} instead of returning (its output may say why)"),
        );
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Error::unavailable(format!("no room in the pool of instances: {}", error.root_cause()));
    }
    if no_handle_is_left(error) {
        let max = limits.all_handles_max();
        return Error::limit(format!(
            "the run holds {max} handles of all kinds, streams and futures among them, as many as it may ({} of them by \
             handles_max); drop some before making more, or run with a higher handles_max",
            limits.handles_max
        ));
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::StackOverflow) => Error::limit(format!(
            "the run used its {stack_max_bytes} bytes of stack (stack_max_bytes); make the program recurse less, or run \
             the host with a higher stack_max_bytes"
        )),
        Some(trap) => {
            let what = trap.to_string();
            let what = what.trim_start_matches("wasm trap: ");
            // Most languages keep a stack of their own at the bottom of the memory, and grow it downwards out of it.
            let often = match trap {
                Trap::MemoryOutOfBounds => " (deep recursion ends so in most languages: their stack left the memory)",
                Trap::UnreachableCodeReached => {
                    " (a panic or an abort ends so; its message is in the program's output)"
                }
                _ => "",
            };
            Error::new(ErrorCode::Trap, format!("the program trapped: {what}{often}"))
        }
        None => Error::new(ErrorCode::Trap, format!("the program was stopped: {}", error.root_cause())),
    }
}

/// wasmtime has no type for its own limit, only words; a test of each attack holds them to what they are.
fn no_handle_is_left(error: &wasmtime::Error) -> bool {
    error.downcast_ref().is_some_and(|error| matches!(error, ResourceTableError::Full))
        || error.root_cause().to_string().ends_with("store handle limit exceeded")
}
