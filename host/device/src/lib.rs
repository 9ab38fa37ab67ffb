//! `Device`: buffers, weights, KV memory and the operations that a model and its sampler are made of.
//!
//! A model is written once over [`Device`]. Operations are launched in order on one stream and may return before the
//! device is done; only [`Device::read_f32`] and [`Device::wait_sampled`] wait.
//!
//! *Boundary*: knows no model, no file format beyond the layout of a weight's blocks, no sequence and no text.
//!
//! *Invariant* (CPU): each row of every operation is computed in a fixed order, whatever the other rows are, so results
//! are bit-identical for any batch composition.

mod batch;
pub mod cpu;
pub mod cuda;
mod error;
mod sample;
mod weight;

pub use batch::Batch;
pub use cpu::{Activations, CpuConfig, CpuDevice};
pub use cuda::{CudaConfig, CudaDevice};
pub use error::DeviceError;
pub use sample::{RowRequest, RowResult, SampleRow};
pub use weight::{DType, MappedBytes, MappedFile, RowOrder, WeightFormat, WeightPart};

/// Shape of the KV memory: what a token's entry in one layer is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Layers, each with its own K and V.
    pub layers: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Elements of one head.
    pub head_dim: usize,
    /// Element type: F32 or F16 on the CPU, BF16 on a GPU.
    pub dtype: DType,
    /// Tokens a page holds; 1 is token-granular. Slot `page * page_tokens + offset` is token `offset` of its page, so a
    /// slot names a token whatever this is.
    pub page_tokens: usize,
}

impl KvLayout {
    /// Bytes that one slot (one token, all layers, K and V) takes.
    #[must_use]
    pub fn slot_bytes(&self) -> usize {
        2 * self.layers * self.kv_heads * self.head_dim * self.dtype.size()
    }
}

/// Geometry of one attention layer over a fused `[T, (heads + 2 * kv_heads) * head_dim]` QKV buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// KV heads; `heads` is a multiple of it.
    pub kv_heads: usize,
    /// Elements of one head.
    pub head_dim: usize,
    /// Multiplied with every score, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// A token attends to this many positions at most, the last of them its own.
    pub window: Option<u32>,
}

impl AttentionShape {
    /// Checks it against KV memory of `layout`, and that this has the layer.
    pub(crate) fn check(&self, layout: &KvLayout, layer: usize) -> Result<(), DeviceError> {
        if self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads) || !self.head_dim.is_multiple_of(2) {
            return Err(DeviceError::Shape(format!("attention of {self:?}")));
        }
        if (self.kv_heads, self.head_dim) != (layout.kv_heads, layout.head_dim) || layer >= layout.layers {
            return Err(DeviceError::Shape(format!("layer {layer} of {self:?} over KV memory of {layout:?}")));
        }
        Ok(())
    }
}

/// What is done to queries and keys before they meet.
#[derive(Debug)]
pub struct Rope<'a, B> {
    /// `[head_dim / 2]` radians per position of each rotated pair.
    pub inverse_frequencies: &'a B,
    /// How many pairs each plane of the batch's positions turns, in order; `head_dim / 2` together. Text has one plane,
    /// M-RoPE three.
    pub sections: [usize; 3],
    /// What comes before the rotation, in families that have it.
    pub head_norm: Option<HeadNorm<'a, B>>,
}

impl<B> Rope<'_, B> {
    /// Pairs that each of `planes` planes turns: one alone turns all.
    pub(crate) fn sections_of(&self, planes: usize, shape: &AttentionShape) -> Result<[usize; 3], DeviceError> {
        if self.sections.iter().sum::<usize>() != shape.head_dim / 2 {
            return Err(DeviceError::Shape(format!("sections {:?} of {shape:?}", self.sections)));
        }
        Ok(if planes == 3 { self.sections } else { [shape.head_dim / 2, 0, 0] })
    }
}

/// A norm of each head of Q and K: `head / rms(head) * weight`.
#[derive(Debug)]
pub struct HeadNorm<'a, B> {
    /// `[head_dim]` weight of queries.
    pub query: &'a B,
    /// `[head_dim]` weight of keys.
    pub key: &'a B,
    /// Added to the mean square.
    pub epsilon: f32,
}

/// How exactly a buffer keeps its elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32 on every device: the residual stream, logits, norm weights, frequencies.
    Full,
    /// What the device multiplies in, f32 on the CPU and bf16 on a GPU: all other activations, and biases.
    Activation,
}

/// Rows that a device computes for a batch: the batch's own, or more where it pads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchRows {
    /// T.
    pub tokens: usize,
    /// R.
    pub sampled: usize,
}

/// Memory of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryInfo {
    /// All of it.
    pub total_bytes: usize,
    /// What nobody uses.
    pub free_bytes: usize,
}

