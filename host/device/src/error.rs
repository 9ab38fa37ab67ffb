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
}
