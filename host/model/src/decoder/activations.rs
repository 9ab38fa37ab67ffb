//! The buffers that a forward pass writes, kept from pass to pass.

use sglhost_device::{Device, DeviceError};

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
            residual: device.allocate(rows * config.hidden)?,
            normed: device.allocate(rows * config.hidden)?,
            qkv: device.allocate(rows * config.qkv_width())?,
            attended: device.allocate(rows * config.query_width())?,
            projected: device.allocate(rows * config.hidden)?,
            gate_up: device.allocate(rows * 2 * config.intermediate)?,
            activated: device.allocate(rows * config.intermediate)?,
            sampled_attended: device.allocate(sampled_rows * config.query_width())?,
            sampled_residual: device.allocate(sampled_rows * config.hidden)?,
            logits: device.allocate(sampled_rows * config.vocabulary)?,
        })
    }

    /// Makes room for a pass. What the buffers held is lost where they grow.
    pub(super) fn reserve(
        &mut self,
        device: &mut D,
        config: &DecoderConfig,
        rows: usize,
        sampled_rows: usize,
    ) -> Result<(), DeviceError> {
        if rows > self.rows {
            let rows = rows.next_power_of_two();
            self.residual = device.allocate(rows * config.hidden)?;
            self.normed = device.allocate(rows * config.hidden)?;
            self.qkv = device.allocate(rows * config.qkv_width())?;
            self.attended = device.allocate(rows * config.query_width())?;
            self.projected = device.allocate(rows * config.hidden)?;
            self.gate_up = device.allocate(rows * 2 * config.intermediate)?;
            self.activated = device.allocate(rows * config.intermediate)?;
            self.rows = rows;
        }
        if sampled_rows > self.sampled_rows {
            let rows = sampled_rows.next_power_of_two();
            self.sampled_attended = device.allocate(rows * config.query_width())?;
            self.sampled_residual = device.allocate(rows * config.hidden)?;
            self.logits = device.allocate(rows * config.vocabulary)?;
            self.sampled_rows = rows;
        }
        Ok(())
    }
}
