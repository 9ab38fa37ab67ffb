//! Bodies of requests: read whole, within a size, a pace and what all bodies together may take.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};
use serde::de::DeserializeOwned;
use sglhost_core::limits::ServerLimits;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::heavy::Heavy;
use crate::object::Object;
use crate::{ApiError, Tenant};

/// Bytes of one permit: a semaphore counts in 32 bits.
const PERMIT_BYTES: usize = 1 << 10;
/// How long a tenant with too much under way is asked to wait.
const RETRY: Duration = Duration::from_secs(1);
/// Answers up to this size are not counted: a connection's buffers take more.
const HELD_BYTES_MIN: usize = 64 << 10;
/// Reserved up front for a body that says how long it is.
const RESERVED_BYTES_MAX: usize = 1 << 20;

/// What all bodies together take.
#[derive(Debug)]
pub(crate) struct Bodies {
    limits: ServerLimits,
    room: Arc<Semaphore>,
    /// Where long ones are understood.
    pub(crate) heavy: Heavy,
}

/// A body that was read. It counts against the room of all until it is dropped.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    _room: Room,
}

/// What a body takes of what all bodies may, and of what its tenant's may.
#[derive(Debug, Default)]
struct Room {
    of_all: Option<OwnedSemaphorePermit>,
    of_tenant: Option<OwnedSemaphorePermit>,
}

impl Bodies {
    pub(crate) fn new(limits: &ServerLimits) -> Self {
        Self { limits: limits.clone(), room: room_for(limits.bodies_bytes_max), heavy: Heavy::new() }
    }

    /// Reads a body of at most `max_bytes`; one that says it is longer is refused before anything of it is read.
    ///
    /// # Errors
    /// 413, 408 if it comes too slowly, 400 if it breaks off, 503 if there is no room for it now, 429 if its tenant has
    /// too much under way.
    pub(crate) async fn read(&self, tenant: &Tenant, request: Request, max_bytes: usize) -> Result<Received, ApiError> {
        let mut body = request.into_body();
        let (said, at_most) = (body.size_hint().lower(), max_bytes as u64);
        if said > at_most {
            return Err(too_large(said, max_bytes));
        }
        let mut bytes = BytesMut::with_capacity((said as usize).min(RESERVED_BYTES_MAX));
        let share = tenant.bodies.get_or_init(|| room_for(self.limits.tenant_bodies_bytes_max));
        let mut room = Room::default();
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
            self.make_room(&mut room, share, bytes.len() + data.len())?;
            bytes.extend_from_slice(&data);
            pace.came(data.len());
        }
    }

    /// Reads a JSON body; an empty one stands for `{}`.
    ///
    /// # Errors
    /// Those of [`Bodies::read`], 415 for another type of content, 400 for what is not the JSON that is wanted.
    pub(crate) async fn read_json<T: DeserializeOwned + Send + 'static>(
        &self,
        tenant: &Tenant,
        request: Request,
        max_bytes: usize,
    ) -> Result<(T, Received), ApiError> {
        let mime = mime(request.headers());
        let right = mime.as_deref() == Some("application/json");
        if mime.is_some() && !right {
            return Err(unsupported("application/json"));
        }
        let body = self.read(tenant, request, max_bytes).await?;
        let text = if body.bytes.is_empty() { Bytes::from_static(b"{}") } else { body.bytes.clone() };
        if !body.bytes.is_empty() && !right {
            return Err(unsupported("application/json"));
        }
        let read = self.heavy.run(tenant, text.len(), move || serde_json::from_slice(&text)).await?;
        let Object(value) = read.map_err(|error| ApiError::invalid(format!("the body: {error}")))?;
        Ok((value, body))
    }

    /// Counts an answer like a body as long as its reader has not taken it: many slow readers of long answers would else
    /// take all memory there is.
    ///
    /// # Errors
    /// As [`Bodies::read`] for want of room.
    pub(crate) fn hold(&self, tenant: &Tenant, answer: Bytes) -> Result<Bytes, ApiError> {
        struct Held(Bytes, #[expect(dead_code, reason = "given back when it is dropped")] Room);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        if answer.len() <= HELD_BYTES_MIN {
            return Ok(answer);
        }
        let share = tenant.bodies.get_or_init(|| room_for(self.limits.tenant_bodies_bytes_max));
        let mut room = Room::default();
        self.make_room(&mut room, share, answer.len())?;
        Ok(Bytes::from_owner(Held(answer, room)))
    }

    fn make_room(&self, room: &mut Room, share: &Arc<Semaphore>, bytes: usize) -> Result<(), ApiError> {
        if !grow(&mut room.of_tenant, share, bytes) {
            let max = self.limits.tenant_bodies_bytes_max;
            let message = format!("{max} bytes of requests are under way, as many as may be (tenant_bodies_bytes_max)");
            return Err(ApiError::too_many(message, RETRY));
        }
        if !grow(&mut room.of_all, &self.room, bytes) {
            let message = "the server reads as many bytes of requests as it may (bodies_bytes_max)";
            return Err(ApiError::unavailable(message));
        }
        Ok(())
    }
}

