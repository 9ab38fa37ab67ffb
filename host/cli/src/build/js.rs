//! JavaScript and TypeScript: a folder with a `program.js` or `program.ts` becomes one script by esbuild, after tsc has
//! checked its types. The script is put into a module that holds QuickJS; `guest-sdk/js/runtime/README.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::encode::{World, encode};
use super::{BuildError, Built, Project, tools};
use crate::language::{Files, repository_files};

mod lines;
mod script;

const ESBUILD: (&str, &str) = ("esbuild", "0.28.2");
const TYPESCRIPT: (&str, &str) = ("typescript", "7.0.2");

/// QuickJS and what is between it and the contract, as a core module without a script.
const RUNTIME: &[u8] = include_bytes!("../../../../guest-sdk/js/runtime/generated/runtime.wasm");
/// The world of that module.
const WORLD: &str = include_str!("../../../../guest-sdk/js/runtime/runtime.wit");

/// What `sglhost new` writes for JavaScript.
pub(crate) const TEMPLATE_JS: Files = &[
    ("program.js", include_str!("../../../../guest-sdk/js/template/js/program.js.template")),
    ("package.json", include_str!("../../../../guest-sdk/js/template/js/package.json.template")),
    // For editors.
    ("jsconfig.json", include_str!("../../../../guest-sdk/js/template/js/jsconfig.json.template")),
    (".gitignore", include_str!("../../../../guest-sdk/js/template/js/gitignore.template")),
];

/// What `sglhost new` writes for TypeScript.
pub(crate) const TEMPLATE_TS: Files = &[
    ("program.ts", include_str!("../../../../guest-sdk/js/template/ts/program.ts.template")),
    ("package.json", include_str!("../../../../guest-sdk/js/template/ts/package.json.template")),
    ("tsconfig.json", include_str!("../../../../guest-sdk/js/template/ts/tsconfig.json.template")),
    (".gitignore", include_str!("../../../../guest-sdk/js/template/ts/gitignore.template")),
];

/// The SDK: a package.
pub(crate) const SDK: Files = repository_files! { "guest-sdk/js/sglhost/" =>
    "arguments.js"
    "error.js"
    "failure.js"
    "generate.js"
    "globals.js"
    "host.js"
    "index.d.ts"
    "index.js"
    "outcome.js"
    "package.json"
    "program.js"
    "prompt.js"
    "run.js"
    "state.js"
    "written.js"
};

/// Builds a program in JavaScript.
pub(super) fn build_js(project: &Project<'_>) -> Result<Built, BuildError> {
    build(project, "program.js")
}

/// Builds a program in TypeScript, if its types are right.
pub(super) fn build_ts(project: &Project<'_>) -> Result<Built, BuildError> {
    check_types(project)?;
    build(project, "program.ts")
}

fn build(project: &Project<'_>, main: &str) -> Result<Built, BuildError> {
    let bundle = project.scratch.path().join("script.js");
    let mut command = npm_tool(project, ESBUILD, "esbuild")?;
    command.current_dir(project.folder).arg(main).arg(format!("--outfile={}", bundle.display()));
    command.arg(format!("--alias:sglhost={}", project.sdk.join("index.js").display()));
    command.args(["--bundle", "--format=esm", "--platform=neutral", "--main-fields=module,main", "--target=es2023"]);
    command.args(["--charset=utf8", "--sourcemap=external", "--sources-content=false", "--log-level=warning"]);
    tools::run(&mut command, ESBUILD.0, tools::NODE_MISSING)?;
    let text = fs::read_to_string(&bundle).map_err(BuildError::io(&bundle))?;
    let map = bundle.with_extension("js.map");
    let map = fs::read_to_string(&map).map_err(BuildError::io(&map))?;
    let lines = lines::lines(&map, 1, |source| name_of(project, source)).map_err(BuildError::Encode)?;
    // In one line, which the numbers in it count; and as text, which costs a run that fails nowhere nothing to read.
    let script = format!("globalThis.sglhostLines={};\n{text}", json!(lines.to_string()));
    let module = script::put(RUNTIME, script.as_bytes()).map_err(BuildError::Encode)?;
    Ok(Built { component: encode(&module, World::Own(WORLD))?, name: project.name.clone() })
}

/// Says what is wrong with the types, on standard error.
fn check_types(project: &Project<'_>) -> Result<(), BuildError> {
    // The project's own settings, but with the SDK where it is.
    let mut settings = json!({
        "compilerOptions": {
            "noEmit": true,
            "paths": { "sglhost": [project.sdk.join("index.d.ts")] },
        },
        "files": [project.folder.join("program.ts")],
        "include": [],
    });
    let own = project.folder.join("tsconfig.json");
    if own.is_file() {
        settings["extends"] = json!(own);
    } else {
        let others = json!({ "target": "ES2023", "lib": ["ES2023"], "types": [], "module": "ESNext",
            "moduleResolution": "bundler", "strict": true, "skipLibCheck": true });
        if let (Some(options), Some(others)) = (settings["compilerOptions"].as_object_mut(), others.as_object()) {
            options.extend(others.clone());
        }
    }
    let path = project.scratch.path().join("tsconfig.json");
    fs::write(&path, settings.to_string()).map_err(BuildError::io(&path))?;
    let mut command = npm_tool(project, TYPESCRIPT, "tsc")?;
    command.current_dir(project.folder).arg("--project").arg(&path).args(["--pretty", "false"]);
    tools::run(&mut command, TYPESCRIPT.0, tools::NODE_MISSING)
}

/// A program that an npm package brings.
fn npm_tool(project: &Project<'_>, (package, version): (&str, &str), program: &str) -> Result<Command, BuildError> {
    let folder = project.tools.npm_package(package, version)?;
    let name = if cfg!(windows) { format!("{program}.cmd") } else { program.to_owned() };
    Ok(Command::new(folder.join("node_modules").join(".bin").join(name)))
}

/// A source's name for people, by its path from where the bundle is: below the project, `sglhost/…` or a package's.
fn name_of(project: &Project<'_>, source: &str) -> String {
    let path = project.scratch.path().join(source);
    let path = fs::canonicalize(&path).unwrap_or(path);
    let sdk = fs::canonicalize(&project.sdk).unwrap_or_else(|_| project.sdk.clone());
    let name = if let Ok(path) = path.strip_prefix(&sdk) {
        Path::new(crate::language::SDK_FOLDER).join(path)
    } else if let Ok(path) = path.strip_prefix(project.folder) {
        path.to_owned()
    } else {
        path.file_name().map(PathBuf::from).unwrap_or_default()
    };
    name.to_string_lossy().replace('\\', "/")
}
