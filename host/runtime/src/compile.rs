//! From a component's bytes to native code.
//!
//! *Invariant*: only component binaries are compiled; what is native code already is never accepted from outside.
//!
//! *Not here*: how the code is kept between processes (`artifacts.rs`).

use sglhost_core::ProgramId;
use sglhost_core::limits::{self, RunLimits};
use sha2::{Digest as _, Sha256};
use wasmparser::Parser;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::error::RuntimeError;
use crate::shape;

/// Bytes that are hashed before others have their turn: about a millisecond's worth.
const HASHED_AT_ONCE_BYTES: usize = 1 << 20;

/// The id of a component: the digest of its content.
pub(crate) async fn program_id(bytes: &[u8]) -> ProgramId {
    let mut hasher = Sha256::new();
    for piece in bytes.chunks(HASHED_AT_ONCE_BYTES) {
        hasher.update(piece);
        tokio::task::yield_now().await;
    }
    ProgramId(hexadecimal(&hasher.finalize()).into())
}

/// The bytes as text, two digits each.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Tells whether the bytes are a component that may be compiled, and run within `limits`.
///
/// # Errors
/// Says what they are instead, and the way out.
pub(crate) fn inspect(bytes: &[u8], limits: &RunLimits) -> Result<(), RuntimeError> {
    inspect_head(bytes)?;
    shape::check(bytes, limits)
}

/// As [`inspect`], from the length and the first bytes alone.
///
/// # Errors
/// As [`inspect`].
pub(crate) fn inspect_head(bytes: &[u8]) -> Result<(), RuntimeError> {
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
    Ok(())
}

/// Compiles without keeping the result on disk.
///
/// # Errors
/// A component that cannot be compiled.
pub(crate) fn compile(engine: &Engine, bytes: &[u8]) -> Result<Component, RuntimeError> {
    Component::from_binary(engine, bytes).map_err(compile_error)
}

pub(crate) fn compile_error(error: wasmtime::Error) -> RuntimeError {
    // wasmtime has no type for its pool's limits, only words. How often components multiply is known when it is done.
    if error.chain().any(|cause| cause.to_string().contains("instance size does not fit in pooling allocator")) {
        let max = limits::INSTANCE_BYTES_MAX;
        return RuntimeError::DeclaresTooMuch(format!(
            "an instance of more than {max} bytes besides its memories and tables (INSTANCE_BYTES_MAX); make it of fewer \
             components, functions and globals"
        ));
    }
    RuntimeError::Compile(format!("{error:#}"))
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
            let message = inspect(bytes, &RunLimits::default()).err().map(|error| error.to_string());
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
}
