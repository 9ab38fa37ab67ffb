//! The default model as a Hugging Face folder of F32 safetensors, made from its GGUF file once.
//!
//! Reads and dequantizes the file on its own, sharing no code with the host's reader, so that neither can hide the
//! other's mistake; transformers' golden values stand behind both.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use half::f16;
use serde_json::{Value, json};
use sglhost_tests::model::default_gguf;

/// Change it with anything that changes the folder's content: folders of older runs are then not used.
const VERSION: u32 = 1;
const SHARDS: usize = 2;

/// The folder, made by the first test that asks.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = parent.join(format!("smollm2-135m-instruct-f32-v{VERSION}"));
        if !folder.exists() {
            // Made aside and renamed: a folder of this name is whole, whenever a run was interrupted.
            let unfinished = parent.join(format!("unfinished-{}", std::process::id()));
            std::fs::create_dir_all(&unfinished).unwrap();
            write_folder(&Gguf::read(&default_gguf()), &unfinished);
            std::fs::rename(&unfinished, &folder).unwrap();
        }
        folder
    })
}

/// A GGUF file read with no regard for damage.
struct Gguf {
    bytes: Vec<u8>,
    at: usize,
    metadata: BTreeMap<String, Value>,
    tensors: Vec<Tensor>,
}

struct Tensor {
    name: String,
    /// Outermost first.
    shape: Vec<usize>,
    kind: u32,
    offset: usize,
}

impl Gguf {
    fn read(path: &Path) -> Self {
        let mut file =
            Self { bytes: std::fs::read(path).unwrap(), at: 8, metadata: BTreeMap::new(), tensors: Vec::new() };
        let (tensors, entries) = (file.number::<8>(), file.number::<8>());
        for _ in 0..entries {
            let key = file.string();
            let kind = file.number::<4>();
            let value = file.value(kind);
            file.metadata.insert(key, value);
        }
        for _ in 0..tensors {
            let name = file.string();
            let dimensions = file.number::<4>();
            let mut shape: Vec<usize> = (0..dimensions).map(|_| file.number::<8>() as usize).collect();
            shape.reverse();
            let (kind, offset) = (file.number::<4>() as u32, file.number::<8>() as usize);
            file.tensors.push(Tensor { name, shape, kind, offset });
        }
        let data = file.at.next_multiple_of(32);
        for tensor in &mut file.tensors {
            tensor.offset += data;
        }
        file
    }

    fn number<const N: usize>(&mut self) -> u64 {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        u64::from_le_bytes(wide)
    }

    fn string(&mut self) -> String {
        let length = self.number::<8>() as usize;
        self.at += length;
        String::from_utf8(self.bytes[self.at - length..self.at].to_vec()).unwrap()
    }

    /// The kinds that the default model's file holds.
    fn value(&mut self, kind: u64) -> Value {
        match kind {
            4 => json!(self.number::<4>()),
            5 => json!(self.number::<4>() as i32),
            6 => json!(f64::from(f32::from_bits(self.number::<4>() as u32))),
            7 => json!(self.number::<1>() != 0),
            8 => json!(self.string()),
            9 => {
                let (kind, count) = (self.number::<4>(), self.number::<8>());
                (0..count).map(|_| self.value(kind)).collect()
            }
            other => panic!("metadata type {other}"),
        }
    }

    fn get(&self, key: &str) -> &Value {
        &self.metadata[key]
    }

    fn values(&self, tensor: &Tensor) -> Vec<f32> {
        let elements: usize = tensor.shape.iter().product();
        let half = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
        let data = &self.bytes[tensor.offset..];
        match tensor.kind {
            0 => data[..elements * 4].chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect(),
            // Q4_1: scale, minimum, then 16 bytes whose low halves are elements 0 to 15, whose high ones 16 to 31.
            3 => data[..elements / 32 * 20]
                .chunks(20)
                .flat_map(|block| {
                    let (scale, minimum, nibbles) = (half(block), half(&block[2..]), &block[4..]);
                    let low = nibbles.iter().map(|byte| byte & 15);
                    low.chain(nibbles.iter().map(|byte| byte >> 4)).map(move |q| f32::from(q) * scale + minimum)
                })
                .collect(),
            // Q8_0: scale, then 32 signed bytes.
            8 => data[..elements / 32 * 34]
                .chunks(34)
                .flat_map(|block| block[2..].iter().map(move |byte| f32::from(*byte as i8) * half(block)))
                .collect(),
            other => panic!("{}: format {other}", tensor.name),
        }
    }
}

