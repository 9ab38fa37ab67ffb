//! Who may open a folder, and what may be in it.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use rusqlite::Connection;
use sglhost_core::{Quotas, TenantId};

use super::{digest, new_program, put, reference, tenant};
use crate::{SqliteStore, Store, StoreError};

#[track_caller]
fn refused(opened: Result<SqliteStore, StoreError>, why: &str) {
    let Err(StoreError::Folder { path: _, reason }) = opened else { panic!("not refused for {why}") };
    assert!(reason.contains(why), "{reason}");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn nobody_else_may_look_in() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("a/b");
    let store = SqliteStore::open(&data).unwrap();
    put(&store, "p", b"content").await;
    assert_eq!(mode(&data), 0o700);
    assert_eq!(mode(&data.join("blobs")), 0o700);
    for file in ["sglhost.db", "sglhost.db-wal", "sglhost.db-shm"] {
        assert_eq!(mode(&data.join(file)), 0o600, "{file}");
    }
}

#[test]
fn a_folder_that_others_may_write_to_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for mode in [0o770, 0o702] {
        fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        refused(SqliteStore::open(folder.path()), "chmod 700");
        refused(SqliteStore::open_beside(folder.path()), "chmod 700");
    }
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    drop(SqliteStore::open(folder.path()).unwrap());
}

#[test]
fn a_file_is_no_folder() {
    let file = tempfile::NamedTempFile::new().unwrap();
    refused(SqliteStore::open(file.path()), "name a folder");
}

#[tokio::test]
async fn a_second_server_is_refused_and_a_command_beside_it_is_not() {
    let folder = tempfile::tempdir().unwrap();
    // Before there was a server.
    let beside = SqliteStore::open_beside(folder.path()).unwrap();
    let server = SqliteStore::open(folder.path()).unwrap();
    refused(SqliteStore::open(folder.path()), "another sglhost serves from it");

    let before = server.tenants_version().await.unwrap();
    beside.put_tenant(&tenant("a"), &Quotas::default(), 1).await.unwrap();
    assert_ne!(server.tenants_version().await.unwrap(), before);
    assert_eq!(server.tenants().await.unwrap().len(), 1);
    let put = beside.put_program(new_program("p", b"1"), b"1"[..].into()).await;
    assert!(matches!(put, Err(StoreError::Folder { .. })), "{put:?}");

    drop(server);
    drop(SqliteStore::open(folder.path()).unwrap());
}

#[tokio::test]
async fn many_may_open_a_new_folder_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let open = |index: u32| {
        let path = folder.path().to_owned();
        tokio::task::spawn_blocking(move || match index {
            0 => SqliteStore::open(&path).unwrap(),
            _ => SqliteStore::open_beside(&path).unwrap(),
        })
    };
    let opening: Vec<_> = (0..8).map(open).collect();
    for (index, store) in opening.into_iter().enumerate() {
        let store = store.await.unwrap();
        store.put_tenant(&tenant(&index.to_string()), &Quotas::default(), 1).await.unwrap();
    }
    let store = SqliteStore::open(folder.path()).unwrap();
    assert_eq!(store.tenants().await.unwrap().len(), 8);
    assert_eq!(store.tenants_version().await.unwrap(), 8);
}

#[test]
fn a_newer_database_is_refused_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    drop(SqliteStore::open(folder.path()).unwrap());
    let version = |version: Option<u32>| {
        let database = Connection::open(folder.path().join("sglhost.db")).unwrap();
        if let Some(version) = version {
            database.pragma_update(None, "user_version", version).unwrap();
        }
        database.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0)).unwrap()
    };
    let known = version(None);
    version(Some(known + 7));
    let why = format!("of version {}, and this sglhost knows those up to {known}", known + 7);
    refused(SqliteStore::open(folder.path()), &why);
    refused(SqliteStore::open_beside(folder.path()), &why);
    assert_eq!(version(Some(known)), known);
    drop(SqliteStore::open(folder.path()).unwrap());
}

#[test]
fn what_is_no_database_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("sglhost.db"), "a text of some length, which SQLite does not take for its own")
        .unwrap();
    refused(SqliteStore::open(folder.path()), "not a database");
}

#[tokio::test]
async fn a_damaged_component_is_told_and_healed_by_uploading_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    put(&store, "p", b"content").await;
    let id = digest(b"content");
    let file = folder.path().join("blobs/sha256").join(&id.0[..2]).join(&*id.0);
    for damage in [&b"cOntent"[..], b"", b"content and more"] {
        fs::write(&file, damage).unwrap();
        let error = store.component(&id).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert_eq!(put(&store, "p", b"content").await, 1);
        assert_eq!(store.component(&id).await.unwrap(), &b"content"[..]);
    }
    fs::remove_file(&file).unwrap();
    assert!(matches!(store.component(&id).await, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_digest_is_no_path() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    for other in ["", "../../sglhost.db", &"A".repeat(64), &"é".repeat(32)] {
        let read = store.component(&sglhost_core::ProgramId(other.into())).await;
        assert!(matches!(read, Err(StoreError::NotFound { .. })), "{other}");
    }
    let mut wrong = new_program("p", b"1");
    wrong.digest = digest(b"2");
    assert!(matches!(store.put_program(wrong, b"1"[..].into()).await, Err(StoreError::Failed(_))));
}

#[tokio::test]
async fn what_was_half_put_is_swept_at_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path()).unwrap();
    put(&store, "p", b"content").await;
    put(&store, "q", b"other").await;
    drop(store);
    let file = |name: &str| folder.path().join("blobs/sha256").join(&name[..2]).join(name);
    let (kept, orphan) = (digest(b"content"), digest(b"orphan"));
    let half = format!("{kept}#1");
    for name in [&*orphan.0, &half] {
        fs::create_dir_all(file(name).parent().unwrap()).unwrap();
        fs::write(file(name), "orphan").unwrap();
    }
    // A command beside a server leaves that to the server: the orphan may be what it is about to refer to.
    drop(SqliteStore::open_beside(folder.path()).unwrap());
    assert!(file(&orphan.0).exists() && file(&half).exists());

    let store = SqliteStore::open(folder.path()).unwrap();
    assert!(!file(&orphan.0).exists() && !file(&half).exists());
    assert_eq!(store.component(&kept).await.unwrap(), &b"content"[..]);
    store.delete_program(&TenantId::local(), &reference("q")).await.unwrap();
    assert!(!file(&digest(b"other").0).exists());
}
