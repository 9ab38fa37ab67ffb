//! Tenants: keys, each other's things, what they may use.

use serde_json::json;
use sglhost_core::Quotas;
use sglhost_tests::http::Request;

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
