//! A constraint of either kind, and the state of one output under it.

use std::sync::{Arc, atomic::AtomicU32};

use sglhost_core::{Error, TokenId, TokenMask};

use super::{
    context_free::{ContextFree, ContextFreeState},
    forced, json_schema, lark, pattern,
    regular::{Regular, RegularState},
    structural_tag,
};
use crate::Tokenizer;

/// What an output must match, as its author wrote it: names a compiled constraint in a cache.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ConstraintSpec {
    /// A regular expression over the whole output: [`Constraint::regex`].
    Regex(Arc<str>),
    /// One of these texts: [`Constraint::choices`].
    Choices(Arc<[String]>),
    /// A JSON Schema, as JSON text: [`Constraint::json_schema`].
    JsonSchema(Arc<str>),
    /// A context-free grammar: [`Constraint::lark`].
    Lark(Arc<str>),
    /// Free text with constrained parts, as JSON text: [`Constraint::structural_tag`].
    StructuralTag(Arc<str>),
}

impl ConstraintSpec {
    /// Bytes of what the author wrote.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Regex(text) | Self::JsonSchema(text) | Self::Lark(text) | Self::StructuralTag(text) => text.len(),
            Self::Choices(choices) => choices.iter().map(String::len).sum(),
        }
    }

    /// Whether the author wrote nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Compiles it for a vocabulary.
    ///
    /// # Errors
    /// As the maker that the variant names.
    pub fn compile(&self, tokenizer: &Arc<Tokenizer>) -> Result<Constraint, Error> {
        match self {
            Self::Regex(pattern) => Constraint::regex(pattern, tokenizer),
            Self::Choices(choices) => Constraint::choices(choices, tokenizer),
            Self::JsonSchema(schema) => Constraint::json_schema(schema, tokenizer),
            Self::Lark(grammar) => Constraint::lark(grammar, tokenizer),
            Self::StructuralTag(tags) => Constraint::structural_tag(tags, tokenizer),
        }
    }
}

/// What an output must match. Cheap to clone; clones share what they learn of its states.
#[derive(Clone, Debug)]
pub struct Constraint {
    language: Language,
    tokenizer: Arc<Tokenizer>,
    notes: Arc<AtomicU32>,
}

#[derive(Clone, Debug)]
enum Language {
    Regular(Regular),
    ContextFree(ContextFree),
}

impl Constraint {
    /// The whole output must match `pattern`, in the syntax of Rust's `regex` crate: classes are Unicode's, `.` is any
    /// character but a newline. Look-around, back-references, word boundaries and multi-line anchors are not supported.
    ///
    /// # Errors
    /// [`sglhost_core::ErrorCode::Invalid`] with the place for a pattern that is wrong or matches nothing that the
    /// vocabulary can spell; [`sglhost_core::ErrorCode::LimitExceeded`] for one that is too large.
    pub fn regex(pattern: &str, tokenizer: &Arc<Tokenizer>) -> Result<Self, Error> {
        Ok(Self::regular(Regular::new(pattern::regex(pattern)?, tokenizer)?, tokenizer))
    }

    /// The whole output must be one of `choices`.
    ///
    /// # Errors
    /// No choice, or too many or too long ones.
    pub fn choices(choices: &[String], tokenizer: &Arc<Tokenizer>) -> Result<Self, Error> {
        Ok(Self::regular(Regular::new(pattern::choices(choices)?, tokenizer)?, tokenizer))
    }

    /// The whole output must be JSON that `schema` (JSON text of draft 2020-12 or older) admits: properties in the
    /// schema's order, in one line, with a space after each `,` and `:`.
    ///
    /// # Errors
    /// [`sglhost_core::ErrorCode::Unsupported`] with the name of a keyword that is not implemented,
    /// [`sglhost_core::ErrorCode::Invalid`] for what is no schema or admits nothing, and
    /// [`sglhost_core::ErrorCode::LimitExceeded`] for one that is too large.
    pub fn json_schema(schema: &str, tokenizer: &Arc<Tokenizer>) -> Result<Self, Error> {
        Ok(Self::context_free(json_schema::compile(schema, tokenizer)?, tokenizer))
    }

    /// The whole output must be what `grammar` makes of `start`, in the variant of Lark's notation that the `llguidance`
    /// crate documents.
    ///
    /// # Errors
    /// A grammar that is wrong (with the place), admits nothing, or is too large.
    pub fn lark(grammar: &str, tokenizer: &Arc<Tokenizer>) -> Result<Self, Error> {
        Ok(Self::context_free(lark::compile(grammar, tokenizer)?, tokenizer))
    }

    /// Free text, in which a trigger opens one of the tags that begin with it, and a tag's content is constrained. JSON
    /// text of the form that SGLang takes: `{"structures": [{"begin": "<function=f>", "schema": {…}, "end":
    /// "</function>"}], "triggers": ["<function="]}`, with `"regex": "…"` in place of `schema` where wanted.
    ///
    /// # Errors
    /// As [`Constraint::json_schema`], with the tag's `begin` in front; triggers that no tag begins with.
    pub fn structural_tag(tags: &str, tokenizer: &Arc<Tokenizer>) -> Result<Self, Error> {
        Ok(Self::context_free(structural_tag::compile(tags, tokenizer)?, tokenizer))
    }

