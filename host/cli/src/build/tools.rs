//! Tools that build programs: fetched once, at a pinned version, with the package client of their language, into
//! `CACHE/tools/NAME-VERSION`. The client's own settings count (mirrors, proxies, certificates); nothing is installed
//! anywhere else.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::BuildError;
use crate::model::{Progress, total_bytes};
use crate::pip::{self, Pip};

/// Between two looks at how much has arrived.
const POLL: Duration = Duration::from_millis(100);
/// Written last: a tool without it is half a tool.
const WHOLE: &str = "whole";
/// Where a package client keeps what it has not unpacked yet.
const TEMPORARY: &str = "temporary";
/// How to get Node.js.
pub(super) const NODE_MISSING: &str =
    "install Node.js 20 or newer, which brings it (nodejs.org; Debian: apt install nodejs npm)";
/// How to get Python.
pub(super) const PYTHON_MISSING: &str = "install Python 3 with pip (Debian: apt install python3 python3-pip)";

/// The tools in a cache.
#[derive(Debug)]
pub(super) struct Tools {
    folder: PathBuf,
}

impl Tools {
    pub(super) fn new(cache: &Path) -> Self {
        Self { folder: cache.join("tools") }
    }

    /// A Python package at a version, without what it depends on: a folder for `PYTHONPATH`.
    ///
    /// # Errors
    /// There is no pip, or it cannot fetch the package.
    pub(super) fn python_package(&self, package: &str, version: &str) -> Result<PathBuf, BuildError> {
        self.fetch(package, version, |folder| {
            let failed = || BuildError::Fetch { what: format!("{package} {version}"), reason: pip::MISSING.to_owned() };
            let mut command = Pip::find().ok_or_else(failed)?.command();
            command.args(["install", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--no-input"]);
            command.args([
                "--progress-bar=off",
                "--retries=1",
                "--timeout=15",
                "--no-warn-script-location",
                "--target",
            ]);
            command.arg(folder).arg(format!("{package}=={version}"));
            Ok(command)
        })
    }

    /// A package of npm at a version, with what it depends on: a folder that holds `node_modules`.
    ///
    /// # Errors
    /// There is no npm, or it cannot fetch the package.
    pub(super) fn npm_package(&self, package: &str, version: &str) -> Result<PathBuf, BuildError> {
        self.fetch(package, version, |folder| {
            let mut command = Command::new("npm");
            command.args(["install", "--no-audit", "--no-fund", "--no-package-lock", "--no-save", "--loglevel=error"]);
            command.args(["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=15000"]);
            command.arg("--prefix").arg(folder).arg(format!("{package}@{version}"));
            Ok(command)
        })
    }

    /// The folder of a tool. Where it is not there, the command that `install` gives fills it.
    fn fetch(
        &self,
        name: &str,
        version: &str,
        install: impl FnOnce(&Path) -> Result<Command, BuildError>,
    ) -> Result<PathBuf, BuildError> {
        let folder = self.folder.join(format!("{name}-{version}"));
        let whole = folder.join(WHOLE);
        if whole.is_file() {
            return Ok(folder);
        }
        fs::create_dir_all(&self.folder).map_err(BuildError::io(&self.folder))?;
        // Who comes second waits here and finds the work done. The lock goes with the process.
        let lock_path = self.folder.join(format!("{name}-{version}.lock"));
        let lock = File::create(&lock_path).map_err(BuildError::io(&lock_path))?;
        lock.lock().map_err(BuildError::io(&lock_path))?;
        if whole.is_file() {
            return Ok(folder);
        }
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(BuildError::io(&folder)(error)),
            _ => {}
        }
        let temporary = folder.join(TEMPORARY);
        fs::create_dir_all(&temporary).map_err(BuildError::io(&temporary))?;
        let what = format!("{name} {version}");
        let mut command = install(&folder)?;
        command.env("TMPDIR", &temporary);
        watch(&what, &folder, &mut command)?;
        fs::remove_dir_all(&temporary).map_err(BuildError::io(&temporary))?;
        File::create(&whole).map_err(BuildError::io(&whole))?;
        Ok(folder)
    }
}

/// Runs a package client that fills `folder`, and shows how much has arrived.
fn watch(what: &str, folder: &Path, command: &mut Command) -> Result<(), BuildError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |reason: String| BuildError::Fetch { what: what.to_owned(), reason };
    let output_path = folder.join(TEMPORARY).join("output");
    let output = File::create(&output_path).map_err(BuildError::io(&output_path))?;
    let errors = output.try_clone().map_err(BuildError::io(&output_path))?;
    let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
    let mut child = child.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if program == "npm" => failed(format!("npm cannot be run; {NODE_MISSING}")),
        _ => failed(format!("{program}: {error}")),
    })?;
    let progress = Progress::growing(&format!("fetching {what} (once)"));
    let status = loop {
        match child.try_wait().map_err(|error| failed(format!("{program}: {error}")))? {
            Some(status) => break status,
            None => {
                progress.set(total_bytes(folder));
                std::thread::sleep(POLL);
            }
        }
    };
    drop(progress);
    if status.success() {
        return Ok(());
    }
    let output = fs::read_to_string(&output_path).unwrap_or_default();
    Err(failed(format!("`{program}` says:\n{}", pip::last_lines(&output))))
}

/// Python with a folder of packages. What it compiles is not written into the cache.
pub(super) fn python(packages: &Path) -> Command {
    let mut command = Command::new(if cfg!(windows) { "python" } else { "python3" });
    command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Runs a tool to its end. What it says, on either stream, goes to standard error.
///
/// # Errors
/// It is not there (`way_out` says how to get it), or it failed.
pub(super) fn run(command: &mut Command, tool: &str, way_out: &'static str) -> Result<(), BuildError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.stdin(Stdio::null()).stdout(io::stderr()).stderr(Stdio::inherit()).status();
    let status = status.map_err(|error| BuildError::NoTool { program, error, way_out })?;
    if status.success() { Ok(()) } else { Err(BuildError::Tool(tool.to_owned())) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_tool_is_fetched_once_and_half_a_tool_again() {
        let cache = tempfile::tempdir().unwrap();
        let tools = Tools::new(cache.path());
        let fetch = |script: &str| {
            tools.fetch("tool", "1", |folder| {
                let mut command = shell(script);
                command.current_dir(folder);
                Ok(command)
            })
        };
        let error = fetch("touch half; echo no network; exit 1").unwrap_err();
        assert_eq!(error.to_string(), "tool 1 cannot be fetched: `sh` says:\n  no network");
        let folder = fetch("touch tool").unwrap();
        assert!(folder.join("tool").is_file() && !folder.join("half").exists() && !folder.join(TEMPORARY).exists());
        assert_eq!(fetch("exit 1").unwrap(), folder, "fetched again");
    }

    #[test]
    fn what_fails_is_named() {
        assert!(run(&mut shell("exit 0"), "it", "").is_ok());
        assert_eq!(run(&mut shell("exit 3"), "it", "").unwrap_err().to_string(), "it failed; see above");
        let error = run(&mut Command::new("no_such_tool"), "it", "install it").unwrap_err().to_string();
        assert!(error.starts_with("no_such_tool cannot be run (") && error.ends_with("); install it"), "{error}");
    }
}
