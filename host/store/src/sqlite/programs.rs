//! Programs, their versions and tags.

use rusqlite::{Connection, OptionalExtension, Row, params};
use sglhost_core::{
    ProgramId, TenantId,
    limits::{LIST_BYTES_MAX, PROGRAM_NAMES_MAX, TAGS_PER_PROGRAM_MAX},
};

use super::{integer, json, parsed};
use crate::{
    Deleted, Footprint, NewProgram, Page, ProgramReference, ProgramVersion, PutProgram, StoreError, VersionSelector,
};

/// What a [`ProgramVersion`] is read from. No name of a tag has a comma.
const COLUMNS: &str = "v.name, v.version, v.digest, v.size_bytes, v.created_ms, (
        SELECT group_concat(t.tag) FROM tags t WHERE t.tenant = v.tenant AND t.name = v.name AND t.version = v.version
    ), v.description";

/// Whether it may be put. What is found here may have changed when it is, so [`put`] looks again.
pub(super) fn check(rows: &Connection, new: &NewProgram, size_bytes: u64) -> Result<(), StoreError> {
    if let Some(tag) = &new.tag {
        check_tag(rows, &new.tenant, &new.name, tag)?;
    }
    if is_latest(rows, new)? { Ok(()) } else { check_quota(rows, new, size_bytes) }
}

pub(super) fn put(rows: &Connection, new: &NewProgram, size_bytes: u64) -> Result<PutProgram, StoreError> {
    check(rows, new, size_bytes)?;
    let is_new = !is_latest(rows, new)?;
    if is_new {
        add(rows, new, size_bytes)?;
    }
    let latest = ProgramReference { name: new.name.clone(), selector: None };
    let version = found(rows, &new.tenant, &latest)?;
    let version = match &new.tag {
        Some(tag) => self::tag(rows, &new.tenant, &new.name, version.version, tag)?,
        None => version,
    };
    Ok(PutProgram { version, is_new })
}

pub(super) fn find(
    rows: &Connection,
    tenant: &TenantId,
    reference: &ProgramReference,
) -> Result<Option<ProgramVersion>, StoreError> {
    let Some(version) = resolve(rows, tenant, reference)? else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS} FROM versions v WHERE tenant = ?1 AND name = ?2 AND version = ?3");
    let mut statement = rows.prepare_cached(&sql)?;
    let mut found = statement.query(params![&*tenant.0, reference.name, version])?;
    found.next()?.map(read).transpose()
}

/// The number of the version that is meant, which may not be there.
fn resolve(rows: &Connection, tenant: &TenantId, reference: &ProgramReference) -> Result<Option<u32>, StoreError> {
    let (tenant, name) = (&*tenant.0, &*reference.name);
    let number = |row: &Row<'_>| row.get(0);
    let newest = match &reference.selector {
        Some(VersionSelector::Version(version)) => return Ok(Some(*version)),
        Some(VersionSelector::Tag(tag)) => rows
            .prepare_cached("SELECT version FROM tags WHERE tenant = ?1 AND name = ?2 AND tag = ?3")?
            .query_row([tenant, name, tag], number),
        Some(VersionSelector::Digest(digest)) => rows
            .prepare_cached(
                "SELECT version FROM versions WHERE tenant = ?1 AND name = ?2 AND digest = ?3
                 ORDER BY version DESC LIMIT 1",
            )?
            .query_row([tenant, name, &digest.0], number),
        None => rows
            .prepare_cached(
                "SELECT version FROM versions WHERE tenant = ?1 AND name = ?2 ORDER BY version DESC LIMIT 1",
            )?
            .query_row([tenant, name], number),
    };
    Ok(newest.optional()?)
}

