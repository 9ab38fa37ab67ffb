//! Operations that go through rows one by one: embedding, norms, rotation, the gate, gathering. Shapes were checked.

use super::{
    batch::CudaBatch,
    context::Context,
    kernels::Kernels,
    launch::{Argument, Shape},
    memory::Pointer,
};
use crate::DeviceError;

/// Elements that a block of `embed` or `gather_rows` copies in one go.
const COPIED_ELEMENTS: usize = 1024;
/// Threads of a block of `silu_mul`, and the elements of each.
const GATE_THREADS: usize = 128;
const GATE_ELEMENTS: usize = 8;
/// Threads of a block of `rope_and_write_kv`, of few tokens and of many.
const ROPE_THREADS: [usize; 2] = [64, 256];
/// From this many tokens on, a block's threads do more heads each.
const MANY_TOKENS: usize = 64;

/// What the row-wise kernels are launched with.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) context: &'a Context,
    pub(super) kernels: &'a Kernels,
}

/// Arguments of a norm.
pub(super) struct Norm {
    pub(super) weight: Pointer,
    pub(super) epsilon: f32,
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) out: Pointer,
}

impl Norm {
    /// The block decides the order of the sum: it depends on the width alone.
    fn shape(&self) -> Shape {
        let threads = (self.width / 8).next_multiple_of(32).clamp(32, 1024);
        Shape { shared: threads / 32 * 4, ..Shape::line(self.rows, threads) }
    }
}

/// Arguments of a rotation.
pub(super) struct Rotation {
    pub(super) qkv: Pointer,
    pub(super) inverse_frequencies: Pointer,
    pub(super) query_norm: Pointer,
    pub(super) key_norm: Pointer,
    pub(super) epsilon: f32,
    pub(super) keys: Pointer,
    pub(super) values: Pointer,
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    pub(super) sections: [usize; 2],
}

impl Rows<'_> {
    /// `out[t]` is the batch's row t.
    pub(super) fn embed(
        self,
        table: Pointer,
        batch: &CudaBatch,
        sampled: Pointer,
        columns: usize,
        out: Pointer,
    ) -> Result<(), DeviceError> {
        let at = &batch.at;
        let shape =
            Shape { grid: [batch.shape.tokens, columns.div_ceil(COPIED_ELEMENTS), 1], block: [256, 1, 1], shared: 0 };
        let sampled_rows = if sampled == Pointer::NULL { Pointer::NULL } else { at.sampled_rows };
        let arguments: &mut [Argument] = &mut [
            table.into(),
            at.tokens.into(),
            sampled_rows.into(),
            sampled.into(),
            at.given_rows.into(),
            at.given.into(),
            out.into(),
            columns.into(),
        ];
        self.kernels.embed.launch(self.context, shape, arguments)
    }

    /// `out = rms_norm(x)`.
    pub(super) fn rms_norm(self, x: Pointer, norm: &Norm) -> Result<(), DeviceError> {
        let arguments: &mut [Argument] =
            &mut [x.into(), norm.weight.into(), norm.epsilon.into(), norm.width.into(), norm.out.into()];
        self.kernels.rms_norm.launch(self.context, norm.shape(), arguments)
    }

    /// `residual += x`, `out = rms_norm(residual)`.
    pub(super) fn add_rms_norm(self, residual: Pointer, x: Pointer, norm: &Norm) -> Result<(), DeviceError> {
        let arguments: &mut [Argument] = &mut [
            residual.into(),
            x.into(),
            norm.weight.into(),
            norm.epsilon.into(),
            norm.width.into(),
            norm.out.into(),
        ];
        self.kernels.add_rms_norm.launch(self.context, norm.shape(), arguments)
    }

    /// Rotates Q in place and writes K and V.
    pub(super) fn rotate(self, batch: &CudaBatch, rotation: &Rotation) -> Result<(), DeviceError> {
        let &Rotation { heads, kv_heads, head_dim, sections, .. } = rotation;
        let tokens = batch.shape.tokens;
        let all_heads = heads + 2 * kv_heads;
        let lanes = (head_dim / 8).next_power_of_two();
        let threads = ROPE_THREADS[usize::from(tokens >= MANY_TOKENS)];
        // Whole warps, and no more heads than there are.
        let least = (32 / lanes).max(1);
        let at_once = all_heads.next_multiple_of(least).min(threads / lanes);
        let shape = Shape { grid: [tokens, all_heads.div_ceil(at_once), 1], block: [lanes, at_once, 1], shared: 0 };
        let arguments: &mut [Argument] = &mut [
            rotation.qkv.into(),
            batch.at.positions.into(),
            batch.at.slots.into(),
            rotation.inverse_frequencies.into(),
            rotation.query_norm.into(),
            rotation.key_norm.into(),
            rotation.epsilon.into(),
            rotation.keys.into(),
            rotation.values.into(),
            tokens.into(),
            heads.into(),
            kv_heads.into(),
            head_dim.into(),
            sections[0].into(),
            sections[1].into(),
        ];
        self.kernels.rope_and_write_kv.launch(self.context, shape, arguments)
    }

    /// `out[r] = silu(gate[r]) * up[r]`.
    pub(super) fn silu_mul(self, gate_up: Pointer, rows: usize, width: usize, out: Pointer) -> Result<(), DeviceError> {
        let shape = Shape {
            grid: [rows, width.div_ceil(GATE_THREADS * GATE_ELEMENTS), 1],
            block: [GATE_THREADS, 1, 1],
            shared: 0,
        };
        let arguments: &mut [Argument] = &mut [gate_up.into(), width.into(), out.into()];
        self.kernels.silu_mul.launch(self.context, shape, arguments)
    }

    /// `out[r] = x[rows[r]]` of rows of `words` words.
    pub(super) fn gather(self, x: Pointer, batch: &CudaBatch, words: usize, out: Pointer) -> Result<(), DeviceError> {
        let shape =
            Shape { grid: [batch.shape.sampled, words.div_ceil(COPIED_ELEMENTS), 1], block: [256, 1, 1], shared: 0 };
        let arguments: &mut [Argument] = &mut [x.into(), batch.at.sample_rows.into(), out.into(), words.into()];
        self.kernels.gather_rows.launch(self.context, shape, arguments)
    }
}
