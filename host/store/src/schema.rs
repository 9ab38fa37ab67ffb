//! The database: its tables, how they came to be step by step, how a connection is set up.

use std::path::Path;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use sglhost_core::limits::STORE_BUSY;

/// What made a database of one version into the next; the first makes an empty one version 1. A step that was released
/// is never changed: what must be otherwise is a step of its own.
const MIGRATIONS: &[&str] = &[include_str!("schema/1.sql")];

/// Who opens it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one server.
    Server,
    /// A process beside it, for which no other is stopped.
    Beside,
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(
        "its database is of version {found}, and this sglhost knows those up to {known}; use the sglhost that wrote \
         it, or a newer one"
    )]
    Newer { found: usize, known: usize },
    #[error(
        "its database is of version {found}, older than this sglhost's {known}; start this sglhost's `serve` on it \
         once, which brings it up to date"
    )]
    Older { found: usize, known: usize },
    #[error("its database cannot be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// The connection that writes, to a database brought up to date. Nobody else may be opening it at the time.
pub(crate) fn open_to_write(path: &Path, role: Role) -> Result<Connection, OpenError> {
    let mut connection = Connection::open(path)?;
    set_up(&connection)?;
    // Looked at before anything is changed: one that is newer stays as it is.
    outdated(&connection, role)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Some(missing) = outdated(&transaction, role)? {
        for migration in missing {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "user_version", MIGRATIONS.len())?;
    }
    transaction.commit()?;
    Ok(connection)
}

/// A connection that only reads. It never waits for the one that writes.
pub(crate) fn open_to_read(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    set_up(&connection)?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> Result<(), rusqlite::Error> {
    // All statements there are: each is prepared once.
    connection.set_prepared_statement_cache_capacity(128);
    connection.busy_timeout(STORE_BUSY)?;
    connection.pragma_update(None, "foreign_keys", true)
}

/// The steps that it lacks; none if it is up to date.
fn outdated(connection: &Connection, role: Role) -> Result<Option<&'static [&'static str]>, OpenError> {
    let found: usize = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = MIGRATIONS.len();
    let Some(missing) = MIGRATIONS.get(found..) else { return Err(OpenError::Newer { found, known }) };
    // A server of the older version may be at work on it.
    if role == Role::Beside && found > 0 && !missing.is_empty() {
        return Err(OpenError::Older { found, known });
    }
    Ok(Some(missing).filter(|missing| !missing.is_empty()))
}
