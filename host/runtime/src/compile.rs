//! From a component's bytes to native code, kept on disk between processes.
//!
//! # Invariants
//! - Only component binaries are compiled; what is native code already is never accepted from outside.
//! - What is loaded from disk was compiled by a process of this user from exactly this content, by exactly this version
//!   and configuration of the compiler, and is whole: its digest stands beside it.

use std::hash::{Hash as _, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fs, io};

use sglhost_core::{ProgramId, limits};
use sha2::{Digest, Sha256};
use wasmparser::{Encoding, Parser, Payload};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::error::RuntimeError;

/// The id of a component: the digest of its content.
pub(crate) fn program_id(bytes: &[u8]) -> ProgramId {
    ProgramId(hexadecimal(&Sha256::digest(bytes)).into())
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Tells whether the bytes are a component that may be compiled.
///
/// # Errors
/// Says what they are instead, and the way out.
pub(crate) fn inspect(bytes: &[u8]) -> Result<(), RuntimeError> {
    let other = |what: &str| Err(RuntimeError::NotAComponent(what.to_owned()));
    let max = limits::COMPONENT_BYTES_MAX;
    if bytes.len() > max {
        return Err(RuntimeError::TooLarge { bytes: bytes.len(), max });
    }
    if bytes.is_empty() {
        return other("it is empty");
    }
    if bytes.starts_with(b"\x7fELF") {
        return other("it is native code; compiled artifacts are not accepted, give the .wasm it was compiled from");
    }
    if !bytes.starts_with(b"\0asm") {
        let text = bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|&byte| byte == b'(');
        return other(if text {
            "it is WebAssembly text; assemble it first, with `wasm-tools parse`"
        } else {
            "it does not begin like WebAssembly"
        });
    }
    if Parser::is_core_wasm(bytes) {
        return other(
            "it is a core module; make a component of it, with `sglhost build` or `wasm-tools component new`",
        );
    }
    if !Parser::is_component(bytes) {
        return other("it is WebAssembly of a version that is not known here");
    }
    is_one_component(bytes)
}

/// A component that holds others with code could call from one into the other, each call a stack of its own, taken from
/// those of other runs. Toolchains make none; components without code, which they use to shape exports, are fine.
fn is_one_component(bytes: &[u8]) -> Result<(), RuntimeError> {
    let mut open = Vec::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| RuntimeError::Compile(error.to_string()))? {
            Payload::Version { encoding: Encoding::Module, .. } if open.len() > 1 => {
                let reason = "it is composed of several components with code; programs are one component";
                return Err(RuntimeError::NotAComponent(reason.to_owned()));
            }
            Payload::Version { encoding, .. } => open.push(encoding),
            Payload::End(_) => {
                open.pop();
            }
            _ => {}
        }
    }
    Ok(())
}

/// Compiled programs on disk.
#[derive(Debug)]
pub(crate) struct CompileCache {
    folder: PathBuf,
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
        Ok(Self { folder })
    }

    /// Loads the program, compiling it first unless that was done before.
    ///
    /// # Errors
    /// A component that cannot be compiled. A cache that cannot be written is no error: it costs time, next time.
    pub(crate) fn component(&self, engine: &Engine, id: &ProgramId, bytes: &[u8]) -> Result<Component, RuntimeError> {
        let paths = [self.folder.join(format!("{id}.cwasm")), self.folder.join(format!("{id}.sha256"))];
        if let Some(component) = self.load(engine, &paths) {
            return Ok(component);
        }
        let artifact = engine.precompile_component(bytes).map_err(compile_error)?;
        let digest = hexadecimal(&Sha256::digest(&artifact));
        let [artifact_path, digest_path] = &paths;
        let kept = write_whole(artifact_path, &artifact).and_then(|()| write_whole(digest_path, digest.as_bytes()));
        match kept.ok().and_then(|()| self.load(engine, &paths)) {
            Some(component) => Ok(component),
            None => Component::from_binary(engine, bytes).map_err(compile_error),
        }
    }

    fn load(&self, engine: &Engine, [artifact, digest]: &[PathBuf; 2]) -> Option<Component> {
        let expected = fs::read(digest).ok()?;
        let content = fs::read(artifact).ok()?;
        if hexadecimal(&Sha256::digest(&content)).as_bytes() != expected {
            return None;
        }
        // Mapped rather than copied from `content`: its pages are then shared and paged in as they run.
        load_artifact(engine, artifact)
    }
}

/// Compiles without keeping the result on disk.
///
/// # Errors
/// A component that cannot be compiled.
pub(crate) fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, RuntimeError> {
    Component::from_binary(engine, bytes).map_err(compile_error)
}

fn compile_error(error: wasmtime::Error) -> RuntimeError {
    RuntimeError::Compile(format!("{error:#}"))
}

#[allow(unsafe_code, reason = "the one place where our own compiled components become code")]
fn load_artifact(engine: &Engine, path: &Path) -> Option<Component> {
    // SAFETY: wasmtime asks that the file is what its own compiler wrote and that nobody changes it while it is mapped.
    // It was written by `component` above, by this user, into a folder that nobody else may write to (`make_private`),
    // is replaced only by renaming another file over it, and was found whole by its digest. That it fits this engine,
    // wasmtime checks itself.
    unsafe { Component::deserialize_file(engine, path) }.ok()
}

/// Writes a file so that it is there whole or not at all.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    static SERIAL: AtomicU64 = AtomicU64::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_extension(format!("{}-{serial}.tmp", std::process::id()));
    let written = fs::File::create(&draft).and_then(|mut file| file.write_all(content));
    let renamed = written.and_then(|()| fs::rename(&draft, path));
    if renamed.is_err() {
        let _ = fs::remove_file(&draft);
    }
    renamed
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

    use super::*;

    const CORE: &[u8] = b"\0asm\x01\0\0\0";
    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn only_component_binaries_are_accepted() {
        let check = |bytes: &[u8], expect: Option<&str>| {
            let message = inspect(bytes).err().map(|error| error.to_string());
            match expect {
                None => assert_eq!(message, None),
                Some(expect) => assert!(message.as_ref().is_some_and(|text| text.contains(expect)), "{message:?}"),
            }
        };
        check(COMPONENT, None);
        check(b"", Some("it is empty"));
        check(b"\x7fELF rest", Some("compiled artifacts are not accepted"));
        check(b"\n (component)", Some("it is WebAssembly text"));
        check(b"PK\x03\x04", Some("does not begin like WebAssembly"));
        check(CORE, Some("it is a core module"));
        check(b"\0asm\x0d\0\x02\0", Some("of a version that is not known here"));
    }

    #[test]
    fn components_within_components_hold_no_code() {
        // Section 4 of a component is a component, section 1 a core module.
        let nested = |inner: &[u8], section: u8| {
            let mut outer = COMPONENT.to_vec();
            outer.extend([section, u8::try_from(inner.len()).unwrap()]);
            outer.extend(inner);
            outer
        };
        assert!(inspect(&nested(CORE, 1)).is_ok());
        assert!(inspect(&nested(COMPONENT, 4)).is_ok());
        let error = inspect(&nested(&nested(CORE, 1), 4)).unwrap_err();
        assert!(error.to_string().contains("composed of several components"), "{error}");
    }
}
