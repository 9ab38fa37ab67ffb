//! KV memory.

use std::sync::Arc;

use super::{
    context::Context,
    memory::{DeviceMemory, Pointer},
};
use crate::{DType, DeviceError, KvLayout};

/// What attention kernels there are for; heads in between are padded with zeros in shared memory.
const HEAD_DIM_MAX: usize = 256;

/// KV memory: for each layer keys, then values, bf16 `[slots + 1, kv_heads, head_dim]`.
///
/// The slot after the last is scratch: rows that pad a batch write there and attend to it alone.
///
/// It starts as zeros. Attention multiplies what a row does not see with a weight of zero, which is zero only for
/// numbers; later content is the model's own, and a number or not for whoever sees it.
#[derive(Debug)]
pub struct CudaKv {
    memory: DeviceMemory,
    pub(super) layout: KvLayout,
    pub(super) slots: usize,
}

impl CudaKv {
    pub(super) fn new(context: &Arc<Context>, layout: KvLayout, slots: usize) -> Result<Self, DeviceError> {
        if layout.dtype != DType::BF16 {
            let dtype = layout.dtype;
            return Err(DeviceError::Unsupported(format!("KV memory in {dtype:?}: a GPU keeps it in BF16")));
        }
        let head_dim = layout.head_dim;
        if head_dim == 0 || !head_dim.is_multiple_of(8) || head_dim > HEAD_DIM_MAX {
            return Err(DeviceError::Unsupported(format!(
                "heads of {head_dim} elements: a GPU takes multiples of 8 up to {HEAD_DIM_MAX}"
            )));
        }
        if layout.page_tokens == 0 {
            return Err(DeviceError::Shape("KV pages of 0 tokens".to_owned()));
        }
        // Kernels number slots in u32, the scratch slot included.
        if u32::try_from(slots + 1).is_err() {
            return Err(DeviceError::Unsupported(format!("KV memory of {slots} slots")));
        }
        let bytes = 2 * layout.layers * part_bytes(&layout, slots);
        let memory = DeviceMemory::zeroed(context, bytes, "KV memory; fewer tokens need less")?;
        Ok(Self { memory, layout, slots })
    }

    /// Keys of one layer.
    pub(super) fn keys(&self, layer: usize) -> Pointer {
        self.memory.pointer().at(2 * layer * part_bytes(&self.layout, self.slots))
    }

    /// Values of one layer.
    pub(super) fn values(&self, layer: usize) -> Pointer {
        self.memory.pointer().at((2 * layer + 1) * part_bytes(&self.layout, self.slots))
    }
}

/// Bytes of one layer's keys, or of its values.
fn part_bytes(layout: &KvLayout, slots: usize) -> usize {
    (slots + 1) * layout.kv_heads * layout.head_dim * layout.dtype.size()
}
