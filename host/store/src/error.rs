//! How keeping something can fail.

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no such thing.
    #[error("there is no {what}")]
    NotFound {
        /// A tenant, a key, a program, a version.
        what: String,
    },
    /// It would be more than the tenant may keep.
    #[error("{0}")]
    Quota(String),
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
