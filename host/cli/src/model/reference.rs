//! What a `--model` or a name given to `model pull` means.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{CatalogueModel, ModelStore, ModelStoreError};
use crate::interrupt::Interrupt;

/// A model as the user named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModelReference {
    /// A file or folder that is there.
    Path(PathBuf),
    /// One of the catalogue.
    Catalogue(&'static CatalogueModel),
    /// A repository of a hub.
    Repository(RepositoryName),
}

impl ModelReference {
    /// What `name` means: a path that exists comes first, so that no download shadows a user's file.
    ///
    /// # Errors
    /// [`ModelStoreError::Unknown`].
    pub(crate) fn parse(name: &str) -> Result<Self, ModelStoreError> {
        let path = Path::new(name);
        if path.exists() {
            return Ok(Self::Path(path.to_owned()));
        }
        CatalogueModel::find(name)
            .map(Self::Catalogue)
            .or_else(|| RepositoryName::parse(name).map(Self::Repository))
            .ok_or_else(|| ModelStoreError::Unknown { name: name.to_owned() })
    }

    /// A short name to serve it under.
    pub(crate) fn short_name(&self) -> String {
        match self {
            Self::Path(path) => path.file_stem().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            Self::Catalogue(model) => model.name.to_owned(),
            Self::Repository(repository) => repository.to_string(),
        }
    }

    /// Whether it would have to be fetched before it can be opened.
    pub(crate) fn is_missing(&self, store: &ModelStore) -> bool {
        matches!(self, Self::Catalogue(model) if !store.has_catalogue(model))
    }

    /// Its file or folder; a catalogue model is fetched if it is not here, a repository is not. Blocks.
    ///
    /// # Errors
    /// It is not here and could not, or should not, be fetched.
    pub(crate) fn locate(&self, store: &ModelStore, interrupt: &Interrupt) -> Result<PathBuf, ModelStoreError> {
        match self {
            Self::Catalogue(model) => store.fetch_catalogue(model, interrupt),
            _ => self.find(store),
        }
    }

    /// Its file or folder, if it is here.
    ///
    /// # Errors
    /// It is not here, or is a folder of no or several models.
    pub(crate) fn find(&self, store: &ModelStore) -> Result<PathBuf, ModelStoreError> {
        match self {
            Self::Path(path) if path.is_dir() => openable(path.clone()),
            Self::Path(path) => Ok(path.clone()),
            Self::Catalogue(model) if store.has_catalogue(model) => Ok(store.catalogue_path(model)),
            Self::Catalogue(model) => Err(ModelStoreError::NotPulled { name: model.name.to_owned() }),
            Self::Repository(repository) => {
                let folder = store.repository_path(repository);
                if !folder.exists() {
                    return Err(ModelStoreError::NotPulled { name: repository.to_string() });
                }
                openable(folder)
            }
        }
    }
}

/// What to open of a repository's folder: the folder, or the GGUF file where there is nothing else.
fn openable(folder: PathBuf) -> Result<PathBuf, ModelStoreError> {
    if folder.join("config.json").exists() {
        return Ok(folder);
    }
    let entries = std::fs::read_dir(&folder).map_err(ModelStoreError::io(&folder))?;
    let mut files: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "gguf"))
        .collect();
    files.sort();
    match files.len() {
        0 => Err(ModelStoreError::NoModel { folder: folder.display().to_string() }),
        1 => Ok(files.remove(0)),
        _ => Err(ModelStoreError::Ambiguous { folder: folder.display().to_string(), files }),
    }
}

/// `owner/name`, with `@revision` where one was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RepositoryName {
    /// Person or organisation.
    pub(crate) owner: String,
    /// Of the repository.
    pub(crate) name: String,
    /// Branch, tag or commit; none is the hub's `main`.
    pub(crate) revision: Option<String>,
}

impl RepositoryName {
    /// Parses `owner/name` or `owner/name@revision`; none where it is something else. What is accepted is safe as part
    /// of a path and of a URL.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (path, revision) = match text.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (text, None),
        };
        let (owner, name) = path.split_once('/')?;
        let plain = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                // The two dashes that stand for the slash in a folder's name.
                && !part.contains("--")
        };
        let known = plain(owner) && plain(name) && !name.ends_with(".gguf") && revision.is_none_or(plain);
        known.then(|| Self { owner: owner.to_owned(), name: name.to_owned(), revision: revision.map(str::to_owned) })
    }

    /// Its folder in the store.
    pub(crate) fn folder_name(&self) -> String {
        self.to_string().replacen('/', "--", 1)
    }

    /// Reads [`RepositoryName::folder_name`] back.
    pub(crate) fn from_folder_name(folder: &str) -> Option<Self> {
        Self::parse(&folder.replacen("--", "/", 1))
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expect: Option<(&str, &str, Option<&str>)>) {
        let parsed = RepositoryName::parse(text);
        let parts = parsed.as_ref().map(|it| (it.owner.as_str(), it.name.as_str(), it.revision.as_deref()));
        assert_eq!(parts, expect, "{text}");
        if let Some(repository) = &parsed {
            assert_eq!(
                RepositoryName::from_folder_name(&repository.folder_name()).as_ref(),
                Some(repository),
                "{text}"
            );
        }
    }

    #[test]
    fn repository_names() {
        check("Qwen/Qwen2.5-0.5B", Some(("Qwen", "Qwen2.5-0.5B", None)));
        check("a/b@main", Some(("a", "b", Some("main"))));
        check("smollm2", None);
        check("a/b/c", None);
        check("../b", None);
        check("a/..", None);
        check("/b", None);
        check("a/", None);
        check("a/b@../x", None);
        check("models/some.gguf", None);
        check("a--b/c", None);
    }

    #[test]
    fn names() {
        assert!(matches!(ModelReference::parse("smollm2-135m-instruct"), Ok(ModelReference::Catalogue(_))));
        assert!(matches!(ModelReference::parse("."), Ok(ModelReference::Path(_))));
        assert!(matches!(ModelReference::parse("no-such-model"), Err(ModelStoreError::Unknown { .. })));
    }
}
