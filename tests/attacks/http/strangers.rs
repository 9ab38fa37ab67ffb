//! What is another tenant's is as if it had never been: the same answers, byte for byte.

use serde_json::{Value, json};
use sglhost_tests::http::Request;

use crate::house::{House, component};

/// A request of mallory's: status and body, with the run's id, which an error may repeat, taken out.
async fn asked(house: &House, request: Request, id: &str) -> (u16, String) {
    let answer = request.key(&house.mallory).send(house.server.address).await;
    (answer.status(), answer.text().replace(id, "ID"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_run_is_no_run() {
    let house = House::new().await;
    let ended = house.server.attack(&house.alice, "answer").await["id"].as_str().unwrap().to_owned();
    let live = house.server.detach(&house.alice, "gate").await;
    let never = "0123456789abcdef";
    let requests = |id: &str| {
        let path = format!("/v1/runs/{id}");
        vec![
            Request::get(&path),
            Request::get(&format!("{path}/events")),
            Request::get(&format!("{path}/events?after=1")),
            Request::get(&format!("{path}/events")).header("last-event-id", "1000000"),
            Request::new("POST", &format!("{path}/cancel")),
            Request::new("HEAD", &path),
            Request::new("DELETE", &path),
        ]
    };
    for theirs in [&ended, &live] {
        for (mine, none) in requests(theirs).into_iter().zip(requests(never)) {
            let shown = format!("{mine:?}");
            let (there, nowhere) = (asked(&house, mine, theirs).await, asked(&house, none, never).await);
            assert_eq!(there, nowhere, "{shown}");
            assert!(matches!(there.0, 404 | 405), "{shown}: {there:?}");
        }
    }
    // Nor does it stand in a list, or as the place where one goes on.
    for after in [&ended, &live] {
        let list = |after: &str| Request::get(&format!("/v1/runs?after={after}"));
        assert_eq!(asked(&house, list(after), after).await, asked(&house, list(never), never).await);
    }
    assert_eq!(house.server.get(&house.mallory, "/v1/runs").await.json()["runs"], json!([]));
    house.engine.open_gate();
    let last = house.server.follow(&house.alice, &live).await.rest().await.pop().unwrap();
    assert!(last.data.contains("<4>"), "nobody cancelled it: {}", last.data);
    house.settle("another's runs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_program_is_no_program() {
    let house = House::new().await;
    let secret = house.server.upload(&house.alice, "secret", &component()).await;
    let tagged = Request::new("PUT", "/v1/programs/secret/tags/stable").header("content-type", "application/json");
    let tagged = tagged.key(&house.alice).body(r#"{"version": 1}"#).send(house.server.address).await;
    assert_eq!(tagged.status(), 200);
    let digest = secret["digest"].as_str().unwrap();
    let requests = |name: &str| {
        let path = format!("/v1/programs/{name}");
        let tag = Request::new("PUT", &format!("{path}/tags/mine")).header("content-type", "application/json");
        let selected = |selector: &str| Request::get(&format!("{path}@{selector}"));
        vec![
            Request::get(&path),
            selected("1"),
            selected("stable"),
            selected(digest),
            Request::get(&format!("{path}/versions")),
            tag.body(r#"{"version": 1}"#),
            Request::post(&format!("{path}/runs"), &json!({"arguments": {"attack": "answer"}})),
            Request::post(&format!("{path}@{digest}/runs"), &json!({"detach": true})),
            Request::post(&format!("{path}/batches"), &json!({"runs": [{}]})),
            Request::new("DELETE", &path),
            Request::new("DELETE", &format!("{path}@1")),
        ]
    };
    for (theirs, none) in requests("secret").into_iter().zip(requests("nosuch")) {
        let shown = format!("{theirs:?}");
        let (there, nowhere) = (asked(&house, theirs, "secret").await, asked(&house, none, "nosuch").await);
        assert_eq!(there, nowhere, "{shown}");
        assert_eq!(there.0, 404, "{shown}: {there:?}");
    }
    let listed = house.server.get(&house.mallory, "/v1/programs").await.json();
    let names: Vec<&Value> = listed["programs"].as_array().unwrap().iter().map(|program| &program["name"]).collect();
    assert_eq!(names, ["attacks"]);
    // The same content under the same name is her own, from version 1 on; the other's stays.
    let mine = house.server.upload(&house.mallory, "secret", &component()).await;
    assert_eq!((&mine["version"], &mine["tags"]), (&json!(1), &json!([])));
    assert_eq!(asked(&house, Request::new("DELETE", "/v1/programs/secret"), "").await.0, 200);
    assert_eq!(house.server.get(&house.alice, "/v1/programs/secret@stable").await.json()["digest"], digest);
    house.settle("another's programs").await;
}

/// A key of the one means nothing to the other, though both chose the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_idempotency_key_is_unused() {
    let house = House::new().await;
    let start = async |key: &str, attack: &str| {
        let request = Request::post("/v1/programs/attacks/runs", &json!({"arguments": {"attack": attack}}));
        request.header("idempotency-key", "the-same").key(key).send(house.server.address).await
    };
    let hers = start(&house.alice, "order").await.json();
    let mine = start(&house.mallory, "answer").await;
    assert_eq!((mine.status(), &mine.json()["result"]), (200, &json!("<13>")));
    assert_ne!(mine.json()["id"], hers["id"]);
    house.settle("another's key").await;
}

/// Thousands of ids asked for give nothing, and cost nobody anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guessing_ids_finds_nothing() {
    let house = House::new().await;
    house.server.detach(&house.alice, "gate").await;
    let address = house.server.address;
    let mut connection = sglhost_tests::http::Connection::open(address).await;
    for guess in 0..2000_u64 {
        let id = format!("{:016x}", guess.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        connection.write(&Request::get(&format!("/v1/runs/{id}")).key(&house.mallory).bytes(address)).await;
        let answer = connection.answer("GET").await.unwrap();
        // (The test's server draws its ids so that these are guessed right; real ones are random.)
        assert_eq!(answer.status(), 404, "{id}");
    }
    for id in ["0", "-1", "0123456789ABCDEF", "0123456789abcdef0", "0x23456789abcdef", "%30123456789abcde", "..", "*"] {
        let answer = house.server.get(&house.mallory, &format!("/v1/runs/{id}")).await;
        assert!(matches!(answer.status(), 400 | 404), "{id}: {}", answer.status());
    }
    house.engine.open_gate();
    house.settle("guessing").await;
}
