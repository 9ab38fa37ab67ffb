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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use sglhost_core::{Quotas, TenantId};

    use super::*;
    use crate::tests::TestClock;

    #[tokio::test(start_paused = true)]
    async fn places_are_given_back_and_then_refused() {
        let admission = Admission::new(3, Arc::new(TestClock::default()), Metrics::new(None));
        let quotas = Quotas { concurrent_runs_max: 2, ..Quotas::default() };
        let tenant = |name: &str| Tenant::new(TenantId(name.into()), quotas.clone(), Duration::ZERO);
        let (acme, zoo) = (tenant("acme"), tenant("zoo"));
        let status = |tenant| admission.admit(tenant).map_err(|error| (error.status.as_u16(), error.retry_after));
        let wait = Some(Duration::from_secs(1));
        let mine = [status(&acme).unwrap(), status(&acme).unwrap()];
        assert_eq!(status(&acme).err(), Some((429, wait)));
        let theirs = status(&zoo).unwrap();
        assert_eq!((status(&zoo).err(), zoo.live_count()), (Some((503, wait)), 1));
        drop(mine);
        assert_eq!((acme.live_count(), admission.live()), (0, 1));
        admission.close();
        assert_eq!((status(&zoo).err(), admission.is_closed()), (Some((503, wait)), true));
        assert!(!admission.vacant(Duration::from_secs(5)).await);
        drop(theirs);
        assert!(admission.vacant(Duration::ZERO).await);
    }
}
