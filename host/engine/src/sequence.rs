//! One row of the engine's batch over time: tokens, the slots that hold their KV, and what is wanted of them.

use std::{ops::Range, time::Duration};

use sglhost_cache::{Lease, Lock, Namespace, Slot};
use sglhost_core::TokenId;
use slotmap::new_key_type;

use crate::{call::CallKey, generation::Generation, queue::Account, trie::ScoredRow};

new_key_type! {
    /// Names a sequence; never used again after it is gone.
    pub(crate) struct SequenceId;
}

/// A sequence of tokens under computation. A `generate` is one sequence, a `select` one for each path of
/// its trie.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) call: CallKey,
    /// Who pays.
    pub(crate) account: Account,
    /// Whose cache it reads and writes.
    pub(crate) namespace: Namespace,
    /// Prompt, then the output.
    pub(crate) tokens: Vec<TokenId>,
    /// Tokens whose KV is computed, or launched to be.
    pub(crate) computed: usize,
    /// The slots of those tokens, then what is left of the last page.
    pub(crate) slots: Vec<Slot>,
    /// Its hold on the cache while it runs.
    pub(crate) lock: Option<Lock>,
    /// Keeps what it computed from early eviction while it waits to be resumed.
    pub(crate) lease: Option<Lease>,
    /// Tokens of the prompt taken over from the cache when it was first admitted.
    pub(crate) cached: Option<usize>,
    /// Tokens that were charged to its account: what is computed again is not charged again.
    pub(crate) charged: usize,
    /// Tokens computed since it was last admitted.
    pub(crate) computed_since_admission: usize,
    /// Which row of the last launched sampling gives its next token, if that is not known yet.
    pub(crate) sampled_row: Option<u32>,
    /// Tokens that were appended together last: one that was sampled, and what the constraint forces after it.
    pub(crate) appended: usize,
    /// The mask that its next token is to be sampled under was not there in time; until it is, nothing is computed.
    pub(crate) late: bool,
    /// Increases with arrival.
    pub(crate) arrival: u64,
    /// It was let in because it had waited too long.
    pub(crate) rescued: bool,
    /// Rows of it that are being sampled or scored.
    pub(crate) rows_in_flight: usize,
    /// When it was queued, or a token of it was last computed.
    pub(crate) progress_at: Duration,
    pub(crate) standing: Standing,
    pub(crate) goal: Goal,
}

/// Where a sequence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// In the queue.
    Ready,
    /// Waits until the prefill of another is done, which computes a prefix of it.
    Following(SequenceId),
    /// Waits for its reader, or for a token that is still being sampled.
    Parked,
    /// Has a place in the batch.
    Running,
}

/// What is wanted of a sequence.
#[derive(Debug)]
pub(crate) enum Goal {
    /// New tokens.
    Generate(Box<Generation>),
    /// The log-probabilities of what may follow the tokens from `first_row` on; `scored` of these rows are done.
    Score { first_row: usize, rows: Vec<ScoredRow>, scored: usize },
    /// The likeliest next tokens.
    NextTokens { count: u32 },
    /// That the prompt is computed, and kept for everybody.
    Publish,
}

impl Sequence {
    /// A sequence that nothing is computed of.
    pub(crate) fn new(call: CallKey, account: Account, namespace: Namespace, tokens: Vec<TokenId>, goal: Goal) -> Self {
        Self {
            call,
            account,
            namespace,
            tokens,
            computed: 0,
            slots: Vec::new(),
            lock: None,
            lease: None,
            cached: None,
            charged: 0,
            computed_since_admission: 0,
            sampled_row: None,
            appended: 0,
            late: false,
            arrival: 0,
            rescued: false,
            rows_in_flight: 0,
            progress_at: Duration::ZERO,
            standing: Standing::Ready,
            goal,
        }
    }

    /// Known tokens that are yet to be computed.
    pub(crate) fn remaining(&self) -> usize {
        self.tokens.len().saturating_sub(self.computed)
    }

    /// Whether all it has to compute is the token that it has just sampled, known or not, and what was forced after it.
    pub(crate) fn is_decoding(&self) -> bool {
        let newest = 1..=self.appended.max(1);
        self.sampled_row.is_some() || (!self.has_sampled_nothing() && newest.contains(&self.remaining()))
    }

    /// Tokens before the output.
    pub(crate) fn prompt_tokens(&self) -> usize {
        match &self.goal {
            Goal::Generate(generation) => self.tokens.len() - generation.output_tokens(),
            Goal::Score { .. } | Goal::NextTokens { .. } | Goal::Publish => self.tokens.len(),
        }
    }

    /// Whether it is in its first prefill.
    pub(crate) fn has_sampled_nothing(&self) -> bool {
        self.sampled_row.is_none() && !matches!(&self.goal, Goal::Generate(generation) if generation.has_sampled())
    }

    /// Whether a token after the one being sampled may be wanted: if not, it need not be computed.
    pub(crate) fn may_go_on(&self, context_length: usize) -> bool {
        self.tokens_to_sample() > 1 && self.tokens.len() + 1 < context_length
    }

    /// Tokens that its output may yet have.
    pub(crate) fn tokens_to_sample(&self) -> usize {
        match &self.goal {
            Goal::Generate(generation) => generation.tokens_left(),
            Goal::Score { .. } | Goal::NextTokens { .. } | Goal::Publish => 0,
        }
    }

    /// The first token whose logits are still wanted. Known only when no row is in flight, a lower bound otherwise.
    pub(crate) fn first_row(&self) -> usize {
        match &self.goal {
            Goal::Score { first_row, scored, .. } => first_row + scored,
            Goal::Generate(_) | Goal::NextTokens { .. } => self.tokens.len() - 1,
            Goal::Publish => self.tokens.len(),
        }
    }

    /// The tokens that it may take over from the cache: the first token whose logits are wanted is computed, and one in
    /// any case.
    pub(crate) fn reusable(&self) -> &[TokenId] {
        &self.tokens[..self.first_row().min(self.tokens.len() - 1)]
    }

    /// Which tokens of a chunk give logits.
    pub(crate) fn rows_of(&self, chunk: &Range<usize>) -> Range<usize> {
        self.first_row().max(chunk.start)..chunk.end.max(self.first_row())
    }

    /// Tokens that are computed and known: what the cache may remember.
    pub(crate) fn known(&self) -> &[TokenId] {
        &self.tokens[..self.computed.min(self.tokens.len())]
    }
}