/// A machine that computes. See the crate's documentation for the rules.
///
/// Shapes are row-major; `T` is the tokens of a batch, `R` its sample rows, both as [`Device::rows`] gives them.
/// Activations are [`Precision::Activation`] unless an operation says that they are full.
pub trait Device: Send + 'static {
    /// Activations, norm weights and tables on the device.
    type Buffer: Send;
    /// A matrix `[N, K]` in the form the device multiplies with, possibly fused from several stored ones.
    type Weight: Send;
    /// KV memory of all layers.
    type Kv: Send;
    /// A batch's metadata on the device.
    type Batch: Send;

    /// One line for people: the device, its instruction set or compute capability, threads.
    fn description(&self) -> String;

    /// Element type of KV memory where nobody asks for another.
    fn kv_dtype(&self) -> DType;
    /// The device's memory, if it has its own.
    fn memory(&self) -> Result<Option<MemoryInfo>, DeviceError> {
        Ok(None)
    }
    /// Whether operations return before they are done: see `ModelRunner::runs_ahead`.
    fn runs_ahead(&self) -> bool {
        false
    }

    /// A zeroed buffer of `elements`.
    fn allocate(&mut self, elements: usize, precision: Precision) -> Result<Self::Buffer, DeviceError>;
    /// Copies `values` to the start of `buffer`.
    fn write_f32(&mut self, buffer: &mut Self::Buffer, values: &[f32]) -> Result<(), DeviceError>;
    /// Waits for what was launched and reads the first `out.len()` elements of `buffer`.
    fn read_f32(&mut self, buffer: &Self::Buffer, out: &mut [f32]) -> Result<(), DeviceError>;
    /// Loads a matrix whose rows are those of `parts`, one after the other; all have the same number of columns.
    fn load_weight(&mut self, parts: &[WeightPart]) -> Result<Self::Weight, DeviceError>;
    /// KV memory for `slots` tokens.
    fn allocate_kv(&mut self, layout: KvLayout, slots: usize) -> Result<Self::Kv, DeviceError>;
    /// Takes over a batch's metadata.
    fn upload_batch(&mut self, batch: &Batch) -> Result<Self::Batch, DeviceError>;
    /// Rows that operations compute for `batch`.
    fn rows(&self, batch: &Self::Batch) -> BatchRows;
    /// Launches a forward pass through `launch`. A device may record it and replay that for later batches of as many
    /// rows, so `launch` must launch the same operations on the same buffers for all of them, and allocate nothing.
    fn run_pass(
        &mut self,
        batch: &Self::Batch,
        launch: &mut dyn FnMut(&mut Self) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        let _ = batch;
        launch(self)
    }

    /// `out[t] = table[tokens[t]]`: `[T, K]`, full.
    fn embed(&mut self, table: &Self::Weight, batch: &Self::Batch, out: &mut Self::Buffer) -> Result<(), DeviceError>;
    /// `out[t] = x[t] / rms(x[t]) * weight`: `[rows, weight.len]`; `x` and `weight` are full.
    fn rms_norm(
        &mut self,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        epsilon: f32,
        rows: usize,
        out: &mut Self::Buffer,
    ) -> Result<(), DeviceError>;
    /// `residual += x`, then `out = rms_norm(residual)`; `residual` and `weight` are full.
    fn add_rms_norm(
        &mut self,
        residual: &mut Self::Buffer,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        epsilon: f32,
        rows: usize,
        out: &mut Self::Buffer,
    ) -> Result<(), DeviceError>;
    /// `out[r] = weight · x[r] (+ bias)`: `[rows, N]`, of either precision.
    fn linear(
        &mut self,
        weight: &Self::Weight,
        bias: Option<&Self::Buffer>,
        x: &Self::Buffer,
        rows: usize,
        out: &mut Self::Buffer,
    ) -> Result<(), DeviceError>;
    /// Normalises the heads of Q and K where `rope` says so, rotates them in place in `qkv` (pairs
    /// `(i, i + head_dim / 2)`), and writes K and V to the batch's slots of `layer`.
    fn rope_and_write_kv(
        &mut self,
        qkv: &mut Self::Buffer,
        rope: &Rope<'_, Self::Buffer>,
        shape: &AttentionShape,
        batch: &Self::Batch,
        kv: &mut Self::Kv,
        layer: usize,
    ) -> Result<(), DeviceError>;
    /// Causal attention of each token over its sequence's slots, up to and with itself: `out` is `[T, heads * head_dim]`.
    fn attention(
        &mut self,
        qkv: &Self::Buffer,
        shape: &AttentionShape,
        batch: &Self::Batch,
        kv: &Self::Kv,
        layer: usize,
        out: &mut Self::Buffer,
    ) -> Result<(), DeviceError>;
    /// `out[t, i] = silu(gate_up[t, i]) * gate_up[t, width + i]`: `[rows, width]` from `[rows, 2 * width]`.
    fn silu_mul(
        &mut self,
        gate_up: &Self::Buffer,
        rows: usize,
        width: usize,
        out: &mut Self::Buffer,
    ) -> Result<(), DeviceError>;
    /// `out[r] = x[sample_rows[r]]`: `[R, width]`, `out` as precise as `x`.
    fn gather_sample_rows(
        &mut self,
        x: &Self::Buffer,
        batch: &Self::Batch,
        width: usize,
        out: &mut Self::Buffer,
    ) -> Result<(), DeviceError>;
    /// Launches sampling or scoring of each row of `logits` `[R, vocabulary]`, full, which it may change.
    fn sample(&mut self, logits: &mut Self::Buffer, vocabulary: usize, rows: &[RowRequest]) -> Result<(), DeviceError>;
    /// Waits for the results of the oldest [`Device::sample`] not waited for, a row each; there are at most two.
    fn wait_sampled(&mut self) -> Result<Vec<RowResult>, DeviceError>;
    /// After a failure: forgets what was launched and not waited for. Buffers stay, whatever is in them.
    fn reset(&mut self) {}
}
