//! A run's events, from any of them on.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName};
use axum::response::Response;

use super::parameters::{Parameters, Segments};
use super::runs::live;
use crate::auth::Caller;
use crate::service::Service;
use crate::{ApiError, sse};

/// What a client of server-sent events sends when it comes back.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// `GET /v1/runs/{id}/events`.
pub(crate) async fn follow(
    State(service): State<Arc<Service>>,
    Caller(tenant): Caller,
    segments: Segments,
    request: Request,
) -> Result<Response, ApiError> {
    let id = segments.run()?;
    let after = Parameters::read(request.uri(), &["after"])?.number("after", 0..=u64::MAX)?;
    // What a client saw last is newer than the address that it began with.
    let after = last_event_id(request.headers())?.or(after).unwrap_or(0);
    let follower = live(&service, &tenant, id).await?.follow(after)?;
    Ok(sse::response(id, follower, service.config.limits.event_keep_alive))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.parse().ok());
    id.map(Some).ok_or_else(|| ApiError::invalid("Last-Event-ID must be the number of an event"))
}
