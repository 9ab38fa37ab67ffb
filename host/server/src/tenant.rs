//! Who may use the server: tenants and their keys, as the store has them, and what each has left.
//!
//! # Invariants
//! - A tenant that stays through a refresh is the same one: its runs are counted on and its budgets go on.
//! - A tenant that is removed takes its live runs with it. (The local one is not removed: it is just nobody's any more.)
//! - A key is found by its SHA-256 alone, so that the time it takes tells nothing of those that are right.
//! - A server that has had tenants never goes back to asking no keys.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use sglhost_core::{Clock, Quotas, TenantId};
use sglhost_store::{Store, StoreError, TenantRecord};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use crate::error::ApiError;
use crate::key;
use crate::rate::Bucket;

/// How long a tenant is asked to wait for one of its own runs to end.
const RETRY_RUNS: Duration = Duration::from_secs(1);
/// How long it is asked to wait for one of its programs to be compiled.
const RETRY_COMPILES: Duration = Duration::from_secs(5);

/// A tenant, as long as it is one.
#[derive(Debug)]
pub struct Tenant {
    /// Its name: its namespace in the cache, its share of the engine, its rows in the store.
    pub id: TenantId,
    /// When it was made.
    created_ms: u64,
    /// Cancelled when it is removed; its runs' are children of it.
    pub(crate) gone: CancellationToken,
    /// Room for what it sends, made when it first sends something.
    pub(crate) bodies: OnceLock<Arc<Semaphore>>,
    /// Requests of its that are being answered.
    requests: AtomicU32,
    /// Its turn to have something long read (`heavy.rs`).
    pub(crate) reading: Arc<Semaphore>,
    /// Its place where programs are compiled.
    compiling: Semaphore,
    /// Those that have it or wait for it.
    compiles: AtomicUsize,
    account: Mutex<Account>,
}

/// A tenant's turn to compile, until it is dropped.
#[derive(Debug)]
pub(crate) struct CompileTurn<'a> {
    tenant: &'a Tenant,
    place: Option<SemaphorePermit<'a>>,
}

/// A request of a tenant's, until its answer has ended.
#[derive(Debug)]
pub(crate) struct OpenRequest(Arc<Tenant>);

/// What a tenant may use, and what it has left of it.
#[derive(Debug)]
struct Account {
    quotas: Quotas,
    tokens: Bucket,
    cpu_us: Bucket,
    live: u32,
}

impl Tenant {
    pub(crate) fn new(id: TenantId, quotas: Quotas, now: Duration) -> Arc<Self> {
        Self::made(id, 0, quotas, now)
    }

    fn made(id: TenantId, created_ms: u64, quotas: Quotas, now: Duration) -> Arc<Self> {
        let tokens = Bucket::new(quotas.tokens_per_minute, now);
        let cpu_us = Bucket::new(cpu_us_per_minute(&quotas), now);
        let account = Mutex::new(Account { quotas, tokens, cpu_us, live: 0 });
        Arc::new(Self {
            id,
            created_ms,
            gone: CancellationToken::new(),
            bodies: OnceLock::new(),
            requests: AtomicU32::new(0),
            reading: Arc::new(Semaphore::new(1)),
            compiling: Semaphore::new(1),
            compiles: AtomicUsize::new(0),
            account,
        })
    }

    /// What it may use.
    #[must_use]
    pub fn quotas(&self) -> Quotas {
        self.account().quotas.clone()
    }

    /// Runs it has now.
    #[must_use]
    pub fn live_count(&self) -> u32 {
        self.account().live
    }

    /// Counts a request until what this gives is dropped.
    ///
    /// # Errors
    /// 429, if as many as may be are being answered.
    pub(crate) fn open_request(self: &Arc<Self>) -> Result<OpenRequest, ApiError> {
        let max = self.account().quotas.concurrent_requests_max;
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        let open = OpenRequest(Arc::clone(self));
        if before >= max {
            return Err(ApiError::too_many(
                format!(
                    "{max} requests are being answered, as many as may be (concurrent_requests_max); wait for one to end: \
                     one that follows events or waits for a run ends with it, or when its connection is closed"
                ),
                RETRY_RUNS,
            ));
        }
        Ok(open)
    }

