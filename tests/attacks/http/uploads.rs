//! Components that are none, are too large, take for ever to compile, or do harm when they are asked what they are.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sglhost_core::limits::{COMPONENT_BYTES_MAX, CompileLimits, ServerLimits};
use sglhost_runtime::Isolation;
use sglhost_tests::hostile::{bombs, describing, multiplying, slow_to_compile};
use sglhost_tests::http::{Connection, Request};

use crate::house::{House, component};

/// What is no program, and what is said of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_program_is_refused() {
    let house = House::new().await;
    let check = async |component: &[u8], status: u16, expect: &str| {
        let answer = Request::upload("evil", component).key(&house.mallory).send(house.server.address).await;
        assert_eq!(answer.verdict(), (status, "invalid".to_owned()));
        let error = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(error.starts_with(expect), "{error:?}, not {expect:?}");
    };
    check(b"", 400, "the body is empty").await;
    check(b"hello", 422, "this is not a WebAssembly component: it does not begin like WebAssembly").await;
    check(b"(component)", 422, "this is not a WebAssembly component: it is WebAssembly text").await;
    check(b"\x7fELF", 422, "this is not a WebAssembly component: it is native code").await;
    check(b"\0asm\x01\0\0\0", 422, "this is not a WebAssembly component: it is a core module").await;
    check(b"\0asm\x0d\0\x01\0", 422, "the component is not a prompt program (world sgl:program/program): ").await;
    let whole = component();
    check(&whole[..whole.len() / 2], 422, "the component cannot be compiled: ").await;
    let mut flipped = whole.clone();
    // Within the first module's code, where a changed byte is another instruction.
    let at = flipped.len() / 3;
    flipped[at..at + 64].fill(0xff);
    check(&flipped, 422, "the component cannot be compiled: ").await;
    assert_eq!(house.server.get(&house.mallory, "/v1/programs/evil").await.status(), 404);
    house.settle("what is no program").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_not_read() {
    let house = House::new().await;
    let address = house.server.address;
    // Of one that says so, nothing.
    for length in [COMPONENT_BYTES_MAX as u64 + 1, u64::MAX >> 1, u64::MAX] {
        let request = Request::upload("evil", b"").key(&house.mallory).header("content-length", &length.to_string());
        let mut connection = Connection::open(address).await;
        connection.write(&request.bytes(address)).await;
        let status = connection.answer("PUT").await.unwrap().status();
        // Of the last, HTTP itself says that it is no length.
        assert_eq!(status, if length == u64::MAX { 431 } else { 413 }, "{length}");
    }
    // Of one that does not say, no more than may be.
    let request = Request::upload("evil", b"").key(&house.mallory).header("transfer-encoding", "chunked");
    let mut connection = Connection::open(address).await;
    connection.write(&request.bytes(address)).await;
    let megabyte = [b"100000\r\n", &vec![0; 1 << 20][..], b"\r\n"].concat();
    for _ in 0..=COMPONENT_BYTES_MAX >> 20 {
        connection.write(&megabyte).await;
    }
    assert_eq!(connection.answer("PUT").await.unwrap().verdict(), (413, "limit-exceeded".to_owned()));
    // Whoever goes on all the same is not listened to for long.
    let start = std::time::Instant::now();
    while connection.try_write(&megabyte).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(30), "it reads on");
    }
    house.settle("what is too large").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_as_something_else_is_refused() {
    let house = House::new().await;
    for kind in ["text/plain", "application/json", "multipart/form-data", "application/wasmx", "", "\u{fe}"] {
        let request = Request::new("PUT", "/v1/programs/evil").key(&house.mallory).header("content-type", kind);
        let answer = request.body(component()).send(house.server.address).await;
        assert_eq!(answer.verdict(), (415, "unsupported".to_owned()), "{kind:?}");
    }
    house.settle("other types").await;
}

