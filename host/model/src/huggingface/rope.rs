//! How positions are rotated, as `config.json` says it: `rope_scaling` beside `rope_theta` before transformers 5,
//! `rope_parameters` since.

use serde::Deserialize;
use serde_json::Value;

use crate::{RopeConfig, RopeScaling, rope::yarn_attention_factor};

const THETA: f64 = 10_000.0;

/// The fields of `config.json` that have to do with rotation.
#[derive(Deserialize)]
pub(super) struct Rope {
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    /// Goes before that of `rope_scaling`.
    original_max_position_embeddings: Option<f64>,
    /// Goes before `rope_parameters`.
    rope_scaling: Option<Parameters>,
    rope_parameters: Option<Parameters>,
}

/// Older files call the type `type`.
#[derive(Default, Deserialize)]
struct Parameters {
    rope_type: Option<String>,
    r#type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    attention_factor: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
    // Some families keep parameters for each type of layer.
    full_attention: Option<Value>,
    sliding_attention: Option<Value>,
}

impl Rope {
    /// The rotation, or what of it is not supported. `context_length` is what the file calls the longest text.
    pub(super) fn read(self, context_length: u64) -> Result<RopeConfig, String> {
        let parameters = self.rope_scaling.or(self.rope_parameters).unwrap_or_default();
        if parameters.full_attention.is_some() || parameters.sliding_attention.is_some() {
            return Err("a rotation for each layer type is not supported".into());
        }
        let partial = [self.partial_rotary_factor, parameters.partial_rotary_factor];
        if partial.into_iter().flatten().any(|factor| factor != 1.0) {
            return Err("rotation of a part of each head is not supported".into());
        }
        let theta = parameters.rope_theta.or(self.rope_theta).unwrap_or(THETA);
        let original = self.original_max_position_embeddings.or(parameters.original_max_position_embeddings);
        let scaling = parameters.scaling(original, context_length as f64)?;
        Ok(RopeConfig { theta, scaling, divisors: Vec::new() })
    }
}

impl Parameters {
    fn scaling(&self, original: Option<f64>, context_length: f64) -> Result<RopeScaling, String> {
        let kind = self.rope_type.as_deref().or(self.r#type.as_deref()).unwrap_or("default");
        let need =
            |field: &str, value: Option<f64>| value.ok_or_else(|| format!("rope scaling {kind} without {field}"));
        let original_context = original.unwrap_or(context_length);
        match kind {
            "default" => Ok(RopeScaling::None),
            "linear" => Ok(RopeScaling::Linear { factor: need("factor", self.factor)? }),
            "llama3" => Ok(RopeScaling::Llama3 {
                factor: need("factor", self.factor)?,
                low_frequency_factor: need("low_freq_factor", self.low_freq_factor)?,
                high_frequency_factor: need("high_freq_factor", self.high_freq_factor)?,
                original_context,
            }),
            "yarn" => {
                let factor = self.factor.unwrap_or(context_length / original_context);
                // DeepSeek's way to say the attention factor; a zero says nothing.
                let given = |value: Option<f64>| value.filter(|value| *value != 0.0);
                let by_scale = given(self.mscale)
                    .zip(given(self.mscale_all_dim))
                    .map(|(scale, all)| yarn_attention_factor(factor, scale) / yarn_attention_factor(factor, all));
                Ok(RopeScaling::Yarn {
                    factor,
                    original_context,
                    beta_fast: given(self.beta_fast).unwrap_or(32.0),
                    beta_slow: given(self.beta_slow).unwrap_or(1.0),
                    attention_factor: self.attention_factor.or(by_scale),
                    truncate: self.truncate.unwrap_or(true),
                })
            }
            other => Err(format!("rope scaling {other}; default, linear, llama3 and yarn are supported")),
        }
    }
}
