//! Whether one more run may begin: the tenant's budgets, then the machine's places.
//!
//! # Invariants
//! - A [`Place`] is held from before a run begins until its end is stored, so that what waits for the store is bounded.
//! - Neither one tenant nor several that are there first take all places: who has no run under way finds one, until
//!   many tenants have come.
//! - After [`Admission::close`] no place is given: when the last is back, nothing of any run is left to do.

use std::sync::Arc;
use std::time::Duration;

use sglhost_core::{Clock, TenantId};
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

impl State {
    /// Whether one more run may be live of a tenant that has so many. It may have as many as places are left then: one
    /// alone half of all, each of three a quarter, and who comes late half of what is left.
    fn check(&self, tenant: &TenantId, own: u32, runs_max: u32) -> Result<(), ApiError> {
        if self.closed {
            return Err(ApiError::unavailable("the server stops; ask another, or this one when it is back"));
        }
        if self.live >= runs_max {
            return Err(ApiError::unavailable(format!(
                "{runs_max} runs are live, as many as the server takes on (concurrent_runs_max); try again"
            )));
        }
        // Where there are no tenants nobody else ever comes.
        let free = runs_max - self.live;
        if own >= free && *tenant != TenantId::local() {
            return Err(ApiError::unavailable(format!(
                "{} of the server's {runs_max} places for runs are taken, {own} of them by this tenant, and the last {free} \
                 are kept for other tenants; try again when a run has ended",
                self.live
            )));
        }
        Ok(())
    }
}

impl Admission {
    pub(crate) fn new(runs_max: u32, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { clock, metrics, runs_max, state: watch::Sender::new(State::default()) })
    }

    /// A place for a run of the tenant.
    ///
    /// # Errors
    /// 429 if the tenant has as many as it may; 503 if the machine has, keeps its last places for others, or stops.
    pub(crate) fn admit(self: &Arc<Self>, tenant: &Arc<Tenant>) -> Result<Place, ApiError> {
        let before = tenant.enter(self.clock.monotonic())?;
        let mut verdict = Ok(());
        self.state.send_if_modified(|state| {
            verdict = state.check(&tenant.id, before, self.runs_max);
            state.live += u32::from(verdict.is_ok());
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

    #[test]
    fn last_places_are_for_those_who_have_none() {
        let admission = Admission::new(256, Arc::new(TestClock::default()), Metrics::new(None));
        let tenant = |name: &str| Tenant::new(TenantId(name.into()), Quotas::unlimited(), Duration::ZERO);
        let fill = |tenant: &Arc<Tenant>| -> Vec<Place> {
            std::iter::from_fn(|| admission.admit(tenant).ok()).take(64).collect()
        };
        let mut held = Vec::new();
        // They come one after the other, and each wants 64.
        for expect in [64, 64, 64, 32, 16, 8, 4, 2, 1, 1, 0] {
            held.push(fill(&tenant("t")));
            assert_eq!(held.last().map(Vec::len), Some(expect), "{} places are taken", admission.live());
        }
        held.clear();
        let (sole, local) = (tenant("sole"), Tenant::new(TenantId::local(), Quotas::unlimited(), Duration::ZERO));
        let all = |tenant| -> Vec<Place> { std::iter::from_fn(|| admission.admit(tenant).ok()).collect() };
        assert_eq!(all(&sole).len(), 128);
        assert_eq!(all(&local).len(), 256);
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_given_back_and_then_refused() {
        let admission = Admission::new(4, Arc::new(TestClock::default()), Metrics::new(None));
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
