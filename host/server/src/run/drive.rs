//! The task of a run: takes its events from the runtime, charges its tenant, and stores its end.
//!
//! # Invariants
//! - Whatever happens (a bug here or in the runtime, a store that fails for a while, a client that is gone) a run that
//!   began ends: once in the store, once for its readers. Only the end of the process comes before it; the next process
//!   takes that down.
//! - Readers learn of the end when it is stored, or when the store has failed to take it down at once.
//! - What a run's end adds to its tenant's counters is what it adds to the store.
//!
//! *Not here*: what programs say is never logged.

use std::sync::Arc;
use std::time::Duration;

use sglhost_core::limits::LIGHT_JSON_BYTES_MAX;
use sglhost_core::{Clock, Error, ErrorCode, Event, Usage};
use sglhost_runtime::Run;
use sglhost_store::{RunEnd, RunStatus, Store, StoreError, UsageDay, shortened};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::live::{CancelReason, LiveRun};
use super::log::{Entry, SlowReader};
use super::shelf::Shelf;
use crate::admission::Place;
use crate::metrics::Metrics;
use crate::tenant::Tenant;

/// What all those tasks share.
pub(super) struct Driver {
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shelf: Shelf,
    /// Where events are read, if not here: what a flood of them costs is then the program's, of low priority as it is.
    pub(super) guests: Option<Handle>,
    pub(super) slow_reader: Duration,
    pub(super) store_retry: Duration,
    pub(super) store_retry_max: Duration,
}

/// Where a run's events come from; a [`Run`], or a test.
pub(super) trait Source: Send + 'static {
    /// The events; `run.finished` is the last.
    fn events(&mut self) -> &mut mpsc::Receiver<Event>;

    /// Asks the run to end. Its events go on until `run.finished`.
    fn cancel(&self);
}

impl Source for Run {
    fn events(&mut self) -> &mut mpsc::Receiver<Event> {
        &mut self.events
    }

    fn cancel(&self) {
        Run::cancel(self);
    }
}

/// How a run ended, all of it written out: what it says may be megabytes.
struct Finish {
    end: RunEnd,
    last: Entry,
}

impl Driver {
    /// Takes a run to its end. The place is given back when that is stored.
    pub(super) async fn drive(
        self: Arc<Self>,
        live: Arc<LiveRun>,
        tenant: Arc<Tenant>,
        source: impl Source,
        place: Place,
    ) {
        // In a task of its own, so that a bug there is an end as well.
        let reading = Arc::clone(&self).read(Arc::clone(&live), Arc::clone(&tenant), source);
        let reading = match &self.guests {
            Some(guests) => guests.spawn(reading),
            None => tokio::spawn(reading),
        };
        let finish = match reading.await {
            Ok(Some(finish)) => finish,
            Ok(None) | Err(_) => {
                tracing::error!(run = %live.id(), "the run ended without an end: a bug");
                let result = Err(Error::unavailable("the host failed while running the program; see its log"));
                self.finish(&live, result, live.usage(), 0)
            }
        };
        let now = self.clock.monotonic();
        let charged = tokens(live.usage());
        tenant.charge_tokens(tokens(finish.end.usage).saturating_sub(charged), now);
        tenant.charge_cpu(finish.end.cpu_time_us, now);
        self.end(&live, finish, place).await;
    }

    /// A run that may or may not have been taken down, and does not begin: whatever the store has of it ends.
    pub(super) async fn abandon(self: Arc<Self>, live: Arc<LiveRun>, place: Option<Place>) {
        let end = self.discard(&live, Error::unavailable("the run did not begin: it could not be stored"));
        let _ = self.keep_storing(&live, &end).await;
        drop(place);
    }

    /// A run that did not begin, and of which the store has nothing.
    pub(super) fn never_began(&self, live: &LiveRun) {
        self.discard(live, Error::unavailable("the run did not begin"));
    }

    /// Whoever waits for it all the same is told.
    fn discard(&self, live: &LiveRun, error: Error) -> RunEnd {
        self.shelf.remove(live.id());
        let Finish { end, last } = self.finish(live, Err(error), Usage::default(), 0);
        live.publish(live.ended_row(&end), last);
        end
    }

    /// Takes events until `run.finished`, which it gives; none if the source ends without.
    async fn read(self: Arc<Self>, live: Arc<LiveRun>, tenant: Arc<Tenant>, mut source: impl Source) -> Option<Finish> {
        let mut stopping = false;
        loop {
            let event = tokio::select! {
                biased;
                () = live.cancelled.cancelled(), if !stopping => {
                    stop(&live, &source, &mut stopping);
                    continue;
                }
                event = source.events().recv() => event?,
            };
            live.take(&event);
            let now = self.clock.monotonic();
            match event {
                Event::CallFinished { usage, .. } => tenant.charge_tokens(tokens(usage), now),
                Event::RunFinished { result, usage, cpu_time_us } => {
                    return self.finish_aside(&live, result, usage, cpu_time_us).await;
                }
                _ => {}
            }
            let entry = Entry::new(&event, live.at_ms(now));
            while !stopping {
                tokio::select! {
                    biased;
                    () = live.cancelled.cancelled() => stop(&live, &source, &mut stopping),
                    pushed = live.log.push(entry.clone(), self.slow_reader) => match pushed {
                        Ok(()) => break,
                        Err(SlowReader) => live.cancel(CancelReason::SlowReader(self.slow_reader)),
                    },
                }
            }
            if stopping {
                // Nobody is waited for now: there is room at once.
                let _ = live.log.push(entry, self.slow_reader).await;
            }
        }
    }

