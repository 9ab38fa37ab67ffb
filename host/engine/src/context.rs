//! What a context holds: tokens that are settled, and text that is not tokenized yet.
//!
//! Text is tokenized as late as possible, from the last sampled token on, so that neighbouring pieces are tokenized
//! jointly, as the model saw them in training.
//!
//! *Not here*: KV memory and its slots. Tokens are all that a context keeps; what of them is already computed is the
//! cache's business.

use std::sync::Arc;

use sglhost_core::{Error, ErrorCode, TokenId};
use sglhost_text::{RoleMarkup, Segment};

use crate::{Model, Outcome};

/// One conversation so far. A clone is a fork: pending text is copied unsealed.
#[derive(Clone, Debug)]
pub struct Context {
    model: Arc<Model>,
    tokens: Vec<TokenId>,
    /// Text after `tokens`, not tokenized yet; neighbours differ in kind.
    pending: Vec<Segment>,
    /// Everything so far, a BOS token excepted.
    text: String,
    turns: Vec<Turn>,
}

/// One turn of the conversation.
#[derive(Clone, Debug)]
struct Turn {
    role: Arc<str>,
    /// Bytes of text before it.
    start: usize,
    /// Bytes of text before its suffix, if it was ended.
    end: Option<usize>,
    markup: RoleMarkup,
    /// Something follows the prefix already.
    has_content: bool,
}

/// A prompt and what may follow it, tokenized jointly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Continuations {
    /// What all continuations have in common with the context alone.
    pub prompt: Arc<[TokenId]>,
    /// The tokens of each continuation after `prompt`.
    pub tokens: Vec<Vec<TokenId>>,
}

impl Context {
    /// An empty context of `model`.
    #[must_use]
    pub fn new(model: Arc<Model>) -> Self {
        Self { model, tokens: Vec::new(), pending: Vec::new(), text: String::new(), turns: Vec::new() }
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
        if !text.is_empty() {
            self.open_content(|markup| &markup.before_text);
            self.push(Segment::plain(text));
        }
    }

    /// Adds text in which the model's special tokens are recognised.
    pub fn append_markup(&mut self, text: &str) {
        if !text.is_empty() {
            self.open_content(|markup| &markup.before_text);
            self.push(Segment::markup(text));
        }
    }

    /// Writes what the template puts between a role's prefix and the turn's content, once.
    fn open_content(&mut self, before: fn(&RoleMarkup) -> &String) {
        let Some(turn) = self.turns.last_mut().filter(|turn| turn.end.is_none() && !turn.has_content) else { return };
        turn.has_content = true;
        let markup = Segment::markup(before(&turn.markup));
        self.push(markup);
    }

    fn push(&mut self, segment: Segment) {
        if segment.text.is_empty() {
            return;
        }
        self.text.push_str(&segment.text);
        match self.pending.last_mut() {
            Some(last) if last.kind == segment.kind => last.text.push_str(&segment.text),
            _ => self.pending.push(segment),
        }
    }

