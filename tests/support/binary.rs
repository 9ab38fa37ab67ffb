//! The `sglhost` binary, built once per test process, and ways to call it.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use crate::model::default_gguf;

/// How a call of the binary ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ended {
    /// Standard output of a call that ended well.
    ///
    /// # Panics
    /// If it did not.
    #[must_use]
    #[track_caller]
    pub fn well(self) -> String {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stderr, self.stdout);
        self.stdout
    }
}

/// The binary of the same profile as the test that asks.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn binary() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // …/target/PROFILE/deps/e2e-1234
        let test = std::env::current_exe().expect("the test's own path");
        let profile = test.ancestors().nth(2).expect("the test lies in its profile's folder").to_owned();
        let mut cargo = Command::new(env!("CARGO"));
        // Of the whole workspace, whose features are those of the tests: else what depends on tokio is built twice.
        cargo.args(["build", "--quiet", "--workspace", "--bin", "sglhost"]).arg("--manifest-path");
        cargo.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"));
        cargo.arg("--target-dir").arg(profile.parent().expect("a profile's folder lies in the target folder"));
        if profile.file_name() == Some(OsStr::new("release")) {
            cargo.arg("--release");
        }
        assert!(cargo.status().expect("cargo runs").success(), "sglhost does not build");
        profile.join(format!("sglhost{}", std::env::consts::EXE_SUFFIX))
    })
}

/// A call of the binary: with the default model, and caches and settings that are the tests' own.
#[must_use]
pub fn sglhost<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(binary());
    command.args(arguments).stdin(Stdio::null());
    // What the user of this machine has set must not decide a test.
    for variable in ["HF_ENDPOINT", "HF_TOKEN", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"] {
        command.env_remove(variable);
    }
    command.env("SGLHOST_MODEL", default_gguf()).env("SGLHOST_CACHE", cache()).env("COLUMNS", "100");
    command.env("SGLHOST_DEVICE", "cpu");
    command
}

/// Where the tests' compiled programs are kept.
fn cache() -> PathBuf {
    let binary = binary();
    binary.parent().unwrap_or(binary).join("test-cache")
}

/// Waits for the call to end. Calls that compute come one after the other: two models on few cores slow each other down
/// many times over.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn run(command: &mut Command) -> Ended {
    let _turn = turn();
    let output = command.output().expect("the binary starts");
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The right to compute, for calls that a test waits for by itself.
pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The component of an example program, by `plugins/build.sh`.
///
/// # Panics
/// If it does not build.
#[must_use]
pub fn plugin(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    BUILT.get_or_init(|| {
        let output = Command::new("bash").arg(plugins.join("build.sh")).output().expect("bash runs");
        assert!(output.status.success(), "plugins/build.sh: {}", String::from_utf8_lossy(&output.stderr));
    });
    plugins.join("target/components").join(format!("{name}.wasm"))
}
