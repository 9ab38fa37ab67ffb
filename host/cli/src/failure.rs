//! How a command can end other than well: one line for people and one exit code, mapped in one place.

use std::{fmt, process::ExitCode};

use crate::{
    arguments::ArgumentError, client::ClientError, component::ComponentError, model::ModelStoreError, render::harmless,
};

/// The command line is wrong: clap's own code too.
const USAGE_EXIT_CODE: u8 = 2;
/// It was asked for rightly and did not work.
const FAILURE_EXIT_CODE: u8 = 1;
/// As shells report a process that Ctrl-C ended: 128 + SIGINT.
pub(crate) const INTERRUPTED_EXIT_CODE: u8 = 130;

/// Why a command did not end well.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A flag's value is out of range, or flags exclude each other.
    #[error("{0}")]
    Usage(String),
    /// A program's argument is missing, unknown or of the wrong type.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    /// A file is not a program.
    #[error(transparent)]
    Component(#[from] ComponentError),
    /// A model is not there or could not be fetched.
    #[error(transparent)]
    ModelStore(#[from] ModelStoreError),
    /// A model that is there cannot be served; the reason names its file.
    #[error("the model cannot be served: {0}")]
    Model(String),
    /// A program that is one could not be loaded.
    #[error("{path} cannot be loaded: {reason}")]
    Load {
        /// The component's file.
        path: String,
        /// From the runtime.
        reason: String,
    },
    /// A server did not do what it was asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The run ended with an error.
    #[error("the run failed: {0}")]
    Run(sglhost_core::Error),
    /// Whatever has its message already.
    #[error("{0}")]
    Other(String),
    /// Each line's own error is in the output already.
    #[error("{failed} of {total} lines failed")]
    Batch {
        /// Lines that ended with an error.
        failed: usize,
        /// All lines.
        total: usize,
    },
    /// Reading or writing a file of the user's failed.
    #[error("{path}{}", problem(error))]
    Io {
        /// The file, and the flag that names it.
        path: String,
        /// The system's word.
        error: std::io::Error,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Whoever read standard output has gone, as `| head` does. Not worth a word.
    #[error("standard output was closed")]
    OutputClosed,
}

/// What is wrong with a file, as the end of a sentence that begins with its name.
fn problem(error: &std::io::Error) -> String {
    use std::io::ErrorKind::{InvalidData, IsADirectory, NotFound, PermissionDenied};
    match error.kind() {
        NotFound => " does not exist".to_owned(),
        IsADirectory => " is a folder, not a file".to_owned(),
        PermissionDenied => " may not be opened by this user".to_owned(),
        InvalidData => " is not UTF-8 text".to_owned(),
        _ => format!(": {error}"),
    }
}

impl Failure {
    /// A failure to write to standard output.
    pub(crate) fn from_output(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Io { path: "standard output".to_owned(), error }
        }
    }

    /// Anything that says for itself what went wrong.
    pub(crate) fn other(message: impl fmt::Display) -> Self {
        Self::Other(message.to_string())
    }

    /// Tells the user, where there is something to tell, and gives the process's exit code.
    pub(crate) fn report(&self) -> ExitCode {
        let code = match self {
            Self::Usage(_) | Self::Argument(_) => USAGE_EXIT_CODE,
            Self::Interrupted | Self::ModelStore(ModelStoreError::Interrupted) => {
                return ExitCode::from(INTERRUPTED_EXIT_CODE);
            }
            Self::OutputClosed => return ExitCode::SUCCESS,
            _ => FAILURE_EXIT_CODE,
        };
        let style = clap::builder::Styles::styled();
        let error = style.get_error();
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        use std::io::Write as _;
        let mut out = std::io::stderr().lock();
        // Who closed standard error does not want to know.
        let _ = if terminal {
            // Programs and servers have a say in it.
            writeln!(out, "{error}error:{error:#} {}", harmless(&self.to_string()))
        } else {
            writeln!(out, "error: {self}")
        };
        ExitCode::from(code)
    }
}
