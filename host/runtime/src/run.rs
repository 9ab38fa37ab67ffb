//! A run as its caller sees it: what it is started with, and its events.

use sglhost_core::limits::RunLimits;
use sglhost_core::{Event, RunId, SamplingParams, TenantId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What a run is started with.
#[derive(Clone, Debug)]
pub struct RunRequest {
    /// Who it runs for.
    pub tenant: TenantId,
    /// The keyword arguments: a JSON object, checked against the program's description.
    pub arguments: String,
    /// What the guest's options start from: SGLang's `run(temperature=…)`.
    pub defaults: SamplingParams,
    /// Runs of higher priority are served before others of the same tenant; 0 is usual.
    pub priority: i32,
    /// Its limits; none takes the host's.
    pub limits: Option<RunLimits>,
    /// Makes the run's randomness reproducible: the seeds of its calls and what WASI's random gives.
    pub seed: Option<u64>,
}

/// A run under way. Dropping it, or its events' receiver alone, cancels the run.
#[derive(Debug)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What happens in it; `RunStarted` is the first event and `RunFinished` the last. Bounded: a reader that lags
    /// behind makes the run wait.
    pub events: mpsc::Receiver<Event>,
    pub(crate) cancel: CancelOnDrop,
}

impl Run {
    /// Asks the run to end. Its events go on until `RunFinished`, which then tells of the cancellation, unless the
    /// program finished before.
    pub fn cancel(&self) {
        self.cancel.0.cancel();
    }
}

/// A cancellation that happens at the latest when this is dropped.
#[derive(Debug)]
pub(crate) struct CancelOnDrop(pub(crate) CancellationToken);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}
