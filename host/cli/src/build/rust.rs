//! Rust: a crate of type `cdylib` becomes a component by the user's own toolchain.
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

use super::{BuildError, Built, Project};
use crate::component;
use crate::language::{Files, repository_files};

/// A Rust toolchain's folder, the one that holds `bin/cargo`, to be used instead of the `cargo` on `PATH`.
pub(super) const TOOLCHAIN: &str = "SGLHOST_GUEST_TOOLCHAIN";
/// The preferred target: its programs import the contract and nothing else but standard output and error.
const PREFERRED_TARGET: &str = "wasm32-unknown-unknown";
/// The other one, whose standard library has files, clocks and sockets of WASI.
const WASI_TARGET: &str = "wasm32-wasip2";
/// Makes a component of what the compiler leaves. Comes with rustup's toolchains.
const COMPONENT_LINKER: &str = "wasm-component-ld";

/// What `sglhost new` writes.
pub(crate) const TEMPLATE: Files = &[
    ("Cargo.toml", include_str!("../../../../guest-sdk/rust/template/Cargo.toml.template")),
    ("src/lib.rs", include_str!("../../../../guest-sdk/rust/template/lib.rs.template")),
    (".gitignore", "/target\n*.wasm\n"),
];

/// The SDK, where it lies in the repository too, because it refers to the contract.
pub(crate) const SDK: Files = repository_files! { "" =>
    "guest-sdk/rust/Cargo.toml"
    "guest-sdk/rust/README.md"
    "guest-sdk/rust/macro/Cargo.toml"
    "guest-sdk/rust/macro/src/expand.rs"
    "guest-sdk/rust/macro/src/lib.rs"
    "guest-sdk/rust/macro/src/signature.rs"
    "guest-sdk/rust/src/argument.rs"
    "guest-sdk/rust/src/bindings.rs"
    "guest-sdk/rust/src/error.rs"
    "guest-sdk/rust/src/generate.rs"
    "guest-sdk/rust/src/lib.rs"
    "guest-sdk/rust/src/outcome.rs"
    "guest-sdk/rust/src/output.rs"
    "guest-sdk/rust/src/program.rs"
    "guest-sdk/rust/src/prompt.rs"
    "guest-sdk/rust/src/run.rs"
    "guest-sdk/rust/src/state.rs"
    "guest-sdk/rust/src/stream.rs"
};

/// Why a crate did not become a component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RustError {
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
    /// A file could not be read.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
}

/// Builds the crate. Cargo's progress and its messages go to standard error.
pub(super) fn build(project: &Project<'_>) -> Result<Built, BuildError> {
    let manifest = project.folder.join("Cargo.toml");
    let toolchain = Toolchain::find(project.toolchain)?;
    let name = toolchain.library(project.folder, &manifest)?;
    let built = toolchain.compile(&manifest, &name, project.profile)?;
    Ok(Built { component: component::read_component(&built)?, name })
}

/// A Rust toolchain that can build components.
#[derive(Debug)]
struct Toolchain {
    /// The folder that was asked for, if one was.
    folder: Option<PathBuf>,
    target: &'static str,
}

impl Toolchain {
    fn find(folder: Option<&Path>) -> Result<Self, RustError> {
        let mut toolchain = Self { folder: folder.map(Path::to_owned), target: PREFERRED_TARGET };
        let available = [PREFERRED_TARGET, WASI_TARGET].into_iter().find_map(|target| {
            let libraries = toolchain.ask_rustc(&["--print", "target-libdir", "--target", target]);
            match libraries {
                Ok(libraries) => has_standard_library(Path::new(&libraries)).then_some(Ok(target)),
                Err(error) => Some(Err(error)),
            }
        });
        toolchain.target = available.unwrap_or(Err(RustError::NoTarget))?;
        if toolchain.target == PREFERRED_TARGET && !toolchain.has_component_linker()? {
            return Err(RustError::NoLinker);
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

    fn ask_rustc(&self, arguments: &[&str]) -> Result<String, RustError> {
        let program = self.program("rustc");
        let output = Command::new(&program).args(arguments).output();
        let output = output.map_err(|error| RustError::NoCargo { program, error })?;
        if !output.status.success() {
            return Err(RustError::Answer(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Whether the linker is where rustc looks for it: beside its own tools, or on `PATH`.
    fn has_component_linker(&self) -> Result<bool, RustError> {
        let host_libraries = PathBuf::from(self.ask_rustc(&["--print", "target-libdir"])?);
        let name = format!("{COMPONENT_LINKER}{}", env::consts::EXE_SUFFIX);
        let own = host_libraries.parent().map(|host| host.join("bin").join(&name));
        let path = env::var_os("PATH").unwrap_or_default();
        Ok(own.is_some_and(|own| own.is_file()) || env::split_paths(&path).any(|folder| folder.join(&name).is_file()))
    }

    /// The name of the crate's library, which must be a `cdylib`.
    fn library(&self, folder: &Path, manifest: &Path) -> Result<String, RustError> {
        let mut cargo = self.cargo();
        cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
        let output = cargo.stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| RustError::NoCargo { program: self.program("cargo"), error })?;
        if !output.status.success() {
            return Err(RustError::Cargo);
        }
        let metadata = serde_json::from_slice(&output.stdout).map_err(|error| RustError::Answer(error.to_string()))?;
        let manifest = fs::canonicalize(manifest).map_err(|error| RustError::Io { path: manifest.into(), error })?;
        match library_of(&metadata, &manifest) {
            Some(Some(name)) => Ok(name),
            Some(None) => Err(RustError::NoCdylib(folder.to_owned())),
            None => Err(RustError::NoPackage(folder.to_owned())),
        }
    }

    /// Compiles the library called `name`, and returns the file that cargo left.
    fn compile(&self, manifest: &Path, name: &str, profile: &str) -> Result<PathBuf, RustError> {
        let mut cargo = self.cargo();
        cargo.args(["build", "--lib", "--profile", profile, "--target", self.target, "--manifest-path"]).arg(manifest);
        // Artifacts come as JSON, diagnostics and progress as usual.
        cargo.args(["--message-format", "json-render-diagnostics"]).stdout(Stdio::piped());
        let mut child = cargo.spawn().map_err(|error| RustError::NoCargo { program: self.program("cargo"), error })?;
        let mut built = None;
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).lines() {
                let line = line.map_err(|error| RustError::Answer(error.to_string()))?;
                built = artifact_of(&line, name).or(built);
            }
        }
        let status = child.wait().map_err(|error| RustError::Answer(error.to_string()))?;
        if !status.success() {
            return Err(RustError::Cargo);
        }
        built.ok_or_else(|| RustError::Answer(format!("no .wasm file of {name} was left")))
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
        let nowhere = folder.path().join("toolchain");
        let error = Toolchain::find(Some(&nowhere)).unwrap_err();
        assert!(error.to_string().contains("SGLHOST_GUEST_TOOLCHAIN"), "{error}");
    }

    #[test]
    fn a_toolchain_without_the_target_gets_one_clear_line() {
        let message = RustError::NoTarget.to_string();
        assert!(message.contains("`rustup target add wasm32-unknown-unknown`"), "{message}");
        assert!(!message.contains('\n'));
    }
}
