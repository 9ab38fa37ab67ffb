//! `sglhost tenant`: who may use a server, and how much.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

use crate::units::{parse_size, parse_time_limit};

/// `sglhost tenant`.
#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Make a tenant with a first key, which is printed once
    Add {
        /// Its name: a-z, 0-9, '-' and '_'
        #[arg(value_name = "NAME")]
        name: String,
        /// What it may use.
        #[command(flatten)]
        quotas: QuotaFlags,
        /// Where it is kept.
        #[command(flatten)]
        data: DataFlags,
    },
    /// Change what a tenant may use; what is not given stays
    Set {
        /// Which
        #[arg(value_name = "NAME")]
        name: String,
        /// What it may use.
        #[command(flatten)]
        quotas: QuotaFlags,
        /// Where it is kept.
        #[command(flatten)]
        data: DataFlags,
    },
    /// List tenants: what they may use, their keys, what they used and keep
    Ls {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Where they are kept.
        #[command(flatten)]
        data: DataFlags,
    },
    /// Remove a tenant with its keys, programs and runs
    Rm {
        /// Which
        #[arg(value_name = "NAME")]
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Where it is kept.
        #[command(flatten)]
        data: DataFlags,
    },
    /// Add, list and remove a tenant's keys
    #[command(subcommand)]
    Key(KeyCommand),
}

/// `sglhost tenant key`.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyCommand {
    /// Add a key, and print it: this once
    Add {
        /// The tenant
        #[arg(value_name = "TENANT")]
        tenant: String,
        /// What it is called in lists
        #[arg(long, value_name = "TEXT", default_value = "")]
        label: String,
        /// Where it is kept.
        #[command(flatten)]
        data: DataFlags,
    },
    /// List a tenant's keys by their ids; no key can be shown again
    Ls {
        /// The tenant
        #[arg(value_name = "TENANT")]
        tenant: String,
        /// Where they are kept.
        #[command(flatten)]
        data: DataFlags,
    },
    /// Remove a key; a running server refuses it within two seconds
    Rm {
        /// The tenant
        #[arg(value_name = "TENANT")]
        tenant: String,
        /// The key's id: the six characters after `sgl_`
        #[arg(value_name = "KEY-ID")]
        key: String,
        /// Where it is kept.
        #[command(flatten)]
        data: DataFlags,
    },
}

/// Where a server keeps things.
#[derive(Debug, Args)]
pub(crate) struct DataFlags {
    /// The server's data folder [default: what SGLHOST_DATA says, or sglhost in the user's data folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// What a tenant may use.
#[derive(Debug, Args)]
#[command(next_help_heading = "Quotas")]
pub(crate) struct QuotaFlags {
    /// Tokens of prompts and outputs in a minute [default: 1000000]
    #[arg(long, value_name = "N")]
    pub(crate) tokens_per_minute: Option<u64>,

    /// CPU time of its programs' own code in a minute, all together [default: 60s]
    #[arg(long, value_name = "TIME", value_parser = parse_time_limit)]
    pub(crate) cpu_per_minute: Option<Duration>,

    /// Runs at once [default: 64]
    #[arg(long, value_name = "N")]
    pub(crate) concurrent_runs: Option<u32>,

    /// Requests that are being answered at once; whoever follows a run is one [default: 512]
    #[arg(long, value_name = "N")]
    pub(crate) concurrent_requests: Option<u32>,

    /// Contexts that one run may have open [default: 256]
    #[arg(long, value_name = "N")]
    pub(crate) contexts: Option<u32>,

    /// Versions of programs that are kept [default: 1000]
    #[arg(long, value_name = "N")]
    pub(crate) programs: Option<u32>,

    /// Bytes of those programs, all together [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub(crate) program_bytes: Option<u64>,
}
