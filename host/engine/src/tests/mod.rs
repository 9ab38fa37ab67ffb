//! The real scheduler, cache and loop over a scripted model whose every token is known in advance.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod calls;
mod contexts;
mod pressure;
mod scripted;
