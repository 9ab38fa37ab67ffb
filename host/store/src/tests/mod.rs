//! The store against a model of it, and what happens when several do something at once, files are damaged or others
//! have the folder. What a kill leaves is in `tests/kill.rs`: a process of its own.

mod blobs;
mod concurrent;
mod folder;
mod model;
mod rows;
mod writer;

use std::task::Poll;

use bytes::Bytes;
use serde_json::json;
use sglhost_core::{ProgramId, RunId, TenantId, Usage};
use sha2::{Digest, Sha256};

use crate::{NewProgram, NewRun, ProgramReference, RunEnd, RunStatus, SqliteStore, Store};

fn tenant(name: &str) -> TenantId {
    TenantId(name.into())
}

fn reference(text: &str) -> ProgramReference {
    text.parse().unwrap()
}

fn digest(content: &[u8]) -> ProgramId {
    ProgramId(format!("{:x}", Sha256::digest(content)).into())
}

fn new_program(name: &str, content: &[u8]) -> NewProgram {
    NewProgram {
        tenant: TenantId::local(),
        name: name.to_owned(),
        digest: digest(content),
        description: json!({"name": name}),
        tag: None,
        created_ms: 1,
        programs_max: u32::MAX,
        program_bytes_max: u64::MAX,
    }
}

async fn put(store: &SqliteStore, name: &str, content: &'static [u8]) -> u32 {
    store.put_program(new_program(name, content), Bytes::from_static(content)).await.unwrap().version.version
}

fn new_run(id: u64) -> NewRun {
    NewRun {
        id: RunId(id),
        tenant: TenantId::local(),
        program: "p".to_owned(),
        version: 1,
        digest: digest(b"p"),
        started_ms: 10,
        idempotency: None,
    }
}

fn end(prompt_tokens: u64) -> RunEnd {
    let usage = Usage { prompt_tokens, cached_tokens: 1, completion_tokens: 2 };
    let record = json!({"result": {"n": 1}, "variables": {"a": "b"}, "usage": usage}).to_string().into();
    RunEnd { status: RunStatus::Succeeded, finished_ms: 30, record, error: None, usage, cpu_time_us: 4 }
}

/// Waits for it until it is done or has been looked at so many times.
async fn give_up_after<T>(work: impl Future<Output = T>, looks: u32) {
    let mut work = std::pin::pin!(work);
    let mut left = looks;
    std::future::poll_fn(|context| {
        let done = left > 0 && work.as_mut().poll(context).is_ready();
        left = left.saturating_sub(1);
        if done || left == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
