//! The commands that ask something of a server.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sglhost_core::RunId;
use sglhost_store::ProgramReference;

/// What is asked of a server.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Take a component to a server, as the next version of a program
    Push(PushFlags),
    /// List the programs on a server, or the versions of one
    Ls(ListFlags),
    /// Delete a program from a server, or one version of it
    Rm {
        /// NAME for all versions; NAME@3, NAME@TAG or NAME@sha256:DIGEST for one
        #[arg(value_name = "NAME[@VERSION]")]
        program: ProgramReference,
        /// Which server.
        #[command(flatten)]
        server: ServerFlags,
    },
    /// Point a tag of a program at a version
    Tag {
        /// The program
        #[arg(value_name = "NAME")]
        program: String,
        /// The version's number
        #[arg(value_name = "VERSION")]
        version: u32,
        /// The tag; it points nowhere else any more
        #[arg(value_name = "TAG")]
        tag: String,
        /// Which server.
        #[command(flatten)]
        server: ServerFlags,
    },
    /// List the runs on a server, the newest first
    Runs(RunsFlags),
    /// Show a run on a server: its text so far, and as it grows
    Logs(LogsFlags),
    /// Cancel a run on a server
    Cancel {
        /// Its id, from `sglhost run --detach` or `sglhost runs`
        #[arg(value_name = "RUN")]
        run: RunId,
        /// Which server.
        #[command(flatten)]
        server: ServerFlags,
    },
    /// Show what was used on a server, day by day, and what may be used
    Usage(UsageFlags),
}

/// Which server, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub(crate) struct ServerFlags {
    /// The server's address [default: what SGLHOST_SERVER says, or http://127.0.0.1:30000]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// A file that holds the key to show it [default: what SGLHOST_KEY says]
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
}

/// `sglhost push`.
#[derive(Debug, Args)]
pub(crate) struct PushFlags {
    /// A component
    #[arg(value_name = "FILE.wasm")]
    pub(crate) file: PathBuf,

    /// The program's name on the server [default: the file's, without .wasm]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// A tag to point at this version, as in `--tag stable`
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Option<String>,

    /// Which server.
    #[command(flatten)]
    pub(crate) server: ServerFlags,
}

/// `sglhost ls`.
#[derive(Debug, Args)]
pub(crate) struct ListFlags {
    /// A program, for its versions
    #[arg(value_name = "NAME")]
    pub(crate) program: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Which server.
    #[command(flatten)]
    pub(crate) server: ServerFlags,
}

/// `sglhost runs`.
#[derive(Debug, Args)]
pub(crate) struct RunsFlags {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Which server.
    #[command(flatten)]
    pub(crate) server: ServerFlags,
}

/// `sglhost logs`.
#[derive(Debug, Args)]
pub(crate) struct LogsFlags {
    /// Its id, from `sglhost run --detach` or `sglhost runs`
    #[arg(value_name = "RUN")]
    pub(crate) run: RunId,

    /// What is printed.
    #[command(flatten)]
    pub(crate) output: super::OutputFlags,

    /// Which server.
    #[command(flatten)]
    pub(crate) server: ServerFlags,
}

/// `sglhost usage`.
#[derive(Debug, Args)]
pub(crate) struct UsageFlags {
    /// From this day on (UTC), as in 2026-11-01
    #[arg(long, value_name = "DAY")]
    pub(crate) since: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,

    /// Which server.
    #[command(flatten)]
    pub(crate) server: ServerFlags,
}
