//! Attention: which blocks of which sequences are computed where. The arithmetic is in the kernels.
//!
//! An *item* is some tokens of one sequence for one KV head: all query heads that share it, so that a key or value is
//! read once for them. A chunk of a prompt is cut into tiles of tokens; a single token's context may be split by blocks
//! over threads, whose partial results are merged afterwards in the order in which one thread would have done it.

#![allow(unsafe_code, reason = "threads write disjoint rows")]

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

use sglhost_kernels::cpu::{
    AlignedVec, Isa, SharedMut,
    attention::{BlockKv, CONTEXT_BLOCK, Partial, attend_block, merge_partials},
    dot_rows::{Element, widen_row},
};

use super::{
    Machine,
    batch::CpuBatch,
    memory::{CpuKv, padded},
};
use crate::{AttentionShape, Batch};

/// Query rows of a tile: their queries, sums and one block's keys and values fit the second-level cache.
const TILE_ROWS: usize = 48;
/// From this many query rows on, halves are widened once for all of them.
const WIDEN_ROWS: usize = 8;
/// With fewer items than this for each thread, single tokens' contexts are split by blocks.
const ITEMS_PER_THREAD: usize = 4;

/// Work for one thread.
#[derive(Clone, Debug)]
struct Item {
    sequence: usize,
    kv_head: usize,
    /// Rows of the batch.
    tokens: Range<usize>,
    /// Blocks of the context.
    blocks: Range<usize>,
    /// Where its result goes if it is one of several parts.
    part: Option<usize>,
}

/// A token whose context was split: parts `parts`, one after the other.
#[derive(Clone, Debug)]
struct Split {
    token: usize,
    kv_head: usize,
    parts: Range<usize>,
}

/// Which items a batch has: the same for every layer of a shape, so planned once.
#[derive(Debug, Default)]
struct Plan {
    made_for: Option<(u64, AttentionShape)>,
    items: Vec<Item>,
    splits: Vec<Split>,
}

/// One thread's memory.
#[derive(Debug, Default)]
struct Scratch {
    queries: AlignedVec<f32>,
    scores: AlignedVec<f32>,
    spans: Vec<(u32, u32)>,
    sums: PartialMemory,
    block: PartialMemory,
    keys: AlignedVec<f32>,
    values: AlignedVec<f32>,
    identity: Vec<u32>,
}

/// Memory of a [`Partial`].
#[derive(Debug, Default)]
struct PartialMemory {
    maxima: Vec<f32>,
    sums: Vec<f32>,
    values: AlignedVec<f32>,
}

impl PartialMemory {
    fn clear(&mut self, rows: usize, dim: usize) {
        self.maxima.clear();
        self.maxima.resize(rows, f32::NEG_INFINITY);
        self.sums.clear();
        self.sums.resize(rows, 0.0);
        self.values.reserve(rows * dim);
    }

    fn rows(&mut self, rows: Range<usize>, dim: usize) -> Partial<'_> {
        Partial {
            maxima: &mut self.maxima[rows.clone()],
            sums: &mut self.sums[rows.clone()],
            values: &mut self.values[rows.start * dim..rows.end * dim],
        }
    }
}

/// Attention's plan and memory; kept between layers and passes.
#[derive(Debug, Default)]
pub(super) struct AttentionState {
    /// Of layers without a window and of those with one.
    plans: [Plan; 2],
    scratch: Vec<Mutex<Scratch>>,
    parts: PartialMemory,
}

/// What one call works on.
pub(super) struct Input<'a> {
    pub(super) batch: &'a CpuBatch,
    pub(super) shape: &'a AttentionShape,
    pub(super) kv: &'a CpuKv,
    pub(super) layer: usize,
    /// `[T, (heads + 2 kv_heads) · head_dim]`.
    pub(super) qkv: &'a [f32],
}

/// A call under way.
struct Call<'a> {
    isa: Isa,
    shape: &'a AttentionShape,
    batch: &'a Batch,
    kv: &'a CpuKv,
    layer: usize,
    qkv: &'a [f32],
    /// `[T, heads · head_dim]`.
    out: SharedMut<'a, f32>,
}

