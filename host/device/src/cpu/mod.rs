//! The CPU device: the embedded default, and a real engine rather than a reference.
//!
//! It owns its threads, its scratch memory and nothing else; arithmetic lives in `sglhost_kernels::cpu`. Operations are
//! done when they return.
//!
//! *Invariants*
//! - Each row of every operation is computed in a fixed order, whatever the other rows are and however many threads
//!   there are: results are bit-identical for any batch composition and any chunking of a prompt.
//! - Whole weights are never unpacked to f32: quantized ones are repacked at the same size, float ones stay in the
//!   mapped file.
//!
//! *Not here*: adapters: `DeviceError::Unsupported`.

mod attention;
mod batch;
mod linear;
mod memory;
mod pool;
mod rope;
mod sample;
mod weight;

#[cfg(test)]
mod tests;

use std::ops::Range;

use sglhost_kernels::cpu::{AlignedVec, SharedMut, activation, norm};

pub use batch::CpuBatch;
pub use memory::{CpuBuffer, CpuKv};
pub use sglhost_kernels::cpu::Isa;
pub use weight::CpuWeight;

use crate::{
    AttentionShape, Batch, BatchRows, DType, Device, DeviceError, KvLayout, Precision, Rope, RowRequest, RowResult,
    WeightPart,
};
use pool::Pool;

/// How activations meet quantized weights. Float weights always meet f32 activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// f32: slower, for comparing with a reference.
    Exact,
    /// int8 with a scale for each block of 32; sums within a block are exact integers.
    #[default]
    Quantized,
}

/// How to set up a [`CpuDevice`].
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuConfig {
    /// Threads, the calling one included; 0 takes as many as the machine runs at once. Does not change results.
    pub threads: usize,
    /// How activations meet quantized weights.
    pub activations: Activations,
    /// The instruction set to use instead of the best one, for tests.
    pub isa: Option<Isa>,
}

/// What every operation runs on.
struct Machine {
    isa: Isa,
    pool: Pool,
}

/// The CPU as a [`Device`].
pub struct CpuDevice {
    machine: Machine,
    activations: Activations,
    linear: linear::LinearScratch,
    angles: rope::Angles,
    attention: attention::AttentionState,
    sampler: sample::SampleState,
    sampled: Vec<RowResult>,
    /// Tokens of the last sampling, for batches that take them as input.
    sampled_tokens: Vec<u32>,
    batches: u64,
}

impl CpuDevice {
    /// Starts the device's threads.
    #[must_use]
    pub fn new(config: CpuConfig) -> Self {
        Self {
            machine: Machine { isa: config.isa.unwrap_or_else(Isa::detect), pool: Pool::new(config.threads) },
            activations: config.activations,
            linear: linear::LinearScratch::default(),
            angles: rope::Angles::default(),
            attention: attention::AttentionState::default(),
            sampler: sample::SampleState::default(),
            sampled: Vec::new(),
            sampled_tokens: Vec::new(),
            batches: 0,
        }
    }
}

/// Elements of a row-wise operation that are worth a chunk of their own.
const CHUNK_ELEMENTS: usize = 8192;

/// Calls `work` with ranges that together are `0..rows`, on several threads if rows of `width` elements make it worth.
fn for_rows(pool: &mut Pool, rows: usize, width: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
    let chunk = (CHUNK_ELEMENTS / width.max(1)).max(1);
    pool.run(rows.div_ceil(chunk), &|_, index| work(index * chunk..((index + 1) * chunk).min(rows)));
}

/// Checks an attention layer's geometry against the batch and the KV memory.
fn check_attention(shape: &AttentionShape, batch: &CpuBatch, kv: &CpuKv, layer: usize) -> Result<(), DeviceError> {
    shape.check(&kv.layout, layer)?;
    if batch.slot_bound > kv.slots {
        return Err(DeviceError::Shape(format!("slot {} of {}", batch.slot_bound - 1, kv.slots)));
    }
    Ok(())
}

#[allow(unsafe_code, reason = "threads write disjoint rows")]
impl Device for CpuDevice {
    type Buffer = CpuBuffer;
    type Weight = CpuWeight;
    type Kv = CpuKv;
    type Batch = CpuBatch;

    fn description(&self) -> String {
        let activations = match self.activations {
            Activations::Exact => "f32",
            Activations::Quantized => "int8",
        };
        format!("cpu: {}, {} threads, {activations} activations", self.machine.isa.name(), self.machine.pool.threads())
    }

