//! The same operations on the CPU device and on the GPU device, and how near their results must be.

use sglhost_device::{Activations, CpuConfig, CpuDevice, CudaConfig, CudaDevice, Device, Precision};

use crate::twin;

/// The CPU in f32 throughout.
pub(crate) fn cpu() -> CpuDevice {
    CpuDevice::new(CpuConfig { threads: 1, activations: Activations::Exact, isa: None })
}

/// The GPU.
pub(crate) fn gpu(config: CudaConfig) -> CudaDevice {
    twin::device(config)
}

/// A buffer of these values.
pub(crate) fn buffer<D: Device>(device: &mut D, values: &[f32], precision: Precision) -> D::Buffer {
    let mut buffer = device.allocate(values.len(), precision).unwrap();
    device.write_f32(&mut buffer, values).unwrap();
    buffer
}

/// The first `count` values of a buffer.
pub(crate) fn read<D: Device>(device: &mut D, buffer: &D::Buffer, count: usize) -> Vec<f32> {
    let mut out = vec![0.0; count];
    device.read_f32(buffer, &mut out).unwrap();
    out
}

/// How far a result may be from the CPU's.
#[derive(Clone, Copy)]
pub(crate) struct Tolerance {
    /// Of each value, relative to its size.
    pub(crate) relative: f32,
    /// Of each value.
    pub(crate) absolute: f32,
}

/// Half a unit in the last place of bf16, and a little.
pub(crate) const BF16: Tolerance = Tolerance { relative: 0.004, absolute: 1e-5 };
/// Sums of f32 in another order.
pub(crate) const F32: Tolerance = Tolerance { relative: 1e-5, absolute: 1e-5 };

/// Fails unless all values are near the expected, or if something was written beside its place.
pub(crate) fn check_near(what: &str, got: &[f32], expect: &[f32], tolerance: Tolerance) {
    twin::check_memory();
    assert_eq!(got.len(), expect.len(), "{what}");
    for (i, (&got, &expect)) in got.iter().zip(expect).enumerate() {
        let allowed = tolerance.absolute + tolerance.relative * expect.abs();
        // Not a number is never near; infinity is near itself.
        assert!(got == expect || (got - expect).abs() <= allowed, "{what}: value {i} is {got}, not {expect}");
    }
}
