//! A program's file: read, and told from what is often mistaken for a component.

use std::{fs, io, path::Path};

use sglhost_core::limits::COMPONENT_BYTES_MAX;

/// The first bytes of WebAssembly in its binary form.
const MAGIC: &[u8] = b"\0asm";
/// Version and layer of a core module.
const MODULE: &[u8] = &[1, 0, 0, 0];
/// Version and layer of a component.
const COMPONENT: &[u8] = &[0x0d, 0, 1, 0];

/// A file is not a component.
#[derive(Debug, thiserror::Error)]
#[error("{path} {problem}")]
pub(crate) struct ComponentError {
    path: String,
    problem: Problem,
}

/// What it is instead.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("does not exist")]
    Missing,
    #[error("is a folder; `sglhost build` builds the program in it into a component")]
    Folder,
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("is empty, not a WebAssembly component")]
    Empty,
    #[error("has {0} bytes, more than the {COMPONENT_BYTES_MAX} that a component may have")]
    TooLarge(u64),
    #[error(
        "is a core WebAssembly module, not a component; `sglhost build` makes components, `wasm-tools component new` \
         turns a module that follows the contract into one"
    )]
    CoreModule,
    #[error("is WebAssembly text; a component is binary (`wasm-tools parse` converts it)")]
    Text,
    #[error("is WebAssembly of an unknown version {0:02x?}; it is neither a component nor a core module")]
    UnknownVersion([u8; 4]),
    #[error("is no WebAssembly: it does not begin with its mark, \\0asm")]
    Other,
}

/// Reads a component's bytes.
///
/// # Errors
/// There is no such file, or it is something else; the message says what.
pub(crate) fn read_component(path: &Path) -> Result<Vec<u8>, ComponentError> {
    let problem = |problem| ComponentError { path: path.display().to_string(), problem };
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => problem(Problem::Missing),
        _ => problem(Problem::Unreadable(error)),
    })?;
    if metadata.is_dir() {
        return Err(problem(Problem::Folder));
    }
    if metadata.len() > COMPONENT_BYTES_MAX as u64 {
        return Err(problem(Problem::TooLarge(metadata.len())));
    }
    let bytes = fs::read(path).map_err(|error| problem(Problem::Unreadable(error)))?;
    match classify(&bytes) {
        None => Ok(bytes),
        Some(found) => Err(problem(found)),
    }
}

/// What is wrong with a component's first bytes, if anything.
fn classify(bytes: &[u8]) -> Option<Problem> {
    if bytes.is_empty() {
        return Some(Problem::Empty);
    }
    let Some(version) = bytes.strip_prefix(MAGIC) else {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(64)]);
        let start = text.trim_start();
        let is_text = start.starts_with("(component") || start.starts_with("(module");
        return Some(if is_text { Problem::Text } else { Problem::Other });
    };
    match version.get(..4) {
        Some(COMPONENT) => None,
        Some(MODULE) => Some(Problem::CoreModule),
        Some(other) => Some(Problem::UnknownVersion([other[0], other[1], other[2], other[3]])),
        None => Some(Problem::Other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mistaken_for_a_component_is_named() {
        let check = |bytes: &[u8], expect: &str| {
            let found = classify(bytes).map_or_else(String::new, |problem| problem.to_string());
            assert!(found.starts_with(expect) && found.is_empty() == expect.is_empty(), "{bytes:?}: {found}");
        };
        check(b"\0asm\x0d\0\x01\0rest", "");
        check(b"\0asm\x01\0\0\0", "is a core WebAssembly module");
        check(b"\0asm\x02\0\0\0", "is WebAssembly of an unknown version [02, 00, 00, 00]");
        check(b"", "is empty");
        check(b"\n (component)", "is WebAssembly text");
        check(b"(module)", "is WebAssembly text");
        check(b"#!/bin/sh", "is no WebAssembly");
        check(b"\0as", "is no WebAssembly");
        check(b"\0asm\x0d", "is no WebAssembly");
    }
}
