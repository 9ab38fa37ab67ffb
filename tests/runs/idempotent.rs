//! The same request, sent again.

use std::sync::Arc;

use sglhost_core::Quotas;
use sglhost_server::{Begun, StartRun};
use sglhost_store::{RunRow, RunStatus};

use crate::house::{House, attack, said};

fn keyed(name: &str, key: &str, sha256: u8) -> StartRun {
    StartRun { idempotency: Some((key.to_owned(), [sha256; 32])), detached: true, ..attack(name) }
}

fn before(begun: Begun) -> RunRow {
    match begun {
        Begun::Before(row) => *row,
        Begun::New(handle) => panic!("{handle:?}"),
    }
}

#[tokio::test]
async fn a_key_stands_for_one_run_of_its_tenant() {
    let house = House::new().await;
    let quotas = Quotas { concurrent_runs_max: 1, ..Quotas::default() };
    let (acme, zoo) = (house.tenant("acme", &quotas).await, house.tenant("zoo", &quotas).await);
    let handle = house.new_run(&acme, keyed("gate", "k", 1)).await;
    let run = Arc::clone(handle.run());
    drop(handle);
    // The tenant has no place for another run, and needs none.
    let again = before(house.start(&acme, keyed("gate", "k", 1)).await.unwrap());
    assert_eq!((again.id, again.status), (run.id(), RunStatus::Running));
    let error = house.start(&acme, keyed("gate", "k", 2)).await.unwrap_err();
    assert_eq!((error.status.as_u16(), error.code), (409, "conflict"));
    assert!(error.message.contains(&run.id().to_string()));
    // Another tenant's key is another.
    let theirs = house.new_run(&zoo, keyed("gate", "k", 2)).await;
    assert_ne!(theirs.run().id(), run.id());
    house.engine.open_gate();
    let row = run.ended().await;
    assert_eq!(said(&before(house.start(&acme, keyed("gate", "k", 1)).await.unwrap())), said(&row));
    // Nor is it forgotten with the process, and a conflict neither.
    house.settle().await;
    let house = house.restarted().await;
    assert_eq!(said(&before(house.start(&acme, keyed("gate", "k", 1)).await.unwrap())), said(&row));
    assert_eq!(house.start(&acme, keyed("gate", "k", 2)).await.unwrap_err().status.as_u16(), 409);
    assert_eq!((house.engine.submitted(), house.runs.live_count()), (0, 0));
}

#[tokio::test]
async fn of_many_at_once_one_runs() {
    let house = House::new().await;
    let acme = house.tenant("acme", &Quotas::default()).await;
    let mut starts = tokio::task::JoinSet::new();
    let house = Arc::new(house);
    for _ in 0..12 {
        let (house, acme) = (Arc::clone(&house), Arc::clone(&acme));
        starts.spawn(async move {
            match house.start(&acme, keyed("answer", "k", 1)).await.unwrap() {
                Begun::New(handle) => (handle.run().id(), true),
                Begun::Before(row) => (row.id, false),
            }
        });
    }
    let begun = starts.join_all().await;
    assert_eq!(begun.iter().filter(|(_, new)| *new).count(), 1);
    assert!(begun.iter().all(|(id, _)| *id == begun[0].0));
    house.settle().await;
    assert_eq!((house.engine.submitted(), house.used("acme").await.runs), (1, 1));
}
