//! How the server is, for whoever may use it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::models::model;
use crate::auth::Caller;
use crate::service::{Readiness, Served, Service};

/// `GET /v1/status`.
pub(crate) async fn get(State(service): State<Arc<Service>>, Caller(tenant): Caller) -> Json<Value> {
    let keyed = service.is_keyed();
    let max = tenant.quotas().concurrent_runs_max.min(service.config.host_limits.concurrent_runs_max);
    let served = match service.readiness() {
        Readiness::Serving(served) => Some(served),
        Readiness::Waiting(_) | Readiness::Lost(_) => None,
    };
    let mut status = Map::new();
    let mut field = |name: &str, value: Value| status.insert(name.to_owned(), value);
    field("version", Value::from(service.config.version.clone()));
    field("mode", Value::from(if keyed { "keyed" } else { "local" }));
    field("tenant", Value::from(tenant.id.to_string()));
    let first = served.as_ref().and_then(|served| served.engine.models().first().map(|first| model(first)));
    field("model", first.unwrap_or(Value::Null));
    field("runs", json!({"live": tenant.live_count(), "max": max}));
    // It would tell one tenant about the others.
    if let (false, Some(served)) = (keyed, &served) {
        field("engine", engine(served));
    }
    Json(Value::Object(status))
}

fn engine(served: &Served) -> Value {
    let sum =
        |of: fn(&sglhost_engine::EngineMetrics) -> i64| served.metrics.iter().map(|metrics| of(metrics)).sum::<i64>();
    json!({
        "running": sum(|metrics| metrics.running.get()),
        "queued": sum(|metrics| metrics.queued.get()),
        "used_slots": sum(|metrics| metrics.used_slots.get()),
        "slots": sum(|metrics| metrics.slots.get()),
    })
}
