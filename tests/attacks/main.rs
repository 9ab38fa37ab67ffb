//! Programs that do harm: each ends with its exact error while the run beside it goes on and finishes.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod behaviour;
mod bombs;
mod callers;
mod harm;
mod host;
mod isolation;
mod loading;
mod wasi;
