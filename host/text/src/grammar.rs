//! What an output must match: a constraint, compiled once, and its state as the output grows.
//!
//! Two kinds. A regular language (`regular`: regular expressions, choices) is an automaton over bytes (`automaton`): in
//! each of its states the tokens that keep the output inside the language are found by walking a trie of the vocabulary
//! (`trie`) and the automaton side by side, and the mask is remembered for the state. A context-free one
//! (`context_free`: JSON Schema, Lark, structural tags) is `llguidance`'s. Both tell which bytes must come next, and
//! `forced` makes tokens of them.
//!
//! *Invariants*: a token is allowed only if a match can still be spelled after it; end-of-text is allowed exactly where
//! the output is a match; other control tokens never are. Outputs of regular languages are valid UTF-8, because patterns
//! match only that.

pub(crate) mod automaton;
mod constraint;
pub(crate) mod context_free;
mod forced;
mod json_schema;
mod lark;
pub(crate) mod pattern;
mod regular;
mod structural_tag;
#[cfg(test)]
mod tests;
pub(crate) mod trie;

pub use constraint::{Constraint, ConstraintSpec, ConstraintState};
