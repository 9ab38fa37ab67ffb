//! One run, from its start until its events are forgotten.

use std::fmt;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use sglhost_core::{Event, RunId, RunRecord, TenantId, Usage};
use sglhost_store::{RunEnd, RunRow};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::drive::millis;
use super::follower::Follower;
use super::log::{Entry, EventLog};
use crate::error::ApiError;

/// What a run takes in memory besides its events and its record.
const RUN_BYTES: usize = 1024;
/// What a variable, or a context, takes besides its texts.
const FIELD_BYTES: usize = 64;

/// A run under way, or one that ended and whose events are still kept.
pub struct LiveRun {
    pub(super) tenant: TenantId,
    /// As it was when it began.
    begun: RunRow,
    /// When that was, by the monotonic clock.
    began: Duration,
    /// The client's key, and SHA-256 of what it asked for.
    pub(super) idempotency: Option<(String, [u8; 32])>,
    pub(super) log: EventLog,
    /// Cancelled when the run is to end; also by its tenant's removal.
    pub(super) cancelled: CancellationToken,
    /// Cancelled when its tenant is removed: who takes that name later is somebody else.
    pub(super) tenant_gone: CancellationToken,
    reason: OnceLock<CancelReason>,
    progress: Mutex<Progress>,
    ended: watch::Sender<Option<Arc<RunRow>>>,
}

/// What is known of a run so far. Here, and not in the task that reads its events, so that it outlives a bug there.
#[derive(Debug, Default)]
struct Progress {
    record: RunRecord,
    /// Over the calls that have finished.
    usage: Usage,
    /// Bytes of the record, about.
    record_bytes: usize,
}

/// Why a run is ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CancelReason {
    /// Somebody asked for it.
    Asked,
    /// Whoever started it is gone.
    OwnerGone,
    /// Whoever started it took nothing for so long.
    SlowReader(Duration),
    /// The server stops.
    Stopping,
}

/// What a run is from the beginning.
pub(super) struct Beginning {
    pub(super) tenant: TenantId,
    pub(super) row: RunRow,
    /// By the monotonic clock.
    pub(super) began: Duration,
    pub(super) idempotency: Option<(String, [u8; 32])>,
    pub(super) detached: bool,
    pub(super) tenant_gone: CancellationToken,
    pub(super) events_bytes_max: usize,
}

impl LiveRun {
    pub(super) fn new(beginning: Beginning) -> Arc<Self> {
        Arc::new(Self {
            tenant: beginning.tenant,
            begun: beginning.row,
            began: beginning.began,
            idempotency: beginning.idempotency,
            log: EventLog::new(beginning.events_bytes_max, !beginning.detached),
            cancelled: beginning.tenant_gone.child_token(),
            tenant_gone: beginning.tenant_gone,
            reason: OnceLock::new(),
            progress: Mutex::default(),
            ended: watch::Sender::new(None),
        })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.begun.id
    }

    /// As it stands now.
    #[must_use]
    pub fn row(&self) -> RunRow {
        self.ended.borrow().as_deref().unwrap_or(&self.begun).clone()
    }

    /// Its events with ids above `after`, those to come included. Who only follows does not own: dropping it changes
    /// nothing for the run.
    ///
    /// # Errors
    /// 410 if the next one is forgotten already.
    pub fn follow(self: &Arc<Self>, after: u64) -> Result<Follower, ApiError> {
        let first = self.log.first();
        if after.saturating_add(1) < first {
            let id = self.id();
            return Err(ApiError::gone(format!(
                "the events of run {id} after {after} are not all kept any more; the first that is there is {first}: \
                 follow with after={}",
                first - 1
            )));
        }
        Ok(Follower::new(Arc::clone(self), after))
    }

    /// Waits until it has ended.
    pub async fn ended(&self) -> RunRow {
        let mut ended = self.ended.subscribe();
        // It fails only without a sender, which is ours.
        let row = ended.wait_for(Option::is_some).await.map(|row| row.as_deref().cloned());
        row.ok().flatten().unwrap_or_else(|| self.begun.clone())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Asks for its end. The first reason is the one that is told.
    pub(super) fn cancel(&self, reason: CancelReason) {
        if !self.has_ended() {
            let _ = self.reason.set(reason);
            self.cancelled.cancel();
        }
    }

    /// Why it was ended early, for people.
    pub(super) fn why_cancelled(&self) -> String {
        match self.reason.get() {
            Some(CancelReason::Asked) => "the run was cancelled by its caller".to_owned(),
            Some(CancelReason::OwnerGone) => {
                "whoever started the run went away; start it with \"detach\": true to let it go on".to_owned()
            }
            Some(CancelReason::SlowReader(patience)) => format!(
                "whoever started the run took none of its events for {} s (slow_reader); read faster, or start it with \
                 \"detach\": true and follow its events",
                patience.as_secs_f64()
            ),
            Some(CancelReason::Stopping) => "the server was stopped before the run ended".to_owned(),
            None => "the run's tenant was removed".to_owned(),
        }
    }

    /// Takes an event into what is known of the run.
    pub(super) fn take(&self, event: &Event) {
        let mut progress = self.lock();
        match event {
            Event::CallFinished { name, text, usage, .. } => {
                progress.usage.add(*usage);
                progress.record_bytes += name.as_ref().map_or(0, |name| name.len() + text.len() + FIELD_BYTES);
            }
            Event::ContextOpened { .. } => progress.record_bytes += FIELD_BYTES,
            // Its result goes into the record as it is: see `take_record`.
            Event::RunFinished { result: Ok(result), .. } => {
                progress.record_bytes += result.len();
                return;
            }
            Event::RunFinished { .. } => return,
            _ => {}
        }
        progress.record.take(event);
    }

    /// What its calls said; it is no more here then.
    pub(super) fn take_record(&self) -> RunRecord {
        mem::take(&mut self.lock().record)
    }

    /// Over the calls that have finished.
    pub(super) fn usage(&self) -> Usage {
        self.lock().usage
    }

    /// Milliseconds since it began.
    pub(super) fn at_ms(&self, now: Duration) -> u64 {
        millis(now.saturating_sub(self.began))
    }

    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everybody that it ended, and how.
    pub(super) fn publish(&self, row: RunRow, last: Entry) {
        self.ended.send_replace(Some(Arc::new(row)));
        self.log.end(last);
        // What is in the row need not be here as well.
        self.take_record();
    }

    /// The row at the end, from the one at the beginning.
    pub(super) fn ended_row(&self, end: &RunEnd) -> RunRow {
        RunRow {
            status: end.status,
            finished_ms: Some(end.finished_ms),
            record: Some(Arc::clone(&end.record)),
            error: end.error.clone(),
            usage: end.usage,
            cpu_time_us: end.cpu_time_us,
            ..self.begun.clone()
        }
    }

    pub(super) fn started_ms(&self) -> u64 {
        self.begun.started_ms
    }

    /// Bytes of its record, about.
    pub(super) fn record_bytes(&self) -> usize {
        self.lock().record_bytes
    }

    /// Memory it takes.
    pub(super) fn bytes(&self) -> usize {
        RUN_BYTES + self.record_bytes() + self.log.bytes()
    }
}

/// Without its texts.
impl fmt::Debug for LiveRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveRun").field("tenant", &self.tenant).field("id", &self.id()).finish_non_exhaustive()
    }
}
