//! A run from its start to what is kept of it.

use std::time::Duration;

use sglhost_core::{Event, Quotas, TenantId};
use sglhost_server::ApiError;
use sglhost_store::{RunStatus, Store};

use crate::house::{House, attack, detached, kinds, said};

#[tokio::test]
async fn a_run_is_stored_before_it_is_acknowledged_and_with_its_end() {
    let house = House::new().await;
    let local = house.tenants.local().unwrap();
    let handle = house.new_run(&local, attack("gate")).await;
    let run = handle.run().clone();
    let stored = house.store.run(&local.id, run.id()).await.unwrap();
    assert_eq!((stored.unwrap().status, run.row().status), (RunStatus::Running, RunStatus::Running));
    house.engine.open_gate();
    let row = handle.ended().await;
    assert_eq!(row.status, RunStatus::Succeeded);
    assert_eq!(said(&house.store.run(&local.id, run.id()).await.unwrap().unwrap()), said(&row));
    assert_eq!(said(&house.runs.get(&local.id, run.id()).await.unwrap()), said(&row));
    let kinds = kinds(&run).await;
    assert_eq!((kinds[0], *kinds.last().unwrap()), ("run.started", "run.finished"));
    assert_eq!(kinds.iter().filter(|kind| **kind == "run.finished").count(), 1);
    let used = house.used("local").await;
    assert_eq!((used.runs, used.usage), (1, row.usage));
    assert!(used.usage.prompt_tokens > 0 && used.usage.completion_tokens > 0);
}

#[tokio::test]
async fn a_run_that_fails_ends_and_says_why() {
    let house = House::new().await;
    let local = house.tenants.local().unwrap();
    for (name, what) in [("odd", "no attack odd"), ("loop", "cpu_budget")] {
        let row = house.new_run(&local, attack(name)).await.ended().await;
        assert_eq!(row.status, RunStatus::Failed, "{name}");
        assert!(row.error.as_ref().unwrap().message.contains(what), "{row:?}");
        assert_eq!(said(&house.store.run(&local.id, row.id).await.unwrap().unwrap()), said(&row));
    }
}

#[tokio::test]
async fn whoever_asks_can_cancel_its_own_runs_only() {
    let house = House::new().await;
    let acme = house.tenant("acme", &Quotas::default()).await;
    let zoo = house.tenant("zoo", &Quotas::default()).await;
    let run = house.new_run(&acme, detached("endless")).await.run().clone();
    let never_was = house.runs.cancel(&acme.id, sglhost_core::RunId(7)).await.unwrap_err();
    let theirs = house.runs.cancel(&zoo.id, run.id()).await.unwrap_err();
    let same = |error: &ApiError, id: &str| (error.status, error.code, error.message.replace(id, "7"));
    assert_eq!(same(&theirs, &run.id().to_string()), same(&never_was, "0000000000000007"));
    assert!(house.runs.live(&zoo.id, run.id()).is_none());
    let row = house.runs.cancel(&acme.id, run.id()).await.unwrap();
    assert_eq!(row.status, RunStatus::Cancelled);
    assert_eq!(house.runs.cancel(&acme.id, run.id()).await.unwrap(), row);
    assert_eq!(kinds(&run).await.last(), Some(&"run.finished"));
}

#[tokio::test]
async fn a_client_that_leaves_while_its_run_starts_leaves_nothing_behind() {
    let house = House::new().await;
    let local = house.tenants.local().unwrap();
    for turns in 0..40 {
        let mut start = Box::pin(house.start(&local, attack("endless")));
        // Polled so many times, then dropped: before the store, in it, after it.
        for _ in 0..turns {
            tokio::select! {
                biased;
                begun = &mut start => {
                    drop(begun);
                    break;
                }
                () = tokio::task::yield_now() => {}
            }
        }
        drop(start);
    }
    house.settle().await;
    let page = sglhost_store::Page { after: None, limit: 100 };
    let runs = house.store.runs(&local.id, &page).await.unwrap();
    assert!(!runs.is_empty());
    assert!(runs.iter().all(|run| run.status == RunStatus::Cancelled), "{runs:?}");
    assert_eq!(house.used("local").await.runs, runs.len() as u64);
}

#[tokio::test]
async fn a_server_that_stops_lets_runs_end_and_cancels_the_others() {
    let house = House::new().await;
    let local = house.tenants.local().unwrap();
    let gate = house.new_run(&local, detached("gate")).await.run().clone();
    let endless = house.new_run(&local, detached("endless")).await.run().clone();
    house.runs.stop_admitting();
    let error = house.start(&local, attack("answer")).await.unwrap_err();
    assert_eq!((error.status.as_u16(), error.retry_after), (503, Some(Duration::from_secs(1))));
    house.engine.open_gate();
    gate.ended().await;
    house.runs.drain(Duration::from_millis(50)).await;
    assert_eq!(house.runs.live_count(), 0);
    let status = |row: sglhost_store::RunRow| row.status;
    assert_eq!(status(gate.row()), RunStatus::Succeeded);
    let row = endless.row();
    assert_eq!(row.error.as_ref().unwrap().message, "the server was stopped before the run ended");
    assert_eq!(house.store.run(&local.id, row.id).await.unwrap().map(status), Some(RunStatus::Cancelled));
}

#[tokio::test]
async fn after_a_restart_runs_are_interrupted_and_counters_go_on() {
    let house = House::new().await;
    let local = house.tenants.local().unwrap();
    house.new_run(&local, attack("answer")).await.ended().await;
    let new = sglhost_store::NewRun {
        id: sglhost_core::RunId(7),
        tenant: TenantId::local(),
        program: "attacks".to_owned(),
        version: 1,
        digest: sglhost_core::ProgramId("00".into()),
        started_ms: 0,
        idempotency: None,
    };
    // As of a process that was killed.
    house.store.start_run(new).await.unwrap();
    let before = house.used("local").await;
    let house = house.restarted().await;
    assert_eq!(house.runs.recover().await.unwrap(), 1);
    assert_eq!(house.metric("sglhost_ended_runs_total{status=\"interrupted\"}"), 1.0);
    let row = house.runs.get(&local.id, sglhost_core::RunId(7)).await.unwrap();
    assert_eq!(row.status, RunStatus::Interrupted);
    house.new_run(&local, attack("answer")).await.ended().await;
    let after = house.used("local").await;
    assert_eq!((after.runs, after.usage.prompt_tokens), (3, before.usage.prompt_tokens * 2));
}

#[tokio::test]
async fn events_are_those_of_the_runtime() {
    let house = House::new().await;
    let local = house.tenants.local().unwrap();
    let handle = house.new_run(&local, attack("answer")).await;
    let (id, mut follower) = (handle.run().id(), handle.into_follower());
    let mut events = Vec::new();
    while let Some((_, kind, json)) = follower.next().await {
        let event: Event = serde_json::from_slice(&json).unwrap();
        assert_eq!(event.kind(), kind);
        assert!(!json.contains(&b'\n'));
        events.push(event);
    }
    assert!(matches!(&events[0], Event::RunStarted { run, .. } if *run == id));
    assert!(events.iter().any(|event| matches!(event, Event::CallDelta { .. })));
}
