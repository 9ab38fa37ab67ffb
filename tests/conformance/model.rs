//! The models under test on the CPU device, and sequences of tokens on them.

use std::path::Path;

use sglhost_device::{CpuDevice, DType};
use sglhost_model::{Batch, DeviceRunner, ModelRunner, OpenOptions, load};
use sglhost_tests::model::default_gguf;

use crate::compute;

/// KV memory of the models under test: more than any test's sequences together.
const KV_SLOTS: usize = 1024;

/// A model with its KV memory.
pub(crate) struct Model {
    runner: DeviceRunner<CpuDevice>,
}

/// The default model as it is served: quantized activations, KV in F16.
pub(crate) fn served() -> Model {
    open(&default_gguf(), compute::as_served(), DType::F16)
}

/// The default model's GGUF file, computed in f32.
pub(crate) fn exact() -> Model {
    open(&default_gguf(), compute::exact(), DType::F32)
}

/// A file or folder.
pub(crate) fn open(path: &Path, device: CpuDevice, kv_dtype: DType) -> Model {
    let options = OpenOptions { kv_slots: Some(KV_SLOTS), kv_dtype: Some(kv_dtype), ..OpenOptions::default() };
    let loaded = load(path, device, &options).unwrap_or_else(|error| panic!("{error}"));
    Model { runner: loaded.runner }
}

/// New tokens of one sequence in one pass.
pub(crate) struct Part<'a> {
    /// The new tokens.
    pub(crate) tokens: &'a [u32],
    /// Slots of all its tokens, the new ones last.
    pub(crate) slots: &'a [u32],
}

/// A sequence that has the KV memory to itself.
#[derive(Default)]
pub(crate) struct Sequence {
    slots: Vec<u32>,
}

impl Sequence {
    /// Tokens so far.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}

impl Model {
    /// Logits of one row.
    pub(crate) fn vocabulary(&self) -> usize {
        self.runner.info().vocabulary
    }

    /// What the engine would be told of it.
    pub(crate) fn info(&self) -> &sglhost_model::ModelInfo {
        self.runner.info()
    }

    /// Appends `tokens` to `sequence`; logits after each of them, `[tokens, vocabulary]`.
    pub(crate) fn extend(&mut self, sequence: &mut Sequence, tokens: &[u32]) -> Vec<f32> {
        let start = sequence.slots.len() as u32;
        sequence.slots.extend(start..start + tokens.len() as u32);
        self.forward(&[Part { tokens, slots: &sequence.slots }])
    }

    /// One pass over several sequences; logits after each token.
    pub(crate) fn forward(&mut self, parts: &[Part<'_>]) -> Vec<f32> {
        let mut batch = Batch::default();
        for part in parts {
            let end = part.slots.len() as u32;
            batch.push_sequence(part.tokens, end - part.tokens.len() as u32..end, part.slots);
        }
        batch.sample_rows = (0..batch.token_count() as u32).collect();
        self.runner.forward(&batch).unwrap();
        self.runner.read_logits().unwrap()
    }
}
