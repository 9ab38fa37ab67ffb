//! What the GPU can do at most, measured where it can be.

use std::fmt;

/// Bytes and operations per second.
pub(crate) struct Floors {
    pub(crate) measured_bandwidth: f64,
    pub(crate) measured_matrix_rate: f64,
    pub(crate) bandwidth: f64,
    pub(crate) matrix_rate: f64,
}

impl fmt::Display for Floors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tera = |x: f64| x / 1e12;
        write!(
            f,
            "Copied {:.2} TB/s (read and written), multiplied {:.0} TFLOP/s of bf16 (large and square); floors are of {:.2} TB/s \
             and {:.0} TFLOP/s.",
            tera(self.measured_bandwidth),
            tera(self.measured_matrix_rate),
            tera(self.bandwidth),
            tera(self.matrix_rate)
        )
    }
}