impl AttentionState {
    /// Attends every token of the batch. Shapes and slots were checked by the caller.
    pub(super) fn run(&mut self, machine: &mut Machine, input: &Input, out: &mut [f32]) {
        let Input { batch, shape, kv, layer, qkv } = *input;
        let Machine { isa, pool } = machine;
        let isa = *isa;
        let plan = &mut self.plans[usize::from(shape.window.is_some())];
        plan.make(batch, shape, pool.threads());
        self.scratch.resize_with(pool.threads(), Mutex::default);
        let (group, dim) = (shape.heads / shape.kv_heads, kv.dim);
        let parts = plan.splits.last().map_or(0, |split| split.parts.end);
        self.parts.clear(parts * group, dim);
        let call = Call { isa, shape, batch: &batch.batch, kv, layer, qkv, out: SharedMut::new(out) };
        let maxima = SharedMut::new(&mut self.parts.maxima);
        let sums = SharedMut::new(&mut self.parts.sums);
        let values = SharedMut::new(&mut self.parts.values);
        pool.run(plan.items.len(), &|thread, index| {
            let item = &plan.items[index];
            let mut scratch = self.scratch[thread].lock().unwrap_or_else(PoisonError::into_inner);
            let part = item.part.map(|part| {
                let rows = part * group..(part + 1) * group;
                // SAFETY: parts belong to one item each.
                unsafe {
                    Partial {
                        maxima: maxima.range(rows.clone()),
                        sums: sums.range(rows.clone()),
                        values: values.range(rows.start * dim..rows.end * dim),
                    }
                }
            });
            call.attend(item, &mut scratch, part);
        });
        let [scratch, ..] = &mut self.scratch[..] else { return };
        let scratch = scratch.get_mut().unwrap_or_else(PoisonError::into_inner);
        for split in &plan.splits {
            scratch.sums.clear(group, dim);
            for part in split.parts.clone() {
                let from = self.parts.rows(part * group..(part + 1) * group, dim);
                merge_partials(isa, scratch.sums.rows(0..group, dim), from);
            }
            call.store(split.token..split.token + 1, split.kv_head, &scratch.sums);
        }
    }
}

impl Plan {
    fn make(&mut self, batch: &CpuBatch, shape: &AttentionShape, threads: usize) {
        if self.made_for == Some((batch.id, *shape)) {
            return;
        }
        self.made_for = Some((batch.id, *shape));
        self.items.clear();
        self.splits.clear();
        let batch = &batch.batch;
        let tile = (TILE_ROWS * shape.kv_heads / shape.heads).max(1);
        let tiles = |s: usize| (batch.sequence_starts[s + 1] - batch.sequence_starts[s]) as usize / tile + 1;
        let few = (0..batch.sequence_count()).map(tiles).sum::<usize>() * shape.kv_heads < threads * ITEMS_PER_THREAD;
        let mut parts = 0;
        for sequence in 0..batch.sequence_count() {
            let tokens = batch.sequence_starts[sequence] as usize..batch.sequence_starts[sequence + 1] as usize;
            for first in tokens.clone().step_by(tile) {
                let tokens = first..(first + tile).min(tokens.end);
                let from = span(batch, sequence, tokens.start, shape.window).0;
                let to = span(batch, sequence, tokens.end - 1, shape.window).1;
                let blocks = from / CONTEXT_BLOCK..to.div_ceil(CONTEXT_BLOCK);
                for kv_head in 0..shape.kv_heads {
                    let item = Item { sequence, kv_head, tokens: tokens.clone(), blocks: blocks.clone(), part: None };
                    if few && threads > 1 && tokens.len() == 1 && blocks.len() > 1 {
                        self.splits.push(Split { token: first, kv_head, parts: parts..parts + blocks.len() });
                        for block in blocks.clone() {
                            self.items.push(Item { blocks: block..block + 1, part: Some(parts), ..item.clone() });
                            parts += 1;
                        }
                    } else {
                        self.items.push(item);
                    }
                }
            }
        }
        // The largest first: what is left at the end is small, so that threads end together.
        self.items.sort_by_key(|item| std::cmp::Reverse(item.tokens.len() * item.blocks.len()));
    }
}

/// The positions `from..to` of its sequence's context that row `token` of the batch sees.
fn span(batch: &Batch, sequence: usize, token: usize, window: Option<u32>) -> (usize, usize) {
    let context = (batch.context_starts[sequence + 1] - batch.context_starts[sequence]) as usize;
    let to = context - (batch.sequence_starts[sequence + 1] as usize - 1 - token);
    (window.map_or(0, |window| to.saturating_sub(window as usize)), to)
}

