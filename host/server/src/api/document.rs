//! The API's description, as it is written beside this crate's sources.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// OpenAPI 3.1.
pub(super) const DOCUMENT: &str = include_str!("../../openapi.json");

/// `GET /openapi.json`.
pub(crate) async fn get() -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], DOCUMENT).into_response()
}
