//! What the server acknowledged, as its clients remember it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};

use serde_json::{Value, json};
use sglhost_tests::http::Request;

/// All of it.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Known>);

#[derive(Default)]
struct Known {
    keys: Vec<(&'static str, String)>,
    /// Tenant, name and digest, with the version.
    programs: BTreeMap<(&'static str, String, String), Value>,
    runs: BTreeMap<String, Run>,
    idempotent: Vec<(&'static str, String, String)>,
}

/// A run that was acknowledged.
#[derive(Clone)]
struct Run {
    tenant: &'static str,
    /// What it said when it had ended, if a client heard of that.
    ended: Option<Value>,
    /// What it was found to be after a crash: that stays.
    found: Option<Value>,
}

impl Ledger {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap()
    }

    /// A key works.
    pub(crate) fn key(&self, tenant: &'static str, key: &str) {
        self.known().keys.push((tenant, key.to_owned()));
    }

    /// Some key of each tenant.
    pub(crate) fn keys(&self) -> [(&'static str, String); 2] {
        let known = self.known();
        ["alice", "bob"].map(|tenant| known.keys.iter().rev().find(|key| key.0 == tenant).unwrap().clone())
    }

    /// An upload was answered.
    pub(crate) fn program(&self, tenant: &'static str, version: &Value) {
        let text = |name: &str| version[name].as_str().unwrap().to_owned();
        self.known().programs.insert((tenant, text("name"), text("digest")), version["version"].clone());
    }

    /// A run was acknowledged as begun.
    pub(crate) fn began(&self, tenant: &'static str, id: &str) {
        self.known().runs.entry(id.to_owned()).or_insert(Run { tenant, ended: None, found: None });
    }

    /// A run was said to have ended so.
    pub(crate) fn ended(&self, tenant: &'static str, run: &Value) {
        let id = run["id"].as_str().unwrap();
        self.began(tenant, id);
        self.known().runs.get_mut(id).unwrap().ended = Some(run.clone());
    }

    /// An idempotency key was used for a run.
    pub(crate) fn idempotent(&self, tenant: &'static str, key: &str, run: &str) {
        self.known().idempotent.push((tenant, key.to_owned(), run.to_owned()));
    }

    pub(crate) fn summary(&self) -> String {
        let known = self.known();
        let of = |status: &str| known.runs.values().filter(|run| run.status() == Some(status)).count();
        format!(
            "{} keys, {} versions of programs, {} runs ({} interrupted, {} succeeded), {} idempotency keys",
            known.keys.len(),
            known.programs.len(),
            known.runs.len(),
            of("interrupted"),
            of("succeeded"),
            known.idempotent.len(),
        )
    }

    /// There was something to lose.
    pub(crate) fn assert_worth_it(&self) {
        let known = self.known();
        let counts = [known.keys.len() - 2, known.programs.len(), known.runs.len()];
        assert!(counts.iter().all(|&count| count > 2), "too little was done: {counts:?}");
        assert!(known.runs.values().any(|run| run.status() == Some("interrupted")), "nothing was interrupted");
        assert!(known.runs.values().any(|run| run.status() == Some("succeeded")), "nothing ended");
    }

    /// Asks a server that was started again for all of it.
    pub(crate) async fn check(&self, address: SocketAddr) {
        let (keys, programs, runs) = {
            let known = self.known();
            (known.keys.clone(), known.programs.clone(), known.runs.clone())
        };
        let get = async |key: &str, path: &str| Request::get(path).key(key).send(address).await;
        for (tenant, key) in &keys {
            let status = get(key, "/v1/status").await;
            assert_eq!((status.status(), &status.json()["tenant"]), (200, &Value::from(*tenant)), "a key is lost");
        }
        let latest = self.keys();
        let key_of = |tenant: &str| latest.iter().find(|key| key.0 == tenant).unwrap().1.clone();
        for ((tenant, name, digest), version) in &programs {
            let found = get(&key_of(tenant), &format!("/v1/programs/{name}@{digest}")).await;
            assert_eq!(found.status(), 200, "{name}@{digest} is lost");
            assert_eq!((&found.json()["version"], &found.json()["digest"]), (version, &Value::from(&**digest)));
        }
        // Those of the last uploads are whole: they run.
        for (tenant, name, digest) in programs.keys().rev().take(2) {
            let request = Request::post(&format!("/v1/programs/{name}@{digest}/runs"), &nothing());
            let run = request.key(&key_of(tenant)).send(address).await;
            assert_eq!((run.status(), &run.json()["status"]), (200, &Value::from("succeeded")), "{}", run.text());
            self.ended(tenant, &run.json());
        }
        for (id, run) in &runs {
            let found = get(&key_of(run.tenant), &format!("/v1/runs/{id}")).await;
            assert_eq!(found.status(), 200, "run {id} is lost");
            let found = found.json();
            assert_ne!(found["status"], "running", "run {id} goes on");
            if let Some(ended) = run.ended.as_ref().or(run.found.as_ref()) {
                assert_eq!(found, *ended, "run {id} is not what it was");
            }
            self.known().runs.get_mut(id).unwrap().found = Some(found);
        }
        for (tenant, key) in &latest {
            check_usage(address, tenant, key).await;
        }
        self.check_idempotent(address).await;
    }

    /// The same key and request are the same run, whatever became of it.
    async fn check_idempotent(&self, address: SocketAddr) {
        let known = self.known().idempotent.clone();
        let latest = self.keys();
        for (tenant, idempotency, run) in known.iter().rev().take(5) {
            let key = &latest.iter().find(|key| key.0 == *tenant).unwrap().1;
            let request = Request::post("/v1/programs/attacks/runs", &nothing()).key(key);
            let answer = request.header("idempotency-key", idempotency).send(address).await;
            assert_eq!((answer.status(), &answer.json()["id"]), (200, &Value::from(&**run)), "{}", answer.text());
        }
    }
}

impl Run {
    fn status(&self) -> Option<&str> {
        self.ended.as_ref().or(self.found.as_ref())?["status"].as_str()
    }
}

/// What starts a run that ends by itself and calls no model.
pub(crate) fn nothing() -> Value {
    json!({"arguments": {"attack": "nothing"}})
}

/// Usage is the sum over all runs that ended, each once.
async fn check_usage(address: SocketAddr, tenant: &str, key: &str) {
    let mut sums = BTreeMap::<&str, u64>::new();
    let mut after = String::new();
    loop {
        let path = format!("/v1/runs?limit=1000{after}");
        let page = Request::get(&path).key(key).send(address).await.json();
        for run in page["runs"].as_array().unwrap() {
            assert_ne!(run["status"], "running", "{run}");
            let mut add = |name, value: &Value| *sums.entry(name).or_default() += value.as_u64().unwrap();
            add("runs", &Value::from(1));
            for name in ["prompt_tokens", "cached_tokens", "completion_tokens"] {
                add(name, &run["usage"][name]);
            }
            add("cpu_time_us", &run["cpu_time_us"]);
            // When an interrupted one stopped, nobody knows: its time is not counted.
            let wall = if run["status"] == "interrupted" { &Value::from(0) } else { &run["wall_time_ms"] };
            add("wall_time_ms", wall);
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    let usage = Request::get("/v1/usage").key(key).send(address).await.json();
    for (name, sum) in sums {
        assert_eq!(usage["total"][name], sum, "{tenant}'s {name}: {usage}");
    }
}
