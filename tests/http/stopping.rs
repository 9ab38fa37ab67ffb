//! A server that is told to stop.

use std::time::Duration;

use serde_json::json;
use sglhost_core::limits::ServerLimits;
use sglhost_tests::http::{Connection, Request};

use crate::house::{House, RUNS, attack};

/// Waits until the server has taken notice.
async fn draining(house: &House) {
    while house.get("/ready").await.json()["status"] != "draining" {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_ends_and_nothing_begins() {
    let house = House::new().await;
    let mut events = house.stream(&attack("gate")).await;
    assert_eq!(events.next().await.unwrap().kind, "run.started");
    house.server.tell_to_stop();
    draining(&house).await;
    let refused = house.post(RUNS, &attack("answer")).await;
    assert_eq!(refused.verdict(), (503, "unavailable".to_owned()));
    assert!(refused.head.header("retry-after").is_some());
    assert_eq!(house.get("/health").await.status(), 200);
    house.engine.open_gate();
    let last = events.rest().await.pop().unwrap();
    assert!(last.data.contains("<4>"), "{}", last.data);
    house.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_end_in_time_is_cancelled() {
    let house = House::with(|setup| {
        setup.limits = ServerLimits { drain_timeout: Duration::from_millis(100), ..setup.limits.clone() };
    })
    .await;
    let address = house.server.address;
    let waiting = tokio::spawn(async move { Request::post(RUNS, &attack("gate")).send(address).await });
    while house.engine.submitted() < 1 {
        tokio::task::yield_now().await;
    }
    // One that does nothing is closed at once, and does not hold the server up.
    let mut idle = Connection::open(address).await;
    idle.write(&Request::get("/health").bytes(address)).await;
    assert_eq!(idle.answer("GET").await.unwrap().status(), 200);
    house.server.stop().await;
    let run = waiting.await.unwrap().json();
    assert_eq!(run["error"]["message"], json!("the server was stopped before the run ended"), "{run}");
    assert!(idle.is_closed().await);
}
