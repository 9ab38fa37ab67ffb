//! `config.json` as transformers writes it, before version 5 and since.
//!
//! *Not here*: how positions are rotated; see `rope.rs` beside this file.

use std::path::Path;

use serde::{Deserialize, Deserializer};

use super::{read_json, rope::Rope};
use crate::{DecoderConfig, Family, ModelError, WindowLayers, checkpoint::bad_file, config::RawConfig};

#[derive(Deserialize)]
struct Config {
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    #[serde(default)]
    num_key_value_heads: Field<u64>,
    #[serde(default)]
    head_dim: Field<u64>,
    vocab_size: u64,
    max_position_embeddings: Option<u64>,
    #[serde(default = "default_epsilon")]
    rms_norm_eps: f64,
    #[serde(default = "default_activation")]
    hidden_act: String,
    #[serde(default)]
    sliding_window: Field<u64>,
    #[serde(default)]
    use_sliding_window: bool,
    #[serde(default = "default_max_window_layers")]
    max_window_layers: u64,
    layer_types: Option<Vec<String>>,
    quantization_config: Option<serde_json::Value>,
    eos_token_id: Option<OneOrMany>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(flatten)]
    rope: Rope,
}

/// A field whose absence means something else than its being null.
#[derive(Default)]
enum Field<T> {
    #[default]
    Absent,
    Present(Option<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Option::deserialize(deserializer).map(Self::Present)
    }
}

impl<T> Field<T> {
    fn or(self, default: Option<T>) -> Option<T> {
        match self {
            Self::Absent => default,
            Self::Present(value) => value,
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(u32),
    Many(Vec<u32>),
}

impl OneOrMany {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(token) => vec![token],
            Self::Many(tokens) => tokens,
        }
    }
}

// The defaults of all families in transformers; see `Family::defaults` for the rest.
fn default_epsilon() -> f64 {
    1e-6
}
fn default_activation() -> String {
    "silu".into()
}
fn default_max_window_layers() -> u64 {
    28
}

/// What `config.json` says.
#[derive(Debug)]
pub(super) struct ReadConfig {
    pub(super) config: DecoderConfig,
    /// Whether the embedding is the head too.
    pub(super) tied: bool,
    /// Tokens that end a text.
    pub(super) end_of_text: Vec<u32>,
}

/// Reads and checks the folder's `config.json`.
pub(super) fn read(folder: &Path) -> Result<ReadConfig, ModelError> {
    let path = folder.join("config.json");
    // The architecture first: another one may lack the fields of these, and its name says more than they do.
    let known: Architecture = read_json(&path)?;
    let family = known.family().map_err(|reason| unsupported(&path, &reason))?;
    let config: Config = read_json(&path)?;
    config.check_features().map_err(|reason| unsupported(&path, &reason))?;
    let defaults = family.defaults();
    let window = config.window(family).map_err(|reason| unsupported(&path, &reason))?;
    let context_length = config.max_position_embeddings.unwrap_or(defaults.context_length);
    let raw = RawConfig {
        family,
        layers: config.num_hidden_layers,
        hidden: config.hidden_size,
        intermediate: config.intermediate_size,
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads.or(defaults.kv_heads),
        head_dim: config.head_dim.or(defaults.head_dim),
        vocabulary: config.vocab_size,
        context_length,
        rms_epsilon: config.rms_norm_eps,
        rope: config.rope.read(context_length).map_err(|reason| unsupported(&path, &reason))?,
        window,
    };
    let checked = raw.check().map_err(|reason| bad_file(&path, reason))?;
    Ok(ReadConfig {
        config: checked,
        tied: config.tie_word_embeddings,
        end_of_text: config.eos_token_id.map(OneOrMany::into_vec).unwrap_or_default(),
    })
}

/// What `generation_config.json` adds to the tokens that end a text.
pub(super) fn generation_end_of_text(folder: &Path) -> Result<Vec<u32>, ModelError> {
    #[derive(Deserialize)]
    struct GenerationConfig {
        eos_token_id: Option<OneOrMany>,
    }
    let path = folder.join("generation_config.json");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let config: GenerationConfig = read_json(&path)?;
    Ok(config.eos_token_id.map(OneOrMany::into_vec).unwrap_or_default())
}

fn unsupported(path: &Path, reason: &str) -> ModelError {
    ModelError::Unsupported(format!("{}: {reason}", path.display()))
}

impl Config {
    /// Refuses what would silently change the numbers.
    fn check_features(&self) -> Result<(), String> {
        if self.hidden_act != "silu" {
            return Err(format!("activation {}; silu is supported", self.hidden_act));
        }
        if self.quantization_config.is_some() {
            return Err("quantized safetensors are not supported; use the original or a GGUF file".into());
        }
        Ok(())
    }

