//! A reader of a run's events.

use std::sync::Arc;

use bytes::Bytes;

use super::live::LiveRun;

/// Reads a run's events, one after the other.
#[derive(Debug)]
pub struct Follower {
    live: Arc<LiveRun>,
}

impl Follower {
    pub(super) fn new(live: Arc<LiveRun>) -> Self {
        Self { live }
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
        None
    }
}
