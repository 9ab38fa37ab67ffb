//! For whoever keeps the process running: that it lives, that it can be asked, what it counts.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::auth::{asks_this_machine, is_loopback};
use crate::connection::Peer;
use crate::service::{Readiness, Service};
use crate::{ApiError, Metrics};

/// `GET /health`.
pub(crate) async fn health() -> Response {
    Json(json!({"status": "ok"})).into_response()
}

/// `GET /ready`.
pub(crate) async fn ready(State(service): State<Arc<Service>>) -> Response {
    let not_yet = |status: &str, message: String| {
        let body = Json(json!({"status": status, "message": message}));
        (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], body).into_response()
    };
    if service.runs.is_draining() {
        return not_yet("draining", "the server is being stopped".to_owned());
    }
    match service.readiness() {
        Readiness::Waiting(what) => return not_yet("starting", format!("waiting for {what}")),
        Readiness::Lost(reason) => return not_yet("lost", reason),
        Readiness::Serving(_) => {}
    }
    match service.store.tenants_version().await {
        Ok(_) => Json(json!({"status": "ready"})).into_response(),
        Err(error) => {
            tracing::error!("not ready: {error}");
            not_yet("failing", "the server cannot reach what it keeps; its log says why".to_owned())
        }
    }
}

/// What a proxy says of whom it asks for. (One that says nothing is its operator's business, who can serve metrics
/// elsewhere and keep this address from being asked for.)
const FORWARDED: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// `GET /metrics`: they tell of all tenants, so that with tenants only this machine may ask, and for nobody else.
pub(crate) async fn metrics(
    State(service): State<Arc<Service>>,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let local = peer.is_some_and(|Extension(Peer(address))| is_loopback(address.ip()))
        && asks_this_machine(&headers)
        && !FORWARDED.iter().any(|name| headers.contains_key(*name));
    if local || !service.is_keyed() { Ok(all_metrics(State(service)).await) } else { Err(super::not_found().await) }
}

/// The same where the operator decides who can reach it.
pub(crate) async fn all_metrics(State(service): State<Arc<Service>>) -> Response {
    ([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], service.encode_metrics()).into_response()
}
