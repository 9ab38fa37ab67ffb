//! How keeping something can fail.

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such thing.
    #[error("there is no {what}")]
    NotFound {
        /// A tenant, a key, a program, a version, a run.
        what: String,
    },
    /// An id that must be new was used before; they are drawn at random: draw again.
    #[error("there is a {what} already")]
    Taken {
        /// A key or a run.
        what: String,
    },
    /// It would be more than the tenant may keep.
    #[error("{0}")]
    Quota(String),
    /// A component's file no longer holds what was put there.
    #[error("the component sha256:{digest} is damaged on the server's disk; upload it again")]
    Damaged {
        /// Which.
        digest: String,
    },
    /// The folder cannot be used.
    #[error("the data folder {path} cannot be used: {reason}")]
    Folder {
        /// Which.
        path: std::path::PathBuf,
        /// The system's word, and the way out.
        reason: String,
    },
    /// The database or the disk failed.
    #[error("the store failed: {0}")]
    Failed(String),
}

impl StoreError {
    /// There is no such thing.
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self::NotFound { what: what.into() }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
