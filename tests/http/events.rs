//! A run's events: as they come, and again from any of them on.

use std::time::Duration;

use serde_json::{Value, json};
use sglhost_core::limits::ServerLimits;
use sglhost_tests::http::{Request, SentEvent};

use crate::house::{House, RUNS, attack};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_as_they_happen() {
    let house = House::new().await;
    let mut events = house.stream(&attack("gate")).await;
    let mut kinds = Vec::new();
    loop {
        let event = events.next().await.unwrap();
        assert_eq!((event.id, json_of(&event.data)["type"].as_str()), (kinds.len() as u64 + 1, Some(&*event.kind)));
        kinds.push(event.kind);
        // The call waits at the gate: what was before it is here, and nothing keeps it back.
        if kinds.last().is_some_and(|kind| kind == "call.started") {
            break;
        }
    }
    assert_eq!(kinds, ["run.started", "context.opened", "context.text", "call.started"]);
    house.engine.open_gate();
    let rest = events.rest().await;
    let text: String =
        rest.iter().filter(|event| event.kind == "call.delta").map(|event| text_of(&event.data)).collect();
    assert_eq!((text.as_str(), &*rest.last().unwrap().kind), ("<4>", "run.finished"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_says_when_it_was() {
    let house = House::new().await;
    let at = |event: &SentEvent| json_of(&event.data)["at_ms"].as_u64().unwrap();
    let id = house.detach("gate").await;
    let mut events = house.follow(&id, 0).await;
    let mut told = Vec::new();
    while told.last().is_none_or(|event: &SentEvent| event.kind != "call.started") {
        told.push(events.next().await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    house.engine.open_gate();
    told.extend(events.rest().await);
    assert!(told.is_sorted_by_key(at), "{told:?}");
    let (started, finished) = (told.iter().position(|event| event.kind == "call.started").unwrap(), told.len() - 1);
    assert!(at(&told[finished]) >= at(&told[started]) + 290, "{told:?}");
    // Told again it is the same.
    assert_eq!(house.follow(&id, 0).await.rest().await, told);
    let wall_time_ms = house.json(&format!("/v1/runs/{id}")).await["wall_time_ms"].as_u64().unwrap();
    assert!(at(&told[finished]).abs_diff(wall_time_ms) < 250, "{wall_time_ms} {told:?}");
}

fn json_of(data: &str) -> Value {
    serde_json::from_str(data).unwrap()
}

fn text_of(data: &str) -> String {
    json_of(data)["text"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_goes_on_from_any_event() {
    let house = House::new().await;
    let answer = house.post(RUNS, &attack("fork-state")).await;
    let id = answer.head.header("x-run-id").unwrap().to_owned();
    let all = house.follow(&id, 0).await.rest().await;
    assert!(all.len() > 10);
    for after in 0..=all.len() {
        let rest = house.follow(&id, after as u64).await.rest().await;
        assert_eq!(rest, all[after..], "after {after}");
        let request =
            Request::get(&format!("/v1/runs/{id}/events?after=0")).header("last-event-id", &after.to_string());
        assert_eq!(request.events(house.server.address).await.rest().await, all[after..], "last-event-id {after}");
    }
    assert_eq!(house.follow(&id, 1_000_000).await.rest().await, []);
    for (path, header) in [("?after=x", None), ("?after=-1", None), ("?from=1", None), ("", Some("x"))] {
        let request = Request::get(&format!("/v1/runs/{id}/events{path}"));
        let request = header.into_iter().fold(request, |request, value| request.header("last-event-id", value));
        assert_eq!(house.ask(request).await.status(), 400, "{path} {header:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_follow_one_run() {
    let house = House::new().await;
    let id = house.detach("gate").await;
    let mut readers = Vec::new();
    for _ in 0..5 {
        readers.push(house.follow(&id, 0).await);
    }
    // One that leaves changes nothing.
    readers.pop();
    house.engine.open_gate();
    let mut seen = Vec::new();
    for reader in &mut readers {
        seen.push(reader.rest().await);
    }
    assert_eq!(seen[0].last().unwrap().kind, "run.finished");
    assert!(seen.iter().all(|events| *events == seen[0]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_forgotten_is_gone() {
    let house = House::with(|setup| {
        setup.limits = ServerLimits { events_bytes_max: 0, ..setup.limits.clone() };
    })
    .await;
    let id = house.post(RUNS, &attack("answer")).await.json()["id"].as_str().unwrap().to_owned();
    let answer = loop {
        let answer = house.get(&format!("/v1/runs/{id}/events")).await;
        if answer.status() != 200 {
            break answer;
        }
    };
    assert_eq!(answer.verdict(), (410, "not-found".to_owned()));
    assert!(answer.text().contains(&format!("GET /v1/runs/{id}")), "{}", answer.text());
    assert_eq!(house.json(&format!("/v1/runs/{id}")).await["result"], json!("<13>"));
    assert_eq!(house.get("/v1/runs/0123456789abcdef/events").await.verdict(), (404, "not-found".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_run_forgets_its_first_events_unless_its_owner_reads() {
    let house = House::with(|setup| {
        setup.limits = ServerLimits { run_events_bytes_max: 4 << 10, ..setup.limits.clone() };
    })
    .await;
    let id = house.detach("endless").await;
    let answer = loop {
        let request = Request::get(&format!("/v1/runs/{id}/events?after=1"));
        // While all is there it is a stream, of which the head alone is wanted.
        let mut connection = sglhost_tests::http::Connection::open(house.server.address).await;
        connection.write(&request.bytes(house.server.address)).await;
        if connection.head("GET").await.unwrap().status == 410 {
            break house.get(&format!("/v1/runs/{id}/events?after=1")).await;
        }
    };
    assert!(answer.text().contains("the first that is there is"), "{}", answer.text());
    house.ask(Request::new("POST", &format!("/v1/runs/{id}/cancel"))).await;
    // The owner sees each.
    let mut events = house.stream(&attack("endless")).await;
    for expect in 1..500 {
        assert_eq!(events.next().await.unwrap().id, expect);
    }
}
