//! With quantized activations, as the model is served, its distributions stay close to the exact ones.

use sglhost_device::DType;
use sglhost_tests::{
    distance::divergence,
    golden::{Arrays, folder},
};

use crate::{
    compare::side_by_side,
    compute,
    golden::smollm2,
    model::{self, Sequence},
    tiny::GGUF_FILES,
};

/// Nats, averaged over all positions.
const DIVERGENCE_MAX: f64 = 0.01;
/// Nats, averaged over all positions, of the small models.
const TINY_DIVERGENCE_MAX: f64 = 3e-3;
/// Of the perplexity over all prompts.
const PERPLEXITY_CHANGE_MAX: f64 = 0.005;

/// The divergence is taken over the whole vocabulary from the model with f32 activations, which `logits.rs` holds to
/// transformers' values; and once more from transformers' own log-probabilities at the recorded places.
#[test]
fn distributions_stay_close() {
    let _turn = compute::turn();
    let result = side_by_side();
    let (mut golden_sum, mut golden_positions) = (0.0, 0);
    let (mut nll, mut golden_nll, mut scored) = (0.0, 0.0, 0);
    for (case, measured) in smollm2().cases.iter().zip(&result.served) {
        for (measured, recorded) in measured.distributions.iter().zip(&case.distributions) {
            golden_sum += recorded_divergence(recorded, measured);
            golden_positions += 1;
        }
        nll += measured.nll.iter().copied().map(f64::from).sum::<f64>();
        golden_nll += case.nll.iter().copied().map(f64::from).sum::<f64>();
        scored += case.nll.len();
    }
    let (mean, golden_mean) = (result.mean_divergence, golden_sum / f64::from(golden_positions));
    let perplexity = (nll / scored as f64).exp();
    let golden_perplexity = (golden_nll / scored as f64).exp();
    println!(
        "mean divergence {mean:.5} over {} positions ({golden_mean:.5} from transformers' over {golden_positions}); \
         perplexity {perplexity:.4}, transformers' {golden_perplexity:.4} ({scored} tokens)",
        result.positions
    );
    assert!(mean <= DIVERGENCE_MAX, "mean divergence {mean}");
    assert!(golden_mean <= DIVERGENCE_MAX, "mean divergence {golden_mean} from transformers'");
    let change = (perplexity / golden_perplexity - 1.0).abs();
    assert!(change <= PERPLEXITY_CHANGE_MAX, "perplexity changes by {:.3}%", 100.0 * change);
}

/// Random weights average less out than trained ones, but no format may stand out.
#[test]
fn every_format_stays_close() {
    let golden = Arrays::open("tiny.safetensors");
    for name in GGUF_FILES {
        let path = folder().join(format!("{name}.gguf"));
        let mut exact = model::open(&path, compute::exact(), DType::F32);
        let mut served = model::open(&path, compute::as_served(), DType::F16);
        let ids = golden.u32(&format!("{name}/2/ids"));
        let expect = exact.extend(&mut Sequence::default(), &ids);
        let actual = served.extend(&mut Sequence::default(), &ids);
        let rows = expect.chunks_exact(exact.vocabulary()).zip(actual.chunks_exact(exact.vocabulary()));
        let mean = rows.map(|(expect, actual)| divergence(expect, actual)).sum::<f64>() / ids.len() as f64;
        println!("{name}: mean divergence {mean:.1e} over {} positions", ids.len());
        assert!(mean > 0.0 && mean <= TINY_DIVERGENCE_MAX, "{name}: mean divergence {mean}");
    }
}

/// The divergence of `actual` from the recorded tokens' log-probabilities, all other tokens taken as one.
fn recorded_divergence(recorded: &[(u32, f32)], actual: &[f32]) -> f64 {
    let (mut sum, mut rest, mut actual_rest) = (0.0, 1.0f64, 1.0f64);
    for ((_, expect), actual) in recorded.iter().zip(actual) {
        let (expect, actual) = (f64::from(*expect), f64::from(*actual));
        sum += expect.exp() * (expect - actual);
        rest -= expect.exp();
        actual_rest -= actual.exp();
    }
    // What is left of one after 256 subtractions is noise below this.
    const REST_MIN: f64 = 1e-6;
    let (rest, actual_rest) = (rest.max(REST_MIN), actual_rest.max(REST_MIN));
    sum + rest * (rest / actual_rest).ln()
}
