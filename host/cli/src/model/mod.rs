//! Models by name: where they are kept, how they get there, and which file a `--model` means.
//!
//! *Invariant*: a model's final path appears in one rename after its digest was checked; whoever sees it sees it whole.
//! *Not here*: reading a model, which is `sglhost_model`'s.

mod catalogue;
mod digest;
mod download;
mod hub;
mod package;
mod progress;
mod reference;
mod store;

pub(crate) use catalogue::{CATALOGUE, CatalogueModel, DEFAULT_MODEL};
pub(crate) use digest::sha256_of_file;
pub(crate) use hub::Hub;
pub(crate) use progress::Progress;
pub(crate) use reference::{ModelReference, RepositoryName};
pub(crate) use store::{ModelStore, total_bytes};

use std::path::{Path, PathBuf};

use crate::environment::CACHE;

/// A model is not there, or could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelStoreError {
    /// Nothing of that name is known.
    #[error(
        "there is no model {name:?}: it is no file or folder here, and no model of that name is known\n\
         `sglhost model list` shows the models there are; `--model PATH` takes a GGUF file or a Hugging Face folder"
    )]
    Unknown {
        /// As the user wrote it.
        name: String,
    },
    /// A repository that could be fetched but is not here. Such models can be large: they come only when asked for.
    #[error("the model {name} is not here yet; `sglhost model pull {name}` fetches it")]
    NotPulled {
        /// As the user wrote it.
        name: String,
    },
    /// Several files, each a model.
    #[error("several models are in {folder}; name one with `--model`:{}", list(files))]
    Ambiguous {
        /// Where they are.
        folder: String,
        /// The models.
        files: Vec<PathBuf>,
    },
    /// A folder with neither a Hugging Face model nor a GGUF file in it.
    #[error(
        "the folder {folder} is no model: it has neither a config.json, as a Hugging Face folder has, nor a GGUF file\n\
         `sglhost model list` shows the models there are; `--model PATH` takes a GGUF file or a Hugging Face folder"
    )]
    NoModel {
        /// The folder.
        folder: String,
    },
    /// What arrived is not what was promised.
    #[error("{what} has the SHA-256 {found}, where {expected} was expected; nothing of it is kept")]
    Digest {
        /// The file.
        what: String,
        /// In lower-case hexadecimal.
        expected: String,
        /// In lower-case hexadecimal.
        found: String,
    },
    /// It could not be fetched.
    #[error("{what} could not be fetched: {reason}")]
    Fetch {
        /// The model or file.
        what: String,
        /// What happened, and the way out where there is one.
        reason: String,
    },
    /// There is no folder for models, and none can be made.
    #[error("models cannot be kept in {path}: {error}; {CACHE} names another cache folder")]
    Cache {
        /// The folder.
        path: String,
        /// The system's word.
        error: std::io::Error,
    },
    /// The disk said no.
    #[error("{path}: {error}")]
    Io {
        /// The file or folder.
        path: String,
        /// The system's word.
        error: std::io::Error,
    },
    /// Ctrl-C; what was fetched so far may be resumed.
    #[error("interrupted")]
    Interrupted,
}

impl ModelStoreError {
    /// For `map_err` after anything done to `path`.
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.display().to_string();
        move |error| Self::Io { path, error }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("\n  {}", path.display())).collect()
}
