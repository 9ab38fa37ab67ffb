//! Runs as a server keeps them: a real runtime, real programs, a store on disk, an engine by script.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod house;
mod idempotent;
mod limits;
mod sums;
mod whole;
