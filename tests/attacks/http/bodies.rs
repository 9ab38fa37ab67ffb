//! JSON that is deep, large, or says things twice; idempotency keys and event numbers that are none; batches without end.

use serde_json::{Value, json};
use sglhost_core::limits::ServerLimits;
use sglhost_tests::http::{Answer, Request};

use crate::house::House;

const RUNS: &str = "/v1/programs/attacks/runs";

async fn start(house: &House, body: impl Into<Vec<u8>>) -> Answer {
    let request = Request::new("POST", RUNS).header("content-type", "application/json").key(&house.mallory);
    request.body(body).send(house.server.address).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn json_that_harms_is_refused() {
    let house = House::new().await;
    let deep = |open: &str, close: &str, depth: usize| format!("{}{}", open.repeat(depth), close.repeat(depth));
    let bodies = [
        deep("[", "]", 1_000_000),
        deep("{\"a\":", "}", 500_000),
        format!("{{\"arguments\": {}}}", deep("[", "]", 1_000_000)),
        format!("{{\"arguments\": {{\"attack\": {}}}}}", deep("[", "]", 200)),
        format!("{{\"sampling\": {}}}", deep("[", "]", 100_000)),
        format!("{{\"seed\": 1{}}}", "0".repeat(1_000_000)),
        "{\"seed\": 1e999999999}".to_owned(),
        "{\"seed\": -1}".to_owned(),
        "{\"seed\": 1.5}".to_owned(),
        "{\"priority\": 99999999999}".to_owned(),
        "{\"sampling\": {\"temperature\": -1}}".to_owned(),
        "{\"sampling\": {\"temperature\": 1e39}}".to_owned(),
        "{\"sampling\": {\"max_tokens\": 4294967296}}".to_owned(),
        "{\"sampling\": {\"top_p\": NaN}}".to_owned(),
        "{\"detach\": \"yes\"}".to_owned(),
        "{\"seed\": 1, \"seed\": 2}".to_owned(),
        "{\"arguments\": {\"attack\": \"answer\"}, \"arguments\": {\"attack\": \"loop\"}}".to_owned(),
        "{\"unknown\": 1}".to_owned(),
        "{\"arguments\": {}}".to_owned(),
        "{\"arguments\": []}".to_owned(),
        "{\"arguments\": {\"attack\": 1}}".to_owned(),
        "{\"arguments\": {\"attack\": \"\\ud800\"}}".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "1".to_owned(),
        "{".to_owned(),
        "{} {}".to_owned(),
        "\u{feff}{}".to_owned(),
    ];
    for body in bodies {
        let answer = start(&house, body.clone()).await;
        assert_eq!(answer.verdict(), (400, "invalid".to_owned()), "{body:.80}");
        assert!(answer.body.len() < 2048, "{body:.80}: {} bytes are said of it", answer.body.len());
    }
    for body in [&b"\xff\xfe"[..], b"{\"arguments\": {\"attack\": \"\xff\"}}", b"\0"] {
        assert_eq!(start(&house, body).await.verdict(), (400, "invalid".to_owned()), "{body:?}");
    }
    assert_eq!(house.server.get(&house.mallory, "/v1/runs").await.json()["runs"], json!([]), "nothing began");
    house.settle("JSON").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_have_a_size() {
    let house = House::new().await;
    let body = |bytes: usize| format!("{{\"arguments\": {{\"attack\": \"{}\"}}}}", "x".repeat(bytes));
    let max = ServerLimits::default().run_body_bytes_max;
    // As long as may be: the program's own answer names what it was asked for, as far as it may.
    let answer = start(&house, body(max - 100)).await;
    assert!(matches!(answer.status(), 200 | 400), "{}", answer.status());
    assert!(answer.body.len() < 2 * max);
    assert_eq!(start(&house, body(max)).await.verdict(), (413, "limit-exceeded".to_owned()));
    // In a name: errors repeat what is wrong, and are short all the same.
    let name = format!("{{\"arguments\": {{\"attack\": \"answer\", \"{}\": 1}}}}", "n".repeat(1 << 20));
    let answer = start(&house, name).await;
    assert_eq!(answer.verdict(), (400, "invalid".to_owned()));
    assert!(answer.body.len() < 64 << 10, "{} bytes are said of it", answer.body.len());
    let unknown = format!("{{\"{}\": 1}}", "u".repeat(1 << 20));
    let answer = start(&house, unknown).await;
    assert_eq!(answer.verdict(), (400, "invalid".to_owned()));
    assert!(answer.body.len() < 64 << 10, "{} bytes are said of it", answer.body.len());
    house.settle("long arguments").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_means_one_request() {
    let house = House::new().await;
    let start = async |key: &str, attack: &str, extra: Value| {
        let mut body = json!({"arguments": {"attack": attack}});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let request = Request::post(RUNS, &body).header("idempotency-key", key).key(&house.mallory);
        request.send(house.server.address).await
    };
    let first = start("one", "answer", json!({})).await;
    assert_eq!(first.status(), 200);
    assert_eq!(start("one", "answer", json!({})).await.json(), first.json());
    for (attack, extra) in [("order", json!({})), ("answer", json!({"seed": 1})), ("answer", json!({"detach": true}))] {
        let answer = start("one", attack, extra).await;
        assert_eq!(answer.verdict(), (409, "conflict".to_owned()));
    }
    for key in ["", " ", "a b", "a\u{e9}", "\u{1f600}", &"k".repeat(256), "a\tb"] {
        assert_eq!(start(key, "answer", json!({})).await.verdict(), (400, "invalid".to_owned()), "{key:?}");
    }
    assert_eq!(start(&"k".repeat(255), "answer", json!({})).await.status(), 200);
    let request = Request::post(RUNS, &json!({"arguments": {"attack": "answer"}})).key(&house.mallory);
    let twice = request.header("idempotency-key", "a").header("idempotency-key", "b").send(house.server.address).await;
    assert_eq!(twice.verdict(), (400, "invalid".to_owned()));
    // Fifty at once are one run.
    let before = house.server.metric("sglhost_started_runs_total ").await;
    let runs: Vec<_> = (0..50)
        .map(|_| {
            let request = Request::post(RUNS, &json!({"arguments": {"attack": "order"}}));
            let request = request.header("idempotency-key", "fifty").key(&house.mallory);
            let address = house.server.address;
            tokio::spawn(async move { request.send(address).await })
        })
        .collect();
    let mut ids = std::collections::BTreeSet::new();
    for run in runs {
        let answer = run.await.unwrap();
        // Beyond the places there are, one that comes while the first is on its way into the store is asked back.
        match answer.status() {
            200 => drop(ids.insert(answer.json()["id"].as_str().unwrap().to_owned())),
            status => assert_eq!(status, 503, "{}", answer.text()),
        }
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(house.server.metric("sglhost_started_runs_total ").await - before, 1.0);
    house.settle("idempotency keys").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_events_number_is_a_number() {
    let house = House::new().await;
    let run = house.server.attack(&house.mallory, "order").await["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/runs/{run}/events");
    let all = house.server.follow(&house.mallory, &run).await.rest().await;
    let follow = |id: &str| Request::get(&path).key(&house.mallory).header("last-event-id", id);
    for after in 0..=all.len() {
        let rest = follow(&after.to_string()).events(house.server.address).await.rest().await;
        assert_eq!(rest, all[after..]);
    }
    // Beyond the end there is nothing, and nothing will come: the stream ends at once.
    for beyond in [all.len() as u64 + 1, u64::from(u32::MAX), u64::MAX] {
        assert_eq!(follow(&beyond.to_string()).events(house.server.address).await.rest().await, []);
    }
    for wrong in ["", "-1", "1.5", "x", "0x1", "18446744073709551616", "1,2", &"9".repeat(5000), "\u{e9}"] {
        let answer = follow(wrong).send(house.server.address).await;
        assert_eq!(answer.verdict(), (400, "invalid".to_owned()), "{wrong:.20}");
    }
    for wrong in ["after=-1", "after=x", "after=1&after=2", "after=18446744073709551616", "before=1"] {
        let answer = Request::get(&format!("{path}?{wrong}")).key(&house.mallory).send(house.server.address).await;
        assert_eq!(answer.verdict(), (400, "invalid".to_owned()), "{wrong}");
    }
    house.settle("event numbers").await;
}

/// Events that are forgotten are said to be, with what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forgotten_events_are_gone() {
    let house = House::with(|setup| setup.limits.run_events_bytes_max = 2048).await;
    let run = house.server.detach(&house.mallory, "endless").await;
    let path = format!("/v1/runs/{run}/events");
    let gone = loop {
        let answer = Request::get(&path).key(&house.mallory);
        let mut connection = sglhost_tests::http::Connection::open(house.server.address).await;
        connection.write(&answer.bytes(house.server.address)).await;
        let head = connection.head("GET").await.unwrap();
        if head.status == 410 {
            break house.server.get(&house.mallory, &path).await;
        }
    };
    assert_eq!(gone.verdict(), (410, "not-found".to_owned()));
    let cancelled = house.server.post(&house.mallory, &format!("/v1/runs/{run}/cancel"), &json!({})).await.json();
    assert!(matches!(cancelled["status"].as_str(), Some("cancelled" | "failed")), "{cancelled}");
    house.settle("forgotten events").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_has_an_end() {
    let house = House::new().await;
    let batch = async |body: Value| house.server.post(&house.mallory, "/v1/programs/attacks/batches", &body).await;
    let runs = |count: usize| vec![json!({"arguments": {"attack": "answer"}}); count];
    for body in [
        json!({}),
        json!({"runs": []}),
        json!({"runs": runs(1001)}),
        json!({"runs": vec![json!({}); 100_000]}),
        json!({"runs": runs(1), "concurrency": 0}),
        json!({"runs": runs(1), "concurrency": 1_000_000}),
        json!({"runs": runs(1), "concurrency": -1}),
        json!({"runs": [{"unknown": 1}]}),
        json!({"runs": [1]}),
        json!({"runs": {"0": {}}}),
    ] {
        let shown = format!("{body:.80}");
        assert_eq!(batch(body).await.verdict(), (400, "invalid".to_owned()), "{shown}");
    }
    // What is wrong with a run is its line; and attacks in it are, too.
    let attacks = ["answer", "panic", "contexts", "memory"].map(|attack| json!({"arguments": {"attack": attack}}));
    let mixed =
        [&attacks[..], &[json!({"arguments": {"attack": 7}}), json!({"sampling": {"temperature": -1}})]].concat();
    let answer = batch(json!({"runs": mixed, "concurrency": 64})).await;
    assert_eq!(answer.status(), 200);
    let lines: Vec<Value> = answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let codes: Vec<&str> = lines.iter().map(|line| line["error"]["code"].as_str().unwrap_or("none")).collect();
    assert_eq!(codes, ["none", "trap", "limit-exceeded", "limit-exceeded", "invalid", "invalid"]);
    assert!(lines.iter().enumerate().all(|(index, line)| line["index"] == index));
    // Whoever goes away takes all of its runs along.
    let body = json!({"runs": vec![json!({"arguments": {"attack": "endless"}}); 1000], "concurrency": 64});
    let request = Request::post("/v1/programs/attacks/batches", &body).key(&house.mallory);
    let mut connection = sglhost_tests::http::Connection::open(house.server.address).await;
    connection.write(&request.bytes(house.server.address)).await;
    assert_eq!(connection.head("POST").await.unwrap().status, 200);
    drop(connection);
    house.settle("batches").await;
}
