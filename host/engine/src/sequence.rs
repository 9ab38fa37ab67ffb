//! One row of the engine's batch over time: tokens, the slots that hold their KV, and what is wanted of them.

use std::ops::Range;

use sglhost_cache::{Namespace, Slot};
use sglhost_core::TokenId;

use crate::{TokenLogprob, generation::Generation};

/// Key of a call within the engine; increases with arrival.
pub(crate) type CallKey = u64;

/// A sequence of tokens under computation. A `generate` is one sequence, a `select` one a choice.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) call: CallKey,
    /// Whose cache it reads and writes.
    pub(crate) namespace: Namespace,
    /// Prompt, then what was sampled.
    pub(crate) tokens: Vec<TokenId>,
    /// Slots of the tokens computed so far, locked by this sequence; during a step, of those being computed too.
    pub(crate) slots: Vec<Slot>,
    /// Tokens taken over from the cache when it was first admitted.
    pub(crate) cached: Option<usize>,
    pub(crate) goal: Goal,
}

/// What is wanted of a sequence.
#[derive(Debug)]
pub(crate) enum Goal {
    /// New tokens.
    Generate(Box<Generation>),
    /// The log-probability of each token from `from` on, collected in `logprobs`.
    Score { part: usize, from: usize, logprobs: Vec<TokenLogprob> },
    /// The likeliest next tokens.
    NextTokens { count: u32 },
}

impl Sequence {
    /// How many of its tokens must be computed: the KV of a score's last token is nobody's business.
    pub(crate) fn end(&self) -> usize {
        match self.goal {
            Goal::Score { .. } => self.tokens.len() - 1,
            Goal::Generate(_) | Goal::NextTokens { .. } => self.tokens.len(),
        }
    }

    /// Tokens that are yet to be computed.
    pub(crate) fn remaining(&self) -> usize {
        self.end() - self.slots.len()
    }

    /// Whether it computes a single token that it has just sampled.
    pub(crate) fn is_decoding(&self) -> bool {
        !self.has_sampled_nothing() && self.remaining() == 1
    }

    /// Whether it is in its first prefill.
    pub(crate) fn has_sampled_nothing(&self) -> bool {
        !matches!(&self.goal, Goal::Generate(generation) if !generation.tokens().is_empty())
    }

    /// The first token whose logits are wanted.
    fn first_row(&self) -> usize {
        match self.goal {
            Goal::Score { from, .. } => from - 1,
            Goal::Generate(_) | Goal::NextTokens { .. } => self.tokens.len() - 1,
        }
    }

    /// The longest prefix it can take over from the cache: the first token whose logits are wanted is computed.
    pub(crate) fn reusable(&self) -> usize {
        self.first_row()
    }

    /// Which tokens of a chunk give logits.
    pub(crate) fn rows_of(&self, chunk: &Range<usize>) -> Range<usize> {
        self.first_row().max(chunk.start)..chunk.end.max(self.first_row())
    }
}
