//! The engine: what a context holds, what a call asks for, and the loop that serves all calls together.
//!
//! *Invariants*: every accepted call ends in exactly one terminal event · memory pressure alone fails nothing: a
//! sequence waits, or is retracted and resumed · a reader that is slow or gone disturbs its own call only.
//!
//! *Boundary*: knows neither wasmtime nor hyper; other crates see it through [`Engine`] alone.

mod api;
mod call;
mod clock;
mod context;
mod engine_loop;
mod generation;
mod handle;
mod masks;
mod metrics;
mod output;
mod queue;
mod scheduler;
mod select;
mod sequence;
#[cfg(test)]
mod tests;
mod trie;

pub use api::{Call, CallEvent, Engine, Model, Outcome, Request, TokenLogprob, Work};
pub use clock::SystemClock;
pub use context::{Context, Continuations};
pub use handle::{EngineHandle, ServedModel, StartError};
pub use metrics::EngineMetrics;