    /// As [`Self::finish`], and what is long not on a thread that serves.
    async fn finish_aside(
        self: &Arc<Self>,
        live: &Arc<LiveRun>,
        result: Result<String, Error>,
        usage: Usage,
        cpu_time_us: u64,
    ) -> Option<Finish> {
        // Programs' threads are there for what programs cost.
        if self.guests.is_some() || live.record_bytes() <= LIGHT_JSON_BYTES_MAX {
            return Some(self.finish(live, result, usage, cpu_time_us));
        }
        let (driver, live) = (Arc::clone(self), Arc::clone(live));
        tokio::task::spawn_blocking(move || driver.finish(&live, result, usage, cpu_time_us)).await.ok()
    }

    /// Writes out how a run ended.
    fn finish(&self, live: &LiveRun, mut result: Result<String, Error>, usage: Usage, cpu_time_us: u64) -> Finish {
        let status = match &mut result {
            Ok(_) => RunStatus::Succeeded,
            // A program may end with that code by itself, too.
            Err(error) if error.code == ErrorCode::Cancelled && live.cancelled.is_cancelled() => {
                error.message = live.why_cancelled();
                RunStatus::Cancelled
            }
            Err(_) => RunStatus::Failed,
        };
        let finished_ms = millis(self.clock.wall());
        let record = live.take_record().ended(&result, usage).into();
        let error = result.as_ref().err().map(shortened);
        let end = RunEnd { status, finished_ms, record, error, usage, cpu_time_us };
        let last = Event::RunFinished { result, usage, cpu_time_us };
        Finish { end, last: Entry::new(&last, live.at_ms(self.clock.monotonic())) }
    }

    async fn end(&self, live: &LiveRun, finish: Finish, place: Place) {
        let Finish { end, last } = finish;
        let RunEnd { status, finished_ms, usage, cpu_time_us, .. } = end;
        let row = live.ended_row(&end);
        let wall_time_ms = finished_ms.saturating_sub(live.started_ms());
        tracing::info!(
            run = %live.id(), tenant = %live.tenant, program = %row.program, version = row.version, ?status,
            prompt_tokens = usage.prompt_tokens, cached_tokens = usage.cached_tokens,
            completion_tokens = usage.completion_tokens, cpu_time_us, wall_time_ms, "run ended"
        );
        let used = UsageDay { day_ms: 0, runs: 1, usage, cpu_time_us, wall_time_ms };
        // The place is back, and the counters are right, before anybody hears of the end.
        let first = self.try_storing(live, &end).await;
        if let Some(stored) = first {
            self.account(live, stored, status, &used);
            drop(place);
            self.publish(live, row, last);
            return;
        }
        self.publish(live, row, last);
        let stored = self.keep_storing(live, &end).await;
        self.account(live, stored, status, &used);
        drop(place);
    }

    fn publish(&self, live: &LiveRun, row: sglhost_store::RunRow, last: Entry) {
        live.publish(row, last);
        self.shelf.ended(live, self.clock.monotonic());
    }

    fn account(&self, live: &LiveRun, stored: Stored, status: RunStatus, used: &UsageDay) {
        self.metrics.ended(status, 1);
        if stored == Stored::Done {
            self.metrics.used(&live.tenant, used);
        }
    }

    /// Stores the end; none if the store failed.
    async fn try_storing(&self, live: &LiveRun, end: &RunEnd) -> Option<Stored> {
        // In a task of its own, so that a bug there is a failure like any other.
        let (store, id, end) = (Arc::clone(&self.store), live.id(), end.clone());
        let storing = tokio::spawn(async move { store.finish_run(id, end).await });
        let bug = |_| Err(StoreError::Failed("a bug, of which the log tells".to_owned()));
        match storing.await.unwrap_or_else(bug) {
            Ok(()) => Some(Stored::Done),
            // Removed together with its tenant.
            Err(StoreError::NotFound { .. }) => Some(Stored::Unknown),
            Err(error) => {
                self.metrics.store_failed();
                tracing::error!(run = %live.id(), "the run's end could not be stored, and is tried again: {error}");
                None
            }
        }
    }

    /// Tries until it is stored, less and less often.
    async fn keep_storing(&self, live: &LiveRun, end: &RunEnd) -> Stored {
        let mut pause = self.store_retry;
        loop {
            tokio::time::sleep(pause).await;
            if let Some(stored) = self.try_storing(live, end).await {
                return stored;
            }
            pause = pause.saturating_mul(2).min(self.store_retry_max);
        }
    }
}

/// What the store did with a run's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    /// It is taken down.
    Done,
    /// The store knows no such run.
    Unknown,
}

/// Passes the cancellation on. From then on nobody is waited for.
fn stop(live: &LiveRun, source: &impl Source, stopping: &mut bool) {
    *stopping = true;
    source.cancel();
    live.log.let_go();
}

fn tokens(usage: Usage) -> u64 {
    usage.prompt_tokens.saturating_add(usage.completion_tokens)
}

/// Since the Unix epoch.
pub(crate) fn millis(wall: Duration) -> u64 {
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}
