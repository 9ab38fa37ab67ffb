//! Compiled programs on disk: native code, its digest, and what a program said of itself.
//!
//! # Invariants
//! - What is loaded was compiled by a process of this user from exactly this content, by exactly this version and
//!   configuration of the compiler, and is whole: its digest stands beside it.
//! - A file is there whole or not at all; a description is there only after what it describes.
//! - All of it together, other compilers' included, is bounded: what was written first goes first.

use std::hash::{Hash as _, Hasher};
use std::io::{Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, io};

use serde::{Deserialize, Serialize};
use sglhost_core::ProgramId;
use sglhost_core::limits::COMPILE_CACHE_BYTES_MAX;
use sha2::{Digest as _, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::compile::{self, compile_error, hexadecimal};
use crate::description::Description;
use crate::error::RuntimeError;

/// Bytes that are read of a file, or of a process that compiles, at a time.
const PIECE_BYTES: usize = 64 << 10;

/// After so long without a write a draft is nobody's: to compile and copy takes minutes at most (`CompileLimits`).
const DRAFT_AGE_MAX: Duration = Duration::from_secs(3600);

/// Compiled programs on disk.
#[derive(Debug)]
pub(crate) struct CompileCache {
    root: PathBuf,
    folder: PathBuf,
    bytes_max: u64,
}

impl CompileCache {
    /// The part of `root` that belongs to this compiler and its settings.
    ///
    /// # Errors
    /// A folder that cannot be made, or that others may write to.
    pub(crate) fn open(root: &Path, engine: &Engine) -> Result<Self, RuntimeError> {
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let folder = root.join(&hexadecimal(&hasher.0.finalize())[..16]);
        make_private(&folder)
            .map_err(|error| RuntimeError::Cache { path: folder.clone(), reason: error.to_string() })?;
        let cache = Self { root: root.to_owned(), folder, bytes_max: COMPILE_CACHE_BYTES_MAX };
        cache.sweep();
        Ok(cache)
    }

    /// Loads the program, compiling it first unless that was done before.
    ///
    /// # Errors
    /// A component that cannot be compiled. A cache that cannot be written is no error: it costs time, next time.
    pub(crate) fn component(&self, engine: &Engine, id: &ProgramId, bytes: &[u8]) -> Result<Component, RuntimeError> {
        if let Some(component) = self.load(engine, id) {
            return Ok(component);
        }
        let artifact = engine.precompile_component(bytes).map_err(compile_error)?;
        let digest = hexadecimal(&Sha256::digest(&artifact));
        let kept =
            write_whole(&self.artifact(id), &artifact).and_then(|()| write_whole(&self.digest(id), digest.as_bytes()));
        match kept.ok().and_then(|()| self.load(engine, id)) {
            Some(component) => {
                self.trim();
                Ok(component)
            }
            None => compile::compile(engine, bytes),
        }
    }

    /// A place for native code that comes from elsewhere, until it is known to be good.
    ///
    /// # Errors
    /// A folder that cannot be written to.
    pub(crate) fn draft(&self, id: &ProgramId) -> Result<Draft, RuntimeError> {
        let path = draft_path(&self.artifact(id));
        match fs::File::create(&path) {
            Ok(file) => Ok(Draft { path, file, hasher: Sha256::new() }),
            Err(error) => Err(not_written(&path, &error)),
        }
    }

    /// Keeps a draft and what the program said of itself, and loads it.
    ///
    /// # Errors
    /// A folder that cannot be written to, or code that this engine does not take.
    pub(crate) fn keep(
        &self,
        engine: &Engine,
        id: &ProgramId,
        draft: Draft,
        about: &About,
    ) -> Result<Component, RuntimeError> {
        let digest = hexadecimal(&draft.hasher.clone().finalize());
        let artifact = self.artifact(id);
        let about = serde_json::to_vec(about).unwrap_or_default();
        fs::rename(&draft.path, &artifact)
            .and_then(|()| write_whole(&self.digest(id), digest.as_bytes()))
            .and_then(|()| write_whole(&self.about(id), &about))
            .map_err(|error| not_written(&artifact, &error))?;
        let kept = self.load(engine, id);
        self.trim();
        kept.ok_or_else(|| RuntimeError::Cache {
            path: artifact,
            reason: "what was just compiled is not what this version can run; is `isolation` the same executable?"
                .to_owned(),
        })
    }

    /// A program that was compiled, and described itself, before.
    pub(crate) fn described(&self, engine: &Engine, id: &ProgramId) -> Option<(Component, About, Description)> {
        let about: About = serde_json::from_slice(&fs::read(self.about(id)).ok()?).ok()?;
        let description = Description::parse(&about.description).ok()?;
        Some((self.load(engine, id)?, about, description))
    }

    fn load(&self, engine: &Engine, id: &ProgramId) -> Option<Component> {
        let expected = fs::read(self.digest(id)).ok()?;
        let artifact = self.artifact(id);
        let mut hasher = Sha256::new();
        let mut file = fs::File::open(&artifact).ok()?;
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            match file.read(&mut piece).ok()? {
                0 => break,
                read => hasher.update(&piece[..read]),
            }
        }
        if hexadecimal(&hasher.finalize()).as_bytes() != expected {
            return None;
        }
        // Mapped: its pages are shared, and paged in as they run.
        load_artifact(engine, &artifact)
    }

    /// Deletes the drafts of processes that were killed over them: those that nobody has written to for so long that no
    /// process can be at it. What cannot be deleted is left; it is only a cache.
    fn sweep(&self) {
        // The time by which files are dated, which may be another machine's.
        let probe = draft_path(&self.folder.join("now"));
        let now = fs::File::create(&probe).and_then(|file| file.metadata()?.modified());
        let _ = fs::remove_file(&probe);
        let Ok(now) = now else { return };
        let drafts = self.files().filter(|file| file.path().extension().is_some_and(|kind| kind == "tmp"));
        for draft in drafts {
            let written = draft.metadata().and_then(|about| about.modified());
            let age = written.ok().and_then(|written| now.duration_since(written).ok());
            if age.is_some_and(|age| age > DRAFT_AGE_MAX) {
                let _ = fs::remove_file(draft.path());
            }
        }
    }

    /// All files, those of other compilers too.
    fn files(&self) -> impl Iterator<Item = fs::DirEntry> + use<> {
        let folders = fs::read_dir(&self.root).into_iter().flatten().flatten();
        folders.flat_map(|folder| fs::read_dir(folder.path()).into_iter().flatten().flatten())
    }

    /// Deletes what was compiled first until the rest may stay. A program that is loaded keeps its code: the file is
    /// mapped. What cannot be deleted is left; it is only a cache.
    fn trim(&self) {
        let compiled = self.files().filter(|file| file.path().extension().is_some_and(|kind| kind == "cwasm"));
        let mut compiled: Vec<_> = compiled
            .filter_map(|file| file.metadata().ok().map(|about| (about.modified().ok(), about.len(), file.path())))
            .collect();
        let mut bytes: u64 = compiled.iter().map(|(_, bytes, _)| bytes).sum();
        compiled.sort_unstable();
        // The last one was written just now.
        compiled.pop();
        for (_, size, path) in compiled {
            if bytes <= self.bytes_max {
                break;
            }
            bytes -= size;
            // The description first: what it describes is then compiled again.
            for kind in ["json", "sha256", "cwasm"] {
                let _ = fs::remove_file(path.with_extension(kind));
            }
        }
    }

    fn artifact(&self, id: &ProgramId) -> PathBuf {
        self.folder.join(format!("{id}.cwasm"))
    }

    fn digest(&self, id: &ProgramId) -> PathBuf {
        self.folder.join(format!("{id}.sha256"))
    }

    fn about(&self, id: &ProgramId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}

/// What is kept beside a program's native code.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct About {
    /// What `describe` returned: read again, as a stranger's word, whenever it is loaded.
    pub(crate) description: String,
    /// Size of the component.
    pub(crate) size_bytes: usize,
}

