//! Small models with random weights: what tells families, file formats and element formats apart.
//!
//! `golden/tiny.py` says what each of them is. Everything is computed in f32 here; see `quantized.rs` for int8.

use std::{fs, path::Path};

use serde_json::{Value, json};
use sglhost_device::DType;
use sglhost_tests::{
    distance::relative_l2,
    golden::{Arrays, folder},
};

use crate::{
    compute,
    model::{self, Sequence},
};

const RELATIVE_ERROR_MAX: f64 = 1e-5;
/// A change that matters makes at least this error in the longest sequence.
const DIFFERENCE_MIN: f64 = 0.01;
const SEQUENCES: usize = 3;

/// Relative L2 errors of the model at `path` from the values under `name`, of each sequence.
fn errors(name: &str, path: &Path) -> [f64; SEQUENCES] {
    let golden = Arrays::open("tiny.safetensors");
    let mut model = model::open(path, compute::exact(), DType::F32);
    std::array::from_fn(|index| {
        let ids = golden.u32(&format!("{name}/{index}/ids"));
        let expect = golden.f32(&format!("{name}/{index}/logits"));
        let logits = model.extend(&mut Sequence::default(), &ids);
        relative_l2(&logits[logits.len() - expect.len()..], &expect)
    })
}

/// The GGUF files: of each architecture, and together of each quantized format.
pub(crate) const GGUF_FILES: [&str; 3] = ["tiny-llama-q4_k", "tiny-qwen2-q5_k", "tiny-qwen3-q6_k"];

fn check(name: &str, file: &str) {
    let errors = errors(name, &folder().join(file));
    println!("{name}: relative L2 error at most {:.1e}", errors.iter().copied().fold(0.0, f64::max));
    assert!(errors.iter().all(|error| *error <= RELATIVE_ERROR_MAX), "{name}: relative L2 errors {errors:?}");
}

/// A folder, which must not equal its golden values any more once a field of its `config.json` is changed.
fn check_folder(name: &str, changes: &[Value]) {
    check(name, name);
    let model = model::open(&folder().join(name), compute::exact(), DType::F32);
    assert_eq!(model.info().end_of_text, [0, 257], "config.json and generation_config.json");
    for (index, change) in changes.iter().enumerate() {
        let changed = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{index}-{}", std::process::id()));
        fs::create_dir_all(&changed).unwrap();
        for file in fs::read_dir(folder().join(name)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), changed.join(file.file_name())).unwrap();
        }
        let path = changed.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for (key, value) in change.as_object().unwrap() {
            config[key] = value.clone();
        }
        fs::write(&path, config.to_string()).unwrap();
        let difference = errors(name, &changed)[SEQUENCES - 1];
        fs::remove_dir_all(&changed).unwrap();
        assert!(difference >= DIFFERENCE_MIN, "{name}: {change} makes an error of {difference} only");
    }
}

#[test]
fn untied_f32_in_shards() {
    check_folder("tiny-f32", &[]);
}

#[test]
fn tied_bf16_with_biases_in_shards() {
    check_folder("tiny-bf16", &[]);
}

#[test]
fn tied_f16_in_one_file() {
    check_folder("tiny-f16", &[]);
}

#[test]
fn llama_with_its_scaling() {
    check_folder("tiny-llama3", &[json!({"rope_scaling": null})]);
}

#[test]
fn mistral_with_a_window() {
    check_folder("tiny-mistral", &[json!({"sliding_window": null}), json!({"sliding_window": 10})]);
}

#[test]
fn qwen2_with_biases_yarn_and_a_window_in_one_layer() {
    let unsharpened = json!({
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16,
        "attention_factor": 1.0,
    });
    check_folder(
        "tiny-qwen2",
        &[
            json!({"rope_parameters": null}),
            json!({"rope_parameters": unsharpened}),
            json!({"use_sliding_window": false, "layer_types": null}),
            json!({"layer_types": ["sliding_attention", "sliding_attention"]}),
        ],
    );
}

#[test]
fn qwen3_with_head_norms_linear_scaling_and_a_window_in_one_layer() {
    check_folder(
        "tiny-qwen3",
        &[json!({"rope_scaling": null}), json!({"layer_types": ["full_attention", "sliding_attention"]})],
    );
}

/// Windows, scalings and formats leave the invariant alone that `identity.rs` holds the default model to.
#[test]
fn chunks_change_no_bit() {
    let golden = Arrays::open("tiny.safetensors");
    for name in ["tiny-mistral", "tiny-qwen2", "tiny-qwen3"].into_iter().chain(GGUF_FILES) {
        let file = if GGUF_FILES.contains(&name) { format!("{name}.gguf") } else { name.to_owned() };
        let mut model = model::open(&folder().join(file), compute::as_served(), DType::F16);
        let ids = golden.u32(&format!("{name}/2/ids"));
        let whole = model.extend(&mut Sequence::default(), &ids);
        for size in [1, 3, 16] {
            let mut sequence = Sequence::default();
            let chunked: Vec<f32> = ids.chunks(size).flat_map(|ids| model.extend(&mut sequence, ids)).collect();
            assert!(chunked == whole, "{name}, {size} tokens at a time");
        }
    }
}

#[test]
fn gguf_files_of_every_architecture_and_format() {
    for name in GGUF_FILES {
        check(name, &format!("{name}.gguf"));
    }
}
