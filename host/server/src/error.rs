//! What a client is told when something is not done: status, code, message.
//!
//! # Invariants
//! - What is another tenant's and what never was are answered alike.
//! - What is the host's own business (paths, what the database said) goes to the log, not to the client.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sglhost_core::limits::REFUSAL_BYTES_MAX;
use sglhost_core::{Error, ErrorCode};
use sglhost_runtime::RuntimeError;
use sglhost_store::StoreError;

/// How long a client is asked to wait where nobody knows better.
const RETRY: Duration = Duration::from_secs(1);
/// The same where time alone will not help: something has to be deleted, or a quota raised.
const RETRY_QUOTA: Duration = Duration::from_secs(60);

/// An answer that says why there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The status of HTTP.
    pub status: StatusCode,
    /// For programs.
    pub code: &'static str,
    /// For people; holds no prompt text.
    pub message: String,
    /// When the same request may be answered.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    /// An error of any kind.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    /// 400: the request is wrong and will be wrong again.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, ErrorCode::Invalid.as_str(), message)
    }

    /// 401: no key, an unknown one, a revoked one; which of these is not told.
    #[must_use]
    pub fn unauthorized() -> Self {
        let message = "a key is needed here: Authorization: Bearer sgl_…; `sglhost tenant` makes one";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
    }

    /// 403: whoever asks may not.
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 404: there is no such thing, or it is somebody else's.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    /// 409: it contradicts what was asked for before.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 410: it was there and is forgotten.
    pub fn gone(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GONE, "not-found", message)
    }

    /// 413: a body that is larger than it may be.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, ErrorCode::LimitExceeded.as_str(), message)
    }

    /// 429: the tenant has used up what it may use now.
    pub fn too_many(message: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", message).after(retry_after)
    }

    /// 503: not now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable.as_str(), message).after(RETRY)
    }

    /// 500: a bug of ours, which the log tells of.
    #[must_use]
    pub fn internal() -> Self {
        let message = "the server failed at this request; its log says why";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unavailable.as_str(), message)
    }

    fn after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let status = match error.code {
            ErrorCode::LimitExceeded | ErrorCode::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::Unsupported | ErrorCode::Trap | ErrorCode::Program => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorCode::Cancelled => StatusCode::CONFLICT,
            ErrorCode::DeadlineExceeded => StatusCode::REQUEST_TIMEOUT,
            ErrorCode::Unavailable => return Self::unavailable(error.message),
            _ => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.code.as_str(), error.message)
    }
}

impl From<RuntimeError> for ApiError {
    /// What is wrong with a program that a client brought is 422; what is wrong with the host is the log's business.
    fn from(error: RuntimeError) -> Self {
        match &error {
            RuntimeError::Cache { .. } | RuntimeError::Setup(_) => {
                tracing::error!("a program could not be loaded: {error}");
                Self::unavailable("the host cannot load programs now; its log says why")
            }
            RuntimeError::Busy { .. } => Self::unavailable(error.to_string()),
            RuntimeError::TooLarge { .. } => Self::too_large(error.to_string()),
            _ => Self::new(StatusCode::UNPROCESSABLE_ENTITY, ErrorCode::Invalid.as_str(), error.to_string()),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { .. } => Self::not_found(error.to_string()),
            StoreError::Quota(message) => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, ErrorCode::LimitExceeded.as_str(), message).after(RETRY_QUOTA)
            }
            // By chance; another is drawn the next time.
            StoreError::Taken { .. } => Self::unavailable("an id was drawn that is in use; try again"),
            StoreError::Damaged { .. } => {
                tracing::error!("{error}");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, ErrorCode::Unavailable.as_str(), error.to_string())
            }
            _ => {
                tracing::error!("{error}");
                Self::unavailable("the server cannot reach what it keeps now; its log says why")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let message = &self.message[..self.message.floor_char_boundary(REFUSAL_BYTES_MAX)];
        let body = Json(json!({"error": {"code": self.code, "message": message}}));
        let mut response = (self.status, body).into_response();
        if let Some(after) = self.retry_after {
            // Whole seconds, rounded up: a client that comes back then is not too early.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_asked_back_no_sooner_than_it_helps() {
        let header = |error: ApiError| {
            let value = error.into_response().headers().get(header::RETRY_AFTER).cloned();
            value.and_then(|value| value.to_str().ok().map(str::to_owned))
        };
        assert_eq!(header(ApiError::too_many("", Duration::from_millis(1001))), Some("2".to_owned()));
        assert_eq!(header(ApiError::too_many("", Duration::from_secs(2))), Some("2".to_owned()));
        assert_eq!(header(ApiError::too_many("", Duration::ZERO)), Some("1".to_owned()));
        assert_eq!(header(ApiError::invalid("")), None);
    }

    #[test]
    fn what_the_host_says_of_itself_stays_in_its_log() {
        let error = ApiError::from(StoreError::Failed("disk /secret is full".to_owned()));
        assert_eq!(error.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!error.message.contains("secret"));
    }
}
