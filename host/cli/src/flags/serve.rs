//! `sglhost serve`: a server for programs, on this machine's model.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use clap::Args;
use sglhost_core::limits::{HostLimits, ServerLimits};

use super::{DataFlags, EngineFlags, LimitFlags, ModelFlags};
use crate::units::parse_time_limit;

/// SGLang's own.
const PORT: u16 = 30_000;

/// `sglhost serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without tenants the server asks for no key and answers this machine alone; `sglhost tenant add` makes a \
                        first one, and takes effect on a server that runs. Ctrl-C ends runs in good order, a second one \
                        at once."
)]
pub(crate) struct ServeFlags {
    /// The address to listen on; one that other machines can reach takes tenants
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1", value_parser = parse_host, help_heading = "Server")]
    pub(crate) host: IpAddr,

    /// The port to listen on; 0 takes any that is free
    #[arg(long, value_name = "PORT", default_value_t = PORT, help_heading = "Server")]
    pub(crate) port: u16,

    /// Where programs, tenants and runs are kept.
    #[command(flatten)]
    pub(crate) data: DataFlags,

    /// Runs alive at once, of all tenants; one more is refused
    #[arg(long, value_name = "N", default_value_t = HostLimits::default().concurrent_runs_max, help_heading = "Server",
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) max_runs: u32,

    /// How long runs may go on after the server was told to stop, before they are cancelled [default: 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_time_limit, help_heading = "Server")]
    pub(crate) drain_timeout: Option<Duration>,

    /// Serve metrics at this address as well, to everybody who can reach it, as in 127.0.0.1:9090
    #[arg(long, value_name = "ADDRESS:PORT", help_heading = "Server")]
    pub(crate) metrics_listen: Option<SocketAddr>,

    /// What it runs on.
    #[command(flatten)]
    pub(crate) model: ModelFlags,
    /// How the engine serves many calls.
    #[command(flatten)]
    pub(crate) engine: EngineFlags,
    /// What each run may use.
    #[command(flatten)]
    pub(crate) limits: LimitFlags,
}

impl ServeFlags {
    /// What the server takes on over HTTP.
    pub(crate) fn server_limits(&self) -> ServerLimits {
        let default = ServerLimits::default();
        ServerLimits { drain_timeout: self.drain_timeout.unwrap_or(default.drain_timeout), ..default }
    }
}

/// An address; no name but this machine's own, which may not be looked up elsewhere.
fn parse_host(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(Ipv4Addr::LOCALHOST.into());
    }
    text.parse().map_err(|_| "it must be an IP address, as 127.0.0.1, ::1 or 0.0.0.0".to_owned())
}
