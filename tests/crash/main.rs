//! The server is killed at a random moment of its work, again and again, and started on the same folder: nothing that it
//! acknowledged is missing, what was under way is said to be interrupted, and usage is what runs used.
//!
//! The real binary, with a tiny model, while clients upload, run, cancel, and tenants get keys from another process.
//! `SGLHOST_CRASHES` says how often it is killed (8 if it is not said), `SGLHOST_SEED` where chance begins; the seed of
//! a failure is printed.

#![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

mod clients;
mod ledger;
mod process;

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sglhost_core::{Quotas, TenantId};
use sglhost_server::key::ApiKey;
use sglhost_store::{NewKey, SqliteStore, Store as _};

use crate::clients::Clients;
use crate::ledger::Ledger;
use crate::process::Process;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost() {
    let crashes = number("SGLHOST_CRASHES").unwrap_or(8);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("SGLHOST_SEED").unwrap_or(now.as_nanos() as u64);
    println!("SGLHOST_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let ledger = Arc::new(Ledger::default());
    add_tenants(&data, &ledger).await;
    let mut process = Process::start(&data);
    clients::prepare(process.ready().await, &ledger).await;
    process.kill();
    let mut checked = 0;
    for crash in 0..crashes {
        let mut process = Process::start(&data);
        // Of some it is not even waited that they are ready: they die while they take up what was left.
        if random.random_bool(0.2) {
            tokio::time::sleep(Duration::from_millis(random.random_range(0..300))).await;
            process.kill();
            continue;
        }
        let start = Instant::now();
        let address = process.ready().await;
        let ready = start.elapsed();
        ledger.check(address).await;
        checked += 1;
        let check = start.elapsed() - ready;
        let clients = Clients::start(address, data.clone(), Arc::clone(&ledger), random.random());
        tokio::time::sleep(Duration::from_millis(random.random_range(100..2500))).await;
        process.kill();
        clients.stop().await;
        println!("crash {crash} (ready in {ready:.1?}, checked in {check:.1?}): {}", ledger.summary());
    }
    let mut process = Process::start(&data);
    ledger.check(process.ready().await).await;
    println!("{crashes} crashes, {} checks; {}", checked + 1, ledger.summary());
    ledger.assert_worth_it();
    process.kill();
}

/// As `sglhost tenant add` does it: on the folder, before there is a server.
async fn add_tenants(data: &Path, ledger: &Ledger) {
    let store = SqliteStore::open_beside(data).unwrap();
    for name in ["alice", "bob"] {
        let id = TenantId(name.into());
        let quotas = Quotas { concurrent_runs_max: 1000, cpu_ms_per_minute: 10_000_000, ..Quotas::unlimited() };
        store.put_tenant(&id, &quotas, 0).await.unwrap();
        let (key, record) = ApiKey::generate("first", 0).unwrap();
        store.add_key(NewKey { tenant: id, key: record }).await.unwrap();
        ledger.key(name, key.text());
    }
}
