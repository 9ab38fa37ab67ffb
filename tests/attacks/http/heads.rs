//! Heads of requests that are too large, too many, or mean two things at once.

use sglhost_core::limits::ServerLimits;
use sglhost_tests::http::{Connection, Request};

use crate::house::{House, component};

/// The answer to `bytes`; none if the connection is closed without one.
async fn ask(house: &House, bytes: &[u8]) -> Option<u16> {
    let mut connection = Connection::open(house.server.address).await;
    connection.write(bytes).await;
    connection.answer("GET").await.map(|answer| answer.status())
}

/// The same, of which nothing more comes: what is no whole request is not waited for.
async fn ask_and_end(house: &House, bytes: &[u8]) -> Option<u16> {
    let mut connection = Connection::open(house.server.address).await;
    connection.write(bytes).await;
    connection.shutdown().await;
    connection.answer("GET").await.map(|answer| answer.status())
}

fn with_header(house: &House, name: &str, value: &str) -> Vec<u8> {
    Request::get("/health").header(name, value).bytes(house.server.address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_has_a_size() {
    let house = House::new().await;
    let limits = ServerLimits::default();
    assert_eq!(ask(&house, &with_header(&house, "x-long", &"x".repeat(8 << 10))).await, Some(200));
    for bytes in [limits.head_bytes_max, 1 << 20, 16 << 20] {
        assert_eq!(ask(&house, &with_header(&house, "x-long", &"x".repeat(bytes))).await, Some(431), "{bytes}");
        assert_eq!(ask(&house, &with_header(&house, &"x".repeat(bytes), "x")).await, Some(431), "{bytes}");
    }
    let path = format!("/{}", "x".repeat(limits.head_bytes_max));
    let answer = ask(&house, &Request::get(&path).bytes(house.server.address)).await;
    assert!(matches!(answer, Some(414 | 431)), "{answer:?}");
    house.settle("large heads").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_has_few_headers() {
    let house = House::new().await;
    let many = |count: usize| {
        let request = (0..count).fold(Request::get("/health"), |request, i| request.header(&format!("x-{i}"), "x"));
        request.bytes(house.server.address)
    };
    let max = ServerLimits::default().headers_max;
    assert_eq!(ask(&house, &many(max - 1)).await, Some(200));
    for count in [max, 1000, 4000] {
        assert_eq!(ask(&house, &many(count)).await, Some(431), "{count}");
    }
    house.settle("many headers").await;
}

/// What is no HTTP is answered with 400, or the connection is closed; nothing of it is taken for a request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_no_request() {
    let house = House::new().await;
    let binary: Vec<u8> = (0..=255).cycle().take(4096).collect();
    let garbage: [&[u8]; 12] = [
        b"",
        b"\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        &binary,
        b"GET\r\n\r\n",
        b"GET /health\r\n\r\n",
        b"GET /health HTTP/9.9\r\nhost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\nx\0y: z\r\n\r\n",
        b"GET /health HTTP/1.1\r\nhost: x\r\n folded: y\r\n\r\n",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ];
    for bytes in garbage {
        let status = ask_and_end(&house, bytes).await;
        assert!(matches!(status, None | Some(400 | 505)), "{status:?} to {:?}", String::from_utf8_lossy(bytes));
    }
    // After a good request, on the same connection.
    let mut connection = Connection::open(house.server.address).await;
    let mut bytes = Request::get("/health").bytes(house.server.address);
    bytes.extend(binary);
    connection.write(&bytes).await;
    assert_eq!(connection.answer("GET").await.unwrap().status(), 200);
    let second = connection.answer("GET").await.map(|answer| answer.status());
    assert!(matches!(second, None | Some(400)), "{second:?}");
    house.settle("garbage").await;
}

/// A proxy in front may read a message's end elsewhere than the server does: such messages are refused, and what would
/// follow is never taken for another's request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_has_one_end() {
    let house = House::new().await;
    // The hidden request would delete the program of whoever the connection is shared with.
    let hidden =
        format!("DELETE /v1/programs/attacks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", house.alice);
    let (length, none) = (hidden.len(), "0\r\n\r\n");
    let smuggling = [
        format!("content-length: 0\r\ncontent-length: {length}\r\n\r\n{hidden}"),
        format!("content-length: {length}\r\ncontent-length: 0\r\n\r\n{hidden}"),
        format!("content-length: 0, {length}\r\n\r\n{hidden}"),
        format!("content-length: +{length}\r\n\r\n{hidden}"),
        format!("content-length: 0x10\r\n\r\n{hidden}"),
        format!("content-length: -1\r\n\r\n{hidden}"),
        format!("content-length: 99999999999999999999999\r\n\r\n{hidden}"),
        format!("content-length : {length}\r\n\r\n{hidden}"),
        format!("transfer-encoding: chunked, identity\r\n\r\n{none}{hidden}"),
        format!("transfer-encoding: identity\r\n\r\n{none}{hidden}"),
        format!("transfer-encoding: xchunked\r\n\r\n{none}{hidden}"),
        format!("transfer-encoding: gzip, chunked\r\n\r\n{none}{hidden}"),
        format!("transfer-encoding: gzip\r\ntransfer-encoding: chunked\r\n\r\n{none}{hidden}"),
        format!("transfer-encoding : chunked\r\n\r\n{none}{hidden}"),
        format!("transfer-encoding: chunked\r\n\r\n-1\r\n{hidden}"),
        format!("transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{hidden}"),
        format!("transfer-encoding: chunked\r\n\r\n0;{}\r\n\r\n{hidden}", "x".repeat(1 << 20)),
    ];
    let head = format!(
        "POST /v1/programs/attacks/runs HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\n",
        house.server.address, house.mallory
    );
    for rest in smuggling {
        let mut connection = Connection::open(house.server.address).await;
        connection.write(format!("{head}{rest}").as_bytes()).await;
        connection.shutdown().await;
        let first = connection.answer("POST").await.map(|answer| answer.status());
        assert!(matches!(first, None | Some(400 | 413 | 431 | 501)), "{first:?} to {rest:.100?}");
        let second = connection.answer("POST").await;
        assert!(second.is_none(), "a second answer {second:?} to {rest:.100?}");
        assert_eq!(house.server.get(&house.alice, "/v1/programs/attacks").await.status(), 200, "{rest:.100?}");
    }
    // A coding within the pieces is not taken for the body, on any address.
    for (method, path) in [("POST", "/v1/programs/attacks/runs"), ("GET", "/health"), ("GET", "/nowhere")] {
        let request = Request::new(method, path).key(&house.mallory).header("content-type", "application/json");
        let request = request.header("transfer-encoding", "gzip, chunked").body("2\r\n{}\r\n0\r\n\r\n");
        let answer = request.send(house.server.address).await;
        assert_eq!(answer.verdict(), (501, "unsupported".to_owned()), "{path}");
        assert!(answer.text().contains("`chunked` alone"), "{}", answer.text());
    }
    // Both a length and chunks: chunks are what counts, and the connection ends with that message.
    let mut connection = Connection::open(house.server.address).await;
    let both = format!("{head}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{hidden}");
    connection.write(both.as_bytes()).await;
    connection.shutdown().await;
    let first = connection.answer("POST").await.map(|answer| answer.status());
    assert_eq!(first, Some(400), "refused, or read as the chunks say: no argument is there");
    let second = connection.answer("DELETE").await.map(|answer| answer.status());
    assert_eq!(second, None, "what follows an ambiguous message is no request");
    assert_eq!(house.server.get(&house.alice, "/v1/programs/attacks").await.status(), 200);
    house.settle("smuggling").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_methods_and_targets() {
    let house = House::new().await;
    let address = house.server.address;
    let check = async |method: &str, path: &str, expect: u16| {
        let request = Request::new(method, path).key(&house.mallory);
        let answer = request.try_send(address).await.map(|answer| answer.status());
        assert_eq!(answer, Some(expect), "{method} {path}");
    };
    for method in ["TRACE", "PATCH", "PROPFIND", "BREW", "get", "DELETE"] {
        check(method, "/v1/runs", 405).await;
    }
    check("OPTIONS", "/v1/runs", 204).await;
    check("HEAD", "/v1/runs", 200).await;
    // Absolute: the target's authority is who is asked; it is this server's all the same.
    check("GET", &format!("http://{address}/v1/runs"), 200).await;
    check("GET", "http://elsewhere.example/v1/runs", 200).await;
    check("GET", "//v1/runs", 404).await;
    check("GET", "/v1//runs", 404).await;
    check("GET", "/v1/runs/", 404).await;
    check("GET", "/V1/runs", 404).await;
    check("GET", "/v1/runs?", 200).await;
    check("GET", "/v1/runs?limit=0", 400).await;
    check("GET", "/v1/runs?limit=99999999999999999999", 400).await;
    check("GET", "/v1/runs?unknown=1", 400).await;
    check("GET", "/v1/runs?limit=1&limit=2", 400).await;
    check("GET", "/v1/usage?since=%00", 400).await;
    for target in ["CONNECT elsewhere.example:443", "OPTIONS *"] {
        let mut connection = Connection::open(address).await;
        let bytes = format!("{target} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\r\n", house.mallory);
        connection.write(bytes.as_bytes()).await;
        let method = target.split(' ').next().unwrap();
        let status = connection.answer(method).await.map(|answer| answer.status());
        assert!(status.is_some_and(|status| (400..500).contains(&status) || status == 204), "{status:?} to {target}");
    }
    house.settle("odd methods").await;
}

/// Many requests at once on one connection are answered one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order() {
    let house = House::new().await;
    let address = house.server.address;
    let mut connection = Connection::open(address).await;
    let mut bytes = Vec::new();
    for index in 0..200 {
        let path = if index % 2 == 0 { "/health" } else { "/nowhere" };
        bytes.extend(Request::get(path).bytes(address));
    }
    let mut upload = Request::upload("again", &component()).key(&house.mallory).bytes(address);
    bytes.append(&mut upload);
    connection.write(&bytes).await;
    for index in 0..200 {
        let expect = if index % 2 == 0 { 200 } else { 404 };
        assert_eq!(connection.answer("GET").await.unwrap().status(), expect, "{index}");
    }
    assert_eq!(connection.answer("PUT").await.unwrap().status(), 201);
    house.settle("pipelining").await;
}
