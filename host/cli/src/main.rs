//! The `sglhost` binary: reads the command line, the environment and files of configuration, puts the other crates
//! together and shows what happens.
//!
//! *Boundary*: nothing below this crate reads the environment or writes to the terminal.

mod arguments;
mod build;
mod client;
mod command;
mod compiling;
mod component;
mod config;
mod device;
mod engine;
mod environment;
mod explain;
mod failure;
mod flags;
mod guests;
mod interrupt;
mod language;
mod model;
mod new;
mod pip;
mod render;
mod restart;
mod split;
mod units;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};

use crate::{
    build::BuildOptions,
    config::{RemoteRunConfig, RunConfig, ServeConfig},
    environment::Environment,
    failure::Failure,
    flags::{Command, Flags},
    interrupt::Interrupt,
    new::NewOptions,
};

/// Threads that poll runs. They wait for the engine most of the time; its own threads do the computing.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    if let Some(order) = compiling::order() {
        return sglhost_runtime::compile_child(&order);
    }
    let command = Flags::command();
    let run = command.find_subcommand("run").cloned().unwrap_or_default();
    let line = split::split_run_line(&run, std::env::args_os().collect());
    let runs = line.get(1).is_some_and(|word| word == "run");
    // Mistakes, `--help` and `--version` end here, in clap's words and with its exit codes.
    let flags = command.try_get_matches_from(line).and_then(|matches| {
        let mut flags = Flags::from_arg_matches(&matches)?;
        if let (Command::Run(flags), Some(matches)) = (&mut flags.command, matches.subcommand_matches("run")) {
            flags.notice_local_flags(&run, matches);
        }
        Ok(flags)
    });
    let ended = match flags {
        Ok(flags) => perform(flags.command, run),
        Err(error) if runs => split::explain(error).exit(),
        Err(error) => error.exit(),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// What `run` was asked to do.
enum Wanted {
    /// On this machine.
    Here(Box<RunConfig>),
    /// On a server.
    Remote(Box<RemoteRunConfig>),
}

/// Does what was asked. `run` is clap's description of that command, for its help.
fn perform(command: Command, run: clap::Command) -> Result<(), Failure> {
    // Neither waits for anything but its own child, which Ctrl-C reaches too.
    match command {
        Command::Build(flags) => {
            let options = BuildOptions::new(flags.folder, Environment::read().cache);
            let options = BuildOptions { output: flags.output, profile: flags.profile, ..options };
            return build::build(&options).map(drop).map_err(Failure::other);
        }
        Command::New(flags) => {
            let options = NewOptions::new(flags.name, flags.lang);
            let folder = flags.folder.unwrap_or_else(|| options.folder.clone());
            return new::new_project(&NewOptions { folder, ..options }).map(drop).map_err(Failure::other);
        }
        _ => {}
    }
    let environment = Environment::read();
    // Before Ctrl-C means anything else than the end: a batch may come from a keyboard.
    let config = match &command {
        Command::Run(flags) if !flags.help => Some(match RemoteRunConfig::new(flags, &environment)? {
            Some(config) => Wanted::Remote(Box::new(config)),
            None => Wanted::Here(Box::new(RunConfig::new(flags, &environment)?)),
        }),
        _ => None,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(Failure::other)?;
    let ended = runtime.block_on(async {
        let interrupt = Interrupt::listen();
        match command {
            Command::Run(flags) => match config {
                Some(Wanted::Here(config)) => command::run::run(*config, &environment, &interrupt).await,
                Some(Wanted::Remote(config)) => command::remote::run(*config, &interrupt).await,
                None => command::program_help::print(run, &flags, &environment, &interrupt).await,
            },
            Command::Serve(flags) => {
                command::serve::serve(ServeConfig::new(&flags, &environment)?, &environment, &interrupt).await
            }
            Command::Client(command) => command::remote::perform(command, &environment, &interrupt).await,
            Command::Tenant(command) => command::tenant::tenant(command, &environment).await,
            Command::Inspect(flags) => command::inspect::inspect(&flags, &environment).await,
            Command::Model(command) => {
                tokio::task::block_in_place(|| command::model::model(&command, &environment, &interrupt))
            }
            Command::Build(_) | Command::New(_) => Ok(()),
        }
    });
    // What is still being opened or compiled when the user has seen the end is not waited for.
    runtime.shutdown_background();
    ended
}
