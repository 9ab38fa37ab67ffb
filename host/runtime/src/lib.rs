//! Prompt programs: compile, pool, limit and run WebAssembly components against an engine.
//!
//! ```text
//! Runtime::load   bytes ── inspect ── compile (disk cache) ── pre-link ── describe in the sandbox ──▶ Program
//!                 (with `isolation`: inspect, compile and describe in a process of their own)
//! Runtime::start  Program + RunRequest ──▶ Run { events }
//!                 one task per run: wait for a place, instantiate, call `run-program`, tear down, `RunFinished`
//!                 one task per context: its queue of operations, in order, against the engine
//! ```
//!
//! # Owns
//! Compiled programs, the instance pool, the limits of a run, and the mapping of the guest's calls to the engine's.
//!
//! # Invariants
//! - One store per run, dropped on return, trap, timeout and cancellation alike.
//! - A run's last event is `RunFinished`, exactly once, and after its start every started call has exactly one
//!   `CallFinished` or `CallFailed`.
//! - Operations on one context take effect in the order in which the guest made them.
//! - Nothing that a guest can make the host hold is unbounded: every count is taken from the run's ledger first.
//! - A run with a seed draws every random number from it, WASI's included.
//!
//! *Boundary*: knows no HTTP, no model and no device; sees an engine through [`sglhost_engine::Engine`] alone. Time and
//! randomness are handed in.

mod artifacts;
mod bindings;
mod call;
mod carry_out;
mod compile;
mod config;
mod constraints;
mod description;
mod error;
mod host;
mod interface;
mod isolation;
mod ledger;
mod limiter;
mod loading;
mod logs;
mod meter;
mod operation;
mod probe;
mod program;
mod queue;
mod run;
mod runtime;
mod sandbox;
mod shape;
mod stream;
mod supervise;
mod turns;
mod wasi;

pub use config::RuntimeConfig;
pub use description::Description;
pub use error::{CompileEnd, RuntimeError};
pub use isolation::{Isolation, compile_child, confine};
pub use probe::RunCost;
pub use program::Program;
pub use run::{Run, RunRequest};
pub use runtime::Runtime;
