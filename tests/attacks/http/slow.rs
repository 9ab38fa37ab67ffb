//! Clients that take their time: heads and bodies that trickle in, answers that nobody reads.

use std::time::{Duration, Instant};

use serde_json::json;
use sglhost_core::limits::ServerLimits;
use sglhost_tests::http::{Connection, Request};
use tokio::time::sleep;

use crate::house::House;

/// A house where nobody is waited for long.
async fn hasty() -> House {
    House::with(|setup| {
        setup.limits = ServerLimits {
            head_timeout: Duration::from_millis(500),
            idle_timeout: Duration::from_millis(800),
            body_progress_period: Duration::from_millis(300),
            slow_reader: Duration::from_millis(500),
            linger: Duration::from_millis(100),
            run_events_bytes_max: 64 << 10,
            ..setup.limits.clone()
        };
    })
    .await
}

/// Writes a byte at a time until the server closes the connection; says how long it took.
async fn trickle(connection: &mut Connection, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    for byte in bytes.iter().cycle() {
        if connection.try_write(&[*byte]).await.is_err() || start.elapsed() > Duration::from_secs(30) {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_trickles_in_is_cut_off() {
    let house = hasty().await;
    let mut connection = Connection::open(house.server.address).await;
    let took = trickle(&mut connection, b"GET / HTTP/1.1\r\nx-slow: ").await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    // Another one says nothing at all.
    assert!(Connection::open(house.server.address).await.is_closed().await);
    // A third asks once and then trickles.
    let mut connection = Connection::open(house.server.address).await;
    connection.write(&Request::get("/health").bytes(house.server.address)).await;
    assert_eq!(connection.answer("GET").await.unwrap().status(), 200);
    assert!(trickle(&mut connection, b"GET / HTTP/1.1\r\nx: ").await < Duration::from_secs(10));
    house.settle("slow heads").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_closed() {
    let house = hasty().await;
    let mut connection = Connection::open(house.server.address).await;
    connection.write(&Request::get("/health").bytes(house.server.address)).await;
    assert_eq!(connection.answer("GET").await.unwrap().status(), 200);
    let start = Instant::now();
    assert!(connection.is_closed().await);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    house.settle("an idle connection").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_trickles_in_is_cut_off() {
    let house = hasty().await;
    for request in [
        Request::upload("evil", b"").header("content-length", "1000000"),
        Request::upload("evil", b"").header("transfer-encoding", "chunked"),
        Request::post("/v1/programs/attacks/runs", &json!({})).body("").header("content-length", "1000000"),
    ] {
        let address = house.server.address;
        let mut connection = Connection::open(address).await;
        connection.write(&request.key(&house.mallory).bytes(address)).await;
        let answer = connection.answer("PUT").await.unwrap();
        assert_eq!(answer.verdict(), (408, "deadline-exceeded".to_owned()));
    }
    house.settle("slow bodies").await;
}

/// Many at once hold no more than their connections: a neighbour is served meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_slow_clients_disturb_nobody() {
    let house = House::new().await;
    let address = house.server.address;
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut connection = Connection::open(address).await;
        connection.write(b"GET / HTTP/1.1\r\nx-slow: ").await;
        held.push(connection);
    }
    house.neighbour("300 slow clients").await;
    drop(held);
    house.settle("300 slow clients").await;
}

/// Whoever starts a run and does not read it holds up that run alone, and not for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stands_still_is_given_up() {
    let house = hasty().await;
    let address = house.server.address;
    let body = json!({"arguments": {"attack": "endless"}});
    let request = Request::post("/v1/programs/attacks/runs", &body).header("accept", "text/event-stream");
    let mut connection = Connection::open(address).await;
    connection.write(&request.key(&house.mallory).bytes(address)).await;
    let head = connection.head("POST").await.unwrap();
    let run = head.header("x-run-id").unwrap().to_owned();
    // It reads nothing more, and keeps the connection. The system's own buffers fill, then the run's.
    let ended = loop {
        let run = house.server.get(&house.mallory, &format!("/v1/runs/{run}")).await.json();
        if run["status"] != "running" {
            break run;
        }
        house.neighbour("a reader that stands still").await;
    };
    assert_eq!(ended["status"], "cancelled", "{ended}");
    house.settle("a reader that stands still").await;
    drop(connection);
}
