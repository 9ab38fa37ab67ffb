//! Runs: starting, listing, looking at and cancelling them.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use sglhost_core::RunId;
use sglhost_core::limits::ServerLimits;
use sglhost_store::RunRow;
use sha2::{Digest, Sha256};

use super::parameters::{PAGE, Parameters, Segments, shown};
use super::programs::find;
use super::start::{RunFields, Sampling, no_arguments};
use super::whole;
use crate::auth::Caller;
use crate::body::Parts;
use crate::object::Object;
use crate::service::Service;
use crate::{ApiError, Begun, LiveRun, Tenant, json, sse};

/// Says that a request is the same as one before.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The body of a start. (serde can refuse unknown fields or flatten; it cannot do both.)
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartBody {
    #[serde(default = "no_arguments")]
    arguments: Box<RawValue>,
    #[serde(default)]
    sampling: Object<Sampling>,
    #[serde(default, deserialize_with = "whole::optional")]
    seed: Option<u64>,
    #[serde(default, deserialize_with = "whole::required")]
    priority: i32,
    #[serde(default)]
    detach: bool,
}

/// How the client wants to know what comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    /// The run, once it has ended.
    End,
    /// Its events.
    Events,
    /// That it began.
    Beginning,
}

/// `POST /v1/programs/{ref}/runs`.
pub(crate) async fn start(
    State(service): State<Arc<Service>>,
    Caller(tenant): Caller,
    segments: Segments,
    request: Request,
) -> Result<Response, ApiError> {
    let limits = &service.config.limits;
    let key = idempotency_key(request.headers(), limits)?;
    let events = wants_events(request.headers());
    let reference = segments.reference()?;
    service.can_begin()?;
    let (body, received) = service.bodies.read_json::<StartBody>(&tenant, request, limits.run_body_bytes_max).await?;
    let version = find(&service, &tenant, &segments).await?;
    let program = service.load(&tenant, &version.digest).await?;
    let StartBody { arguments, sampling, seed, priority, detach } = body;
    let (heavy, fields) = (&service.bodies.heavy, RunFields { arguments, sampling, seed, priority });
    let mut start = fields.check(heavy, &tenant, &program).await?;
    start.detached = detach;
    if let Some(key) = key {
        let (reference, body) = (format!("{reference:?}"), received.bytes.clone());
        let sha256 = heavy.run(&tenant, body.len(), move || asked(&reference, &body)).await?;
        start.idempotency = Some((key, sha256));
    }
    // The arguments are in `start` now.
    drop(received);
    let wanted = match (detach, events) {
        (true, _) => Wanted::Beginning,
        (false, true) => Wanted::Events,
        (false, false) => Wanted::End,
    };
    let ended = |row: &RunRow| ended(&service, &tenant, row);
    match service.runs.start(&tenant, program, &version, start).await? {
        Begun::New(handle) => Ok(match wanted {
            Wanted::Beginning => began(&handle.run().row()),
            Wanted::Events => sse::response(handle.run().id(), handle.into_follower(), limits.event_keep_alive),
            Wanted::End => ended(&handle.ended().await)?,
        }),
        Begun::Before(row) => before(&service, &tenant, *row, wanted).await,
    }
}

/// The answer to a request that was made before. Going away cancels nothing here.
async fn before(service: &Service, tenant: &Tenant, row: RunRow, wanted: Wanted) -> Result<Response, ApiError> {
    let live = service.runs.live(&tenant.id, row.id);
    Ok(match (wanted, live) {
        (Wanted::Beginning, live) => began(&live.map_or(row, |live| live.row())),
        (Wanted::End, Some(live)) => ended(service, tenant, &live.ended().await)?,
        (Wanted::End, None) => ended(service, tenant, &service.runs.get(&tenant.id, row.id).await?)?,
        (Wanted::Events, live) => {
            let follower = live.ok_or_else(|| forgotten(row.id))?.follow(0)?;
            sse::response(row.id, follower, service.config.limits.event_keep_alive)
        }
    })
}

fn began(row: &RunRow) -> Response {
    let mut response = (StatusCode::ACCEPTED, answer(json::run(row))).into_response();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/runs/{}", row.id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    with_id(response, row.id)
}

fn ended(service: &Service, tenant: &Tenant, row: &RunRow) -> Result<Response, ApiError> {
    Ok(with_id(whole(service, tenant, row)?, row.id))
}

/// A run with all that came of it, which may be long.
fn whole(service: &Service, tenant: &Tenant, row: &RunRow) -> Result<Response, ApiError> {
    let [head, record] = json::run(row);
    Ok(answer([head, service.bodies.hold(tenant, record)?]))
}

