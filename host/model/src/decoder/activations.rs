//! The buffers that a forward pass writes, kept from pass to pass.

use sglhost_device::{BatchRows, Device, DeviceError, Precision};

use crate::DecoderConfig;

/// Rows that are allocated at least, so that a growing batch does not allocate at each step.
const ROWS_MIN: usize = 16;

/// Activations of up to `rows` tokens and `sampled_rows` sample rows; they grow and never shrink.
pub(crate) struct Activations<D: Device> {
    rows: usize,
    sampled_rows: usize,
    /// `[T, hidden]`.
    pub(super) residual: D::Buffer,
    /// `[T, hidden]`, a norm's output.
    pub(super) normed: D::Buffer,
    /// `[T, (heads + 2 * kv_heads) * head_dim]`.
    pub(super) qkv: D::Buffer,
    /// `[T, heads * head_dim]`.
    pub(super) attended: D::Buffer,
    /// `[T, hidden]`, what is added to the residual next.
    pub(super) projected: D::Buffer,
    /// `[T, 2 * intermediate]`.
    pub(super) gate_up: D::Buffer,
    /// `[T, intermediate]`.
    pub(super) activated: D::Buffer,
    /// `[R, heads * head_dim]`.
    pub(super) sampled_attended: D::Buffer,
    /// `[R, hidden]`.
    pub(super) sampled_residual: D::Buffer,
    /// `[R, vocabulary]`.
    pub(crate) logits: D::Buffer,
}

impl<D: Device> Activations<D> {
    /// The smallest ones.
    pub(crate) fn new(device: &mut D, config: &DecoderConfig) -> Result<Self, DeviceError> {
        let (rows, sampled_rows) = (ROWS_MIN, 1);
        Ok(Self {
            rows,
            sampled_rows,
            residual: device.allocate(rows * config.hidden, Precision::Full)?,
            normed: device.allocate(rows * config.hidden, Precision::Activation)?,
            qkv: device.allocate(rows * config.qkv_width(), Precision::Activation)?,
            attended: device.allocate(rows * config.query_width(), Precision::Activation)?,
            projected: device.allocate(rows * config.hidden, Precision::Activation)?,
            gate_up: device.allocate(rows * 2 * config.intermediate, Precision::Activation)?,
            activated: device.allocate(rows * config.intermediate, Precision::Activation)?,
            sampled_attended: device.allocate(sampled_rows * config.query_width(), Precision::Activation)?,
            sampled_residual: device.allocate(sampled_rows * config.hidden, Precision::Full)?,
            logits: device.allocate(sampled_rows * config.vocabulary, Precision::Full)?,
        })
    }

    /// Makes room for a pass. What the buffers held is lost where they grow.
    pub(super) fn reserve(
        &mut self,
        device: &mut D,
        config: &DecoderConfig,
        needed: BatchRows,
    ) -> Result<(), DeviceError> {
        if needed.tokens > self.rows {
            let rows = needed.tokens.next_power_of_two();
            self.residual = device.allocate(rows * config.hidden, Precision::Full)?;
            self.normed = device.allocate(rows * config.hidden, Precision::Activation)?;
            self.qkv = device.allocate(rows * config.qkv_width(), Precision::Activation)?;
            self.attended = device.allocate(rows * config.query_width(), Precision::Activation)?;
            self.projected = device.allocate(rows * config.hidden, Precision::Activation)?;
            self.gate_up = device.allocate(rows * 2 * config.intermediate, Precision::Activation)?;
            self.activated = device.allocate(rows * config.intermediate, Precision::Activation)?;
            self.rows = rows;
        }
        if needed.sampled > self.sampled_rows {
            let rows = needed.sampled.next_power_of_two();
            self.sampled_attended = device.allocate(rows * config.query_width(), Precision::Activation)?;
            self.sampled_residual = device.allocate(rows * config.hidden, Precision::Full)?;
            self.logits = device.allocate(rows * config.vocabulary, Precision::Full)?;
            self.sampled_rows = rows;
        }
        Ok(())
    }
}
