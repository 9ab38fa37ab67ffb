//! `sglhost tenant`: works on a server's data folder, beside a server that may be at work there and takes notice within
//! two seconds.

use std::{
    io::{BufRead, IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

use serde_json::json;
use sglhost_core::{Clock as _, Quotas, TenantId, Usage};
use sglhost_engine::SystemClock;
use sglhost_server::key::ApiKey;
use sglhost_store::{Footprint, KeyRecord, NewKey, SqliteStore, Store, TenantRecord, is_name};

use crate::{
    environment::Environment,
    failure::Failure,
    flags::{DataFlags, KeyCommand, QuotaFlags, TenantCommand},
    render::{Table, note, one_line, print},
    units::{display_bytes, display_day, display_duration},
};

/// What a tenant's first key is called.
const FIRST_KEY: &str = "first";
/// Characters of a key's label.
const LABEL_CHARS_MAX: usize = 64;

/// Does what was asked.
///
/// # Errors
/// There is no such tenant or key, or the folder cannot be used.
pub(crate) async fn tenant(command: TenantCommand, environment: &Environment) -> Result<(), Failure> {
    let make = |flags: &DataFlags| Desk::open(folder(flags, environment));
    let open = |flags: &DataFlags| Desk::open_existing(folder(flags, environment));
    match command {
        TenantCommand::Add { name, quotas, data } => make(&data)?.add(&name, &quotas).await,
        TenantCommand::Set { name, quotas, data } => open(&data)?.set(&name, &quotas).await,
        TenantCommand::Ls { json, data } => open(&data)?.list(json).await,
        TenantCommand::Rm { name, yes, data } => open(&data)?.remove(&name, yes).await,
        TenantCommand::Key(KeyCommand::Add { tenant, label, data }) => open(&data)?.add_key(&tenant, &label).await,
        TenantCommand::Key(KeyCommand::Ls { tenant, data }) => open(&data)?.list_keys(&tenant).await,
        TenantCommand::Key(KeyCommand::Rm { tenant, key, data }) => open(&data)?.remove_key(&tenant, &key).await,
    }
}

fn folder(flags: &DataFlags, environment: &Environment) -> PathBuf {
    flags.data.clone().unwrap_or_else(|| environment.data.clone())
}

/// Where tenants are dealt with: a data folder.
struct Desk {
    store: SqliteStore,
    folder: PathBuf,
    clock: SystemClock,
}

impl Desk {
    /// Makes the folder if it is not there.
    fn open(folder: PathBuf) -> Result<Self, Failure> {
        let store = SqliteStore::open_beside(&folder).map_err(Failure::other)?;
        Ok(Self { store, folder, clock: SystemClock::default() })
    }

    /// For what makes nothing: a folder that is not there was mistyped.
    fn open_existing(folder: PathBuf) -> Result<Self, Failure> {
        if !folder.exists() {
            return Err(Failure::Other(format!(
                "there is no data folder {}; --data or SGLHOST_DATA names another, `sglhost serve` and `sglhost tenant \
                 add` make one",
                folder.display()
            )));
        }
        Self::open(folder)
    }

    async fn add(&self, name: &str, quotas: &QuotaFlags) -> Result<(), Failure> {
        if !is_name(name) {
            return Err(Failure::Usage(format!(
                "no tenant can be called {name:?}; a name is 1 to 64 of a-z, 0-9, '-' and '_' and begins with a letter or \
                 digit"
            )));
        }
        if name == &*TenantId::local().0 {
            return Err(Failure::Usage(format!(
                "{name} is who uses a server without keys, and has no quotas; give the tenant another name"
            )));
        }
        let tenants = self.tenants().await?;
        if tenants.iter().any(|tenant| &*tenant.id.0 == name) {
            return Err(Failure::Other(format!(
                "there is a tenant {name} already; `sglhost tenant set` changes what it may use, `sglhost tenant key add` \
                 gives it another key"
            )));
        }
        let id = TenantId(name.into());
        let quotas = changed(Quotas::default(), quotas);
        self.store.put_tenant(&id, &quotas, self.now_ms()).await.map_err(Failure::other)?;
        note(&format!("tenant {name} is made, in {}; it may use", self.folder.display()));
        for line in quota_lines(&quotas) {
            note(&format!("  {line}"));
        }
        if tenants.is_empty() {
            note("it is the first one: a server on this folder asks everybody for a key from now on");
        }
        self.print_new_key(id, FIRST_KEY).await
    }

    async fn set(&self, name: &str, quotas: &QuotaFlags) -> Result<(), Failure> {
        let tenant = self.tenant(name).await?;
        let quotas = changed(tenant.quotas.clone(), quotas);
        if quotas == tenant.quotas {
            note(&format!("nothing is changed: tenant {name} may use"));
        } else {
            self.store.put_tenant(&tenant.id, &quotas, self.now_ms()).await.map_err(Failure::other)?;
            note(&format!("tenant {name} may use, from now on"));
        }
        for line in quota_lines(&quotas) {
            note(&format!("  {line}"));
        }
        Ok(())
    }

    async fn list(&self, as_json: bool) -> Result<(), Failure> {
        let tenants = self.tenants().await?;
        let totals = self.store.usage_totals().await.map_err(Failure::other)?;
        let mut listed = Vec::new();
        for tenant in tenants {
            let stored = self.store.footprint(&tenant.id).await.map_err(Failure::other)?;
            let total = totals.iter().find(|(id, ..)| *id == tenant.id);
            let (tokens, cpu_time_us, runs) =
                total.map(|(_, tokens, cpu, runs)| (*tokens, *cpu, *runs)).unwrap_or_default();
            listed.push(Listed { tenant, stored, tokens, cpu_time_us, runs });
        }
        if as_json {
            let tenants: Vec<_> = listed.iter().map(Listed::json).collect();
            return print(&format!("{:#}\n", json!({ "tenants": tenants })));
        }
        if listed.is_empty() {
            note(&format!(
                "no tenants in {}: a server that is started on it asks for no key, and answers this machine alone",
                self.folder.display()
            ));
        }
        print(&listed.iter().map(Listed::text).collect::<Vec<_>>().join("\n"))
    }

    async fn remove(&self, name: &str, yes: bool) -> Result<(), Failure> {
        let tenants = self.tenants().await?;
        let tenant = self.tenant(name).await?;
        let stored = self.store.footprint(&tenant.id).await.map_err(Failure::other)?;
        let what = format!(
            "tenant {name} with its {}, {} and runs",
            counted(tenant.keys.len(), "key"),
            versions(stored.programs),
        );
        let last = if tenants.len() == 1 {
            " It is the last one: a server that is started after that asks for no key."
        } else {
            ""
        };
        if !yes && !confirmed(&format!("Remove {what}?{last}"))? {
            return Err(Failure::Other("nothing is removed".to_owned()));
        }
        self.store.remove_tenant(&tenant.id).await.map_err(Failure::other)?;
        note(&format!("removed {what}"));
        Ok(())
    }

    async fn add_key(&self, name: &str, label: &str) -> Result<(), Failure> {
        let label = one_line(label);
        if label.chars().count() > LABEL_CHARS_MAX {
            return Err(Failure::Usage(format!("--label is longer than {LABEL_CHARS_MAX} characters")));
        }
        let tenant = self.tenant(name).await?;
        self.print_new_key(tenant.id, &label).await
    }

    /// Makes a key. Its text goes to standard output, with nothing around it, so that `> FILE` keeps it.
    async fn print_new_key(&self, tenant: TenantId, label: &str) -> Result<(), Failure> {
        let (key, record) = ApiKey::generate(label, self.now_ms()).map_err(Failure::other)?;
        let id = record.id.clone();
        self.store.add_key(NewKey { tenant: tenant.clone(), key: record }).await.map_err(Failure::other)?;
        note(&format!("key {id} of tenant {tenant}, which is shown this once:"));
        print(&format!("{}\n", key.text()))
    }

    async fn list_keys(&self, name: &str) -> Result<(), Failure> {
        let tenant = self.tenant(name).await?;
        if tenant.keys.is_empty() {
            note(&format!("tenant {name} has no keys; `sglhost tenant key add {name}` makes one"));
            return Ok(());
        }
        let mut table = Table::new(&["KEY", "LABEL", "MADE (UTC)"], &[], None);
        for KeyRecord { id, label, created_ms, .. } in tenant.keys {
            table.row([id, label, display_day(created_ms)]);
        }
        print(&table.text())
    }

    async fn remove_key(&self, name: &str, key: &str) -> Result<(), Failure> {
        let tenant = self.tenant(name).await?;
        // A whole key names itself too, though it had better not be on a command line.
        let id = key.strip_prefix("sgl_").map_or(key, |rest| rest.split('_').next().unwrap_or(rest));
        self.store.remove_key(&tenant.id, id).await.map_err(|error| match error {
            sglhost_store::StoreError::NotFound { .. } => Failure::Other(format!(
                "tenant {name} has no key {id}; `sglhost tenant key ls {name}` shows those it has"
            )),
            other => Failure::other(other),
        })?;
        note(&format!("removed key {id} of tenant {name}"));
        Ok(())
    }

    async fn tenants(&self) -> Result<Vec<TenantRecord>, Failure> {
        self.store.tenants().await.map_err(Failure::other)
    }

    async fn tenant(&self, name: &str) -> Result<TenantRecord, Failure> {
        let tenants = self.tenants().await?;
        tenants.into_iter().find(|tenant| &*tenant.id.0 == name).ok_or_else(|| {
            Failure::Other(format!(
                "there is no tenant {name:?} in {}; `sglhost tenant ls` shows those there are",
                self.folder.display()
            ))
        })
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.wall().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A tenant with what is told of it.
struct Listed {
    tenant: TenantRecord,
    stored: Footprint,
    tokens: Usage,
    cpu_time_us: u64,
    runs: u64,
}

impl Listed {
    fn text(&self) -> String {
        let Self { tenant, stored, tokens, .. } = self;
        let mut text = format!("{}  (since {})\n", tenant.id, display_day(tenant.created_ms));
        let mut lines = |name: &str, values: Vec<String>| {
            for (number, value) in values.iter().enumerate() {
                let name = if number == 0 { name } else { "" };
                text += format!("  {name:<9}{}", one_line(value)).trim_end();
                text.push('\n');
            }
        };
        lines("may use", quota_lines(&tenant.quotas));
        let keys = tenant.keys.iter().map(|key| match key.label.as_str() {
            "" => key.id.clone(),
            label => format!("{} ({label})", key.id),
        });
        lines("keys", if tenant.keys.is_empty() { vec!["none".to_owned()] } else { keys.collect() });
        let used = format!(
            "{}, {} prompt tokens ({} cached), {} completion tokens, {} of CPU",
            counted(usize::try_from(self.runs).unwrap_or(usize::MAX), "run"),
            tokens.prompt_tokens,
            tokens.cached_tokens,
            tokens.completion_tokens,
            display_duration(Duration::from_micros(self.cpu_time_us)),
        );
        lines("used", vec![used]);
        lines("keeps", vec![format!("{}, {}", versions(stored.programs), display_bytes(stored.program_bytes))]);
        text
    }

    fn json(&self) -> serde_json::Value {
        let Self { tenant, stored, tokens, cpu_time_us, runs } = self;
        let keys =
            tenant.keys.iter().map(|key| json!({ "id": key.id, "label": key.label, "created_ms": key.created_ms }));
        json!({
            "name": tenant.id,
            "created_ms": tenant.created_ms,
            "quotas": tenant.quotas,
            "keys": keys.collect::<Vec<_>>(),
            "used": { "runs": runs, "tokens": tokens, "cpu_time_us": cpu_time_us },
            "stored": { "programs": stored.programs, "program_bytes": stored.program_bytes },
        })
    }
}

/// Quotas with what flags say in place of what was there.
fn changed(quotas: Quotas, flags: &QuotaFlags) -> Quotas {
    let cpu_ms = flags.cpu_per_minute.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
    Quotas {
        tokens_per_minute: flags.tokens_per_minute.unwrap_or(quotas.tokens_per_minute),
        cpu_ms_per_minute: cpu_ms.unwrap_or(quotas.cpu_ms_per_minute),
        concurrent_runs_max: flags.concurrent_runs.unwrap_or(quotas.concurrent_runs_max),
        concurrent_requests_max: flags.concurrent_requests.unwrap_or(quotas.concurrent_requests_max),
        contexts_max: flags.contexts.unwrap_or(quotas.contexts_max),
        programs_max: flags.programs.unwrap_or(quotas.programs_max),
        program_bytes_max: flags.program_bytes.unwrap_or(quotas.program_bytes_max),
    }
}

/// Quotas for people, a line each.
pub(crate) fn quota_lines(quotas: &Quotas) -> Vec<String> {
    let count = |count: u64, max: u64| if count == max { "any number of".to_owned() } else { count.to_string() };
    let small = |number: u32| count(u64::from(number), u64::from(u32::MAX));
    let cpu = match quotas.cpu_ms_per_minute {
        u64::MAX => "any amount".to_owned(),
        time => display_duration(Duration::from_millis(time)),
    };
    let bytes = match quotas.program_bytes_max {
        u64::MAX => "of any size".to_owned(),
        bytes => format!("of {} together", display_bytes(bytes)),
    };
    vec![
        format!("{} tokens a minute", count(quotas.tokens_per_minute, u64::MAX)),
        format!("{cpu} of CPU a minute"),
        format!("{} runs at once, of {} contexts each", small(quotas.concurrent_runs_max), small(quotas.contexts_max)),
        format!("{} requests at once", small(quotas.concurrent_requests_max)),
        format!("{} versions of programs, {bytes}", small(quotas.programs_max)),
    ]
}

fn counted(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// What is kept, counted.
pub(crate) fn versions(number: u32) -> String {
    if number == 1 { "1 version of a program".to_owned() } else { format!("{number} versions of programs") }
}

/// Asks on the terminal; without one there is nobody to ask.
fn confirmed(question: &str) -> Result<bool, Failure> {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(Failure::Usage(format!("{question} Say so with --yes")));
    }
    let mut error = std::io::stderr().lock();
    // Who cannot see the question will not answer it.
    let _ = write!(error, "{question} [y/N] ").and_then(|()| error.flush());
    let mut answer = String::new();
    input.lock().read_line(&mut answer).map_err(|error| Failure::Io { path: "standard input".to_owned(), error })?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_change_what_they_name() {
        let flags = QuotaFlags {
            tokens_per_minute: Some(7),
            cpu_per_minute: Some(Duration::from_secs(2)),
            concurrent_runs: None,
            concurrent_requests: None,
            contexts: None,
            programs: None,
            program_bytes: Some(1 << 20),
        };
        let expect =
            Quotas { tokens_per_minute: 7, cpu_ms_per_minute: 2000, program_bytes_max: 1 << 20, ..Quotas::default() };
        assert_eq!(changed(Quotas::default(), &flags), expect);
    }

    #[test]
    fn quotas_for_people() {
        assert_eq!(
            quota_lines(&Quotas::default()),
            [
                "1000000 tokens a minute",
                "1 min 0 s of CPU a minute",
                "64 runs at once, of 256 contexts each",
                "512 requests at once",
                "1000 versions of programs, of 1.07 GB together",
            ]
        );
        assert_eq!(quota_lines(&Quotas::unlimited())[4], "any number of versions of programs, of any size");
    }
}
