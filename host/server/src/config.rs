//! What a server is set up with, checked by whoever starts it.

use sglhost_core::limits::{HostLimits, RunLimits, ServerLimits};

/// Limits of a server, and what it calls itself.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// What it takes on over HTTP.
    pub limits: ServerLimits,
    /// What one run may use; a tenant's quotas may say less.
    pub run_limits: RunLimits,
    /// What all runs share.
    pub host_limits: HostLimits,
    /// The program's version.
    pub version: String,
}
