//! The folder that everything is kept in, and who may use it.
//!
//! ```text
//! sglhost.db (-wal, -shm)      rows
//! blobs/sha256/ab/abcd…        components
//! server.lock                  held by the one server as long as it lives
//! open.lock                    held by whoever is opening the database
//! ```
//!
//! # Invariants
//! - Nobody but its owner reads it: it holds prompts' results and what keys are checked against.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use crate::StoreError;

/// A folder that was found fit.
#[derive(Clone, Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
}

impl DataFolder {
    /// Makes it if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let folder = Self { path: path.to_owned() };
        if !path.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| folder.refuse(&error))?;
            folder.sync(path.parent())?;
        }
        let metadata = fs::metadata(path).map_err(|error| folder.refuse(&error))?;
        if !metadata.is_dir() {
            return Err(folder.refuse("it is a file; name a folder"));
        }
        if metadata.mode() & 0o022 != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(folder.refuse(format!(
                "others may write to it (its mode is {mode:o}), and so could put programs there; take that away with \
                 chmod 700"
            )));
        }
        // Readable to others until now: it may be somebody's, so only what is put there is kept from them.
        Ok(folder)
    }

    /// Where the rows are. Made here, so that nobody else may read it; SQLite gives its other files the same mode.
    pub(crate) fn database(&self) -> Result<PathBuf, StoreError> {
        let path = self.path.join("sglhost.db");
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| self.refuse_file(&path, &error))?;
        Ok(path)
    }

    /// Where components are.
    pub(crate) fn blobs(&self) -> Result<PathBuf, StoreError> {
        let path = self.path.join("blobs");
        if !path.exists() {
            DirBuilder::new().mode(0o700).create(&path).map_err(|error| self.refuse_file(&path, &error))?;
            self.sync(Some(&self.path))?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))
            .map_err(|error| self.refuse_file(&path, &error))?;
        Ok(path)
    }

    /// Makes this process the folder's server until the file is closed.
    pub(crate) fn lock_for_server(&self) -> Result<File, StoreError> {
        let lock = self.lock_file("server.lock")?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(self.refuse(
                "another sglhost serves from it; stop that one, or give this one a folder of its own with --data",
            )),
            Err(TryLockError::Error(error)) => Err(self.refuse(&error)),
        }
    }

    /// Waits until nobody else is opening the database: two that make it at once would be in each other's way.
    pub(crate) fn lock_for_opening(&self) -> Result<File, StoreError> {
        let lock = self.lock_file("open.lock")?;
        lock.lock().map_err(|error| self.refuse(&error))?;
        Ok(lock)
    }

    /// Why it cannot be used.
    pub(crate) fn refuse(&self, reason: impl ToString) -> StoreError {
        StoreError::Folder { path: self.path.clone(), reason: reason.to_string() }
    }

    fn refuse_file(&self, file: &Path, error: &io::Error) -> StoreError {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        self.refuse(format!("{name}: {error}"))
    }

    fn lock_file(&self, name: &str) -> Result<File, StoreError> {
        let path = self.path.join(name);
        let options = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        options.map_err(|error| self.refuse_file(&path, &error))
    }

    /// Puts on disk that something was made in a folder.
    fn sync(&self, parent: Option<&Path>) -> Result<(), StoreError> {
        let parent = parent.filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|folder| folder.sync_all()).map_err(|error| self.refuse(&error))
    }
}
