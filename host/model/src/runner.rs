//! What the engine drives: one model on one device.

use sglhost_device::{Batch, DeviceError, KvLayout, RowRequest, RowResult};

/// What the engine must know of a model.
#[derive(Clone, Debug)]
pub struct ModelInfo {
    /// The name it is served under.
    pub name: String,
    /// Its family as [`Family::name`](crate::Family::name) gives it ("llama").
    pub architecture: String,
    /// Rows of the head: logits of one row.
    pub vocabulary: usize,
    /// Longest sequence in tokens.
    pub context_length: usize,
    /// Tokens that end a text, as the model's files name them.
    pub end_of_text: Vec<u32>,
    /// Layout of its KV memory.
    pub kv: KvLayout,
    /// The device and how the weights are stored, for people.
    pub description: String,
}

/// A model could not compute.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The tokenizer's files or the chat template cannot be used.
    #[error(transparent)]
    Text(#[from] sglhost_text::TextError),
    /// A file is not what its name or header says.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The architecture or a feature of it is not known here.
    #[error("{0}")]
    Unsupported(String),
    /// The device's own memory is too small for the model. Names a field of `OpenOptions` that decides about it, in
    /// brackets.
    #[error("{0}")]
    NoRoom(String),
}

impl ModelError {
    /// Whether nothing will work again in this process.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Device(DeviceError::Lost { .. }))
    }
}

/// One model on one device, with KV memory of `kv_slots` tokens.
///
/// `forward` and `sample` are launched separately, so that masks can be built while the forward pass runs. What is
/// launched is computed in the order of launching. The simulator implements this trait with a script.
pub trait ModelRunner: Send {
    /// The model.
    fn info(&self) -> &ModelInfo;
    /// Tokens that fit its KV memory; slots are numbered from 0.
    fn kv_slots(&self) -> usize;
    /// Tokens of the longest sequence: the model takes it, and it fits KV memory, in whole pages, when it is the only one.
    fn longest_sequence(&self) -> usize {
        let page = self.info().kv.page_tokens;
        self.info().context_length.min(self.kv_slots() / page * page)
    }
    /// Whether launching returns before the device is done. Then the engine plans one step ahead: it launches a pass
    /// whose input tokens are still being sampled ([`Batch::sampled_inputs`]), and commits the step before meanwhile. Where
    /// launching is computing, that would only cost: each finished sequence computes a token too many.
    fn runs_ahead(&self) -> bool {
        false
    }
    /// Launches one forward pass, which writes the KV of `batch.slots` and leaves logits for `batch.sample_rows`.
    fn forward(&mut self, batch: &Batch) -> Result<(), ModelError>;
    /// Launches sampling of the last pass's rows, a request each, in order.
    fn sample(&mut self, rows: &[RowRequest]) -> Result<(), ModelError>;
    /// Waits for the results of the oldest `sample` not waited for; there are at most two.
    fn wait_sampled(&mut self) -> Result<Vec<RowResult>, ModelError>;
    /// After a failure: forgets what was launched and not waited for. What KV memory holds means nothing any more.
    fn reset(&mut self) {}
}
