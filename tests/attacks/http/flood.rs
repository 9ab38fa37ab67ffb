//! More connections, requests and runs than there are places.

use serde_json::json;
use sglhost_core::Quotas;
use sglhost_core::limits::ServerLimits;
use sglhost_tests::http::{Connection, Request};

use crate::house::House;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_are_refused_at_once() {
    const MAX: usize = 50;
    let house = House::with(|setup| {
        setup.limits = ServerLimits { connections_max: MAX, ..setup.limits.clone() };
    })
    .await;
    let address = house.server.address;
    let mut held = Vec::new();
    // Served one after the other, so that each has its place before the next comes.
    while held.len() < MAX {
        let mut connection = Connection::open(address).await;
        connection.write(&Request::get("/health").bytes(address)).await;
        match connection.answer("GET").await.map(|answer| answer.status()) {
            Some(200) => held.push(connection),
            // Places of the requests that set this house up are given back a little later.
            other => assert!(matches!(other, None | Some(503)), "{other:?}"),
        }
    }
    for _ in 0..500 {
        let mut connection = Connection::open(address).await;
        // A system that has seen the connection closed may drop the answer: then there is none.
        if let Some(answer) = connection.answer("GET").await {
            assert_eq!(answer.verdict(), (503, "unavailable".to_owned()));
            assert_eq!(answer.head.header("retry-after"), Some("1"));
        }
    }
    // Those that are in are served as before.
    for connection in &mut held {
        connection.write(&Request::get("/v1/runs").key(&house.alice).bytes(address)).await;
        assert_eq!(connection.answer("GET").await.unwrap().status(), 200);
    }
    drop(held);
    while Request::get("/health").try_send(address).await.is_none_or(|answer| answer.status() != 200) {}
    house.settle("a flood of connections").await;
}

/// A tenant's own limit refuses its runs, with 429; the machine's refuses everybody's, with 503. Both say when to come
/// again, and those under way go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_beyond_the_limit_are_refused_at_once() {
    let house = House::new().await;
    let quotas = Quotas { concurrent_runs_max: 2, ..Quotas::unlimited() };
    let few = house.server.tenant("few", &quotas).await;
    house.server.upload(&few, "attacks", &crate::house::component()).await;
    let start = async |key: &str, attack: &str| {
        let body = json!({"arguments": {"attack": attack}, "detach": true});
        house.server.post(key, "/v1/programs/attacks/runs", &body).await
    };
    let mut waiting = Vec::new();
    for _ in 0..2 {
        waiting.push((few.clone(), start(&few, "gate").await.json()["id"].as_str().unwrap().to_owned()));
    }
    for _ in 0..50 {
        let answer = start(&few, "gate").await;
        assert_eq!(answer.verdict(), (429, "too-many-requests".to_owned()));
        assert!(answer.head.header("retry-after").is_some());
    }
    // Each takes all it can get: who comes late, and has none, gets some as well.
    for key in [&house.mallory, &house.alice] {
        house.neighbour("a flood of runs").await;
        loop {
            let answer = start(key, "gate").await;
            if answer.status() != 202 {
                assert!(answer.text().contains("kept for other tenants"), "{}", answer.text());
                break;
            }
            waiting.push((key.clone(), answer.json()["id"].as_str().unwrap().to_owned()));
        }
    }
    for key in [&house.mallory, &house.alice] {
        for _ in 0..50 {
            let answer = start(key, "answer").await;
            assert_eq!(answer.verdict(), (503, "unavailable".to_owned()));
            assert_eq!(answer.head.header("retry-after"), Some("1"));
        }
    }
    house.engine.open_gate();
    for (key, run) in waiting {
        let last = house.server.follow(&key, &run).await.rest().await.pop().unwrap();
        assert!(last.kind == "run.finished" && last.data.contains("\"Ok\""), "{}", last.data);
    }
    house.settle("a flood of runs").await;
}

/// Clients that go away as soon as they have asked leave nothing behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_go_away_leave_nothing() {
    let house = House::new().await;
    let address = house.server.address;
    for round in 0..60 {
        for attack in ["endless", "wait", "loop", "answer"] {
            let body = json!({"arguments": {"attack": attack}});
            let accept = if round % 2 == 0 { "text/event-stream" } else { "application/json" };
            let request = Request::post("/v1/programs/attacks/runs", &body).header("accept", accept);
            let mut connection = Connection::open(address).await;
            connection.write(&request.key(&house.mallory).bytes(address)).await;
            if round % 3 == 0 {
                // Late enough for the run to begin.
                let _ = tokio::time::timeout(std::time::Duration::from_millis(5), connection.head("POST")).await;
            }
        }
    }
    house.settle("clients that went away").await;
}
