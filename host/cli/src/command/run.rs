//! `sglhost run`: one run on this machine, its events shown as they come.

use std::time::Duration;

use serde_json::{Map, Value};
use sglhost_core::TenantId;
use sglhost_runtime::{Description, Program, Run, RunRequest};

use crate::{
    arguments::Parameters,
    command::{
        batch,
        show::{Follow, OnInterrupt, Show, Told},
    },
    config::{Mode, OutputMode, RunConfig},
    engine::{House, OpeningModel},
    environment::Environment,
    explain,
    failure::Failure,
    flags::LogLevel,
    interrupt::Interrupt,
    model::ModelStore,
};

/// Runs a program once, or once per line of a batch.
///
/// # Errors
/// Whatever keeps the program from a good end.
pub(crate) async fn run(config: RunConfig, environment: &Environment, interrupt: &Interrupt) -> Result<(), Failure> {
    if matches!(&config.mode, Mode::Batch { text, .. } if text.trim().is_empty()) {
        eprintln!("note: the batch has no lines; nothing is run");
        return Ok(());
    }
    write_log(config.log_level);
    tokio::select! {
        biased;
        ready = prepare(&config, environment, interrupt) => {
            let ready = ready?;
            match &config.mode {
                Mode::One { output, .. } => one(&config, &ready, *output, interrupt).await,
                Mode::Batch { text, concurrency } => batch::run(&config, &ready, text, *concurrency, interrupt).await,
            }
        }
        // While something is made ready there is nothing to end in good order.
        () = interrupt.requested() => Err(Failure::Interrupted),
    }
}

/// Lets what is below write to standard error.
pub(crate) fn write_log(level: LogLevel) {
    let level = match level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
    };
    tracing_subscriber::fmt().with_max_level(level).with_target(false).with_writer(std::io::stderr).init();
}

/// A program with its arguments, in a house with its model.
pub(crate) struct Ready {
    pub(crate) house: House,
    pub(crate) program: Program,
    /// Of one run; a batch has its own.
    arguments: Map<String, Value>,
    /// How long it took, if nothing was fetched.
    pub(crate) startup: Option<Duration>,
}

async fn prepare(config: &RunConfig, environment: &Environment, interrupt: &Interrupt) -> Result<Ready, Failure> {
    let store = ModelStore::new(&environment.cache);
    let open = || OpeningModel::start(config.model.clone(), store.clone(), interrupt.clone());
    // A download waits until program and arguments are known to be right.
    let early = (!config.model.reference.is_missing(&store)).then(open);
    let concurrency = match config.mode {
        Mode::One { .. } => 1,
        Mode::Batch { concurrency, .. } => concurrency,
    };
    let house = House::new(&environment.cache, concurrency, config.limits.clone())?;
    let program = house.load(&config.program).await?;
    let arguments = match &config.mode {
        Mode::One { object, words, .. } => arguments(program.description(), object, words)?,
        Mode::Batch { .. } => Map::new(),
    };
    let late = early.is_none();
    let opened = early.unwrap_or_else(open).opened().await?;
    house.serve(opened.model, config.engine.limits(opened.limits))?;
    let startup = (!late).then(|| house.clock.monotonic());
    Ok(Ready { house, program, arguments, startup })
}

/// The program's arguments from the command line, checked against its description.
pub(crate) fn arguments(
    description: &Description,
    object: &Map<String, Value>,
    words: &[String],
) -> Result<Map<String, Value>, Failure> {
    let parameters = Parameters::from_schema(&description.name, &description.arguments);
    let arguments = parameters.parse_words(words, object.clone())?;
    let checked = Value::Object(arguments.clone());
    description.check(&checked).map_err(|error| Failure::Usage(error.message))?;
    Ok(arguments)
}

/// What a run is started with.
pub(crate) fn request(config: &RunConfig, arguments: &Map<String, Value>) -> RunRequest {
    RunRequest {
        tenant: TenantId::local(),
        arguments: Value::Object(arguments.clone()).to_string(),
        defaults: config.defaults.clone(),
        priority: 0,
        limits: None,
        seed: config.seed,
    }
}

impl Follow for Run {
    async fn next(&mut self) -> Result<Option<Told>, Failure> {
        Ok(self.events.recv().await.map(|event| Told { event: explain::event(event), at_ms: None }))
    }

    fn cancel(&mut self) {
        Run::cancel(self);
    }
}

async fn one(config: &RunConfig, ready: &Ready, output: OutputMode, interrupt: &Interrupt) -> Result<(), Failure> {
    let mut run = ready.house.runtime.start(&ready.program, request(config, &ready.arguments));
    let show = Show {
        output,
        stats: config.stats,
        startup: ready.startup,
        on_interrupt: OnInterrupt::Cancel,
        clock: &*ready.house.clock,
    };
    show.show(&mut run, interrupt).await
}
