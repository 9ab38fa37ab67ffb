//! Strangers' components are compiled, and asked to describe themselves, in a process of their own.
//!
//! ```text
//! server (parent.rs)                        child (child.rs): the same executable, one for each component
//!   component ────────── stdin ──────────▶  limits itself and gives up all it does not need (confine.rs), then reads
//!   kept on disk ◀── frame: artifact ─────  inspects, compiles, links
//!   described    ◀── frame: description ──  only now: instantiates it and calls `describe`
//!   or an error  ◀── frame: refusal ──────  at any point, or a death that the parent tells the reason of
//! ```
//!
//! # Invariants
//! - The parent has taken the artifact whole before any of the program's code has run in the child: code that escapes
//!   its sandbox there finds nothing to change.
//! - What comes after the artifact is a stranger's word: bounded and parsed as such.
//! - Whatever the child does, `compile_deadline` ends it, and so does a caller that goes away.
//!
//! *Not here*: how the artifact is kept and becomes code (`compile.rs`), who waits for whom (`loading.rs`).

mod child;
mod confine;
mod frame;
mod parent;

use std::ffi::OsString;
use std::path::PathBuf;

use sglhost_core::limits::CompileLimits;

pub use child::compile_child;
pub use confine::confine;
pub(crate) use parent::compile;

/// How components are compiled in a process of their own.
#[derive(Clone, Debug)]
pub struct Isolation {
    /// The executable. On Linux `/proc/self/exe` is this one, even when its file was replaced.
    pub program: PathBuf,
    /// What makes it call [`compile_child`] with the argument that follows these.
    pub arguments: Vec<OsString>,
    /// What one such process may use, and how many there may be.
    pub limits: CompileLimits,
}
