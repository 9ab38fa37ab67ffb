//! A batch's metadata, checked once, so that kernels may rely on it.

use std::mem::take;

use crate::{Batch, DeviceError};

/// A checked [`Batch`].
///
/// *Invariants*: lists have the lengths that [`Batch`] documents, starts never decrease, a sequence's context is at
/// least as long as its chunk, sample rows lie within the batch, and no two tokens share a slot (they are written by
/// several threads).
#[derive(Debug)]
pub struct CpuBatch {
    /// What was uploaded.
    pub(super) batch: Batch,
    /// Differs from every other batch's of the device: what is derived from a batch is kept under it.
    pub(super) id: u64,
    /// One more than the largest slot written or read.
    pub(super) slot_bound: usize,
}

impl CpuBatch {
    /// `sampled` are the tokens of the last sampling, which the batch may take as input.
    pub(super) fn new(batch: &Batch, sampled: &[u32], id: u64) -> Result<Self, DeviceError> {
        let fail = |reason: String| Err(DeviceError::Shape(reason));
        let tokens = batch.tokens.len();
        let planes = [tokens, 3 * tokens];
        if !planes.contains(&batch.positions.len()) || batch.slots.len() != tokens {
            return fail(format!("{tokens} tokens, {} positions, {} slots", batch.positions.len(), batch.slots.len()));
        }
        let ends = |starts: &[u32], end: usize| match starts {
            [] => end == 0,
            [first, .., last] => *first == 0 && *last as usize == end && starts.is_sorted(),
            [only] => *only == 0 && end == 0,
        };
        if !ends(&batch.sequence_starts, tokens)
            || !ends(&batch.context_starts, batch.context_slots.len())
            || batch.sequence_starts.len() != batch.context_starts.len()
        {
            return fail("starts of sequences and contexts do not cover the batch".to_owned());
        }
        let contexts = batch.context_starts.windows(2).map(|pair| pair[1] - pair[0]);
        let chunks = batch.sequence_starts.windows(2).map(|pair| pair[1] - pair[0]);
        if let Some((s, _)) = contexts.zip(chunks).enumerate().find(|(_, (context, chunk))| context < chunk) {
            return fail(format!("the context of sequence {s} is shorter than its chunk"));
        }
        if let Some(row) = batch.sample_rows.iter().find(|&&row| row as usize >= tokens) {
            return fail(format!("sample row {row} of a batch of {tokens} tokens"));
        }
        if let Some((row, _)) = batch.embedding_rows.iter().find(|(row, _)| *row as usize >= tokens) {
            return fail(format!("embedding row {row} of a batch of {tokens} tokens"));
        }
        if batch.adapters.iter().any(|&adapter| adapter != 0) {
            return Err(DeviceError::Unsupported("adapters".to_owned()));
        }
        let mut slots = batch.slots.clone();
        slots.sort_unstable();
        if let Some(pair) = slots.windows(2).find(|pair| pair[0] == pair[1]) {
            return fail(format!("two tokens are to be written to slot {}", pair[0]));
        }
        let slot_bound = batch.context_slots.iter().chain(slots.last()).max().map_or(0, |&slot| slot as usize + 1);
        let mut batch = batch.clone();
        for (row, from) in take(&mut batch.sampled_inputs) {
            let (Some(token), Some(&sampled)) = (batch.tokens.get_mut(row as usize), sampled.get(from as usize)) else {
                return fail(format!("row {row} of {tokens} takes row {from} of a sampling of {}", sampled.len()));
            };
            *token = sampled;
        }
        Ok(Self { batch, id, slot_bound })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused() {
        type Spoil = fn(&mut Batch);
        let cases: [(&str, Spoil); 11] = [
            ("positions", |b| b.positions.push(0)),
            ("positions", |b| b.positions = vec![0; 6]),
            ("starts", |b| b.sequence_starts[1] = 4),
            ("starts", |b| b.context_slots.push(1)),
            ("shorter", |b| {
                b.context_slots.truncate(2);
                b.context_starts[1] = 2;
            }),
            ("sample row", |b| b.sample_rows.push(3)),
            ("embedding row", |b| b.embedding_rows.push((3, [].into()))),
            ("adapters", |b| b.adapters = vec![0, 1, 0]),
            ("takes row 2", |b| b.sampled_inputs.push((0, 2))),
            ("row 3 of 3", |b| b.sampled_inputs.push((3, 0))),
            ("slot 7", |b| b.slots = vec![5, 7, 7]),
        ];
        let mut good = Batch::default();
        good.push_sequence(&[1, 2, 3], 0..3, &[5, 6, 7]);
        good.sample_rows.push(2);
        good.sampled_inputs.push((1, 1));
        let taken = CpuBatch::new(&good, &[8, 9], 0).unwrap();
        assert_eq!((taken.slot_bound, &taken.batch.tokens[..]), (8, &[1, 9, 3][..]));
        assert_eq!(CpuBatch::new(&Batch::default(), &[], 0).unwrap().slot_bound, 0);
        for (expect, spoil) in cases {
            let mut batch = good.clone();
            spoil(&mut batch);
            let error = CpuBatch::new(&batch, &[8, 9], 0).unwrap_err().to_string();
            assert!(error.contains(expect), "{error}");
        }
    }
}
