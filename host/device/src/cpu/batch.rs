//! A batch's metadata, checked once, so that kernels may rely on it.

use std::mem::take;

use crate::{Batch, DeviceError};

/// A checked [`Batch`].
///
/// *Invariants*: those of `Batch::check`.
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
        let slot_bound = batch.check(sampled.len())?;
        let mut batch = batch.clone();
        for (row, from) in take(&mut batch.sampled_inputs) {
            batch.tokens[row as usize] = sampled[from as usize];
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
