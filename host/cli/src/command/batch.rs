//! `sglhost run --batch`: SGLang's `run_batch`. A run per line, many at once, results in the order of the lines.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::Value;
use sglhost_core::{Error, RunRecord};
use sglhost_runtime::{Description, Run};
use tokio::task::JoinSet;

use super::{
    run::{Ready, request},
    show::{Told, next_event, print_stats},
};
use crate::{
    arguments::parse_object,
    config::RunConfig,
    failure::Failure,
    interrupt::Interrupt,
    render::{Stats, Timeline, note},
};

/// One line of the batch: where it stands in the file, and its run's arguments or what is wrong with them.
pub(crate) struct Line {
    /// From 1.
    pub(crate) number: usize,
    /// Of its run.
    pub(crate) arguments: Result<serde_json::Map<String, Value>, Error>,
}

/// Runs all lines of `text` and prints a JSON line for each.
///
/// # Errors
/// A line failed, or standard output was closed.
pub(crate) async fn run(
    config: &RunConfig,
    ready: &Ready,
    text: &str,
    concurrency: usize,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let lines = lines(ready.program.description(), text);
    let total = lines.len();
    let clock = &ready.house.clock;
    let start = clock.monotonic();
    let mut batch = Batch::new(total);
    let mut waiting = lines.into_iter().enumerate();
    let mut running = JoinSet::new();
    loop {
        while running.len() < concurrency && !interrupt.is_requested() {
            let Some((index, line)) = waiting.next() else { break };
            match line.arguments {
                Err(error) => batch.finished(index, line.number, RunRecord::failed(error))?,
                Ok(arguments) => {
                    let run = ready.house.runtime.start(&ready.program, request(config, &arguments));
                    let (interrupt, clock) = (interrupt.clone(), clock.clone());
                    running.spawn(async move {
                        let (record, timeline) =
                            follow(run, &interrupt, || clock.monotonic().saturating_sub(start)).await;
                        (index, line.number, record, timeline)
                    });
                }
            }
        }
        // Nothing runs and nothing waits, or the user asked to stop.
        let Some(ended) = running.join_next().await else { break };
        let (index, number, record, timeline) = ended.map_err(Failure::other)?;
        batch.timeline.merge(timeline);
        batch.finished(index, number, record)?;
    }
    if config.stats {
        let wall = clock.monotonic().saturating_sub(start);
        batch.print_stats(wall, ready.startup);
    }
    if interrupt.is_requested() {
        return Err(Failure::Interrupted);
    }
    batch.outcome()
}

async fn follow(mut run: Run, interrupt: &Interrupt, elapsed: impl Fn() -> Duration) -> (RunRecord, Timeline) {
    let (mut record, mut timeline, mut cancelled) = (RunRecord::default(), Timeline::default(), false);
    // A run of this machine is followed to its end.
    while let Ok(Some(Told { event, .. })) = next_event(&mut run, &mut cancelled, interrupt).await {
        timeline.take(&event, elapsed());
        record.take(&event);
    }
    (record, timeline)
}

/// The lines that are not blank, parsed and checked; a bad one's error names its number in the file.
pub(crate) fn lines(description: &Description, text: &str) -> Vec<Line> {
    let check = |line: &str| {
        let arguments = parse_object("arguments", line).map_err(|error| Error::invalid(error.to_string()))?;
        let checked = Value::Object(arguments);
        description.check(&checked)?;
        match checked {
            Value::Object(arguments) => Ok(arguments),
            _ => Err(Error::invalid("arguments must be a JSON object")),
        }
    };
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    numbered
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(number, line)| Line {
            number,
            arguments: check(line)
                .map_err(|error| Error { message: format!("line {number}: {}", error.message), ..error }),
        })
        .collect()
}

/// What has ended, and what of it is printed.
pub(crate) struct Batch {
    bar: ProgressBar,
    total: usize,
    /// Ended, while one before is still running.
    held: BTreeMap<usize, String>,
    printed: usize,
    failed: usize,
    usage: sglhost_core::Usage,
    timeline: Timeline,
}

impl Batch {
    /// None of so many.
    pub(crate) fn new(total: usize) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total as u64), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:28.cyan/dim} {pos}/{len} runs  {elapsed} {eta:>8} left");
        // A template that does not parse is this file's mistake and costs the user only the bar's looks.
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("━╸─"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self {
            bar,
            total,
            held: BTreeMap::new(),
            printed: 0,
            failed: 0,
            usage: sglhost_core::Usage::default(),
            timeline: Timeline::default(),
        }
    }

    /// Prints the figures of all.
    pub(crate) fn print_stats(&self, wall: Duration, startup: Option<Duration>) {
        let (usage, timeline) = (self.usage, self.timeline);
        self.bar.finish_and_clear();
        print_stats(&Stats { runs: Some(self.total), usage, timeline, wall, startup });
    }

    /// How it ended, all in all.
    ///
    /// # Errors
    /// A line failed.
    pub(crate) fn outcome(&self) -> Result<(), Failure> {
        self.bar.finish_and_clear();
        if self.failed > 0 { Err(Failure::Batch { failed: self.failed, total: self.total }) } else { Ok(()) }
    }

    /// Takes the outcome of a line and prints all that is next in order.
    pub(crate) fn finished(&mut self, index: usize, number: usize, record: RunRecord) -> Result<(), Failure> {
        self.bar.inc(1);
        self.usage.add(record.usage());
        if let Some(error) = record.error() {
            self.failed += 1;
            // Where the results go into a file, the terminal is where the user looks.
            if !std::io::stdout().is_terminal() {
                let message = error.message.strip_prefix(&format!("line {number}: ")).unwrap_or(&error.message);
                self.bar.suspend(|| note(&format!("line {number}: {message}")));
            }
        }
        self.held.insert(index, record.to_json());
        let mut ready = String::new();
        while let Some(line) = self.held.remove(&self.printed) {
            ready.push_str(&line);
            ready.push('\n');
            self.printed += 1;
        }
        if ready.is_empty() {
            return Ok(());
        }
        self.bar
            .suspend(|| {
                let mut out = std::io::stdout().lock();
                out.write_all(ready.as_bytes()).and_then(|()| out.flush())
            })
            .map_err(Failure::from_output)
    }
}
