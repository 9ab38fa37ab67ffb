//! The engine: what a context holds, what a call asks for, and the loop that serves all calls together.
//!
//! *Boundary*: knows neither wasmtime nor hyper; other crates see it through [`Engine`] alone.

mod api;
mod context;

pub use api::{Call, CallEvent, Engine, Model, Outcome, Request, TokenLogprob, Work};
pub use context::Context;
