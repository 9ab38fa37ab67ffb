//! A process that writes is killed at any moment; whatever it was told to be kept must be there.
//!
//! The process is this one again, which runs the test [`child`] alone; it says on its standard output what the store
//! acknowledged. (What a machine that loses power keeps is up to the disk doing what `fsync` asks; a kill cannot show
//! that.)

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic and reads its own variable")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, mpsc},
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use sglhost_core::{ProgramId, Quotas, RunId, TenantId, Usage};
use sglhost_store::{
    KeyRecord, NewKey, NewProgram, NewRun, Page, ProgramReference, RunEnd, RunStatus, SqliteStore, Store,
};
use sha2::{Digest, Sha256};

/// Where the child writes, and its seed.
const FOLDER: &str = "SGLHOST_TEST_STORE_FOLDER";
const SEED: &str = "SGLHOST_TEST_STORE_SEED";
const KILLS: u64 = 10;
const WRITERS: u64 = 8;

/// What was acknowledged, over all the processes.
#[derive(Default)]
struct Acknowledged {
    started: BTreeSet<RunId>,
    /// With their tokens.
    ended: BTreeMap<RunId, u64>,
    /// `NAME@VERSION` and digest.
    programs: BTreeMap<String, String>,
    keys: BTreeSet<String>,
    lines: usize,
}

impl Acknowledged {
    fn take(&mut self, line: &str) {
        // A line that was cut off lacks its last word.
        let Some(words) = line.strip_suffix(" .") else { return };
        let words: Vec<&str> = words.split(' ').collect();
        match *words {
            ["started", id] => drop(self.started.insert(id.parse().unwrap())),
            ["ended", id, tokens] => drop(self.ended.insert(id.parse().unwrap(), tokens.parse().unwrap())),
            ["put", program, digest] => drop(self.programs.insert(program.to_owned(), digest.to_owned())),
            // Said before it is asked for: from then on it may be there or not.
            ["deleting", program] => drop(self.programs.remove(program)),
            ["key", id] => drop(self.keys.insert(id.to_owned())),
            _ => return,
        }
        self.lines += 1;
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(5);
    let mut acknowledged = Acknowledged::default();
    for seed in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .env(SEED, seed.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (begun, begins) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let lines = output.lines().map_while(Result::ok);
            lines
                .inspect(|line| {
                    if line.ends_with(" .") {
                        let _ = begun.send(());
                    }
                })
                .collect::<Vec<String>>()
        });
        begins.recv().unwrap();
        std::thread::sleep(Duration::from_millis(rng.random_range(0..400)));
        child.kill().unwrap();
        child.wait().unwrap();
        let before = acknowledged.lines;
        reader.join().unwrap().iter().for_each(|line| acknowledged.take(line));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(check(folder.path(), &acknowledged));
        eprintln!("kill {seed}: {} acknowledged and there", acknowledged.lines - before);
    }
    assert!(acknowledged.ended.len() > 100 && acknowledged.programs.len() > 10 && acknowledged.keys.len() > 10);
}

