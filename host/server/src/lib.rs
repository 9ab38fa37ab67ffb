//! The hosted service over HTTP.

mod admission;
mod config;
mod error;
pub mod key;
mod metrics;
mod rate;
mod run;
mod tenant;

pub use config::ServerConfig;
pub use error::ApiError;
pub use metrics::Metrics;
pub use run::{Begun, Follower, LiveRun, RunHandle, Runs, RunsParts, StartRun};
pub use tenant::{Tenant, Tenants};
