//! What surrounds each request: its id, a panic that must not reach the connection, its line in the log, its count.
//!
//! The line has the route's pattern and never the path, the query or anything else that a client wrote.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sglhost_core::TenantId;

use crate::ApiError;
use crate::service::Service;
use crate::tenant::OpenRequest;

/// Names a request in its answer and in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who a request is for, left on its response: for the log, and to be counted until its body ends.
#[derive(Clone, Debug)]
pub(crate) struct AnsweredFor(pub(crate) TenantId, pub(crate) Option<Arc<OpenRequest>>);

/// Wraps all routes.
pub(crate) async fn answer(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let id = format!("{:016x}", (service.entropy)());
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let mut line = Line {
        route,
        method: known(request.method()),
        began: service.clock.monotonic(),
        id: id.clone(),
        tenant: None,
        answered: None,
        service: Arc::clone(&service),
    };
    let mut response = match caught(next.run(request)).await {
        Ok(response) => response,
        Err(panic) => {
            tracing::error!("request {id} panicked: {:?}", message(&*panic));
            ApiError::internal().into_response()
        }
    };
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let (tenant, open) =
        response.extensions_mut().remove::<AnsweredFor>().map(|AnsweredFor(tenant, open)| (tenant, open)).unzip();
    line.tenant = tenant;
    line.head(response.status());
    // The line is written when the body ends, or is given up.
    response.map(|body| Body::new(WithLine { body, _line: line, _open: open.flatten() }))
}

/// What the request's line in the log will say, and the writing of it.
struct Line {
    route: String,
    method: &'static str,
    began: Duration,
    id: String,
    tenant: Option<TenantId>,
    /// The status; none if the client went away before there was one.
    answered: Option<u16>,
    service: Arc<Service>,
}

impl Line {
    fn head(&mut self, status: StatusCode) {
        self.answered = Some(status.as_u16());
        let latency = self.service.clock.monotonic().saturating_sub(self.began);
        self.service.metrics.answered(&self.route, self.method, status.as_u16(), latency);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let Self { route, method, id, .. } = self;
        let ms = self.service.clock.monotonic().saturating_sub(self.began).as_millis();
        let tenant = self.tenant.as_ref().map_or("-", |tenant| &tenant.0);
        match self.answered {
            Some(status) => tracing::info!("{method} {route} {status} {ms} ms, tenant {tenant}, request {id}"),
            None => tracing::info!("{method} {route} given up by the client after {ms} ms, request {id}"),
        }
    }
}

/// A body that ends a line of the log, and a request.
struct WithLine {
    body: Body,
    _line: Line,
    _open: Option<Arc<OpenRequest>>,
}

impl hyper::body::Body for WithLine {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<bytes::Bytes>, axum::Error>>> {
        std::pin::Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// The future's outcome, or what it panicked with. It is dropped then, and with it whatever it held.
async fn caught<F: Future>(future: F) -> Result<F::Output, Box<dyn Any + Send>> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a word")
}

/// The method, or that it is another: a client may make up its own, each a series in the metrics.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        _ => "OTHER",
    }
}
