//! The server in this process, on a real socket, with a store of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use sglhost_core::limits::{HostLimits, RunLimits, ServerLimits};
use sglhost_core::{Clock, Quotas, TenantId};
use sglhost_engine::{Engine, EngineMetrics, SystemClock};
use sglhost_runtime::{Isolation, Runtime, RuntimeConfig};
use sglhost_server::key::ApiKey;
use sglhost_server::{Served, Server, ServerConfig, ServerParts};
use sglhost_store::{NewKey, SqliteStore, Store as _};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::http::{Answer, Events, Request};

/// How a server is started.
pub struct Setup {
    /// What computes.
    pub engine: Arc<dyn Engine>,
    /// What that counts.
    pub metrics: Vec<Arc<EngineMetrics>>,
    /// The server's limits; tenants are looked up often, so that tests need not wait.
    pub limits: ServerLimits,
    /// Limits of a run.
    pub run_limits: RunLimits,
    /// Limits of all runs.
    pub host_limits: HostLimits,
    /// How components are compiled elsewhere.
    pub isolation: Option<Isolation>,
    /// What programs run on, if not on what serves.
    pub guests: Option<Handle>,
}

/// A server.
pub struct TestServer {
    /// Where it listens.
    pub address: SocketAddr,
    /// The server.
    pub server: Server,
    /// What it keeps.
    pub store: Arc<SqliteStore>,
    /// What runs programs.
    pub runtime: Runtime,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    _folder: TempDir,
}

/// Small limits, that attacks run into; the wall-clock deadline is there only so that a broken host fails the test.
#[must_use]
pub fn attacked() -> RunLimits {
    RunLimits {
        memory_max_bytes: 32 << 20,
        cpu_budget: Duration::from_millis(300),
        wall_deadline: Duration::from_secs(120),
        contexts_max: 20,
        pending_calls_max: 30,
        queued_operations_max: 500,
        handles_max: 200,
        held_bytes_max: 8 << 20,
        tokens_max: 10_000,
        emitted_bytes_max: 1 << 20,
        log_bytes_max: 64 << 10,
        result_bytes_max: 1 << 20,
        ..RunLimits::default()
    }
}

impl Setup {
    /// With small limits.
    #[must_use]
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self {
            engine,
            metrics: Vec::new(),
            limits: ServerLimits { tenants_period: Duration::from_millis(20), ..ServerLimits::default() },
            run_limits: attacked(),
            host_limits: HostLimits { concurrent_runs_max: 16, events_buffered_max: 8, ..HostLimits::default() },
            isolation: None,
            guests: None,
        }
    }

    /// Starts it. Compiled programs are kept in `folder`, which tests may share.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(self, compiled: &Path) -> TestServer {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(SystemClock::default());
        let entropy = AtomicU64::new(1);
        let entropy = Arc::new(move || entropy.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let config = RuntimeConfig {
            run_limits: self.run_limits.clone(),
            host_limits: self.host_limits.clone(),
            compile_cache: Some(compiled.to_owned()),
            isolation: self.isolation,
            guests: self.guests,
        };
        let engine = Arc::clone(&self.engine);
        let runtime = Runtime::new(config, engine, Arc::clone(&clock) as Arc<dyn Clock>, entropy.clone()).unwrap();
        let store = Arc::new(SqliteStore::open(&folder.path().join("data")).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = ServerConfig {
            limits: self.limits,
            run_limits: self.run_limits,
            host_limits: self.host_limits,
            version: "0.0.0".to_owned(),
        };
        let parts = ServerParts {
            runtime: runtime.clone(),
            store: Arc::clone(&store) as _,
            clock,
            entropy,
            config,
            address: address.ip(),
        };
        let server = Server::open(parts).await.unwrap();
        server.serves(Served { engine: self.engine, metrics: self.metrics });
        let (stop, mut stopped) = watch::channel(false);
        let serving = {
            let server = server.clone();
            tokio::spawn(async move {
                let stopped = async {
                    let _ = stopped.wait_for(|stopped| *stopped).await;
                };
                server.serve(listener, stopped).await;
            })
        };
        TestServer { address, server, store, runtime, stop, serving, _folder: folder }
    }
}

impl TestServer {
    /// Makes a tenant and waits until the server knows it; gives its key.
    ///
    /// # Panics
    /// If that fails.
    pub async fn tenant(&self, name: &str, quotas: &Quotas) -> String {
        self.store.put_tenant(&TenantId(name.into()), quotas, 0).await.unwrap();
        self.add_key(name).await.0
    }

    /// Makes a key of a tenant and waits until the server knows it; gives the key and its id.
    ///
    /// # Panics
    /// If that fails.
    pub async fn add_key(&self, tenant: &str) -> (String, String) {
        let (key, record) = ApiKey::generate("test", 0).unwrap();
        let id = record.id.clone();
        self.store.add_key(NewKey { tenant: TenantId(tenant.into()), key: record }).await.unwrap();
        // (Before it knows of any tenant, it takes everybody for the local one.)
        loop {
            let answer = self.get(key.text(), "/v1/status").await;
            if answer.status() == 200 && answer.json()["tenant"] == tenant {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        (key.text().to_owned(), id)
    }

    /// Asks for something.
    pub async fn get(&self, key: &str, path: &str) -> Answer {
        Request::get(path).key(key).send(self.address).await
    }

    /// Sends JSON.
    pub async fn post(&self, key: &str, path: &str, body: &Value) -> Answer {
        Request::post(path, body).key(key).send(self.address).await
    }

    /// Uploads a component.
    ///
    /// # Panics
    /// If it is not taken.
    pub async fn upload(&self, key: &str, name: &str, component: &[u8]) -> Value {
        let answer = Request::upload(name, component).key(key).send(self.address).await;
        assert!(matches!(answer.status(), 200 | 201), "{}", answer.text());
        answer.json()
    }

    /// Runs the program of attacks to its end and gives the run.
    ///
    /// # Panics
    /// If it does not begin.
    pub async fn attack(&self, key: &str, attack: &str) -> Value {
        let answer = self.post(key, "/v1/programs/attacks/runs", &json!({"arguments": {"attack": attack}})).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()
    }

    /// The same, detached: gives its id once it began.
    ///
    /// # Panics
    /// If it does not begin.
    pub async fn detach(&self, key: &str, attack: &str) -> String {
        let body = json!({"arguments": {"attack": attack}, "detach": true});
        let answer = self.post(key, "/v1/programs/attacks/runs", &body).await;
        assert_eq!(answer.status(), 202, "{}", answer.text());
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Follows a run from its first event.
    pub async fn follow(&self, key: &str, run: &str) -> Events {
        Request::get(&format!("/v1/runs/{run}/events")).key(key).events(self.address).await
    }

    /// Waits until no run is under way.
    pub async fn settle(&self) {
        while self.runtime.live_runs() > 0 || self.metric("sglhost_live_runs ").await > 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A metric's value, by how its line begins.
    ///
    /// # Panics
    /// If there is none.
    pub async fn metric(&self, line: &str) -> f64 {
        let text = self.get("", "/metrics").await.text();
        let value = text.lines().find_map(|known| known.strip_prefix(line));
        value.unwrap_or_else(|| panic!("{line}: {text}")).trim().parse().unwrap()
    }

    /// Tells it to stop.
    pub fn tell_to_stop(&self) {
        self.stop.send_replace(true);
    }

    /// The same, and waits until it did.
    ///
    /// # Panics
    /// If it does not end well.
    pub async fn stop(mut self) {
        self.tell_to_stop();
        (&mut self.serving).await.unwrap();
    }
}
