//! Many at once.

use std::sync::Arc;

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sglhost_core::{RunId, TenantId};
use tokio::task::JoinSet;

use super::{digest, end, give_up_after, new_program, new_run, put, reference};
use crate::{SqliteStore, Started, Store, StoreError};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_of_many_with_the_same_idempotency_key_begins() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path()).unwrap());
    let mut starts = JoinSet::new();
    for id in 0..64 {
        let (store, mut run) = (Arc::clone(&store), new_run(id));
        run.idempotency = Some(("key".to_owned(), [id as u8; 32]));
        starts.spawn(async move { (id, store.start_run(run).await.unwrap()) });
    }
    let (mut new, mut before) = (Vec::new(), Vec::new());
    for (id, started) in starts.join_all().await {
        match started {
            Started::New => new.push(id),
            Started::Before { run, request_sha256 } => before.push((run.id, request_sha256)),
        }
    }
    assert_eq!(new.len(), 1, "{new:?}");
    assert_eq!(before, vec![(RunId(new[0]), [new[0] as u8; 32]); 63]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_that_fails_takes_no_other_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path()).unwrap());
    store.start_run(new_run(0)).await.unwrap();
    let mut starts = JoinSet::new();
    for id in 0..64 {
        let store = Arc::clone(&store);
        starts.spawn(async move {
            let taken = store.start_run(new_run(id / 2 * 2)).await;
            let ended = store.finish_run(RunId(1_000_000 + id), end(1)).await;
            (matches!(taken, Err(StoreError::Taken { .. })), matches!(ended, Err(StoreError::NotFound { .. })))
        });
    }
    let answers = starts.join_all().await;
    assert_eq!(answers.iter().filter(|(taken, _)| *taken).count(), 33);
    assert!(answers.iter().all(|(_, unknown)| *unknown));
    for id in 0..32 {
        assert!(store.run(&TenantId::local(), RunId(id * 2)).await.unwrap().is_some());
    }
}

/// Two names are put with the same content and deleted again, over and over. Whenever a row is there its component must
/// be, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn content_that_is_put_again_while_it_is_deleted_stays() {
    const CONTENT: &[u8] = b"the same";
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path()).unwrap());
    let mut tasks = JoinSet::new();
    for task in 0..6 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let (name, mut rng) = (format!("p{task}"), StdRng::seed_from_u64(task));
            for _ in 0..40 {
                // One that goes away in the middle of its upload, or before.
                let upload = store.put_program(new_program(&name, CONTENT), Bytes::from_static(CONTENT));
                let polls = rng.random_range(0..6);
                give_up_after(upload, polls).await;
                put(&store, &name, CONTENT).await;
                assert_eq!(store.component(&digest(CONTENT)).await.unwrap(), CONTENT);
                store.delete_program(&TenantId::local(), &reference(&name)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    // What those who went away had put may be let go of only now.
    let gone = async || matches!(store.component(&digest(CONTENT)).await, Err(StoreError::NotFound { .. }));
    while !gone().await {
        let local = TenantId::local();
        for name in 0..6 {
            let _ = store.delete_program(&local, &reference(&format!("p{name}"))).await;
        }
        tokio::task::yield_now().await;
    }
}
