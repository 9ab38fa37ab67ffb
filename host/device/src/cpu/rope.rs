//! Norms of heads, rotation of queries and keys, and the writing of keys and values to their slots.

#![allow(unsafe_code, reason = "threads write disjoint rows and slots")]

use sglhost_kernels::cpu::{
    SharedMut,
    dot_rows::narrow_row,
    norm::rms_norm_in_place,
    rope::{rope_angles, rope_rotate},
};

use super::{Machine, batch::CpuBatch, memory::KvLayerMut};
use crate::AttentionShape;

/// The angles of one batch's positions: the same for every layer, so computed once.
#[derive(Debug, Default)]
pub(super) struct Angles {
    batch: Option<u64>,
    frequencies: Vec<f32>,
    sections: [usize; 3],
    /// `[T, D / 2]`.
    cosines: Vec<f32>,
    /// `[T, D / 2]`.
    sines: Vec<f32>,
}

/// What one call works on. Shapes and slots were checked by the caller.
pub(super) struct Input<'a> {
    pub(super) batch: &'a CpuBatch,
    pub(super) shape: &'a AttentionShape,
    /// `[head_dim / 2]`.
    pub(super) frequencies: &'a [f32],
    /// Pairs that each plane of positions turns.
    pub(super) sections: [usize; 3],
    pub(super) norm: Option<HeadNorm<'a>>,
}

/// Norms of the heads of Q and K, `[head_dim]` each.
pub(super) struct HeadNorm<'a> {
    pub(super) query: &'a [f32],
    pub(super) key: &'a [f32],
    pub(super) epsilon: f32,
}

impl Angles {
    fn prepare(&mut self, batch: &CpuBatch, frequencies: &[f32], sections: [usize; 3]) {
        if self.batch == Some(batch.id) && self.frequencies == frequencies && self.sections == sections {
            return;
        }
        self.batch = Some(batch.id);
        self.sections = sections;
        self.frequencies.clear();
        self.frequencies.extend_from_slice(frequencies);
        let (positions, half) = (&batch.batch.positions, frequencies.len());
        let tokens = batch.batch.tokens.len();
        self.cosines.resize(tokens * half, 0.0);
        self.sines.resize(tokens * half, 0.0);
        let mut first = 0;
        for (plane, pairs) in positions.chunks_exact(tokens.max(1)).zip(sections) {
            let pairs = first..first + pairs;
            for (t, &position) in plane.iter().enumerate() {
                let (cosines, sines) = (&mut self.cosines[t * half..][..half], &mut self.sines[t * half..][..half]);
                let frequencies = &frequencies[pairs.clone()];
                rope_angles(position, frequencies, &mut cosines[pairs.clone()], &mut sines[pairs.clone()]);
            }
            first = pairs.end;
        }
    }

    /// Rotates `qkv` `[T, (heads + 2 kv_heads) · head_dim]` and fills the batch's slots of one layer.
    pub(super) fn rotate_and_write(&mut self, machine: &mut Machine, input: &Input, qkv: &mut [f32], kv: KvLayerMut) {
        let Input { batch, shape, frequencies, sections, norm } = input;
        self.prepare(batch, frequencies, *sections);
        let (dim, half) = (shape.head_dim, shape.head_dim / 2);
        let width = (shape.heads + 2 * shape.kv_heads) * dim;
        let isa = machine.isa;
        let KvLayerMut { slots, row_bytes, element, keys, values } = kv;
        let (keys, values, qkv) = (SharedMut::new(keys), SharedMut::new(values), SharedMut::new(qkv));
        super::for_rows(&mut machine.pool, batch.batch.tokens.len(), width, &|rows| {
            for t in rows {
                // SAFETY: chunks have different rows.
                let row = unsafe { qkv.range(t * width..(t + 1) * width) };
                let (rotated, value) = row.split_at_mut((shape.heads + shape.kv_heads) * dim);
                if let Some(HeadNorm { query, key, epsilon }) = norm {
                    let (queries, keys) = rotated.split_at_mut(shape.heads * dim);
                    rms_norm_in_place(isa, queries, query, *epsilon);
                    rms_norm_in_place(isa, keys, key, *epsilon);
                }
                let angles = t * half..(t + 1) * half;
                rope_rotate(isa, rotated, &self.cosines[angles.clone()], &self.sines[angles]);
                let key = &rotated[shape.heads * dim..];
                let slot = batch.batch.slots[t] as usize;
                for head in 0..shape.kv_heads {
                    // What pads a head to whole vectors was zero from the start and stays so.
                    let at = (head * slots + slot) * row_bytes;
                    let place = at..at + dim * element.size();
                    // SAFETY: no two tokens of a batch share a slot, and chunks have different tokens.
                    let (k, v) = unsafe { (keys.range(place.clone()), values.range(place)) };
                    narrow_row(isa, &key[head * dim..][..dim], element, k);
                    narrow_row(isa, &value[head * dim..][..dim], element, v);
                }
            }
        });
    }
}
