//! A C compiler for WebAssembly with its C library: clang, as the Python package `ziglang` brings it.

use std::path::PathBuf;
use std::process::Command;

use super::{BuildError, Project, tools};

const PACKAGE: (&str, &str) = ("ziglang", "0.16.0");

/// `zig cc` for wasm32-wasi, to be given sources and `-o`. What it compiles of its own libraries, once, is kept with it.
///
/// # Errors
/// It cannot be fetched.
pub(super) fn cc(project: &Project<'_>) -> Result<Command, BuildError> {
    let (package, version) = PACKAGE;
    let packages: PathBuf = project.tools.python_package(package, version)?;
    let mut command = tools::python(&packages);
    command.args(["-m", package, "cc", "-target", "wasm32-wasi"]);
    command.env("ZIG_GLOBAL_CACHE_DIR", packages.join("compiled"));
    command.env("ZIG_LOCAL_CACHE_DIR", project.scratch.path().join("zig"));
    Ok(command)
}
