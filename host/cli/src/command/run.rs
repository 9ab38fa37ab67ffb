//! `sglhost run`: one run, its events shown as they come.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use serde_json::{Map, Value};
use sglhost_core::{ErrorCode, Event, RunRecord, TenantId};
use sglhost_runtime::{Program, Run, RunRequest};

use crate::{
    arguments::Parameters,
    command::batch,
    config::{Mode, OutputMode, RunConfig},
    engine::{House, OpeningModel},
    environment::Environment,
    explain,
    failure::Failure,
    flags::LogLevel,
    interrupt::Interrupt,
    model::ModelStore,
    render::{Stats, Terminal, Timeline},
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

/// Lets the engine write to standard error.
fn write_log(level: LogLevel) {
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
        Mode::One { object, words, .. } => arguments(&program, object, words)?,
        Mode::Batch { .. } => Map::new(),
    };
    let late = early.is_none();
    let opened = early.unwrap_or_else(open).opened().await?;
    house.serve(opened.model, config.engine.limits(opened.limits))?;
    let startup = (!late).then(|| house.clock.monotonic());
    Ok(Ready { house, program, arguments, startup })
}

/// The program's arguments from the command line, checked against its description.
fn arguments(program: &Program, object: &Map<String, Value>, words: &[String]) -> Result<Map<String, Value>, Failure> {
    let description = program.description();
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

/// The events of a run until its last; the first interrupt asks it to end.
pub(crate) async fn next_event(run: &mut Run, cancelled: &mut bool, interrupt: &Interrupt) -> Option<Event> {
    loop {
        tokio::select! {
            biased;
            () = interrupt.requested(), if !*cancelled => {
                *cancelled = true;
                run.cancel();
            }
            event = run.events.recv() => return event.map(explain::event),
        }
    }
}

async fn one(config: &RunConfig, ready: &Ready, output: OutputMode, interrupt: &Interrupt) -> Result<(), Failure> {
    let clock = &ready.house.clock;
    let start = clock.monotonic();
    let mut run = ready.house.runtime.start(&ready.program, request(config, &ready.arguments));
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let mut out = stdout.lock();
    let color = output == OutputMode::Text { color: true };
    let shared_screen = stdout.is_terminal() && stderr.is_terminal();
    let mut terminal = Terminal::new(&mut out, stderr.lock(), color, shared_screen);
    let (mut record, mut timeline) = (RunRecord::default(), Timeline::default());
    let mut cancelled = false;
    while let Some(event) = next_event(&mut run, &mut cancelled, interrupt).await {
        timeline.take(&event, clock.monotonic().saturating_sub(start));
        record.take(&event);
        match output {
            OutputMode::Text { .. } => terminal.take(&event),
            OutputMode::Events => terminal.line(&to_line(&event)),
            OutputMode::Json => Ok(()),
        }
        .map_err(Failure::from_output)?;
    }
    if output == OutputMode::Json && !cancelled {
        terminal.line(&record.to_json_pretty()).map_err(Failure::from_output)?;
    }
    drop(terminal);
    if config.stats {
        let wall = clock.monotonic().saturating_sub(start);
        print_stats(&Stats { runs: None, usage: record.usage(), timeline, wall, startup: ready.startup });
    }
    match record.error() {
        None => Ok(()),
        Some(error) if cancelled && error.code == ErrorCode::Cancelled => Err(Failure::Interrupted),
        Some(error) => Err(Failure::Run(error.clone())),
    }
}

/// Prints figures to standard error, apart from the text above.
pub(crate) fn print_stats(stats: &Stats) {
    // Who closed standard error does not want them.
    let _ = writeln!(std::io::stderr(), "\n{stats}");
}

fn to_line(event: &Event) -> String {
    // Strings, numbers and maps with string keys: there is nothing that JSON cannot hold.
    serde_json::to_string(event).unwrap_or_default()
}