    /// Counts one more run, and gives how many there were.
    ///
    /// # Errors
    /// 429, if it has as many as it may or its minute is used up; nothing is counted then.
    pub(crate) fn enter(&self, now: Duration) -> Result<u32, ApiError> {
        let mut account = self.account();
        let max = account.quotas.concurrent_runs_max;
        if account.live >= max {
            return Err(ApiError::too_many(
                format!("{max} runs are live, as many as may be (concurrent_runs_max); wait for one to end"),
                RETRY_RUNS,
            ));
        }
        account.tokens.check(now).map_err(|wait| {
            let per_minute = account.quotas.tokens_per_minute;
            spent(wait, format!("the {per_minute} tokens of a minute are used up (tokens_per_minute)"))
        })?;
        account.cpu_us.check(now).map_err(|wait| {
            let per_minute = account.quotas.cpu_ms_per_minute;
            spent(wait, format!("the {per_minute} ms of CPU time of a minute are used up (cpu_ms_per_minute)"))
        })?;
        account.live += 1;
        Ok(account.live - 1)
    }

    /// A run that [`Self::enter`] counted is over.
    pub(crate) fn leave(&self) {
        self.account().live -= 1;
    }

    /// Waits for its other programs to be compiled. Who goes away gives the turn back.
    ///
    /// # Errors
    /// 429, if `waiting_max` wait already.
    pub(crate) async fn compile_turn(&self, waiting_max: usize) -> Result<CompileTurn<'_>, ApiError> {
        let before = self.compiles.fetch_add(1, Ordering::Relaxed);
        let mut turn = CompileTurn { tenant: self, place: None };
        if before > waiting_max {
            return Err(ApiError::too_many(
                format!("{waiting_max} programs wait to be compiled, as many as may (tenant_compiles_waiting_max)"),
                RETRY_COMPILES,
            ));
        }
        // It is never closed.
        turn.place = self.compiling.acquire().await.ok();
        Ok(turn)
    }

    pub(crate) fn charge_tokens(&self, tokens: u64, now: Duration) {
        self.account().tokens.charge(tokens, now);
    }

    pub(crate) fn charge_cpu(&self, cpu_us: u64, now: Duration) {
        self.account().cpu_us.charge(cpu_us, now);
    }

    fn set_quotas(&self, quotas: &Quotas, now: Duration) {
        let mut account = self.account();
        account.tokens.set_per_minute(quotas.tokens_per_minute, now);
        account.cpu_us.set_per_minute(cpu_us_per_minute(quotas), now);
        account.quotas = quotas.clone();
    }

    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for CompileTurn<'_> {
    fn drop(&mut self) {
        self.place.take();
        self.tenant.compiles.fetch_sub(1, Ordering::Relaxed);
    }
}

fn cpu_us_per_minute(quotas: &Quotas) -> u64 {
    quotas.cpu_ms_per_minute.saturating_mul(1000)
}

fn spent(wait: Duration, what: String) -> ApiError {
    let seconds = wait.as_secs_f64();
    ApiError::too_many(format!("{what}; there are some again in {seconds:.1} s"), wait)
}

/// All tenants.
pub struct Tenants {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    local: Arc<Tenant>,
    known: RwLock<Known>,
    /// Held by the one refresh there is at a time.
    refreshing: tokio::sync::Mutex<()>,
}

/// What the store said last.
#[derive(Default)]
struct Known {
    version: Option<u64>,
    keyed: bool,
    by_id: HashMap<TenantId, Arc<Tenant>>,
    by_key: HashMap<[u8; 32], Arc<Tenant>>,
}

