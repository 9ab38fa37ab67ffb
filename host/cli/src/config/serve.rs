//! What `serve` was asked to do, checked.

use std::{net::SocketAddr, path::PathBuf};

use sglhost_core::limits::{HostLimits, RunLimits, ServerLimits};

use super::{EngineConfig, ModelConfig, limits};
use crate::{
    environment::Environment,
    failure::Failure,
    flags::{LogLevel, ServeFlags},
};

/// What `serve` does.
#[derive(Debug)]
pub(crate) struct ServeConfig {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Where it serves metrics alone.
    pub(crate) metrics_address: Option<SocketAddr>,
    /// Where it keeps what must outlive it.
    pub(crate) data: PathBuf,
    /// What it takes on over HTTP.
    pub(crate) server_limits: ServerLimits,
    /// What all runs share.
    pub(crate) host_limits: HostLimits,
    /// What each run may use.
    pub(crate) run_limits: RunLimits,
    /// The model and what it runs on.
    pub(crate) model: ModelConfig,
    /// How the engine serves many calls.
    pub(crate) engine: EngineConfig,
    /// What is written to standard error.
    pub(crate) log_level: LogLevel,
}

impl ServeConfig {
    /// Checks flags against each other and against the world.
    ///
    /// # Errors
    /// A value out of its range, a model that is not known.
    pub(crate) fn new(flags: &ServeFlags, environment: &Environment) -> Result<Self, Failure> {
        Ok(Self {
            address: SocketAddr::new(flags.host, flags.port),
            metrics_address: flags.metrics_listen,
            data: flags.data.data.clone().unwrap_or_else(|| environment.data.clone()),
            server_limits: flags.server_limits(),
            host_limits: HostLimits { concurrent_runs_max: flags.max_runs, ..HostLimits::default() },
            run_limits: limits(&flags.limits),
            model: ModelConfig::new(&flags.model, environment)?,
            engine: EngineConfig::new(&flags.engine),
            log_level: flags.engine.log_level.unwrap_or(LogLevel::Info),
        })
    }
}
