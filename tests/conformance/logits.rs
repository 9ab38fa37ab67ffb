//! Logits equal those of transformers where nothing is rounded to fewer bits.

use sglhost_tests::distance::{largest_error, relative_l2};

use crate::{
    compare::{Measured, measure_all, side_by_side},
    compute,
    golden::smollm2,
    model,
};

/// Relative L2 error of the logits after each prompt.
const RELATIVE_ERROR_MAX: f64 = 1e-3;
/// Error of any one logit or log-probability. The logits' root mean square is 10.8.
pub(crate) const ERROR_MAX: f32 = 1e-3;

fn check(model: &str, measured: &[Measured]) {
    let golden = smollm2();
    assert!(golden.cases.len() >= 20, "twenty prompts are promised");
    let (mut worst_relative, mut worst) = (0.0f64, 0.0f32);
    for (case, measured) in golden.cases.iter().zip(measured) {
        let top: Vec<f32> = case.top.iter().map(|(_, logit)| *logit).collect();
        let relative = relative_l2(&measured.stride, &case.stride).max(relative_l2(&measured.top, &top));
        assert!(relative <= RELATIVE_ERROR_MAX, "{model}, {}: relative L2 error {relative}", case.name);
        let mut error = largest_error(&measured.stride, &case.stride).max(largest_error(&measured.top, &top));
        error = error.max(largest_error(&measured.nll, &case.nll));
        for (measured, recorded) in measured.distributions.iter().zip(&case.distributions) {
            let recorded: Vec<f32> = recorded.iter().map(|(_, logprob)| *logprob).collect();
            error = error.max(largest_error(measured, &recorded));
        }
        assert_eq!(measured.distributions.len(), case.distributions.len());
        assert!(error <= ERROR_MAX, "{model}, {}: error {error}", case.name);
        worst_relative = worst_relative.max(relative);
        worst = worst.max(error);
    }
    println!("{model}: relative L2 error at most {worst_relative:.2e}, largest error {worst:.2e}");
}

#[test]
fn of_the_quantized_file_with_f32_activations() {
    let _turn = compute::turn();
    check("GGUF, f32 activations", &measure_all(&mut model::exact()));
}

#[test]
fn of_the_f32_folder() {
    let _turn = compute::turn();
    check("F32 folder", &side_by_side().exact);
}