    fn kv_dtype(&self) -> DType {
        DType::F16
    }

    fn allocate(&mut self, elements: usize, _: Precision) -> Result<CpuBuffer, DeviceError> {
        Ok(CpuBuffer(AlignedVec::zeroed(elements)))
    }

    fn write_f32(&mut self, buffer: &mut CpuBuffer, values: &[f32]) -> Result<(), DeviceError> {
        buffer.first_mut(values.len())?.copy_from_slice(values);
        Ok(())
    }

    fn read_f32(&mut self, buffer: &CpuBuffer, out: &mut [f32]) -> Result<(), DeviceError> {
        out.copy_from_slice(buffer.first(out.len())?);
        Ok(())
    }

    fn load_weight(&mut self, parts: &[WeightPart]) -> Result<CpuWeight, DeviceError> {
        CpuWeight::load(parts, &mut self.machine.pool)
    }

    fn allocate_kv(&mut self, layout: KvLayout, slots: usize) -> Result<CpuKv, DeviceError> {
        CpuKv::new(layout, slots)
    }

    fn upload_batch(&mut self, batch: &Batch) -> Result<CpuBatch, DeviceError> {
        self.batches += 1;
        CpuBatch::new(batch, &self.sampled_tokens, self.batches)
    }

    fn rows(&self, batch: &CpuBatch) -> BatchRows {
        BatchRows { tokens: batch.batch.tokens.len(), sampled: batch.batch.sample_rows.len() }
    }

