//! Whether one more run may begin: the tenant's budgets, then the machine's places.
//!
//! # Invariants
//! - A [`Place`] is held from before a run begins until its end is stored, so that what waits for the store is bounded.
//! - After [`Admission::close`] no place is given: when the last is back, nothing of any run is left to do.

use std::sync::Arc;
use std::time::Duration;

use sglhost_core::Clock;
use tokio::sync::watch;

use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::tenant::Tenant;

/// The machine's places.
pub(crate) struct Admission {
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    runs_max: u32,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Default)]
struct State {
    live: u32,
    closed: bool,
}

/// A run's place; dropping it gives it back.
pub(crate) struct Place {
    admission: Arc<Admission>,
    tenant: Arc<Tenant>,
}

impl Admission {
    pub(crate) fn new(runs_max: u32, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { clock, metrics, runs_max, state: watch::Sender::new(State::default()) })
    }

    /// A place for a run of the tenant.
    ///
    /// # Errors
    /// 429 if the tenant, 503 if the machine has as many as may be, or stops.
    pub(crate) fn admit(self: &Arc<Self>, tenant: &Arc<Tenant>) -> Result<Place, ApiError> {
        tenant.enter(self.clock.monotonic())?;
        let mut verdict = Ok(());
        self.state.send_if_modified(|state| {
            if state.closed {
                verdict = Err(ApiError::unavailable("the server stops; ask another, or this one when it is back"));
            } else if state.live >= self.runs_max {
                let max = self.runs_max;
                verdict = Err(ApiError::unavailable(format!(
                    "{max} runs are live, as many as the server takes on (concurrent_runs_max); try again"
                )));
            } else {
                state.live += 1;
            }
            verdict.is_ok()
        });
        if verdict.is_err() {
            tenant.leave();
        }
        verdict?;
        self.metrics.live(self.live());
        Ok(Place { admission: Arc::clone(self), tenant: Arc::clone(tenant) })
    }

    pub(crate) fn live(&self) -> u32 {
        self.state.borrow().live
    }

    pub(crate) fn close(&self) {
        self.state.send_modify(|state| state.closed = true);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.borrow().closed
    }

    /// Waits until all places are back; gives whether they are.
    pub(crate) async fn vacant(&self, timeout: Duration) -> bool {
        let mut state = self.state.subscribe();
        tokio::time::timeout(timeout, state.wait_for(|state| state.live == 0)).await.is_ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.tenant.leave();
        self.admission.state.send_modify(|state| state.live -= 1);
        self.admission.metrics.live(self.admission.live());
    }
}
