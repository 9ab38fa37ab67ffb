//! [`SqliteStore`]: who opens what, and which thread does which method.
//!
//! What changes something goes to the [writer](crate::writer), what only looks to the [readers](crate::readers). The
//! statements are in the modules below, by what they are about; each works on the connection that it is given, within
//! a transaction that is not its own.

mod programs;
mod runs;
mod tenants;
mod usage;

use std::{fs::File, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::Connection;
use sglhost_core::{
    ProgramId, Quotas, RunId, TenantId, Usage,
    limits::{RUN_RECORDS_BYTES_MAX, STORE_ROWS_PER_DELETION_MAX},
};

use crate::{
    Deleted, Footprint, NewKey, NewProgram, NewRun, Page, ProgramReference, ProgramVersion, PutProgram, RunEnd, RunRow,
    Started, Store, StoreError, TenantRecord, UsageDay,
    blobs::Blobs,
    folder::DataFolder,
    readers::Readers,
    schema::{self, Role},
    writer::Writer,
};

/// The embedded store: rows in SQLite, components in files, all in one folder.
pub struct SqliteStore {
    // Dropped first: it waits for what is being written.
    writer: Writer,
    readers: Readers,
    blobs: Arc<Blobs>,
    role: Role,
    folder: DataFolder,
    record_bytes_max: u64,
    /// Held by a server, so that no other one opens the folder.
    _lock: Option<File>,
}

impl SqliteStore {
    /// Opens a folder for the one server that works on it, and makes it if it is not there. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Folder`] if another server has it open, if others may write to it, or if its database is of a
    /// newer version.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        Self::open_as(folder, Role::Server)
    }

    /// Opens a folder beside a server that may be at work on it, to change tenants and keys and to look at what is
    /// there; programs are put through the server alone. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Folder`] if others may write to it, or if its database is of another version.
    pub fn open_beside(folder: &Path) -> Result<Self, StoreError> {
        Self::open_as(folder, Role::Beside)
    }

    fn open_as(folder: &Path, role: Role) -> Result<Self, StoreError> {
        let folder = DataFolder::open(folder)?;
        let lock = if role == Role::Server { Some(folder.lock_for_server()?) } else { None };
        let opening = folder.lock_for_opening()?;
        let database = folder.database()?;
        let connection = schema::open_to_write(&database, role).map_err(|error| folder.refuse(error))?;
        let blobs = Arc::new(Blobs::open(folder.blobs()?)?);
        drop(opening);
        let server = role == Role::Server;
        if server {
            blobs.sweep(&connection)?;
        }
        let writer = Writer::start(connection, server.then(|| Arc::clone(&blobs)))?;
        let readers = Readers::new(database);
        let record_bytes_max = RUN_RECORDS_BYTES_MAX;
        Ok(Self { writer, readers, blobs, role, folder, record_bytes_max, _lock: lock })
    }

    /// With another [`RUN_RECORDS_BYTES_MAX`].
    #[cfg(test)]
    pub(crate) fn with_record_bytes_max(self, record_bytes_max: u64) -> Self {
        Self { record_bytes_max, ..self }
    }

    /// Deletes rows in several changes, so that others get their turn between. Gives their number.
    async fn delete_in_parts(
        &self,
        delete: impl Fn(&Connection, u32) -> Result<u64, StoreError> + Clone + Send + 'static,
    ) -> Result<u64, StoreError> {
        let mut deleted = 0;
        loop {
            let delete = delete.clone();
            let part = self.writer.change(move |rows| delete(rows, STORE_ROWS_PER_DELETION_MAX)).await?;
            deleted += part;
            if part == 0 {
                return Ok(deleted);
            }
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn tenants_version(&self) -> Result<u64, StoreError> {
        self.readers.read(tenants::version).await
    }

    async fn tenants(&self) -> Result<Vec<TenantRecord>, StoreError> {
        self.readers.read(tenants::all).await
    }

    async fn put_tenant(&self, id: &TenantId, quotas: &Quotas, now_ms: u64) -> Result<(), StoreError> {
        let (id, quotas) = (id.clone(), quotas.clone());
        self.writer.change(move |rows| tenants::put(rows, &id, &quotas, now_ms)).await
    }

    async fn remove_tenant(&self, id: &TenantId) -> Result<(), StoreError> {
        let tenant = id.clone();
        self.readers.read(move |rows| tenants::check(rows, &tenant)).await?;
        // Its runs may be many. It itself goes last, so that nobody who takes its name finds any of it.
        let tenant = id.clone();
        self.delete_in_parts(move |rows, most| runs::remove(rows, &tenant, most)).await?;
        let tenant = id.clone();
        let rest = move |rows: &Connection| {
            runs::remove(rows, &tenant, u32::MAX)?;
            tenants::remove(rows, &tenant)
        };
        self.writer.change(rest).await
    }

    async fn add_key(&self, key: NewKey) -> Result<(), StoreError> {
        self.writer.change(move |rows| tenants::add_key(rows, &key)).await
    }

    async fn remove_key(&self, tenant: &TenantId, id: &str) -> Result<(), StoreError> {
        let (tenant, id) = (tenant.clone(), id.to_owned());
        self.writer.change(move |rows| tenants::remove_key(rows, &tenant, &id)).await
    }

    async fn put_program(&self, program: NewProgram, component: Bytes) -> Result<PutProgram, StoreError> {
        if self.role == Role::Beside {
            return Err(self.folder.refuse("programs are put by its server alone; upload it there"));
        }
        let size_bytes = component.len() as u64;
        // Whoever may not keep it anyway does not make the disk write it.
        let asked = program.clone();
        self.readers.read(move |rows| programs::check(rows, &asked, size_bytes)).await?;
        let pin = self.blobs.put(&program.digest, component).await?;
        let put = move |rows: &Connection| Ok((programs::put(rows, &program, size_bytes)?, pin));
        self.writer.change(put).await.map(|(put, _pin)| put)
    }

    async fn program(
        &self,
        tenant: &TenantId,
        reference: &ProgramReference,
    ) -> Result<Option<ProgramVersion>, StoreError> {
        let (tenant, reference) = (tenant.clone(), reference.clone());
        self.readers.read(move |rows| programs::find(rows, &tenant, &reference)).await
    }

    async fn programs(&self, tenant: &TenantId, page: &Page) -> Result<Vec<ProgramVersion>, StoreError> {
        let (tenant, page) = (tenant.clone(), page.clone());
        self.readers.read(move |rows| programs::list(rows, &tenant, &page)).await
    }

    async fn versions(&self, tenant: &TenantId, name: &str, page: &Page) -> Result<Vec<ProgramVersion>, StoreError> {
        let (tenant, name, page) = (tenant.clone(), name.to_owned(), page.clone());
        self.readers.read(move |rows| programs::versions(rows, &tenant, &name, &page)).await
    }

    async fn tag(&self, tenant: &TenantId, name: &str, version: u32, tag: &str) -> Result<ProgramVersion, StoreError> {
        let (tenant, name, tag) = (tenant.clone(), name.to_owned(), tag.to_owned());
        self.writer.change(move |rows| programs::tag(rows, &tenant, &name, version, &tag)).await
    }

    async fn delete_program(&self, tenant: &TenantId, reference: &ProgramReference) -> Result<Deleted, StoreError> {
        let (tenant, reference) = (tenant.clone(), reference.clone());
        self.writer.change(move |rows| programs::delete(rows, &tenant, &reference)).await
    }

    async fn component(&self, program: &ProgramId) -> Result<Bytes, StoreError> {
        self.blobs.get(program).await
    }

    async fn footprint(&self, tenant: &TenantId) -> Result<Footprint, StoreError> {
        let tenant = tenant.clone();
        self.readers.read(move |rows| programs::footprint(rows, &tenant)).await
    }

    async fn start_run(&self, run: NewRun) -> Result<Started, StoreError> {
        self.writer.change(move |rows| runs::start(rows, &run)).await
    }

    async fn finish_run(&self, id: RunId, end: RunEnd) -> Result<(), StoreError> {
        let record_bytes_max = self.record_bytes_max;
        let ended = runs::Ended::new(&end)?;
        self.writer.change(move |rows| runs::finish(rows, id, &ended, record_bytes_max)).await
    }

    async fn run(&self, tenant: &TenantId, id: RunId) -> Result<Option<RunRow>, StoreError> {
        let tenant = tenant.clone();
        self.readers.read(move |rows| runs::find(rows, &tenant, id)).await
    }

    async fn runs(&self, tenant: &TenantId, page: &Page) -> Result<Vec<RunRow>, StoreError> {
        let (tenant, page) = (tenant.clone(), page.clone());
        self.readers.read(move |rows| runs::list(rows, &tenant, &page)).await
    }

    async fn interrupt_runs(&self, now_ms: u64) -> Result<u64, StoreError> {
        self.writer.change(move |rows| runs::interrupt(rows, now_ms)).await
    }

    async fn forget_runs(&self, before_ms: u64, kept_max: u32) -> Result<u64, StoreError> {
        self.delete_in_parts(move |rows, most| runs::forget(rows, before_ms, kept_max, most)).await
    }

    async fn usage(&self, tenant: &TenantId, since_ms: u64) -> Result<Vec<UsageDay>, StoreError> {
        let tenant = tenant.clone();
        self.readers.read(move |rows| usage::days(rows, &tenant, since_ms)).await
    }

    async fn usage_totals(&self) -> Result<Vec<(TenantId, Usage, u64, u64)>, StoreError> {
        self.readers.read(usage::totals).await
    }
}

/// As the database keeps it, whose integers are signed: what is larger is never counted to.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// What JSON was kept.
fn parsed<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json)
        .map_err(|error| StoreError::Failed(format!("a row does not hold the JSON it should: {error}")))
}

/// As JSON, to keep.
fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Failed(format!("it cannot be written as JSON: {error}")))
}