/// Native code on its way into the cache; gone when dropped.
pub(crate) struct Draft {
    path: PathBuf,
    file: fs::File,
    hasher: Sha256,
}

impl Draft {
    /// Takes `length` bytes. False where there are fewer, or cannot be read.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn take(&mut self, from: &mut impl Read, length: u64) -> Result<bool, RuntimeError> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut missing = length;
        while missing > 0 {
            let most = usize::try_from(missing).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            let read = match from.read(&mut piece[..most]) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Ok(false),
            };
            self.hasher.update(&piece[..read]);
            self.file.write_all(&piece[..read]).map_err(|error| not_written(&self.path, &error))?;
            missing -= read as u64;
        }
        Ok(true)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Not there any more when it was kept.
        let _ = fs::remove_file(&self.path);
    }
}

fn not_written(path: &Path, error: &io::Error) -> RuntimeError {
    RuntimeError::Cache { path: path.to_owned(), reason: format!("it cannot be written: {error}") }
}

#[allow(unsafe_code, reason = "the one place where our own compiled components become code")]
fn load_artifact(engine: &Engine, path: &Path) -> Option<Component> {
    // SAFETY: wasmtime asks that the file is what its own compiler wrote and that nobody changes it while it is mapped.
    // It was written by `component` above, or taken by a `Draft` from a process that had run nothing but that compiler
    // (`isolation`), by this user, into a folder that nobody else may write to (`make_private`), is replaced only by
    // renaming another file over it, and was found whole by its digest. That it fits this engine, wasmtime checks
    // itself.
    unsafe { Component::deserialize_file(engine, path) }.ok()
}