pub(super) fn list(rows: &Connection, tenant: &TenantId, page: &Page) -> Result<Vec<ProgramVersion>, StoreError> {
    // SQLite takes the columns of the row that has the maximum.
    let latest = "SELECT max(version), * FROM versions WHERE tenant = ?1 AND name > ?2 GROUP BY name ORDER BY name";
    let sql = format!("SELECT {COLUMNS} FROM ({latest} LIMIT ?3) v");
    let after = page.after.as_deref().unwrap_or_default();
    all(rows.prepare_cached(&sql)?.query(params![&*tenant.0, after, page.limit])?)
}

pub(super) fn versions(
    rows: &Connection,
    tenant: &TenantId,
    name: &str,
    page: &Page,
) -> Result<Vec<ProgramVersion>, StoreError> {
    let before: u32 = match &page.after {
        Some(after) => after.parse().unwrap_or(0), // What is no version comes after all of them.
        None => u32::MAX,
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM versions v WHERE tenant = ?1 AND name = ?2 AND version < ?3
         ORDER BY version DESC LIMIT ?4"
    );
    all(rows.prepare_cached(&sql)?.query(params![&*tenant.0, name, before, page.limit])?)
}

pub(super) fn tag(
    rows: &Connection,
    tenant: &TenantId,
    name: &str,
    version: u32,
    tag: &str,
) -> Result<ProgramVersion, StoreError> {
    let reference = ProgramReference { name: name.to_owned(), selector: Some(VersionSelector::Version(version)) };
    found(rows, tenant, &reference)?;
    check_tag(rows, tenant, name, tag)?;
    rows.prepare_cached(
        "INSERT INTO tags (tenant, name, tag, version) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (tenant, name, tag) DO UPDATE SET version = excluded.version",
    )?
    .execute(params![&*tenant.0, name, tag, version])?;
    found(rows, tenant, &reference)
}

pub(super) fn delete(
    rows: &Connection,
    tenant: &TenantId,
    reference: &ProgramReference,
) -> Result<Deleted, StoreError> {
    // Tags go with their version.
    let deleted = match (&reference.selector, resolve(rows, tenant, reference)?) {
        (_, None) => 0,
        (None, Some(_)) => rows
            .prepare_cached("DELETE FROM versions WHERE tenant = ?1 AND name = ?2")?
            .execute([&*tenant.0, &reference.name])?,
        (Some(_), Some(version)) => rows
            .prepare_cached("DELETE FROM versions WHERE tenant = ?1 AND name = ?2 AND version = ?3")?
            .execute(params![&*tenant.0, reference.name, version])?,
    };
    if deleted == 0 {
        Err(unknown(reference))
    } else {
        Ok(Deleted { versions: u32::try_from(deleted).unwrap_or(u32::MAX) })
    }
}

pub(super) fn footprint(rows: &Connection, tenant: &TenantId) -> Result<Footprint, StoreError> {
    let footprint = rows
        .prepare_cached("SELECT programs, program_bytes FROM footprints WHERE tenant = ?1")?
        .query_row([&*tenant.0], |row| Ok(Footprint { programs: row.get(0)?, program_bytes: row.get(1)? }));
    Ok(footprint.optional()?.unwrap_or_default())
}

/// Whether the latest version is what is to be put.
fn is_latest(rows: &Connection, new: &NewProgram) -> Result<bool, StoreError> {
    let latest = rows
        .prepare_cached("SELECT digest FROM versions WHERE tenant = ?1 AND name = ?2 ORDER BY version DESC LIMIT 1")?
        .query_row([&*new.tenant.0, &new.name], |row| row.get::<_, String>(0));
    Ok(latest.optional()?.is_some_and(|digest| digest == *new.digest.0))
}

fn add(rows: &Connection, new: &NewProgram, size_bytes: u64) -> Result<(), StoreError> {
    let (tenant, name) = (&*new.tenant.0, &new.name);
    let version: u32 = rows
        .prepare_cached(
            "INSERT INTO programs (tenant, name, last_version) VALUES (?1, ?2, 1)
             ON CONFLICT (tenant, name) DO UPDATE SET last_version = last_version + 1 RETURNING last_version",
        )?
        .query_row([tenant, name], |row| row.get(0))?;
    rows.prepare_cached(
        "INSERT INTO versions (tenant, name, version, digest, size_bytes, created_ms, description)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        tenant,
        name,
        version,
        &*new.digest.0,
        integer(size_bytes),
        integer(new.created_ms),
        json(&new.description)?
    ])?;
    Ok(())
}

