//! `sglhost build`: a guest's crate becomes a component, by the user's own Rust toolchain.
//!
//! Owns: which toolchain, target and linker are used, and the messages for where one is missing. It runs `cargo` as the
//! user would and keeps no settings of its own: optimization and features are the crate's `Cargo.toml`'s.
//!
//! *Not here*: how a toolchain for WebAssembly comes to be where rustup cannot help. Whatever made one
//! (`guest-sdk/rust/wasm-toolchain.sh` does) hands it over in `SGLHOST_GUEST_TOOLCHAIN`.

use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use serde_json::Value;

use crate::component::{self, ComponentError};

/// A Rust toolchain's folder, the one that holds `bin/cargo`, to be used instead of the `cargo` on `PATH`.
const TOOLCHAIN: &str = "SGLHOST_GUEST_TOOLCHAIN";
/// The preferred target: its programs import the contract and nothing else but standard output and error.
const PREFERRED_TARGET: &str = "wasm32-unknown-unknown";
/// The other one, whose standard library has files, clocks and sockets of WASI.
const WASI_TARGET: &str = "wasm32-wasip2";
/// Makes a component of what the compiler leaves. Comes with rustup's toolchains.
const COMPONENT_LINKER: &str = "wasm-component-ld";

/// What to build, and with what.
#[derive(Clone, Debug)]
pub(crate) struct BuildOptions {
    /// The crate's folder.
    pub(crate) folder: PathBuf,
    /// Where the component goes; none: `NAME.wasm` in the current folder.
    pub(crate) output: Option<PathBuf>,
    /// Cargo's profile.
    pub(crate) profile: String,
    /// A toolchain's folder; none: the `cargo` on `PATH`.
    pub(crate) toolchain: Option<PathBuf>,
}

impl BuildOptions {
    /// A release build with the toolchain that the environment names, if it does.
    pub(crate) fn new(folder: impl Into<PathBuf>) -> Self {
        let toolchain = env::var_os(TOOLCHAIN).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { folder: folder.into(), output: None, profile: "release".to_owned(), toolchain }
    }
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum BuildError {
    /// The folder is something else.
    #[error("{0} holds no Cargo.toml; `sglhost new NAME` starts a program")]
    NoCrate(PathBuf),
    /// The crate cannot become a component.
    #[error("{0} is no cdylib; add to its Cargo.toml:\n\n    [lib]\n    crate-type = [\"cdylib\"]\n")]
    NoCdylib(PathBuf),
    /// A workspace's root without a package.
    #[error("{0} is a workspace without a package of its own; name the folder of one of its members")]
    NoPackage(PathBuf),
    /// There is no Rust.
    #[error("{program} cannot be run ({error}); install Rust with rustup, or set {TOOLCHAIN} to a toolchain's folder")]
    NoCargo {
        /// What was tried.
        program: PathBuf,
        /// Why it failed.
        error: io::Error,
    },
    /// Rust is there, its WebAssembly target is not.
    #[error(
        "the Rust toolchain cannot build WebAssembly: run `rustup target add {PREFERRED_TARGET}`, or set {TOOLCHAIN} \
         to the folder of a toolchain that can"
    )]
    NoTarget,
    /// The target is there, the linker that makes components is not.
    #[error("the Rust toolchain has no {COMPONENT_LINKER}: run `cargo install {COMPONENT_LINKER}`")]
    NoLinker,
    /// Cargo has said why on standard error.
    #[error("cargo failed; see above")]
    Cargo,
    /// Cargo answered something unexpected.
    #[error("cargo's answer was not understood: {0}")]
    Answer(String),
    /// What was built is no component.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// A file could not be written.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
}

/// Builds the crate in a folder, and returns the component's path.
///
/// Cargo's progress and its messages go to standard error, and so does the component's path and size.
///
/// # Errors
/// The folder is no crate of type `cdylib`, the toolchain lacks what it takes, or the crate does not compile.
pub(crate) fn build(options: &BuildOptions) -> Result<PathBuf, BuildError> {
    let manifest = options.folder.join("Cargo.toml");
    if !manifest.is_file() {
        return Err(BuildError::NoCrate(options.folder.clone()));
    }
    let toolchain = Toolchain::find(options.toolchain.as_deref())?;
    let name = toolchain.library(&options.folder, &manifest)?;
    let built = toolchain.compile(&manifest, &name, &options.profile)?;
    let bytes = component::read_component(&built)?;

    let output = options.output.clone().unwrap_or_else(|| PathBuf::from(format!("{name}.wasm")));
    fs::write(&output, &bytes).map_err(|error| BuildError::Io { path: output.clone(), error })?;
    eprintln!("{}: {} KB", output.display(), bytes.len().div_ceil(1000));
    Ok(output)
}

