//! `sglhost build`: a program's folder becomes a component, by the tools of its language.
//!
//! A file a language: what `sglhost new` writes (`TEMPLATE`), the SDK that goes with it (`SDK`), and `build`.
//!
//! ```text
//! Language::of(folder) ── the language's build(project) ── Built ── NAME.wasm
//!                         tools.rs: fetches what it takes, pinned, into the cache, with the language's package client
//!                         encode.rs: core module (C, Go, JavaScript) ── component
//! ```
//!
//! The user's own environment is never changed. What a tool says goes to standard error as it is.

pub(crate) mod c;
mod encode;
pub(crate) mod go;
pub(crate) mod js;
pub(crate) mod python;
pub(crate) mod rust;
mod tools;
mod zig;

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use sha2::{Digest, Sha256};

use crate::component::ComponentError;
use crate::language::{Language, SDK_FOLDER, write_files};
use rust::RustError;
use tools::Tools;

/// What to build, and with what.
#[derive(Clone, Debug)]
pub(crate) struct BuildOptions {
    /// The program's folder.
    pub(crate) folder: PathBuf,
    /// Where the component goes; none: `NAME.wasm` in the current folder.
    pub(crate) output: Option<PathBuf>,
    /// Cargo's profile.
    pub(crate) profile: String,
    /// A Rust toolchain's folder; none: the `cargo` on `PATH`.
    pub(crate) toolchain: Option<PathBuf>,
    /// The cache folder, in which tools are kept.
    pub(crate) cache: PathBuf,
}

impl BuildOptions {
    /// A release build with the toolchain that the environment names, if it does.
    pub(crate) fn new(folder: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Self {
        let toolchain = env::var_os(rust::TOOLCHAIN).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { folder: folder.into(), output: None, profile: "release".to_owned(), toolchain, cache: cache.into() }
    }
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum BuildError {
    /// The folder is something else.
    #[error("{0} holds no program, that is, none of {files}; `sglhost new NAME` starts one", files = Language::main_files())]
    NoProgram(PathBuf),
    /// What Rust says.
    #[error(transparent)]
    Rust(#[from] RustError),
    /// A tool that the machine must have is not there.
    #[error("{program} cannot be run ({error}); {way_out}")]
    NoTool {
        /// What was tried.
        program: String,
        /// Why it failed.
        error: io::Error,
        /// How to get it.
        way_out: &'static str,
    },
    /// A tool has said why on standard error.
    #[error("{0} failed; see above")]
    Tool(String),
    /// A tool could not be fetched.
    #[error("{what} cannot be fetched: {reason}")]
    Fetch {
        /// The tool and its version.
        what: String,
        /// What the package client said.
        reason: String,
    },
    /// A compiler left a module that is no program.
    #[error("what the compiler left cannot become a component of the contract: {0}")]
    Encode(String),
    /// What was built is no component.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
}

impl BuildError {
    /// For `map_err`.
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { path, error }
    }
}

/// What a language's `build` is given.
struct Project<'a> {
    /// Where the sources are.
    folder: &'a Path,
    /// The program's name, if its sources give it no other: its folder's.
    name: String,
    /// The SDK's folder.
    sdk: PathBuf,
    /// Fetches tools.
    tools: Tools,
    /// For files on the way; it goes when the build ends.
    scratch: tempfile::TempDir,
    /// Cargo's profile.
    profile: &'a str,
    /// A Rust toolchain's folder.
    toolchain: Option<&'a Path>,
}

/// What it gives back.
struct Built {
    name: String,
    component: Vec<u8>,
}

/// Builds the program in a folder, and returns the component's path.
///
/// Progress and messages go to standard error, and so does the component's path and size.
///
/// # Errors
/// The folder holds no program, a tool is missing or cannot be fetched, or the program does not compile.
pub(crate) fn build(options: &BuildOptions) -> Result<PathBuf, BuildError> {
    let folder = &options.folder;
    let language = Language::of(folder).ok_or_else(|| BuildError::NoProgram(folder.clone()))?;
    let absolute = fs::canonicalize(folder).map_err(BuildError::io(folder))?;
    let name = absolute.file_name().map_or_else(|| "program".into(), |name| name.to_string_lossy().into_owned());
    let project = Project {
        folder: &absolute,
        name,
        sdk: sdk_of(&absolute, language, &options.cache)?,
        tools: Tools::new(&options.cache),
        scratch: tempfile::tempdir().map_err(BuildError::io(&env::temp_dir()))?,
        profile: &options.profile,
        toolchain: options.toolchain.as_deref(),
    };
    let built = match language {
        Language::Rust => rust::build(&project)?,
        Language::Python => python::build(&project)?,
        Language::C => c::build(&project)?,
        Language::Js => js::build_js(&project)?,
        Language::Ts => js::build_ts(&project)?,
        Language::Go => go::build(&project)?,
    };
    let output = options.output.clone().unwrap_or_else(|| PathBuf::from(format!("{}.wasm", built.name)));
    fs::write(&output, &built.component).map_err(BuildError::io(&output))?;
    eprintln!("{}: {} KB", output.display(), built.component.len().div_ceil(1000));
    Ok(output)
}

/// The SDK's folder: the project's own, or, where it has none, that of this binary, unpacked into the cache.
fn sdk_of(folder: &Path, language: Language, cache: &Path) -> Result<PathBuf, BuildError> {
    let own = folder.join(SDK_FOLDER);
    // A crate's or a module's manifest says itself where its SDK is.
    if own.is_dir() || matches!(language, Language::Rust | Language::Go) {
        return Ok(own);
    }
    let mut digest = Sha256::new();
    for (path, text) in language.sdk() {
        digest.update(path);
        digest.update([0]);
        digest.update(text);
    }
    let digest: String = digest.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    let unpacked = cache.join("sdk").join(format!("{language}-{digest}"));
    if !unpacked.is_dir() {
        let parent = unpacked.parent().unwrap_or(cache);
        fs::create_dir_all(parent).map_err(BuildError::io(parent))?;
        // Renamed when it is whole. Who comes second finds the same there.
        let staging = tempfile::tempdir_in(parent).map_err(BuildError::io(parent))?;
        let whole = staging.path().join("sdk");
        write_files(&whole, language.sdk(), |text| text.to_owned())
            .map_err(|(path, error)| BuildError::Io { path, error })?;
        match fs::rename(&whole, &unpacked) {
            Err(_) if unpacked.is_dir() => {}
            moved => moved.map_err(BuildError::io(&unpacked))?,
        }
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_folder_without_a_program_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = build(&BuildOptions::new(folder.path(), folder.path().join("cache"))).unwrap_err();
        assert!(matches!(&error, BuildError::NoProgram(path) if path == folder.path()), "{error}");
        assert!(error.to_string().contains("Cargo.toml"), "{error}");
    }
}
