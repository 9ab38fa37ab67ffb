//! The models under test on the CPU device.

use std::path::Path;

use sglhost_device::{CpuDevice, DType};
use sglhost_model::OpenOptions;
use sglhost_tests::model::default_gguf;
pub(crate) use sglhost_tests::sequences::{Part, Sequence};

use crate::compute;

/// KV memory of the models under test: more than any test's sequences together.
const KV_SLOTS: usize = 1024;

/// A model on the CPU with its KV memory.
pub(crate) type Model = sglhost_tests::sequences::Model<CpuDevice>;

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
    Model::open(path, device, &options)
}
