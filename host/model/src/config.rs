//! What a Llama is made of, checked once; the same whatever file it came from.

use sglhost_device::AttentionShape;

/// Largest value of any one dimension. Keeps products of two dimensions far from overflow; the largest models stay
/// under 2^20.
const DIMENSION_MAX: u64 = 1 << 24;

/// Dimensions and constants of a Llama. Every dimension is at least 1, `heads` is a multiple of `kv_heads`, and
/// `head_dim` is even.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Transformer layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width of the MLP between up and down.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Elements of one head; not always `hidden / heads`.
    pub head_dim: usize,
    /// Rows of embedding and head.
    pub vocabulary: usize,
    /// Longest sequence in tokens.
    pub context_length: usize,
    /// Added to the mean square in each norm.
    pub rms_epsilon: f32,
    /// Base of the rotation's frequencies.
    pub rope_theta: f64,
}

/// The numbers as a file gives them, before they are checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawLlamaConfig {
    pub(crate) layers: u64,
    pub(crate) hidden: u64,
    pub(crate) intermediate: u64,
    pub(crate) heads: u64,
    /// As many as `heads` if there is none.
    pub(crate) kv_heads: Option<u64>,
    /// `hidden / heads` if there is none.
    pub(crate) head_dim: Option<u64>,
    pub(crate) vocabulary: u64,
    pub(crate) context_length: u64,
    pub(crate) rms_epsilon: f64,
    pub(crate) rope_theta: f64,
}

impl RawLlamaConfig {
    /// The checked configuration, or what is wrong.
    pub(crate) fn check(self) -> Result<LlamaConfig, String> {
        let heads = dimension("attention heads", self.heads)?;
        let hidden = dimension("hidden size", self.hidden)?;
        let kv_heads = dimension("KV heads", self.kv_heads.unwrap_or(self.heads))?;
        if !heads.is_multiple_of(kv_heads) {
            return Err(format!("{heads} attention heads cannot share {kv_heads} KV heads evenly"));
        }
        let head_dim = match self.head_dim {
            Some(head_dim) => dimension("head dimension", head_dim)?,
            None if hidden.is_multiple_of(heads) => hidden / heads,
            None => {
                return Err(format!(
                    "hidden size {hidden} is no multiple of {heads} heads and no head dimension is given"
                ));
            }
        };
        if !head_dim.is_multiple_of(2) {
            return Err(format!("head dimension {head_dim} is odd and cannot be rotated"));
        }
        let rms_epsilon = self.rms_epsilon as f32;
        if !(0.0..=0.1).contains(&rms_epsilon) {
            return Err(format!("norm epsilon {} is not in 0 to 0.1", self.rms_epsilon));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            return Err(format!("rope theta {} is not a number of at least 1", self.rope_theta));
        }
        Ok(LlamaConfig {
            layers: dimension("layers", self.layers)?,
            hidden,
            intermediate: dimension("intermediate size", self.intermediate)?,
            heads,
            kv_heads,
            head_dim,
            vocabulary: dimension("vocabulary size", self.vocabulary)?,
            context_length: dimension("context length", self.context_length)?,
            rms_epsilon,
            rope_theta: self.rope_theta,
        })
    }
}

fn dimension(what: &str, value: u64) -> Result<usize, String> {
    if (1..=DIMENSION_MAX).contains(&value) {
        Ok(value as usize)
    } else {
        Err(format!("{what}: {value} is not in 1 to {DIMENSION_MAX}"))
    }
}

impl LlamaConfig {
    /// Elements of one row of Q.
    #[must_use]
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Elements of one row of K, or of V.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Elements of one row of the fused Q, K and V.
    #[must_use]
    pub fn qkv_width(&self) -> usize {
        self.query_width() + 2 * self.kv_width()
    }

    /// Geometry of its attention.
    #[must_use]
    pub fn attention_shape(&self) -> AttentionShape {
        AttentionShape {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: (1.0 / (self.head_dim as f64).sqrt()) as f32,
            window: None,
        }
    }

    /// `[head_dim / 2]` radians per position of each rotated pair: `theta^(-2 i / head_dim)`.
    #[must_use]
    pub fn inverse_frequencies(&self) -> Vec<f32> {
        let exponent = |pair: usize| -2.0 * pair as f64 / self.head_dim as f64;
        (0..self.head_dim / 2).map(|pair| self.rope_theta.powf(exponent(pair)) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn raw() -> RawLlamaConfig {
        RawLlamaConfig {
            layers: 30,
            hidden: 576,
            intermediate: 1536,
            heads: 9,
            kv_heads: Some(3),
            head_dim: None,
            vocabulary: 49_152,
            context_length: 8192,
            rms_epsilon: 1e-5,
            rope_theta: 1e5,
        }
    }

    #[test]
    fn derives_the_head_dimension() {
        let config = raw().check().unwrap();
        assert_eq!((config.head_dim, config.qkv_width()), (64, 960));
        assert_eq!(RawLlamaConfig { kv_heads: None, ..raw() }.check().unwrap().kv_heads, 9);
        assert_eq!(RawLlamaConfig { head_dim: Some(128), ..raw() }.check().unwrap().query_width(), 1152);
    }

    #[test]
    fn frequencies_fall_from_one() {
        let frequencies = raw().check().unwrap().inverse_frequencies();
        assert_eq!((frequencies.len(), frequencies[0]), (32, 1.0));
        assert!((frequencies[16] - 1e5f32.sqrt().recip()).abs() < 1e-9);
    }

    #[test]
    fn refuses_what_makes_no_model() {
        for (config, expect) in [
            (RawLlamaConfig { heads: 0, ..raw() }, "attention heads: 0"),
            (RawLlamaConfig { layers: u64::MAX, ..raw() }, "layers: 18446744073709551615"),
            (RawLlamaConfig { kv_heads: Some(2), ..raw() }, "9 attention heads cannot share 2"),
            (RawLlamaConfig { hidden: 577, ..raw() }, "no multiple of 9 heads"),
            (RawLlamaConfig { head_dim: Some(63), ..raw() }, "63 is odd"),
            (RawLlamaConfig { rms_epsilon: f64::NAN, ..raw() }, "norm epsilon"),
            (RawLlamaConfig { rope_theta: 0.0, ..raw() }, "rope theta 0"),
        ] {
            let message = config.check().unwrap_err();
            assert!(message.contains(expect), "{message}");
        }
    }
}
