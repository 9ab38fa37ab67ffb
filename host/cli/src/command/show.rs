//! A run's events on the user's side, wherever it runs: shown as they come, and in sum at the end.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use sglhost_core::{Clock, ErrorCode, Event, RunRecord};

use crate::{
    config::OutputMode,
    failure::Failure,
    interrupt::Interrupt,
    render::{Screen, Stats, Terminal, Timeline},
};

/// An event, and when it was by the clock of whoever told of it, if they said.
#[derive(Debug)]
pub(crate) struct Told {
    /// What happened.
    pub(crate) event: Event,
    /// Milliseconds since the run began.
    pub(crate) at_ms: Option<u64>,
}

/// A run that goes on somewhere.
pub(crate) trait Follow {
    /// Its next event; none after the last. Safe to drop and call again.
    async fn next(&mut self) -> Result<Option<Told>, Failure>;

    /// Asks it to end. Its events go on until the last.
    fn cancel(&mut self);
}

/// What the first Ctrl-C does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnInterrupt {
    /// The run is asked to end, and followed until it has.
    Cancel,
    /// It is followed no further.
    Leave,
}

/// How a run is shown.
pub(crate) struct Show<'a> {
    /// What is printed.
    pub(crate) output: OutputMode,
    /// Figures at the end.
    pub(crate) stats: bool,
    /// How long it took before the run began, if that is one of them.
    pub(crate) startup: Option<Duration>,
    /// What the first Ctrl-C does.
    pub(crate) on_interrupt: OnInterrupt,
    /// What figures are measured on.
    pub(crate) clock: &'a dyn Clock,
}

impl Show<'_> {
    /// Shows a run until it ends.
    ///
    /// # Errors
    /// It ended with an error, or could not be followed to its end.
    pub(crate) async fn show(&self, run: &mut impl Follow, interrupt: &Interrupt) -> Result<(), Failure> {
        let start = self.clock.monotonic();
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        let mut out = stdout.lock();
        let color = self.output == OutputMode::Text { color: true };
        let screen = Screen { color, output: stdout.is_terminal(), error: stderr.is_terminal() };
        let mut terminal = Terminal::new(&mut out, stderr.lock(), screen);
        let (mut record, mut timeline) = (RunRecord::default(), Timeline::default());
        let mut cancelled = false;
        let ended = loop {
            let event = match self.on_interrupt {
                OnInterrupt::Cancel => next_event(run, &mut cancelled, interrupt).await,
                OnInterrupt::Leave => next_or_leave(run, interrupt).await,
            };
            let Told { event, at_ms } = match event {
                Ok(Some(told)) => told,
                Ok(None) => break Ok(()),
                Err(failure) => break Err(failure),
            };
            let elapsed = self.clock.monotonic().saturating_sub(start);
            timeline.take(&event, elapsed);
            record.take(&event);
            match self.output {
                OutputMode::Text { .. } => terminal.take(&event),
                OutputMode::Events => {
                    let here = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
                    terminal.line(&event.to_json(at_ms.unwrap_or(here)))
                }
                OutputMode::Json => Ok(()),
            }
            .map_err(Failure::from_output)?;
        };
        // Whatever is said next begins on a line of its own.
        terminal.end_line().map_err(Failure::from_output)?;
        ended?;
        if self.output == OutputMode::Json && !cancelled {
            terminal.line(&record.to_json_pretty()).map_err(Failure::from_output)?;
        }
        drop(terminal);
        if self.stats {
            let wall = self.clock.monotonic().saturating_sub(start);
            print_stats(&Stats { runs: None, usage: record.usage(), timeline, wall, startup: self.startup });
        }
        match record.error() {
            None => Ok(()),
            Some(error) if cancelled && error.code == ErrorCode::Cancelled => Err(Failure::Interrupted),
            Some(error) => Err(Failure::Run(error.clone())),
        }
    }
}

/// The events of a run until its last; the first interrupt asks it to end.
pub(crate) async fn next_event(
    run: &mut impl Follow,
    cancelled: &mut bool,
    interrupt: &Interrupt,
) -> Result<Option<Told>, Failure> {
    loop {
        tokio::select! {
            biased;
            () = interrupt.requested(), if !*cancelled => {
                *cancelled = true;
                run.cancel();
            }
            event = run.next() => return event,
        }
    }
}

async fn next_or_leave(run: &mut impl Follow, interrupt: &Interrupt) -> Result<Option<Told>, Failure> {
    tokio::select! {
        biased;
        () = interrupt.requested() => Err(Failure::Interrupted),
        event = run.next() => event,
    }
}

/// Prints figures to standard error, apart from the text above.
pub(crate) fn print_stats(stats: &Stats) {
    // Who closed standard error does not want them.
    let _ = writeln!(std::io::stderr(), "\n{stats}");
}
