//! One pass of a model over all golden cases, and the distances between what it computes and what transformers did.

use crate::{
    golden::{Case, smollm2},
    model::{Model, Sequence},
};

/// Tokens of one forward pass here; keeps the logits of all its rows at 12 MB.
pub(crate) const CHUNK: usize = 64;

/// What a model computed at the places that a golden case holds.
#[derive(Default)]
pub(crate) struct Measured {
    /// As `Case::nll`.
    pub(crate) nll: Vec<f32>,
    /// As `Case::stride`.
    pub(crate) stride: Vec<f32>,
    /// Logits of the tokens of `Case::top`.
    pub(crate) top: Vec<f32>,
    /// Log-probabilities of the tokens of `Case::distributions`.
    pub(crate) distributions: Vec<Vec<f32>>,
    /// The likeliest token at each place of `Case::greedy`, given golden tokens before it.
    pub(crate) greedy: Vec<u32>,
}

impl Measured {
    /// Takes what is wanted from the logits after `position`.
    pub(crate) fn add(&mut self, case: &Case, tokens: &[u32], position: usize, logits: &[f32]) {
        let golden = smollm2();
        if position < case.last() {
            self.nll.push(-log_softmax(logits)(tokens[position + 1]));
            return;
        }
        if position == case.last() {
            self.stride = logits.iter().step_by(golden.logit_stride).copied().collect();
            self.top = case.top.iter().map(|(id, _)| logits[*id as usize]).collect();
        }
        let output = position - case.last();
        if output.is_multiple_of(golden.distribution_every) && output / golden.distribution_every < case.distributions.len() {
            let logprob = log_softmax(logits);
            let recorded = &case.distributions[output / golden.distribution_every];
            self.distributions.push(recorded.iter().map(|(id, _)| logprob(*id)).collect());
        }
        if output < case.greedy.len() {
            self.greedy.push(argmax(logits));
        }
    }
}

/// Runs `model` over every case.
pub(crate) fn measure_all(model: &mut Model) -> Vec<Measured> {
    smollm2().cases.iter().map(|case| measure(model, case)).collect()
}

fn measure(model: &mut Model, case: &Case) -> Measured {
    let tokens = case.tokens();
    let vocabulary = model.vocabulary();
    let mut measured = Measured::default();
    let mut sequence = Sequence::default();
    for chunk in tokens.chunks(CHUNK) {
        let start = sequence.len();
        let logits = model.extend(&mut sequence, chunk);
        for (row, logits) in logits.chunks_exact(vocabulary).enumerate() {
            measured.add(case, &tokens, start + row, logits);
        }
    }
    measured
}

/// The natural logarithm of each token's probability.
pub(crate) fn log_softmax(logits: &[f32]) -> impl Fn(u32) -> f32 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - max).exp()).sum();
    let norm = max + sum.ln();
    move |token| (f64::from(logits[token as usize]) - norm) as f32
}

/// The likeliest token, the lowest of equals.
pub(crate) fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (token, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = token;
        }
    }
    best as u32
}

/// `|actual - expect| / |expect|` in the Euclidean norm.
pub(crate) fn relative_l2(actual: &[f32], expect: &[f32]) -> f64 {
    assert_eq!(actual.len(), expect.len());
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>();
    let error = square(&mut actual.iter().zip(expect).map(|(a, e)| f64::from(*a) - f64::from(*e)));
    (error / square(&mut expect.iter().map(|value| f64::from(*value)))).sqrt()
}

/// The largest `|actual - expect|`.
pub(crate) fn largest_error(actual: &[f32], expect: &[f32]) -> f32 {
    assert_eq!(actual.len(), expect.len());
    actual.iter().zip(expect).map(|(a, e)| (a - e).abs()).fold(0.0, f32::max)
}

/// Kullback-Leibler divergence in nats of `q` from `p`, both given as logits of the whole vocabulary.
pub(crate) fn divergence(p: &[f32], q: &[f32]) -> f64 {
    let (log_p, log_q) = (log_softmax(p), log_softmax(q));
    (0..p.len() as u32)
        .map(|token| {
            let log_p = f64::from(log_p(token));
            log_p.exp() * (log_p - f64::from(log_q(token)))
        })
        .sum()
}
