//! Tenants: keys, each other's things, what they may use.

use serde_json::json;
use sglhost_core::Quotas;
use sglhost_tests::http::{Connection, Request};

use crate::house::{House, RUNS, attack, component};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_runs_begins_to_ask_for_keys() {
    let mut house = House::new().await;
    assert_eq!(house.json("/v1/status").await["mode"], "local");
    let key = house.server.tenant("acme", &Quotas::default()).await;
    let refused = house.get("/v1/programs").await;
    assert_eq!(refused.verdict(), (401, "unauthorized".to_owned()));
    assert_eq!(refused.head.header("www-authenticate"), Some("Bearer"));
    house.key = key;
    let status = house.json("/v1/status").await;
    assert_eq!((&status["mode"], &status["tenant"], status.get("engine")), (&json!("keyed"), &json!("acme"), None));
    assert_eq!(house.json("/v1/programs").await["programs"], json!([]), "what was the local tenant's is not theirs");
    // What tells nothing of anybody needs no key.
    for open in ["/health", "/ready", "/openapi.json", "/"] {
        assert_eq!(house.ask(Request::get(open)).await.status(), 200, "{open}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quotas_are_told_and_held() {
    let mut house = House::new().await;
    let quotas = Quotas { concurrent_runs_max: 1, programs_max: 2, tokens_per_minute: 20, ..Quotas::default() };
    house.key = house.server.tenant("acme", &quotas).await;
    house.ask(Request::upload("attacks", &component())).await;
    let status = house.json("/v1/status").await;
    assert_eq!(status["runs"], json!({"live": 0, "max": 1}));
    let id = house.detach("gate").await;
    assert_eq!(house.json("/v1/status").await["runs"]["live"], 1);
    let refused = house.post(RUNS, &attack("answer")).await;
    assert_eq!(refused.verdict(), (429, "too-many-requests".to_owned()));
    assert_eq!(refused.head.header("retry-after"), Some("1"));
    house.ask(Request::new("POST", &format!("/v1/runs/{id}/cancel"))).await;
    assert_eq!(house.post(RUNS, &attack("answer")).await.status(), 200);
    let refused = house.post(RUNS, &attack("answer")).await;
    assert_eq!(refused.verdict(), (429, "too-many-requests".to_owned()));
    assert!(refused.text().contains("tokens_per_minute"), "{}", refused.text());
    assert!(refused.head.header("retry-after").unwrap().parse::<u64>().unwrap() > 1);
    house.ask(Request::upload("second", &component())).await;
    let refused = house.ask(Request::upload("third", &component())).await;
    assert_eq!(refused.verdict(), (429, "limit-exceeded".to_owned()));
    let usage = house.json("/v1/usage").await;
    assert_eq!((&usage["quotas"]["programs_max"], &usage["stored"]["programs"]), (&json!(2), &json!(2)));
    assert_eq!(usage["total"]["runs"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_has_so_many_requests_open() {
    let mut house = House::new().await;
    let quotas = Quotas { concurrent_requests_max: 4, ..Quotas::unlimited() };
    house.key = house.server.tenant("acme", &quotas).await;
    house.ask(Request::upload("attacks", &component())).await;
    let id = house.detach("gate").await;
    // The one before is over a moment after its answer was read.
    let mut waiting = Vec::new();
    let follow = Request::get(&format!("/v1/runs/{id}/events")).key(&house.key).bytes(house.server.address);
    while waiting.len() < 4 {
        let mut connection = Connection::open(house.server.address).await;
        connection.write(&follow).await;
        if connection.head("GET").await.unwrap().status == 200 {
            waiting.push(connection);
        }
    }
    for path in ["/v1/programs".to_owned(), format!("/v1/runs/{id}/events")] {
        let refused = house.get(&path).await;
        assert_eq!(refused.verdict(), (429, "too-many-requests".to_owned()), "{path}");
        assert_eq!(refused.head.header("retry-after"), Some("1"));
        assert!(refused.text().contains("4 requests are being answered, as many as may be (concurrent_requests_max)"));
    }
    let cancel = house.ask(Request::new("POST", &format!("/v1/runs/{id}/cancel"))).await;
    assert_eq!(cancel.status(), 429);
    // Others are served, and what asks for no key is not counted.
    let other = house.server.tenant("other", &quotas).await;
    assert_eq!(house.server.get(&other, "/v1/programs").await.status(), 200);
    assert_eq!(house.get("/health").await.status(), 200);
    // Who goes away is over; the engine's gate is closed still.
    waiting.pop();
    while house.get("/v1/programs").await.status() != 200 {}
    house.engine.open_gate();
    for mut connection in waiting {
        connection.rest().await.unwrap();
    }
    while house.get("/v1/programs").await.status() != 200 {}
}
