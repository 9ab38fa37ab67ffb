//! C: a folder with a `program.c` becomes a component by `zig cc`, or by the clang that `SGLHOST_CC` names.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::encode::{World, encode};
use super::{BuildError, Built, Project, tools, zig};
use crate::language::{Files, repository_files};

/// Another compiler than the one that is fetched: a clang that has a C library for wasm32-wasi.
const COMPILER: &str = "SGLHOST_CC";
/// How to get one.
const COMPILER_MISSING: &str = "unset SGLHOST_CC to have a compiler fetched, or let it name a clang for wasm32-wasi";

/// What `sglhost new` writes.
pub(crate) const TEMPLATE: Files = &[
    ("program.c", include_str!("../../../../guest-sdk/c/template/program.c.template")),
    (".gitignore", include_str!("../../../../guest-sdk/c/template/gitignore.template")),
    // For editors and their language servers.
    ("compile_flags.txt", include_str!("../../../../guest-sdk/c/template/compile_flags.txt.template")),
];

/// The SDK: a header.
pub(crate) const SDK: Files = repository_files! { "guest-sdk/c/sglhost/" => "sglhost.h" };

/// Compiles all C files of the folder.
pub(super) fn build(project: &Project<'_>) -> Result<Built, BuildError> {
    let entries = fs::read_dir(project.folder).map_err(BuildError::io(project.folder))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut sources: Vec<PathBuf> = paths.filter(|path| path.extension() == Some(OsStr::new("c"))).collect();
    sources.sort();

    let mut command = match env::var_os(COMPILER).filter(|value| !value.is_empty()) {
        Some(compiler) => {
            let mut command = Command::new(compiler);
            command.arg("--target=wasm32-wasi");
            command
        }
        None => zig::cc(project)?,
    };
    let module = project.scratch.path().join("program.wasm");
    // A library that is called, not a program that runs once, with as much stack as the host gives.
    command
        .args(["-mexec-model=reactor", "-Oz", "-Wall", "-Wextra", "-s", "-Wl,-z,stack-size=1048576", "-I"])
        .arg(&project.sdk);
    // What is optimized has no `assert` for zig, unless it is told; an author's own `#define NDEBUG` still counts.
    command.arg("-UNDEBUG");
    // Sources by name, so that a message tells a line of `program.c` and no path of this machine.
    command.current_dir(project.folder).args(sources.iter().filter_map(|path| path.file_name()));
    // Nor is the SDK's, wherever it lies.
    command.arg(format!("-ffile-prefix-map={}/=", project.sdk.display()));
    tools::run(command.arg("-o").arg(&module), "the C compiler", COMPILER_MISSING)?;
    let module = fs::read(&module).map_err(BuildError::io(&module))?;
    Ok(Built { component: encode(&module, World::Contract)?, name: project.name.clone() })
}
