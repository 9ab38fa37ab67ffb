//! Buffers of activations, norm weights and tables.

use std::sync::Arc;

use half::bf16;

use super::{
    context::Context,
    memory::{DeviceMemory, Pointer},
};
use crate::{DeviceError, Precision};

/// Elements on the device: f32 ([`Precision::Full`]) or bf16 ([`Precision::Activation`]).
#[derive(Debug)]
pub struct CudaBuffer {
    memory: DeviceMemory,
    elements: usize,
    precision: Precision,
}

/// Bytes of an element.
pub(super) fn element_bytes(precision: Precision) -> usize {
    match precision {
        Precision::Full => 4,
        Precision::Activation => 2,
    }
}

impl CudaBuffer {
    pub(super) fn zeroed(context: &Arc<Context>, elements: usize, precision: Precision) -> Result<Self, DeviceError> {
        let bytes = elements * element_bytes(precision);
        let memory = DeviceMemory::zeroed(context, bytes, "activations; shorter steps need less")?;
        Ok(Self { memory, elements, precision })
    }

    pub(super) fn elements(&self) -> usize {
        self.elements
    }

    pub(super) fn precision(&self) -> Precision {
        self.precision
    }

    /// Where its first `count` elements are, whatever they are.
    pub(super) fn first(&self, count: usize) -> Result<Pointer, DeviceError> {
        if count > self.elements {
            let length = self.elements;
            return Err(DeviceError::Shape(format!("a buffer of {length} elements is used for {count}")));
        }
        Ok(self.memory.pointer())
    }

    /// Where its first `count` elements are, which are f32.
    pub(super) fn full(&self, count: usize) -> Result<Pointer, DeviceError> {
        self.of(Precision::Full, count)
    }

    /// Where its first `count` elements are, which are bf16.
    pub(super) fn activations(&self, count: usize) -> Result<Pointer, DeviceError> {
        self.of(Precision::Activation, count)
    }

    fn of(&self, precision: Precision, count: usize) -> Result<Pointer, DeviceError> {
        if self.precision != precision {
            let is = self.precision;
            return Err(DeviceError::Shape(format!(
                "a buffer of {is:?} precision is used where it is to be {precision:?}"
            )));
        }
        self.first(count)
    }

    /// Copies `values` to its start and waits.
    pub(super) fn write(&mut self, values: &[f32]) -> Result<(), DeviceError> {
        self.first(values.len())?;
        let bytes: Vec<u8> = match self.precision {
            Precision::Full => values.iter().flat_map(|x| x.to_le_bytes()).collect(),
            Precision::Activation => values.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect(),
        };
        self.memory.write(0, &bytes)
    }

    /// Waits for what was launched and reads its first elements.
    pub(super) fn read(&self, out: &mut [f32]) -> Result<(), DeviceError> {
        self.first(out.len())?;
        let size = element_bytes(self.precision);
        let mut bytes = vec![0; out.len() * size];
        self.memory.read(&mut bytes)?;
        for (x, bytes) in out.iter_mut().zip(bytes.chunks_exact(size)) {
            *x = match *bytes {
                [a, b, c, d] => f32::from_le_bytes([a, b, c, d]),
                [a, b, ..] => bf16::from_le_bytes([a, b]).to_f32(),
                _ => 0.0,
            };
        }
        Ok(())
    }
}
