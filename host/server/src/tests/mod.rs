//! Doubles for the server's own tests.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod memory_store;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sglhost_core::Clock;

pub(crate) use self::memory_store::MemoryStore;

/// A clock that a test moves.
#[derive(Debug, Default)]
pub(crate) struct TestClock(Mutex<Duration>);

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += by;
    }
}

impl Clock for TestClock {
    fn monotonic(&self) -> Duration {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wall(&self) -> Duration {
        Duration::from_secs(1_000_000) + self.monotonic()
    }
}