/// Whether one more version may be kept.
fn check_quota(rows: &Connection, new: &NewProgram, size_bytes: u64) -> Result<(), StoreError> {
    let (tenant, kept) = (&*new.tenant.0, footprint(rows, &new.tenant)?);
    if kept.programs >= new.programs_max {
        return Err(StoreError::Quota(format!(
            "{} versions of programs are kept, and the tenant's quota programs_max is {}; delete some, or have the \
             quota raised",
            kept.programs, new.programs_max
        )));
    }
    if kept.program_bytes.saturating_add(size_bytes) > new.program_bytes_max {
        return Err(StoreError::Quota(format!(
            "programs of {} bytes are kept, this one has {size_bytes}, and the tenant's quota program_bytes_max is {}; \
             delete some, or have the quota raised",
            kept.program_bytes, new.program_bytes_max
        )));
    }
    let mut known = rows.prepare_cached("SELECT 1 FROM programs WHERE tenant = ?1 AND name = ?2")?;
    if known.exists([tenant, &new.name])? {
        return Ok(());
    }
    let names: u32 = rows
        .prepare_cached("SELECT count(*) FROM programs WHERE tenant = ?1")?
        .query_row([tenant], |row| row.get(0))?;
    if names >= PROGRAM_NAMES_MAX {
        return Err(StoreError::Quota(format!(
            "{names} names of programs were used, deleted ones included, which is the most; use one of them again"
        )));
    }
    Ok(())
}

/// Whether a program may have that tag.
fn check_tag(rows: &Connection, tenant: &TenantId, name: &str, tag: &str) -> Result<(), StoreError> {
    let others: u32 = rows
        .prepare_cached("SELECT count(*) FROM tags WHERE tenant = ?1 AND name = ?2 AND tag <> ?3")?
        .query_row([&*tenant.0, name, tag], |row| row.get(0))?;
    if others < TAGS_PER_PROGRAM_MAX {
        return Ok(());
    }
    Err(StoreError::Quota(format!(
        "the program {name} has {TAGS_PER_PROGRAM_MAX} tags, which is the most; point one of them at the version \
         instead, or delete versions that are no longer used, with which their tags go"
    )))
}

fn found(rows: &Connection, tenant: &TenantId, reference: &ProgramReference) -> Result<ProgramVersion, StoreError> {
    find(rows, tenant, reference)?.ok_or_else(|| unknown(reference))
}

fn unknown(reference: &ProgramReference) -> StoreError {
    StoreError::not_found(format!("program {reference}"))
}

/// Those found, until their descriptions take more than a list may: the last is one too many then, by which whoever asks
/// knows that there may be more.
fn all(mut found: rusqlite::Rows<'_>) -> Result<Vec<ProgramVersion>, StoreError> {
    let (mut versions, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()?
        && bytes <= LIST_BYTES_MAX
    {
        bytes += row.get_ref(6)?.as_str().map_or(0, str::len);
        versions.push(read(row)?);
    }
    Ok(versions)
}

/// From [`COLUMNS`].
fn read(row: &Row<'_>) -> Result<ProgramVersion, StoreError> {
    let tags: Option<String> = row.get(5)?;
    let mut tags: Vec<String> = tags.iter().flat_map(|tags| tags.split(',')).map(str::to_owned).collect();
    tags.sort_unstable();
    Ok(ProgramVersion {
        name: row.get(0)?,
        version: row.get(1)?,
        digest: ProgramId(row.get::<_, String>(2)?.into()),
        size_bytes: row.get(3)?,
        created_ms: row.get(4)?,
        tags,
        description: parsed(&row.get::<_, String>(6)?)?,
    })
}
