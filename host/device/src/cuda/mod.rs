//! An NVIDIA GPU as a device.
//!
//! The driver and cuBLASLt are looked for at run time: without them the program starts as well, and [`probe()`] says in a
//! line what is missing. Kernels come compiled with the program (`sglhost_kernels::cuda`).
//!
//! *A step.* A batch's lists are copied in one piece to where every batch's lists lie; a decode step of a size seen
//! before is one recorded graph; sampling copies what it is asked in one piece, and its answers back in another.
//! Everything is launched on one stream. The host waits for one thing: the event behind the answers of the step before.
//!
//! *Invariants*
//! - Memory is freed when the device is idle, and every recording is dropped when memory is taken or given back.
//! - A recorded pass relies on nothing but its `PassShape` and on addresses that stay.
//! - Deterministic: a row's result depends on that row alone, as on the CPU. Otherwise products and the parts a context
//!   is split into may round differently in batches of other sizes.
//! - An error after which nothing more can work is [`DeviceError::Lost`], and every later call gives it again.
//!
//! *Not here*: adapters; several GPUs for one model.

mod attention;
mod batch;
mod buffer;
mod context;
mod driver;
mod gemm;
mod gemv;
mod graphs;
mod kernels;
mod kv;
mod launch;
mod linear;
mod lt;
mod measure;
mod memory;
mod plans;
mod probe;
mod rows;
mod sample;
mod sampling;
mod weight;

use std::{path::PathBuf, sync::Arc};

use cudarc::driver::sys as driver_sys;

pub use batch::CudaBatch;
pub use buffer::CudaBuffer;
pub use kv::CudaKv;
pub use measure::Mark;
pub use probe::{GpuInfo, NoGpu, probe, probe_device};
pub use weight::CudaWeight;

use crate::{
    AttentionShape, Batch, BatchRows, DType, Device, DeviceError, KvLayout, MemoryInfo, Precision, Rope, RowRequest,
    RowResult, WeightPart,
};
use attention::Attention;
use batch::{UploadOptions, Uploader};
use context::Context;
use driver::check;
use graphs::{Capture, Graphs, Needs, Pass};
use kernels::Kernels;
use linear::Linear;
use lt::Product;
use memory::Pointer;
use rows::{Norm, Rotation, Rows};
use sample::Sampler;
use weight::WeightLoader;

/// How to set up a [`CudaDevice`].
#[derive(Clone, Debug)]
pub struct CudaConfig {
    /// Which of the driver's devices, from 0.
    pub ordinal: usize,
    /// Whether each row's result is to be the same in every batch, bit for bit. Slower: our own kernels compute every
    /// product, and one kernel all attention.
    pub deterministic: bool,
    /// A folder for what was measured about products, so that the next start need not measure again.
    pub plans: Option<PathBuf>,
    /// Whether to record decode steps as CUDA graphs.
    pub graphs: bool,
    /// Whether to use cuBLASLt where it is found.
    pub lt: bool,
}

impl Default for CudaConfig {
    fn default() -> Self {
        Self { ordinal: 0, deterministic: false, plans: None, graphs: true, lt: true }
    }
}

/// A GPU as a [`Device`].
///
/// A [`CudaBatch`] is good until the next one is uploaded.
pub struct CudaDevice {
    gpu: GpuInfo,
    context: Arc<Context>,
    /// None where nothing is recorded. Before the kernels, which recordings hold.
    graphs: Option<Graphs>,
    kernels: Kernels,
    weights: WeightLoader,
    uploader: Uploader,
    linear: Linear,
    attention: Attention,
    sampler: Sampler,
    /// What the pass under way relies on.
    needs: Needs,
    /// The slot behind those of the KV memory that was allocated last: padding is written there.
    scratch_slot: Option<usize>,
    deterministic: bool,
}

