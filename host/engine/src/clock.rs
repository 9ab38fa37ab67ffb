//! The machine's own clock, for hosts; tests bring theirs.

#![allow(clippy::disallowed_methods, reason = "this is where the time that is handed in comes from")]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sglhost_core::Clock;

/// Time as the operating system tells it.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    fn wall(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
