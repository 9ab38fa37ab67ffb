//! What benchmarks ask of a GPU: places in its stream with their time, and its own peaks.

#![allow(unsafe_code, reason = "a call of the driver")]

use cudarc::driver::sys;

use super::{CudaDevice, context::Event, driver::check, memory::DeviceMemory};
use crate::{Device, DeviceError, Precision};

/// Rounds of a measurement, after one that does not count.
const ROUNDS: usize = 10;

/// A place in the stream; its time is known when the stream has passed it.
#[derive(Debug)]
pub struct Mark(Event);

impl Mark {
    /// Milliseconds from `start` to here. Waits until the stream has passed both.
    ///
    /// # Errors
    /// Something that was launched before failed.
    pub fn milliseconds_since(&self, start: &Self) -> Result<f32, DeviceError> {
        start.0.wait()?;
        self.0.wait()?;
        self.0.milliseconds_since(&start.0)
    }
}

impl CudaDevice {
    /// Marks the end of what was launched.
    ///
    /// # Errors
    /// The driver refused.
    pub fn mark(&mut self) -> Result<Mark, DeviceError> {
        self.context.enter()?;
        let event = Event::new(&self.context, true)?;
        event.record()?;
        Ok(Mark(event))
    }

    /// Bytes per second that a copy of `bytes` within the device's memory moves, read and written ones together.
    ///
    /// # Errors
    /// There is no room for twice as much, or the device failed.
    pub fn measure_copy_bandwidth(&mut self, bytes: usize) -> Result<f64, DeviceError> {
        let place = || DeviceMemory::zeroed(&self.context, bytes, "a measurement");
        let (from, to) = (place()?, place()?);
        let milliseconds = self.measure(|device| {
            // SAFETY: both places have that many bytes, and stay until the measurement has been waited for.
            let result =
                unsafe { sys::cuMemcpyDtoDAsync_v2(to.pointer().0, from.pointer().0, bytes, device.context.stream()) };
            check("cuMemcpyDtoDAsync", result)
        })?;
        Ok(2.0 * bytes as f64 / milliseconds * 1e3)
    }

    /// Operations per second of a product of matrices of `size` by `size`.
    ///
    /// # Errors
    /// There is no room, or the device failed.
    pub fn measure_matrix_rate(&mut self, size: usize) -> Result<f64, DeviceError> {
        let weight = self.random_weight(size, size, 1)?;
        let mut x = self.allocate(size * size, Precision::Activation)?;
        // Zeros would be multiplied at a higher clock.
        let values: Vec<f32> = (0..size * size).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
        self.write_f32(&mut x, &values)?;
        let mut out = self.allocate(size * size, Precision::Activation)?;
        let milliseconds = self.measure(|device| device.linear(&weight, None, &x, size, &mut out))?;
        Ok(2.0 * (size as f64).powi(3) / milliseconds * 1e3)
    }

    /// The shortest of several rounds of what `launch` launches, in milliseconds.
    fn measure(&mut self, mut launch: impl FnMut(&mut Self) -> Result<(), DeviceError>) -> Result<f64, DeviceError> {
        launch(self)?;
        let mut shortest = f32::INFINITY;
        for _ in 0..ROUNDS {
            let start = self.mark()?;
            launch(self)?;
            shortest = shortest.min(self.mark()?.milliseconds_since(&start)?);
        }
        Ok(f64::from(shortest))
    }
}
