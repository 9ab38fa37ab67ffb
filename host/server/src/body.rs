//! Bodies of requests: read whole, within a size, a pace and what all bodies together may take.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use serde::de::DeserializeOwned;
use sglhost_core::limits::ServerLimits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::ApiError;
use crate::object::Object;

/// Bytes of one permit: a semaphore counts in 32 bits.
const PERMIT_BYTES: usize = 1 << 10;
/// Reserved up front for a body that says how long it is.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// What all bodies together take.
#[derive(Debug)]
pub(crate) struct Bodies {
    limits: ServerLimits,
    room: Arc<Semaphore>,
}

/// A body that was read. It counts against the room of all until it is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    pub(crate) fn new(limits: &ServerLimits) -> Self {
        Self { limits: limits.clone(), room: Arc::new(Semaphore::new(limits.bodies_bytes_max / PERMIT_BYTES)) }
    }

    /// Reads a body of at most `max_bytes`; one that says it is longer is refused before anything of it is read.
    ///
    /// # Errors
    /// 413, 408 if it comes too slowly, 400 if it breaks off, 503 if there is no room for it now.
    pub(crate) async fn read(&self, request: Request, max_bytes: usize) -> Result<Received, ApiError> {
        let mut body = request.into_body();
        let (said, at_most) = (body.size_hint().lower(), max_bytes as u64);
        if said > at_most {
            return Err(too_large(said, max_bytes));
        }
        let mut bytes = BytesMut::with_capacity((said as usize).min(RESERVED_BYTES_MAX));
        let mut room: Option<OwnedSemaphorePermit> = None;
        let mut pace = Pace::new(&self.limits);
        loop {
            let Ok(frame) = timeout_at(pace.deadline, body.frame()).await else {
                return Err(pace.too_slow());
            };
            let frame = match frame {
                None => return Ok(Received { bytes: bytes.freeze(), _room: room }),
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return Err(ApiError::invalid("the body broke off before its end")),
            };
            // Trailers are nobody's business.
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > max_bytes {
                return Err(too_large((bytes.len() + data.len()) as u64, max_bytes));
            }
            self.make_room(&mut room, bytes.len() + data.len())?;
            bytes.extend_from_slice(&data);
            pace.came(data.len());
        }
    }

    /// Reads a JSON body; an empty one stands for `{}`.
    ///
    /// # Errors
    /// Those of [`Bodies::read`], 415 for another type of content, 400 for what is not the JSON that is wanted.
    pub(crate) async fn read_json<T: DeserializeOwned>(
        &self,
        request: Request,
        max_bytes: usize,
    ) -> Result<(T, Received), ApiError> {
        let mime = mime(request.headers());
        let right = mime.as_deref() == Some("application/json");
        if mime.is_some() && !right {
            return Err(unsupported("application/json"));
        }
        let body = self.read(request, max_bytes).await?;
        let text: &[u8] = if body.bytes.is_empty() { b"{}" } else { &body.bytes };
        if !body.bytes.is_empty() && !right {
            return Err(unsupported("application/json"));
        }
        let Object(value) =
            serde_json::from_slice(text).map_err(|error| ApiError::invalid(format!("the body: {error}")))?;
        Ok((value, body))
    }

    fn make_room(&self, room: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), ApiError> {
        let held = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = bytes.div_ceil(PERMIT_BYTES).saturating_sub(held);
        if missing == 0 {
            return Ok(());
        }
        let full = || ApiError::unavailable("the server reads as many bytes of requests as it may (bodies_bytes_max)");
        let missing = u32::try_from(missing).map_err(|_| full())?;
        let more = Arc::clone(&self.room).try_acquire_many_owned(missing).map_err(|_| full())?;
        match room {
            Some(room) => room.merge(more),
            None => *room = Some(more),
        }
        Ok(())
    }
}

/// How fast a body must come.
struct Pace {
    bytes: usize,
    period: std::time::Duration,
    deadline: Instant,
    /// In this period.
    came: usize,
}

