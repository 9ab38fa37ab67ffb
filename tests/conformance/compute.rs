//! How the tests compute on the CPU: as a model is served, or in f32 throughout.

use std::sync::{Mutex, MutexGuard, PoisonError};

use sglhost_device::{Activations, CpuConfig, CpuDevice};

/// As `sglhost` serves: activations quantized for the machine's integer instructions.
pub(crate) fn as_served() -> CpuDevice {
    CpuDevice::new(CpuConfig::default())
}

/// No activation is rounded to fewer than 32 bits.
pub(crate) fn exact() -> CpuDevice {
    CpuDevice::new(CpuConfig { activations: Activations::Exact, ..CpuConfig::default() })
}

/// Held by every test that computes for long: each device has as many threads as the machine, and two of them would
/// wait for each other at every operation.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed leaves nothing behind that another could trip over.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
