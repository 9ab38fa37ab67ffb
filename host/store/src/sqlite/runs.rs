//! Runs: how they began and ended.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Deserialize;
use serde_json::json;
use sglhost_core::{Error, ProgramId, RunId, RunRecord, TenantId, Usage};

use super::{
    integer, parsed,
    usage::{self, Spent},
};
use crate::{NewRun, Page, RunEnd, RunRow, RunStatus, Started, StoreError, shortened};

/// Runs that one change forgets for their bytes at most: a long record may outweigh thousands of short ones. The next
/// run's end forgets more.
const FORGOTTEN_PER_END_MAX: u32 = 1000;

/// What a [`RunRow`] is read from, but for its record.
const COLUMNS: &str = "id, program, version, digest, status, started_ms, finished_ms, cpu_time_us, summary";

/// What is kept of an ended run for lists.
#[derive(Deserialize)]
struct Summary {
    usage: Usage,
    #[serde(default)]
    error: Option<Error>,
}

/// A run's end as it is kept.
pub(super) struct Ended {
    status: RunStatus,
    record: Arc<str>,
    summary: String,
    spent: Spent,
}

impl Ended {
    pub(super) fn new(end: &RunEnd) -> Result<Self, StoreError> {
        if end.status == RunStatus::Running {
            return Err(StoreError::Failed("a run cannot end as running".to_owned()));
        }
        let spent = Spent {
            finished_ms: end.finished_ms,
            usage: end.usage,
            cpu_time_us: end.cpu_time_us,
            wall_time_ms: 0, // Known to the row alone.
        };
        Ok(Self { status: end.status, record: Arc::clone(&end.record), summary: summary(end), spent })
    }
}

pub(super) fn start(rows: &Connection, run: &NewRun) -> Result<Started, StoreError> {
    if let Some((key, _)) = &run.idempotency
        && let Some(before) = by_key(rows, &run.tenant, key)?
    {
        return Ok(before);
    }
    if rows.prepare_cached("SELECT 1 FROM runs WHERE id = ?1")?.exists([bits(run.id)])? {
        return Err(StoreError::Taken { what: format!("run {}", run.id) });
    }
    let (key, request_sha256) = run.idempotency.as_ref().map(|(key, sha256)| (key, sha256)).unzip();
    rows.prepare_cached(
        "INSERT INTO runs (id, tenant, program, version, digest, status, started_ms, idempotency_key, request_sha256)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        bits(run.id),
        &*run.tenant.0,
        run.program,
        run.version,
        &*run.digest.0,
        RunStatus::Running.as_str(),
        integer(run.started_ms),
        key,
        request_sha256,
    ])?;
    Ok(Started::New)
}

fn by_key(rows: &Connection, tenant: &TenantId, key: &str) -> Result<Option<Started>, StoreError> {
    let mut statement =
        rows.prepare_cached("SELECT id, request_sha256 FROM runs WHERE tenant = ?1 AND idempotency_key = ?2")?;
    let both = |row: &Row<'_>| Ok((RunId(row.get::<_, i64>(0)?.cast_unsigned()), row.get(1)?));
    let Some((id, request_sha256)) = statement.query_row([&*tenant.0, key], both).optional()? else {
        return Ok(None);
    };
    let run = find(rows, tenant, id)?.map(Box::new);
    Ok(run.map(|run| Started::Before { run, request_sha256 }))
}

pub(super) fn finish(rows: &Connection, id: RunId, end: &Ended, record_bytes_max: u64) -> Result<(), StoreError> {
    let run = rows
        .prepare_cached("SELECT tenant, started_ms, finished_ms IS NOT NULL FROM runs WHERE id = ?1")?
        .query_row([bits(id)], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?, row.get(2)?)));
    let (tenant, started_ms, ended) = run.optional()?.ok_or_else(|| StoreError::not_found(format!("run {id}")))?;
    if ended {
        return Ok(());
    }
    rows.prepare_cached(
        "UPDATE runs SET status = ?2, finished_ms = ?3, cpu_time_us = ?4, record_bytes = ?5, summary = ?6, record = ?7
         WHERE id = ?1",
    )?
    .execute(params![
        bits(id),
        end.status.as_str(),
        integer(end.spent.finished_ms),
        integer(end.spent.cpu_time_us),
        integer(end.record.len() as u64),
        end.summary,
        end.record,
    ])?;
    let wall_time_ms = end.spent.finished_ms.saturating_sub(started_ms);
    usage::add(rows, &tenant, &Spent { wall_time_ms, ..end.spent })?;
    forget_long(rows, &tenant, id, record_bytes_max)
}

/// Forgets a tenant's oldest ended runs until the records of the others take no more than they may. `last` stays.
fn forget_long(rows: &Connection, tenant: &str, last: RunId, record_bytes_max: u64) -> Result<(), StoreError> {
    let mut kept = rows.prepare_cached("SELECT bytes FROM kept_records WHERE tenant = ?1")?;
    let mut forget = rows.prepare_cached(
        "DELETE FROM runs WHERE number = (
             SELECT number FROM runs WHERE tenant = ?1 AND id <> ?2 AND finished_ms IS NOT NULL
             ORDER BY number LIMIT 1
         )",
    )?;
    for _ in 0..FORGOTTEN_PER_END_MAX {
        let bytes: u64 = kept.query_row([tenant], |row| row.get(0))?;
        if bytes <= record_bytes_max || forget.execute(params![tenant, bits(last)])? == 0 {
            break;
        }
    }
    Ok(())
}

