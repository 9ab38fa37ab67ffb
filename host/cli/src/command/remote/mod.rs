//! What is asked of a server, a file for each thing.

mod batch;
mod list;
mod manage;
mod push;
mod run;
mod usage;

use std::path::Path;

use sglhost_runtime::Description;
use sglhost_store::ProgramReference;

pub(crate) use run::run;

use crate::{
    client::{Client, ClientError, path_of},
    config::client,
    environment::Environment,
    failure::Failure,
    flags::{ClientCommand, ServerFlags},
    interrupt::Interrupt,
};

/// Does what was asked.
///
/// # Errors
/// The server is not there, or refuses.
pub(crate) async fn perform(
    command: ClientCommand,
    environment: &Environment,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let client = |flags: &ServerFlags| client(flags.server.as_deref(), flags.key_file.as_deref(), environment);
    match command {
        ClientCommand::Push(flags) => push::push(client(&flags.server)?, flags, interrupt).await,
        ClientCommand::Ls(flags) => list::programs(client(&flags.server)?, flags, interrupt).await,
        ClientCommand::Runs(flags) => list::runs(client(&flags.server)?, flags, interrupt).await,
        ClientCommand::Rm { program, server } => manage::remove(client(&server)?, program, interrupt).await,
        ClientCommand::Tag { program, version, tag, server } => {
            let program = plain_name(&program)?;
            manage::tag(client(&server)?, program, version, check_tag(&tag)?, interrupt).await
        }
        ClientCommand::Logs(flags) => run::logs(&client(&flags.server)?, &flags, environment, interrupt).await,
        ClientCommand::Cancel { run, server } => manage::cancel(client(&server)?, run, interrupt).await,
        ClientCommand::Usage(flags) => usage::usage(client(&flags.server)?, flags, interrupt).await,
    }
}

/// Asks on a thread of its own. Ctrl-C ends the waiting: what was asked may happen all the same.
async fn ask<T: Send + 'static>(
    client: &Client,
    interrupt: &Interrupt,
    question: impl FnOnce(&Client) -> Result<T, ClientError> + Send + 'static,
) -> Result<T, Failure> {
    let client = client.clone();
    let answer = tokio::task::spawn_blocking(move || question(&client));
    tokio::select! {
        biased;
        answer = answer => Ok(answer.map_err(Failure::other)??),
        () = interrupt.requested() => Err(Failure::Interrupted),
    }
}

/// Names what was not found, where the server does not.
fn naming<T>(what: impl std::fmt::Display, answer: Result<T, Failure>) -> Result<T, Failure> {
    let what = what.to_string();
    match answer {
        Err(Failure::Client(error)) if error.is_not_found() && !error.to_string().contains(&what) => {
            Err(Failure::Other(format!("{what}: {error}")))
        }
        answer => answer,
    }
}

/// What the server's program says of itself, and what names this very version of it, whatever is pushed meanwhile.
///
/// # Errors
/// There is none.
pub(crate) async fn described(
    client: &Client,
    reference: ProgramReference,
    interrupt: &Interrupt,
) -> Result<(Description, String), Failure> {
    let name = path_of(&reference);
    let found = naming(name, ask(client, interrupt, move |client| client.program(&reference)).await)?;
    let exact = format!("{}@{}", found.name, found.version);
    let description = Description { name: found.title, description: found.description, arguments: found.arguments };
    Ok((description, exact))
}

/// What `run` was given in place of a file.
///
/// # Errors
/// It is a file's name, or none at all.
pub(crate) fn reference(program: &Path) -> Result<ProgramReference, Failure> {
    let text = program.to_string_lossy();
    text.parse().map_err(|error| {
        Failure::Usage(if program.extension().is_some_and(|end| end == "wasm") || program.exists() {
            format!(
                "{text} is a file, and a server runs programs by name: `sglhost push {text}` takes it there (to run it \
                 here, leave out --server and unset SGLHOST_SERVER)"
            )
        } else {
            format!("{text:?} names no program: {error}")
        })
    })
}

/// A program's name without a version.
fn plain_name(text: &str) -> Result<String, Failure> {
    match text.parse::<ProgramReference>() {
        Ok(reference) if reference.selector.is_none() => Ok(reference.name),
        Ok(_) => Err(Failure::Usage(format!("{text}: the program's name is wanted here, without a version"))),
        Err(error) => Err(Failure::Usage(format!("{text:?} names no program: {error}"))),
    }
}

fn check_tag(text: &str) -> Result<String, Failure> {
    let is_tag = sglhost_store::is_name(text) && !text.bytes().all(|byte| byte.is_ascii_digit());
    if is_tag {
        return Ok(text.to_owned());
    }
    Err(Failure::Usage(format!(
        "{text:?} cannot be a tag: one is 1 to 64 of a-z, 0-9, '-' and '_', begins with a letter or digit and is no number"
    )))
}

/// Characters of a line of standard output, if that is a terminal.
fn width() -> Option<usize> {
    terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0))
}

/// A time as the server writes it (RFC 3339), for people: to the second, in UTC.
fn display_time(time: &str) -> String {
    let seconds = time.get(..19).unwrap_or(time);
    seconds.replace('T', " ")
}