    /// Tokens of the sliding window, if there is one, and its layers.
    fn window(&self, family: Family) -> Result<Option<(u64, WindowLayers)>, String> {
        let tokens = match self.sliding_window {
            Field::Absent => family.defaults().window,
            Field::Present(tokens) => tokens,
        };
        let optional = family.window_is_optional();
        // Llama knows no window, whatever its file says.
        let Some(tokens) = tokens.filter(|_| family != Family::Llama && (!optional || self.use_sliding_window)) else {
            return match &self.layer_types {
                Some(kinds) if kinds.iter().any(|kind| kind != FULL) => {
                    Err(format!("layer_types without a sliding window to go with them: {}", kinds.join(", ")))
                }
                _ => Ok(None),
            };
        };
        let layers = match &self.layer_types {
            Some(kinds) => WindowLayers::Listed(kinds.iter().map(|kind| is_sliding(kind)).collect::<Result<_, _>>()?),
            None if optional => WindowLayers::From(self.max_window_layers),
            None => WindowLayers::All,
        };
        Ok(Some((tokens, layers)))
    }
}

const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

fn is_sliding(layer_type: &str) -> Result<bool, String> {
    match layer_type {
        FULL => Ok(false),
        SLIDING => Ok(true),
        other => Err(format!("layer type {other}; {FULL} and {SLIDING} are supported")),
    }
}

/// The fields that every model's `config.json` has.
#[derive(Deserialize)]
struct Architecture {
    #[serde(default)]
    architectures: Option<Vec<String>>,
    model_type: Option<String>,
}

