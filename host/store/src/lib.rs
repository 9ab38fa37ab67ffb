//! What a server keeps: programs, tenants, keys, runs and usage, behind one trait.
//!
//! [`SqliteStore`] is the embedded one: rows in SQLite, components in a folder by their content's digest.
//!
//! # Invariants
//! - What a method has answered is on disk: a process that is killed at any moment afterwards loses nothing of it.
//! - The usage of a run and its end are one change: usage is the sum over the runs that have ended, always.
//! - A key itself is never stored, only its SHA-256.
//!
//! # Where things are
//! [`Store`] is the trait, `record.rs` what is kept, `sqlite/` the methods, `writer.rs` the thread that commits,
//! `readers.rs` the connections that only read, `blobs.rs` the components' files, `folder.rs` the folder and its locks,
//! `schema/` the tables.
//!
//! *Boundary*: knows no HTTP, no runtime and no engine; whoever calls says what time it is.

mod blobs;
mod error;
mod folder;
mod readers;
mod record;
mod schema;
mod sqlite;
#[cfg(test)]
mod tests;
mod writer;

use async_trait::async_trait;
use bytes::Bytes;
use sglhost_core::{ProgramId, RunId, TenantId, Usage};

pub use error::StoreError;
pub use record::{
    Deleted, Footprint, KeyRecord, NewKey, NewProgram, NewRun, NotAReference, Page, ProgramReference, ProgramVersion,
    PutProgram, RunEnd, RunRow, RunStatus, Started, TenantRecord, UsageDay, VersionSelector, is_name, shortened,
};

pub use sqlite::SqliteStore;

/// Keeps what must outlive the process. All times are milliseconds since the Unix epoch.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// A number that changes whenever tenants, quotas or keys do, by whichever process.
    async fn tenants_version(&self) -> Result<u64, StoreError>;

    /// All tenants with their keys, by id.
    async fn tenants(&self) -> Result<Vec<TenantRecord>, StoreError>;

    /// Makes a tenant, or changes the quotas of one that is there; its keys stay as they are.
    async fn put_tenant(&self, id: &TenantId, quotas: &sglhost_core::Quotas, now_ms: u64) -> Result<(), StoreError>;

    /// Removes a tenant with its keys, programs and runs; its usage stays. Of runs under way too: what they use is not
    /// taken down any more.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn remove_tenant(&self, id: &TenantId) -> Result<(), StoreError>;

    /// Adds a key to a tenant.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without that tenant; [`StoreError::Taken`] if its id or the key itself is there already.
    async fn add_key(&self, key: NewKey) -> Result<(), StoreError>;

    /// Removes a key.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the tenant has no such key.
    async fn remove_key(&self, tenant: &TenantId, id: &str) -> Result<(), StoreError>;

    /// Keeps a component as the next version of a program. If the latest version has the same content that one is
    /// answered, and nothing is added but the tag. Content that is on disk already, and whole, is not written again.
    ///
    /// # Errors
    /// [`StoreError::Quota`] if it would pass `programs_max` or `program_bytes_max` of the tenant.
    async fn put_program(&self, program: NewProgram, component: Bytes) -> Result<PutProgram, StoreError>;

    /// The version that is meant; none if there is no such.
    async fn program(
        &self,
        tenant: &TenantId,
        reference: &ProgramReference,
    ) -> Result<Option<ProgramVersion>, StoreError>;

    /// The latest version of each program, by name. No more are read than take
    /// [`LIST_BYTES_MAX`](sglhost_core::limits::LIST_BYTES_MAX) with what they say of themselves, and one.
    async fn programs(&self, tenant: &TenantId, page: &Page) -> Result<Vec<ProgramVersion>, StoreError>;

    /// All versions of a program, the newest first, as many as of [`Self::programs`]. [`Page::after`] is a version here.
    async fn versions(&self, tenant: &TenantId, name: &str, page: &Page) -> Result<Vec<ProgramVersion>, StoreError>;

    /// Points a tag of a program at a version, away from where it pointed.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] without that version; [`StoreError::Quota`] with too many tags.
    async fn tag(&self, tenant: &TenantId, name: &str, version: u32, tag: &str) -> Result<ProgramVersion, StoreError>;

    /// Deletes what the reference means: all versions of the program without a selector, else one version. A component
    /// that nobody refers to any more is deleted too. Runs keep their records.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn delete_program(&self, tenant: &TenantId, reference: &ProgramReference) -> Result<Deleted, StoreError>;

    /// A component's bytes, as they were put.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    async fn component(&self, program: &ProgramId) -> Result<Bytes, StoreError>;

    /// What a tenant keeps.
    async fn footprint(&self, tenant: &TenantId) -> Result<Footprint, StoreError>;

    /// Takes down that a run began. With an idempotency key that the tenant used before, nothing is taken down and that
    /// run is answered; a key is known as long as its run is.
    ///
    /// # Errors
    /// [`StoreError::Taken`] if a run has that id.
    async fn start_run(&self, run: NewRun) -> Result<Started, StoreError>;

    /// Takes down how a run ended, and adds what it used to its tenant's usage. A run that has ended already stays as it
    /// is, so this may be tried again. If the records of the tenant's runs now take more than
    /// [`RUN_RECORDS_BYTES_MAX`](sglhost_core::limits::RUN_RECORDS_BYTES_MAX), the oldest that ended are forgotten.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] if the run was removed with its tenant.
    async fn finish_run(&self, id: RunId, end: RunEnd) -> Result<(), StoreError>;

    /// A run of the tenant; none if there is no such.
    async fn run(&self, tenant: &TenantId, id: RunId) -> Result<Option<RunRow>, StoreError>;

    /// Runs of the tenant, the newest first, without all that may be long: see [`RunRow::record`]. [`Page::after`] is a
    /// run's id here; nothing comes after one that is not there, for those before it are forgotten too.
    async fn runs(&self, tenant: &TenantId, page: &Page) -> Result<Vec<RunRow>, StoreError>;

    /// Ends all runs that are under way according to the store as interrupted: at the start of a process, when none can
    /// be. Gives their number. As nobody knows when they stopped, no tokens and no time are added to usage.
    async fn interrupt_runs(&self, now_ms: u64) -> Result<u64, StoreError>;

    /// Forgets runs that ended before `before_ms`, and of each tenant all but the newest `kept_max`; those under way stay.
    /// Their usage stays. Gives their number.
    async fn forget_runs(&self, before_ms: u64, kept_max: u32) -> Result<u64, StoreError>;

    /// A tenant's usage by day (UTC) from `since_ms` on, the oldest first.
    async fn usage(&self, tenant: &TenantId, since_ms: u64) -> Result<Vec<UsageDay>, StoreError>;

    /// Of all tenants from the beginning: tokens, CPU time in microseconds and runs that ended.
    async fn usage_totals(&self) -> Result<Vec<(TenantId, Usage, u64, u64)>, StoreError>;
}