impl CudaDevice {
    /// Takes the GPU.
    ///
    /// # Errors
    /// [`DeviceError::NoGpu`] if there is none that can be used; another if it cannot be set up.
    pub fn new(config: CudaConfig) -> Result<Self, DeviceError> {
        let gpu = probe_device(config.ordinal)?;
        let (major, minor) = gpu.compute;
        let Some(image) = sglhost_kernels::cuda::image(major, minor) else {
            return Err(NoGpu::OldDevice { name: gpu.name, compute: gpu.compute }.into());
        };
        let context = Context::new(config.ordinal)?;
        let kernels = Kernels::load(&context, image, &gpu)?;
        let lt = config.lt && !config.deterministic;
        Ok(Self {
            weights: WeightLoader::new(&context)?,
            uploader: Uploader::new(&context)?,
            linear: Linear::new(&context, &gpu, lt, config.plans.as_deref(), config.deterministic)?,
            attention: Attention::new(&context, &gpu),
            sampler: Sampler::new(&context)?,
            graphs: config.graphs.then(|| Graphs::new(&context)),
            needs: Needs::default(),
            scratch_slot: None,
            deterministic: config.deterministic,
            kernels,
            context,
            gpu,
        })
    }

    /// The GPU.
    #[must_use]
    pub fn gpu(&self) -> &GpuInfo {
        &self.gpu
    }

    /// Waits for all that was launched. For measurements and tests.
    ///
    /// # Errors
    /// Something that was launched failed.
    pub fn synchronize(&mut self) -> Result<(), DeviceError> {
        self.context.synchronize()
    }

    /// Passes that were launched as a recorded graph so far. For measurements and tests.
    #[must_use]
    pub fn replays(&self) -> u64 {
        self.graphs.as_ref().map_or(0, |graphs| graphs.replays)
    }

    /// A matrix of pseudo-random values in (-1, 1) / sqrt(columns), the same for the same seed: a benchmark needs no
    /// file.
    ///
    /// # Errors
    /// As [`Device::load_weight`].
    pub fn random_weight(&mut self, rows: usize, columns: usize, seed: u64) -> Result<CudaWeight, DeviceError> {
        let weight = CudaWeight::new(&self.context, rows, columns)?;
        self.weights.random(&weight, seed)?;
        Ok(weight)
    }

    fn rows_of(&self) -> Rows<'_> {
        Rows { context: &self.context, kernels: &self.kernels }
    }

    /// Refuses a batch whose lists were overwritten by the next.
    fn check_batch(&self, batch: &CudaBatch) -> Result<(), DeviceError> {
        self.context.enter()?;
        if !self.uploader.holds(batch) {
            return Err(DeviceError::Shape("a batch is used after the next was uploaded".to_owned()));
        }
        Ok(())
    }

    /// Checks an attention layer's geometry against the batch and the KV memory.
    fn check_attention(
        &mut self,
        shape: &AttentionShape,
        batch: &CudaBatch,
        kv: &CudaKv,
        layer: usize,
    ) -> Result<(), DeviceError> {
        self.check_batch(batch)?;
        shape.check(&kv.layout, layer)?;
        self.needs.slots = kv.slots;
        check_slots(batch, kv.slots)
    }

    /// Records the pass and launches the recording. False if that cannot be done: then nothing was launched.
    fn record(
        &mut self,
        batch: &CudaBatch,
        launch: &mut dyn FnMut(&mut Self) -> Result<(), DeviceError>,
    ) -> Result<bool, DeviceError> {
        let recorded = Capture::begin(&self.context).and_then(|capture| {
            self.needs = Needs::default();
            launch(self)?;
            Ok(capture)
        });
        let Some(graphs) = &mut self.graphs else { return Ok(false) };
        match recorded.and_then(|capture| graphs.keep(&batch.shape, capture, self.needs)) {
            Ok(()) => graphs.replay(&batch.shape),
            Err(error) => graphs.refuse(&batch.shape, error).map(|()| false),
        }
    }
}