impl Call<'_> {
    /// Computes one item, and stores its result in `part` or in the output.
    fn attend(&self, item: &Item, scratch: &mut Scratch, part: Option<Partial>) {
        let group = self.shape.heads / self.shape.kv_heads;
        let (rows, dim) = (item.tokens.len() * group, self.kv.dim);
        self.gather_queries(item, scratch);
        scratch.scores.reserve(4 * CONTEXT_BLOCK);
        scratch.sums.clear(rows, dim);
        scratch.block.clear(rows, dim);
        let starts = &self.batch.context_starts[item.sequence..];
        let context = &self.batch.context_slots[starts[0] as usize..starts[1] as usize];
        for block in item.blocks.clone() {
            let start = block * CONTEXT_BLOCK;
            let mut end = start;
            scratch.spans.clear();
            for token in item.tokens.clone() {
                let (from, to) = span(self.batch, item.sequence, token, self.shape.window);
                let to = to.clamp(start, start + CONTEXT_BLOCK);
                end = end.max(to);
                let within = ((from.max(start) - start) as u32, (to - start) as u32);
                scratch.spans.extend(std::iter::repeat_n(within, group));
            }
            let slots = &context[start..end];
            let kv =
                self.block(item.kv_head, slots, rows, &mut scratch.keys, &mut scratch.values, &mut scratch.identity);
            let queries = &scratch.queries[..rows * dim];
            let out = scratch.block.rows(0..rows, dim);
            attend_block(self.isa, kv, queries, &scratch.spans, self.shape.scale, &mut scratch.scores, out);
            merge_partials(self.isa, scratch.sums.rows(0..rows, dim), scratch.block.rows(0..rows, dim));
        }
        match part {
            Some(part) => merge_partials(self.isa, part, scratch.sums.rows(0..rows, dim)),
            None => self.store(item.tokens.clone(), item.kv_head, &scratch.sums),
        }
    }

    /// Copies the item's queries together, padded to whole vectors.
    fn gather_queries(&self, item: &Item, scratch: &mut Scratch) {
        let group = self.shape.heads / self.shape.kv_heads;
        let (head_dim, dim) = (self.shape.head_dim, padded(self.shape.head_dim));
        let width = (self.shape.heads + 2 * self.shape.kv_heads) * head_dim;
        scratch.queries.reserve(item.tokens.len() * group * dim);
        let rows = scratch.queries.chunks_exact_mut(group * dim);
        for (token, row) in item.tokens.clone().zip(rows) {
            let heads = &self.qkv[token * width + item.kv_head * group * head_dim..][..group * head_dim];
            for (to, from) in row.chunks_exact_mut(dim).zip(heads.chunks_exact(head_dim)) {
                to[..head_dim].copy_from_slice(from);
                to[head_dim..].fill(0.0);
            }
        }
    }

    /// The block's keys and values: in place, or widened where enough rows share that work.
    fn block<'a>(
        &'a self,
        kv_head: usize,
        slots: &'a [u32],
        rows: usize,
        keys: &'a mut AlignedVec<f32>,
        values: &'a mut AlignedVec<f32>,
        identity: &'a mut Vec<u32>,
    ) -> BlockKv<'a> {
        let (element, dim, row_bytes) = (self.kv.element, self.kv.dim, self.kv.row_bytes());
        let head = kv_head * self.kv.slots * row_bytes..(kv_head + 1) * self.kv.slots * row_bytes;
        let [all_keys, all_values] = &self.kv.layers[self.layer];
        let (all_keys, all_values) = (&all_keys[head.clone()], &all_values[head]);
        if rows < WIDEN_ROWS || element == Element::F32 {
            return BlockKv { keys: all_keys, values: all_values, element, slots };
        }
        for (wide, narrow) in [(&mut *keys, all_keys), (&mut *values, all_values)] {
            wide.reserve(CONTEXT_BLOCK * dim);
            for (row, &slot) in wide.chunks_exact_mut(dim).zip(slots) {
                widen_row(self.isa, element, &narrow[slot as usize * row_bytes..][..row_bytes], row);
            }
        }
        identity.clear();
        identity.extend(0..slots.len() as u32);
        BlockKv { keys: bytes_of(keys), values: bytes_of(values), element: Element::F32, slots: identity }
    }

    /// Divides the weighted values by their sums and stores them as rows `tokens` of the output.
    fn store(&self, tokens: Range<usize>, kv_head: usize, sums: &PartialMemory) {
        let group = self.shape.heads / self.shape.kv_heads;
        let (head_dim, dim) = (self.shape.head_dim, self.kv.dim);
        for (i, token) in tokens.enumerate() {
            for g in 0..group {
                let row = i * group + g;
                let at = (token * self.shape.heads + kv_head * group + g) * head_dim;
                // SAFETY: items differ in their tokens or in their KV head, so that no element has two writers.
                let out = unsafe { self.out.range(at..at + head_dim) };
                let inverse = 1.0 / sums.sums[row];
                for (out, value) in out.iter_mut().zip(&sums.values[row * dim..]) {
                    *out = value * inverse;
                }
            }
        }
    }
}

fn bytes_of(floats: &[f32]) -> &[u8] {
    // SAFETY: floats are plain bytes, and bytes need no alignment.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), size_of_val(floats)) }
}
