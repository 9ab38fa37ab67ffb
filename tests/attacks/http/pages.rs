//! Pages of other origins, in a browser on the machine of whoever runs the server for themselves.

use sglhost_tests::http::Request;
use sglhost_tests::server::TestServer;

use crate::house::{House, component, local};

fn start() -> Request {
    Request::new("POST", "/v1/programs/attacks/runs").body(r#"{"arguments": {"attack": "answer"}}"#)
}

async fn status(server: &TestServer, request: Request) -> u16 {
    request.send(server.address).await.status()
}

/// What a browser sends for a page of `origin`, as a simple request: no preflight is asked for those.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_origin_starts_nothing() {
    let server = local(|_| ()).await;
    let port = server.address.port();
    for origin in [
        "https://evil.example".to_owned(),
        "null".to_owned(),
        "http://localhost".to_owned(),
        format!("http://localhost:{}", port ^ 1),
        format!("http://localhost:{port}"),
        format!("http://127.0.0.1:{port}.evil.example"),
        format!("http://evil.example:{port}"),
        format!("file://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{port}/"),
        String::new(),
    ] {
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/json"] {
            let request = start().header("origin", &origin).header("content-type", kind);
            let answer = request.send(server.address).await;
            assert_eq!(answer.verdict(), (403, "forbidden".to_owned()), "{origin} {kind}");
            assert!(answer.head.header("access-control-allow-origin").is_none());
        }
        let upload = Request::upload("evil", &component()).header("origin", &origin);
        assert_eq!(status(&server, upload).await, 403, "{origin}");
        assert_eq!(status(&server, Request::get("/v1/runs").header("origin", &origin)).await, 403, "{origin}");
        // A preflight is refused as well, and allows nothing.
        let preflight = Request::new("OPTIONS", "/v1/programs/evil")
            .header("origin", &origin)
            .header("access-control-request-method", "PUT")
            .header("access-control-request-headers", "content-type")
            .header("access-control-request-private-network", "true");
        let answer = preflight.send(server.address).await;
        assert_eq!(answer.status(), 403, "{origin}");
        let allows = ["origin", "methods", "headers", "private-network", "credentials"];
        for name in allows.map(|what| format!("access-control-allow-{what}")) {
            assert!(answer.head.header(&name).is_none(), "{name}");
        }
    }
    // Where a browser sends no origin, the type of the content keeps simple requests out.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        assert_eq!(status(&server, start().header("content-type", kind)).await, 415, "{kind}");
    }
    assert_eq!(status(&server, start()).await, 415);
    assert_eq!(server.get("", "/v1/runs").await.json()["runs"].as_array().unwrap().len(), 0, "nothing was started");
    // Its own page may.
    let own = start().header("origin", &format!("http://{}", server.address));
    assert_eq!(status(&server, own.header("content-type", "application/json")).await, 200);
}

/// A name of the page's own that resolves to this machine: then origin and host are the same, and neither is ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_was_rebound_is_not_ours() {
    let server = local(|_| ()).await;
    let port = server.address.port();
    for host in [
        format!("evil.example:{port}"),
        "evil.example".to_owned(),
        format!("127.0.0.1.evil.example:{port}"),
        format!("localhost.evil.example:{port}"),
        format!("localhost.:{port}"),
        format!("0.0.0.0:{port}"),
        format!("127.0.0.2:{port}"),
        format!("[::ffff:127.0.0.1]:{port}"),
        format!("2130706433:{port}"),
        format!("user@localhost:{port}"),
        format!("localhost:{port}@evil.example"),
        String::new(),
    ] {
        for path in ["/v1/runs", "/", "/metrics", "/health", "/openapi.json"] {
            let request = Request::get(path).header("host", &host).header("origin", &format!("http://{host}"));
            let answer = request.send(server.address).await;
            assert!(matches!(answer.status(), 400 | 421), "{host} {path}: {}", answer.status());
            let same_origin = Request::get(path).header("host", &host).send(server.address).await;
            assert!(matches!(same_origin.status(), 400 | 421), "{host} {path}: {}", same_origin.status());
        }
    }
    // A target that names the authority itself does not help, nor do two hosts.
    let absolute = Request::get(&format!("http://evil.example:{port}/v1/runs"));
    assert_eq!(status(&server, absolute).await, 421);
    let ours = format!("127.0.0.1:{port}");
    let two = Request::get("/v1/runs").header("host", &ours).header("host", "evil.example");
    assert_eq!(status(&server, two).await, 400);
    let forwarded = Request::get("/v1/runs").header("host", "evil.example").header("x-forwarded-host", &ours);
    assert_eq!(status(&server, forwarded).await, 421);
    for host in ["localhost", "127.0.0.1", "[::1]"] {
        assert_eq!(status(&server, Request::get("/v1/runs").header("host", &format!("{host}:{port}"))).await, 200);
    }
}

/// With keys the name is the operator's business; an origin is the server's own all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_keys_there_is_no_other_origin_either() {
    let house = House::new().await;
    let ask = async |host: &str, origin: &str| {
        let request = Request::get("/v1/runs").key(&house.alice).header("host", host).header("origin", origin);
        request.send(house.server.address).await.status()
    };
    assert_eq!(ask("programs.example", "https://programs.example").await, 200);
    for origin in ["https://evil.example", "null", "https://programs.example:8443", "https://programs.example.evil"] {
        assert_eq!(ask("programs.example", origin).await, 403, "{origin}");
    }
    house.settle("other origins").await;
}

/// The page runs nothing but its own scripts, and nobody frames it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_keeps_to_itself() {
    let server = local(|_| ()).await;
    for path in ["/", "/assets/app.js", "/assets/style.css"] {
        let answer = server.get("", path).await;
        let policy = answer.head.header("content-security-policy").unwrap();
        for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.head.header("x-content-type-options"), Some("nosniff"));
    }
    // What programs say is data and not a page, whatever it looks like.
    let answer = server.get("", "/v1/programs").await;
    assert_eq!(answer.head.header("content-type"), Some("application/json"));
}
