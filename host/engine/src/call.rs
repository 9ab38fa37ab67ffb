//! A call inside the engine: from a request to its sequences, and from their results to its one terminal event.

use std::time::Duration;

use sglhost_cache::Namespace;
use sglhost_core::{ChoicesMethod, RunId, TenantId, TokenId, Usage};

use crate::{
    CallEvent, Outcome, TokenLogprob,
    generation::Generation,
    output::Output,
    queue::Account,
    select::choose,
    sequence::{Goal, Sequence, SequenceId},
};

/// Key of a call within the engine; increases with arrival.
pub(crate) type CallKey = u64;

/// What arrives at the engine's thread.
#[derive(Debug)]
pub(crate) enum Message {
    Call(Box<Accepted>),
    RunEnded(TenantId, RunId),
}

/// A request that passed every check, on its way to the engine's thread.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) tenant: TenantId,
    pub(crate) run: RunId,
    pub(crate) priority: i32,
    pub(crate) deadline: Option<Duration>,
    pub(crate) namespace: Namespace,
    pub(crate) prompt: Vec<TokenId>,
    pub(crate) job: Job,
    pub(crate) output: Output,
}

/// What the call wants, parsed.
#[derive(Debug)]
pub(crate) enum Job {
    Generate(Box<Generation>),
    Select {
        choices: Vec<Vec<TokenId>>,
        method: ChoicesMethod,
        /// What stands before a choice without the prompt: BOS, if the model has one.
        root: Option<TokenId>,
    },
    Score(Vec<TokenId>),
    NextTokens(u32),
    Publish,
}

/// A call whose sequences are under way.
#[derive(Debug)]
pub(crate) struct CallState {
    pub(crate) output: Output,
    /// Terminal event sent; what is left is to deliver what is held.
    pub(crate) ended: bool,
    pub(crate) deadline: Option<Duration>,
    /// Those under way, and perhaps some that are done.
    pub(crate) sequences: Vec<SequenceId>,
    pub(crate) opened_at: Duration,
    /// When the last token came.
    pub(crate) token_at: Option<Duration>,
    usage: Usage,
    /// Log-probabilities by part, as they come in; parts of a `select` are its choices, then the unconditional ones.
    parts: Vec<Option<Vec<TokenLogprob>>>,
    select: Option<(ChoicesMethod, usize)>,
}

impl CallState {
    /// The state of a call and the sequences it needs.
    pub(crate) fn open(key: CallKey, account: Account, accepted: Accepted, now: Duration) -> (Self, Vec<Sequence>) {
        let Accepted { namespace, prompt, job, output, deadline, .. } = accepted;
        let mut state = Self {
            output,
            ended: false,
            deadline,
            sequences: Vec::new(),
            opened_at: now,
            token_at: None,
            usage: Usage { prompt_tokens: prompt.len() as u64, ..Usage::default() },
            parts: Vec::new(),
            select: None,
        };
        let sequence = |tokens, goal| Sequence::new(key, account, namespace.clone(), tokens, goal);
        let mut scored: Vec<(Vec<TokenId>, usize)> = Vec::new();
        match job {
            Job::Generate(generation) => return (state, vec![sequence(prompt, Goal::Generate(generation))]),
            Job::Publish => return (state, vec![sequence(prompt, Goal::Publish)]),
            Job::NextTokens(count) => return (state, vec![sequence(prompt, Goal::NextTokens { count })]),
            Job::Score(tokens) => scored.push(([&prompt[..], &tokens].concat(), prompt.len())),
            Job::Select { choices, method, root } => {
                state.select = Some((method, choices.len()));
                scored.extend(choices.iter().map(|choice| ([&prompt[..], choice].concat(), prompt.len())));
                if method == ChoicesMethod::UnconditionalLikelihoodNormalized {
                    scored.extend(choices.iter().map(|choice| {
                        let tokens: Vec<TokenId> = root.iter().chain(choice).copied().collect();
                        (tokens, 1)
                    }));
                }
            }
        }
        state.parts = vec![None; scored.len()];
        let mut sequences = Vec::with_capacity(scored.len());
        for (part, (tokens, from)) in scored.into_iter().enumerate() {
            if tokens.len() > from {
                sequences.push(sequence(tokens, Goal::Score { part, from, logprobs: Vec::new() }));
            } else {
                state.parts[part] = Some(Vec::new()); // A lone token without a prompt: there is nothing to compute.
            }
        }
        (state, sequences)
    }

    /// Takes over a finished sequence; sends the terminal event if it was the call's last.
    pub(crate) fn sequence_finished(&mut self, sequence: Sequence, now: Duration) {
        self.usage.cached_tokens = self.usage.cached_tokens.max(sequence.cached.unwrap_or(0) as u64);
        if let Goal::Score { part, logprobs, .. } = sequence.goal {
            self.parts[part] = Some(logprobs);
        }
        if self.parts.iter().any(Option::is_none) {
            return;
        }
        let parts: Vec<Vec<TokenLogprob>> = self.parts.drain(..).flatten().collect();
        let outcome = match self.select {
            None => Outcome { logprobs: parts.into_iter().next().unwrap_or_default(), ..Outcome::default() },
            Some((method, count)) => {
                let values = |parts: &[Vec<TokenLogprob>]| -> Vec<Vec<f32>> {
                    parts.iter().map(|part| part.iter().map(|token| token.logprob).collect()).collect()
                };
                let conditional = values(&parts[..count]);
                // The first term is 0: a token without anything before it has no likelihood of its own. A root adds a
                // scored first token, which is as unconditional as it gets.
                let unconditional = values(&parts[count..])
                    .into_iter()
                    .zip(&conditional)
                    .map(|(mut row, full)| {
                        row.splice(0..0, std::iter::repeat_n(0.0, full.len() - row.len()));
                        row
                    })
                    .collect::<Vec<_>>();
                let (choice, scores) = choose(method, &conditional, &unconditional);
                Outcome { choice: Some(choice), scores, ..Outcome::default() }
            }
        };
        self.finish(outcome, now);
    }

    /// Sends the outcome of a call.
    pub(crate) fn finish(&mut self, mut outcome: Outcome, now: Duration) {
        outcome.usage.prompt_tokens = self.usage.prompt_tokens;
        outcome.usage.cached_tokens = self.usage.cached_tokens;
        self.end(CallEvent::Finished(Box::new(outcome)), now);
    }

    /// Tokens of its prompt, and those of them that the cache gave.
    pub(crate) fn usage(&self) -> Usage {
        self.usage
    }

    /// Notes what the cache gave.
    pub(crate) fn set_cached(&mut self, tokens: usize) {
        self.usage.cached_tokens = tokens as u64;
    }

    /// Sends the one terminal event.
    ///
    /// # Panics
    /// If it was sent before.
    pub(crate) fn end(&mut self, event: CallEvent, now: Duration) {
        assert!(!self.ended, "a call ends once");
        self.ended = true;
        self.output.send(event, now);
    }
}
