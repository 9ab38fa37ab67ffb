//! The `sglhost` binary as its users meet it: the real binary, the real model, the example programs.
#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod arguments;
mod batch;
mod device;
mod errors;
mod events;
mod hub;
mod inspect;
mod languages;
mod models;
mod new_and_build;
mod output;
mod programs;
mod server;
mod show_programs;
mod stopping;
mod structured;
