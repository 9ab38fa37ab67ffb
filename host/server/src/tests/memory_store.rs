//! A store in memory that fails when it is told to. It knows tenants, runs and usage, and no programs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use sglhost_core::{ProgramId, Quotas, RunId, TenantId, Usage};
use sglhost_store::{
    Deleted, Footprint, NewKey, NewProgram, NewRun, Page, ProgramReference, ProgramVersion, PutProgram, RunEnd, RunRow,
    RunStatus, Started, Store, StoreError, TenantRecord, UsageDay,
};

#[derive(Default)]
pub(crate) struct MemoryStore(Mutex<Rows>);

#[derive(Default)]
struct Rows {
    version: u64,
    tenants: BTreeMap<TenantId, TenantRecord>,
    runs: BTreeMap<RunId, (TenantId, RunRow)>,
    usage: BTreeMap<TenantId, UsageDay>,
    failures: u32,
    bugs: u32,
    ends: u32,
}

impl MemoryStore {
    /// The next so many calls fail.
    pub(crate) fn fail(&self, times: u32) {
        self.lock().failures = times;
    }

    /// The next so many calls panic.
    pub(crate) fn panic(&self, times: u32) {
        self.lock().bugs = times;
    }

    /// Times that a run's end was taken down.
    pub(crate) fn ends(&self) -> u32 {
        self.lock().ends
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rows(&self) -> Result<MutexGuard<'_, Rows>, StoreError> {
        let mut rows = self.lock();
        if rows.bugs > 0 {
            rows.bugs -= 1;
            panic!("as the test asked");
        }
        if rows.failures > 0 {
            rows.failures -= 1;
            return Err(StoreError::Failed("as the test asked".to_owned()));
        }
        Ok(rows)
    }
}

fn unknown<T>(what: &str) -> Result<T, StoreError> {
    Err(StoreError::NotFound { what: what.to_owned() })
}

#[async_trait]
impl Store for MemoryStore {
    async fn tenants_version(&self) -> Result<u64, StoreError> {
        Ok(self.rows()?.version)
    }

    async fn tenants(&self) -> Result<Vec<TenantRecord>, StoreError> {
        Ok(self.rows()?.tenants.values().cloned().collect())
    }

    async fn put_tenant(&self, id: &TenantId, quotas: &Quotas, now_ms: u64) -> Result<(), StoreError> {
        let mut rows = self.rows()?;
        rows.version += 1;
        let new = TenantRecord { id: id.clone(), quotas: quotas.clone(), created_ms: now_ms, keys: Vec::new() };
        rows.tenants.entry(id.clone()).or_insert(new).quotas = quotas.clone();
        Ok(())
    }

    async fn remove_tenant(&self, id: &TenantId) -> Result<(), StoreError> {
        let mut rows = self.rows()?;
        rows.version += 1;
        rows.runs.retain(|_, (tenant, _)| tenant != id);
        rows.tenants.remove(id).map_or_else(|| unknown("tenant"), |_| Ok(()))
    }

    async fn add_key(&self, key: NewKey) -> Result<(), StoreError> {
        let mut rows = self.rows()?;
        rows.version += 1;
        let tenant = rows.tenants.get_mut(&key.tenant);
        tenant.map_or_else(
            || unknown("tenant"),
            |tenant| {
                tenant.keys.push(key.key);
                Ok(())
            },
        )
    }

    async fn remove_key(&self, tenant: &TenantId, id: &str) -> Result<(), StoreError> {
        let mut rows = self.rows()?;
        rows.version += 1;
        let tenant = rows.tenants.get_mut(tenant);
        tenant.map_or_else(
            || unknown("tenant"),
            |tenant| {
                tenant.keys.retain(|key| key.id != id);
                Ok(())
            },
        )
    }

    async fn put_program(&self, _program: NewProgram, _component: Bytes) -> Result<PutProgram, StoreError> {
        unknown("program")
    }

    async fn program(&self, _: &TenantId, _: &ProgramReference) -> Result<Option<ProgramVersion>, StoreError> {
        Ok(None)
    }

    async fn programs(&self, _tenant: &TenantId, _page: &Page) -> Result<Vec<ProgramVersion>, StoreError> {
        Ok(Vec::new())
    }

    async fn versions(&self, _tenant: &TenantId, _name: &str, _page: &Page) -> Result<Vec<ProgramVersion>, StoreError> {
        Ok(Vec::new())
    }

    async fn tag(&self, _: &TenantId, _: &str, _: u32, _: &str) -> Result<ProgramVersion, StoreError> {
        unknown("program")
    }

    async fn delete_program(&self, _tenant: &TenantId, _reference: &ProgramReference) -> Result<Deleted, StoreError> {
        unknown("program")
    }

    async fn component(&self, _program: &ProgramId) -> Result<Bytes, StoreError> {
        unknown("program")
    }

    async fn footprint(&self, _tenant: &TenantId) -> Result<Footprint, StoreError> {
        Ok(Footprint::default())
    }

    async fn start_run(&self, run: NewRun) -> Result<Started, StoreError> {
        let row = RunRow {
            id: run.id,
            program: run.program,
            version: run.version,
            digest: run.digest,
            status: RunStatus::Running,
            started_ms: run.started_ms,
            finished_ms: None,
            record: None,
            error: None,
            usage: Usage::default(),
            cpu_time_us: 0,
        };
        self.rows()?.runs.insert(run.id, (run.tenant, row));
        Ok(Started::New)
    }

    async fn finish_run(&self, id: RunId, end: RunEnd) -> Result<(), StoreError> {
        let mut rows = self.rows()?;
        let Some((tenant, row)) = rows.runs.get_mut(&id) else { return unknown("run") };
        if row.status != RunStatus::Running {
            return Ok(());
        }
        (row.status, row.finished_ms, row.record) = (end.status, Some(end.finished_ms), Some(end.record));
        (row.error, row.usage, row.cpu_time_us) = (end.error, end.usage, end.cpu_time_us);
        let (tenant, wall_time_ms) = (tenant.clone(), end.finished_ms - row.started_ms);
        rows.ends += 1;
        let none = UsageDay { day_ms: 0, runs: 0, usage: Usage::default(), cpu_time_us: 0, wall_time_ms: 0 };
        let day = rows.usage.entry(tenant).or_insert(none);
        day.runs += 1;
        day.usage.add(end.usage);
        day.cpu_time_us += end.cpu_time_us;
        day.wall_time_ms += wall_time_ms;
        Ok(())
    }

    async fn run(&self, tenant: &TenantId, id: RunId) -> Result<Option<RunRow>, StoreError> {
        let rows = self.rows()?;
        Ok(rows.runs.get(&id).filter(|(of, _)| of == tenant).map(|(_, row)| row.clone()))
    }

    async fn runs(&self, _tenant: &TenantId, _page: &Page) -> Result<Vec<RunRow>, StoreError> {
        Ok(Vec::new())
    }

    async fn interrupt_runs(&self, _now_ms: u64) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn forget_runs(&self, _before_ms: u64, _kept_max: u32) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn usage(&self, tenant: &TenantId, _since_ms: u64) -> Result<Vec<UsageDay>, StoreError> {
        Ok(self.rows()?.usage.get(tenant).cloned().into_iter().collect())
    }

    async fn usage_totals(&self) -> Result<Vec<(TenantId, Usage, u64, u64)>, StoreError> {
        let rows = self.rows()?;
        Ok(rows.usage.iter().map(|(id, day)| (id.clone(), day.usage, day.cpu_time_us, day.runs)).collect())
    }
}
