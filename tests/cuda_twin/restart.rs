//! A server that loses its GPU: the binary itself, on the twin.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::{Value, json};
use sglhost_tests::{
    binary::{plugin, sglhost},
    golden,
    http::Request,
};

use crate::twin;

/// `sglhost serve`, and what it says.
struct Serving {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Serving {
    /// Waits for the line that says that it is ready, and where.
    fn address(&mut self) -> SocketAddr {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        let address = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next());
        address.unwrap_or_else(|| panic!("it is not ready: {line}")).parse().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended as it should.
        let _ = self.process.kill();
    }
}

async fn run(address: SocketAddr) -> Value {
    let body = json!({"arguments": {"question": "Why?"}, "sampling": {"temperature": 0}});
    let answer = Request::post("/v1/programs/basic_qa/runs", &body).send(address).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twin_only_a_server_that_lost_its_gpu_starts_itself_again() {
    let folder = tempfile::tempdir().unwrap();
    let (broken, log) = (folder.path().join("broken"), folder.path().join("log"));
    let mut command = sglhost(["serve", "--port", "0", "--device", "cuda", "--kv-tokens", "1024", "--data"]);
    command.arg(folder.path().join("data")).arg("--model").arg(golden::folder().join("tiny-bf16"));
    command.env("LD_LIBRARY_PATH", twin::folder()).env("SGLHOST_TWIN_BREAK", &broken);
    command.stdout(Stdio::piped()).stderr(fs::File::create(&log).unwrap());
    let mut process = command.spawn().unwrap();
    let said = BufReader::new(process.stdout.take().unwrap());
    let mut serving = Serving { process, said };
    let address = serving.address();
    let component = fs::read(plugin("basic_qa")).unwrap();
    assert_eq!(Request::upload("basic_qa", &component).send(address).await.status(), 201);
    let before = run(address).await;
    assert_eq!(before["status"], "succeeded", "{before}");

    fs::write(&broken, "").unwrap();
    let during = run(address).await;
    assert_eq!((&during["status"], &during["error"]["code"]), (&json!("failed"), &json!("unavailable")), "{during}");
    let ready = Request::get("/ready").send(address).await;
    // On a quick machine it is the next process that answers already.
    let status = ready.json()["status"].clone();
    assert!(
        matches!((ready.status(), status.as_str()), (503, Some("lost")) | (200, Some("ready"))),
        "{}",
        ready.text()
    );
    fs::remove_file(&broken).unwrap();

    // The same process, from its beginning.
    let address = serving.address();
    assert!(serving.process.try_wait().unwrap().is_none());
    let after = run(address).await;
    assert_eq!((&after["status"], &after["variables"]), (&json!("succeeded"), &before["variables"]));
    let runs = Request::get("/v1/runs").send(address).await.json();
    let ids: Vec<&Value> = runs["runs"].as_array().unwrap().iter().map(|run| &run["id"]).collect();
    assert_eq!(ids, [&after["id"], &during["id"], &before["id"]], "nothing is forgotten");
    let told = Command::new("kill").arg(serving.process.id().to_string()).status().unwrap();
    assert!(told.success());
    assert_eq!(serving.process.wait().unwrap().code(), Some(0), "{}", fs::read_to_string(&log).unwrap());
    assert!(fs::read_to_string(&log).unwrap().contains("the server starts itself again"));
}
