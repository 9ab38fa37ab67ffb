//! Names that want to be paths.

use sglhost_tests::http::Request;

use crate::house::{House, component};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_a_name() {
    let house = House::new().await;
    let long = "x".repeat(65);
    let digest = format!("attacks@sha256:{}", "0".repeat(63));
    let names = [
        "%2e%2e%2fattacks",
        "..%2f..%2f..%2fetc%2fpasswd",
        "..",
        "%2e%2e",
        "%2e",
        "attacks%2f..%2fattacks",
        "attacks%00",
        "attacks%00.wasm",
        "%00",
        "attacks%0a",
        "attacks%0d%0ax-evil:%201",
        "attacks%20",
        "%20attacks",
        "ATTACKS",
        "%ef%bd%81ttacks",
        "\u{430}ttacks",
        "attacks%e2%80%ae",
        "%ff%fe",
        "%c0%ae%c0%ae",
        "attacks\\..",
        "attacks;x",
        "attacks'--",
        "attacks\"",
        "%25%32%65",
        "-attacks",
        "_attacks",
        "a.b",
        "con:",
        "attacks@",
        "@1",
        "attacks@@1",
        "attacks@1@2",
        "attacks@-1",
        "attacks@99999999999999999999",
        "attacks@1.0",
        "attacks@sha256:",
        "attacks@sha256:..%2f..",
        &digest,
        &long,
    ];
    for name in names {
        for (method, suffix) in
            [("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/runs"), ("POST", "/batches"), ("GET", "/versions")]
        {
            let request = Request::new(method, &format!("/v1/programs/{name}{suffix}")).key(&house.mallory);
            let request = match (method, suffix) {
                ("PUT", _) => request.header("content-type", "application/wasm").body(component()),
                ("POST", _) => request.header("content-type", "application/json").body("{}"),
                _ => request,
            };
            let Some(answer) = request.try_send(house.server.address).await else { continue };
            assert!(matches!(answer.status(), 400 | 404 | 405), "{method} {name}{suffix}: {}", answer.text());
            assert!(answer.head.header("x-evil").is_none());
        }
    }
    // A version that is asked for is not one that is put.
    for name in ["attacks@1", "attacks@stable"] {
        let answer = Request::upload(name, &component()).key(&house.mallory).send(house.server.address).await;
        assert_eq!(answer.verdict(), (400, "invalid".to_owned()));
    }
    for tag in ["1", "%2e%2e", "a%2fb", "a%00", "-x", &long] {
        let request = Request::new("PUT", &format!("/v1/programs/attacks/tags/{tag}"));
        let request = request.header("content-type", "application/json").body(r#"{"version": 1}"#);
        let answer = request.key(&house.mallory).send(house.server.address).await;
        assert_eq!(answer.verdict(), (400, "invalid".to_owned()), "{tag}");
        let request = Request::upload(&format!("attacks?tag={tag}"), &component()).key(&house.mallory);
        assert_eq!(request.send(house.server.address).await.verdict(), (400, "invalid".to_owned()), "{tag}");
    }
    for asset in ["..%2fCargo.toml", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "index.html%00", "..", "nosuch.js"] {
        let answer = Request::get(&format!("/assets/{asset}")).send(house.server.address).await;
        assert!(matches!(answer.status(), 400 | 404), "{asset}: {}", answer.status());
    }
    // All there is is what was there before.
    let listed = house.server.get(&house.mallory, "/v1/programs").await.json();
    assert_eq!(listed["programs"].as_array().unwrap().len(), 1);
    assert_eq!(listed["programs"][0]["version"], 1);
    house.settle("names").await;
}
