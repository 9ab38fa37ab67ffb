//! What a context holds: tokens that are settled, and text that is not tokenized yet.
//!
//! Text is tokenized as late as possible, from the last sampled token on, so that neighbouring pieces are tokenized
//! jointly, as the model saw them in training.

use std::sync::Arc;

use sglhost_core::{Error, TokenId};
use sglhost_text::Segment;

use crate::{Model, Outcome};

/// One conversation so far. A clone is a fork: pending text is copied unsealed.
#[derive(Clone, Debug)]
pub struct Context {
    model: Arc<Model>,
    tokens: Vec<TokenId>,
    pending: Vec<Segment>,
    text: String,
}
impl Context {
    /// An empty context of `model`.
    #[must_use]
    pub fn new(model: Arc<Model>) -> Self {
        Self { model, tokens: Vec::new(), pending: Vec::new(), text: String::new() }
    }
    /// The model it belongs to.
    #[must_use]
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }
    /// Everything so far as text, role markers included. Grows only at its end, except by [`Context::truncate`].
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
    /// Adds plain text; it never becomes control tokens, whatever it says.
    pub fn append(&mut self, text: &str) {
        let _ = text;
    }
    /// Adds text in which the model's special tokens are recognised.
    pub fn append_markup(&mut self, text: &str) {
        let _ = text;
    }
    /// Adds tokens as they are.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    pub fn append_tokens(&mut self, tokens: &[TokenId]) -> Result<(), Error> {
        let _ = tokens;
        Ok(())
    }
    /// Opens a role as the model's chat template writes it.
    ///
    /// # Errors
    /// An unknown role, or one that is open already.
    pub fn begin_role(&mut self, role: &str) -> Result<(), Error> {
        let _ = role;
        Ok(())
    }
    /// Closes the open role.
    ///
    /// # Errors
    /// No role is open.
    pub fn end_role(&mut self) -> Result<(), Error> {
        Ok(())
    }
    /// Tokenizes what is pending and gives all tokens: the prompt of a call.
    pub fn seal(&mut self) -> Arc<[TokenId]> {
        self.tokens.as_slice().into()
    }
    /// The prompt and the tokens of each choice for a `select`: pending text is tokenized jointly with each choice, and
    /// the prompt is what all have in common. The context itself stays unsealed.
    ///
    /// # Errors
    /// No choice, an empty one, too many, or one that is the beginning of another with no token between them.
    pub fn choices(&self, choices: &[String]) -> Result<(Arc<[TokenId]>, Vec<Vec<TokenId>>), Error> {
        let _ = choices;
        Ok((self.tokens.as_slice().into(), Vec::new()))
    }
    /// Tokens of `text` as the continuation of the context, which stays as it was.
    #[must_use]
    pub fn continuation(&self, text: &str) -> (Arc<[TokenId]>, Vec<TokenId>) {
        let _ = text;
        (self.tokens.as_slice().into(), Vec::new())
    }
    /// Takes over the output of a `generate` that was made from [`Context::seal`]'s prompt.
    pub fn apply(&mut self, outcome: &Outcome) {
        let _ = outcome;
    }
    /// Cuts back to the first `tokens` tokens.
    ///
    /// # Errors
    /// There are fewer.
    pub fn truncate(&mut self, tokens: usize) -> Result<(), Error> {
        let _ = tokens;
        Ok(())
    }
    /// Seals and counts.
    pub fn token_count(&mut self) -> usize {
        self.seal().len()
    }
}
