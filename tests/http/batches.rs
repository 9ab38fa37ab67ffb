//! Batches: a line for each run, in the order in which they were asked for.

use serde_json::{Value, json};
use sglhost_tests::http::{Connection, Request};

use crate::house::{House, attack};

const BATCHES: &str = "/v1/programs/attacks/batches";

async fn lines(house: &House, body: &Value) -> Vec<Value> {
    let answer = house.post(BATCHES, body).await;
    assert_eq!((answer.status(), answer.head.header("content-type")), (200, Some("application/x-ndjson")));
    answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_are_in_order_and_a_wrong_run_is_its_line() {
    let house = House::new().await;
    let mut runs: Vec<Value> = (0..20).map(|_| attack("answer")).collect();
    runs[3] = attack("panic");
    runs[7] = json!({"arguments": {}});
    runs[9] = json!({"arguments": {"attack": "answer"}, "sampling": {"top_p": 7}});
    let lines = lines(&house, &json!({"runs": runs, "concurrency": 4})).await;
    assert_eq!(lines.len(), 20);
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line["index"], index);
        let expect = match index {
            3 => ("failed", "trap"),
            7 | 9 => ("", "invalid"),
            _ => ("succeeded", ""),
        };
        let said = (line["status"].as_str().unwrap_or_default(), line["error"]["code"].as_str().unwrap_or_default());
        assert_eq!(said, expect, "{line}");
    }
    assert_eq!(house.json("/v1/runs").await["runs"].as_array().unwrap().len(), 18);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_of_a_batch_overlap_and_wait_for_places() {
    // The machine takes 8 runs; a batch that may have 40 at once waits for its places.
    let house = House::new().await;
    let runs: Vec<Value> = (0..40).map(|_| attack("answer")).collect();
    let lines = lines(&house, &json!({"runs": runs, "concurrency": 40})).await;
    assert!(lines.iter().all(|line| line["status"] == "succeeded"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_cancels_all() {
    let house = House::new().await;
    let runs: Vec<Value> = (0..6).map(|_| attack("gate")).collect();
    let request = Request::post(BATCHES, &json!({"runs": runs, "concurrency": 3}));
    let mut connection = Connection::open(house.server.address).await;
    connection.write(&request.bytes(house.server.address)).await;
    while house.engine.submitted() < 3 {
        tokio::task::yield_now().await;
    }
    drop(connection);
    house.cancelled(3).await;
    house.server.settle().await;
    assert_eq!(house.engine.submitted(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_has_runs_and_not_too_many() {
    let house = House::new().await;
    let check = async |body: Value, message: &str| {
        let answer = house.post(BATCHES, &body).await;
        assert_eq!(answer.verdict(), (400, "invalid".to_owned()), "{body}");
        assert!(answer.text().contains(message), "{}", answer.text());
    };
    check(json!({}), "missing field `runs`").await;
    check(json!({"runs": []}), "a batch has 1 to 1000 runs").await;
    check(json!({"runs": vec![json!({}); 1001]}), "expected a list of at most 1000").await;
    check(json!({"runs": [{}], "concurrency": 0}), "it must be 1 to 64").await;
    check(json!({"runs": [{}], "concurrency": 65}), "it must be 1 to 64").await;
    check(json!({"runs": [[]]}), "expected an object").await;
    check(json!({"runs": [{"detach": true}]}), "unknown field `detach`").await;
    let nothing = house.post("/v1/programs/none/batches", &json!({"runs": [{}]})).await;
    assert_eq!(nothing.verdict(), (404, "not-found".to_owned()));
}
