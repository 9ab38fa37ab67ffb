//! `sglhost new`: a folder with one small program, and everything it takes to build it.
//!
//! The SDK's sources and the contract are part of this binary and are written into the project: it then builds on any
//! machine that has Rust, now and later, with nothing to fetch but ordinary crates.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Longest name of a program, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct NewOptions {
    /// The program's name: of its crate, its function and its component.
    pub(crate) name: String,
    /// The folder to make; it must be absent or empty.
    pub(crate) folder: PathBuf,
    /// In which language.
    pub(crate) language: Language,
}

impl NewOptions {
    /// A Rust program in a folder of its name, below the current one.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self { folder: PathBuf::from(&name), name, language: Language::Rust }
    }
}

/// Languages that a program can be started in. Others work too, from the contract in `wit/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub(crate) enum Language {
    /// Rust, with the SDK of `guest-sdk/rust`.
    #[default]
    Rust,
}

impl std::str::FromStr for Language {
    type Err = NewError;

    fn from_str(name: &str) -> Result<Self, NewError> {
        match name {
            "rust" => Ok(Self::Rust),
            _ => Err(NewError::Language(name.to_owned())),
        }
    }
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NewError {
    /// Not a name for a crate and a function.
    #[error("{0:?} cannot be a program's name: use lower-case letters, digits and `_`, a letter first")]
    Name(String),
    /// A language without a template.
    #[error("programs in {0:?} cannot be started here; there is rust. (Any language that makes components will do.)")]
    Language(String),
    /// There is something already.
    #[error("{0} exists and is not empty")]
    Exists(PathBuf),
    /// A file could not be written.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
}

/// Makes the folder of a new program, and returns it.
///
/// # Errors
/// The name is none for a crate, the folder is in use, or a file cannot be written.
pub(crate) fn new_project(options: &NewOptions) -> Result<PathBuf, NewError> {
    check_name(&options.name)?;
    let folder = &options.folder;
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(NewError::Exists(folder.clone())),
        Ok(false) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(NewError::Io { path: folder.clone(), error }),
    }
    let Language::Rust = options.language;
    for (path, text) in RUST_TEMPLATE {
        write(&folder.join(path), &text.replace("{name}", &options.name))?;
    }
    for (path, text) in RUST_SDK {
        write(&folder.join(SDK_FOLDER).join(path), text)?;
    }
    eprintln!("{}: edit src/lib.rs, then run `sglhost build {}`", folder.display(), folder.display());
    Ok(folder.clone())
}

fn write(path: &Path, text: &str) -> Result<(), NewError> {
    let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(path, text));
    written.map_err(|error| NewError::Io { path: path.to_owned(), error })
}

/// The name becomes a function, so it is an identifier; and lower case, so that Rust has nothing to say about it.
fn check_name(name: &str) -> Result<(), NewError> {
    /// What a function cannot be called, and what cargo refuses.
    const RESERVED: &[&str] = &[
        "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "core", "crate", "do",
        "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
        "macro", "match", "mod", "move", "mut", "override", "priv", "program", "pub", "ref", "return", "self",
        "static", "std", "struct", "super", "test", "trait", "true", "try", "type", "typeof", "unsafe", "unsized",
        "use", "virtual", "where", "while", "yield",
    ];
    let good = name.len() <= NAME_BYTES_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        && !RESERVED.contains(&name);
    if good { Ok(()) } else { Err(NewError::Name(name.to_owned())) }
}

/// Where the SDK lies in a project.
const SDK_FOLDER: &str = "sglhost";

/// A project's own files; `{name}` stands for the program's name.
const RUST_TEMPLATE: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("../../../guest-sdk/rust/template/Cargo.toml.template")),
    ("src/lib.rs", include_str!("../../../guest-sdk/rust/template/lib.rs.template")),
    (".gitignore", "/target\n*.wasm\n"),
];

macro_rules! repository {
    ($($path:literal)*) => {
        &[$(($path, include_str!(concat!("../../../", $path)))),*]
    };
}

/// The SDK and the contract, where they lie in the repository too, because the one refers to the other.
const RUST_SDK: &[(&str, &str)] = repository! {
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
    "wit/lm.wit"
    "wit/program.wit"
    "wit/run.wit"
    "wit/types.wit"
};

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_those_of_functions() {
        let check = |name: &str, expect: bool| assert_eq!(check_name(name).is_ok(), expect, "{name}");
        check("my_program2", true);
        check("qa", true);
        for name in ["", "2qa", "_qa", "my-program", "Qa", "a/b", "..", "gen", "fn", "test", "é", &"a".repeat(65)] {
            check(name, false);
        }
    }

    #[test]
    fn a_project_has_its_name_and_the_whole_sdk() {
        let parent = tempfile::tempdir().unwrap();
        let options = NewOptions { folder: parent.path().join("qa"), ..NewOptions::new("qa") };
        let folder = new_project(&options).unwrap();
        let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
        assert!(read("Cargo.toml").contains("name = \"qa\""));
        assert!(read("src/lib.rs").contains("fn qa("));
        assert!(!read("src/lib.rs").contains("{name}"));
        assert!(read("Cargo.toml").contains(&format!("path = \"{SDK_FOLDER}/guest-sdk/rust\"")));
        assert_eq!(read("sglhost/wit/lm.wit"), include_str!("../../../wit/lm.wit"));

        assert!(matches!(new_project(&options), Err(NewError::Exists(_))));
        assert!(matches!("cobol".parse::<Language>(), Err(NewError::Language(_))));
    }

    /// A source file that is added to the SDK must be added to the list above.
    #[test]
    fn no_file_of_the_sdk_is_left_out() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let listed: BTreeSet<_> = RUST_SDK.iter().map(|(path, _)| (*path).to_owned()).collect();
        for folder in ["guest-sdk/rust/src", "guest-sdk/rust/macro/src", "wit"] {
            for entry in fs::read_dir(repository.join(folder)).unwrap() {
                let path = format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap());
                assert!(listed.contains(&path), "{path} is not in RUST_SDK");
            }
        }
    }
}
