//! The GPU device, run on the CPU twin of a GPU and held to the CPU device: see `twin.rs`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod attention;
mod both;
mod direct;
mod engine;
mod failures;
mod faults;
mod forward;
mod instructions;
mod linear;
mod orders;
mod passes;
mod random;
mod rows;
mod sample;
mod twin;
