//! Which runs are in memory: those under way, and of those that ended the latest.
//!
//! # Invariants
//! - A run under way is always here; one that ended is as long as `kept`, unless all that ended take more than
//!   `bytes_max`: then those that ended first are forgotten first.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use sglhost_core::{RunId, TenantId};

use super::live::LiveRun;

/// All runs in memory.
pub(super) struct Shelf {
    kept: Duration,
    bytes_max: usize,
    runs: DashMap<RunId, Arc<LiveRun>>,
    /// Of those that have one.
    by_key: DashMap<(TenantId, String), RunId>,
    ended: Mutex<Ended>,
}

/// Runs that ended, the first to end first.
#[derive(Default)]
struct Ended {
    runs: VecDeque<(Duration, RunId, usize)>,
    bytes: usize,
}

impl Shelf {
    pub(super) fn new(kept: Duration, bytes_max: usize) -> Self {
        Self { kept, bytes_max, runs: DashMap::new(), by_key: DashMap::new(), ended: Mutex::default() }
    }

    pub(super) fn put(&self, run: Arc<LiveRun>) {
        self.runs.insert(run.id(), run);
    }

    /// From now on the run is found by its client's key as well.
    pub(super) fn index(&self, run: &LiveRun) {
        if let Some((key, _)) = &run.idempotency {
            self.by_key.insert((run.tenant.clone(), key.clone()), run.id());
        }
    }

    pub(super) fn remove(&self, id: RunId) {
        let Some((_, run)) = self.runs.remove(&id) else { return };
        if let Some((key, _)) = &run.idempotency {
            self.by_key.remove_if(&(run.tenant.clone(), key.clone()), |_, of| *of == id);
        }
    }

    /// The run has ended now.
    pub(super) fn ended(&self, run: &LiveRun, now: Duration) {
        let bytes = run.bytes();
        let mut ended = self.lock();
        ended.bytes += bytes;
        ended.runs.push_back((now, run.id(), bytes));
        self.forget(ended, now);
    }

    /// Forgets what is too old.
    pub(super) fn sweep(&self, now: Duration) {
        self.forget(self.lock(), now);
    }

    /// A run of the tenant.
    pub(super) fn get(&self, tenant: &TenantId, id: RunId, now: Duration) -> Option<Arc<LiveRun>> {
        self.sweep(now);
        self.runs.get(&id).filter(|run| run.tenant == *tenant).map(|run| Arc::clone(&run))
    }

    /// A run of the tenant by its client's key.
    pub(super) fn by_key(&self, tenant: &TenantId, key: &str, now: Duration) -> Option<Arc<LiveRun>> {
        let id = *self.by_key.get(&(tenant.clone(), key.to_owned()))?;
        self.get(tenant, id, now)
    }

    pub(super) fn contains(&self, id: RunId) -> bool {
        self.runs.contains_key(&id)
    }

    pub(super) fn all(&self) -> Vec<Arc<LiveRun>> {
        self.runs.iter().map(|run| Arc::clone(&run)).collect()
    }

    fn forget(&self, mut ended: MutexGuard<'_, Ended>, now: Duration) {
        let mut forgotten = Vec::new();
        while let Some(&(at, id, bytes)) = ended.runs.front() {
            if now.saturating_sub(at) < self.kept && ended.bytes <= self.bytes_max {
                break;
            }
            ended.bytes -= bytes;
            ended.runs.pop_front();
            forgotten.push(id);
        }
        drop(ended);
        for id in forgotten {
            self.remove(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
