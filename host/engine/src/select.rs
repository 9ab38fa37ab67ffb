//! Which choice a `select` takes, from the log-probabilities of their tokens. The methods are SGLang's.

use sglhost_core::ChoicesMethod;

/// The choice taken and the scores that were compared.
///
/// `conditional[i]` are the log-probabilities of choice i's tokens after the prompt; `unconditional[i]` those without
/// it, its first term 0 (only for [`ChoicesMethod::UnconditionalLikelihoodNormalized`]).
///
/// # Panics
/// If there is no choice or one has no tokens.
pub(crate) fn choose(method: ChoicesMethod, conditional: &[Vec<f32>], unconditional: &[Vec<f32>]) -> (usize, Vec<f32>) {
    let means: Vec<f32> = conditional.iter().map(|row| mean(row)).collect();
    match method {
        ChoicesMethod::TokenLengthNormalized => (argmax(&means), means),
        ChoicesMethod::GreedyTokenSelection => (greedy(conditional, &means), means),
        ChoicesMethod::UnconditionalLikelihoodNormalized => {
            let scores: Vec<f32> = means.iter().zip(unconditional).map(|(mean_of, row)| mean_of - mean(row)).collect();
            (argmax(&scores), scores)
        }
    }
}

/// Token by token, keeps the choices whose token is the likeliest; a choice that has ended goes on with its mean.
fn greedy(conditional: &[Vec<f32>], means: &[f32]) -> usize {
    let longest = conditional.iter().map(Vec::len).max().unwrap_or(0);
    let mut remaining: Vec<usize> = (0..conditional.len()).collect();
    for position in 0..longest {
        let at = |choice: usize| conditional[choice].get(position).copied().unwrap_or(means[choice]);
        let best = remaining.iter().map(|&choice| at(choice)).fold(f32::NEG_INFINITY, f32::max);
        remaining.retain(|&choice| at(choice) >= best);
        if remaining.len() == 1 {
            break;
        }
    }
    remaining[0]
}

fn mean(row: &[f32]) -> f32 {
    assert!(!row.is_empty(), "a choice has tokens");
    row.iter().sum::<f32>() / row.len() as f32
}

/// The first of the highest.
fn argmax(scores: &[f32]) -> usize {
    let mut best = 0;
    for (index, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: ChoicesMethod, conditional: &[&[f32]], unconditional: &[&[f32]], expect: usize) {
        let rows = |rows: &[&[f32]]| rows.iter().map(|row| row.to_vec()).collect::<Vec<_>>();
        assert_eq!(choose(method, &rows(conditional), &rows(unconditional)).0, expect, "{method:?} {conditional:?}");
    }

    #[test]
    fn each_method_prefers_what_it_says() {
        use ChoicesMethod::{GreedyTokenSelection, TokenLengthNormalized, UnconditionalLikelihoodNormalized};
        check(TokenLengthNormalized, &[&[-1.0, -3.0], &[-1.5]], &[], 1);
        check(TokenLengthNormalized, &[&[-2.0, -0.1], &[-1.5]], &[], 0);
        check(TokenLengthNormalized, &[&[-1.0], &[-1.0]], &[], 0);
        check(GreedyTokenSelection, &[&[-1.0, -9.0], &[-1.5, -0.1]], &[], 0);
        check(GreedyTokenSelection, &[&[-1.0, -3.0], &[-1.0, -2.0], &[-4.0]], &[], 1);
        // The first choice has ended and goes on with its mean, -1, which beats -2.
        check(GreedyTokenSelection, &[&[-1.0], &[-1.0, -2.0]], &[], 0);
        check(UnconditionalLikelihoodNormalized, &[&[-1.0, -1.0], &[-2.0, -2.0]], &[&[0.0, -1.0], &[0.0, -8.0]], 1);
    }
}
