//! What the model does not reach: large numbers, long texts, limits.

use serde_json::json;
use sglhost_core::{
    Quotas, RunId, TenantId,
    limits::{LIST_BYTES_MAX, LISTED_MESSAGE_BYTES_MAX, TAGS_PER_PROGRAM_MAX},
};

use super::{end, new_program, new_run, put, reference, tenant};
use crate::{Page, RunStatus, SqliteStore, Store, StoreError};

#[tokio::test]
async fn numbers_of_all_sizes_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    store.put_tenant(&tenant("a"), &Quotas::unlimited(), 1).await.unwrap();
    assert_eq!(store.tenants().await.unwrap()[0].quotas, Quotas::unlimited());
    for id in [0, 1, u64::MAX, 1 << 63, i64::MAX as u64] {
        store.start_run(new_run(id)).await.unwrap();
        let mut end = end(1);
        end.finished_ms = 5; // Before it began: a wall clock goes back at times.
        store.finish_run(RunId(id), end).await.unwrap();
        let run = store.run(&TenantId::local(), RunId(id)).await.unwrap().unwrap();
        assert_eq!((run.id, run.status), (RunId(id), RunStatus::Succeeded));
    }
    let usage = store.usage(&TenantId::local(), 0).await.unwrap();
    assert_eq!((usage[0].runs, usage[0].wall_time_ms, usage[0].usage.prompt_tokens), (5, 0, 5));
    assert_eq!(store.usage(&TenantId::local(), u64::MAX).await.unwrap(), []);
}

#[tokio::test]
async fn a_program_has_so_many_tags_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let local = TenantId::local();
    put(&store, "p", b"1").await;
    for tag in 0..TAGS_PER_PROGRAM_MAX {
        store.tag(&local, "p", 1, &format!("t{tag}")).await.unwrap();
    }
    let more = store.tag(&local, "p", 1, "more").await;
    assert!(matches!(&more, Err(StoreError::Quota(why)) if why.contains("64 tags")), "{more:?}");
    let mut program = new_program("p", b"2");
    program.tag = Some("more".to_owned());
    assert!(matches!(store.put_program(program, b"2"[..].into()).await, Err(StoreError::Quota(_))));
    // Nothing of it stays.
    assert_eq!(store.program(&local, &reference("p")).await.unwrap().unwrap().version, 1);
    // One that is there may be moved.
    assert_eq!(put(&store, "p", b"2").await, 2);
    assert_eq!(store.tag(&local, "p", 2, "t0").await.unwrap().tags, ["t0"]);
}

#[tokio::test]
async fn a_list_reads_no_more_than_it_may_say() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let description = json!({"description": "d".repeat(LIST_BYTES_MAX / 16)});
    for version in 0..40_u8 {
        let content = vec![version];
        let mut program = new_program("p", &content);
        program.description = description.clone();
        store.put_program(program, content.into()).await.unwrap();
    }
    let mut page = Page { after: None, limit: 1000 };
    let listed = store.versions(&TenantId::local(), "p", &page).await.unwrap();
    assert_eq!(listed.len(), 16, "the last of them is beyond the limit");
    page.after = Some("17".to_owned());
    assert_eq!(store.versions(&TenantId::local(), "p", &page).await.unwrap().len(), 16);
    assert_eq!(store.programs(&TenantId::local(), &Page { after: None, limit: 10 }).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_list_is_short_whatever_runs_said() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    let message = "é".repeat(1 << 20);
    let long = json!({
        "result": "r".repeat(1 << 20),
        "error": {"code": "program", "message": message},
        "variables": {"v": "v".repeat(1 << 20)},
        "usage": {"prompt_tokens": 1, "cached_tokens": 2, "completion_tokens": 3},
    });
    let mut end = end(1);
    end.error = Some(serde_json::from_value(long["error"].clone()).unwrap());
    end.usage = serde_json::from_value(long["usage"].clone()).unwrap();
    // Kept as it is written, spaces and all.
    end.record = format!("  {long} ").into();
    store.start_run(new_run(1)).await.unwrap();
    store.finish_run(RunId(1), end.clone()).await.unwrap();

    let listed = store.runs(&TenantId::local(), &Page { after: None, limit: 10 }).await.unwrap();
    assert_eq!((&listed[0].record, listed[0].usage), (&None, end.usage));
    let message = &listed[0].error.as_ref().unwrap().message;
    assert_eq!(*message, format!("{}…", "é".repeat(LISTED_MESSAGE_BYTES_MAX / 2)));
    let run = store.run(&TenantId::local(), RunId(1)).await.unwrap().unwrap();
    assert_eq!((run.record, run.error), (Some(end.record), listed[0].error.clone()));
}

#[tokio::test]
async fn many_runs_are_forgotten_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(SqliteStore::open(folder.path()).unwrap());
    store.put_tenant(&tenant("a"), &Quotas::default(), 1).await.unwrap();
    let mut starts = tokio::task::JoinSet::new();
    for id in 0..4500 {
        let store = std::sync::Arc::clone(&store);
        starts.spawn(async move {
            let mut run = new_run(id);
            run.tenant = tenant("a");
            store.start_run(run).await.unwrap();
            if id % 2 == 0 {
                store.finish_run(RunId(id), end(1)).await.unwrap();
            }
        });
    }
    starts.join_all().await;
    // Those that ended at the time given stay, and those under way.
    assert_eq!(store.forget_runs(30, u32::MAX).await.unwrap(), 0);
    assert_eq!(store.forget_runs(31, u32::MAX).await.unwrap(), 2250);
    assert_eq!(store.forget_runs(31, 0).await.unwrap(), 0);
    store.remove_tenant(&tenant("a")).await.unwrap();
    assert_eq!(store.runs(&tenant("a"), &Page { after: None, limit: 10 }).await.unwrap(), []);
    assert!(matches!(store.finish_run(RunId(1), end(1)).await, Err(StoreError::NotFound { .. })));
    assert_eq!(store.usage(&tenant("a"), 0).await.unwrap()[0].runs, 2250);
}
