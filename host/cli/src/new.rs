//! `sglhost new`: a folder with one small program, and everything it takes to build it.
//!
//! The SDK's sources and the contract are part of this binary and are written into the project: it then builds on any
//! machine that has Rust, now and later, with nothing to fetch but ordinary crates.

use std::path::PathBuf;
use std::{fs, io};

use crate::language::{Language, SDK_FOLDER, write_files};

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
    /// In a folder of its name, below the current one.
    pub(crate) fn new(name: impl Into<String>, language: Language) -> Self {
        let name = name.into();
        Self { folder: PathBuf::from(&name), name, language }
    }
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NewError {
    /// Not a name for a crate and a function.
    #[error("{0:?} cannot be a program's name: use lower-case letters, digits and `_`, a letter first")]
    Name(String),
    /// A name that means something else.
    #[error("{0:?} cannot be a program's name: it is a word of a language, or of the SDKs; try {0}_program")]
    Reserved(String),
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
    let language = options.language;
    let failed = |(path, error)| NewError::Io { path, error };
    write_files(folder, language.template(), |text| text.replace("{name}", &options.name)).map_err(failed)?;
    write_files(&folder.join(SDK_FOLDER), language.sdk(), str::to_owned).map_err(failed)?;
    let shown = folder.display();
    eprintln!("{shown}: edit {}, then run `sglhost build {shown}`", language.first_edited());
    Ok(folder.clone())
}

/// The name becomes a function, so it is an identifier; and lower case, so that Rust has nothing to say about it.
fn check_name(name: &str) -> Result<(), NewError> {
    /// What a function cannot be called in one of the languages, what cargo refuses, and what the SDKs call theirs.
    const RESERVED: &str = "abstract and as assert assistant async await become bool box break case catch chan char class const \
        continue core crate debugger def default defer del delete do double dyn elif else emit enum except \
        export extends extern fallthrough false final finally float fn for from func function gen global go goto \
        if image impl implements import in inline instanceof int interface is lambda let long loop macro main \
        map match mod move mut new none nonlocal not null or override package pass priv private program \
        protected pub public raise range ref register restrict return role select self sglhost short signed \
        sizeof static std string struct super switch system test text this throw trait true try type typedef \
        typeof union unsafe unsigned unsized use user var virtual void volatile while with yield";
    let good = name.len() <= NAME_BYTES_MAX
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !good {
        return Err(NewError::Name(name.to_owned()));
    }
    if RESERVED.split_whitespace().any(|word| word == name) {
        return Err(NewError::Reserved(name.to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

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
        let options = NewOptions { folder: parent.path().join("qa"), ..NewOptions::new("qa", Language::Rust) };
        let folder = new_project(&options).unwrap();
        let read = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
        assert!(read("Cargo.toml").contains("name = \"qa\""));
        assert!(read("src/lib.rs").contains("fn qa("));
        assert!(!read("src/lib.rs").contains("{name}"));
        assert!(read("Cargo.toml").contains(&format!("path = \"{SDK_FOLDER}/guest-sdk/rust\"")));
        assert_eq!(read("sglhost/wit/lm.wit"), include_str!("../../../wit/lm.wit"));

        assert!(matches!(new_project(&options), Err(NewError::Exists(_))));
    }
}
