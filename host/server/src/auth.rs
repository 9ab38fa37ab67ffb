//! Who asks, and whether from a page of somebody else's.
//!
//! *Local mode*: the store has no tenants; no keys are asked for. What protects the server from web pages is that it is
//! asked under its own name only (a page that had its name resolve to this machine would ask under that one), and that an
//! `Origin`, which browsers send with whatever changes something, is the server's own.
//!
//! *Keyed mode*: the store has tenants. Every request below `/v1` has a key. There is no CORS: other origins are refused.
//!
//! # Invariants
//! - Nothing of a body is read before it is known who asks.
//! - A server that is reachable from other machines never falls back to local mode: without tenants it has no keys, and
//!   answers nobody.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::front::AnsweredFor;
use crate::service::Service;
use crate::{ApiError, Tenant};

/// The tenant that a request is for. Present below `/v1`.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Arc<Tenant>);

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        // Absent only if a route that needs one lies outside of /v1.
        parts.extensions.get::<Self>().cloned().ok_or_else(ApiError::internal)
    }
}

/// Wraps all routes.
pub(crate) async fn guard(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let below_v1 = path == "/v1" || path.starts_with("/v1/");
    if let Err(error) = check_coding(request.headers()) {
        // Nobody knows where such a message ends.
        return ([(header::CONNECTION, HeaderValue::from_static("close"))], error).into_response();
    }
    if let Err(error) = check_names(&service, &request) {
        return error.into_response();
    }
    if !below_v1 {
        return next.run(request).await;
    }
    let Some(tenant) = tenant(&service, request.headers()) else {
        return no_store(ApiError::unauthorized().into_response());
    };
    let id = tenant.id.clone();
    let (answer, open) = match tenant.open_request() {
        Err(error) => (error.into_response(), None),
        Ok(open) => {
            request.extensions_mut().insert(Caller(tenant));
            (next.run(request).await, Some(Arc::new(open)))
        }
    };
    let mut response = no_store(answer);
    response.extensions_mut().insert(AnsweredFor(id, open));
    response
}

/// What is said below `/v1` is one tenant's, and true now; and no other site's page learns by loading it whether it is
/// there.
fn no_store(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin"));
    response
}

/// Checks that a body, if it comes in pieces, comes in nothing else: of what is compressed on the way as well, only the
/// pieces would be understood.
///
/// # Errors
/// 501.
fn check_coding(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let only_chunked = match (codings.next(), codings.next()) {
        (None, _) => true,
        (Some(coding), None) => coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    if only_chunked {
        return Ok(());
    }
    let message = "the request's Transfer-Encoding is not understood; `chunked` alone is, or send a Content-Length";
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "unsupported", message))
}

/// Checks the names that the server is asked under, and from.
fn check_names(service: &Service, request: &Request) -> Result<(), ApiError> {
    let authority = match request.uri().authority() {
        Some(authority) => authority.as_str(),
        None => single(request.headers(), &header::HOST)?
            .ok_or_else(|| ApiError::invalid("the request has no Host header"))?,
    };
    if !service.is_keyed() && !is_this_machine(authority) {
        let message = "a server without tenants is asked as localhost, 127.0.0.1 or [::1] alone";
        return Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, "invalid", message));
    }
    let Some(origin) = single(request.headers(), &header::ORIGIN)? else { return Ok(()) };
    let site = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    if site.is_some_and(|site| site.eq_ignore_ascii_case(authority)) {
        return Ok(());
    }
    Err(ApiError::forbidden("a page of another origin may not ask here"))
}

/// The header's value; one that is there twice is no answer to whose it is.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let (value, more) = (values.next(), values.next());
    match value.map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok(text)) if more.is_none() => Ok(Some(text)),
        Some(_) => Err(ApiError::invalid(format!("the request's {name} header is wrong"))),
    }
}

/// Whether the request names this machine as the one it asks: a page that was led here under its own name does not.
pub(crate) fn asks_this_machine(headers: &HeaderMap) -> bool {
    matches!(single(headers, &header::HOST), Ok(Some(authority)) if is_this_machine(authority))
}

/// `localhost`, `127.0.0.1` or `[::1]`, with any port or none.
fn is_this_machine(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    host.eq_ignore_ascii_case("localhost") || matches!(host, "127.0.0.1" | "[::1]")
}

/// Whose request it is; nobody's without a key that is known.
fn tenant(service: &Service, headers: &HeaderMap) -> Option<Arc<Tenant>> {
    if !service.is_keyed() {
        return service.tenants.local();
    }
    let value = single(headers, &header::AUTHORIZATION).ok()??;
    let (scheme, key) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") { service.tenants.by_key(key.trim()) } else { None }
}

/// Whether only this machine can reach what listens on the address.
pub(crate) fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_comes_in_pieces_alone() {
        let check = |values: &[&'static str]| {
            let values = values.iter().map(|value| (header::TRANSFER_ENCODING, HeaderValue::from_static(value)));
            check_coding(&HeaderMap::from_iter(values)).map_err(|error| error.status.as_u16())
        };
        assert_eq!((check(&[]), check(&["chunked"]), check(&[" Chunked "])), (Ok(()), Ok(()), Ok(())));
        for wrong in ["gzip, chunked", "gzip,chunked", "chunked, chunked", "identity", "", "xchunked"] {
            assert_eq!(check(&[wrong]), Err(501), "{wrong}");
        }
    }

    #[test]
    fn this_machine_has_three_names() {
        for name in ["localhost", "LocalHost:80", "127.0.0.1", "127.0.0.1:30000", "[::1]", "[::1]:8"] {
            assert!(is_this_machine(name), "{name}");
        }
        for name in [
            "",
            "localhost.example.com",
            "127.0.0.1.nip.io",
            "127.0.0.2",
            "::1",
            "example.com:80",
            "localhost:80:x",
            "[::1]x",
        ] {
            assert!(!is_this_machine(name), "{name}");
        }
    }
}
