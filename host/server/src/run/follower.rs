//! A reader of a run's events, and whoever owns the run.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use sglhost_store::RunRow;
use tokio::sync::watch;

use super::live::{CancelReason, LiveRun};
use super::log::{Entry, Found};

/// Reads a run's events, one after the other.
pub struct Follower {
    live: Arc<LiveRun>,
    changed: watch::Receiver<()>,
    next: u64,
    owner: Option<Owner>,
}

/// A run for whoever started it. Dropping this, or the [`Follower`] it became, cancels the run unless it is detached.
#[must_use = "dropping it cancels the run unless it is detached"]
pub struct RunHandle {
    live: Arc<LiveRun>,
    owner: Option<Owner>,
}

/// Cancels the run when it is dropped. One that has ended stays as it is.
struct Owner(Arc<LiveRun>);

impl Follower {
    pub(super) fn new(live: Arc<LiveRun>, after: u64) -> Self {
        Self { changed: live.log.watch(), live, next: after.saturating_add(1), owner: None }
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> &Arc<LiveRun> {
        &self.live
    }

    /// The next event: its id, its kind (`call.delta`) and its JSON, which has no line breaks. None after
    /// `run.finished`; also if a reader that does not own the run was so slow that the next event is forgotten, in which
    /// case following again says 410. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<(u64, &'static str, Bytes)> {
        loop {
            // Before looking, so that what comes after is a change.
            self.changed.borrow_and_update();
            match self.live.log.find(self.next) {
                Found::Entry(Entry { kind, json }) => {
                    let id = self.next;
                    self.next += 1;
                    if self.owner.is_some() {
                        self.live.log.took(id);
                    }
                    return Some((id, kind, json));
                }
                Found::Never | Found::Forgotten => return None,
                Found::NotYet => {}
            }
            // The sender lives as long as the run's log, which we hold.
            self.changed.changed().await.ok()?;
        }
    }
}

impl RunHandle {
    pub(super) fn new(live: Arc<LiveRun>, detached: bool) -> Self {
        let owner = (!detached).then(|| Owner(Arc::clone(&live)));
        Self { live, owner }
    }

    /// The run.
    #[must_use]
    pub fn run(&self) -> &Arc<LiveRun> {
        &self.live
    }

    /// Its events from the first. The run waits for this reader once `run_events_bytes_max` are unread, unless it is
    /// detached.
    pub fn into_follower(self) -> Follower {
        Follower { owner: self.owner, ..Follower::new(self.live, 0) }
    }

    /// Waits until it has ended, and lets go of events meanwhile. Dropping this future cancels the run, unless it is
    /// detached.
    pub async fn ended(self) -> RunRow {
        self.live.log.let_go();
        self.live.ended().await
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.cancel(CancelReason::OwnerGone);
    }
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower").field("run", &self.live).field("next", &self.next).finish_non_exhaustive()
    }
}

impl fmt::Debug for RunHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunHandle").field("run", &self.live).finish_non_exhaustive()
    }
}
