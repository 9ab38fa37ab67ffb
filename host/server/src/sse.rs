//! A run's events as server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! Each has its number as `id`, its kind as `event` and its JSON, which has no line breaks, as `data`. While nothing
//! happens a comment is sent now and then, so that proxies keep the connection, and a client that has gone is noticed.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use sglhost_core::RunId;

use crate::Follower;

/// Names the run whose events follow.
pub(crate) const RUN_ID: HeaderName = HeaderName::from_static("x-run-id");
/// Asks nginx and its like to pass each event on at once.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// What is sent while nothing happens.
const COMMENT: &[u8] = b":\n\n";

/// A response of all that the follower reads; dropping its body drops the follower.
pub(crate) fn response(run: RunId, follower: Follower, keep_alive: Duration) -> Response {
    let frames = stream::unfold(follower, move |mut follower| async move {
        let frame = match tokio::time::timeout(keep_alive, follower.next()).await {
            Ok(event) => event.map(|(id, kind, json)| frame(id, kind, &json))?,
            Err(_) => Bytes::from_static(COMMENT),
        };
        Some((Ok::<_, Infallible>(frame), follower))
    });
    let mut response = Body::from_stream(frames).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(BUFFERING, HeaderValue::from_static("no"));
    if let Ok(id) = HeaderValue::from_str(&run.to_string()) {
        headers.insert(RUN_ID, id);
    }
    response
}

fn frame(id: u64, kind: &str, json: &[u8]) -> Bytes {
    let mut frame = format!("id: {id}\nevent: {kind}\ndata: ").into_bytes();
    frame.extend_from_slice(json);
    frame.extend_from_slice(b"\n\n");
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_written_as_the_standard_has_it() {
        let frame = frame(7, "call.delta", br#"{"type":"call.delta"}"#);
        assert_eq!(frame, "id: 7\nevent: call.delta\ndata: {\"type\":\"call.delta\"}\n\n");
    }
}
