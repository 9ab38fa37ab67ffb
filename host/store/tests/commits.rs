//! How fast it is: `cargo test --workspace --test commits -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic, and measures real time")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use sglhost_core::{ProgramId, RunId, TenantId, Usage};
use sglhost_store::{NewRun, Page, RunEnd, RunStatus, SqliteStore, Store};
use tokio::task::JoinSet;

const PERIOD: Duration = Duration::from_secs(3);

fn run(id: u64) -> NewRun {
    let digest = ProgramId("0".repeat(64).into());
    let (tenant, program) = (TenantId::local(), "program".to_owned());
    NewRun { id: RunId(id), tenant, program, version: 1, digest, started_ms: 1, idempotency: None }
}

fn end() -> RunEnd {
    let usage = Usage { prompt_tokens: 100, cached_tokens: 50, completion_tokens: 20 };
    let record = json!({"result": {"answer": "a".repeat(500)}, "variables": {}, "usage": usage}).to_string().into();
    RunEnd { status: RunStatus::Succeeded, finished_ms: 2, record, error: None, usage, cpu_time_us: 3 }
}

/// Runs that `writers` start and end one after the other; how long each change took, sorted.
async fn write(store: &Arc<SqliteStore>, writers: u64, first_id: u64) -> Vec<Duration> {
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for writer in 0..writers {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            let (mut id, mut took) = (first_id + writer, Vec::new());
            while start.elapsed() < PERIOD {
                let before = Instant::now();
                store.start_run(run(id)).await.unwrap();
                took.push(before.elapsed());
                let before = Instant::now();
                store.finish_run(RunId(id), end()).await.unwrap();
                took.push(before.elapsed());
                id += writers;
            }
            took
        });
    }
    let mut took = tasks.join_all().await.concat();
    took.sort_unstable();
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it measures and asserts nothing"]
async fn commits() {
    // In the build's folder: the system's temporary one may be in memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Arc::new(SqliteStore::open(folder.path()).unwrap());
    let mut first_id = 0;
    for writers in [1, 8, 64, 256] {
        let took = write(&store, writers, first_id).await;
        first_id += 10_000_000;
        let percentile = |percent: usize| took[(took.len() - 1) * percent / 100];
        println!(
            "{writers:3} writers: {:6.0} changes/s; a change takes {:?} (median), {:?} (p99), {:?} (most)",
            took.len() as f64 / PERIOD.as_secs_f64(),
            percentile(50),
            percentile(99),
            percentile(100)
        );
    }
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move { write(&store, 64, 1 << 40).await }
    });
    let mut took = Vec::new();
    while !writing.is_finished() {
        let before = Instant::now();
        store.runs(&TenantId::local(), &Page { after: None, limit: 100 }).await.unwrap();
        took.push(before.elapsed());
    }
    took.sort_unstable();
    let (median, p99) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("a list of 100 while 64 write: {median:?} (median), {p99:?} (p99); {} lists", took.len());
}
