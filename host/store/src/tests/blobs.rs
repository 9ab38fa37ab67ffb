//! Files that are deleted, or not, because somebody is putting the same content.

use std::path::PathBuf;

use bytes::Bytes;
use rusqlite::Connection;
use sglhost_core::ProgramId;

use super::digest;
use crate::{SqliteStore, blobs::Blobs};

const CONTENT: &[u8] = b"content";

struct World {
    folder: tempfile::TempDir,
    blobs: Blobs,
    rows: Connection,
    digest: ProgramId,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        drop(SqliteStore::open(folder.path()).unwrap());
        let blobs = Blobs::open(folder.path().join("blobs")).unwrap();
        let rows = Connection::open(folder.path().join("sglhost.db")).unwrap();
        Self { folder, blobs, rows, digest: digest(CONTENT) }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("blobs/sha256").join(&self.digest.0[..2]).join(&*self.digest.0)
    }

    /// Whether it is there after those that are not referred to are deleted.
    fn stays(&self) -> bool {
        self.blobs.delete_loose(&self.rows).unwrap();
        self.file().exists()
    }

    fn refer(&self) {
        let sql = "INSERT INTO programs VALUES ('t', 'p', 1);
                   INSERT INTO versions SELECT 't', 'p', 1, ?1, 7, 1, '{}'";
        let (program, version) = sql.split_once(';').unwrap();
        self.rows.execute(program, []).unwrap();
        self.rows.execute(version, [&*self.digest.0]).unwrap();
    }

    fn refer_no_more(&self) {
        self.rows.execute("DELETE FROM programs", []).unwrap();
    }
}

#[tokio::test]
async fn what_is_being_put_stays_until_it_is_let_go() {
    let world = World::new();
    let put = async || world.blobs.put(&world.digest, Bytes::from_static(CONTENT)).await.unwrap();
    let (first, second) = (put().await, put().await);
    assert!(world.stays());
    drop(first);
    assert!(world.stays());
    drop(second);
    assert!(!world.stays());

    // Deleted by one while it is put by another.
    let first = put().await;
    world.refer();
    drop(first);
    assert!(world.stays());
    let second = put().await;
    world.refer_no_more();
    assert!(world.stays());
    world.refer();
    drop(second);
    assert!(world.stays());
    world.refer_no_more();
    assert!(!world.stays());
}

#[cfg(unix)]
#[tokio::test]
async fn what_is_there_is_not_written_again_unless_it_is_damaged() {
    use std::os::unix::fs::MetadataExt as _;
    let world = World::new();
    let put = async || drop(world.blobs.put(&world.digest, Bytes::from_static(CONTENT)).await.unwrap());
    // A file that is written is another one, put in the old one's place.
    let file = || std::fs::metadata(world.file()).unwrap().ino();
    put().await;
    let first = file();
    put().await;
    assert_eq!(file(), first);
    for damage in [&b"contenX"[..], b"", b"content and more"] {
        std::fs::write(world.file(), damage).unwrap();
        put().await;
        assert_eq!(std::fs::read(world.file()).unwrap(), CONTENT);
    }
    std::fs::remove_file(world.file()).unwrap();
    put().await;
    assert_eq!(std::fs::read(world.file()).unwrap(), CONTENT);
}

#[tokio::test]
async fn what_a_killed_process_left_half_written_is_swept() {
    let world = World::new();
    drop(world.blobs.put(&world.digest, Bytes::from_static(CONTENT)).await.unwrap());
    world.refer();
    // As the files of a put that never came to its end are called.
    let half = world.file().with_file_name(format!("{}#1", world.digest));
    std::fs::write(&half, b"con").unwrap();
    world.blobs.sweep(&world.rows).unwrap();
    assert!(world.file().exists() && !half.exists());
    world.refer_no_more();
    world.blobs.sweep(&world.rows).unwrap();
    assert!(!world.file().exists());
}

#[tokio::test]
async fn what_somebody_put_who_went_away_is_let_go_once_it_is_written() {
    let world = World::new();
    let put = world.blobs.put(&world.digest, Bytes::from_static(CONTENT));
    super::give_up_after(put, 1).await;
    while !world.file().exists() {
        tokio::task::yield_now().await;
    }
    while world.stays() {
        tokio::task::yield_now().await;
    }
}
