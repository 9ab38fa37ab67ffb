//! What can be wrong with the files that describe a model's text.

/// A tokenizer or a chat template could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TextError {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file or GGUF metadata does not say what it must.
    #[error("{origin}: {reason}")]
    Malformed {
        /// The file, or the metadata key.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A kind of tokenizer that is not known here.
    #[error("{0}")]
    Unsupported(String),
    /// The chat template cannot be turned into role markup.
    #[error("the model's chat template {reason}; `--chat-template FILE` overrides it")]
    Template {
        /// What is wrong with it, as the end of a sentence.
        reason: String,
    },
}

impl TextError {
    pub(crate) fn malformed(origin: impl Into<String>, reason: impl ToString) -> Self {
        Self::Malformed { origin: origin.into(), reason: reason.to_string() }
    }

    pub(crate) fn template(reason: impl Into<String>) -> Self {
        Self::Template { reason: reason.into() }
    }
}
