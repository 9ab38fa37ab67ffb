//! Why a program cannot be loaded.

use std::path::PathBuf;
use std::time::Duration;

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
    /// Its instance would not fit into a run.
    #[error("the component declares {0}")]
    DeclaresTooMuch(String),
    /// It is malformed, or uses a WebAssembly feature that is off.
    #[error("the component cannot be compiled: {0}")]
    Compile(String),
    /// Its `describe` trapped or ran into a limit.
    #[error("the program's describe failed: {0}")]
    Describe(Error),
    /// The process that compiles it, or asks it to describe itself, came to an end before it was done.
    #[error("{} {end}", if *.describing { "the program's describe" } else { "compiling the component" })]
    Ended {
        /// The component was compiled, and was describing itself.
        describing: bool,
        /// How it ended.
        end: CompileEnd,
    },
    /// As many components as may are waiting to be compiled.
    #[error("{queued} components wait to be compiled, as many as may (compiles_queued_max); try again in some seconds")]
    Busy {
        /// Those that wait.
        queued: usize,
    },
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

/// How a process that compiles ended before it was done. A way out that is the operator's is named as such.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileEnd {
    /// It wanted more memory than it may have.
    #[error(
        "needs more than {max} bytes of memory (compile_memory_max_bytes); make the component smaller, its largest \
         functions above all, or run the host with a higher compile_memory_max_bytes"
    )]
    Memory {
        /// The limit.
        max: usize,
    },
    /// It computed for too long.
    #[error(
        "needs more than {} s of CPU time (compile_cpu_budget); make the component smaller, or run the host with a \
         higher compile_cpu_budget", max.as_secs_f64()
    )]
    CpuTime {
        /// The limit.
        max: Duration,
    },
    /// It took too long by the clock: the machine is busy, or it slept.
    #[error(
        "took longer than {} s (compile_deadline); try again when the host is less busy, or run the host with a higher \
         compile_deadline", max.as_secs_f64()
    )]
    Deadline {
        /// The limit.
        max: Duration,
    },
    /// It compiles to too much.
    #[error(
        "gives more than {max} bytes of native code (compiled_bytes_max); make the component smaller, or run the host \
         with a higher compiled_bytes_max"
    )]
    Code {
        /// The limit.
        max: u64,
    },
    /// It asked the system for something that compiling does not need.
    #[error("was ended by its filter of system calls: it asked for something that it has no use for")]
    Forbidden,
    /// Somebody killed it: the system that ran out of memory, most likely.
    #[error("was killed from outside, as a system does that runs out of memory; try again when the host is less busy")]
    Killed,
    /// It failed by itself.
    #[error("crashed ({how})")]
    Crashed {
        /// Its exit status and the first of its last words.
        how: String,
    },
}

impl CompileEnd {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Memory { .. } | Self::CpuTime { .. } | Self::Code { .. } => ErrorCode::LimitExceeded,
            Self::Deadline { .. } => ErrorCode::DeadlineExceeded,
            Self::Killed => ErrorCode::Unavailable,
            Self::Forbidden | Self::Crashed { .. } => ErrorCode::Invalid,
        }
    }
}

impl From<RuntimeError> for Error {
    /// For those who load a program on behalf of a client: what is wrong with the program is *invalid*, what is wrong
    /// with the host *unavailable*.
    fn from(error: RuntimeError) -> Self {
        let code = match &error {
            RuntimeError::TooLarge { .. } | RuntimeError::DeclaresTooMuch(_) => ErrorCode::LimitExceeded,
            RuntimeError::Ended { end, .. } => end.code(),
            RuntimeError::Cache { .. } | RuntimeError::Setup(_) | RuntimeError::Busy { .. } => ErrorCode::Unavailable,
            _ => ErrorCode::Invalid,
        };
        Error::new(code, error.to_string())
    }
}
