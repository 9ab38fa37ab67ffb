//! The server under attack, with the program of attacks on it and two tenants.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sglhost_core::Quotas;
use sglhost_tests::guests;
use sglhost_tests::scripted::ScriptedEngine;
use sglhost_tests::server::{Setup, TestServer};

/// A server with keys.
pub(crate) struct House {
    pub(crate) server: TestServer,
    pub(crate) engine: Arc<ScriptedEngine>,
    /// Whoever attacks.
    pub(crate) mallory: String,
    /// Whoever is disturbed by that, or not.
    pub(crate) alice: String,
}

/// Where compiled programs are kept: compiled once for all tests.
pub(crate) fn compiled() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("compiled")
}

/// The program of attacks.
pub(crate) fn component() -> Vec<u8> {
    guests::component("tests/attacks/guests", "attacks")
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// One with other limits.
    pub(crate) async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        Self::at(&compiled(), change).await
    }

    /// The same, with its own compiled programs.
    pub(crate) async fn at(compiled: &Path, change: impl FnOnce(&mut Setup)) -> Self {
        let engine = ScriptedEngine::new();
        let mut setup = Setup::new(Arc::clone(&engine) as _);
        change(&mut setup);
        let server = setup.start(compiled).await;
        let mallory = server.tenant("mallory", &Quotas::unlimited()).await;
        let alice = server.tenant("alice", &Quotas::unlimited()).await;
        for key in [&mallory, &alice] {
            server.upload(key, "attacks", &component()).await;
        }
        Self { server, engine, mallory, alice }
    }

    /// A neighbour's run ends well.
    pub(crate) async fn neighbour(&self, beside: &str) {
        let run = self.server.attack(&self.alice, "answer").await;
        assert_eq!(run["result"], Value::from("<13>"), "a neighbour of {beside}: {run}");
    }

    /// Waits until nothing is under way, and looks whether it still serves.
    pub(crate) async fn settle(&self, after: &str) {
        self.server.settle().await;
        while self.engine.active() > 0 {
            tokio::task::yield_now().await;
        }
        self.neighbour(after).await;
    }
}

/// A server without tenants, with the program of attacks on it.
pub(crate) async fn local(change: impl FnOnce(&mut Setup)) -> TestServer {
    let mut setup = Setup::new(ScriptedEngine::new() as _);
    change(&mut setup);
    let server = setup.start(&compiled()).await;
    server.upload("", "attacks", &component()).await;
    server
}
