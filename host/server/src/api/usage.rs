//! What a tenant used and keeps.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use serde_json::{Value, json};

use super::parameters::{Parameters, shown};
use crate::auth::Caller;
use crate::service::Service;
use crate::{ApiError, json};

/// `GET /v1/usage`.
pub(crate) async fn get(
    State(service): State<Arc<Service>>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let since_ms = match Parameters::read(request.uri(), &["since"])?.text("since") {
        None => 0,
        Some(day) => json::day_ms(day)
            .ok_or_else(|| ApiError::invalid(format!("since is {}; it must be a day, as in 2026-11-25", shown(day))))?,
    };
    let days = service.store.usage(&tenant.id, since_ms).await?;
    let stored = service.store.footprint(&tenant.id).await?;
    let (days, total) = json::usage_days(&days);
    Ok(Json(json!({
        "days": days,
        "total": total,
        "quotas": tenant.quotas(),
        "stored": {"programs": stored.programs, "program_bytes": stored.program_bytes},
    })))
}
