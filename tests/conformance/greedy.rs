//! The likeliest tokens equal those of transformers on unquantized weights.

use crate::{compare::side_by_side, compute, golden::smollm2, logits::ERROR_MAX};

/// Positions where the best two logits are closer than this may differ: each may err by the bound, in either direction,
/// on both sides.
const GAP_MIN: f32 = 4.0 * ERROR_MAX;
const EXCLUDED_MAX: f64 = 0.01;

#[test]
fn tokens_equal_those_of_transformers() {
    let _turn = compute::turn();
    let (mut positions, mut excluded) = (0, 0);
    let mut prompts = 0;
    for (case, measured) in smollm2().cases.iter().zip(&side_by_side().exact) {
        assert_eq!(measured.greedy.len(), case.greedy.len());
        prompts += usize::from(!case.greedy.is_empty());
        for (index, (token, expect)) in measured.greedy.iter().zip(&case.greedy).enumerate() {
            positions += 1;
            if case.gaps[index] < GAP_MIN {
                excluded += 1;
            } else {
                assert_eq!(token, expect, "{}: token {index}, gap {}", case.name, case.gaps[index]);
            }
        }
    }
    assert!(prompts >= 20 && positions >= 20 * 64, "{positions} positions of {prompts} prompts");
    let share = f64::from(excluded) / positions as f64;
    assert!(share <= EXCLUDED_MAX, "{excluded} of {positions} positions are excluded");
    println!("{positions} positions, {excluded} excluded");
}