    pub(super) fn regular(language: Regular, tokenizer: &Arc<Tokenizer>) -> Self {
        Self { language: Language::Regular(language), tokenizer: Arc::clone(tokenizer), notes: Arc::default() }
    }

    fn context_free(language: ContextFree, tokenizer: &Arc<Tokenizer>) -> Self {
        Self { language: Language::ContextFree(language), tokenizer: Arc::clone(tokenizer), notes: Arc::default() }
    }

    /// About how many bytes it takes before any output.
    #[must_use]
    pub fn compiled_bytes(&self) -> usize {
        match &self.language {
            Language::Regular(language) => language.compiled_bytes(),
            Language::ContextFree(language) => language.compiled_bytes(),
        }
    }

    /// About how many bytes it takes, with what its clones and outputs have learnt of its states so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.language {
            Language::Regular(language) => language.bytes(),
            Language::ContextFree(language) => language.bytes(),
        }
    }

    /// A number that all outputs share, for whoever builds masks to note what they cost; 0 at first.
    #[must_use]
    pub fn notes(&self) -> &Arc<AtomicU32> {
        &self.notes
    }

    /// Whether it failed in a way that it may not have got over, so that no more outputs should begin under it.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        matches!(&self.language, Language::ContextFree(language) if language.is_broken())
    }

    /// The state of an output before its first token.
    #[must_use]
    pub fn start(&self) -> ConstraintState {
        let at = match &self.language {
            Language::Regular(language) => At::Regular(language.start()),
            Language::ContextFree(language) => At::ContextFree(Box::new(language.start())),
        };
        ConstraintState { at, tokenizer: Arc::clone(&self.tokenizer) }
    }
}

/// Where an output is within its constraint's language. A clone goes its own way: a fork, or a rollback.
#[derive(Clone, Debug)]
pub struct ConstraintState {
    at: At,
    tokenizer: Arc<Tokenizer>,
}

#[derive(Clone, Debug)]
enum At {
    Regular(RegularState),
    ContextFree(Box<ContextFreeState>),
}

impl ConstraintState {
    /// Tokens that may come next. End-of-text is among them exactly if the output so far is a match.
    ///
    /// Empty only if the constraint ran into a limit, which [`ConstraintState::failure`] then tells: the call must end
    /// with that error.
    pub fn mask(&mut self) -> Arc<TokenMask> {
        match &mut self.at {
            At::Regular(state) => state.mask(),
            At::ContextFree(state) => state.mask(),
        }
    }

    /// The mask, if it need not be built.
    pub fn known_mask(&mut self) -> Option<Arc<TokenMask>> {
        match &mut self.at {
            At::Regular(state) => state.known_mask(),
            At::ContextFree(state) => state.known_mask(),
        }
    }

    /// Which limit the constraint ran into.
    #[must_use]
    pub fn failure(&self) -> Option<&Error> {
        match &self.at {
            At::Regular(state) => state.failure(),
            At::ContextFree(state) => state.failure(),
        }
    }

    /// Takes a token; false, and no change, if it is not allowed or the constraint ran into a limit
    /// ([`ConstraintState::failure`]). End-of-text is allowed where the output is a match, and changes nothing.
    pub fn advance(&mut self, token: TokenId) -> bool {
        if self.tokenizer.end_of_text().contains(&token) {
            return self.is_accepting();
        }
        if self.tokenizer.is_special(token) {
            return false;
        }
        match &mut self.at {
            At::Regular(state) => state.advance(token),
            At::ContextFree(state) => state.advance(token),
        }
    }

    /// Whether the output so far is a match.
    pub fn is_accepting(&mut self) -> bool {
        match &mut self.at {
            At::Regular(state) => state.is_accepting(),
            At::ContextFree(state) => state.is_accepting(),
        }
    }

    /// Whether the output so far is a match and nothing can follow.
    pub fn is_finished(&mut self) -> bool {
        match &mut self.at {
            At::Regular(state) => state.is_finished(),
            At::ContextFree(state) => state.is_finished(),
        }
    }

    /// Tokens that must come next, as the model's own tokenizer cuts the text behind `before` (the tokens so far, of which
    /// the last few matter); those at the end that depend on what follows are left out. Takes none of them:
    /// [`ConstraintState::advance`] does, and may be false where the vocabulary is too poor for the rest.
    pub fn forced_tokens(&mut self, before: &[TokenId]) -> Vec<TokenId> {
        match &mut self.at {
            At::Regular(state) => {
                let run = state.forced();
                forced::tokens(&self.tokenizer, before, &run.bytes, |byte| run.next[usize::from(byte)])
            }
            At::ContextFree(state) => {
                let (bytes, next) = state.forced();
                forced::tokens(&self.tokenizer, before, &bytes, |byte| next[usize::from(byte)])
            }
        }
    }

    /// Takes text of a regular language; false, and no change, if it leaves the language.
    #[cfg(test)]
    pub(super) fn advance_bytes(&mut self, bytes: &[u8]) -> bool {
        let At::Regular(state) = &mut self.at else { return false };
        state.advance_bytes(bytes)
    }
}