/// A Rust toolchain that can build components.
#[derive(Debug)]
struct Toolchain {
    /// The folder that was asked for, if one was.
    folder: Option<PathBuf>,
    target: &'static str,
}

impl Toolchain {
    fn find(folder: Option<&Path>) -> Result<Self, BuildError> {
        let mut toolchain = Self { folder: folder.map(Path::to_owned), target: PREFERRED_TARGET };
        let available = [PREFERRED_TARGET, WASI_TARGET].into_iter().find_map(|target| {
            let libraries = toolchain.ask_rustc(&["--print", "target-libdir", "--target", target]);
            match libraries {
                Ok(libraries) => has_standard_library(Path::new(&libraries)).then_some(Ok(target)),
                Err(error) => Some(Err(error)),
            }
        });
        toolchain.target = available.unwrap_or(Err(BuildError::NoTarget))?;
        if toolchain.target == PREFERRED_TARGET && !toolchain.has_component_linker()? {
            return Err(BuildError::NoLinker);
        }
        Ok(toolchain)
    }

    fn program(&self, name: &str) -> PathBuf {
        match &self.folder {
            Some(folder) => folder.join("bin").join(format!("{name}{}", env::consts::EXE_SUFFIX)),
            None => PathBuf::from(name),
        }
    }

    fn cargo(&self) -> Command {
        let mut cargo = Command::new(self.program("cargo"));
        if self.folder.is_some() {
            // Otherwise cargo would look for `rustc` on PATH and find another toolchain's.
            cargo.env("RUSTC", self.program("rustc")).env_remove("RUSTUP_TOOLCHAIN");
        }
        let linker = format!("CARGO_TARGET_{}_LINKER", PREFERRED_TARGET.replace('-', "_").to_uppercase());
        if env::var_os(&linker).is_none() {
            cargo.env(linker, COMPONENT_LINKER);
        }
        cargo
    }

    fn ask_rustc(&self, arguments: &[&str]) -> Result<String, BuildError> {
        let program = self.program("rustc");
        let output = Command::new(&program).args(arguments).output();
        let output = output.map_err(|error| BuildError::NoCargo { program, error })?;
        if !output.status.success() {
            return Err(BuildError::Answer(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Whether the linker is where rustc looks for it: beside its own tools, or on `PATH`.
    fn has_component_linker(&self) -> Result<bool, BuildError> {
        let host_libraries = PathBuf::from(self.ask_rustc(&["--print", "target-libdir"])?);
        let name = format!("{COMPONENT_LINKER}{}", env::consts::EXE_SUFFIX);
        let own = host_libraries.parent().map(|host| host.join("bin").join(&name));
        let path = env::var_os("PATH").unwrap_or_default();
        Ok(own.is_some_and(|own| own.is_file()) || env::split_paths(&path).any(|folder| folder.join(&name).is_file()))
    }

    /// The name of the crate's library, which must be a `cdylib`.
    fn library(&self, folder: &Path, manifest: &Path) -> Result<String, BuildError> {
        let mut cargo = self.cargo();
        cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
        let output = cargo.stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| BuildError::NoCargo { program: self.program("cargo"), error })?;
        if !output.status.success() {
            return Err(BuildError::Cargo);
        }
        let metadata = serde_json::from_slice(&output.stdout).map_err(|error| BuildError::Answer(error.to_string()))?;
        let manifest = fs::canonicalize(manifest).map_err(|error| BuildError::Io { path: manifest.into(), error })?;
        match library_of(&metadata, &manifest) {
            Some(Some(name)) => Ok(name),
            Some(None) => Err(BuildError::NoCdylib(folder.to_owned())),
            None => Err(BuildError::NoPackage(folder.to_owned())),
        }
    }

    /// Compiles the library called `name`, and returns the file that cargo left.
    fn compile(&self, manifest: &Path, name: &str, profile: &str) -> Result<PathBuf, BuildError> {
        let mut cargo = self.cargo();
        cargo.args(["build", "--lib", "--profile", profile, "--target", self.target, "--manifest-path"]).arg(manifest);
        // Artifacts come as JSON, diagnostics and progress as usual.
        cargo.args(["--message-format", "json-render-diagnostics"]).stdout(Stdio::piped());
        let mut child = cargo.spawn().map_err(|error| BuildError::NoCargo { program: self.program("cargo"), error })?;
        let mut built = None;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                let line = line.map_err(|error| BuildError::Answer(error.to_string()))?;
                built = artifact_of(&line, name).or(built);
            }
        }
        let status = child.wait().map_err(|error| BuildError::Answer(error.to_string()))?;
        if !status.success() {
            return Err(BuildError::Cargo);
        }
        built.ok_or_else(|| BuildError::Answer(format!("no .wasm file of {name} was left")))
    }
}

fn has_standard_library(libraries: &Path) -> bool {
    let Ok(entries) = fs::read_dir(libraries) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        name.to_string_lossy().starts_with("libstd-")
    })
}