fn room_for(bytes: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(bytes / PERMIT_BYTES))
}

/// Makes what is held enough for `bytes`; tells whether that could be.
fn grow(held: &mut Option<OwnedSemaphorePermit>, room: &Arc<Semaphore>, bytes: usize) -> bool {
    let permits = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
    let Ok(missing) = u32::try_from(bytes.div_ceil(PERMIT_BYTES).saturating_sub(permits)) else { return false };
    if missing == 0 {
        return true;
    }
    let Ok(more) = Arc::clone(room).try_acquire_many_owned(missing) else { return false };
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
    true
}

/// A body of an answer that is made of several parts, so that none is copied to stand behind another.
#[derive(Debug)]
pub(crate) struct Parts(pub(crate) VecDeque<Bytes>);

impl hyper::body::Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(|part| Ok(Frame::data(part))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|part| part.len() as u64).sum())
    }
}

/// How fast a body must come.
struct Pace {
    bytes: usize,
    period: Duration,
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

    use axum::body::Body;
    use serde_json::Value;
    use sglhost_core::{Quotas, TenantId};

    use super::*;

    fn limits() -> ServerLimits {
        let (bodies_bytes_max, tenant_bodies_bytes_max) = (8 << 10, 6 << 10);
        ServerLimits { bodies_bytes_max, tenant_bodies_bytes_max, body_progress_bytes: 10, ..ServerLimits::default() }
    }

    fn tenant(name: &str) -> Arc<Tenant> {
        Tenant::new(TenantId(name.into()), Quotas::default(), Duration::ZERO)
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
        let (bodies, tenant) = (Bodies::new(&limits()), tenant("acme"));
        let read = |pieces, seconds| bodies.read(&tenant, slow(pieces, Duration::from_secs(seconds)), 1000);
        assert_eq!(read(20, 4).await.unwrap().bytes.len(), 100);
        assert_eq!(read(20, 6).await.unwrap_err().status, StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn a_body_has_a_size_and_all_have_one_together() {
        let bodies = Bodies::new(&limits());
        let (acme, other) = (tenant("acme"), tenant("other"));
        let status = async |tenant: &Tenant, size: usize, max| {
            let read = bodies.read(tenant, Request::new(Body::from(vec![0; size])), max).await;
            read.map_err(|error| error.status.as_u16())
        };
        assert_eq!(status(&acme, 11, 10).await.unwrap_err(), 413);
        assert_eq!(bodies.read(&acme, slow(3, Duration::ZERO), 14).await.unwrap_err().status.as_u16(), 413);
        let held = status(&acme, 6 << 10, 1 << 20).await.unwrap();
        assert_eq!(status(&acme, 1, 10).await.unwrap_err(), 429);
        let others = status(&other, 2 << 10, 1 << 20).await.unwrap();
        assert_eq!(status(&other, 1, 10).await.unwrap_err(), 503);
        drop((held, others));
        assert!(status(&acme, 1, 10).await.is_ok() && status(&other, 1, 10).await.is_ok());
    }

    #[tokio::test]
    async fn an_answer_counts_until_it_is_taken() {
        let limits = ServerLimits { tenant_bodies_bytes_max: 256 << 10, ..ServerLimits::default() };
        let (bodies, acme) = (Bodies::new(&limits), tenant("acme"));
        let hold = |bytes: usize| bodies.hold(&acme, vec![b'x'; bytes].into());
        let held = hold(200 << 10).unwrap();
        let part = held.slice(..10);
        drop(held);
        assert_eq!(hold(100 << 10).unwrap_err().status.as_u16(), 429);
        assert!(hold(HELD_BYTES_MIN).is_ok());
        drop(part);
        assert!(hold(100 << 10).is_ok());
    }

    #[tokio::test]
    async fn json_says_that_it_is_json() {
        let (bodies, tenant) = (Bodies::new(&limits()), tenant("acme"));
        let read = async |mime: Option<&str>, text: &'static str| {
            let mut request = Request::new(Body::from(text));
            if let Some(mime) = mime {
                request.headers_mut().insert(header::CONTENT_TYPE, mime.parse().unwrap());
            }
            let read = bodies.read_json::<Value>(&tenant, request, 1000).await;
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