impl Pace {
    fn new(limits: &ServerLimits) -> Self {
        let period = limits.body_progress_period;
        Self { bytes: limits.body_progress_bytes, period, deadline: Instant::now() + period, came: 0 }
    }

    fn came(&mut self, bytes: usize) {
        self.came += bytes;
        if self.came >= self.bytes {
            (self.came, self.deadline) = (0, Instant::now() + self.period);
        }
    }

    fn too_slow(&self) -> ApiError {
        let message = format!("the body came too slowly: less than {} bytes in {:?}", self.bytes, self.period);
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "deadline-exceeded", message)
    }
}

/// The type of content that a request says it has, without parameters.
pub(crate) fn mime(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?;
    let text = String::from_utf8_lossy(value.as_bytes());
    Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}

/// 415.
pub(crate) fn unsupported(wanted: &str) -> ApiError {
    let message = format!("the body must be sent with content-type: {wanted}");
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported", message)
}

fn too_large(bytes: u64, max: usize) -> ApiError {
    ApiError::too_large(format!("the body has {bytes} bytes or more; here it may have {max}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::time::Duration;

    use axum::body::Body;
    use serde_json::Value;

    use super::*;

    fn limits() -> ServerLimits {
        ServerLimits { bodies_bytes_max: 8 << 10, body_progress_bytes: 10, ..ServerLimits::default() }
    }

    /// A body of `pieces` pieces of 5 bytes, each after `pause`.
    fn slow(pieces: usize, pause: Duration) -> Request {
        let stream = futures_util::stream::unfold(0, move |piece| async move {
            tokio::time::sleep(pause).await;
            (piece < pieces).then_some((Ok::<_, std::io::Error>(Bytes::from_static(b"12345")), piece + 1))
        });
        Request::new(Body::from_stream(stream))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_take_its_time_but_not_stand_still() {
        let bodies = Bodies::new(&limits());
        let read = |pieces, seconds| bodies.read(slow(pieces, Duration::from_secs(seconds)), 1000);
        assert_eq!(read(20, 4).await.unwrap().bytes.len(), 100);
        assert_eq!(read(20, 6).await.unwrap_err().status, StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn a_body_has_a_size_and_all_have_one_together() {
        let bodies = Bodies::new(&limits());
        let read = |size: usize, max| bodies.read(Request::new(Body::from(vec![0; size])), max);
        assert_eq!(read(11, 10).await.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(bodies.read(slow(3, Duration::ZERO), 14).await.unwrap_err().status, StatusCode::PAYLOAD_TOO_LARGE);
        let held = read(8 << 10, 1 << 20).await.unwrap();
        assert_eq!(read(1, 10).await.unwrap_err().status, StatusCode::SERVICE_UNAVAILABLE);
        drop(held);
        assert!(read(1, 10).await.is_ok());
    }

    #[tokio::test]
    async fn json_says_that_it_is_json() {
        let bodies = Bodies::new(&limits());
        let read = async |mime: Option<&str>, text: &'static str| {
            let mut request = Request::new(Body::from(text));
            if let Some(mime) = mime {
                request.headers_mut().insert(header::CONTENT_TYPE, mime.parse().unwrap());
            }
            let read = bodies.read_json::<Value>(request, 1000).await;
            read.map(|(value, _)| value.to_string()).map_err(|error| error.status.as_u16())
        };
        assert_eq!(read(Some("Application/JSON; charset=utf-8"), "{\"a\":1}").await, Ok("{\"a\":1}".to_owned()));
        assert_eq!(read(None, "").await, Ok("{}".to_owned()));
        assert_eq!(read(Some("text/plain"), "").await, Err(415));
        assert_eq!(read(Some("text/plain"), "{}").await, Err(415));
        assert_eq!(read(None, "{}").await, Err(415));
        assert_eq!(read(Some("application/json"), "[]").await, Err(400));
        assert_eq!(read(Some("application/json"), "{} {}").await, Err(400));
        assert_eq!(read(Some("application/json"), "{\"a\":").await, Err(400));
    }
}
