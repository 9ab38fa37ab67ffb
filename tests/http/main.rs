//! The HTTP API over a real socket: real programs, a store on disk, an engine by script. Each answer is one that the
//! document of the API has for its address.
//!
//! *Not here*: what is meant to harm (`tests/attacks/http`), the registry of runs by itself (`tests/runs`), a real model
//! (`tests/e2e`), and odd requests by the thousand (`schemathesis.sh`).

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod batches;
mod events;
mod house;
mod keyed;
mod long;
mod programs;
mod runs;
mod starting;
mod stopping;
mod whole;