/// Checks a batch against a KV memory's slots.
fn check_slots(batch: &CudaBatch, slots: usize) -> Result<(), DeviceError> {
    if batch.slot_bound > slots {
        return Err(DeviceError::Shape(format!("slot {} of {slots}", batch.slot_bound - 1)));
    }
    if batch.scratch_slot.is_some_and(|scratch| scratch != slots) {
        return Err(DeviceError::Shape(format!(
            "a batch that was padded for another KV memory than one of {slots} slots"
        )));
    }
    Ok(())
}

/// Checks a batch's tokens against a table's rows.
fn check_tokens(batch: &CudaBatch, rows: usize) -> Result<(), DeviceError> {
    if batch.token_bound > rows {
        return Err(DeviceError::Shape(format!("token {} of a table of {rows} rows", batch.token_bound - 1)));
    }
    Ok(())
}

impl Device for CudaDevice {
    type Buffer = CudaBuffer;
    type Weight = CudaWeight;
    type Kv = CudaKv;
    type Batch = CudaBatch;

    fn description(&self) -> String {
        let GpuInfo { name, compute: (major, minor), memory_bytes, .. } = &self.gpu;
        let memory = memory_bytes.div_ceil(1 << 30);
        let mut line = format!("cuda: {name} (sm_{major}{minor}), {memory} GiB, {}", self.linear.by());
        if self.graphs.is_some() {
            line.push_str(", CUDA graphs");
        }
        if self.deterministic {
            line.push_str(", deterministic");
        }
        line
    }

    fn kv_dtype(&self) -> DType {
        DType::BF16
    }

    #[allow(unsafe_code, reason = "a call of the driver")]
    fn memory(&self) -> Result<Option<MemoryInfo>, DeviceError> {
        self.context.enter()?;
        self.context.free_retired()?;
        let (mut free_bytes, mut total_bytes) = (0, 0);
        // SAFETY: the driver writes two numbers.
        check("cuMemGetInfo", unsafe { driver_sys::cuMemGetInfo_v2(&raw mut free_bytes, &raw mut total_bytes) })?;
        Ok(Some(MemoryInfo { total_bytes, free_bytes }))
    }

    fn runs_ahead(&self) -> bool {
        true
    }

    fn allocate(&mut self, elements: usize, precision: Precision) -> Result<CudaBuffer, DeviceError> {
        CudaBuffer::zeroed(&self.context, elements, precision)
    }

    fn write_f32(&mut self, buffer: &mut CudaBuffer, values: &[f32]) -> Result<(), DeviceError> {
        buffer.write(values)
    }

    fn read_f32(&mut self, buffer: &CudaBuffer, out: &mut [f32]) -> Result<(), DeviceError> {
        buffer.read(out)
    }

    fn load_weight(&mut self, parts: &[WeightPart]) -> Result<CudaWeight, DeviceError> {
        self.weights.load(&self.context, parts)
    }

    fn allocate_kv(&mut self, layout: KvLayout, slots: usize) -> Result<CudaKv, DeviceError> {
        let kv = CudaKv::new(&self.context, layout, slots)?;
        self.scratch_slot = Some(slots);
        Ok(kv)
    }

    fn upload_batch(&mut self, batch: &Batch) -> Result<CudaBatch, DeviceError> {
        let options = UploadOptions {
            scratch_slot: self.scratch_slot.filter(|_| self.graphs.is_some()),
            sampled: self.sampler.rows(),
            prefill_only: self.deterministic,
        };
        self.uploader.upload(batch, options)
    }

    fn rows(&self, batch: &CudaBatch) -> BatchRows {
        BatchRows { tokens: batch.shape.tokens, sampled: batch.shape.sampled }
    }

