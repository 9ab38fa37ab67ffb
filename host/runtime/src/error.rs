//! Why a program cannot be loaded.

use std::path::PathBuf;

use sglhost_core::{Error, ErrorCode};

/// Why a program, or the runtime itself, cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The bytes are something else.
    #[error("this is not a WebAssembly component: {0}")]
    NotAComponent(String),
    /// It is larger than a component may be.
    #[error(
        "the component has {bytes} bytes; the limit is {max} (COMPONENT_BYTES_MAX); build it with optimisation for size and without debug information"
    )]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// It is a component, of another world.
    #[error("the component is not a prompt program (world sgl:program/program): {0}")]
    WrongWorld(String),
    /// It is malformed, or uses a WebAssembly feature that is off.
    #[error("the component cannot be compiled: {0}")]
    Compile(String),
    /// Its `describe` trapped or ran into a limit.
    #[error("the program's describe failed: {0}")]
    Describe(Error),
    /// Its description is not what the contract asks for.
    #[error("the program's description is wrong: {0}")]
    Description(String),
    /// The folder of compiled programs cannot be used.
    #[error("the cache of compiled programs at {path}: {reason}")]
    Cache {
        /// The folder or file.
        path: PathBuf,
        /// What is the matter, and the way out.
        reason: String,
    },
    /// The sandbox cannot be set up on this machine.
    #[error("the sandbox cannot be set up: {0}")]
    Setup(String),
}

impl From<RuntimeError> for Error {
    /// For those who load a program on behalf of a client: what is wrong with the program is *invalid*, what is wrong
    /// with the host *unavailable*.
    fn from(error: RuntimeError) -> Self {
        let code = match &error {
            RuntimeError::TooLarge { .. } => ErrorCode::LimitExceeded,
            RuntimeError::Cache { .. } | RuntimeError::Setup(_) => ErrorCode::Unavailable,
            _ => ErrorCode::Invalid,
        };
        Error::new(code, error.to_string())
    }
}
