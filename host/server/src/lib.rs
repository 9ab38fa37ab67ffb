//! The hosted service over HTTP.
//!
//! ```text
//! connection   accepts, times and ends connections          front, auth   around each request: its name, its tenant
//! api          a file for each resource                     body, heavy   bodies, within size, pace and room; long ones aside
//! run          live runs: admission, events, their ends     tenant, key   who may use it, and how much
//! page         the page, compiled in                        server        all of it, from its opening to its end
//! ```
//!
//! # Owns
//! Connections, live runs and their events, tenants as they are known in memory, metrics, the page.
//!
//! # Invariants
//! - A run is on disk before its client hears of it, and its usage is counted once, with its end.
//! - What is another tenant's is answered as what never was.
//! - Whatever a client sends, or does not read, has a limit in `core/limits.rs`; nobody waits for it without a deadline.
//!
//! *Boundary*: knows no model, no SQL and no wasmtime; time and randomness are handed in. TLS is a proxy's business.

mod admission;
mod api;
mod auth;
mod body;
mod config;
mod connection;
mod error;
mod front;
mod heavy;
mod json;
pub mod key;
mod metrics;
mod object;
mod page;
mod rate;
mod run;
mod server;
mod service;
mod sse;
mod tenant;
#[cfg(test)]
mod tests;

pub use config::ServerConfig;
pub use error::ApiError;
pub use metrics::Metrics;
pub use run::{Begun, Follower, LiveRun, RunHandle, Runs, RunsParts, StartRun};
pub use server::{OpenError, Server, ServerParts};
pub use service::Served;
pub use tenant::{Tenant, Tenants};
