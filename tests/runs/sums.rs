//! Many runs that end in every way: what is stored, counted and told agrees.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sglhost_core::{Quotas, Usage};
use sglhost_server::Begun;
use sglhost_store::{Page, RunStatus, Store};

use crate::house::{House, attack, detached, said};

const RUNS: usize = 300;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_of_runs_adds_up() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let house = Arc::new(House::new().await);
    let tenant = house.tenant("acme", &Quotas { concurrent_runs_max: 12, ..Quotas::unlimited() }).await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..RUNS {
        if clients.len() >= 16 {
            clients.join_next().await.unwrap().unwrap();
        }
        let name =
            ["answer", "endless", "nothing", "order", "fork-state", "cancel", "no such"][random.random_range(0..7)];
        let (house, tenant, what) = (Arc::clone(&house), Arc::clone(&tenant), random.random_range(0..6));
        let turns = random.random_range(0..200);
        clients.spawn(async move {
            let request = if what < 2 { detached(name) } else { attack(name) };
            let handle = loop {
                match house.start(&tenant, request.clone()).await {
                    Ok(Begun::New(handle)) => break handle,
                    // Its places are taken by runs that nobody waits for and that are about to end.
                    Err(error) if error.status.as_u16() == 429 => tokio::task::yield_now().await,
                    other => panic!("{other:?}"),
                }
            };
            let run = Arc::clone(handle.run());
            match what {
                // Cancelled, followed, waited for or left to itself.
                0 | 2 => {
                    house.runs.cancel(&tenant.id, run.id()).await.unwrap();
                }
                3 => {
                    let mut owner = handle.into_follower();
                    for _ in 0..turns {
                        if owner.next().await.is_none() {
                            break;
                        }
                    }
                }
                4 if name != "endless" => {
                    let row = handle.ended().await;
                    let stored = house.store.run(&tenant.id, row.id).await.unwrap().unwrap();
                    assert_eq!(said(&stored), said(&row));
                }
                1 if name == "endless" => {
                    tokio::task::yield_now().await;
                    house.runs.cancel(&tenant.id, run.id()).await.unwrap();
                }
                _ => drop(handle),
            }
        });
    }
    clients.join_all().await;
    house.settle().await;
    let runs = house.store.runs(&tenant.id, &Page { after: None, limit: 1000 }).await.unwrap();
    assert_eq!(runs.len(), RUNS);
    let mut sum = Usage::default();
    let mut cpu_time_us = 0;
    for run in &runs {
        assert_ne!(run.status, RunStatus::Running);
        sum.add(run.usage);
        cpu_time_us += run.cpu_time_us;
    }
    let used = house.used("acme").await;
    assert_eq!((used.runs, used.usage, used.cpu_time_us), (runs.len() as u64, sum, cpu_time_us));
    let ended = ["succeeded", "failed", "cancelled"].map(|status| {
        let count = runs.iter().filter(|run| format!("{:?}", run.status).to_lowercase() == status).count();
        assert_eq!(house.metric(&format!("sglhost_ended_runs_total{{status=\"{status}\"}}")), count as f64);
        count
    });
    assert!(ended.iter().all(|count| *count > 10), "{ended:?}");
    assert_eq!((tenant.live_count(), house.metric("sglhost_live_runs")), (0, 0.0));
}