/// JSON of two parts.
fn answer(parts: [Bytes; 2]) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::new(Parts(parts.into()))).into_response()
}

fn with_id(mut response: Response, id: RunId) -> Response {
    if let Ok(id) = HeaderValue::from_str(&id.to_string()) {
        response.headers_mut().insert(sse::RUN_ID, id);
    }
    response
}

/// 410: nothing of the run's events is there any more.
pub(super) fn forgotten(id: RunId) -> ApiError {
    ApiError::gone(format!("the events of run {id} are not kept any more; GET /v1/runs/{id} says what came of it"))
}

/// The digest of what is asked for, by which a key that comes again is known to mean the same.
fn asked(reference: &str, body: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update((reference.len() as u64).to_le_bytes());
    digest.update(reference);
    digest.update(body);
    digest.finalize().into()
}

fn idempotency_key(headers: &HeaderMap, limits: &ServerLimits) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let max = limits.idempotency_key_bytes_max;
    let right = (1..=max).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    match value.to_str() {
        Ok(key) if right && headers.get_all(IDEMPOTENCY_KEY).iter().count() == 1 => Ok(Some(key.to_owned())),
        _ => Err(ApiError::invalid(format!("an idempotency key is one of 1 to {max} visible ASCII characters"))),
    }
}

/// Whether the client takes events. Whoever takes all there is wants the run.
fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(','));
    kinds.any(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream"))
}

/// `GET /v1/runs`.
pub(crate) async fn list(
    State(service): State<Arc<Service>>,
    Caller(tenant): Caller,
    request: Request,
) -> Result<Json<Value>, ApiError> {
    let page = Parameters::read(request.uri(), &PAGE)?.page(&service.config.limits)?;
    if let Some(after) = page.after.as_deref().filter(|after| after.parse::<RunId>().is_err()) {
        let after = shown(after);
        return Err(ApiError::invalid(format!("after is {after}; it must be the id of a run: 16 hexadecimal digits")));
    }
    let rows = service.store.runs(&tenant.id, &page).await?;
    let next = json::next(&rows, page.limit, |row| row.id.to_string());
    let runs: Vec<Value> = rows.iter().map(json::run_in_list).collect();
    Ok(Json(json!({"runs": runs, "next": next})))
}

/// `GET /v1/runs/{id}`.
pub(crate) async fn get(
    State(service): State<Arc<Service>>,
    Caller(tenant): Caller,
    segments: Segments,
) -> Result<Response, ApiError> {
    let row = service.runs.get(&tenant.id, segments.run()?).await?;
    whole(&service, &tenant, &row)
}

/// `POST /v1/runs/{id}/cancel`.
pub(crate) async fn cancel(
    State(service): State<Arc<Service>>,
    Caller(tenant): Caller,
    segments: Segments,
) -> Result<Response, ApiError> {
    let row = service.runs.cancel(&tenant.id, segments.run()?).await?;
    whole(&service, &tenant, &row)
}

/// A run of the tenant whose events are there.
///
/// # Errors
/// 404 if there is no such run, 410 if its events are forgotten.
pub(super) async fn live(service: &Service, tenant: &Tenant, id: RunId) -> Result<Arc<LiveRun>, ApiError> {
    match service.runs.live(&tenant.id, id) {
        Some(live) => Ok(live),
        None => {
            service.runs.get(&tenant.id, id).await?;
            Err(forgotten(id))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(&name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn events_are_for_those_who_ask_for_them() {
        let check = |accept: &[&str]| wants_events(&headers(header::ACCEPT, accept));
        assert!(check(&["text/event-stream"]) && check(&["application/json, Text/Event-Stream;q=0.5"]));
        assert!(check(&["application/json", "text/event-stream"]));
        assert!(!check(&[]) && !check(&["*/*"]) && !check(&["application/json"]) && !check(&["text/event-streams"]));
    }

    #[test]
    fn a_key_is_visible_ascii() {
        let check = |keys: &[&str]| idempotency_key(&headers(IDEMPOTENCY_KEY, keys), &ServerLimits::default());
        assert_eq!(check(&[]).unwrap(), None);
        assert_eq!(check(&["a-1"]).unwrap().as_deref(), Some("a-1"));
        let long = "k".repeat(256);
        for wrong in [&[""][..], &["a b"], &[&long], &["a", "a"], &["a\tb"]] {
            assert_eq!(check(wrong).unwrap_err().status, StatusCode::BAD_REQUEST, "{wrong:?}");
        }
    }

    #[test]
    fn what_is_asked_for_is_program_and_body() {
        let all = [asked("a", b"b"), asked("ab", b""), asked("", b"ab"), asked("a", b"c")];
        assert!((1..all.len()).all(|index| !all[..index].contains(&all[index])));
    }
}
