//! What a decoder is made of, checked once; the same whatever file it came from.

use sglhost_device::AttentionShape;

use crate::{Family, RopeConfig};

/// Largest value of any one dimension. Keeps products of two dimensions far from overflow; the largest models stay
/// under 2^20.
const DIMENSION_MAX: u64 = 1 << 24;

/// Dimensions and constants of a decoder. Every dimension is at least 1, `heads` is a multiple of `kv_heads`, and
/// `head_dim` is even.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// What it is called, and what that implies.
    pub family: Family,
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
    /// Rotation of queries and keys.
    pub rope: RopeConfig,
    /// How far back attention reaches where that is not to the beginning.
    pub window: Option<SlidingWindow>,
}

/// Layers whose tokens attend to the last tokens only.
#[derive(Clone, Debug, PartialEq)]
pub struct SlidingWindow {
    /// Tokens that one attends to, itself included; at least 1.
    pub tokens: u32,
    /// Where that is so.
    pub layers: WindowLayers,
}

/// Which layers a window counts in.
#[derive(Clone, Debug, PartialEq)]
pub enum WindowLayers {
    /// In all.
    All,
    /// From this one on.
    From(u64),
    /// In those that are true.
    Listed(Vec<bool>),
}

/// The numbers as a file gives them, before they are checked.
#[derive(Clone, Debug)]
pub(crate) struct RawConfig {
    pub(crate) family: Family,
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
    pub(crate) rope: RopeConfig,
    /// Tokens of the window, and the layers that have one.
    pub(crate) window: Option<(u64, WindowLayers)>,
}

impl RawConfig {
    /// The checked configuration, or what is wrong.
    pub(crate) fn check(self) -> Result<DecoderConfig, String> {
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
        self.rope.check()?;
        let divisors = self.rope.divisors.len();
        if divisors != 0 && divisors != head_dim / 2 {
            return Err(format!("{divisors} rope frequencies for heads of {head_dim}"));
        }
        let layers = dimension("layers", self.layers)?;
        let context_length =
            dimension("context length", self.rope.stretched_context().unwrap_or(0).max(self.context_length))?;
        Ok(DecoderConfig {
            family: self.family,
            layers,
            hidden,
            intermediate: dimension("intermediate size", self.intermediate)?,
            heads,
            kv_heads,
            head_dim,
            vocabulary: dimension("vocabulary size", self.vocabulary)?,
            context_length,
            rms_epsilon,
            rope: self.rope,
            window: self.window.map(|window| check_window(window, layers, context_length)).transpose()?.flatten(),
        })
    }
}

/// None where the window reaches back as far as any text does.
fn check_window(
    (tokens, window_layers): (u64, WindowLayers),
    layers: usize,
    context_length: usize,
) -> Result<Option<SlidingWindow>, String> {
    if let WindowLayers::Listed(listed) = &window_layers
        && listed.len() != layers
    {
        return Err(format!("{} layer types for {layers} layers", listed.len()));
    }
    if tokens == 0 {
        return Err("a sliding window of 0 tokens".into());
    }
    let tokens = u32::try_from(tokens).ok().filter(|tokens| (*tokens as usize) < context_length);
    Ok(tokens.map(|tokens| SlidingWindow { tokens, layers: window_layers }))
}

fn dimension(what: &str, value: u64) -> Result<usize, String> {
    if (1..=DIMENSION_MAX).contains(&value) {
        Ok(value as usize)
    } else {
        Err(format!("{what}: {value} is not in 1 to {DIMENSION_MAX}"))
    }
}

impl DecoderConfig {
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

    /// Geometry of the attention of `layer`.
    #[must_use]
    pub fn attention_shape(&self, layer: usize) -> AttentionShape {
        // A factor on queries and on keys comes to its square on their products.
        let factor = self.rope.attention_factor().powi(2);
        let window = self.window.as_ref().filter(|window| match &window.layers {
            WindowLayers::All => true,
            WindowLayers::From(first) => layer as u64 >= *first,
            WindowLayers::Listed(listed) => listed[layer],
        });
        AttentionShape {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            scale: (factor / (self.head_dim as f64).sqrt()) as f32,
            window: window.map(|window| window.tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::RopeScaling;

    fn rope() -> RopeConfig {
        RopeConfig { theta: 1e5, scaling: RopeScaling::None, divisors: Vec::new() }
    }

    fn raw() -> RawConfig {
        RawConfig {
            family: Family::Llama,
            layers: 30,
            hidden: 576,
            intermediate: 1536,
            heads: 9,
            kv_heads: Some(3),
            head_dim: None,
            vocabulary: 49_152,
            context_length: 8192,
            rms_epsilon: 1e-5,
            rope: rope(),
            window: None,
        }
    }

    #[test]
    fn derives_the_head_dimension() {
        let config = raw().check().unwrap();
        assert_eq!((config.head_dim, config.qkv_width()), (64, 960));
        assert_eq!(RawConfig { kv_heads: None, ..raw() }.check().unwrap().kv_heads, 9);
        assert_eq!(RawConfig { head_dim: Some(128), ..raw() }.check().unwrap().query_width(), 1152);
    }

    #[test]
    fn windows_count_in_their_layers() {
        let listed = WindowLayers::Listed((0..30).map(|layer| layer % 2 == 1).collect());
        for (layers, expect) in [
            (WindowLayers::All, [Some(100), Some(100), Some(100)]),
            (WindowLayers::From(5), [None, Some(100), Some(100)]),
            (WindowLayers::From(40), [None, None, None]),
            (listed, [None, Some(100), None]),
        ] {
            let config = RawConfig { window: Some((100, layers)), ..raw() }.check().unwrap();
            assert_eq!([4, 5, 6].map(|layer| config.attention_shape(layer).window), expect);
        }
        let config = RawConfig { window: Some((8192, WindowLayers::All)), ..raw() }.check().unwrap();
        assert_eq!(config.window, None, "a window of the whole context is none");
    }

    #[test]
    fn yarn_stretches_the_context_and_sharpens_attention() {
        let scaling = RopeScaling::Yarn {
            factor: 4.0,
            original_context: 8192.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: Some(2.0),
            truncate: true,
        };
        let config = RawConfig { rope: RopeConfig { scaling, ..rope() }, ..raw() }.check().unwrap();
        assert_eq!((config.context_length, config.attention_shape(0).scale), (32_768, 0.5));
    }

    #[test]
    fn refuses_what_makes_no_model() {
        for (config, expect) in [
            (RawConfig { heads: 0, ..raw() }, "attention heads: 0"),
            (RawConfig { layers: u64::MAX, ..raw() }, "layers: 18446744073709551615"),
            (RawConfig { kv_heads: Some(2), ..raw() }, "9 attention heads cannot share 2"),
            (RawConfig { hidden: 577, ..raw() }, "no multiple of 9 heads"),
            (RawConfig { head_dim: Some(63), ..raw() }, "63 is odd"),
            (RawConfig { rms_epsilon: f64::NAN, ..raw() }, "norm epsilon"),
            (RawConfig { rope: RopeConfig { theta: 0.0, ..rope() }, ..raw() }, "rope theta 0"),
            (RawConfig { rope: RopeConfig { divisors: vec![1.0; 3], ..rope() }, ..raw() }, "3 rope frequencies"),
            (RawConfig { window: Some((0, WindowLayers::All)), ..raw() }, "window of 0 tokens"),
            (RawConfig { window: Some((9, WindowLayers::Listed(vec![true]))), ..raw() }, "1 layer types for 30"),
        ] {
            let message = config.check().unwrap_err();
            assert!(message.contains(expect), "{message}");
        }
    }
}
