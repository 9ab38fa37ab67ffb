//! Go: a module becomes a component by the machine's own `go`.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use super::encode::{World, encode};
use super::{BuildError, Built, Project, tools};
use crate::language::{Files, repository_files};

/// The first that makes libraries for WASI, and its minor number.
const OLDEST: u32 = 24;
/// How to get one.
const GO_MISSING: &str = "install Go 1.24 or newer (go.dev/dl)";

/// What `sglhost new` writes.
pub(crate) const TEMPLATE: Files = &[
    ("go.mod", include_str!("../../../../guest-sdk/go/template/go.mod.template")),
    ("program.go", include_str!("../../../../guest-sdk/go/template/program.go.template")),
    (".gitignore", include_str!("../../../../guest-sdk/go/template/gitignore.template")),
];

/// The SDK: a module, and how to write programs with it.
pub(crate) const SDK: Files = repository_files! { "guest-sdk/go/" =>
    "README.md" "go.mod" "argument.go" "doc.go" "error.go" "generate.go" "holding.go" "outcome.go" "program.go" "prompt.go"
    "run.go" "state.go" "stream.go" "internal/host/component_wasip1.go" "internal/host/exit_wasip1.go"
    "internal/host/host.go" "internal/host/imports_wasip1.go" "internal/host/memory_wasip1.go"
    "internal/host/memory_wasip1.s" "internal/host/place.go"
};

/// Calls `go build` in the folder. Its caches, proxies and flags are the user's own.
pub(super) fn build(project: &Project<'_>) -> Result<Built, BuildError> {
    check_version(project)?;
    let module = project.scratch.path().join("program.wasm");
    let mut command = go(project, "build");
    // A library that is called, not a program that runs once; and no path of this machine in it, nor a version of its
    // sources' repository. The SDK takes memory as Go's runtime does, which the linker must be told to allow.
    command.args(["-buildmode=c-shared", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -checklinkname=0"]);
    tools::run(command.arg("-o").arg(&module).arg("."), "go build", GO_MISSING)?;
    let module = fs::read(&module).map_err(BuildError::io(&module))?;
    Ok(Built { component: encode(&module, World::Contract)?, name: project.name.clone() })
}

fn go(project: &Project<'_>, subcommand: &str) -> Command {
    let mut command = Command::new("go");
    command.arg(subcommand).current_dir(project.folder).env("GOOS", "wasip1").env("GOARCH", "wasm");
    command
}

/// An old one says something that nobody can make sense of. What it says to a folder that asks for a newer one, which it
/// may have to fetch, is told as it is.
fn check_version(project: &Project<'_>) -> Result<(), BuildError> {
    let output = go(project, "env").arg("GOVERSION").stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let no_tool = |error: io::Error| BuildError::NoTool { program: "go".to_owned(), error, way_out: GO_MISSING };
    let output = output.map_err(no_tool)?;
    if !output.status.success() {
        return Err(BuildError::Tool("go env".to_owned()));
    }
    let version = String::from_utf8_lossy(&output.stdout);
    let version = version.trim();
    if is_old(version) {
        return Err(no_tool(io::Error::other(format!("{version} is too old"))));
    }
    Ok(())
}

/// A version that cannot be read is of somebody who knows.
fn is_old(version: &str) -> bool {
    let after = version.split_once("go1.").map_or("", |(_, after)| after);
    let minor = after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    minor.parse().is_ok_and(|minor: u32| minor < OLDEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_version_is_known() {
        for version in ["go1.23.12", "go1.9", "go1.23rc1", "devel go1.22-abcdef"] {
            assert!(is_old(version), "{version}");
        }
        for version in ["go1.24", "go1.24rc1", "go1.26.8", "go1.100.1", "devel go1.27-abcdef", "go2.0", ""] {
            assert!(!is_old(version), "{version}");
        }
    }
}
