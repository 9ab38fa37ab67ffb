//! Text and tokens: tokenizer, incremental detokenizer, chat roles, stop matcher, constraints.
//!
//! Owns: [`Tokenizer`] (from Hugging Face files or GGUF metadata), [`Detokenizer`], [`Roles`] (the markup that a model's
//! chat template puts around turns), [`StopMatcher`] and [`grammar`] (constraint → token mask).
//!
//! *Invariants*: [`SegmentKind::Plain`] text never becomes control tokens; what is delivered is whole UTF-8 and never
//! part of a stop string; a mask never leads into a dead end.
//!
//! *Boundary*: no async runtime, no wall clock, no environment; reads the tokenizer files it is pointed at and nothing
//! else.

mod detokenizer;
mod error;
pub mod grammar;
mod roles;
mod segment;
mod stop;
mod tokenizer;

pub use detokenizer::Detokenizer;
pub use error::TextError;
pub use grammar::{Constraint, ConstraintSpec, ConstraintState};
pub use roles::{RoleMarkup, Roles};
pub use segment::{Segment, SegmentKind};
pub use stop::{StopKind, StopMatch, StopMatcher, StopStep};
pub use tokenizer::{GgufVocabulary, Tokenizer};
