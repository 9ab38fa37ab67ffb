//! A model without an engine: sequences of tokens on it, whose logits are read.

use std::path::Path;

use sglhost_device::Device;
use sglhost_model::{Batch, DeviceRunner, ModelRunner, OpenOptions, load};

/// A model with its KV memory.
pub struct Model<D: Device> {
    /// What computes.
    pub runner: DeviceRunner<D>,
}

/// New tokens of one sequence in one pass.
pub struct Part<'a> {
    /// The new tokens.
    pub tokens: &'a [u32],
    /// Slots of all its tokens, the new ones last.
    pub slots: &'a [u32],
}

/// A sequence that has the KV memory to itself.
#[derive(Default)]
pub struct Sequence {
    slots: Vec<u32>,
}

impl Sequence {
    /// Tokens so far.
    pub fn tokens(&self) -> usize {
        self.slots.len()
    }
}

impl<D: Device> Model<D> {
    /// Opens a file or folder.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub fn open(path: &Path, device: D, options: &OpenOptions) -> Self {
        Self { runner: load(path, device, options).unwrap_or_else(|error| panic!("{error}")).runner }
    }

    /// Logits of one row.
    pub fn vocabulary(&self) -> usize {
        self.runner.info().vocabulary
    }

    /// What the engine would be told of it.
    pub fn info(&self) -> &sglhost_model::ModelInfo {
        self.runner.info()
    }

    /// Appends `tokens` to `sequence`; logits after each of them, `[tokens, vocabulary]`.
    pub fn extend(&mut self, sequence: &mut Sequence, tokens: &[u32]) -> Vec<f32> {
        let start = sequence.slots.len() as u32;
        sequence.slots.extend(start..start + tokens.len() as u32);
        self.forward(&[Part { tokens, slots: &sequence.slots }])
    }

    /// One pass over several sequences; logits after each token.
    pub fn forward(&mut self, parts: &[Part<'_>]) -> Vec<f32> {
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