/// Writes a file so that it is there whole or not at all.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let draft = draft_path(path);
    let written = fs::File::create(&draft).and_then(|mut file| file.write_all(content));
    let renamed = written.and_then(|()| fs::rename(&draft, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&draft);
    }
    renamed
}

/// A name of its own beside `path`, on the same file system.
fn draft_path(path: &Path) -> PathBuf {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    path.with_extension(format!("{}-{serial}.tmp", std::process::id()))
}

#[cfg(unix)]
fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let metadata = fs::metadata(folder)?;
    let refused = |reason: &str| Err(io::Error::new(io::ErrorKind::PermissionDenied, reason));
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return refused("it belongs to another user, and what is in it would be run; choose another folder");
    }
    if metadata.mode() & 0o022 != 0 {
        return refused("others may write to it, and what is in it would be run; `chmod go-w` it");
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_private(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

/// Feeds what is hashed to SHA-256, so that a key is the same in every process.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        // Unused: the whole digest is taken instead.
        0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn drafts_of_killed_processes_are_swept_at_the_next_start() {
        let root = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let folder = CompileCache::open(root.path(), &engine).unwrap().folder;
        let other = root.path().join("of another compiler");
        fs::create_dir(&other).unwrap();
        let file = |path: PathBuf, age: Duration| {
            fs::write(&path, b"x").unwrap();
            let time = fs::metadata(&path).unwrap().modified().unwrap() - age;
            fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            path
        };
        let old = DRAFT_AGE_MAX * 2;
        let swept = [file(folder.join("a.7-0.tmp"), old), file(other.join("b.7-1.tmp"), old)];
        let kept = [file(folder.join("c.7-2.tmp"), DRAFT_AGE_MAX / 2), file(folder.join("d.cwasm"), old)];
        CompileCache::open(root.path(), &engine).unwrap();
        assert!(swept.iter().all(|path| !path.exists()) && kept.iter().all(|path| path.exists()));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), kept.len(), "nothing of its own stays");
    }

    #[test]
    fn what_was_compiled_first_is_forgotten_first() {
        let root = tempfile::tempdir().unwrap();
        // Of this compiler and of one before it.
        let (old, new) = (root.path().join("old"), root.path().join("new"));
        let file = |folder: &Path, name: &str, second: u64| {
            for (kind, bytes) in [("cwasm", 100), ("sha256", 64), ("json", 10)] {
                let path = folder.join(name).with_extension(kind);
                fs::write(&path, vec![0; bytes]).unwrap();
                let time = UNIX_EPOCH + Duration::from_secs(second);
                fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
            }
        };
        for folder in [&old, &new] {
            fs::create_dir(folder).unwrap();
        }
        file(&new, "b", 2);
        file(&old, "a", 1);
        file(&new, "d", 4);
        file(&new, "c", 3);
        let left = |cache: &CompileCache| {
            cache.trim();
            let names = [&old, &new].into_iter().flat_map(|folder| fs::read_dir(folder).unwrap());
            let mut names: Vec<_> = names.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        let cache = |bytes_max| CompileCache { root: root.path().to_owned(), folder: new.clone(), bytes_max };
        assert_eq!(left(&cache(400)).len(), 12);
        let two = ["c.cwasm", "c.json", "c.sha256", "d.cwasm", "d.json", "d.sha256"];
        assert_eq!(left(&cache(250)), two);
        // The newest stays, however large.
        assert_eq!(left(&cache(0)), two[3..]);
    }
}