    /// Adds tokens as they are.
    ///
    /// # Errors
    /// A token outside the vocabulary.
    pub fn append_tokens(&mut self, tokens: &[TokenId]) -> Result<(), Error> {
        let tokenizer = &self.model.tokenizer;
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= tokenizer.vocabulary()) {
            return Err(Error::invalid(format!(
                "token {token} is outside the vocabulary of {}, which has {} tokens",
                self.model.name,
                tokenizer.vocabulary()
            )));
        }
        let text = tokenizer.decode(tokens);
        self.settle();
        self.tokens.extend_from_slice(tokens);
        self.text.push_str(&text);
        Ok(())
    }

    /// Opens a role as the model's chat template writes it. The first role of a context brings the template's default
    /// system message with it, if there is one and the role is not `system`.
    ///
    /// # Errors
    /// A role that the template does not know here, or one that is open already.
    pub fn begin_role(&mut self, role: &str) -> Result<(), Error> {
        let last = self.turns.last();
        if let Some(open) = last.filter(|turn| turn.end.is_none()) {
            return Err(Error::invalid(format!(
                "role {role:?} cannot begin inside role {:?}; end that one first",
                open.role
            )));
        }
        let markup = self.model.roles.open(role, last.map(|turn| &*turn.role))?;
        let prefix = Segment::markup(&markup.prefix);
        self.turns.push(Turn { role: role.into(), start: self.text.len(), end: None, markup, has_content: false });
        self.push(prefix);
        Ok(())
    }

    /// Closes the open role.
    ///
    /// # Errors
    /// No role is open.
    pub fn end_role(&mut self) -> Result<(), Error> {
        self.open_content(|markup| &markup.before_text);
        let at = self.text.len();
        let Some(turn) = self.turns.last_mut().filter(|turn| turn.end.is_none()) else {
            return Err(Error::invalid("there is no role to end; begin one first"));
        };
        turn.end = Some(at);
        let suffix = Segment::markup(&turn.markup.suffix);
        self.push(suffix);
        Ok(())
    }

    /// Tokenizes what is pending and gives all tokens: the prompt of a `generate`.
    pub fn seal(&mut self) -> Arc<[TokenId]> {
        self.open_content(|markup| &markup.before_generation);
        self.settle();
        self.tokens.as_slice().into()
    }

    fn settle(&mut self) {
        self.tokens = self.tokens_with(None);
        self.pending.clear();
    }

    /// All tokens, as they would be with `more` plain text at the end. BOS stands once, in front.
    fn tokens_with(&self, more: Option<&str>) -> Vec<TokenId> {
        let tokenizer = &self.model.tokenizer;
        let mut segments = self.pending.clone();
        if let Some(more) = more {
            let opened = self.turns.last().filter(|turn| turn.end.is_none() && !turn.has_content);
            segments.extend(opened.map(|turn| Segment::markup(&turn.markup.before_text)));
            segments.push(Segment::plain(more));
        }
        let bos = tokenizer.bos().filter(|_| self.tokens.is_empty() && self.wants_bos());
        let mut tokens: Vec<TokenId> = bos.iter().chain(&self.tokens).copied().collect();
        if !segments.is_empty() {
            let mut added = tokenizer.encode_after(tokens.last().copied(), &segments);
            if bos.is_some() && bos == added.first().copied() {
                added.remove(0); // Markup spelled it out.
            }
            tokens.append(&mut added);
        }
        tokens
    }

    /// Whether a BOS token belongs in front: the tokenizer or the template says so.
    fn wants_bos(&self) -> bool {
        self.model.tokenizer.adds_bos() || (!self.turns.is_empty() && self.model.roles.starts_with_bos())
    }

    /// The prompt and the tokens of each choice for a `select`: pending text is tokenized jointly with each choice, and
    /// the prompt is what all have in common with the context alone. The context itself stays unsealed.
    ///
    /// # Errors
    /// No choice, or an empty one.
    pub fn choices(&self, choices: &[String]) -> Result<Continuations, Error> {
        if choices.is_empty() {
            return Err(Error::invalid("a select needs at least one choice"));
        }
        if let Some(index) = choices.iter().position(String::is_empty) {
            return Err(Error::invalid(format!("choice {index} is empty")));
        }
        let continuations = self.joint(choices);
        match continuations.tokens.iter().position(Vec::is_empty) {
            None => Ok(continuations),
            Some(index) => Err(Error::invalid(format!(
                "choice {index} merges with the text before it into tokens that it shares with all others; end the text \
                 before it at a word"
            ))),
        }
    }

    /// The prompt and the tokens of `text` as the continuation of the context, which stays as it was.
    #[must_use]
    pub fn continuation(&self, text: &str) -> Continuations {
        self.joint(&[text.to_owned()])
    }

    fn joint(&self, texts: &[String]) -> Continuations {
        let alone = self.tokens_with(None);
        let whole: Vec<Vec<TokenId>> = texts.iter().map(|text| self.tokens_with(Some(text))).collect();
        let common = |other: &Vec<TokenId>| alone.iter().zip(other).take_while(|(a, b)| a == b).count();
        let shared = whole.iter().map(common).min().unwrap_or(0);
        if shared == 0 && !alone.is_empty() {
            // All of the prompt would merge with what follows, and nothing would be left to condition on.
            let tokens = texts.iter().map(|text| self.model.tokenizer.encode_plain(text)).collect();
            return Continuations { prompt: alone.into(), tokens };
        }
        Continuations {
            prompt: alone[..shared].into(),
            tokens: whole.into_iter().map(|tokens| tokens[shared..].to_vec()).collect(),
        }
    }

    /// Takes over the output of a `generate` that was made from [`Context::seal`]'s prompt.
    ///
    /// # Panics
    /// If text was appended since.
    pub fn apply(&mut self, outcome: &Outcome) {
        assert!(self.pending.is_empty(), "nothing is appended between a call and its outcome");
        self.tokens.extend_from_slice(&outcome.tokens[..outcome.kept_tokens]);
        self.text.push_str(&outcome.text);
        if !outcome.pending.is_empty() {
            self.pending.push(Segment::plain(outcome.pending.clone()));
        }
    }

    /// Cuts back to the first `tokens` tokens.
    ///
    /// # Errors
    /// There are fewer.
    pub fn truncate(&mut self, tokens: usize) -> Result<(), Error> {
        self.settle();
        if tokens > self.tokens.len() {
            return Err(Error::new(
                ErrorCode::Invalid,
                format!("cannot cut back to {tokens} tokens: the context has {}", self.tokens.len()),
            ));
        }
        self.tokens.truncate(tokens);
        let tokenizer = &self.model.tokenizer;
        let unwritten = self.wants_bos() && self.tokens.first().copied() == tokenizer.bos() && !self.spells_bos();
        self.text = tokenizer.decode(&self.tokens[usize::from(unwritten)..]);
        let length = self.text.len();
        self.turns.retain(|turn| turn.start < length);
        if let Some(turn) = self.turns.last_mut() {
            turn.end = turn.end.filter(|&end| end < length);
        }
        Ok(())
    }

    /// Whether the text spells out its BOS token.
    fn spells_bos(&self) -> bool {
        let tokenizer = &self.model.tokenizer;
        tokenizer.bos().is_some_and(|bos| self.text.as_bytes().starts_with(tokenizer.token_bytes(bos)))
    }

    /// Seals and counts.
    pub fn token_count(&mut self) -> usize {
        self.settle();
        self.tokens.len()
    }
}
