//! The hosted service over HTTP.

mod admission;
mod api;
mod auth;
mod body;
mod config;
mod connection;
mod error;
mod front;
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