/// Of `cargo metadata`: the package of this manifest, and of that the name of its `cdylib`, if it has one.
fn library_of(metadata: &Value, manifest: &Path) -> Option<Option<String>> {
    let is_it = |package: &&Value| {
        let path = package["manifest_path"].as_str().map(Path::new);
        path.is_some_and(|path| path == manifest || fs::canonicalize(path).is_ok_and(|path| path == manifest))
    };
    let package = metadata["packages"].as_array()?.iter().find(is_it)?;
    let is_cdylib = |target: &&Value| {
        target["crate_types"].as_array().is_some_and(|types| types.iter().any(|kind| kind == "cdylib"))
    };
    let target = package["targets"].as_array().and_then(|targets| targets.iter().find(is_cdylib));
    Some(target.and_then(|target| target["name"].as_str()).map(str::to_owned))
}

/// The `.wasm` file that a line of cargo's messages tells of, if it is about the library called `name`.
fn artifact_of(line: &str, name: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(line).ok()?;
    if message["reason"] != "compiler-artifact" || message["target"]["name"] != name {
        return None;
    }
    let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    files.map(PathBuf::from).find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::json;

    #[test]
    fn the_cdylib_of_the_manifest_is_found() {
        let package = |manifest: &str, kind: &str| {
            json!({
                "manifest_path": manifest,
                "targets": [{ "name": "demo", "crate_types": [kind] }, { "name": "test", "crate_types": ["bin"] }],
            })
        };
        let check = |packages: Value, expect: Option<Option<&str>>| {
            let found = library_of(&json!({ "packages": packages }), Path::new("/a/Cargo.toml"));
            assert_eq!(found, expect.map(|name| name.map(str::to_owned)));
        };
        check(json!([package("/a/Cargo.toml", "cdylib")]), Some(Some("demo")));
        check(json!([package("/b/Cargo.toml", "cdylib"), package("/a/Cargo.toml", "lib")]), Some(None));
        check(json!([package("/b/Cargo.toml", "cdylib")]), None);
    }

    #[test]
    fn the_component_is_found_among_cargos_messages() {
        let line = |reason: &str, name: &str, file: &str| {
            json!({ "reason": reason, "target": { "name": name }, "filenames": ["/t/x.d", file] }).to_string()
        };
        let check = |line: &str, expect: Option<&str>| assert_eq!(artifact_of(line, "demo"), expect.map(PathBuf::from));
        check(&line("compiler-artifact", "demo", "/t/demo.wasm"), Some("/t/demo.wasm"));
        check(&line("compiler-artifact", "other", "/t/other.wasm"), None);
        check(&line("compiler-artifact", "demo", "/t/libdemo.rlib"), None);
        check(&line("build-finished", "demo", "/t/demo.wasm"), None);
        check("no JSON", None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let options = BuildOptions { toolchain: None, ..BuildOptions::new(folder.path()) };
        let error = build(&options).unwrap_err();
        assert!(matches!(&error, BuildError::NoCrate(path) if path == folder.path()), "{error}");

        let nowhere = folder.path().join("toolchain");
        let error = Toolchain::find(Some(&nowhere)).unwrap_err();
        assert!(error.to_string().contains("SGLHOST_GUEST_TOOLCHAIN"), "{error}");
    }

    #[test]
    fn a_toolchain_without_the_target_gets_one_clear_line() {
        let message = BuildError::NoTarget.to_string();
        assert!(message.contains("`rustup target add wasm32-unknown-unknown`"), "{message}");
        assert!(!message.contains('\n'));
    }
}
