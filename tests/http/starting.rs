//! A server that has no model yet, or none any more.

use serde_json::json;
use sglhost_tests::http::Request;

use crate::house::{House, RUNS, attack};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_says_what_it_waits_for() {
    let house = House::new().await;
    house.server.server.waits_for("the model tiny to be opened");
    let ready = house.get("/ready").await;
    let expect = json!({"status": "starting", "message": "waiting for the model tiny to be opened"});
    assert_eq!((ready.status(), ready.json()), (503, expect));
    assert_eq!(ready.head.header("retry-after"), Some("1"));
    for (path, body) in [(RUNS, attack("answer")), ("/v1/programs/attacks/batches", json!({"runs": [{}]}))] {
        let answer = house.post(path, &body).await;
        assert_eq!(answer.verdict(), (503, "unavailable".to_owned()));
        assert!(answer.text().contains("the server waits for the model tiny to be opened"), "{}", answer.text());
    }
    assert_eq!(house.get("/v1/models").await.status(), 503);
    // What needs no model is there.
    assert_eq!(house.get("/health").await.status(), 200);
    let status = house.json("/v1/status").await;
    assert_eq!((&status["model"], status.get("engine")), (&json!(null), None));
    let other = Request::upload("other", &crate::house::component());
    assert_eq!(house.ask(other).await.status(), 201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_device_ends_everything_but_the_server() {
    let house = House::new().await;
    let id = house.detach("gate").await;
    house.server.server.lost("the GPU is lost");
    let ready = house.get("/ready").await;
    assert_eq!((ready.status(), ready.json()["status"].as_str()), (503, Some("lost")));
    let refused = house.post(RUNS, &attack("answer")).await;
    assert_eq!(refused.verdict(), (503, "unavailable".to_owned()));
    house.server.server.drain_within(std::time::Duration::ZERO).await;
    let run = house.json(&format!("/v1/runs/{id}")).await;
    assert_eq!(run["error"]["message"], "the server was stopped before the run ended", "{run}");
}
