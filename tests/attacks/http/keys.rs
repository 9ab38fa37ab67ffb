//! Keys that were stolen, guessed, or put where none belongs.

use sglhost_core::TenantId;
use sglhost_store::Store as _;
use sglhost_tests::http::{Answer, Request};

use crate::house::House;

/// All that may differ between two refusals is the request's id.
fn shown(answer: &Answer) -> (u16, String, Option<String>) {
    (answer.status(), answer.text(), answer.head.header("www-authenticate").map(str::to_owned))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_like_a_wrong_one() {
    let house = House::new().await;
    let address = house.server.address;
    let none = Request::get("/v1/runs").send(address).await;
    assert_eq!(none.verdict(), (401, "unauthorized".to_owned()));
    let key = &house.alice;
    let (body, flipped) = (&key[..key.len() - 1], if key.ends_with('a') { "b" } else { "a" });
    let guesses = [
        format!("Bearer {body}{flipped}"),
        format!("Bearer {body}"),
        format!("Bearer {key}x"),
        format!("Bearer {}", key.to_uppercase()),
        format!("Bearer {}", &key[..11]),
        "Bearer ".to_owned(),
        "Bearer".to_owned(),
        key.clone(),
        format!("Basic {key}"),
        format!("Basic dXNlcjo{key}"),
        format!("Bearer {key},{key}"),
        format!("Bearer {key} {key}"),
        format!("Bearer \"{key}\""),
        format!("Bearer {key}\u{fe}"),
        "Bearer sgl_".to_owned(),
        "Bearer ' OR 1=1 --".to_owned(),
        format!("Bearer {}", "x".repeat(8000)),
    ];
    for guess in guesses {
        let answer = Request::get("/v1/runs").header("authorization", &guess).send(address).await;
        assert_eq!(shown(&answer), shown(&none), "{guess:.40}");
    }
    // Twice: whose request would it be?
    let twice = Request::get("/v1/runs").key(key).key(&house.mallory).send(address).await;
    assert_eq!(shown(&twice), shown(&none));
    // Elsewhere: addresses end up in logs.
    for path in [format!("/v1/runs?key={key}"), format!("/v1/runs?access_token={key}"), format!("/v1/runs#{key}")] {
        if let Some(answer) = Request::get(&path).try_send(address).await {
            assert!(matches!(answer.status(), 400 | 401), "{path}: {}", answer.status());
        }
    }
    for (name, value) in [("x-api-key", key.clone()), ("cookie", format!("key={key}"))] {
        let answer = Request::get("/v1/runs").header(name, &value).send(address).await;
        assert_eq!(shown(&answer), shown(&none), "{name}");
    }
    house.settle("wrong keys").await;
}

/// Without a key nothing below `/v1` tells what there is: not even which addresses and methods.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_address_needs_a_key() {
    let house = House::new().await;
    let address = house.server.address;
    let none = shown(&Request::get("/v1/runs").send(address).await);
    for (method, path) in [
        ("GET", "/v1"),
        ("GET", "/v1/nowhere"),
        ("GET", "/v1/programs"),
        ("GET", "/v1/programs/attacks"),
        ("PUT", "/v1/programs/attacks"),
        ("DELETE", "/v1/programs/attacks"),
        ("GET", "/v1/programs/attacks/versions"),
        ("PUT", "/v1/programs/attacks/tags/x"),
        ("POST", "/v1/programs/attacks/runs"),
        ("POST", "/v1/programs/attacks/batches"),
        ("GET", "/v1/runs/0000000000000000"),
        ("GET", "/v1/runs/0000000000000000/events"),
        ("POST", "/v1/runs/0000000000000000/cancel"),
        ("GET", "/v1/usage"),
        ("GET", "/v1/models"),
        ("GET", "/v1/status"),
        ("PATCH", "/v1/status"),
        ("OPTIONS", "/v1/status"),
        ("GET", "/v1/%ff"),
    ] {
        assert_eq!(shown(&Request::new(method, path).send(address).await), none, "{method} {path}");
    }
    // Of a body nothing is read.
    let large = Request::upload("attacks", &[0; 1 << 20]).header("content-length", "99999999");
    assert_eq!(shown(&large.send(address).await), none);
    house.settle("no keys").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_key_dies_when_it_is_revoked() {
    let house = House::new().await;
    let (stolen, id) = house.server.add_key("alice").await;
    assert_eq!(house.server.get(&stolen, "/v1/runs").await.status(), 200);
    let never = shown(&Request::get("/v1/runs").send(house.server.address).await);
    house.server.store.remove_key(&TenantId("alice".into()), &id).await.unwrap();
    let start = std::time::Instant::now();
    while house.server.get(&stolen, "/v1/runs").await.status() == 200 {
        assert!(start.elapsed().as_secs() < 10, "it lives on");
    }
    assert_eq!(shown(&house.server.get(&stolen, "/v1/runs").await), never);
    // Her other key does not, and what she had is there.
    assert_eq!(house.server.get(&house.alice, "/v1/programs/attacks").await.status(), 200);
    house.settle("a stolen key").await;
}

/// With its tenant a key goes at once, and so does what it started.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_tenant_stops() {
    let house = House::new().await;
    house.server.detach(&house.mallory, "endless").await;
    house.server.detach(&house.mallory, "wait").await;
    house.server.store.remove_tenant(&TenantId("mallory".into())).await.unwrap();
    let start = std::time::Instant::now();
    while house.server.get(&house.mallory, "/v1/runs").await.status() == 200 {
        assert!(start.elapsed().as_secs() < 10, "it lives on");
    }
    house.settle("a removed tenant").await;
}

/// No key is shown again: in no list, no error, no metric.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_never_said_again() {
    let house = House::new().await;
    house.neighbour("nobody").await;
    let secret = house.alice.rsplit('_').next().unwrap();
    for path in ["/v1/status", "/v1/usage", "/v1/programs", "/v1/runs", "/v1/models", "/metrics", "/openapi.json", "/"]
    {
        let answer = house.server.get(&house.alice, path).await;
        assert_eq!(answer.status(), 200, "{path}");
        assert!(!answer.text().contains(secret), "{path}");
    }
    let wrong = format!("/v1/programs/{}", house.alice);
    assert!(!house.server.get(&house.alice, &wrong).await.text().contains(secret));
}
