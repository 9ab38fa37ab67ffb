//! What other crates see of an engine: models, requests, calls and how they end.

use std::{sync::Arc, time::Duration};

use sglhost_core::{ChoicesMethod, Error, FinishReason, RunId, SamplingParams, TenantId, TokenId, Usage};
use sglhost_text::{Constraint, Roles, Tokenizer};
use tokio::sync::mpsc;

/// A served model, as contexts and programs see it.
#[derive(Debug)]
pub struct Model {
    /// The name it is served under.
    pub name: String,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// How its chat template writes roles.
    pub roles: Roles,
    /// Longest context in tokens.
    pub context_length: usize,
}

/// Serves models to programs. Implemented by the engine's handle, later by a remote engine's client.
pub trait Engine: Send + Sync {
    /// The models served, the default first; never empty.
    fn models(&self) -> &[Arc<Model>];

    /// Starts a call. Its events arrive on the returned [`Call`]; dropping that cancels it.
    ///
    /// # Errors
    /// A request that can never run (too long, bad parameters), an engine that is shut down, or one that has as many
    /// calls waiting as it takes. Memory that is in use is no error: the call waits.
    fn submit(&self, request: Request) -> Result<Call, Error>;

    /// Says that a run calls no more: what was kept for it may be forgotten.
    fn run_ended(&self, tenant: &TenantId, run: RunId);
}

/// One call, ready for the scheduler.
#[derive(Debug)]
pub struct Request {
    /// Index into [`Engine::models`].
    pub model: usize,
    /// Whose cache namespace it reads and writes.
    pub tenant: TenantId,
    /// The run it belongs to; service is counted by it. See [`Engine::run_ended`].
    pub run: RunId,
    /// Calls of higher priority go before others of the same tenant; 0 is usual.
    pub priority: i32,
    /// When to give the call up, on the engine's clock; it ends with *deadline-exceeded*.
    pub deadline: Option<Duration>,
    /// All tokens of the context; see [`crate::Context::seal`].
    pub prompt: Arc<[TokenId]>,
    /// What is wanted.
    pub work: Work,
}

/// What a call wants.
#[derive(Debug)]
pub enum Work {
    /// Text after the prompt.
    Generate {
        /// How to sample and when to stop.
        params: Box<SamplingParams>,
        /// What the output must match.
        constraint: Option<Constraint>,
    },
    /// Which of several continuations of the prompt is the likeliest. See [`crate::Context::choices`].
    Select {
        /// Tokens of each choice, after `prompt`; none may be empty.
        choices: Vec<Vec<TokenId>>,
        /// How to compare.
        method: ChoicesMethod,
    },
    /// The log-probability of each of these tokens after the prompt.
    Score {
        /// The continuation.
        tokens: Vec<TokenId>,
    },
    /// The likeliest tokens after the prompt.
    NextTokens {
        /// How many.
        count: u32,
    },
    /// That the prompt is computed and kept for good, for all tenants: for the operator only.
    Publish,
}

/// A call under way. Dropping it cancels it.
#[derive(Debug)]
pub struct Call {
    /// Any number of deltas, then exactly one `Finished` or `Failed`. A closed channel without one means that the
    /// engine is gone.
    pub events: mpsc::Receiver<CallEvent>,
}

/// What a call reports.
#[derive(Debug)]
pub enum CallEvent {
    /// More text: whole characters, never part of a stop string.
    Delta(String),
    /// It ended well.
    Finished(Box<Outcome>),
    /// It ended with an error. `text` was delivered before that.
    Failed(Error),
}

/// How a call ended.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The whole output; for `select` the choice's text is left to the caller, who knows it.
    pub text: String,
    /// The tokens of the output, without an end-of-text or matched stop token.
    pub tokens: Vec<TokenId>,
    /// How many of `tokens` the constraint forced, so that nobody sampled them; they count as the others do.
    pub forced_tokens: usize,
    /// How many of `tokens` the context keeps as they are; `pending` is what it holds after them.
    pub kept_tokens: usize,
    /// Text after the kept tokens: the part of a cut token before a stop string.
    pub pending: String,
    /// Why it ended; none for `score` and `next-tokens`.
    pub finish_reason: Option<FinishReason>,
    /// What matched: the stop string, the text that the stop regex matched, or the stop token's text.
    pub matched: Option<String>,
    /// Of each sampled token (if asked for), of each scored token, or of the next tokens, likeliest first.
    pub logprobs: Vec<TokenLogprob>,
    /// Alternatives of each sampled token, if asked for.
    pub top_logprobs: Vec<Vec<TokenLogprob>>,
    /// What it used.
    pub usage: Usage,
    /// `select`: index of the choice taken.
    pub choice: Option<usize>,
    /// `select`: the score of each choice that the method compared.
    pub scores: Vec<f32>,
}

/// A token with its log-probability under the raw distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: TokenId,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}
