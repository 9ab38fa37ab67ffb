//! What one forward pass works on.

use crate::DeviceError;

/// The rows of one forward pass: tokens of many sequences, in chunks or singly, side by side.
///
/// Settled with room for images (`embedding_rows`), M-RoPE (`positions` of three planes), speculation and scores
/// (several sample rows a sequence) and adapters, though they come later.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// `[T]` input tokens.
    pub tokens: Vec<u32>,
    /// Rows of T whose token is the result of a row of the last launched sampling, which the host need not know yet:
    /// row of T, row of that sampling. What `tokens` says of them means nothing.
    pub sampled_inputs: Vec<(u32, u32)>,
    /// `[P, T]` positions; P is 1, or 3 for M-RoPE. A position is not an index into the slot list.
    pub positions: Vec<u32>,
    /// `[T]` the KV slot that each token's K and V are written to.
    pub slots: Vec<u32>,
    /// `[S + 1]` sequence s owns tokens `sequence_starts[s]..sequence_starts[s + 1]`.
    pub sequence_starts: Vec<u32>,
    /// `[S + 1]` sequence s attends to `context_slots[context_starts[s]..context_starts[s + 1]]`.
    pub context_starts: Vec<u32>,
    /// Slot lists of all sequences, oldest token first, this pass's own tokens included as the last ones.
    pub context_slots: Vec<u32>,
    /// `[R]` rows of T whose logits are wanted, in increasing order.
    pub sample_rows: Vec<u32>,
    /// Rows of T whose embedding is given instead of looked up: row index and `[K]` values.
    pub embedding_rows: Vec<(u32, std::sync::Arc<[f32]>)>,
    /// `[T]` adapter of each row, 0 for none; empty when no row has one.
    pub adapters: Vec<u32>,
}

impl Batch {
    /// Tokens of the pass.
    #[must_use]
    pub fn token_count(&self) -> usize {
        self.tokens.len()
    }

    /// Sequences of the pass.
    #[must_use]
    pub fn sequence_count(&self) -> usize {
        self.sequence_starts.len().saturating_sub(1)
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.tokens.clear();
        self.sampled_inputs.clear();
        self.positions.clear();
        self.slots.clear();
        self.sequence_starts.clear();
        self.context_starts.clear();
        self.context_slots.clear();
        self.sample_rows.clear();
        self.embedding_rows.clear();
        self.adapters.clear();
    }

    /// Adds a sequence: its new `tokens` at `positions`, and `context`, the slots of all its tokens so far, the new
    /// ones last.
    ///
    /// # Panics
    /// If there are more new tokens than context slots, or not a position for each.
    pub fn push_sequence(&mut self, tokens: &[u32], positions: impl IntoIterator<Item = u32>, context: &[u32]) {
        assert!(tokens.len() <= context.len(), "a sequence's new tokens are part of its context");
        if self.sequence_starts.is_empty() {
            self.sequence_starts.push(0);
            self.context_starts.push(0);
        }
        self.tokens.extend_from_slice(tokens);
        self.positions.extend(positions);
        assert_eq!(self.positions.len(), self.tokens.len(), "a position for each token");
        self.slots.extend_from_slice(&context[context.len() - tokens.len()..]);
        self.context_slots.extend_from_slice(context);
        self.sequence_starts.push(self.tokens.len() as u32);
        self.context_starts.push(self.context_slots.len() as u32);
    }

    /// Checks what every device relies on: lists have the lengths that their documentation says, starts never decrease,
    /// a sequence's context is at least as long as its chunk, rows lie within the batch and within the last sampling of
    /// `sampled` rows, and no two tokens share a slot (they are written by several threads).
    ///
    /// Gives one more than the largest slot written or read.
    pub(crate) fn check(&self, sampled: usize) -> Result<usize, DeviceError> {
        let fail = |reason: String| Err(DeviceError::Shape(reason));
        let tokens = self.tokens.len();
        let planes = [tokens, 3 * tokens];
        if !planes.contains(&self.positions.len()) || self.slots.len() != tokens {
            return fail(format!("{tokens} tokens, {} positions, {} slots", self.positions.len(), self.slots.len()));
        }
        let ends = |starts: &[u32], end: usize| match starts {
            [] => end == 0,
            [first, .., last] => *first == 0 && *last as usize == end && starts.is_sorted(),
            [only] => *only == 0 && end == 0,
        };
        if !ends(&self.sequence_starts, tokens)
            || !ends(&self.context_starts, self.context_slots.len())
            || self.sequence_starts.len() != self.context_starts.len()
        {
            return fail("starts of sequences and contexts do not cover the batch".to_owned());
        }
        let contexts = self.context_starts.windows(2).map(|pair| pair[1] - pair[0]);
        let chunks = self.sequence_starts.windows(2).map(|pair| pair[1] - pair[0]);
        if let Some((s, _)) = contexts.zip(chunks).enumerate().find(|(_, (context, chunk))| context < chunk) {
            return fail(format!("the context of sequence {s} is shorter than its chunk"));
        }
        if let Some(row) = self.sample_rows.iter().find(|&&row| row as usize >= tokens) {
            return fail(format!("sample row {row} of a batch of {tokens} tokens"));
        }
        if let Some((row, _)) = self.embedding_rows.iter().find(|(row, _)| *row as usize >= tokens) {
            return fail(format!("embedding row {row} of a batch of {tokens} tokens"));
        }
        if let Some((row, from)) =
            self.sampled_inputs.iter().find(|&&(row, from)| row as usize >= tokens || from as usize >= sampled)
        {
            return fail(format!("row {row} of {tokens} takes row {from} of a sampling of {sampled}"));
        }
        if self.adapters.iter().any(|&adapter| adapter != 0) {
            return Err(DeviceError::Unsupported("adapters".to_owned()));
        }
        let mut slots = self.slots.clone();
        slots.sort_unstable();
        if let Some(pair) = slots.windows(2).find(|pair| pair[0] == pair[1]) {
            return fail(format!("two tokens are to be written to slot {}", pair[0]));
        }
        Ok(self.context_slots.iter().chain(slots.last()).max().map_or(0, |&slot| slot as usize + 1))
    }
}
