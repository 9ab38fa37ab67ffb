//! Clients of the server, until it is killed. They write down what was acknowledged, and nothing else.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use sglhost_core::TenantId;
use sglhost_server::key::ApiKey;
use sglhost_store::{NewKey, SqliteStore, Store as _};
use sglhost_tests::guests;
use sglhost_tests::http::{Answer, Connection, Request};
use tokio::task::JoinSet;

use crate::ledger::{Ledger, nothing};

/// All of them.
pub(crate) struct Clients {
    tasks: JoinSet<()>,
    over: Arc<AtomicBool>,
}

/// One of them.
struct Client {
    address: SocketAddr,
    ledger: Arc<Ledger>,
    tenant: &'static str,
    key: String,
    random: StdRng,
    over: Arc<AtomicBool>,
}

/// Runs that use the model, use none, take long, and fail.
const ATTACKS: [&str; 7] = ["nothing", "order", "forks-overlap", "select", "error", "sleep", "panic"];

/// Uploads what all run: compiling it takes longer than a server lives here.
pub(crate) async fn prepare(address: SocketAddr, ledger: &Ledger) {
    let component = guests::component("tests/attacks/guests", "attacks");
    for (tenant, key) in ledger.keys() {
        let answer = Request::upload("attacks", &component).key(&key).send(address).await;
        assert_eq!(answer.status(), 201, "{}", answer.text());
        ledger.program(tenant, &answer.json());
    }
}

impl Clients {
    /// Starts them.
    pub(crate) fn start(address: SocketAddr, data: PathBuf, ledger: Arc<Ledger>, seed: u64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for index in 0..8_usize {
            let [alice, bob] = ledger.keys();
            let (tenant, key) = if index % 2 == 0 { alice } else { bob };
            let random = StdRng::seed_from_u64(seed.wrapping_add(index as u64));
            let (ledger, over) = (Arc::clone(&ledger), Arc::clone(&over));
            let client = Client { address, ledger, tenant, key, random, over };
            match index {
                0 | 1 => drop(tasks.spawn(client.upload())),
                2 => drop(tasks.spawn(client.add_keys(data.clone()))),
                _ => drop(tasks.spawn(client.run())),
            }
        }
        Self { tasks, over }
    }

    /// Waits for them, after the server is gone.
    pub(crate) async fn stop(mut self) {
        self.over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
    }
}

impl Client {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// The whole answer; none if the server died meanwhile.
    async fn ask(&self, request: Request) -> Option<Answer> {
        let mut connection = Connection::try_open(self.address).await.ok()?;
        connection.write(&request.key(&self.key).bytes(self.address)).await;
        let head = connection.head("POST").await?;
        let body = connection.rest().await.ok()?;
        Some(Answer { head, body })
    }

    /// The same content under new names, new content under old ones.
    async fn upload(mut self) {
        let component = guests::component("tests/attacks/guests", "attacks");
        while self.goes_on() {
            let mark: u64 = self.random.random();
            let request = if self.random.random_bool(0.8) {
                Request::upload(&format!("p{:08x}", mark as u32), &component)
            } else {
                Request::upload("changing", &marked(&component, mark))
            };
            let Some(answer) = self.ask(request).await else { return };
            assert_eq!(answer.status(), 201, "{}", answer.text());
            self.ledger.program(self.tenant, &answer.json());
        }
    }

    /// As `sglhost tenant key add` does it, beside the server.
    async fn add_keys(self, data: PathBuf) {
        let store = SqliteStore::open_beside(&data).unwrap();
        while self.goes_on() {
            let (key, record) = ApiKey::generate("more", 0).unwrap();
            store.add_key(NewKey { tenant: TenantId(self.tenant.into()), key: record }).await.unwrap();
            self.ledger.key(self.tenant, key.text());
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    async fn run(mut self) {
        while self.goes_on() {
            let attack = ATTACKS[self.random.random_range(0..ATTACKS.len())];
            let again = match self.random.random_range(0..5) {
                0 | 1 => self.attached(attack).await,
                2 => self.events(attack).await,
                3 => self.detached(attack).await,
                _ => self.idempotent().await,
            };
            if again.is_none() {
                return;
            }
        }
    }

    async fn attached(&self, attack: &str) -> Option<()> {
        if attack == "sleep" {
            return self.detached(attack).await;
        }
        let run = self.begin(attack, false).await?;
        self.ledger.ended(self.tenant, &run);
        Some(())
    }

    async fn detached(&self, attack: &str) -> Option<()> {
        let run = self.begin(attack, true).await?;
        let id = run["id"].as_str().unwrap().to_owned();
        self.ledger.began(self.tenant, &id);
        if attack == "sleep" && id.ends_with(['0', '4', '8', 'c']) {
            let answer = self.ask(Request::new("POST", &format!("/v1/runs/{id}/cancel"))).await?;
            assert_eq!(answer.json()["status"], "cancelled", "{}", answer.text());
            self.ledger.ended(self.tenant, &answer.json());
        }
        Some(())
    }

    async fn begin(&self, attack: &str, detach: bool) -> Option<Value> {
        let body = json!({"arguments": {"attack": attack}, "detach": detach, "sampling": {"max_tokens": 8}});
        let answer = self.ask(Request::post("/v1/programs/attacks/runs", &body)).await?;
        match answer.status() {
            200 | 202 => Some(answer.json()),
            // Sleepers take all places at last.
            503 => None,
            status => panic!("{status}: {}", answer.text()),
        }
    }

    /// The head of the stream says that it is taken down; its last event, that its end is.
    async fn events(&self, attack: &str) -> Option<()> {
        if attack == "sleep" {
            return self.detached(attack).await;
        }
        let body = json!({"arguments": {"attack": attack}, "sampling": {"max_tokens": 8}});
        let request = Request::post("/v1/programs/attacks/runs", &body).header("accept", "text/event-stream");
        let mut connection = Connection::try_open(self.address).await.ok()?;
        connection.write(&request.key(&self.key).bytes(self.address)).await;
        let head = connection.head("POST").await?;
        if head.status != 200 {
            return None;
        }
        let id = head.header("x-run-id").unwrap().to_owned();
        self.ledger.began(self.tenant, &id);
        connection.rest().await.ok()?;
        let answer = self.ask(Request::get(&format!("/v1/runs/{id}"))).await?;
        assert_ne!(answer.json()["status"], "running", "{}", answer.text());
        self.ledger.ended(self.tenant, &answer.json());
        Some(())
    }

    async fn idempotent(&mut self) -> Option<()> {
        let key = format!("{:016x}", self.random.random::<u64>());
        let request = Request::post("/v1/programs/attacks/runs", &nothing()).header("idempotency-key", &key);
        let answer = self.ask(request).await?;
        if answer.status() == 503 {
            return None;
        }
        assert_eq!(answer.status(), 200, "{}", answer.text());
        self.ledger.ended(self.tenant, &answer.json());
        self.ledger.idempotent(self.tenant, &key, answer.json()["id"].as_str().unwrap());
        Some(())
    }
}

/// The component with a section of no meaning, which makes it another one.
fn marked(component: &[u8], mark: u64) -> Vec<u8> {
    // Section 0: its length, the length of its name, the name, eight bytes.
    let section = [&[0, 13, 4][..], b"mark", &mark.to_le_bytes()].concat();
    [component, &section].concat()
}
