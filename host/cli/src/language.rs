//! Languages that a program can be started and built in. Others work too, from the contract in `wit/`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::build::{c, go, js, python, rust};

/// Files that are part of this binary: where each lies in a project, and its text.
pub(crate) type Files = &'static [(&'static str, &'static str)];

/// Where the SDK lies in a project.
pub(crate) const SDK_FOLDER: &str = "sglhost";

/// Files of the repository, by their paths below a folder of it that ends with `/` (or is empty).
macro_rules! repository_files {
    ($folder:literal => $($path:literal)*) => {
        &[$(($path, include_str!(concat!("../../../../", $folder, $path)))),*]
    };
}
pub(crate) use repository_files;

/// The contract between a program and its host.
pub(crate) const CONTRACT: Files = &[
    ("wit/lm.wit", include_str!("../../../wit/lm.wit")),
    ("wit/program.wit", include_str!("../../../wit/program.wit")),
    ("wit/run.wit", include_str!("../../../wit/run.wit")),
    ("wit/types.wit", include_str!("../../../wit/types.wit")),
];

/// A language. One whose file may be made of another's comes first: `program.js` of `program.ts`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Language {
    #[default]
    Rust,
    Python,
    Ts,
    Js,
    C,
    Go,
}

impl Language {
    /// All of them.
    pub(crate) fn all() -> &'static [Self] {
        <Self as clap::ValueEnum>::value_variants()
    }

    /// The file that a project of this language has, and by which it is known.
    fn main_file(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::Python => "program.py",
            Self::Ts => "program.ts",
            Self::Js => "program.js",
            Self::C => "program.c",
            Self::Go => "go.mod",
        }
    }

    /// What a new project's author edits first.
    pub(crate) fn first_edited(self) -> &'static str {
        match self {
            Self::Rust => "src/lib.rs",
            Self::Python => "program.py",
            Self::Ts => "program.ts",
            Self::Js => "program.js",
            Self::C => "program.c",
            Self::Go => "program.go",
        }
    }

    /// Those files, for a message.
    pub(crate) fn main_files() -> String {
        let files: Vec<_> = Self::all().iter().map(|language| language.main_file()).collect();
        files.join(", ")
    }

    /// The language of the program in a folder.
    pub(crate) fn of(folder: &Path) -> Option<Self> {
        Self::all().iter().copied().find(|language| folder.join(language.main_file()).is_file())
    }

    /// A project's own files; `{name}` stands for the program's name.
    pub(crate) fn template(self) -> Files {
        match self {
            Self::Rust => rust::TEMPLATE,
            Self::Python => python::TEMPLATE,
            Self::Ts => js::TEMPLATE_TS,
            Self::Js => js::TEMPLATE_JS,
            Self::C => c::TEMPLATE,
            Self::Go => go::TEMPLATE,
        }
    }

    /// The SDK and the contract, as they lie below [`SDK_FOLDER`].
    pub(crate) fn sdk(self) -> impl Iterator<Item = &'static (&'static str, &'static str)> + Clone {
        let own = match self {
            Self::Rust => rust::SDK,
            Self::Python => python::SDK,
            Self::Ts | Self::Js => js::SDK,
            Self::C => c::SDK,
            Self::Go => go::SDK,
        };
        own.iter().chain(CONTRACT)
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::Ts => "ts",
            Self::Js => "js",
            Self::C => "c",
            Self::Go => "go",
        })
    }
}

/// Writes files below a folder, each text changed by `change`.
///
/// # Errors
/// One cannot be written: which, and why.
pub(crate) fn write_files<'a>(
    folder: &Path,
    files: impl IntoIterator<Item = &'a (&'a str, &'a str)>,
    change: impl Fn(&str) -> String,
) -> Result<(), (PathBuf, io::Error)> {
    for (path, text) in files {
        let path = folder.join(path);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all);
        made.and_then(|()| fs::write(&path, change(text))).map_err(|error| (path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::collections::BTreeSet;

    /// A source file that is added to an SDK must be added to its list.
    #[test]
    fn no_file_of_an_sdk_is_left_out() {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let check = |language: Language, listed_below: &str, folders: &[&str]| {
            let listed: BTreeSet<_> = language.sdk().map(|(path, _)| format!("{listed_below}{path}")).collect();
            for folder in folders {
                for entry in fs::read_dir(repository.join(folder)).unwrap() {
                    let entry = entry.unwrap();
                    let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
                    // What a language's own tools leave among the sources.
                    let left = path.ends_with("__pycache__") || path.ends_with("node_modules");
                    assert!(left || entry.path().is_dir() || listed.contains(&path), "{path} is in no list");
                }
            }
        };
        check(Language::Rust, "", &["guest-sdk/rust/src", "guest-sdk/rust/macro/src", "wit"]);
        check(Language::Python, "guest-sdk/python/sglhost/", &["guest-sdk/python/sglhost"]);
        check(Language::Js, "guest-sdk/js/sglhost/", &["guest-sdk/js/sglhost"]);
        check(Language::C, "guest-sdk/c/sglhost/", &["guest-sdk/c/sglhost"]);
        check(Language::Go, "guest-sdk/go/", &["guest-sdk/go", "guest-sdk/go/internal/host"]);
    }
}