impl Tenants {
    /// Reads them from the store.
    ///
    /// # Errors
    /// [`StoreError`], if the store cannot tell.
    pub async fn open(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, StoreError> {
        let local = Tenant::new(TenantId::local(), Quotas::unlimited(), clock.monotonic());
        let (known, refreshing) = (RwLock::default(), tokio::sync::Mutex::default());
        let tenants = Arc::new(Self { store, clock, local, known, refreshing });
        tenants.refresh().await?;
        Ok(tenants)
    }

    /// Takes over what changed in the store since: to be called every `tenants_period`.
    ///
    /// # Errors
    /// [`StoreError`], if the store cannot tell; all stays as it was then.
    pub async fn refresh(&self) -> Result<(), StoreError> {
        let _one = self.refreshing.lock().await;
        // Before the tenants themselves: what changes in between is a change again.
        let version = self.store.tenants_version().await?;
        if self.known().version == Some(version) {
            return Ok(());
        }
        let records = self.store.tenants().await?;
        self.take(version, &records);
        Ok(())
    }

    /// Whether requests need a key: there are tenants, or were since the server began.
    #[must_use]
    pub fn is_keyed(&self) -> bool {
        self.known().keyed
    }

    /// Whose key it is; nobody's if it is unknown or revoked.
    #[must_use]
    pub fn by_key(&self, key: &str) -> Option<Arc<Tenant>> {
        self.known().by_key.get(&key::digest(key)).cloned()
    }

    /// The one tenant of a server without tenants; none in keyed mode.
    #[must_use]
    pub fn local(&self) -> Option<Arc<Tenant>> {
        (!self.is_keyed()).then(|| Arc::clone(&self.local))
    }

    fn take(&self, version: u64, records: &[TenantRecord]) {
        let now = self.clock.monotonic();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut known.by_id);
        known.by_key.clear();
        for record in records {
            // One that was removed and made again meanwhile is somebody else.
            let same = before.get(&record.id).is_some_and(|tenant| tenant.created_ms == record.created_ms);
            let tenant = match same.then(|| before.remove(&record.id)).flatten() {
                Some(tenant) => {
                    tenant.set_quotas(&record.quotas, now);
                    tenant
                }
                None => Tenant::made(record.id.clone(), record.created_ms, record.quotas.clone(), now),
            };
            known.by_key.extend(record.keys.iter().map(|key| (key.sha256, Arc::clone(&tenant))));
            known.by_id.insert(record.id.clone(), tenant);
        }
        known.version = Some(version);
        if !records.is_empty() && !known.keyed {
            known.keyed = true;
            tracing::info!("there are tenants: requests need a key from now on");
        }
        let tenants = records.len();
        tracing::info!(tenants, removed = before.len(), "took over the tenants");
        drop(known);
        for tenant in before.into_values() {
            tenant.gone.cancel();
        }
    }

