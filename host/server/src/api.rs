//! The API: a file for each resource. `openapi.json` says what each route takes and answers; a test holds the two to the
//! same routes.

mod batches;
mod document;
mod events;
mod health;
mod models;
mod parameters;
mod programs;
mod runs;
mod start;
mod status;
mod usage;
mod whole;

use std::sync::Arc;

use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post, put};
use axum::{Router, middleware};

use crate::service::Service;
use crate::{ApiError, auth, front, page};

/// Every route with its methods. `HEAD` goes with `GET`, and `OPTIONS` with all.
fn routes() -> Vec<(&'static str, MethodRouter<Arc<Service>>)> {
    vec![
        ("/v1/programs", get(programs::list)),
        ("/v1/programs/{ref}", get(programs::get).put(programs::put).delete(programs::delete)),
        ("/v1/programs/{name}/versions", get(programs::versions)),
        ("/v1/programs/{name}/tags/{tag}", put(programs::tag)),
        ("/v1/programs/{ref}/runs", post(runs::start)),
        ("/v1/programs/{ref}/batches", post(batches::start)),
        ("/v1/runs", get(runs::list)),
        ("/v1/runs/{id}", get(runs::get)),
        ("/v1/runs/{id}/events", get(events::follow)),
        ("/v1/runs/{id}/cancel", post(runs::cancel)),
        ("/v1/usage", get(usage::get)),
        ("/v1/models", get(models::list)),
        ("/v1/status", get(status::get)),
        ("/health", get(health::health)),
        ("/ready", get(health::ready)),
        ("/metrics", get(health::metrics)),
        ("/openapi.json", get(document::get)),
        ("/", get(page::index)),
        ("/assets/{file}", get(page::asset)),
    ]
}

/// The router, with what surrounds each request.
pub(crate) fn router(service: &Arc<Service>) -> Router {
    let mut router = Router::new();
    for (path, methods) in routes() {
        router = router.route(path, methods);
    }
    let guard = middleware::from_fn_with_state(Arc::clone(service), auth::guard);
    surrounded(router.fallback(not_found).method_not_allowed_fallback(not_allowed).layer(guard), service)
}

/// Metrics alone, for a listener of the operator's own.
pub(crate) fn metrics_router(service: &Arc<Service>) -> Router {
    surrounded(Router::new().route("/metrics", get(health::all_metrics)).fallback(not_found), service)
}

fn surrounded(router: Router<Arc<Service>>, service: &Arc<Service>) -> Router {
    let front = middleware::from_fn_with_state(Arc::clone(service), front::answer);
    router.layer(front).with_state(Arc::clone(service))
}

async fn not_found() -> ApiError {
    ApiError::not_found("there is nothing at this address; /openapi.json says what there is")
}

/// Another method than those that the router itself puts into `Allow`.
async fn not_allowed(method: Method) -> Response {
    if method == Method::OPTIONS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let message = "this address does not take that method; the Allow header names those it takes";
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", message).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::collections::{BTreeMap, BTreeSet};

    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        serde_json::from_str(document::DOCUMENT).unwrap()
    }

    /// The methods of a route, as it says them itself.
    fn methods(route: &MethodRouter<Arc<Service>>) -> BTreeSet<String> {
        let shown = format!("{route:?}");
        let methods = ["get", "put", "post", "delete", "patch"].into_iter();
        let taken = |method: &&str| !shown.contains(&format!("{method}: None"));
        methods.filter(taken).map(str::to_owned).collect()
    }

    #[test]
    fn the_document_has_the_routes_that_there_are() {
        let served: BTreeMap<String, BTreeSet<String>> =
            routes().iter().map(|(path, route)| ((*path).to_owned(), methods(route))).collect();
        let document = document();
        let written = document["paths"].as_object().unwrap().iter();
        let written: BTreeMap<String, BTreeSet<String>> = written
            .map(|(path, methods)| (path.clone(), methods.as_object().unwrap().keys().cloned().collect()))
            .collect();
        assert_eq!(served, written);
    }

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        fn check(value: &Value, document: &Value) {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        assert!(document.pointer(&reference[1..]).is_some(), "{reference}");
                    }
                    fields.values().for_each(|value| check(value, document));
                }
                Value::Array(values) => values.iter().for_each(|value| check(value, document)),
                _ => {}
            }
        }
        check(&document(), &document());
    }

    #[test]
    fn the_document_is_of_this_version() {
        assert_eq!(document()["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
