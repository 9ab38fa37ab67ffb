//! Runs: started, waited for, detached, cancelled, asked for twice.

use serde_json::{Value, json};
use sglhost_tests::http::{Connection, Request};

use crate::house::{House, RUNS, attack};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_answered_when_it_has_ended() {
    let house = House::new().await;
    let answer = house.post(RUNS, &attack("answer")).await;
    let run = answer.json();
    assert_eq!((answer.status(), answer.head.header("x-run-id")), (200, run["id"].as_str()));
    assert_eq!(answer.head.header("cache-control"), Some("no-store"));
    assert!(run["created_at"].as_str() <= run["finished_at"].as_str(), "{run}");
    let expect = json!({
        "id": run["id"], "program": "attacks", "version": 1, "digest": run["digest"], "status": "succeeded",
        "created_at": run["created_at"], "finished_at": run["finished_at"], "wall_time_ms": run["wall_time_ms"],
        "cpu_time_us": run["cpu_time_us"], "result": "<13>", "variables": {"answer": "<13>"},
        "usage": {"prompt_tokens": 13, "cached_tokens": 0, "completion_tokens": 4},
    });
    assert_eq!(run, expect);
    assert_eq!(house.json(&format!("/v1/runs/{}", run["id"].as_str().unwrap())).await, run);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_fails_says_so() {
    let house = House::new().await;
    let run = house.post(RUNS, &attack("panic")).await;
    assert_eq!(run.status(), 200);
    let run = run.json();
    assert_eq!((&run["status"], &run["error"]["code"], run.get("result")), (&json!("failed"), &json!("trap"), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_told_before_a_run_begins() {
    let house = House::new().await;
    for (body, message) in [
        (r#"{"arguments":{}}"#, "argument \"attack\" is missing"),
        ("", "argument \"attack\" is missing"),
        (r#"{"arguments":{"attack":1}}"#, "argument \"attack\" is 1; it must be of type string"),
        (r#"{"arguments":{"attack":"answer","x":1}}"#, "unknown argument \"x\""),
        (r#"{"arguments":[]}"#, "the arguments are an array; they must be a JSON object"),
        (r#"{"arguments":null}"#, "the arguments are null"),
        (r#"{"argument":{}}"#, "the body: unknown field `argument`"),
        (r#"{"sampling":{"temprature":1}}"#, "the body: unknown field `temprature`"),
        (r#"{"sampling":{"top_p":2}}"#, "sampling: top_p is 2; it must be in (0, 1]"),
        (r#"{"seed":-1}"#, "the body: -1 is no whole number"),
        (r#"{"sampling":[0]}"#, "the body: invalid type: sequence, expected an object"),
        (r#"{"detach":"yes"}"#, "the body: invalid type"),
        ("{} {}", "the body: trailing characters"),
        ("[]", "the body: invalid"),
    ] {
        let request = Request::new("POST", RUNS).header("content-type", "application/json").body(body);
        let answer = house.ask(request).await;
        assert_eq!(answer.verdict(), (400, "invalid".to_owned()), "{body}");
        let said = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(said.starts_with(message), "{body}: {said}");
    }
    assert_eq!(house.post("/v1/programs/none/runs", &json!({})).await.status(), 404);
    assert_eq!(house.post("/v1/programs/attacks@9/runs", &json!({})).await.status(), 404);
    assert_eq!(house.json("/v1/runs").await["runs"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sampling_and_seed_reach_the_engine() {
    let house = House::new().await;
    let mut body = attack("draws");
    body["seed"] = json!(7);
    body["sampling"] = json!({"temperature": 0, "max_tokens": 3, "top_p": null});
    let (once, again) = (house.post(RUNS, &body).await.json(), house.post(RUNS, &body).await.json());
    assert_eq!(once["status"], "succeeded", "{once}");
    assert_eq!(once["result"], again["result"]);
    body["seed"] = json!(8);
    assert_ne!(house.post(RUNS, &body).await.json()["result"], once["result"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detached_run_goes_on_by_itself() {
    let house = House::new().await;
    let mut body = attack("gate");
    body["detach"] = json!(true);
    let mut connection = Connection::open(house.server.address).await;
    connection.write(&Request::post(RUNS, &body).bytes(house.server.address)).await;
    let began = connection.answer("POST").await.unwrap();
    drop(connection);
    let path = began.head.header("location").unwrap().to_owned();
    assert_eq!((began.status(), house.json(&path).await["status"].as_str()), (202, Some("running")));
    house.engine.open_gate();
    let run = house.ended(path.rsplit('/').next().unwrap()).await;
    assert_eq!((&run["status"], &run["result"]), (&json!("succeeded"), &json!("<4>")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_cancels_what_it_waits_for() {
    let house = House::new().await;
    for (accept, calls) in [("*/*", 1), ("text/event-stream", 2)] {
        let mut connection = Connection::open(house.server.address).await;
        let request = Request::post(RUNS, &attack("gate")).header("accept", accept);
        connection.write(&request.bytes(house.server.address)).await;
        while house.engine.submitted() < calls {
            tokio::task::yield_now().await;
        }
        drop(connection);
        house.cancelled(calls).await;
    }
    house.server.settle().await;
    let runs = house.json("/v1/runs").await["runs"].clone();
    let ends = runs.as_array().unwrap().iter().map(|run| run["status"].as_str().unwrap());
    assert!(ends.eq(["cancelled", "cancelled"]), "{runs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_cancelled_is_answered_when_it_ended() {
    let house = House::new().await;
    let id = house.detach("gate").await;
    let cancel = || house.ask(Request::new("POST", &format!("/v1/runs/{id}/cancel")));
    let run = cancel().await.json();
    assert_eq!((&run["status"], &run["error"]["code"]), (&json!("cancelled"), &json!("cancelled")));
    assert_eq!(cancel().await.json(), run, "what has ended stays as it is");
    let id = house.post(RUNS, &attack("answer")).await.json()["id"].as_str().unwrap().to_owned();
    let run = house.ask(Request::new("POST", &format!("/v1/runs/{id}/cancel"))).await.json();
    assert_eq!(run["status"], "succeeded");
    let none = house.ask(Request::new("POST", "/v1/runs/0000000000000000/cancel")).await;
    assert_eq!(none.verdict(), (404, "not-found".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_means_the_same_run() {
    let house = House::new().await;
    let start = |name: &str, detach: bool, accept: &str| {
        let mut body = attack(name);
        body["detach"] = json!(detach);
        Request::post(RUNS, &body).header("idempotency-key", "k-1").header("accept", accept)
    };
    let began = house.ask(start("gate", true, "*/*")).await;
    let id = began.json()["id"].clone();
    let again = house.ask(start("gate", true, "*/*")).await;
    assert_eq!(
        (again.status(), &again.json()["id"], again.head.header("location")),
        (202, &id, began.head.header("location"))
    );
    let other = house.ask(start("answer", true, "*/*")).await;
    assert_eq!(other.verdict(), (409, "conflict".to_owned()));
    house.engine.open_gate();
    house.ended(id.as_str().unwrap()).await;
    // One that waits for the end.
    let wait = |key: &str| Request::post(RUNS, &attack("answer")).header("idempotency-key", key);
    let first = house.ask(wait("k-2")).await.json();
    assert_eq!(house.ask(wait("k-2")).await.json(), first);
    assert_ne!(house.ask(wait("k-3")).await.json()["id"], first["id"]);
    // One that wants the events has them again.
    let request = wait("k-2").header("accept", "text/event-stream");
    let events = request.events(house.server.address).await.rest().await;
    assert_eq!((events[0].id, &*events[0].kind, &*events.last().unwrap().kind), (1, "run.started", "run.finished"));
    assert_eq!(house.engine.submitted(), 3);
    for wrong in ["", "a b", &"k".repeat(256)] {
        assert_eq!(house.ask(wait(wrong)).await.status(), 400, "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_that_goes_away_cancels_nothing() {
    let house = House::new().await;
    let wait = || Request::post(RUNS, &attack("gate")).header("idempotency-key", "k");
    let address = house.server.address;
    let first = tokio::spawn(async move { wait().send(address).await.json() });
    while house.engine.submitted() < 1 {
        tokio::task::yield_now().await;
    }
    let mut replay = wait().header("accept", "text/event-stream").events(address).await;
    assert_eq!(replay.next().await.unwrap().kind, "run.started");
    drop(replay);
    house.engine.open_gate();
    assert_eq!(first.await.unwrap()["result"], "<4>");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_listed_newest_first() {
    let house = House::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, house.post(RUNS, &attack("answer")).await.json()["id"].clone());
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/runs?limit=2".to_owned());
    loop {
        let page = house.json(&path).await;
        let runs = page["runs"].as_array().unwrap();
        assert!(runs.iter().all(|run| run.get("result").is_none() && run.get("variables").is_none()), "{page}");
        assert!(runs.iter().all(|run| run["usage"]["prompt_tokens"] == 13), "{page}");
        seen.extend(runs.iter().map(|run| run["id"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/runs?limit=2&after={next}");
    }
    assert_eq!(seen, ids);
    for wrong in ["after=1", "after=XYZ", "limit=0", "status=failed"] {
        assert_eq!(house.get(&format!("/v1/runs?{wrong}")).await.status(), 400, "{wrong}");
    }
    assert_eq!(house.get("/v1/runs/1").await.status(), 400);
    assert_eq!(house.get("/v1/runs/0123456789abcdef").await.verdict(), (404, "not-found".to_owned()));
    let failed = house.post(RUNS, &attack("panic")).await.json();
    assert_eq!(house.json("/v1/runs?limit=1").await["runs"][0]["error"], failed["error"]);
    let _: &Value = &failed;
}