    fn known(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tenants").field("keyed", &self.is_keyed()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use sglhost_store::NewKey;

    use super::*;
    use crate::key::ApiKey;
    use crate::tests::{MemoryStore, TestClock};

    async fn house() -> (Arc<MemoryStore>, Arc<TestClock>, Arc<Tenants>) {
        let (store, clock) = (Arc::new(MemoryStore::default()), Arc::new(TestClock::default()));
        let tenants = Tenants::open(Arc::clone(&store) as _, Arc::clone(&clock) as _).await.unwrap();
        (store, clock, tenants)
    }

    fn id(name: &str) -> TenantId {
        TenantId(name.into())
    }

    /// A new tenant's key.
    async fn tenant(store: &MemoryStore, name: &str, quotas: &Quotas) -> (String, String) {
        store.put_tenant(&id(name), quotas, 0).await.unwrap();
        let (key, record) = ApiKey::generate("", 0).unwrap();
        let key_id = record.id.clone();
        store.add_key(NewKey { tenant: id(name), key: record }).await.unwrap();
        (key.text().to_owned(), key_id)
    }

    #[test]
    fn a_tenant_has_so_many_requests_open() {
        let quotas = Quotas { concurrent_requests_max: 2, ..Quotas::default() };
        let acme = Tenant::new(id("acme"), quotas, Duration::ZERO);
        let mut open = vec![acme.open_request().unwrap(), acme.open_request().unwrap()];
        for _ in 0..3 {
            let error = acme.open_request().unwrap_err();
            assert_eq!((error.status.as_u16(), error.retry_after), (429, Some(RETRY_RUNS)));
        }
        open.pop();
        open.push(acme.open_request().unwrap());
        assert!(acme.open_request().is_err());
    }

    #[tokio::test]
    async fn a_tenant_compiles_one_program_at_a_time() {
        let acme = Tenant::new(id("acme"), Quotas::default(), Duration::ZERO);
        let first = acme.compile_turn(1).await.unwrap();
        let mut second = Box::pin(acme.compile_turn(1));
        assert!(futures_util::poll!(&mut second).is_pending());
        assert_eq!(acme.compile_turn(1).await.unwrap_err().status.as_u16(), 429);
        drop(first);
        let second = second.await.unwrap();
        // Who goes away while it waits leaves its place to others.
        let mut third = Box::pin(acme.compile_turn(1));
        assert!(futures_util::poll!(&mut third).is_pending());
        drop((third, second));
        drop(acme.compile_turn(0).await.unwrap());
    }

    #[tokio::test]
    async fn the_first_tenant_ends_local_mode_for_good() {
        let (store, _, tenants) = house().await;
        assert_eq!(tenants.local().map(|tenant| tenant.quotas()), Some(Quotas::unlimited()));
        let local = tenants.local().unwrap();
        let (key, _) = tenant(&store, "acme", &Quotas::default()).await;
        assert!(tenants.by_key(&key).is_none());
        tenants.refresh().await.unwrap();
        assert!(tenants.is_keyed() && tenants.local().is_none() && !local.gone.is_cancelled());
        assert_eq!(tenants.by_key(&key).unwrap().id, id("acme"));
        store.remove_tenant(&id("acme")).await.unwrap();
        tenants.refresh().await.unwrap();
        assert!(tenants.is_keyed() && tenants.local().is_none() && tenants.by_key(&key).is_none());
    }

    #[tokio::test]
    async fn a_tenant_that_stays_keeps_its_count_and_what_it_spent() {
        let (store, clock, tenants) = house().await;
        let (key, _) = tenant(&store, "acme", &Quotas::default()).await;
        tenants.refresh().await.unwrap();
        let before = tenants.by_key(&key).unwrap();
        before.enter(Duration::ZERO).unwrap();
        before.charge_tokens(1_000_600, Duration::ZERO);
        clock.advance(Duration::from_millis(1));
        let quotas = Quotas { tokens_per_minute: 60, concurrent_runs_max: 1, ..Quotas::default() };
        store.put_tenant(&id("acme"), &quotas, 0).await.unwrap();
        tenants.refresh().await.unwrap();
        let after = tenants.by_key(&key).unwrap();
        assert!(Arc::ptr_eq(&before, &after));
        assert_eq!((after.quotas(), after.live_count()), (quotas, 1));
        let now = clock.monotonic();
        assert!(after.enter(now).unwrap_err().message.contains("concurrent_runs_max"));
        after.leave();
        let error = after.enter(now).unwrap_err();
        assert!(error.message.contains("tokens_per_minute"), "{error}");
        // 600 owed, less a millisecond of a million a minute, at one a second.
        assert_eq!(error.retry_after.map(|wait| wait.as_secs()), Some(583));
        assert_eq!(after.live_count(), 0);
    }

    #[tokio::test]
    async fn keys_that_are_revoked_and_tenants_that_are_removed_vanish() {
        let (store, _, tenants) = house().await;
        let (key, key_id) = tenant(&store, "acme", &Quotas::default()).await;
        let (other, _) = tenant(&store, "zoo", &Quotas::default()).await;
        tenants.refresh().await.unwrap();
        let (acme, zoo) = (tenants.by_key(&key).unwrap(), tenants.by_key(&other).unwrap());
        store.remove_key(&id("acme"), &key_id).await.unwrap();
        store.remove_tenant(&id("zoo")).await.unwrap();
        tenants.refresh().await.unwrap();
        assert!(tenants.by_key(&key).is_none() && tenants.by_key(&other).is_none());
        assert!(!acme.gone.is_cancelled() && zoo.gone.is_cancelled());
    }

    #[tokio::test]
    async fn a_store_that_fails_changes_nothing() {
        let (store, _, tenants) = house().await;
        let (key, _) = tenant(&store, "acme", &Quotas::default()).await;
        tenants.refresh().await.unwrap();
        store.remove_tenant(&id("acme")).await.unwrap();
        store.fail(1);
        tenants.refresh().await.unwrap_err();
        assert!(tenants.by_key(&key).is_some());
        tenants.refresh().await.unwrap();
        assert!(tenants.by_key(&key).is_none());
    }
}
