//! `sglhost ls` and `sglhost runs`.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{ask, display_time, naming, plain_name, width};
use crate::{
    client::{Client, ClientError, Listed, ProgramVersion, RunSummary},
    failure::Failure,
    flags::{ListFlags, RunsFlags},
    interrupt::Interrupt,
    render::{Table, note, print},
    units::{display_bytes, display_duration},
};

/// Characters of a digest that are shown; more are of no use to people.
const DIGEST_CHARS: usize = "sha256:".len() + 12;

/// Lists programs, or one's versions.
///
/// # Errors
/// The server refuses.
pub(super) async fn programs(client: Client, flags: ListFlags, interrupt: &Interrupt) -> Result<(), Failure> {
    let program = flags.program.as_deref().map(plain_name).transpose()?;
    let (path, field) = match &program {
        Some(name) => (format!("/v1/programs/{name}/versions"), "versions"),
        None => ("/v1/programs".to_owned(), "programs"),
    };
    let listed = ask(&client, interrupt, move |client| client.list(&path, field, u32::MAX)).await;
    let listed = naming(program.as_deref().unwrap_or("programs"), listed)?;
    if flags.json {
        return print(&format!("{:#}\n", json!({ (field): listed.items })));
    }
    let versions: Vec<ProgramVersion> = parse(&listed)?;
    if versions.is_empty() {
        note("no programs yet; `sglhost push FILE.wasm` takes one there");
        return Ok(());
    }
    let mut table = if program.is_some() {
        Table::new(&["VERSION", "TAGS", "SIZE", "PUSHED (UTC)", "DIGEST", "DESCRIPTION"], &[0, 2], width())
    } else {
        Table::new(&["NAME", "VERSION", "TAGS", "SIZE", "PUSHED (UTC)", "DESCRIPTION"], &[1, 3], width())
    };
    for it in versions {
        let (tags, size) = (it.tags.join(" "), display_bytes(it.size_bytes));
        let (version, time) = (it.version.to_string(), display_time(&it.created_at));
        table.row(if program.is_some() {
            let digest = it.digest.chars().take(DIGEST_CHARS).collect();
            [version, tags, size, time, digest, it.description]
        } else {
            [it.name, version, tags, size, time, it.description]
        });
    }
    print(&table.text())
}

/// Lists runs, the newest first.
///
/// # Errors
/// The server refuses.
pub(super) async fn runs(client: Client, flags: RunsFlags, interrupt: &Interrupt) -> Result<(), Failure> {
    let limit = flags.limit;
    let listed = ask(&client, interrupt, move |client| client.list("/v1/runs", "runs", limit)).await?;
    if flags.json {
        return print(&format!("{:#}\n", json!({ "runs": listed.items, "next": listed.next })));
    }
    let runs: Vec<RunSummary> = parse(&listed)?;
    if runs.is_empty() {
        note("no runs yet; `sglhost run --server URL NAME` starts one");
        return Ok(());
    }
    let mut table = Table::new(&["RUN", "PROGRAM", "STATUS", "STARTED (UTC)", "TIME", "TOKENS"], &[4, 5], width());
    for run in runs {
        let time = run.wall_time_ms.map(|time| display_duration(std::time::Duration::from_millis(time)));
        // Known at the end.
        let tokens = run.usage.filter(|_| time.is_some()).map(|usage| usage.prompt_tokens + usage.completion_tokens);
        table.row([
            run.id.to_string(),
            format!("{}@{}", run.program, run.version),
            run.status,
            display_time(&run.created_at),
            time.unwrap_or_default(),
            tokens.map(|tokens| tokens.to_string()).unwrap_or_default(),
        ]);
    }
    print(&table.text())?;
    if listed.next.is_some() {
        note(&format!("these are the newest {limit}; --limit shows more"));
    }
    Ok(())
}

fn parse<T: DeserializeOwned>(listed: &Listed) -> Result<Vec<T>, Failure> {
    let parse = |item: &Value| serde_json::from_value(item.clone());
    listed.items.iter().map(parse).collect::<Result<_, _>>().map_err(|error| {
        let reason = format!("an entry of a list: {error}");
        ClientError::Strange { address: "the server".to_owned(), reason }.into()
    })
}