    fn run_pass(
        &mut self,
        batch: &CudaBatch,
        launch: &mut dyn FnMut(&mut Self) -> Result<(), DeviceError>,
    ) -> Result<(), DeviceError> {
        self.check_batch(batch)?;
        let pass = match &mut self.graphs {
            Some(graphs) if batch.padded => graphs.pass(&batch.shape),
            _ => Pass::Launch,
        };
        let done = match (pass, &mut self.graphs) {
            (Pass::Replay(needs), Some(graphs)) => {
                check_tokens(batch, needs.tokens)?;
                check_slots(batch, needs.slots)?;
                graphs.replay(&batch.shape)?
            }
            (Pass::Record, _) => self.record(batch, launch)?,
            _ => false,
        };
        if done {
            return Ok(());
        }
        launch(self)?;
        self.linear.save_plans();
        if let Some(graphs) = self.graphs.as_mut().filter(|_| batch.padded) {
            graphs.launched(&batch.shape);
        }
        Ok(())
    }

    fn embed(&mut self, table: &CudaWeight, batch: &CudaBatch, out: &mut CudaBuffer) -> Result<(), DeviceError> {
        self.check_batch(batch)?;
        let (tokens, columns) = (batch.shape.tokens, table.columns);
        let out = out.full(tokens * columns)?;
        self.needs.tokens = table.rows;
        check_tokens(batch, table.rows)?;
        if let Some(given) = batch.given_columns.filter(|&given| given != columns) {
            return Err(DeviceError::Shape(format!("an embedding of {given} elements, not {columns}")));
        }
        if tokens == 0 {
            return Ok(());
        }
        self.rows_of().embed(table.pointer(), batch, self.sampler.sampled(), columns, out)
    }

    fn rms_norm(
        &mut self,
        x: &CudaBuffer,
        weight: &CudaBuffer,
        epsilon: f32,
        rows: usize,
        out: &mut CudaBuffer,
    ) -> Result<(), DeviceError> {
        self.context.enter()?;
        let width = weight.elements();
        let x = x.full(rows * width)?;
        let norm = Norm { weight: weight.full(width)?, epsilon, rows, width, out: out.activations(rows * width)? };
        if rows * width == 0 {
            return Ok(());
        }
        self.rows_of().rms_norm(x, &norm)
    }

    fn add_rms_norm(
        &mut self,
        residual: &mut CudaBuffer,
        x: &CudaBuffer,
        weight: &CudaBuffer,
        epsilon: f32,
        rows: usize,
        out: &mut CudaBuffer,
    ) -> Result<(), DeviceError> {
        self.context.enter()?;
        let width = weight.elements();
        let (residual, x) = (residual.full(rows * width)?, x.activations(rows * width)?);
        let norm = Norm { weight: weight.full(width)?, epsilon, rows, width, out: out.activations(rows * width)? };
        if rows * width == 0 {
            return Ok(());
        }
        self.rows_of().add_rms_norm(residual, x, &norm)
    }

    fn linear(
        &mut self,
        weight: &CudaWeight,
        bias: Option<&CudaBuffer>,
        x: &CudaBuffer,
        rows: usize,
        out: &mut CudaBuffer,
    ) -> Result<(), DeviceError> {
        self.context.enter()?;
        let (n, k) = (weight.rows, weight.columns);
        let product = Product {
            weight: weight.pointer(),
            bias: bias.map(|bias| bias.activations(n)).transpose()?,
            x: x.activations(rows * k)?,
            out: out.first(rows * n)?,
            rows,
            n,
            k,
            full: out.precision() == Precision::Full,
        };
        if rows * n == 0 {
            return Ok(());
        }
        self.linear.launch(&self.context, &self.kernels, &product)
    }

