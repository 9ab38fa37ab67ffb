//! Turns at work that only a few may do at once, dealt so that no tenant waits for all of another's.
//!
//! # Invariants
//! - Of one tenant at most one has a place or waits for one; its others wait behind that one. So a tenant that comes
//!   new waits for one piece of work of each tenant before it, however much those still have to do.
//! - A tenant of whom nobody works or waits takes no memory.

use std::sync::Arc;

use dashmap::DashMap;
use sglhost_core::{Error, ErrorCode, TenantId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// The places for one kind of work.
#[derive(Debug)]
pub(crate) struct Turns {
    shared: Arc<Semaphore>,
    /// One permit each. An entry is also held by each that works or waits.
    tenants: DashMap<TenantId, Arc<Semaphore>>,
}

/// The right to do one piece of work, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    // In the order in which they are given back.
    _place: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _entry: Entry,
}

/// Forgets the tenant when the last of its own goes; dropped after what holds the semaphore.
#[derive(Debug)]
struct Entry {
    turns: Arc<Turns>,
    tenant: TenantId,
}

impl Turns {
    pub(crate) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self { shared: Arc::new(Semaphore::new(places)), tenants: DashMap::new() })
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// The run stops.
    pub(crate) async fn wait(self: &Arc<Self>, tenant: &TenantId, stop: &CancellationToken) -> Result<Turn, Error> {
        tokio::select! {
            biased;
            () = stop.cancelled() => Err(Error::new(ErrorCode::Cancelled, "the run is ending")),
            turn = self.turn(tenant) => turn,
        }
    }

    async fn turn(self: &Arc<Self>, tenant: &TenantId) -> Result<Turn, Error> {
        let closed = |_| Error::unavailable("the host is shutting down");
        let entry = Entry { turns: Arc::clone(self), tenant: tenant.clone() };
        let own = Arc::clone(&self.tenants.entry(tenant.clone()).or_insert_with(|| Arc::new(Semaphore::new(1))));
        let own = own.acquire_owned().await.map_err(closed)?;
        let place = Arc::clone(&self.shared).acquire_owned().await.map_err(closed)?;
        Ok(Turn { _place: place, _own: own, _entry: entry })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        // The map's own is left.
        self.turns.tenants.remove_if(&self.tenant, |_, own| Arc::strong_count(own) == 1);
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    type Waiter = Pin<Box<dyn Future<Output = Result<Turn, Error>>>>;

    fn waiter(turns: &Arc<Turns>, tenant: &str) -> Waiter {
        let (turns, tenant) = (Arc::clone(turns), TenantId(tenant.into()));
        let mut waiter: Waiter = Box::pin(async move { turns.wait(&tenant, &CancellationToken::new()).await });
        // Takes its place in the queue now.
        waiter = match poll(&mut waiter) {
            Poll::Ready(turn) => Box::pin(std::future::ready(turn)),
            Poll::Pending => waiter,
        };
        waiter
    }

    fn poll(waiter: &mut Waiter) -> Poll<Result<Turn, Error>> {
        waiter.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Those whose turn it is.
    fn ready(waiters: &mut Vec<Waiter>) -> Vec<Turn> {
        let mut turns = Vec::new();
        waiters.retain_mut(|waiter| match poll(waiter) {
            Poll::Ready(turn) => {
                turns.push(turn.expect("a turn"));
                false
            }
            Poll::Pending => true,
        });
        turns
    }

    #[test]
    fn a_flood_of_one_tenant_holds_another_up_for_nothing_while_there_is_a_place() {
        let turns = Turns::new(2);
        let mut flood = (0..100).map(|_| waiter(&turns, "flood")).collect::<Vec<_>>();
        let first = ready(&mut flood);
        assert_eq!(first.len(), 1, "one at a time, though there are two places");
        assert!(poll(&mut waiter(&turns, "other")).is_ready());
    }

    #[test]
    fn with_one_place_another_tenant_waits_for_one_of_each_before_it() {
        let turns = Turns::new(1);
        let mut floods = ["a", "b"].map(|tenant| (0..100).map(|_| waiter(&turns, tenant)).collect::<Vec<_>>());
        let first = ready(&mut floods[0]);
        assert_eq!(first.len(), 1);
        assert_eq!(ready(&mut floods[1]).len(), 0);
        let mut other = waiter(&turns, "other");

        drop(first);
        assert_eq!(ready(&mut floods[0]).len(), 0, "its second waits behind b's first and other's");
        let second = ready(&mut floods[1]);
        assert_eq!(second.len(), 1);
        assert!(poll(&mut other).is_pending());
        drop(second);
        assert_eq!(ready(&mut floods[1]).len(), 0);
        let third = poll(&mut other);
        assert!(third.is_ready());
        drop(third);
        assert_eq!(ready(&mut floods[0]).len(), 1);
    }

    #[test]
    fn who_gives_up_waiting_leaves_nothing_behind() {
        let turns = Turns::new(1);
        let mut flood = (0..10).map(|_| waiter(&turns, "flood")).collect::<Vec<_>>();
        let first = ready(&mut flood);
        let others = ["b", "c"].map(|tenant| [waiter(&turns, tenant), waiter(&turns, tenant)]);
        assert_eq!(turns.tenants.len(), 3);

        drop(others);
        assert_eq!(turns.tenants.len(), 1);
        drop(first);
        assert_eq!(turns.tenants.len(), 1, "nine wait");
        drop(flood);
        assert!(turns.tenants.is_empty());
        assert!(poll(&mut waiter(&turns, "flood")).is_ready());
        assert!(turns.tenants.is_empty());
        assert_eq!(turns.shared.available_permits(), 1);
    }

    #[test]
    fn waiting_ends_with_the_run_and_does_not_begin_after_it() {
        let turns = Turns::new(1);
        let (tenant, stop) = (TenantId::local(), CancellationToken::new());
        let working = poll(&mut waiter(&turns, "other"));
        let mut waiting = pin!(turns.wait(&tenant, &stop));
        let mut context = Context::from_waker(Waker::noop());
        assert!(waiting.as_mut().poll(&mut context).is_pending());

        stop.cancel();
        let Poll::Ready(Err(error)) = waiting.as_mut().poll(&mut context) else { panic!("it still waits") };
        assert_eq!(error.code, ErrorCode::Cancelled);
        drop(working);
        assert!(matches!(pin!(turns.wait(&tenant, &stop)).poll(&mut context), Poll::Ready(Err(_))));
        assert!(turns.tenants.is_empty());
    }
}
