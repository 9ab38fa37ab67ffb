//! Time as a value that is handed in, so that tests and the simulator own it.

use std::time::Duration;

/// A source of time. The system's implementation lives above, in `engine`; tests bring their own.
pub trait Clock: Send + Sync {
    /// Time since an arbitrary origin; never goes back.
    fn monotonic(&self) -> Duration;

    /// Time since the Unix epoch, as a guest's wall clock shows it.
    fn wall(&self) -> Duration;
}