    fn embed(&mut self, table: &CpuWeight, batch: &CpuBatch, out: &mut CpuBuffer) -> Result<(), DeviceError> {
        let (tokens, width) = (&batch.batch.tokens, table.columns);
        let out = out.first_mut(tokens.len() * width)?;
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= table.rows) {
            return Err(DeviceError::Shape(format!("token {token} of a table of {} rows", table.rows)));
        }
        if let Some((_, values)) = batch.batch.embedding_rows.iter().find(|(_, values)| values.len() != width) {
            return Err(DeviceError::Shape(format!("an embedding of {} elements, not {width}", values.len())));
        }
        let isa = self.machine.isa;
        let shared = SharedMut::new(out);
        for_rows(&mut self.machine.pool, tokens.len(), width, &|rows| {
            for t in rows {
                // SAFETY: chunks have different rows.
                table.read_row(isa, tokens[t] as usize, unsafe { shared.range(t * width..(t + 1) * width) });
            }
        });
        for (row, values) in &batch.batch.embedding_rows {
            out[*row as usize * width..][..width].copy_from_slice(values);
        }
        Ok(())
    }

    fn rms_norm(
        &mut self,
        x: &CpuBuffer,
        weight: &CpuBuffer,
        epsilon: f32,
        rows: usize,
        out: &mut CpuBuffer,
    ) -> Result<(), DeviceError> {
        let width = weight.0.len();
        let (isa, x, out) = (self.machine.isa, x.first(rows * width)?, SharedMut::new(out.first_mut(rows * width)?));
        for_rows(&mut self.machine.pool, rows, width, &|rows| {
            let range = rows.start * width..rows.end * width;
            // SAFETY: chunks have different rows.
            norm::rms_norm(isa, &x[range.clone()], &weight.0, epsilon, unsafe { out.range(range) });
        });
        Ok(())
    }

    fn add_rms_norm(
        &mut self,
        residual: &mut CpuBuffer,
        x: &CpuBuffer,
        weight: &CpuBuffer,
        epsilon: f32,
        rows: usize,
        out: &mut CpuBuffer,
    ) -> Result<(), DeviceError> {
        let width = weight.0.len();
        let residual = SharedMut::new(residual.first_mut(rows * width)?);
        let (isa, x, out) = (self.machine.isa, x.first(rows * width)?, SharedMut::new(out.first_mut(rows * width)?));
        for_rows(&mut self.machine.pool, rows, width, &|rows| {
            let range = rows.start * width..rows.end * width;
            // SAFETY: chunks have different rows.
            let (residual, out) = unsafe { (residual.range(range.clone()), out.range(range.clone())) };
            norm::add_rms_norm(isa, residual, &x[range], &weight.0, epsilon, out);
        });
        Ok(())
    }

    fn linear(
        &mut self,
        weight: &CpuWeight,
        bias: Option<&CpuBuffer>,
        x: &CpuBuffer,
        rows: usize,
        out: &mut CpuBuffer,
    ) -> Result<(), DeviceError> {
        let bias = bias.map(|bias| bias.first(weight.rows)).transpose()?;
        let product = linear::Product { weight, bias, x: x.first(rows * weight.columns)?, rows };
        let out = out.first_mut(rows * weight.rows)?;
        self.linear.run(&mut self.machine, self.activations, &product, out);
        Ok(())
    }

    fn rope_and_write_kv(
        &mut self,
        qkv: &mut CpuBuffer,
        rope: &Rope<'_, CpuBuffer>,
        shape: &AttentionShape,
        batch: &CpuBatch,
        kv: &mut CpuKv,
        layer: usize,
    ) -> Result<(), DeviceError> {
        check_attention(shape, batch, kv, layer)?;
        let width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
        let qkv = qkv.first_mut(batch.batch.tokens.len() * width)?;
        let frequencies = rope.inverse_frequencies.first(shape.head_dim / 2)?;
        let norm = match &rope.head_norm {
            Some(norm) => {
                let (query, key) = (norm.query.first(shape.head_dim)?, norm.key.first(shape.head_dim)?);
                Some(rope::HeadNorm { query, key, epsilon: norm.epsilon })
            }
            None => None,
        };
        let planes = batch.batch.positions.len() / batch.batch.tokens.len().max(1);
        let sections = rope.sections_of(planes, shape)?;
        let input = rope::Input { batch, shape, frequencies, sections, norm };
        self.angles.rotate_and_write(&mut self.machine, &input, qkv, kv.layer_mut(layer));
        Ok(())
    }

    fn attention(
        &mut self,
        qkv: &CpuBuffer,
        shape: &AttentionShape,
        batch: &CpuBatch,
        kv: &CpuKv,
        layer: usize,
        out: &mut CpuBuffer,
    ) -> Result<(), DeviceError> {
        check_attention(shape, batch, kv, layer)?;
        let tokens = batch.batch.tokens.len();
        let qkv = qkv.first(tokens * (shape.heads + 2 * shape.kv_heads) * shape.head_dim)?;
        let out = out.first_mut(tokens * shape.heads * shape.head_dim)?;
        let input = attention::Input { batch, shape, kv, layer, qkv };
        self.attention.run(&mut self.machine, &input, out);
        Ok(())
    }

    fn silu_mul(
        &mut self,
        gate_up: &CpuBuffer,
        rows: usize,
        width: usize,
        out: &mut CpuBuffer,
    ) -> Result<(), DeviceError> {
        let (isa, gate_up) = (self.machine.isa, gate_up.first(2 * rows * width)?);
        let out = SharedMut::new(out.first_mut(rows * width)?);
        for_rows(&mut self.machine.pool, rows, width, &|rows| {
            let input = &gate_up[2 * rows.start * width..2 * rows.end * width];
            // SAFETY: chunks have different rows.
            activation::silu_mul(isa, input, width, unsafe { out.range(rows.start * width..rows.end * width) });
        });
        Ok(())
    }

    fn gather_sample_rows(
        &mut self,
        x: &CpuBuffer,
        batch: &CpuBatch,
        width: usize,
        out: &mut CpuBuffer,
    ) -> Result<(), DeviceError> {
        let x = x.first(batch.batch.tokens.len() * width)?;
        let rows = &batch.batch.sample_rows;
        for (&row, out) in rows.iter().zip(out.first_mut(rows.len() * width)?.chunks_exact_mut(width.max(1))) {
            out.copy_from_slice(&x[row as usize * width..][..width]);
        }
        Ok(())
    }

    fn sample(&mut self, logits: &mut CpuBuffer, vocabulary: usize, rows: &[RowRequest]) -> Result<(), DeviceError> {
        self.sampled.clear();
        let logits = logits.first_mut(rows.len() * vocabulary)?;
        self.sampled = self.sampler.run(&mut self.machine, logits, vocabulary, rows)?;
        self.sampled_tokens.clear();
        self.sampled_tokens.extend(self.sampled.iter().map(|result| result.token));
        Ok(())
    }

    fn wait_sampled(&mut self) -> Result<Vec<RowResult>, DeviceError> {
        Ok(std::mem::take(&mut self.sampled))
    }
}
