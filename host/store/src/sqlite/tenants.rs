//! Tenants and keys. Each change is counted, which is how another process learns of it.

use rusqlite::{Connection, params};
use sglhost_core::{Quotas, TenantId};

use super::{integer, json, parsed};
use crate::{KeyRecord, NewKey, StoreError, TenantRecord};

pub(super) fn version(rows: &Connection) -> Result<u64, StoreError> {
    Ok(rows.prepare_cached("SELECT version FROM tenants_version")?.query_row([], |row| row.get(0))?)
}

pub(super) fn all(rows: &Connection) -> Result<Vec<TenantRecord>, StoreError> {
    let mut keys = rows.prepare_cached(
        "SELECT id, label, sha256, created_ms FROM keys WHERE tenant = ?1 ORDER BY created_ms, number",
    )?;
    let mut tenants = rows.prepare_cached("SELECT id, quotas, created_ms FROM tenants ORDER BY id")?;
    let mut found = tenants.query([])?;
    let mut all = Vec::new();
    while let Some(row) = found.next()? {
        let id: String = row.get(0)?;
        let key = |row: &rusqlite::Row<'_>| {
            Ok(KeyRecord { id: row.get(0)?, label: row.get(1)?, sha256: row.get(2)?, created_ms: row.get(3)? })
        };
        all.push(TenantRecord {
            keys: keys.query_map([&id], key)?.collect::<Result<_, _>>()?,
            id: TenantId(id.into()),
            quotas: parsed(&row.get::<_, String>(1)?)?,
            created_ms: row.get(2)?,
        });
    }
    Ok(all)
}

pub(super) fn put(rows: &Connection, id: &TenantId, quotas: &Quotas, now_ms: u64) -> Result<(), StoreError> {
    rows.prepare_cached(
        "INSERT INTO tenants (id, quotas, created_ms) VALUES (?1, ?2, ?3)
         ON CONFLICT (id) DO UPDATE SET quotas = excluded.quotas",
    )?
    .execute(params![&*id.0, json(quotas)?, integer(now_ms)])?;
    count(rows)
}

/// Whether it is there.
pub(super) fn check(rows: &Connection, id: &TenantId) -> Result<(), StoreError> {
    let there = rows.prepare_cached("SELECT 1 FROM tenants WHERE id = ?1")?.exists([&*id.0])?;
    if there { Ok(()) } else { Err(unknown(id)) }
}

/// All but its runs, which must be gone, and its usage.
pub(super) fn remove(rows: &Connection, id: &TenantId) -> Result<(), StoreError> {
    if rows.prepare_cached("DELETE FROM tenants WHERE id = ?1")?.execute([&*id.0])? == 0 {
        return Err(unknown(id));
    }
    // Versions and tags go with their program.
    rows.prepare_cached("DELETE FROM programs WHERE tenant = ?1")?.execute([&*id.0])?;
    rows.prepare_cached("DELETE FROM footprints WHERE tenant = ?1")?.execute([&*id.0])?;
    rows.prepare_cached("DELETE FROM kept_records WHERE tenant = ?1")?.execute([&*id.0])?;
    count(rows)
}

pub(super) fn add_key(rows: &Connection, NewKey { tenant, key }: &NewKey) -> Result<(), StoreError> {
    check(rows, tenant)?;
    let mut same = rows.prepare_cached("SELECT 1 FROM keys WHERE (tenant = ?1 AND id = ?2) OR sha256 = ?3")?;
    if same.exists(params![&*tenant.0, key.id, key.sha256])? {
        return Err(StoreError::Taken { what: format!("key {}", key.id) });
    }
    rows.prepare_cached("INSERT INTO keys (tenant, id, label, sha256, created_ms) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![&*tenant.0, key.id, key.label, key.sha256, integer(key.created_ms)])?;
    count(rows)
}

pub(super) fn remove_key(rows: &Connection, tenant: &TenantId, id: &str) -> Result<(), StoreError> {
    let mut delete = rows.prepare_cached("DELETE FROM keys WHERE tenant = ?1 AND id = ?2")?;
    if delete.execute([&*tenant.0, id])? == 0 {
        return Err(StoreError::not_found(format!("key {id} of a tenant {tenant}")));
    }
    count(rows)
}

fn count(rows: &Connection) -> Result<(), StoreError> {
    rows.prepare_cached("UPDATE tenants_version SET version = version + 1")?.execute([])?;
    Ok(())
}

fn unknown(id: &TenantId) -> StoreError {
    StoreError::not_found(format!("tenant {id}"))
}
