//! What all addresses have in common, and those that tell of the server itself.

use serde_json::{Value, json};
use sglhost_tests::http::{Connection, Request};

use crate::house::{House, RUNS, attack};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_are_told() {
    let house = House::new().await;
    for (path, methods) in [
        ("/v1/programs", "GET,HEAD"),
        ("/v1/programs/attacks", "GET,HEAD,PUT,DELETE"),
        (RUNS, "POST"),
        ("/v1/runs/0123456789abcdef/events", "GET,HEAD"),
        ("/health", "GET,HEAD"),
        ("/", "GET,HEAD"),
    ] {
        for (method, status) in [("PATCH", 405), ("OPTIONS", 204), ("BREW", 405)] {
            let answer = house.ask(Request::new(method, path)).await;
            assert_eq!((answer.status(), answer.head.header("allow")), (status, Some(methods)), "{method} {path}");
        }
    }
    for nothing in ["/v1", "/v1/", "/v2/programs", "/v1/programs/", "/v1/programs/a/b", "/assets/", "/assets/none.js"] {
        assert_eq!(house.get(nothing).await.verdict(), (404, "not-found".to_owned()), "{nothing}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_is_that_of_the_answer() {
    let house = House::new().await;
    let mut connection = Connection::open(house.server.address).await;
    for path in ["/v1/programs/attacks", "/health", "/", "/openapi.json"] {
        let whole = house.get(path).await;
        connection.write(&Request::new("HEAD", path).bytes(house.server.address)).await;
        let head = connection.answer("HEAD").await.unwrap();
        assert_eq!((head.status(), head.body.len()), (200, 0), "{path}");
        for name in ["content-type", "content-length", "cache-control", "etag"] {
            assert_eq!(head.head.header(name), whole.head.header(name), "{path} {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_has_a_name_of_its_own() {
    let house = House::new().await;
    let one = house.get("/health").await.head.header("x-request-id").unwrap().to_owned();
    assert_ne!(house.get("/health").await.head.header("x-request-id"), Some(&*one));
    assert_eq!(one.len(), 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_tells_of_itself() {
    let house = House::new().await;
    assert_eq!(house.json("/health").await, json!({"status": "ok"}));
    assert_eq!(house.json("/ready").await, json!({"status": "ready"}));
    let model = json!({"name": "scripted", "context_length": 4096});
    assert_eq!(house.json("/v1/models").await, json!({"models": [model.clone()]}));
    let status = json!({
        "version": "0.0.0", "mode": "local", "tenant": "local", "model": model, "runs": {"live": 0, "max": 16},
        "engine": {"running": 0, "queued": 0, "used_slots": 0, "slots": 0},
    });
    assert_eq!(house.json("/v1/status").await, status);
    let document = house.json("/openapi.json").await;
    assert_eq!(document["openapi"], "3.1.0");
    let text = house.get("/metrics").await.text();
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    assert!(text.contains(r#"sglhost_http_requests_total{route="/health",method="GET",status="200"}"#), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_is_by_day() {
    let house = House::new().await;
    for _ in 0..3 {
        house.post(RUNS, &attack("answer")).await;
    }
    let usage = house.json("/v1/usage").await;
    let mut day = usage["days"][0].clone();
    assert_eq!((&day["runs"], &day["prompt_tokens"], &day["completion_tokens"]), (&json!(3), &json!(39), &json!(12)));
    let today = day.as_object_mut().unwrap().remove("day").unwrap();
    assert_eq!(day, usage["total"]);
    let path = format!("/v1/usage?since={}", today.as_str().unwrap());
    assert_eq!(house.json(&path).await["total"], usage["total"]);
    let later = house.json("/v1/usage?since=9999-12-31").await;
    assert_eq!((&later["days"], &later["total"]["runs"]), (&Value::Array(Vec::new()), &json!(0)));
    for wrong in ["since=today", "since=2026-02-30", "since=2026-11-25T00:00:00Z", "until=2026-11-25"] {
        assert_eq!(house.get(&format!("/v1/usage?{wrong}")).await.status(), 400, "{wrong}");
    }
}
