//! A core module becomes a component of the contract: for languages whose compilers leave core modules.

use std::fmt::Display;

use wasi_preview1_component_adapter_provider as wasi_adapter;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve, SourceMap, WorldId};

use super::BuildError;
use crate::language::CONTRACT;

/// What a module is made for.
#[derive(Clone, Copy, Debug)]
pub(super) enum World<'a> {
    /// The contract's own. What it imports of WASI 0.1 is adapted.
    Contract,
    /// One that includes the contract's, in a package of this text, and imports nothing of WASI 0.1.
    Own(&'a str),
}

/// The component of a core module.
///
/// # Errors
/// It imports or exports what its world does not have.
pub(super) fn encode(module: &[u8], world: World<'_>) -> Result<Vec<u8>, BuildError> {
    let mut resolve = Resolve::default();
    let selected = select(&mut resolve, world)?;
    let mut module = module.to_owned();
    embed_component_metadata(&mut module, &resolve, selected, StringEncoding::UTF8).map_err(failed)?;
    let mut encoder = ComponentEncoder::default().validate(true).module(&module).map_err(failed)?;
    if let World::Contract = world {
        let (name, adapter) =
            (wasi_adapter::WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, wasi_adapter::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER);
        encoder = encoder.adapter(name, adapter).map_err(failed)?;
    }
    encoder.encode().map_err(failed)
}

fn select(resolve: &mut Resolve, world: World<'_>) -> Result<WorldId, BuildError> {
    let mut files = SourceMap::default();
    for (path, text) in CONTRACT {
        files.push_str(path, *text);
    }
    let contract = push(resolve, files)?;
    let World::Own(text) = world else { return resolve.select_world(&[contract], Some("program")).map_err(failed) };
    let mut files = SourceMap::default();
    files.push_str("world.wit", text);
    let own = push(resolve, files)?;
    resolve.select_world(&[own], None).map_err(failed)
}

fn push(resolve: &mut Resolve, files: SourceMap) -> Result<PackageId, BuildError> {
    let group = files.parse().map_err(|(files, error)| failed(error.render(&files)))?;
    resolve.push_group(group).map_err(failed)
}

/// With all its causes, where it has some.
fn failed(error: impl Display) -> BuildError {
    let error = format!("{error:#}");
    let no_program = error.contains("`run-program`") || error.contains("`describe`");
    let hint = if no_program { "it makes no program with the SDK; " } else { "" };
    BuildError::Encode(format!("{hint}{error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A module that exports what the contract wants, and traps.
    fn module(import: &str) -> Vec<u8> {
        let text = format!(
            r#"(module {import}
                (memory (export "memory") 1)
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export "describe") (result i32) unreachable)
                (func (export "run-program") (param i32 i32) (result i32) unreachable))"#
        );
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn a_module_becomes_a_component() {
        const PREVIEW_1: &str =
            r#"(import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))"#;
        const OWN: &str =
            "package a:b; world c { include sgl:program/program@0.1.0; import d: interface { e: func(); } }";

        let component = [0, b'a', b's', b'm', 0x0d];
        assert!(encode(&module(""), World::Contract).unwrap().starts_with(&component));
        assert!(encode(&module(PREVIEW_1), World::Contract).unwrap().starts_with(&component));
        let imports = r#"(import "d" "e" (func))"#;
        assert!(encode(&module(imports), World::Own(OWN)).unwrap().starts_with(&component));
        let error = encode(&module(imports), World::Contract).unwrap_err().to_string();
        assert!(error.contains("component") && error.contains('d'), "{error}");
        assert!(encode(&module(PREVIEW_1), World::Own(OWN)).is_err());
        assert!(encode(b"no module", World::Contract).is_err());
    }
}
