//! Models of known shapes with random weights, as Hugging Face folders.

use std::{
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use serde_json::{Map, Value, json};
use sglhost_tests::golden;

/// A model's dimensions.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    architecture: &'static str,
    model_type: &'static str,
    pub(crate) layers: usize,
    hidden: usize,
    intermediate: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    vocabulary: usize,
    tied: bool,
}

/// The last one is for trying the benchmark itself, on the twin for instance.
pub(crate) const SHAPES: [Shape; 4] = [
    Shape {
        name: "Qwen2.5-7B",
        architecture: "Qwen2ForCausalLM",
        model_type: "qwen2",
        layers: 28,
        hidden: 3584,
        intermediate: 18_944,
        heads: 28,
        kv_heads: 4,
        head_dim: 128,
        vocabulary: 152_064,
        tied: false,
    },
    Shape {
        name: "Llama-3.1-8B",
        architecture: "LlamaForCausalLM",
        model_type: "llama",
        layers: 32,
        hidden: 4096,
        intermediate: 14_336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocabulary: 128_256,
        tied: false,
    },
    Shape {
        name: "Qwen3-0.6B",
        architecture: "Qwen3ForCausalLM",
        model_type: "qwen3",
        layers: 28,
        hidden: 1024,
        intermediate: 3072,
        heads: 16,
        kv_heads: 8,
        head_dim: 128,
        vocabulary: 151_936,
        tied: true,
    },
    Shape {
        name: "tiny",
        architecture: "Qwen2ForCausalLM",
        model_type: "qwen2",
        layers: 1,
        hidden: 32,
        intermediate: 64,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        vocabulary: 512,
        tied: false,
    },
];

/// One, in bf16.
const ONE: [u8; 2] = [0x80, 0x3f];
/// Random bytes are made once and used again and again: no kernel sees the difference.
const BLOCK_BYTES: usize = 64 << 20;

impl Shape {
    /// Weights of the linear layers, head left out.
    pub(crate) fn linear_weights(&self) -> usize {
        let (query, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        self.layers * self.hidden * (query + 2 * kv + query + 3 * self.intermediate)
    }

    /// Weights of the head.
    pub(crate) fn head_weights(&self) -> usize {
        self.hidden * self.vocabulary
    }

    /// Bytes of all weights in bf16.
    pub(crate) fn weight_bytes(&self) -> usize {
        2 * (self.linear_weights() + self.head_weights() * if self.tied { 1 } else { 2 })
    }

    /// Bytes of a token's keys and values.
    pub(crate) fn slot_bytes(&self) -> usize {
        2 * 2 * self.layers * self.kv_heads * self.head_dim
    }

    fn config(&self) -> Value {
        json!({
            "architectures": [self.architecture],
            "model_type": self.model_type,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "vocab_size": self.vocabulary,
            "max_position_embeddings": 32_768,
            "rms_norm_eps": 1e-6,
            "rope_theta": 1e6,
            "hidden_act": "silu",
            "tie_word_embeddings": self.tied,
            "torch_dtype": "bfloat16",
        })
    }

    /// Names, shapes, and whether they are norms (all ones).
    fn tensors(&self) -> Vec<(String, Vec<usize>, bool)> {
        let (query, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        let mut all = vec![
            ("model.embed_tokens.weight".to_owned(), vec![self.vocabulary, self.hidden], false),
            ("model.norm.weight".to_owned(), vec![self.hidden], true),
        ];
        if !self.tied {
            all.push(("lm_head.weight".to_owned(), vec![self.vocabulary, self.hidden], false));
        }
        for layer in 0..self.layers {
            let mut add = |name: &str, shape: &[usize], norm| {
                all.push((format!("model.layers.{layer}.{name}"), shape.to_vec(), norm))
            };
            add("input_layernorm.weight", &[self.hidden], true);
            add("post_attention_layernorm.weight", &[self.hidden], true);
            for (name, rows) in [("q", query), ("k", kv), ("v", kv)] {
                add(&format!("self_attn.{name}_proj.weight"), &[rows, self.hidden], false);
                if self.model_type == "qwen2" {
                    add(&format!("self_attn.{name}_proj.bias"), &[rows], false);
                }
            }
            if self.model_type == "qwen3" {
                add("self_attn.q_norm.weight", &[self.head_dim], true);
                add("self_attn.k_norm.weight", &[self.head_dim], true);
            }
            add("self_attn.o_proj.weight", &[self.hidden, query], false);
            add("mlp.gate_proj.weight", &[self.intermediate, self.hidden], false);
            add("mlp.up_proj.weight", &[self.intermediate, self.hidden], false);
            add("mlp.down_proj.weight", &[self.hidden, self.intermediate], false);
        }
        all
    }

    /// Writes the model to `folder`, with the tokenizer of a small one.
    pub(crate) fn write(&self, folder: &Path) {
        fs::create_dir_all(folder).unwrap();
        for name in ["tokenizer.json", "tokenizer_config.json"] {
            fs::copy(golden::folder().join("tiny-f32").join(name), folder.join(name)).unwrap();
        }
        fs::write(folder.join("config.json"), self.config().to_string()).unwrap();
        let tensors = self.tensors();
        let (mut header, mut end) = (Map::new(), 0);
        for (name, shape, _) in &tensors {
            let start = end;
            end += 2 * shape.iter().product::<usize>();
            header.insert(name.clone(), json!({ "dtype": "BF16", "shape": shape, "data_offsets": [start, end] }));
        }
        let header = Value::Object(header).to_string();
        let padded = header.len().next_multiple_of(8);
        let mut file = BufWriter::with_capacity(1 << 20, File::create(folder.join("model.safetensors")).unwrap());
        file.write_all(&(padded as u64).to_le_bytes()).unwrap();
        write!(file, "{header:padded$}").unwrap();
        let block = random_block();
        let mut at = 0;
        for (_, shape, norm) in &tensors {
            let mut left = 2 * shape.iter().product::<usize>();
            if *norm {
                file.write_all(&ONE.repeat(left / 2)).unwrap();
                continue;
            }
            while left > 0 {
                let piece = left.min(block.len() - at);
                file.write_all(&block[at..at + piece]).unwrap();
                left -= piece;
                at = (at + piece) % block.len();
            }
        }
        file.flush().unwrap();
    }
}

/// bf16 between -0.03 and 0.03, as weights of such models are.
fn random_block() -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        half::bf16::from_f32(((state >> 40) as f32 / (1 << 23) as f32 - 1.0) * 0.03).to_le_bytes()
    };
    (0..BLOCK_BYTES / 2).flat_map(|_| next()).collect()
}
