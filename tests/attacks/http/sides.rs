//! Whether another tenant ran the same program on the same text shows nowhere: not in an answer, an event, what is
//! counted as cached, the server's status or its metrics.
//!
//! The engine is the real one, with its cache, over a model that follows a script. *Not here*: time. A prompt is cached
//! for its tenant alone, so the same is computed whoever asked before.

use std::time::Duration;

use serde_json::{Value, json};
use sglhost_core::limits::{EngineLimits, RunLimits};
use sglhost_core::{Quotas, TenantId};
use sglhost_server::key::ApiKey;
use sglhost_store::{NewKey, Store as _};
use sglhost_tests::http::Request;
use sglhost_tests::scripted_model::ScriptedModel;
use sglhost_tests::server::{Setup, TestServer};

use crate::house::{compiled, component};

/// Programs that append, fork, select, score and stream. (None whose calls overlap: how much of each of those is cached
/// depends on which comes first.)
const PROGRAMS: [&str; 6] = ["order", "fork-state", "select", "measure", "stream", "constrain"];

async fn house() -> (TestServer, String, String) {
    let engine = ScriptedModel::new(4096, Duration::ZERO).engine(EngineLimits::default());
    let metrics = engine.metrics().cloned().collect();
    let mut setup = Setup::new(engine as _);
    setup.metrics = metrics;
    setup.run_limits = RunLimits { tokens_max: 100_000, cpu_budget: Duration::from_secs(10), ..setup.run_limits };
    let server = setup.start(&compiled()).await;
    let alice = server.tenant("alice", &Quotas::unlimited()).await;
    let mallory = server.tenant("mallory", &Quotas::unlimited()).await;
    for key in [&alice, &mallory] {
        server.upload(key, "attacks", &component()).await;
    }
    (server, alice, mallory)
}

/// What differs between any two runs, whoever began them.
fn without_chance(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            for name in ["id", "run", "at_ms", "created_at", "finished_at", "cpu_time_us", "wall_time_ms"] {
                fields.remove(name);
            }
            for field in fields.values_mut() {
                *field = without_chance(field.take());
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| *value = without_chance(value.take())),
        _ => {}
    }
    value
}

/// All that a tenant is told while it runs every program twice.
async fn told(server: &TestServer, key: &str) -> Vec<Value> {
    let mut told = Vec::new();
    for program in PROGRAMS {
        for _ in 0..2 {
            let body = json!({"arguments": {"attack": program}, "seed": 7, "sampling": {"max_tokens": 8}});
            let request = Request::post("/v1/programs/attacks/runs", &body).header("accept", "text/event-stream");
            let events = request.key(key).events(server.address).await.rest().await;
            let mut lines: Vec<Value> =
                events.iter().map(|event| without_chance(serde_json::from_str(&event.data).unwrap())).collect();
            let started: Value = serde_json::from_str(&events[0].data).unwrap();
            // How events of contexts side by side interleave is chance.
            lines.sort_by_key(Value::to_string);
            told.extend(lines);
            let run = started["run"].as_str().unwrap();
            told.push(without_chance(server.get(key, &format!("/v1/runs/{run}")).await.json()));
        }
    }
    server.settle().await;
    for path in ["/v1/runs", "/v1/programs", "/v1/status", "/v1/models"] {
        told.push(without_chance(server.get(key, path).await.json()));
    }
    let usage = server.get(key, "/v1/usage").await.json();
    told.push(without_chance(usage));
    told
}

/// Deltas are cut as they come in time: their texts count, not their number.
fn joined(told: Vec<Value>) -> Vec<Value> {
    told.into_iter().filter(|value| value["type"] != "call.delta").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenants_prompts_do_not_show() {
    let (server, _, mallory) = house().await;
    let alone = joined(told(&server, &mallory).await);
    server.stop().await;
    // The same where alice ran it all before.
    let (server, alice, mallory) = house().await;
    told(&server, &alice).await;
    let hit = server.metric("sglhost_cached_tokens_total ").await;
    assert!(hit > 0.0, "she finds her own prompts cached");
    let beside = joined(told(&server, &mallory).await);
    assert_eq!(beside.len(), alone.len());
    for (beside, alone) in beside.iter().zip(&alone) {
        assert_eq!(beside, alone);
    }
    // And he finds his own, as she did: had it been hers, he would have found more.
    let cached = beside.iter().filter_map(|value| value["usage"]["cached_tokens"].as_u64()).max();
    assert!(cached.is_some_and(|cached| cached > 0), "{cached:?}");
    server.stop().await;
}

/// What the engine does for all shows to whoever runs the server alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_all_use_is_the_operators_business() {
    let (server, alice, mallory) = house().await;
    let status = server.get(&mallory, "/v1/status").await.json();
    server.attack(&alice, "order").await;
    assert_eq!(server.get(&mallory, "/v1/status").await.json(), status);
    assert!(status.get("engine").is_none(), "{status}");
    // Metrics tell of all: with tenants they are for this machine alone, and not for whom it forwards.
    assert!(server.get("", "/metrics").await.text().contains("tenant=\"alice\""));
    for name in ["x-forwarded-for", "Forwarded", "via", "x-real-ip", "x-forwarded-host"] {
        let forwarded = Request::get("/metrics").header(name, "10.0.0.1").send(server.address).await;
        assert_eq!(forwarded.verdict(), (404, "not-found".to_owned()), "{name}");
    }
    server.stop().await;
}

/// Whoever gets the name of a tenant that was removed gets nothing of what that one had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_comes_again_is_somebody_new() {
    let (server, alice, mallory) = house().await;
    server.attack(&alice, "order").await;
    let id = TenantId("alice".into());
    server.store.remove_tenant(&id).await.unwrap();
    while server.get(&alice, "/v1/runs").await.status() == 200 {}
    server.store.put_tenant(&id, &Quotas::unlimited(), 0).await.unwrap();
    let (key, record) = ApiKey::generate("again", 0).unwrap();
    server.store.add_key(NewKey { tenant: id, key: record }).await.unwrap();
    while server.get(key.text(), "/v1/runs").await.status() != 200 {}
    assert_eq!(server.get(key.text(), "/v1/runs").await.json()["runs"], json!([]));
    assert_eq!(server.get(key.text(), "/v1/programs").await.json()["programs"], json!([]));
    drop(mallory);
    server.stop().await;
}
