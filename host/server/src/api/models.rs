//! What programs can prompt.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};
use sglhost_engine::Model;

use crate::ApiError;
use crate::service::Service;

/// `GET /v1/models`.
pub(crate) async fn list(State(service): State<Arc<Service>>) -> Result<Json<Value>, ApiError> {
    let served = service.served()?;
    let models: Vec<Value> = served.engine.models().iter().map(|model| self::model(model)).collect();
    Ok(Json(json!({"models": models})))
}

/// A model.
pub(super) fn model(model: &Model) -> Value {
    json!({"name": model.name, "context_length": model.context_length})
}
