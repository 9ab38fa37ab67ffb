//! Python: a folder with a `program.py` becomes a component by componentize-py, which imports the program and keeps what
//! is in memory then. A run begins there.

use std::path::Path;
use std::{env, fs};

use super::{BuildError, Built, Project, tools};
use crate::component;
use crate::language::{Files, repository_files};

/// What makes the component: an interpreter of Python 3.14 as WebAssembly, and the means to link and snapshot it.
const COMPONENTIZE: (&str, &str) = ("componentize-py", "0.25.1");
/// Calls it, and tells of a program that cannot be imported what the SDK says, without what the tools add.
const CALL: &str = "\
import sys, componentize_py
try:
    componentize_py.script()
except AssertionError as error:
    _, marked, rest = str(error).partition('\\x1e')
    sys.exit(rest.partition('\\x1e')[0] if marked else str(error).partition('Stack backtrace:')[0].strip())
";
/// The SDK's own module of the interpreter; `guest-sdk/python/native/README.md`.
const BLOCKING: (&str, &[u8]) = (
    "sglhost_blocking.cpython-314-wasm32-wasi.so",
    include_bytes!("../../../../guest-sdk/python/native/generated/sglhost_blocking.cpython-314-wasm32-wasi.so"),
);

/// What `sglhost new` writes.
pub(crate) const TEMPLATE: Files = &[
    ("program.py", include_str!("../../../../guest-sdk/python/template/program.py.template")),
    (".gitignore", include_str!("../../../../guest-sdk/python/template/gitignore.template")),
];

/// The SDK: the package itself.
pub(crate) const SDK: Files = repository_files! { "guest-sdk/python/sglhost/" =>
    "__init__.py"
    "_host.py"
    "arguments.py"
    "component.py"
    "errors.py"
    "generate.py"
    "outcome.py"
    "program.py"
    "prompt.py"
    "py.typed"
    "run.py"
    "state.py"
};

/// Builds the program. What componentize-py says goes to standard error.
pub(super) fn build(project: &Project<'_>) -> Result<Built, BuildError> {
    let (package, version) = COMPONENTIZE;
    let packages = project.tools.python_package(package, version)?;
    let scratch = project.scratch.path();
    let (library, module) = (scratch.join("library"), scratch.join("program.wasm"));
    // A folder of its own, in which the package has its name wherever the SDK lies.
    copy(&project.sdk, &library.join("sglhost"))?;
    let blocking = library.join(BLOCKING.0);
    fs::write(&blocking, BLOCKING.1).map_err(BuildError::io(&blocking))?;
    let mut command = tools::python(&packages);
    command.args(["-c", CALL, "--quiet", "--world", "program", "--wit-path"]).arg(project.sdk.join("wit"));
    command.args(["componentize", "sglhost.component", "--python-path"]).arg(&library);
    command.arg("--python-path").arg(project.folder).arg("--output").arg(&module).env("RUST_BACKTRACE", "0");
    if env::var_os("VIRTUAL_ENV").is_none() {
        // It would take the packages of the whole machine otherwise.
        let nothing = scratch.join("environment");
        let packages = nothing.join("lib").join("site-packages");
        fs::create_dir_all(&packages).map_err(BuildError::io(&packages))?;
        command.env("VIRTUAL_ENV", &nothing);
    }
    tools::run(&mut command, package, tools::PYTHON_MISSING)?;
    Ok(Built { component: component::read_component(&module)?, name: project.name.clone() })
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> Result<(), BuildError> {
    fs::create_dir_all(to).map_err(BuildError::io(to))?;
    for entry in fs::read_dir(from).map_err(BuildError::io(from))? {
        let entry = entry.map_err(BuildError::io(from))?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to)?;
        } else {
            fs::copy(&from, &to).map_err(BuildError::io(&from))?;
        }
    }
    Ok(())
}