/// A server that compiles in processes of their own, with small budgets.
async fn isolated(test: &str) -> House {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("http-isolation").join(test);
    let _ = fs::remove_dir_all(&cache);
    let limits = CompileLimits {
        compile_cpu_budget: Duration::from_secs(5),
        describe_cpu_budget: Duration::from_millis(300),
        describe_deadline: Duration::from_secs(10),
        ..CompileLimits::default()
    };
    House::at(&cache, |setup| {
        setup.isolation = Some(Isolation {
            program: env!("CARGO_BIN_EXE_compile_child").into(),
            arguments: vec!["compile".into()],
            limits,
        });
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_harm_when_it_is_described_is_refused() {
    let house = isolated("describe").await;
    for harm in ["spin", "allocate", "recurse", "trap", "huge", "deep", "text", "array", "nameless"] {
        let request = Request::upload("evil", &describing(harm)).key(&house.mallory);
        let address = house.server.address;
        let upload = tokio::spawn(async move { request.send(address).await });
        while !upload.is_finished() {
            house.neighbour(harm).await;
        }
        let answer = upload.await.unwrap();
        assert_eq!(answer.status(), 422, "{harm}: {}", answer.text());
        assert!(answer.body.len() < 4096, "{harm}: {} bytes are said of it", answer.body.len());
    }
    assert_eq!(house.server.get(&house.mallory, "/v1/programs/evil").await.status(), 404);
    house.settle("describing").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_too_much_for_its_instance_is_refused() {
    let house = isolated("bombs").await;
    for (name, component, expect) in bombs() {
        let request = Request::upload("evil", &component).key(&house.mallory);
        let address = house.server.address;
        let upload = tokio::spawn(async move { request.send(address).await });
        while !upload.is_finished() {
            house.neighbour(name).await;
        }
        let answer = upload.await.unwrap();
        assert_eq!(answer.verdict(), (422, "invalid".to_owned()), "{name}: {}", answer.text());
        let error = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(error.starts_with(expect), "{name}: {error:?}, not {expect:?}");
    }
    let request = Request::upload("evil", &multiplying(None, 17)).key(&house.mallory);
    let answer = request.send(house.server.address).await;
    assert_eq!(answer.status(), 422, "{}", answer.text());
    assert_eq!(house.server.get(&house.mallory, "/v1/programs/evil").await.status(), 404);
    house.settle("bombs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_takes_for_ever_to_compile_ends() {
    let house = isolated("slow").await;
    let request = Request::upload("evil", &slow_to_compile(500_000)).key(&house.mallory);
    let address = house.server.address;
    let upload = tokio::spawn(async move { request.send(address).await });
    let mut beside = 0;
    while !upload.is_finished() {
        house.neighbour("a slow compilation").await;
        beside += 1;
    }
    let answer = upload.await.unwrap();
    assert_eq!(answer.status(), 422, "{}", answer.text());
    assert!(beside > 0);
    house.settle("a slow compilation").await;
}

/// Uploads that never end hold their client's connection, and none of the server's memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_share_their_room() {
    let house = House::with(|setup| {
        setup.limits = ServerLimits { bodies_bytes_max: 8 << 20, ..setup.limits.clone() };
    })
    .await;
    let address = house.server.address;
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..4 {
        let request = Request::upload("evil", &[0; 3 << 20]).key(&house.mallory).header("content-length", "4000000");
        let mut connection = Connection::open(address).await;
        connection.write(&request.bytes(address)).await;
        held.push(connection);
    }
    // Two of three megabytes fit into eight; the others are told to come again, before they are read whole.
    for connection in &mut held {
        let wait = tokio::time::timeout(Duration::from_millis(500), connection.answer("PUT")).await;
        if let Ok(Some(answer)) = wait {
            assert_eq!(answer.verdict(), (503, "unavailable".to_owned()));
            assert!(answer.head.header("retry-after").is_some());
            refused += 1;
        }
    }
    assert!(refused >= 2, "{refused} of 4 were refused");
    drop(held);
    house.settle("bodies that do not end").await;
}
