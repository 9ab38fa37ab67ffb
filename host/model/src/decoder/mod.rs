//! The decoder that all families are: its weights on a device, and its forward pass.
//!
//! Families differ by configuration: which layers have biases, norms of their heads, a window, how frequencies are
//! scaled.
//!
//! Fused where it saves reading activations twice: Q, K and V are one weight, gate and up are one, and each residual
//! addition is part of the norm that follows it.

mod activations;
mod weights;

use sglhost_device::{BatchRows, Device, DeviceError, HeadNorm, Rope};

pub(crate) use activations::Activations;

use crate::DecoderConfig;

/// A decoder's weights on device `D`.
pub struct Decoder<D: Device> {
    config: DecoderConfig,
    /// `[vocabulary, hidden]`.
    embedding: D::Weight,
    layers: Vec<Layer<D>>,
    /// `[hidden]`.
    norm: D::Buffer,
    /// `[vocabulary, hidden]`; none where the embedding is the head too.
    head: Option<D::Weight>,
    /// `[head_dim / 2]`.
    inverse_frequencies: D::Buffer,
}

/// One layer's weights.
struct Layer<D: Device> {
    /// `[hidden]`.
    attention_norm: D::Buffer,
    /// `[(heads + 2 * kv_heads) * head_dim, hidden]`.
    qkv: Linear<D>,
    /// Where each head of Q and K is normalised before it is rotated.
    head_norms: Option<HeadNorms<D>>,
    /// `[hidden, heads * head_dim]`.
    output: Linear<D>,
    /// `[hidden]`.
    mlp_norm: D::Buffer,
    /// `[2 * intermediate, hidden]`, gate first.
    gate_up: Linear<D>,
    /// `[hidden, intermediate]`.
    down: Linear<D>,
}

/// Norms of the heads of Q and K, `[head_dim]` each.
struct HeadNorms<D: Device> {
    query: D::Buffer,
    key: D::Buffer,
}

/// A matrix `[N, K]` and what is added to its product.
struct Linear<D: Device> {
    weight: D::Weight,
    bias: Option<D::Buffer>,
}

impl<D: Device> Linear<D> {
    fn apply(&self, device: &mut D, x: &D::Buffer, rows: usize, out: &mut D::Buffer) -> Result<(), DeviceError> {
        device.linear(&self.weight, self.bias.as_ref(), x, rows, out)
    }
}

impl<D: Device> Decoder<D> {
    /// Its dimensions.
    #[must_use]
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Launches the pass: writes KV for all tokens and leaves the logits of the sample rows in `activations.logits`.
    pub(crate) fn forward(
        &self,
        device: &mut D,
        batch: &D::Batch,
        kv: &mut D::Kv,
        activations: &mut Activations<D>,
    ) -> Result<(), DeviceError> {
        let rows = device.rows(batch);
        if rows.tokens == 0 {
            return Ok(());
        }
        activations.reserve(device, &self.config, rows)?;
        device.run_pass(batch, &mut |device| self.launch(device, rows, batch, kv, activations))
    }

    fn launch(
        &self,
        device: &mut D,
        rows: BatchRows,
        batch: &D::Batch,
        kv: &mut D::Kv,
        a: &mut Activations<D>,
    ) -> Result<(), DeviceError> {
        let BatchRows { tokens, sampled } = rows;
        let epsilon = self.config.rms_epsilon;

        device.embed(&self.embedding, batch, &mut a.residual)?;
        for (index, layer) in self.layers.iter().enumerate() {
            if index == 0 {
                device.rms_norm(&a.residual, &layer.attention_norm, epsilon, tokens, &mut a.normed)?;
            } else {
                let norm = &layer.attention_norm;
                device.add_rms_norm(&mut a.residual, &a.projected, norm, epsilon, tokens, &mut a.normed)?;
            }
            layer.qkv.apply(device, &a.normed, tokens, &mut a.qkv)?;
            let shape = self.config.attention_shape(index);
            let head_norm = layer.head_norms.as_ref();
            let head_norm = head_norm.map(|norms| HeadNorm { query: &norms.query, key: &norms.key, epsilon });
            let sections = [self.config.head_dim / 2, 0, 0];
            let rope = Rope { inverse_frequencies: &self.inverse_frequencies, sections, head_norm };
            device.rope_and_write_kv(&mut a.qkv, &rope, &shape, batch, kv, index)?;
            if index + 1 < self.layers.len() {
                device.attention(&a.qkv, &shape, batch, kv, index, &mut a.attended)?;
                layer.output.apply(device, &a.attended, tokens, &mut a.projected)?;
                self.mlp(device, layer, tokens, Rows::All, a)?;
            } else if sampled > 0 {
                // After the last layer's K and V are written, only the sampled rows matter.
                device.attention(&a.qkv, &shape, batch, kv, index, &mut a.attended)?;
                let width = self.config.query_width();
                device.gather_sample_rows(&a.attended, batch, width, &mut a.sampled_attended)?;
                device.gather_sample_rows(&a.residual, batch, self.config.hidden, &mut a.sampled_residual)?;
                layer.output.apply(device, &a.sampled_attended, sampled, &mut a.projected)?;
                self.mlp(device, layer, sampled, Rows::Sampled, a)?;
                self.head(device, sampled, a)?;
            }
        }
        Ok(())
    }

    /// `projected = mlp(norm(residual += projected))`.
    fn mlp(
        &self,
        device: &mut D,
        layer: &Layer<D>,
        rows: usize,
        which: Rows,
        a: &mut Activations<D>,
    ) -> Result<(), DeviceError> {
        let residual = match which {
            Rows::All => &mut a.residual,
            Rows::Sampled => &mut a.sampled_residual,
        };
        let epsilon = self.config.rms_epsilon;
        device.add_rms_norm(residual, &a.projected, &layer.mlp_norm, epsilon, rows, &mut a.normed)?;
        layer.gate_up.apply(device, &a.normed, rows, &mut a.gate_up)?;
        device.silu_mul(&a.gate_up, rows, self.config.intermediate, &mut a.activated)?;
        layer.down.apply(device, &a.activated, rows, &mut a.projected)
    }

    /// `logits = head(norm(residual += projected))` of the sampled rows.
    fn head(&self, device: &mut D, rows: usize, a: &mut Activations<D>) -> Result<(), DeviceError> {
        let epsilon = self.config.rms_epsilon;
        device.add_rms_norm(&mut a.sampled_residual, &a.projected, &self.norm, epsilon, rows, &mut a.normed)?;
        device.linear(self.head.as_ref().unwrap_or(&self.embedding), None, &a.normed, rows, &mut a.logits)
    }
}

/// Which rows a part of the last layer works on.
#[derive(Clone, Copy)]
enum Rows {
    All,
    Sampled,
}
