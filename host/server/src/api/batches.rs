//! Batches: many runs of one program, a line for each as they come, in the order in which they were asked for.
//!
//! Runs begin as others end. One that finds no place waits for it, so that a batch of a thousand needs no client that
//! tries again; what is wrong with a run itself is its line, and the others go on. A client that goes away cancels all.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;
use sglhost_core::limits::BATCH_RUNS_MAX;
use sglhost_runtime::Program;
use sglhost_store::ProgramVersion;

use super::parameters::Segments;
use super::programs::find;
use super::start::RunFields;
use super::whole;
use crate::auth::Caller;
use crate::object::{AtMost, Object};
use crate::service::Service;
use crate::{ApiError, Begun, StartRun, Tenant, json};

/// The longest that a run waits before it asks for a place again.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// The body of a batch.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchBody {
    runs: AtMost<BATCH_RUNS_MAX, Object<RunFields>>,
    #[serde(default, deserialize_with = "whole::optional")]
    concurrency: Option<usize>,
}

/// What the runs of a batch share.
struct Batch {
    service: Arc<Service>,
    tenant: Arc<Tenant>,
    program: Program,
    version: ProgramVersion,
}

/// `POST /v1/programs/{ref}/batches`.
pub(crate) async fn start(
    State(service): State<Arc<Service>>,
    Caller(tenant): Caller,
    segments: Segments,
    request: Request,
) -> Result<Response, ApiError> {
    let limits = &service.config.limits;
    segments.reference()?;
    service.can_begin()?;
    let read = service.bodies.read_json::<BatchBody>(&tenant, request, limits.batch_body_bytes_max).await?;
    let (BatchBody { runs: AtMost(runs), concurrency }, received) = read;
    if runs.is_empty() || runs.len() > limits.batch_runs_max {
        let (count, max) = (runs.len(), limits.batch_runs_max);
        return Err(ApiError::invalid(format!("a batch has 1 to {max} runs (batch_runs_max); this has {count}")));
    }
    let concurrency = concurrency.unwrap_or(limits.batch_concurrency);
    if concurrency == 0 || concurrency > limits.batch_concurrency_max {
        let max = limits.batch_concurrency_max;
        return Err(ApiError::invalid(format!("concurrency is {concurrency}; it must be 1 to {max}")));
    }
    let version = find(&service, &tenant, &segments).await?;
    let program = service.load(&tenant, &version.digest).await?;
    let batch = Arc::new(Batch { service, tenant, program, version });
    let lines = stream::iter(runs.into_iter().enumerate())
        .map(move |(index, Object(fields))| {
            let batch = Arc::clone(&batch);
            async move { json::batch_line(index, batch.run(fields).await) }
        })
        .buffered(concurrency)
        .flat_map(move |line| {
            // What was received is held, and counted, until the last run began.
            let _ = &received;
            // An empty piece would say that the body is over.
            stream::iter(line.into_iter().filter(|piece| !piece.is_empty()).map(Ok::<_, Infallible>))
        });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

impl Batch {
    async fn run(&self, fields: RunFields) -> Result<[Bytes; 2], ApiError> {
        let start = fields.check(&self.service.bodies.heavy, &self.tenant, &self.program).await?;
        let began = self.service.clock.monotonic();
        loop {
            let error = match self.attempt(start.clone()).await {
                Err(error) => error,
                ended => return ended,
            };
            let waited = self.service.clock.monotonic().saturating_sub(began);
            let pause = error.retry_after.unwrap_or(RETRY_MAX).min(RETRY_MAX);
            let patience = self.service.config.limits.batch_patience;
            if error.retry_after.is_none() || self.service.runs.is_draining() || waited + pause > patience {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, start: StartRun) -> Result<[Bytes; 2], ApiError> {
        self.service.can_begin()?;
        let begun = self.service.runs.start(&self.tenant, self.program.clone(), &self.version, start).await?;
        Ok(match begun {
            Begun::New(handle) => json::run(&handle.ended().await),
            Begun::Before(row) => json::run(&row),
        })
    }
}
