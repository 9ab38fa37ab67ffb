//! What was used, by tenant and day.

use rusqlite::{Connection, params};
use sglhost_core::{TenantId, Usage};

use super::integer;
use crate::{StoreError, UsageDay};

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// What one run adds.
pub(super) struct Spent {
    pub(super) finished_ms: u64,
    pub(super) usage: Usage,
    pub(super) cpu_time_us: u64,
    pub(super) wall_time_ms: u64,
}

/// Adds a run to the day on which it ended.
pub(super) fn add(rows: &Connection, tenant: &str, spent: &Spent) -> Result<(), StoreError> {
    rows.prepare_cached(
        "INSERT INTO usage VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (tenant, day) DO UPDATE SET
             runs = runs + 1,
             prompt_tokens = prompt_tokens + excluded.prompt_tokens,
             cached_tokens = cached_tokens + excluded.cached_tokens,
             completion_tokens = completion_tokens + excluded.completion_tokens,
             cpu_time_us = cpu_time_us + excluded.cpu_time_us,
             wall_time_ms = wall_time_ms + excluded.wall_time_ms",
    )?
    .execute(params![
        tenant,
        integer(spent.finished_ms / DAY_MS),
        integer(spent.usage.prompt_tokens),
        integer(spent.usage.cached_tokens),
        integer(spent.usage.completion_tokens),
        integer(spent.cpu_time_us),
        integer(spent.wall_time_ms),
    ])?;
    Ok(())
}

/// From the day on that `since_ms` is in.
pub(super) fn days(rows: &Connection, tenant: &TenantId, since_ms: u64) -> Result<Vec<UsageDay>, StoreError> {
    let mut days = rows.prepare_cached(
        "SELECT day, runs, prompt_tokens, cached_tokens, completion_tokens, cpu_time_us, wall_time_ms FROM usage
         WHERE tenant = ?1 AND day >= ?2 ORDER BY day",
    )?;
    let day = |row: &rusqlite::Row<'_>| {
        Ok(UsageDay {
            day_ms: row.get::<_, u64>(0)? * DAY_MS,
            runs: row.get(1)?,
            usage: Usage { prompt_tokens: row.get(2)?, cached_tokens: row.get(3)?, completion_tokens: row.get(4)? },
            cpu_time_us: row.get(5)?,
            wall_time_ms: row.get(6)?,
        })
    };
    Ok(days.query_map(params![&*tenant.0, integer(since_ms / DAY_MS)], day)?.collect::<Result<_, _>>()?)
}

pub(super) fn totals(rows: &Connection) -> Result<Vec<(TenantId, Usage, u64, u64)>, StoreError> {
    let mut totals = rows.prepare_cached(
        "SELECT tenant, sum(prompt_tokens), sum(cached_tokens), sum(completion_tokens), sum(cpu_time_us), sum(runs)
         FROM usage GROUP BY tenant ORDER BY tenant",
    )?;
    let total = |row: &rusqlite::Row<'_>| {
        let tenant = TenantId(row.get::<_, String>(0)?.into());
        let usage = Usage { prompt_tokens: row.get(1)?, cached_tokens: row.get(2)?, completion_tokens: row.get(3)? };
        Ok((tenant, usage, row.get(4)?, row.get(5)?))
    };
    Ok(totals.query_map([], total)?.collect::<Result<_, _>>()?)
}
