//! Where the tests find the default model. Nothing here downloads: `sglhost model pull` does.

use std::{env, path::PathBuf};

const VARIABLE: &str = "SGLHOST_TEST_MODEL";
const IN_CACHE: &str = "models/smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf";

/// The default model's GGUF file: `SGLHOST_TEST_MODEL`, or where `sglhost model pull` puts it.
///
/// # Panics
/// If it is not there: a test of the real model must not pass without it.
#[must_use]
pub fn default_gguf() -> PathBuf {
    let path = env::var_os(VARIABLE).map_or_else(|| cache_folder().join(IN_CACHE), PathBuf::from);
    assert!(
        path.is_file(),
        "the tests need the default model, which is not at {}: run `sglhost model pull`, or let {VARIABLE} name the \
         GGUF file",
        path.display()
    );
    path
}

/// The folder that `sglhost` caches in.
fn cache_folder() -> PathBuf {
    let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("SGLHOST_CACHE").unwrap_or_else(|| {
        let caches = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")));
        caches.unwrap_or_else(env::temp_dir).join("sglhost")
    })
}
