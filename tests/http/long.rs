//! Long answers and long arguments: whoever asks for them holds nobody else up.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sglhost_core::{ProgramId, Quotas, RunId, RunRecord, TenantId, Usage};
use sglhost_store::{NewRun, RunEnd, RunStatus, Store as _};
use sglhost_tests::http::Request;

use crate::house::{House, RUNS};

/// A neighbour's `GET /v1/programs` takes some milliseconds, and took seconds where results were read and written again
/// on the threads that serve: between the two for a machine that does much else.
const PATIENCE: Duration = Duration::from_millis(2500);

/// As long as a result may be: an array of four million zeros.
fn zeros() -> String {
    format!("[{}0]", "0,".repeat(4_000_000 - 1))
}

/// Asks with a client of its own, on a thread of its own, and gives the status.
fn ask(address: SocketAddr, request: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    // A server that refuses a long body need not read it.
    let _ = stream.write_all(request);
    let (mut status, mut piece) = ([0; 12], vec![0; 1 << 20]);
    stream.read_exact(&mut status).unwrap();
    while stream.read(&mut piece).is_ok_and(|read| read > 0) {}
    std::str::from_utf8(&status[9..]).unwrap().parse().unwrap()
}

/// How long a neighbour waits for its list of programs while `request` is sent so many times; and how often that was
/// answered well.
fn beside(address: SocketAddr, neighbour: &str, times: usize, request: &Request) -> (Vec<Duration>, Vec<u16>) {
    let bytes = request.clone().header("connection", "close").bytes(address);
    let list = Request::get("/v1/programs").key(neighbour).header("connection", "close").bytes(address);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let mut waits = Vec::new();
            while !over.load(Ordering::Relaxed) || waits.is_empty() {
                let asked = Instant::now();
                assert_eq!(ask(address, &list), 200);
                waits.push(asked.elapsed());
            }
            waits.sort();
            waits
        });
        let asks: Vec<_> = (0..times).map(|_| scope.spawn(|| ask(address, &bytes))).collect();
        let statuses = asks.into_iter().map(|ask| ask.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        (waits.join().unwrap(), statuses)
    })
}

async fn check(house: &House, neighbour: &str, what: &str, times: usize, request: Request, expect: u16) {
    let (address, neighbour) = (house.server.address, neighbour.to_owned());
    let asking = tokio::task::spawn_blocking(move || beside(address, &neighbour, times, &request));
    let (waits, statuses) = asking.await.unwrap();
    let (count, max) = (waits.len(), *waits.last().unwrap());
    println!("a neighbour of {what}: {count} lists, p50 {:?}, max {max:?}", waits[count / 2]);
    // Some find no room for so much at once, and are told so.
    assert!(statuses.iter().all(|status| [expect, 429].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&expect), "{statuses:?}");
    assert!(max < PATIENCE, "a neighbour of {what} waited {max:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_answers_and_arguments_hold_no_neighbour_up() {
    let house = House::new().await;
    let mallory = house.server.tenant("mallory", &Quotas::unlimited()).await;
    let alice = house.server.tenant("alice", &Quotas::unlimited()).await;
    house.server.upload(&mallory, "attacks", &crate::house::component()).await;
    let new = NewRun {
        id: RunId(7),
        tenant: TenantId("mallory".into()),
        program: "attacks".to_owned(),
        version: 1,
        digest: ProgramId("00".into()),
        started_ms: 1,
        idempotency: None,
    };
    let usage = Usage::default();
    let record = RunRecord::default().ended(&Ok(zeros()), usage).into();
    let end = RunEnd { status: RunStatus::Succeeded, finished_ms: 2, record, error: None, usage, cpu_time_us: 3 };
    house.server.store.start_run(new).await.unwrap();
    house.server.store.finish_run(RunId(7), end).await.unwrap();
    let run = Request::get("/v1/runs/0000000000000007").key(&mallory);
    let whole = run.send(house.server.address).await;
    assert!(whole.text().contains(r#""result":[0,0,0,0,"#));
    assert_eq!(whole.head.header("content-length"), Some(&*whole.body.len().to_string()));
    check(&house, &alice, "a result of four million zeros", 60, run, 200).await;

    let arguments = Request::new("POST", RUNS).header("content-type", "application/json").key(&mallory);
    let arguments = arguments.body(format!(r#"{{"arguments": {{"attack": {}}}}}"#, zeros()));
    check(&house, &alice, "arguments of four million zeros", 12, arguments, 400).await;
}
