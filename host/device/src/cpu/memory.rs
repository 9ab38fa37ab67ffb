//! Buffers and KV memory.

use sglhost_kernels::cpu::{AlignedVec, dot_rows::Element};

use crate::{DType, DeviceError, KvLayout};

/// Activations: a cache-aligned vector of f32.
#[derive(Debug)]
pub struct CpuBuffer(pub(super) AlignedVec<f32>);

impl CpuBuffer {
    /// The first `count` elements.
    pub(super) fn first(&self, count: usize) -> Result<&[f32], DeviceError> {
        self.0.get(..count).ok_or_else(|| short(self.0.len(), count))
    }

    /// The first `count` elements, to be written.
    pub(super) fn first_mut(&mut self, count: usize) -> Result<&mut [f32], DeviceError> {
        let length = self.0.len();
        self.0.get_mut(..count).ok_or_else(|| short(length, count))
    }
}

fn short(length: usize, count: usize) -> DeviceError {
    DeviceError::Shape(format!("a buffer of {length} elements is used for {count}"))
}

/// KV memory: for each layer keys and values, `[kv_heads, slots, padded head_dim]` each, so that one head's context
/// lies together.
///
/// Memory that is never written is never taken from the system.
#[derive(Debug)]
pub struct CpuKv {
    pub(super) layout: KvLayout,
    pub(super) slots: usize,
    pub(super) element: Element,
    /// Elements of a head, padded with zeros to whole vectors.
    pub(super) dim: usize,
    /// Keys and values of each layer.
    pub(super) layers: Vec<[AlignedVec<u8>; 2]>,
}

impl CpuKv {
    pub(super) fn new(layout: KvLayout, slots: usize) -> Result<Self, DeviceError> {
        let element = match layout.dtype {
            DType::F32 => Element::F32,
            DType::F16 => Element::F16,
            DType::BF16 => return Err(DeviceError::Unsupported("KV memory in BF16".to_owned())),
        };
        // Slots are numbers of tokens whatever a page holds, and rows here are addressed by them: pages only say which
        // slots the cache hands out together.
        if layout.page_tokens == 0 {
            return Err(DeviceError::Shape("KV pages of 0 tokens".to_owned()));
        }
        let dim = padded(layout.head_dim);
        let bytes = layout.kv_heads * slots * dim * element.size();
        // An allocation that fails below would end the process; this one tells.
        let total = 2 * layout.layers * bytes;
        if Vec::<u8>::new().try_reserve_exact(total).is_err() {
            return Err(DeviceError::OutOfMemory { what: "KV memory; fewer tokens need less", bytes: total });
        }
        let layers =
            (0..layout.layers).map(|_| [AlignedVec::zeroed(bytes), AlignedVec::zeroed(bytes)]).collect::<Vec<_>>();
        Ok(Self { layout, slots, element, dim, layers })
    }

    /// Keys and values of one layer, to be written.
    pub(super) fn layer_mut(&mut self, layer: usize) -> KvLayerMut<'_> {
        let (slots, row_bytes, element) = (self.slots, self.row_bytes(), self.element);
        let [keys, values] = &mut self.layers[layer];
        KvLayerMut { slots, row_bytes, element, keys, values }
    }

    /// Bytes of one head of one slot.
    pub(super) fn row_bytes(&self) -> usize {
        self.dim * self.element.size()
    }
}

/// Keys and values of one layer; row `head * slots + slot` of `row_bytes` is one head of one slot.
pub(super) struct KvLayerMut<'a> {
    pub(super) slots: usize,
    pub(super) row_bytes: usize,
    pub(super) element: Element,
    pub(super) keys: &'a mut [u8],
    pub(super) values: &'a mut [u8],
}

/// Elements of a head as attention works on them: whole vectors.
pub(super) fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(16)
}
