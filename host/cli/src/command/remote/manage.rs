//! `sglhost rm`, `sglhost tag` and `sglhost cancel`.

use serde_json::{Value, json};
use sglhost_core::RunId;
use sglhost_store::ProgramReference;
use ureq::http::Method;

use super::{ask, naming};
use crate::{
    client::{Client, ProgramVersion, path_of},
    failure::Failure,
    interrupt::Interrupt,
    render::print,
};

/// Deletes a program, or one version of it.
///
/// # Errors
/// There is none, or the server refuses.
pub(super) async fn remove(client: Client, program: ProgramReference, interrupt: &Interrupt) -> Result<(), Failure> {
    let name = path_of(&program);
    let path = format!("/v1/programs/{name}");
    let answer: Value = naming(&name, ask(&client, interrupt, move |client| client.delete(&path)).await)?;
    let versions = answer.pointer("/deleted/versions").and_then(Value::as_u64).unwrap_or_default();
    let versions = if versions == 1 { "1 version".to_owned() } else { format!("{versions} versions") };
    print(&format!("deleted {name} ({versions})\n"))
}

/// Points a tag at a version.
///
/// # Errors
/// There is none, or the server refuses.
pub(super) async fn tag(
    client: Client,
    program: String,
    version: u32,
    tag: String,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let path = format!("/v1/programs/{program}/tags/{tag}");
    let body = json!({ "version": version });
    let tagged = ask(&client, interrupt, move |client| client.send(Method::PUT, &path, &body)).await;
    let tagged: ProgramVersion = naming(format!("{program}@{version}"), tagged)?;
    print(&format!("{}@{tag} is {}@{}\n", tagged.name, tagged.name, tagged.version))
}

/// Cancels a run and says how it ended.
///
/// # Errors
/// There is none, or the server refuses.
pub(super) async fn cancel(client: Client, run: RunId, interrupt: &Interrupt) -> Result<(), Failure> {
    let ended = naming(run, ask(&client, interrupt, move |client| client.cancel(run)).await)?;
    print(&format!("{run} {}\n", ended.status))
}