fn write_folder(gguf: &Gguf, folder: &Path) {
    let write = |name: &str, value: &Value| std::fs::write(folder.join(name), value.to_string()).unwrap();
    write("config.json", &config(gguf));
    write("tokenizer.json", &tokenizer(gguf));
    write(
        "tokenizer_config.json",
        &json!({"chat_template": gguf.get("tokenizer.chat_template"), "eos_token": "<|im_end|>"}),
    );
    let mut weight_map = serde_json::Map::new();
    for (index, tensors) in gguf.tensors.chunks(gguf.tensors.len().div_ceil(SHARDS)).enumerate() {
        let shard = format!("model-{:05}-of-{SHARDS:05}.safetensors", index + 1);
        let names: Vec<String> = tensors.iter().map(|tensor| transformers_name(&tensor.name)).collect();
        write_shard(gguf, tensors, &names, &folder.join(&shard));
        weight_map.extend(names.into_iter().map(|name| (name, json!(shard))));
    }
    write("model.safetensors.index.json", &json!({"metadata": {}, "weight_map": weight_map}));
}

fn write_shard(gguf: &Gguf, tensors: &[Tensor], names: &[String], path: &Path) {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (tensor, name) in tensors.iter().zip(names) {
        let start = end;
        end += tensor.shape.iter().product::<usize>() * 4;
        header.insert(name.clone(), json!({"dtype": "F32", "shape": tensor.shape, "data_offsets": [start, end]}));
    }
    let header = Value::from(header).to_string();
    let mut file = BufWriter::new(File::create(path).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    for tensor in tensors {
        let mut values = gguf.values(tensor);
        let heads = match tensor.name.rsplit('.').nth(1) {
            Some("attn_q") => gguf.get("llama.attention.head_count").as_u64(),
            Some("attn_k") => gguf.get("llama.attention.head_count_kv").as_u64(),
            _ => None,
        };
        if let Some(heads) = heads {
            values = natural_rows(&values, tensor.shape[0], heads as usize);
        }
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        file.write_all(&bytes).unwrap();
    }
    file.flush().unwrap();
}

/// llama.cpp keeps the rows of each head of Q and K as pairs (0, half), (1, half + 1), ...
fn natural_rows(values: &[f32], rows: usize, heads: usize) -> Vec<f32> {
    let (columns, head) = (values.len() / rows, rows / heads);
    let mut natural = Vec::with_capacity(values.len());
    for first in (0..rows).step_by(head) {
        for parity in 0..2 {
            for pair in 0..head / 2 {
                let stored = first + 2 * pair + parity;
                natural.extend_from_slice(&values[stored * columns..(stored + 1) * columns]);
            }
        }
    }
    natural
}

fn transformers_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts.as_slice() {
        ["token_embd", _] => "model.embed_tokens.weight".into(),
        ["output_norm", _] => "model.norm.weight".into(),
        ["blk", layer, part, _] => {
            let part = match *part {
                "attn_norm" => "input_layernorm",
                "ffn_norm" => "post_attention_layernorm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_output" => "self_attn.o_proj",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                other => panic!("{other}"),
            };
            format!("model.layers.{layer}.{part}.weight")
        }
        _ => panic!("{name}"),
    }
}

fn config(gguf: &Gguf) -> Value {
    let get = |key: &str| gguf.get(&format!("llama.{key}"));
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": get("embedding_length"),
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": get("attention.head_count"),
        "num_key_value_heads": get("attention.head_count_kv"),
        "vocab_size": get("vocab_size"),
        "max_position_embeddings": get("context_length"),
        "rms_norm_eps": get("attention.layer_norm_rms_epsilon"),
        "rope_parameters": {"rope_type": "default", "rope_theta": get("rope.freq_base")},
        "tie_word_embeddings": true,
        "eos_token_id": gguf.get("tokenizer.ggml.eos_token_id"),
        "dtype": "float32",
    })
}

/// What transformers' own `tokenizer.json` of this model says, as far as it changes ids.
fn tokenizer(gguf: &Gguf) -> Value {
    const CONTROL: i64 = 3;
    let tokens = gguf.get("tokenizer.ggml.tokens").as_array().unwrap();
    let types = gguf.get("tokenizer.ggml.token_type").as_array().unwrap();
    let vocabulary: serde_json::Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.as_str().unwrap().to_owned(), json!(id))).collect();
    let added: Vec<Value> = tokens
        .iter()
        .enumerate()
        .filter(|(id, _)| types[*id] == CONTROL)
        .map(|(id, token)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": true}, byte_level],
        },
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocabulary, "merges": gguf.get("tokenizer.ggml.merges"),
        },
    })
}
