//! Builds guest crates for tests, once per process, with the toolchain that `guest-sdk/rust/wasm-toolchain.sh` finds.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::{env, fs};

const TARGET: &str = "wasm32-unknown-unknown";
const TOOLCHAIN: &str = "SGLHOST_GUEST_TOOLCHAIN";

/// The component that a guest crate compiles to. `crate_folder` is relative to the repository's root, `library` the name
/// of its library.
///
/// # Panics
/// If it cannot be built: a test of a guest must not pass without it.
#[must_use]
pub fn component(crate_folder: &str, library: &str) -> Vec<u8> {
    static BUILT: Mutex<Option<HashMap<PathBuf, Vec<u8>>>> = Mutex::new(None);
    let folder = root().join(crate_folder);
    // Held while building: tests that want the same guest wait for it, and cargo would make others wait anyway.
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let built = built.get_or_insert_default();
    built.entry(folder).or_insert_with_key(|folder| build(folder, library)).clone()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn build(folder: &Path, library: &str) -> Vec<u8> {
    let toolchain = toolchain();
    let program = |name: &str| Path::new(&toolchain).join("bin").join(name);
    // Beside the host's own artifacts, so that nothing is written into the sources.
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from).join("guests");
    let mut cargo = Command::new(program("cargo"));
    cargo.args(["build", "--release", "--quiet", "--target", TARGET, "--manifest-path"]).arg(folder.join("Cargo.toml"));
    cargo.arg("--target-dir").arg(&target).env("RUSTC", program("rustc"));
    cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", "wasm-component-ld");
    for inherited in ["RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER"] {
        cargo.env_remove(inherited);
    }
    let status = cargo.status().unwrap_or_else(|error| panic!("{}: {error}", program("cargo").display()));
    assert!(status.success(), "the guest in {} does not build", folder.display());
    let path = target.join(TARGET).join("release").join(format!("{library}.wasm"));
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folder of a toolchain that builds components: from the environment, or what the script finds.
///
/// # Panics
/// If there is none to be had.
#[must_use]
pub fn toolchain() -> String {
    if let Some(toolchain) = env::var(TOOLCHAIN).ok().filter(|value| !value.is_empty()) {
        return toolchain;
    }
    let script = root().join("guest-sdk/rust/wasm-toolchain.sh");
    let evaluate = format!("eval \"$('{}')\" && printf %s \"${TOOLCHAIN}\"", script.display());
    let output = Command::new("bash").arg("-c").arg(evaluate).output();
    let output = output.unwrap_or_else(|error| panic!("bash: {error}"));
    let toolchain = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!toolchain.is_empty(), "no wasm toolchain: {}", String::from_utf8_lossy(&output.stderr));
    toolchain
}
