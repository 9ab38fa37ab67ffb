//! A server with the program of attacks, and what each test asks of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};
use sglhost_tests::guests;
use sglhost_tests::http::{Answer, Events, Request};
use sglhost_tests::scripted::ScriptedEngine;
use sglhost_tests::server::{Setup, TestServer};

/// The API's own description.
static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../host/server/openapi.json")).unwrap());

/// A server without tenants, with the program on it.
pub(crate) struct House {
    pub(crate) server: TestServer,
    pub(crate) engine: Arc<ScriptedEngine>,
    /// Sent with each request; none if it is empty.
    pub(crate) key: String,
}

/// Where compiled programs are kept: compiled once for all tests.
pub(crate) fn compiled() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled-http")
}

/// The program of attacks: it does what its argument `attack` names.
pub(crate) fn component() -> Vec<u8> {
    guests::component("tests/attacks/guests", "attacks")
}

/// The body that starts it.
pub(crate) fn attack(name: &str) -> Value {
    json!({"arguments": {"attack": name}})
}

/// Where it is started.
pub(crate) const RUNS: &str = "/v1/programs/attacks/runs";

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// One with other limits.
    pub(crate) async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let engine = ScriptedEngine::new();
        let mut setup = Setup::new(Arc::clone(&engine) as _);
        change(&mut setup);
        let server = setup.start(&compiled()).await;
        let house = Self { server, engine, key: String::new() };
        house.server.upload("", "attacks", &component()).await;
        house
    }

    /// Sends a request. Its answer must be one that the document tells of.
    pub(crate) async fn ask(&self, request: Request) -> Answer {
        let answer = request.clone().key(&self.key).send(self.server.address).await;
        check(&request, &answer);
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Request::get(path)).await
    }

    /// What is at the path.
    #[track_caller]
    pub(crate) fn json(&self, path: &str) -> impl Future<Output = Value> {
        let path = path.to_owned();
        async move {
            let answer = self.get(&path).await;
            assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
            answer.json()
        }
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(Request::post(path, body)).await
    }

    /// The run's events after a number.
    pub(crate) async fn follow(&self, run: &str, after: u64) -> Events {
        let request = Request::get(&format!("/v1/runs/{run}/events?after={after}"));
        request.key(&self.key).events(self.server.address).await
    }

    /// Starts a run and reads its events.
    pub(crate) async fn stream(&self, body: &Value) -> Events {
        let request = Request::post(RUNS, body).header("accept", "text/event-stream");
        request.key(&self.key).events(self.server.address).await
    }

    /// Starts a run that goes on by itself; gives its id.
    pub(crate) async fn detach(&self, name: &str) -> String {
        let mut body = attack(name);
        body["detach"] = Value::Bool(true);
        let answer = self.post(RUNS, &body).await;
        assert_eq!(answer.status(), 202, "{}", answer.text());
        assert_eq!(answer.json()["status"], "running");
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Waits until the run has ended, and gives it.
    pub(crate) async fn ended(&self, run: &str) -> Value {
        loop {
            let run = self.json(&format!("/v1/runs/{run}")).await;
            if run["status"] != "running" {
                return run;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Waits until so many calls of the engine were given up.
    pub(crate) async fn cancelled(&self, calls: usize) {
        while self.engine.cancelled() < calls {
            tokio::task::yield_now().await;
        }
    }
}

/// The operations of the document on a path; none for a path that it does not have.
fn operations(path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap_or_default();
    let matches = |template: &str| {
        let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
        let same = |(template, segment): (&&str, &&str)| template.starts_with('{') || template == segment;
        template.len() == path.len() && template.iter().zip(&path).all(same)
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    // An address in full goes before one with something to fill in.
    let mut found: Vec<(&String, &Value)> = paths.iter().filter(|(template, _)| matches(template)).collect();
    found.sort_by_key(|(template, _)| template.matches('{').count());
    found.first().map(|(_, operations)| *operations)
}

/// Checks an answer against the document: its status, its type of content, and that it names its request.
fn check(request: &Request, answer: &Answer) {
    assert_eq!(answer.head.header("x-request-id").map(str::len), Some(16), "{request:?}: {answer:?}");
    let method = request.method().to_lowercase();
    let Some(operation) = operations(request.path()).and_then(|operations| operations.get(&method)) else { return };
    let responses = &operation["responses"];
    let mut response = &responses[answer.status().to_string()];
    assert!(!response.is_null(), "{request:?}: {} is not in the document: {}", answer.status(), answer.text());
    if let Some(reference) = response["$ref"].as_str() {
        response = DOCUMENT.pointer(&reference[1..]).unwrap();
    }
    let kind = answer.head.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    let known = response["content"].as_object().map(|content| content.contains_key(kind));
    assert_ne!(known, Some(false), "{request:?}: {kind} is not in the document");
}
