//! Components in files, by their content's digest: `blobs/sha256/ab/abcd…`.
//!
//! # Invariants
//! - A component is on disk before any row refers to it.
//! - Its file is deleted only when no row refers to it and nobody is putting the same content ([`Pin`]).
//! - What is read is what was put, or [`StoreError::Damaged`].

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use object_store::{ObjectStoreExt, PutPayload, local::LocalFileSystem, path::Path as Location};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior};
use sglhost_core::ProgramId;
use sha2::{Digest, Sha256};
use tokio::task;

use crate::StoreError;

/// The files.
pub(crate) struct Blobs {
    files: Arc<LocalFileSystem>,
    root: PathBuf,
    pins: Arc<Mutex<Pins>>,
}

/// Who is putting what.
#[derive(Default)]
struct Pins {
    /// How many put this content now.
    held: HashMap<ProgramId, usize>,
    /// Was put and let go since they were last looked through: a row may refer to it, or not.
    released: BTreeSet<ProgramId>,
}

/// Keeps a component's file from being deleted until a row refers to it.
pub(crate) struct Pin {
    digest: ProgramId,
    pins: Arc<Mutex<Pins>>,
}

impl Blobs {
    pub(crate) fn open(root: PathBuf) -> Result<Self, StoreError> {
        let files = LocalFileSystem::new_with_prefix(&root).map_err(failed)?.with_fsync(true);
        Ok(Self { files: Arc::new(files), root, pins: Arc::default() })
    }

    /// Puts a component on disk, unless it is there and whole. It goes on if the caller goes away.
    pub(crate) async fn put(&self, digest: &ProgramId, component: Bytes) -> Result<Pin, StoreError> {
        let location = location(digest)?;
        let pin = self.pin(digest.clone());
        let files = Arc::clone(&self.files);
        // A task of its own, because the writing itself cannot be called off: the pin must last as long.
        let put = async move {
            let wrong = |_| failed(format!("what was put is not what has the digest sha256:{}", pin.digest));
            let component = verified(&pin.digest, component).await.map_err(wrong)?;
            // What is damaged, or cannot be read, is written anew.
            if let Ok(kept) = read(&files, &location).await
                && kept == component
            {
                return Ok(pin);
            }
            files.put(&location, PutPayload::from_bytes(component)).await.map_err(failed)?;
            Ok(pin)
        };
        task::spawn(put).await.map_err(failed)?
    }

    /// A component as it was put.
    pub(crate) async fn get(&self, digest: &ProgramId) -> Result<Bytes, StoreError> {
        let location = location(digest)?;
        match read(&self.files, &location).await {
            Ok(component) => verified(digest, component).await,
            Err(object_store::Error::NotFound { .. }) => Err(unknown(digest)),
            Err(error) => Err(failed(error)),
        }
    }

    /// Deletes the files of components that no row refers to any more, as far as nobody is putting them again. Outside
    /// of any transaction: what a row that is not on disk yet no longer refers to, one on disk does.
    pub(crate) fn delete_loose(&self, connection: &Connection) -> Result<(), StoreError> {
        let loose: Vec<ProgramId> = connection
            .prepare_cached("SELECT digest FROM loose_blobs")?
            .query_map([], |row| Ok(ProgramId(row.get::<_, String>(0)?.into())))?
            .collect::<Result<_, _>>()?;
        // Held to the end: nobody begins to put what is just being deleted.
        let mut pins = self.pins();
        let Pins { held, released } = &mut *pins;
        released.retain(|digest| !held.contains_key(digest));
        let released = std::mem::take(released);
        for digest in released.iter().chain(&loose).filter(|digest| !held.contains_key(*digest)) {
            if !is_referred_to(connection, digest)? {
                delete(&self.root.join(location(digest)?.as_ref()))?;
            }
        }
        if !loose.is_empty() {
            let mut forget = connection.prepare_cached("DELETE FROM loose_blobs WHERE digest = ?1")?;
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            // Those that somebody is putting too: they are looked at again when they are let go.
            for digest in &loose {
                forget.execute([&*digest.0])?;
            }
            transaction.commit()?;
        }
        Ok(())
    }

    /// Deletes all files that no row refers to: what a process that was killed had begun to put. Nobody may be putting
    /// anything.
    pub(crate) fn sweep(&self, connection: &Connection) -> Result<(), StoreError> {
        let folders = match fs::read_dir(self.root.join("sha256")) {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error)),
        };
        for folder in folders {
            for file in fs::read_dir(folder.map_err(failed)?.path()).map_err(failed)? {
                let file = file.map_err(failed)?;
                // A name that is no digest is that of a file half written.
                let digest = ProgramId(file.file_name().to_string_lossy().into());
                if !is_referred_to(connection, &digest)? {
                    delete(&file.path())?;
                }
            }
        }
        Ok(())
    }

    fn pin(&self, digest: ProgramId) -> Pin {
        *self.pins().held.entry(digest.clone()).or_default() += 1;
        Pin { digest, pins: Arc::clone(&self.pins) }
    }

    fn pins(&self) -> MutexGuard<'_, Pins> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = pins.held.get_mut(&self.digest) {
            *held -= 1;
            if *held == 0 {
                pins.held.remove(&self.digest);
                pins.released.insert(self.digest.clone());
            }
        }
    }
}

async fn read(files: &LocalFileSystem, location: &Location) -> object_store::Result<Bytes> {
    files.get(location).await?.bytes().await
}

fn is_referred_to(connection: &Connection, digest: &ProgramId) -> Result<bool, StoreError> {
    let mut statement = connection.prepare_cached("SELECT 1 FROM versions WHERE digest = ?1 LIMIT 1")?;
    Ok(statement.query_row([&*digest.0], |_| Ok(())).optional()?.is_some())
}

fn delete(file: &Path) -> Result<(), StoreError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(format!("{}: {error}", file.display()))),
        _ => Ok(()),
    }
}

/// The component, if its content has that digest. Hashing is done where it keeps nobody waiting.
async fn verified(digest: &ProgramId, component: Bytes) -> Result<Bytes, StoreError> {
    let hash = move || (Sha256::digest(&component), component);
    let (found, component) = task::spawn_blocking(hash).await.map_err(failed)?;
    if format!("{found:x}") == *digest.0 {
        Ok(component)
    } else {
        Err(StoreError::Damaged { digest: digest.0.as_ref().to_owned() })
    }
}

/// Where it is. A name that is no digest names nothing, least of all another file.
fn location(digest: &ProgramId) -> Result<Location, StoreError> {
    let text = &*digest.0;
    let right = text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if right { Ok(Location::from(format!("sha256/{}/{text}", &text[..2]))) } else { Err(unknown(digest)) }
}

fn unknown(digest: &ProgramId) -> StoreError {
    StoreError::not_found(format!("component sha256:{digest}"))
}

fn failed(error: impl ToString) -> StoreError {
    StoreError::Failed(error.to_string())
}
