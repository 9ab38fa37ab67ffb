//! What an output must match: a constraint, compiled once, and its state as the output grows.
//!
//! A constraint is an automaton over bytes (`automaton`). In each of its states the tokens that keep the output inside
//! the language are found by walking a trie of the vocabulary (`trie`) and the automaton side by side; the resulting
//! mask is remembered for the state.
//!
//! *Invariants*: a token is allowed only if a match can still be spelled after it; end-of-text is allowed exactly where
//! the output is a match; other control tokens never are. Outputs are valid UTF-8, because patterns match only that.

pub(crate) mod automaton;
mod constraint;
pub(crate) mod pattern;
#[cfg(test)]
mod tests;
pub(crate) mod trie;

pub use constraint::{Constraint, ConstraintState};
