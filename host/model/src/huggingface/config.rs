//! `config.json` as transformers writes it, before version 5 and since.

use std::path::Path;

use serde::Deserialize;

use super::read_json;
use crate::{LlamaConfig, ModelError, checkpoint::bad_file, config::RawLlamaConfig};

#[derive(Deserialize)]
struct Config {
    hidden_size: u64,
    intermediate_size: u64,
    num_hidden_layers: u64,
    num_attention_heads: u64,
    num_key_value_heads: Option<u64>,
    head_dim: Option<u64>,
    vocab_size: u64,
    #[serde(default = "default_context_length")]
    max_position_embeddings: u64,
    #[serde(default = "default_epsilon")]
    rms_norm_eps: f64,
    #[serde(default = "default_activation")]
    hidden_act: String,
    /// Before transformers 5; beside `rope_scaling`.
    rope_theta: Option<f64>,
    rope_scaling: Option<Rope>,
    /// Since transformers 5.
    rope_parameters: Option<Rope>,
    quantization_config: Option<serde_json::Value>,
    eos_token_id: Option<OneOrMany>,
    #[serde(default)]
    tie_word_embeddings: bool,
}

/// How positions are rotated. Older files call the type `type`.
#[derive(Deserialize)]
struct Rope {
    rope_type: Option<String>,
    r#type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
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

// The defaults of transformers' LlamaConfig.
fn default_context_length() -> u64 {
    2048
}
fn default_epsilon() -> f64 {
    1e-6
}
fn default_activation() -> String {
    "silu".into()
}
const DEFAULT_ROPE_THETA: f64 = 10_000.0;

/// What `config.json` says.
#[derive(Debug)]
pub(super) struct ReadConfig {
    pub(super) config: LlamaConfig,
    /// Whether the embedding is the head too.
    pub(super) tied: bool,
    /// Tokens that end a text.
    pub(super) end_of_text: Vec<u32>,
}

/// Reads and checks the folder's `config.json`.
pub(super) fn read(folder: &Path) -> Result<ReadConfig, ModelError> {
    let path = folder.join("config.json");
    // The architecture first: another one may lack the fields of a Llama, and its name says more than they do.
    let known: Architecture = read_json(&path)?;
    known.check().map_err(|reason| ModelError::Unsupported(format!("{}: {reason}", path.display())))?;
    let config: Config = read_json(&path)?;
    let rope_theta = config.check_features().map_err(|reason| unsupported(&path, &reason))?;
    let raw = RawLlamaConfig {
        layers: config.num_hidden_layers,
        hidden: config.hidden_size,
        intermediate: config.intermediate_size,
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        vocabulary: config.vocab_size,
        context_length: config.max_position_embeddings,
        rms_epsilon: config.rms_norm_eps,
        rope_theta,
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
    /// Refuses what would silently change the numbers; gives the base of the rotation.
    fn check_features(&self) -> Result<f64, String> {
        if self.hidden_act != "silu" {
            return Err(format!("activation {}; silu is supported", self.hidden_act));
        }
        if self.quantization_config.is_some() {
            return Err("quantized safetensors are not supported; use the original or a GGUF file".into());
        }
        let mut theta = self.rope_theta;
        for rope in self.rope_parameters.iter().chain(&self.rope_scaling) {
            let kind = rope.rope_type.as_deref().or(rope.r#type.as_deref()).unwrap_or("default");
            if kind != "default" {
                return Err(format!("rope scaling {kind} is not supported yet"));
            }
            if rope.partial_rotary_factor.is_some_and(|factor| factor != 1.0) {
                return Err("rotation of a part of each head is not supported".into());
            }
            theta = rope.rope_theta.or(theta);
        }
        Ok(theta.unwrap_or(DEFAULT_ROPE_THETA))
    }
}

/// The fields that every model's `config.json` has.
#[derive(Deserialize)]
struct Architecture {
    #[serde(default)]
    architectures: Vec<String>,
    model_type: Option<String>,
}

impl Architecture {
    fn check(&self) -> Result<(), String> {
        let named = match self.architectures.first() {
            Some(name) => name == "LlamaForCausalLM",
            None => self.model_type.as_deref() == Some("llama"),
        };
        if named {
            return Ok(());
        }
        let found = self.architectures.first().or(self.model_type.as_ref()).map_or("none named", String::as_str);
        Err(format!("architecture {found}; LlamaForCausalLM is supported"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use serde_json::{Value, json};

    use super::*;

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
    fn rope_theta_in_every_style() {
        for (changes, expect) in [
            (json!({}), 10_000.0),
            (json!({"rope_theta": 5e5}), 5e5),
            (json!({"rope_theta": 5e5, "rope_scaling": null}), 5e5),
            (json!({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}), 1e6),
            (json!({"rope_theta": 5e5, "rope_scaling": {"type": "default"}}), 5e5),
        ] {
            assert_eq!(read_with(changes.clone()).unwrap().config.rope_theta, expect, "{changes}");
        }
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
            (json!({"architectures": ["Qwen2ForCausalLM"]}), "architecture Qwen2ForCausalLM; LlamaForCausalLM is"),
            (json!({"architectures": [], "model_type": "gpt2"}), "architecture gpt2;"),
            (json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}), "rope scaling llama3"),
            (json!({"rope_scaling": {"type": "linear", "factor": 2.0}}), "rope scaling linear"),
            (json!({"rope_parameters": {"rope_type": "yarn"}}), "rope scaling yarn"),
            (json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), "a part of each head"),
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
