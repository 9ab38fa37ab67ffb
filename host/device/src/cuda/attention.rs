//! Attention: which kernel takes which sequence, and into how many parts a long context is split.
//!
//! A sequence of one new token is the decode kernel's, which reads its context once for all heads of a group; a chunk
//! of a prompt is cut into tiles for the prefill kernel. Deterministic: the prefill kernel takes everything, because it
//! alone computes a row alike in a chunk and on its own.

use std::sync::Arc;

use super::{
    batch::{CudaBatch, Cutting, Uploader},
    context::Context,
    kernels::{HeadKernels, Kernels},
    launch::{Argument, Shape},
    memory::{DeviceMemory, Pointer},
    probe::GpuInfo,
};
use crate::{AttentionShape, DeviceError};

/// Query heads of a KV head that a block of the decode kernel takes.
const DECODE_HEADS: usize = 16;
/// Positions that a block of several for a context has at least.
const SPLIT_POSITIONS: usize = 256;
/// Positions after which a context among shorter ones would end last.
const LONG_POSITIONS: usize = 2048;
/// Blocks that a multiprocessor runs at a time.
const BLOCKS_AT_ONCE: usize = 2;
/// Blocks of each multiprocessor at most, for the sake of long contexts.
const BLOCKS_MAX: usize = 16;
/// Threads of a block of the prefill kernel.
const PREFILL_THREADS: usize = 128;
/// Warps of a block of `combine_attention`.
const COMBINE_WARPS: usize = 4;

/// Attention on this GPU.
#[derive(Debug)]
pub(super) struct Attention {
    context: Arc<Context>,
    multiprocessors: usize,
    /// Results of parts: weighted values, then maxima and sums.
    partial: Option<DeviceMemory>,
}

/// What one call works on. Shapes and slots were checked.
pub(super) struct Input<'a> {
    pub(super) qkv: Pointer,
    pub(super) shape: &'a AttentionShape,
    pub(super) batch: &'a CudaBatch,
    pub(super) keys: Pointer,
    pub(super) values: Pointer,
    pub(super) out: Pointer,
}

impl Attention {
    pub(super) fn new(context: &Arc<Context>, gpu: &GpuInfo) -> Self {
        Self { context: Arc::clone(context), multiprocessors: gpu.multiprocessors, partial: None }
    }

    pub(super) fn launch(
        &mut self,
        kernels: &Kernels,
        uploader: &mut Uploader,
        input: &Input,
    ) -> Result<(), DeviceError> {
        let heads = kernels.heads(input.shape.head_dim)?;
        if input.batch.singles > 0 {
            self.decode(kernels, heads, input)?;
        }
        self.prefill(heads, uploader, input)
    }

    /// Sequences of one new token.
    fn decode(&mut self, kernels: &Kernels, of: &HeadKernels, input: &Input) -> Result<(), DeviceError> {
        let &AttentionShape { heads, kv_heads, head_dim, .. } = input.shape;
        let (singles, at) = (input.batch.singles, &input.batch.at);
        let blocks = kv_heads * (heads / kv_heads).div_ceil(DECODE_HEADS);
        let longest = input.batch.shape.context_max;
        let longest = input.shape.window.map_or(longest, |window| longest.min(window as usize));
        let splits = self.splits(blocks * singles, longest);
        let (partial, stats) = match splits {
            1 => (Pointer::NULL, Pointer::NULL),
            _ => self.partial(singles * heads * splits, head_dim)?,
        };
        let shape =
            Shape { grid: [blocks, singles, splits], block: [of.decode_threads, 1, 1], shared: of.decode_shared };
        let arguments: &mut [Argument] = &mut [
            input.qkv.into(),
            at.singles.into(),
            at.sequence_starts.into(),
            at.context_starts.into(),
            at.context_slots.into(),
            input.keys.into(),
            input.values.into(),
            input.out.into(),
            partial.into(),
            stats.into(),
            heads.into(),
            kv_heads.into(),
            head_dim.into(),
            input.shape.scale.into(),
            input.shape.window.unwrap_or(0).into(),
        ];
        of.decode.launch(&self.context, shape, arguments)?;
        if splits == 1 {
            return Ok(());
        }
        let shape = Shape {
            grid: [heads, singles, 1],
            block: [32 * COMBINE_WARPS, 1, 1],
            shared: 4 * COMBINE_WARPS * (head_dim + 1),
        };
        let arguments: &mut [Argument] = &mut [
            partial.into(),
            stats.into(),
            at.singles.into(),
            at.sequence_starts.into(),
            input.out.into(),
            heads.into(),
            head_dim.into(),
            splits.into(),
        ];
        kernels.combine_attention.launch(&self.context, shape, arguments)
    }

    /// Parts that contexts of up to `longest` positions are split into: as decode_attention.cu says.
    fn splits(&self, blocks: usize, longest: usize) -> usize {
        let fill = BLOCKS_AT_ONCE * self.multiprocessors / blocks;
        let even = longest.div_ceil(LONG_POSITIONS).min(BLOCKS_MAX * self.multiprocessors / blocks);
        fill.max(even).min(longest.div_ceil(SPLIT_POSITIONS)).max(1)
    }

    /// Where `rows` results of parts go: values of `head_dim`, and two numbers each.
    fn partial(&mut self, rows: usize, head_dim: usize) -> Result<(Pointer, Pointer), DeviceError> {
        // As much as any batch takes, so that none asks for more while a pass is recorded.
        let most = BLOCKS_MAX * self.multiprocessors * DECODE_HEADS;
        let bytes = |rows: usize| 4 * rows * (head_dim + 2);
        let memory = match self.partial.take() {
            Some(memory) if memory.bytes() >= bytes(rows) => memory,
            _ => DeviceMemory::new(&self.context, bytes(rows.max(most)), "parts of attention")?,
        };
        let start = memory.pointer();
        self.partial = Some(memory);
        Ok((start, start.at(4 * rows * head_dim)))
    }

    /// Chunks of prompts; deterministic: all.
    fn prefill(&self, of: &HeadKernels, uploader: &mut Uploader, input: &Input) -> Result<(), DeviceError> {
        let &AttentionShape { heads, kv_heads, head_dim, .. } = input.shape;
        let [large, short] = &of.prefill;
        let tiles = uploader.tiles_of(
            input.batch,
            Cutting {
                group: heads / kv_heads,
                rows: [large.rows, short.rows],
                tiles_enough: self.multiprocessors.div_ceil(kv_heads),
            },
        )?;
        if tiles.count == 0 {
            return Ok(());
        }
        let at = &input.batch.at;
        let prefill = if tiles.cut.rows == large.rows { large } else { short };
        let shape = Shape { grid: [tiles.count, kv_heads, 1], block: [PREFILL_THREADS, 1, 1], shared: prefill.shared };
        let arguments: &mut [Argument] = &mut [
            input.qkv.into(),
            tiles.at.into(),
            at.sequence_starts.into(),
            at.context_starts.into(),
            at.context_slots.into(),
            input.keys.into(),
            input.values.into(),
            input.out.into(),
            heads.into(),
            kv_heads.into(),
            head_dim.into(),
            input.shape.scale.into(),
            input.shape.window.unwrap_or(0).into(),
        ];
        prefill.kernel.launch(&self.context, shape, arguments)
    }
}