async fn check(folder: &Path, acknowledged: &Acknowledged) {
    let store = SqliteStore::open(folder).unwrap();
    let tenant = TenantId("t".into());
    store.interrupt_runs(1000).await.unwrap();

    let mut runs = BTreeMap::new();
    let mut page = Page { after: None, limit: 1000 };
    loop {
        let part = store.runs(&tenant, &page).await.unwrap();
        let Some(last) = part.last() else { break };
        page.after = Some(last.id.to_string());
        runs.extend(part.into_iter().map(|run| (run.id, run)));
    }
    for id in &acknowledged.started {
        assert!(runs.contains_key(id), "run {id} is gone");
    }
    for (id, &tokens) in &acknowledged.ended {
        let run = &runs[id];
        assert_eq!((run.status, run.usage.prompt_tokens), (RunStatus::Succeeded, tokens));
    }
    let mut sum = Usage::default();
    runs.values().for_each(|run| sum.add(run.usage));
    let cpu_time_us = runs.values().map(|run| run.cpu_time_us).sum();
    let totals = store.usage_totals().await.unwrap();
    assert_eq!(totals, [(tenant.clone(), sum, cpu_time_us, runs.len() as u64)]);

    for (program, digest) in &acknowledged.programs {
        let reference: ProgramReference = program.parse().unwrap();
        let version = store.program(&tenant, &reference).await.unwrap().unwrap();
        assert_eq!(*version.digest.0, **digest, "{program}");
    }
    let mut referred_to = BTreeSet::new();
    for program in store.programs(&tenant, &Page { after: None, limit: 1000 }).await.unwrap() {
        for version in store.versions(&tenant, &program.name, &Page { after: None, limit: 1000 }).await.unwrap() {
            store.component(&version.digest).await.unwrap();
            referred_to.insert(version.digest.0.to_string());
        }
    }
    let mut files = BTreeSet::new();
    for folder in std::fs::read_dir(folder.join("blobs/sha256")).into_iter().flatten() {
        for file in std::fs::read_dir(folder.unwrap().path()).unwrap() {
            files.insert(file.unwrap().file_name().to_string_lossy().into_owned());
        }
    }
    assert_eq!(files, referred_to);

    let keys = store.tenants().await.unwrap().into_iter().flat_map(|tenant| tenant.keys);
    let keys: BTreeSet<String> = keys.map(|key| key.id).collect();
    assert!(keys.is_superset(&acknowledged.keys));
}

/// Writes until it is killed.
#[test]
#[ignore = "it is what the other test kills"]
fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let seed: u64 = std::env::var(SEED).unwrap().parse().unwrap();
    let store = Arc::new(SqliteStore::open(folder.as_ref()).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        store.put_tenant(&TenantId("t".into()), &Quotas::default(), 1).await.unwrap();
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let rng = StdRng::seed_from_u64(seed * WRITERS + writer);
            writers.spawn(write(Arc::clone(&store), writer, rng));
        }
        writers.join_all().await;
    });
}

async fn write(store: Arc<SqliteStore>, writer: u64, mut rng: StdRng) {
    let tenant = TenantId("t".into());
    loop {
        match rng.random_range(0..20) {
            0 => put_and_delete(&store, writer, &mut rng).await,
            1 => {
                let (id, sha256) = (format!("{:016x}", rng.random::<u64>()), rng.random());
                let key = KeyRecord { id: id.clone(), label: String::new(), sha256, created_ms: 1 };
                store.add_key(NewKey { tenant: tenant.clone(), key }).await.unwrap();
                println!("key {id} .");
            }
            _ => {
                let id = RunId(rng.random());
                let run = NewRun {
                    id,
                    tenant: tenant.clone(),
                    program: "p".to_owned(),
                    version: 1,
                    digest: ProgramId("0".repeat(64).into()),
                    started_ms: 1,
                    idempotency: None,
                };
                store.start_run(run).await.unwrap();
                println!("started {id} .");
                let tokens = rng.random_range(0..1000);
                let usage = Usage { prompt_tokens: tokens, cached_tokens: 1, completion_tokens: 2 };
                let record = json!({"variables": {}, "usage": usage}).to_string().into();
                let status = RunStatus::Succeeded;
                let end = RunEnd { status, finished_ms: 9, record, error: None, usage, cpu_time_us: 3 };
                store.finish_run(id, end).await.unwrap();
                println!("ended {id} {tokens} .");
            }
        }
    }
}

async fn put_and_delete(store: &SqliteStore, writer: u64, rng: &mut StdRng) {
    let mut content = vec![0; rng.random_range(1..100_000)];
    rng.fill(&mut content[..]);
    let digest = ProgramId(format!("{:x}", Sha256::digest(&content)).into());
    let program = NewProgram {
        tenant: TenantId("t".into()),
        name: format!("p{writer}"),
        digest: digest.clone(),
        description: json!({}),
        tag: None,
        created_ms: 1,
        programs_max: u32::MAX,
        program_bytes_max: u64::MAX,
    };
    let tenant = program.tenant.clone();
    let put = store.put_program(program, Bytes::from(content)).await.unwrap().version;
    let reference = format!("{}@{}", put.name, put.version);
    println!("put {reference} {digest} .");
    if rng.random_bool(0.3) {
        println!("deleting {reference} .");
        store.delete_program(&tenant, &reference.parse().unwrap()).await.unwrap();
    }
}
