//! Work on what a stranger sent that may take long: done on threads of its own, so that those that serve are free.
//!
//! # Invariants
//! - Of one tenant one piece of work is done or next at a time: others wait for one of its pieces at most.
//! - Whoever waits holds what it is about, which counts among its tenant's bodies (`body.rs`).

use std::sync::Arc;

use sglhost_core::limits::{LIGHT_JSON_BYTES_MAX, LONG_JSON_READ_MAX};
use tokio::sync::Semaphore;
use tokio::task;

use crate::{ApiError, Tenant};

/// The turns at it, of all tenants.
#[derive(Debug)]
pub(crate) struct Heavy(Arc<Semaphore>);

impl Heavy {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LONG_JSON_READ_MAX)))
    }

    /// Does work on so many bytes: here if they are few, else when it is the tenant's turn.
    ///
    /// # Errors
    /// 500 if it panics.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        tenant: &Tenant,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        if bytes <= LIGHT_JSON_BYTES_MAX {
            return Ok(work());
        }
        // Neither is ever closed.
        let own = Arc::clone(&tenant.reading).acquire_owned().await;
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let done = task::spawn_blocking(move || {
            let done = work();
            drop((turn, own));
            done
        });
        done.await.map_err(|panic| {
            tracing::error!("work on a request panicked: {panic}");
            ApiError::internal()
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::sync::mpsc;
    use std::time::Duration;

    use sglhost_core::{Quotas, TenantId};

    use super::*;

    const LONG: usize = LIGHT_JSON_BYTES_MAX + 1;

    fn tenant(name: &str) -> Arc<Tenant> {
        Tenant::new(TenantId(name.into()), Quotas::default(), Duration::ZERO)
    }

    #[tokio::test]
    async fn one_that_asks_for_much_is_waited_for_once() {
        let (heavy, mallory, alice) = (Arc::new(Heavy::new()), tenant("mallory"), tenant("alice"));
        let (open, gate) = mpsc::channel::<()>();
        // All but the first wait, and none of them on a thread.
        let mut work = task::JoinSet::new();
        let gate = Arc::new(std::sync::Mutex::new(gate));
        for _ in 0..100 {
            let (heavy, mallory, gate) = (Arc::clone(&heavy), Arc::clone(&mallory), Arc::clone(&gate));
            work.spawn(async move { heavy.run(&mallory, LONG, move || gate.lock().unwrap().recv().unwrap()).await });
        }
        task::yield_now().await;
        // This one is beside them, and what is short is done at once.
        assert_eq!(heavy.run(&alice, LONG, || 7).await.unwrap(), 7);
        assert_eq!(heavy.run(&mallory, LONG - 1, || 8).await.unwrap(), 8);
        for _ in 0..100 {
            open.send(()).unwrap();
        }
        assert!(work.join_all().await.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_gives_the_turn_back() {
        let (heavy, acme) = (Heavy::new(), tenant("acme"));
        let bug = || -> u32 { panic!("as the test asked") };
        for _ in 0..5 {
            assert_eq!(heavy.run(&acme, LONG, bug).await.unwrap_err().status.as_u16(), 500);
        }
        assert_eq!(heavy.run(&acme, LONG, || 7).await.unwrap(), 7);
    }
}