    fn rope_and_write_kv(
        &mut self,
        qkv: &mut CudaBuffer,
        rope: &Rope<'_, CudaBuffer>,
        shape: &AttentionShape,
        batch: &CudaBatch,
        kv: &mut CudaKv,
        layer: usize,
    ) -> Result<(), DeviceError> {
        self.check_attention(shape, batch, kv, layer)?;
        let &AttentionShape { heads, kv_heads, head_dim, .. } = shape;
        let qkv = qkv.activations(batch.shape.tokens * (heads + 2 * kv_heads) * head_dim)?;
        let (query_norm, key_norm, epsilon) = match &rope.head_norm {
            Some(norm) => (norm.query.full(head_dim)?, norm.key.full(head_dim)?, norm.epsilon),
            None => (Pointer::NULL, Pointer::NULL, 0.0),
        };
        let [first, second, _] = rope.sections_of(batch.shape.planes, shape)?;
        let rotation = Rotation {
            qkv,
            inverse_frequencies: rope.inverse_frequencies.full(head_dim / 2)?,
            query_norm,
            key_norm,
            epsilon,
            keys: kv.keys(layer),
            values: kv.values(layer),
            heads,
            kv_heads,
            head_dim,
            sections: [first, second],
        };
        if batch.shape.tokens == 0 {
            return Ok(());
        }
        self.rows_of().rotate(batch, &rotation)
    }

    fn attention(
        &mut self,
        qkv: &CudaBuffer,
        shape: &AttentionShape,
        batch: &CudaBatch,
        kv: &CudaKv,
        layer: usize,
        out: &mut CudaBuffer,
    ) -> Result<(), DeviceError> {
        self.check_attention(shape, batch, kv, layer)?;
        let &AttentionShape { heads, kv_heads, head_dim, .. } = shape;
        let tokens = batch.shape.tokens;
        let input = attention::Input {
            qkv: qkv.activations(tokens * (heads + 2 * kv_heads) * head_dim)?,
            shape,
            batch,
            keys: kv.keys(layer),
            values: kv.values(layer),
            out: out.activations(tokens * heads * head_dim)?,
        };
        self.attention.launch(&self.kernels, &mut self.uploader, &input)
    }

    fn silu_mul(
        &mut self,
        gate_up: &CudaBuffer,
        rows: usize,
        width: usize,
        out: &mut CudaBuffer,
    ) -> Result<(), DeviceError> {
        self.context.enter()?;
        if !width.is_multiple_of(8) {
            return Err(DeviceError::Shape(format!("a gate of {width} elements; a GPU takes multiples of 8")));
        }
        let (gate_up, out) = (gate_up.activations(2 * rows * width)?, out.activations(rows * width)?);
        if rows * width == 0 {
            return Ok(());
        }
        self.rows_of().silu_mul(gate_up, rows, width, out)
    }

    fn gather_sample_rows(
        &mut self,
        x: &CudaBuffer,
        batch: &CudaBatch,
        width: usize,
        out: &mut CudaBuffer,
    ) -> Result<(), DeviceError> {
        self.check_batch(batch)?;
        let bytes = width * buffer::element_bytes(x.precision());
        if x.precision() != out.precision() || !bytes.is_multiple_of(4) {
            return Err(DeviceError::Shape(format!("rows of {width} elements are gathered in whole words")));
        }
        let (x, out) = (x.first(batch.shape.tokens * width)?, out.first(batch.shape.sampled * width)?);
        if batch.shape.sampled * width == 0 {
            return Ok(());
        }
        self.rows_of().gather(x, batch, bytes / 4, out)
    }

    fn sample(&mut self, logits: &mut CudaBuffer, vocabulary: usize, rows: &[RowRequest]) -> Result<(), DeviceError> {
        self.context.enter()?;
        let logits = logits.full(rows.len() * vocabulary)?;
        self.sampler.launch(&self.kernels, logits, vocabulary, rows)
    }

    fn wait_sampled(&mut self) -> Result<Vec<RowResult>, DeviceError> {
        self.context.enter()?;
        self.sampler.wait()
    }

    fn reset(&mut self) {
        self.sampler.forget();
    }
}
