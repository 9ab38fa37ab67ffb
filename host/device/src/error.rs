//! What can go wrong on a device.

/// An operation of a device failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// A file could not be opened or mapped.
    #[error("cannot map {path}: {source}")]
    Map {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The device has not enough memory.
    #[error("the device has no room for {bytes} bytes of {what}")]
    OutOfMemory {
        /// What was to be allocated.
        what: &'static str,
        /// How much.
        bytes: usize,
    },
    /// A weight's shape or format is not one the device can load.
    #[error("weight: {0}")]
    Weight(String),
    /// Buffers, batch and shapes do not fit each other.
    #[error("shape: {0}")]
    Shape(String),
    /// The device does not do this, though another might.
    #[error("unsupported: {0}")]
    Unsupported(String),
    /// There is no GPU that can be used.
    #[error(transparent)]
    NoGpu(#[from] crate::cuda::NoGpu),
    /// A call of the device's driver or of one of its libraries failed. A later call may succeed.
    #[error("{call} failed: {reason}")]
    Driver {
        /// The call.
        call: &'static str,
        /// The error as the driver names it.
        reason: String,
    },
    /// The device is lost to this process, whatever is tried: NVIDIA's driver asks for a new process after such errors.
    #[error("the GPU is lost to this process: {call} failed: {reason}")]
    Lost {
        /// The call that showed it.
        call: &'static str,
        /// The error as the driver names it.
        reason: String,
    },
}
