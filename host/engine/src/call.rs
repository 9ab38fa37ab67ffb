//! A call inside the engine: from a request to its sequences, and from their results to its one terminal event.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use sglhost_cache::Namespace;
use sglhost_core::{ChoicesMethod, RunId, TenantId, TokenId};

use crate::{
    CallEvent, Outcome, TokenLogprob,
    generation::Generation,
    output::Output,
    queue::Account,
    select::choose,
    sequence::{Goal, Sequence, SequenceId},
    trie::{Edge, Path, ScoredRow, Trie},
};

/// Sequences of one call that are under way at once: each holds a copy of the prompt's tokens.
const SEQUENCES_OF_CALL_MAX: usize = 64;

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
    prompt_tokens: u64,
    /// What the cache gave to the first sequence that was done.
    cached_tokens: Option<u64>,
    /// Sequences that are not done, those to come included.
    unfinished: usize,
    /// Paths whose sequence is not under way yet, each with what it follows.
    to_come: VecDeque<(Arc<[TokenId]>, Path)>,
    namespace: Namespace,
    /// What was found of each token that is scored; several continuations may share one.
    scores: Vec<f32>,
    /// Where in `scores` the tokens of each part are; parts of a `select` are its choices, then the unconditional ones.
    parts: Vec<Vec<Edge>>,
    wanted: Wanted,
}

/// What becomes of the scores.
#[derive(Debug)]
enum Wanted {
    Nothing,
    Logprobs(Vec<TokenId>),
    Choice(ChoicesMethod, usize),
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
            prompt_tokens: prompt.len() as u64,
            cached_tokens: None,
            unfinished: 1,
            to_come: VecDeque::new(),
            namespace: namespace.clone(),
            scores: Vec::new(),
            parts: Vec::new(),
            wanted: Wanted::Nothing,
        };
        let sequence = |tokens, goal| Sequence::new(key, account, namespace.clone(), tokens, goal);
        let score = |state: &mut Self, prompt: &[TokenId], continuations: &[&[TokenId]]| {
            let trie = Trie::new(continuations, state.scores.len());
            state.scores.resize(trie.range.end, 0.0);
            state.parts.extend(trie.edges);
            let prompt: Arc<[TokenId]> = Arc::from(prompt);
            state.to_come.extend(trie.paths.into_iter().map(|path| (prompt.clone(), path)));
        };
        match job {
            Job::Generate(generation) => return (state, vec![sequence(prompt, Goal::Generate(generation))]),
            Job::Publish => return (state, vec![sequence(prompt, Goal::Publish)]),
            Job::NextTokens(count) => return (state, vec![sequence(prompt, Goal::NextTokens { count })]),
            Job::Score(tokens) => {
                score(&mut state, &prompt, &[&tokens]);
                state.wanted = Wanted::Logprobs(tokens);
            }
            Job::Select { choices, method, root } => {
                let choices: Vec<&[TokenId]> = choices.iter().map(Vec::as_slice).collect();
                score(&mut state, &prompt, &choices);
                if method == ChoicesMethod::UnconditionalLikelihoodNormalized {
                    match root {
                        Some(root) => score(&mut state, &[root], &choices),
                        None => choices.iter().for_each(|choice| score(&mut state, &choice[..1], &[&choice[1..]])),
                    }
                }
                state.wanted = Wanted::Choice(method, choices.len());
            }
        }
        state.unfinished = state.to_come.len();
        let first: Vec<Sequence> =
            std::iter::from_fn(|| state.next_sequence(account, key)).take(SEQUENCES_OF_CALL_MAX).collect();
        (state, first)
    }

    /// The next of the call's sequences that is not under way.
    pub(crate) fn next_sequence(&mut self, account: Account, key: CallKey) -> Option<Sequence> {
        let (prompt, path) = self.to_come.pop_front()?;
        let goal = Goal::Score { first_row: prompt.len() - 1 + path.first_row, rows: path.rows, scored: 0 };
        Some(Sequence::new(key, account, self.namespace.clone(), [&prompt, &path.tokens[..]].concat(), goal))
    }

    /// Notes the scores of a row.
    pub(crate) fn set_scores(&mut self, row: &ScoredRow, logprobs: &[f32]) {
        for (&(_, edge), &logprob) in row.iter().zip(logprobs) {
            self.scores[edge] = logprob;
        }
    }

    /// Takes over a finished sequence; sends the terminal event if it was the call's last.
    pub(crate) fn sequence_finished(&mut self, now: Duration) {
        self.unfinished -= 1;
        if self.unfinished > 0 {
            return;
        }
        let scores = |parts: &[Vec<Edge>]| -> Vec<Vec<f32>> {
            parts.iter().map(|edges| edges.iter().map(|&edge| self.scores[edge]).collect()).collect()
        };
        let outcome = match &self.wanted {
            Wanted::Nothing => Outcome::default(),
            Wanted::Logprobs(tokens) => {
                let logprobs = tokens.iter().zip(scores(&self.parts).into_iter().flatten());
                let logprobs = logprobs.map(|(&token, logprob)| TokenLogprob { token, logprob }).collect();
                Outcome { logprobs, ..Outcome::default() }
            }
            &Wanted::Choice(method, count) => {
                let conditional = scores(&self.parts[..count]);
                // The first term is 0: a token without anything before it has no likelihood of its own. A root adds a
                // scored first token, which is as unconditional as it gets.
                let mut unconditional = scores(&self.parts[count..]);
                for (row, full) in unconditional.iter_mut().zip(&conditional) {
                    row.splice(0..0, std::iter::repeat_n(0.0, full.len() - row.len()));
                }
                let (choice, scores) = choose(method, &conditional, &unconditional);
                Outcome { choice: Some(choice), scores, ..Outcome::default() }
            }
        };
        self.finish(outcome, now);
    }

    /// Sends the outcome of a call.
    pub(crate) fn finish(&mut self, mut outcome: Outcome, now: Duration) {
        outcome.usage.prompt_tokens = self.prompt_tokens;
        outcome.usage.cached_tokens = self.cached_tokens.unwrap_or(0);
        self.end(CallEvent::Finished(Box::new(outcome)), now);
    }

    pub(crate) fn prompt_tokens(&self) -> u64 {
        self.prompt_tokens
    }

    /// Notes what the cache gave to the first sequence that is done. Later ones take over what that computed, which is no
    /// saving of the caller's.
    pub(crate) fn note_cached(&mut self, sequence: &Sequence) {
        let cached = sequence.cached.unwrap_or(0) as u64;
        self.cached_tokens.get_or_insert(cached.min(self.prompt_tokens));
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
