//! Programs: versions, tags, lists, deletion.

use serde_json::{Value, json};
use sglhost_tests::guests;
use sglhost_tests::http::Request;

use crate::house::{House, RUNS, attack, component};

/// Another program than that of attacks.
fn other() -> Vec<u8> {
    guests::component("plugins/basic_qa", "basic_qa")
}

fn tag(name: &str, tag: &str, version: u64) -> Request {
    let path = format!("/v1/programs/{name}/tags/{tag}");
    Request::new("PUT", &path).header("content-type", "application/json").body(json!({"version": version}).to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_a_version_unless_it_is_there() {
    let house = House::new().await;
    let first = house.ask(Request::upload("p?tag=old", &component())).await;
    assert_eq!((first.status(), first.json()["version"].as_u64()), (201, Some(1)));
    let same = house.ask(Request::upload("p?tag=same", &component())).await;
    assert_eq!((same.status(), same.json()["tags"].clone()), (200, json!(["old", "same"])));
    let second = house.ask(Request::upload("p", &other())).await;
    assert_eq!((second.status(), second.json()["version"].as_u64()), (201, Some(2)));
    let second = second.json();
    let expect = json!({
        "name": "p", "version": 2, "digest": second["digest"], "size_bytes": other().len(), "title": "basic_qa",
        "description": "Answers a question.", "tags": [], "created_at": second["created_at"],
        "arguments": {"type": "object", "properties": {"question": {"type": "string", "description": "What to ask."}},
            "required": ["question"], "additionalProperties": false},
    });
    assert_eq!(second, expect);
    let as_bytes = Request::new("PUT", "/v1/programs/q").header("content-type", "application/octet-stream");
    assert_eq!(house.ask(as_bytes.body(component())).await.status(), 201);
}

/// Of those who upload the same at the same time one made the version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_is_new_once() {
    let house = House::new().await;
    let address = house.server.address;
    for name in ["p", "q", "r", "s"] {
        let uploads: Vec<_> = (0..4)
            .map(|_| tokio::spawn(async move { Request::upload(name, &component()).send(address).await }))
            .collect();
        let mut statuses = Vec::new();
        for upload in uploads {
            statuses.push(upload.await.unwrap().status());
        }
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 200, 200, 201], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_has_four_names() {
    let house = House::new().await;
    house.ask(Request::upload("p?tag=stable", &component())).await;
    house.ask(Request::upload("p", &other())).await;
    let digest = house.json("/v1/programs/p@1").await["digest"].as_str().unwrap().to_owned();
    for (reference, version) in [("p", 2), ("p@1", 1), ("p@2", 2), ("p@stable", 1), (&*format!("p@{digest}"), 1)] {
        assert_eq!(house.json(&format!("/v1/programs/{reference}")).await["version"], version, "{reference}");
        // As clients that quote everything write it.
        let quoted = reference.replace('@', "%40").replace(':', "%3A");
        assert_eq!(house.json(&format!("/v1/programs/{quoted}")).await["version"], version, "{quoted}");
    }
    for nothing in ["p@3", "p@none", &format!("p@sha256:{}", "0".repeat(64)), "none"] {
        assert_eq!(house.get(&format!("/v1/programs/{nothing}")).await.verdict(), (404, "not-found".to_owned()));
    }
    for wrong in ["P", "p@", "p@STABLE", "p@@1", "p%2F", "%FF"] {
        assert_eq!(house.get(&format!("/v1/programs/{wrong}")).await.verdict(), (400, "invalid".to_owned()), "{wrong}");
    }
    // A run takes the version that was meant when it began.
    let run = house.post("/v1/programs/p@stable/runs", &attack("answer")).await.json();
    assert_eq!((&run["version"], &run["digest"]), (&json!(1), &Value::from(digest)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tag_points_where_it_is_put() {
    let house = House::new().await;
    house.ask(Request::upload("p?tag=stable", &component())).await;
    house.ask(Request::upload("p", &other())).await;
    let moved = house.ask(tag("p", "stable", 2)).await;
    assert_eq!((moved.status(), &moved.json()["tags"]), (200, &json!(["stable"])));
    assert_eq!(house.json("/v1/programs/p@1").await["tags"], json!([]));
    assert_eq!(house.ask(tag("p", "stable", 3)).await.status(), 404);
    assert_eq!(house.ask(tag("none", "stable", 1)).await.status(), 404);
    for wrong in ["1", "42", "-a", "A"] {
        assert_eq!(house.ask(tag("p", wrong, 1)).await.status(), 400, "{wrong}");
        let upload = Request::upload(&format!("p?tag={wrong}"), &component());
        assert_eq!(house.ask(upload).await.status(), 400, "{wrong}");
    }
    let body = |text: &str| tag("p", "stable", 1).body(text);
    for wrong in
        ["", "{}", "[]", "{\"version\":1,\"x\":1}", "{\"version\":\"1\"}", "{\"version\":-1}", "{\"version\":1}}"]
    {
        assert_eq!(house.ask(body(wrong)).await.status(), 400, "{wrong}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_go_on_where_they_ended() {
    let house = House::new().await;
    for name in ["b", "c", "d", "a"] {
        house.ask(Request::upload(name, &component())).await;
    }
    let (mut names, mut path) = (Vec::new(), "/v1/programs?limit=2".to_owned());
    loop {
        let page = house.json(&path).await;
        names.extend(page["programs"].as_array().unwrap().iter().map(|program| program["name"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/programs?limit=2&after={next}");
    }
    assert_eq!(names, ["a", "attacks", "b", "c", "d"]);
    house.ask(Request::upload("a", &other())).await;
    let newest = house.json("/v1/programs/a/versions?limit=1").await;
    assert_eq!((&newest["versions"][0]["version"], &newest["next"]), (&json!(2), &json!("2")));
    let older = house.json("/v1/programs/a/versions?limit=1&after=2").await;
    assert_eq!(older["versions"][0]["version"], 1);
    assert_eq!(house.get("/v1/programs/none/versions").await.status(), 404);
    let refused = house.get("/v1/programs?limit=x").await.json()["error"]["message"].clone();
    assert_eq!(refused, "limit is \"x\"; it must be a whole number from 1 to 1000");
    let refused = house.get("/v1/runs?after=x").await.json()["error"]["message"].clone();
    assert_eq!(refused, "after is \"x\"; it must be the id of a run: 16 hexadecimal digits");
    for wrong in ["limit=0", "limit=1001", "limit=x", "limit=-1", "after=P", "limit=1&limit=2", "order=name"] {
        assert_eq!(house.get(&format!("/v1/programs?{wrong}")).await.status(), 400, "{wrong}");
    }
    assert_eq!(house.get("/v1/programs/a/versions?after=x").await.status(), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_is_gone_and_its_runs_stay() {
    let house = House::new().await;
    let run = house.post(RUNS, &attack("answer")).await.json();
    house.ask(Request::upload("attacks", &other())).await;
    let delete = |reference: &str| house.ask(Request::new("DELETE", &format!("/v1/programs/{reference}")));
    assert_eq!(delete("attacks@2").await.json(), json!({"deleted": {"versions": 1}}));
    assert_eq!(house.json("/v1/programs/attacks").await["version"], 1);
    assert_eq!(delete("attacks").await.json(), json!({"deleted": {"versions": 1}}));
    assert_eq!(delete("attacks").await.status(), 404);
    assert_eq!(house.post(RUNS, &attack("answer")).await.status(), 404);
    assert_eq!(house.json(&format!("/v1/runs/{}", run["id"].as_str().unwrap())).await, run);
    // A number is never used twice.
    assert_eq!(house.ask(Request::upload("attacks", &component())).await.json()["version"], 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_run_is_not_kept() {
    let house = House::new().await;
    let upload = |bytes: &[u8]| house.ask(Request::upload("p", bytes));
    assert_eq!(upload(b"hello").await.verdict(), (422, "invalid".to_owned()));
    assert_eq!(upload(b"").await.verdict(), (400, "invalid".to_owned()));
    assert_eq!(house.ask(Request::new("PUT", "/v1/programs/p").body(component())).await.status(), 415);
    assert_eq!(house.ask(Request::upload("p@1", &component())).await.status(), 400);
    assert_eq!(house.ask(Request::upload("p?tga=stable", &component())).await.status(), 400);
    assert_eq!(house.get("/v1/programs/p").await.status(), 404);
}
