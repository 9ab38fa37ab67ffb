//! Which runs are in memory: those under way, and of those that ended the latest.
//!
//! # Invariants
//! - A run under way is always here; one that ended is as long as `kept`, unless all that ended take more than
//!   `bytes_max`: then those of the tenant that takes most are forgotten, the first to end first.

use std::collections::{HashMap, VecDeque};
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

/// Runs that ended, by tenant.
#[derive(Default)]
struct Ended {
    tenants: HashMap<TenantId, EndedOfTenant>,
    bytes: usize,
}

/// Of one tenant, the first to end first.
#[derive(Default)]
struct EndedOfTenant {
    runs: VecDeque<(Duration, RunId, usize)>,
    bytes: usize,
}

impl EndedOfTenant {
    /// Takes the first one's bytes off those of all, too.
    fn forget_first(&mut self, all: &mut usize) -> Option<RunId> {
        let (_, id, bytes) = self.runs.pop_front()?;
        self.bytes -= bytes;
        *all -= bytes;
        Some(id)
    }
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
        let tenant = ended.tenants.entry(run.tenant.clone()).or_default();
        tenant.bytes += bytes;
        tenant.runs.push_back((now, run.id(), bytes));
        self.forget(ended, now);
    }

    /// Forgets what is too old.
    pub(super) fn sweep(&self, now: Duration) {
        self.forget(self.lock(), now);
    }

    /// A run of the tenant.
    pub(super) fn get(&self, tenant: &TenantId, id: RunId, now: Duration) -> Option<Arc<LiveRun>> {
        self.sweep(now);
        self.runs
            .get(&id)
            .filter(|run| run.tenant == *tenant && !run.tenant_gone.is_cancelled())
            .map(|run| Arc::clone(&run))
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
        let Ended { tenants, bytes } = &mut *ended;
        for tenant in tenants.values_mut() {
            while tenant.runs.front().is_some_and(|&(at, ..)| now.saturating_sub(at) >= self.kept) {
                forgotten.extend(tenant.forget_first(bytes));
            }
        }
        while *bytes > self.bytes_max {
            let Some(tenant) = tenants.values_mut().max_by_key(|tenant| tenant.bytes) else { break };
            forgotten.extend(tenant.forget_first(bytes));
        }
        tenants.retain(|_, tenant| !tenant.runs.is_empty());
        drop(ended);
        for id in forgotten {
            self.remove(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
