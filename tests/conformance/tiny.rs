//! Hugging Face folders with random weights: shards, F32 and BF16, grouped heads, biases, both styles of configuration.

use sglhost_device::DType;

use crate::{
    compare::relative_l2,
    compute,
    golden::{Arrays, folder},
    model::{self, Sequence},
};

const RELATIVE_ERROR_MAX: f64 = 1e-5;
const SEQUENCES: usize = 3;

fn check(name: &str) {
    let golden = Arrays::open("tiny.safetensors");
    let mut model = model::open(&folder().join(name), compute::exact(), DType::F32);
    assert_eq!(model.info().end_of_text, [0, 257], "config.json and generation_config.json");
    for index in 0..SEQUENCES {
        let ids = golden.u32(&format!("{name}/{index}/ids"));
        let expect = golden.f32(&format!("{name}/{index}/logits"));
        let logits = model.extend(&mut Sequence::default(), &ids);
        let error = relative_l2(&logits[logits.len() - expect.len()..], &expect);
        assert!(error <= RELATIVE_ERROR_MAX, "{name}, sequence {index}: relative L2 error {error}");
    }
}

#[test]
fn untied_f32_in_shards() {
    check("tiny-f32");
}

#[test]
fn tied_bf16_with_biases_in_shards() {
    check("tiny-bf16");
}