pub(super) fn find(rows: &Connection, tenant: &TenantId, id: RunId) -> Result<Option<RunRow>, StoreError> {
    let sql = format!("SELECT {COLUMNS}, record FROM runs WHERE tenant = ?1 AND id = ?2");
    let mut statement = rows.prepare_cached(&sql)?;
    let mut found = statement.query(params![&*tenant.0, bits(id)])?;
    found.next()?.map(read).transpose()
}

pub(super) fn list(rows: &Connection, tenant: &TenantId, page: &Page) -> Result<Vec<RunRow>, StoreError> {
    let before: i64 = match &page.after {
        None => i64::MAX,
        Some(after) => {
            let Ok(after) = after.parse::<RunId>() else { return Ok(Vec::new()) };
            let number = rows
                .prepare_cached("SELECT number FROM runs WHERE tenant = ?1 AND id = ?2")?
                .query_row(params![&*tenant.0, bits(after)], |row| row.get(0));
            number.optional()?.unwrap_or(0)
        }
    };
    let sql =
        format!("SELECT {COLUMNS}, NULL FROM runs WHERE tenant = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3");
    let mut statement = rows.prepare_cached(&sql)?;
    let mut found = statement.query(params![&*tenant.0, before, page.limit])?;
    let mut runs = Vec::new();
    while let Some(row) = found.next()? {
        runs.push(read(row)?);
    }
    Ok(runs)
}

pub(super) fn interrupt(rows: &Connection, now_ms: u64) -> Result<u64, StoreError> {
    let record = RunRecord::failed(Error::unavailable("the server stopped while the run went on; start it again"));
    let record = super::json(&record)?;
    let ids: Vec<(i64, String)> = rows
        .prepare_cached("SELECT number, tenant FROM runs WHERE finished_ms IS NULL ORDER BY number")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    let mut end = rows.prepare_cached(
        "UPDATE runs SET status = ?2, finished_ms = ?3, record_bytes = ?4, summary = ?5, record = ?5 WHERE number = ?1",
    )?;
    let spent = Spent { finished_ms: now_ms, usage: Usage::default(), cpu_time_us: 0, wall_time_ms: 0 };
    for (number, tenant) in &ids {
        let status = RunStatus::Interrupted.as_str();
        end.execute(params![number, status, integer(now_ms), integer(record.len() as u64), record])?;
        usage::add(rows, tenant, &spent)?;
    }
    Ok(ids.len() as u64)
}

/// Forgets some that are old or too many; none if there are none any more.
pub(super) fn forget(rows: &Connection, before_ms: u64, kept_max: u32, most: u32) -> Result<u64, StoreError> {
    let old = rows
        .prepare_cached("DELETE FROM runs WHERE number IN (SELECT number FROM runs WHERE finished_ms < ?1 LIMIT ?2)")?
        .execute(params![integer(before_ms), most])?;
    if old > 0 {
        return Ok(old as u64);
    }
    let tenants: Vec<String> = rows
        .prepare_cached("SELECT tenant FROM kept_records")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    let mut newest_too_many =
        rows.prepare_cached("SELECT number FROM runs WHERE tenant = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2")?;
    let mut delete = rows.prepare_cached(
        "DELETE FROM runs WHERE number IN (
             SELECT number FROM runs WHERE tenant = ?1 AND number <= ?2 AND finished_ms IS NOT NULL LIMIT ?3
         )",
    )?;
    for tenant in tenants {
        let newest: Option<i64> = newest_too_many.query_row(params![tenant, kept_max], |row| row.get(0)).optional()?;
        let Some(newest) = newest else { continue };
        let deleted = delete.execute(params![tenant, newest, most])?;
        if deleted > 0 {
            return Ok(deleted as u64);
        }
    }
    Ok(0)
}

/// Removes some of a tenant's, ended or not; none if there are none any more.
pub(super) fn remove(rows: &Connection, tenant: &TenantId, most: u32) -> Result<u64, StoreError> {
    let removed = rows
        .prepare_cached("DELETE FROM runs WHERE number IN (SELECT number FROM runs WHERE tenant = ?1 LIMIT ?2)")?
        .execute(params![&*tenant.0, most])?;
    Ok(removed as u64)
}

/// From [`COLUMNS`] and a record, or nothing in its place.
fn read(row: &Row<'_>) -> Result<RunRow, StoreError> {
    let status: String = row.get(4)?;
    let status = RunStatus::parse(&status)
        .ok_or_else(|| StoreError::Failed(format!("a run has the status {status}, which is none")))?;
    let summary: Option<String> = row.get(8)?;
    let Summary { usage, error } = match summary {
        Some(summary) => parsed(&summary)?,
        None => Summary { usage: Usage::default(), error: None },
    };
    Ok(RunRow {
        id: RunId(row.get::<_, i64>(0)?.cast_unsigned()),
        program: row.get(1)?,
        version: row.get(2)?,
        digest: ProgramId(row.get::<_, String>(3)?.into()),
        status,
        started_ms: row.get(5)?,
        finished_ms: row.get(6)?,
        cpu_time_us: row.get(7)?,
        record: row.get(9)?,
        error: error.as_ref().map(shortened),
        usage,
    })
}

/// The record as lists show it.
fn summary(end: &RunEnd) -> String {
    let mut summary = json!({"variables": {}, "usage": end.usage});
    if let Some(error) = end.error.as_ref().map(shortened) {
        summary["error"] = json!({"code": error.code, "message": error.message});
    }
    summary.to_string()
}

/// Integers of the database are signed.
fn bits(id: RunId) -> i64 {
    id.0.cast_signed()
}
