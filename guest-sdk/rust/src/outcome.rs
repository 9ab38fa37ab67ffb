//! How a call ended: its text, and what else the host knows about it.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::bindings::sgl::program::{lm, types};

/// How a `gen` or `select` ended. Everything but the text is fetched from the host when it is asked for.
#[derive(Debug)]
pub struct Outcome {
    outcome: lm::Outcome,
    /// Copied once, so that a borrowed text can be handed out.
    text: OnceCell<String>,
}

/// A token with its log-probability under the model's raw distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Its bytes; a token may hold part of a character.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

impl TokenLogprob {
    /// The token's text; parts of characters are shown as U+FFFD.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

pub(crate) fn logprobs_from_host(logprobs: Vec<types::TokenLogprob>) -> Vec<TokenLogprob> {
    logprobs
        .into_iter()
        .map(|types::TokenLogprob { token, bytes, logprob }| TokenLogprob { token, bytes, logprob })
        .collect()
}

impl Outcome {
    pub(crate) fn new(outcome: lm::Outcome) -> Self {
        Self { outcome, text: OnceCell::new() }
    }

    /// The whole output; of a `select`, the choice.
    pub fn text(&self) -> &str {
        self.string()
    }

    pub(crate) fn string(&self) -> &String {
        self.text.get_or_init(|| self.outcome.text())
    }

    /// The tokens generated.
    #[must_use]
    pub fn tokens(&self) -> Vec<u32> {
        self.outcome.tokens()
    }

    /// `stop`, `length` or `end-of-text`.
    #[must_use]
    pub fn finish_reason(&self) -> String {
        self.outcome.finish_reason()
    }

    /// The stop string, regex match or stop token's text that ended it.
    #[must_use]
    pub fn matched(&self) -> Option<String> {
        self.outcome.matched()
    }

    /// Of each generated token, if [`Gen::top_logprobs`](crate::Gen::top_logprobs) asked for them.
    #[must_use]
    pub fn logprobs(&self) -> Vec<TokenLogprob> {
        logprobs_from_host(self.outcome.logprobs())
    }

    /// The alternatives at one position of the output, likeliest first.
    #[must_use]
    pub fn top_logprobs(&self, position: u32) -> Vec<TokenLogprob> {
        logprobs_from_host(self.outcome.top_logprobs(position))
    }

    /// Tokens before the output, cached ones included.
    #[must_use]
    pub fn prompt_tokens(&self) -> u32 {
        self.outcome.prompt_tokens()
    }

    /// Of those, tokens that the cache already held.
    #[must_use]
    pub fn cached_tokens(&self) -> u32 {
        self.outcome.cached_tokens()
    }

    /// Tokens generated.
    #[must_use]
    pub fn completion_tokens(&self) -> u32 {
        self.outcome.completion_tokens()
    }

    /// Of those, tokens that nobody sampled, because the constraint allowed nothing else.
    #[must_use]
    pub fn forced_tokens(&self) -> u32 {
        self.outcome.forced_tokens()
    }

    /// Of a `select`: which choice was taken.
    #[must_use]
    pub fn choice(&self) -> Option<u32> {
        self.outcome.choice()
    }

    /// Of a `select`: the score of each choice that the method compared.
    #[must_use]
    pub fn scores(&self) -> Vec<f32> {
        self.outcome.scores()
    }
}