impl Architecture {
    fn family(&self) -> Result<Family, String> {
        let class = self.architectures.as_ref().and_then(|classes| classes.first());
        Family::of_hugging_face(class.map(String::as_str), self.model_type.as_deref())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::{Value, json};

    use super::*;
    use crate::RopeScaling;

    /// Reads a folder whose `config.json` is a small Llama's with `changes`; `null` removes a field.
    fn read_with(changes: Value) -> Result<ReadConfig, ModelError> {
        let mut config = json!({
            "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "eos_token_id": 2,
        });
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        read(folder.path())
    }

    #[test]
    fn rope_in_every_style() {
        let linear = RopeScaling::Linear { factor: 2.0 };
        let llama3 = json!({
            "rope_type": "llama3", "factor": 8, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        });
        let read_llama3 = RopeScaling::Llama3 {
            factor: 8.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_context: 8192.0,
        };
        for (changes, theta, scaling) in [
            (json!({}), 10_000.0, RopeScaling::None),
            (json!({"rope_theta": 5e5}), 5e5, RopeScaling::None),
            (json!({"rope_theta": 5e5, "rope_scaling": null}), 5e5, RopeScaling::None),
            (json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}), 1e6, RopeScaling::None),
            (json!({"rope_theta": 5e5, "rope_scaling": {"type": "default"}}), 5e5, RopeScaling::None),
            (json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2.0}}), 5e5, linear.clone()),
            (json!({"rope_parameters": {"rope_type": "linear", "rope_theta": 9.0, "factor": 2.0}}), 9.0, linear),
            (json!({"rope_theta": 5e5, "rope_scaling": llama3}), 5e5, read_llama3.clone()),
            (json!({"rope_theta": 5e5, "rope_parameters": llama3}), 5e5, read_llama3),
        ] {
            let rope = read_with(changes.clone()).unwrap().config.rope;
            assert_eq!((rope.theta, rope.scaling), (theta, scaling), "{changes}");
        }
    }

    #[test]
    fn yarn_takes_what_is_missing_from_the_model() {
        let scaling = json!({"type": "yarn", "factor": 4.0, "beta_fast": 16, "mscale": 0.7, "mscale_all_dim": 1.0});
        let config = read_with(json!({"rope_scaling": scaling})).unwrap().config;
        let RopeScaling::Yarn { original_context, beta_fast, beta_slow, attention_factor, .. } = config.rope.scaling
        else {
            panic!("{:?}", config.rope);
        };
        assert_eq!((original_context, beta_fast, beta_slow), (2048.0, 16.0, 1.0));
        let expect = (0.07 * 4.0f64.ln() + 1.0) / (0.1 * 4.0f64.ln() + 1.0);
        assert!((attention_factor.unwrap() - expect).abs() < 1e-12);
        assert_eq!(config.context_length, 8192);
    }

    #[test]
    fn windows_as_transformers_reads_them() {
        let qwen = |more: Value| {
            let mut changes = json!({"architectures": ["Qwen2ForCausalLM"], "max_position_embeddings": 9000});
            changes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            changes
        };
        let mistral = |window: Value| json!({"architectures": ["MistralForCausalLM"], "sliding_window": window});
        for (changes, expect) in [
            (json!({"sliding_window": 5}), [None, None]),
            (json!({"architectures": ["MistralForCausalLM"]}), [Some(4096), Some(4096)]),
            (mistral(json!(null)), [None, None]),
            (mistral(json!(100)), [Some(100), Some(100)]),
            (qwen(json!({"sliding_window": 100})), [None, None]),
            (qwen(json!({"use_sliding_window": true})), [None, None]),
            (qwen(json!({"use_sliding_window": true, "sliding_window": null})), [None, None]),
            (qwen(json!({"use_sliding_window": true, "max_window_layers": 1})), [None, Some(4096)]),
            (
                qwen(json!({
                    "use_sliding_window": true, "sliding_window": 7,
                    "layer_types": ["sliding_attention", "full_attention"],
                })),
                [Some(7), None],
            ),
        ] {
            let config = read_with(changes.clone()).unwrap().config;
            assert_eq!([0, 1].map(|layer| config.attention_shape(layer).window), expect, "{changes}");
        }
    }

    #[test]
    fn families_and_their_defaults() {
        for (class, family, head_dim) in [
            ("LlamaForCausalLM", Family::Llama, 16),
            ("MistralForCausalLM", Family::Mistral, 16),
            ("Qwen2ForCausalLM", Family::Qwen2, 16),
            ("Qwen3ForCausalLM", Family::Qwen3, 128),
        ] {
            let config = read_with(json!({"architectures": [class]})).unwrap().config;
            assert_eq!((config.family, config.head_dim), (family, head_dim));
        }
        let named = read_with(json!({"architectures": null, "model_type": "qwen3"})).unwrap().config;
        assert_eq!(named.family, Family::Qwen3);
    }

    #[test]
    fn end_of_text_is_one_or_many() {
        assert_eq!(read_with(json!({})).unwrap().end_of_text, [2]);
        assert_eq!(read_with(json!({"eos_token_id": [1, 7]})).unwrap().end_of_text, [1, 7]);
        assert_eq!(read_with(json!({"eos_token_id": null})).unwrap().end_of_text, Vec::<u32>::new());
    }

    #[test]
    fn the_head_is_tied_where_it_says_so() {
        assert!(!read_with(json!({})).unwrap().tied);
        assert!(read_with(json!({"tie_word_embeddings": true})).unwrap().tied);
    }

    #[test]
    fn says_what_is_not_supported() {
        for (changes, expect) in [
            (
                json!({"architectures": ["Gemma3ForCausalLM"]}),
                "architecture Gemma3ForCausalLM; LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM and \
                 Qwen3ForCausalLM are",
            ),
            (json!({"architectures": [], "model_type": "gpt2"}), "architecture gpt2;"),
            (json!({"rope_scaling": {"rope_type": "longrope", "factor": 8.0}}), "rope scaling longrope; "),
            (json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}), "rope scaling dynamic"),
            (json!({"rope_scaling": {"type": "linear"}}), "rope scaling linear without factor"),
            (json!({"rope_scaling": {"type": "linear", "factor": 0.5}}), "factor 0.5 is not in 1"),
            (json!({"rope_parameters": {"rope_type": "llama3", "factor": 2.0}}), "llama3 without low_freq_factor"),
            (json!({"rope_parameters": {"full_attention": {"rope_theta": 9.0}}}), "a rotation for each layer type"),
            (json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), "a part of each head"),
            (json!({"partial_rotary_factor": 0.5}), "a part of each head"),
            (json!({"layer_types": ["chunked_attention", "full_attention"]}), "layer_types without a sliding window"),
            (
                json!({
                    "architectures": ["Qwen3ForCausalLM"], "use_sliding_window": true, "sliding_window": 9,
                    "layer_types": ["linear_attention", "full_attention"],
                }),
                "layer type linear_attention",
            ),
            (json!({"hidden_act": "gelu"}), "activation gelu"),
            (json!({"quantization_config": {"bits": 4}}), "quantized safetensors"),
            (json!({"num_key_value_heads": 3}), "cannot share 3"),
            (json!({"hidden_size": "big"}), "config.json"),
            (json!({"vocab_size": -1}), "config.json"),
        ] {
            let message = read_with(changes).unwrap_err().to_string();
            assert!(message.contains(expect), "{message}");
        }
    }
}
