//! Passes of models over all golden cases.

use std::sync::OnceLock;

use sglhost_device::DType;
use sglhost_tests::distance::{argmax, divergence, log_softmax};

use crate::{
    compute,
    golden::{Case, smollm2},
    model::{self, Model, Sequence},
    unquantized,
};

/// Tokens of one forward pass here; keeps the logits of all its rows at 12 MB.
const CHUNK: usize = 64;

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
        if output.is_multiple_of(golden.distribution_every)
            && output / golden.distribution_every < case.distributions.len()
        {
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
    let vocabulary = model.vocabulary();
    let mut all = Vec::new();
    for case in &smollm2().cases {
        let tokens = case.tokens();
        let mut measured = Measured::default();
        let mut sequence = Sequence::default();
        for chunk in tokens.chunks(CHUNK) {
            let start = sequence.tokens();
            let logits = model.extend(&mut sequence, chunk);
            for (row, logits) in logits.chunks_exact(vocabulary).enumerate() {
                measured.add(case, &tokens, start + row, logits);
            }
        }
        all.push(measured);
    }
    all
}

/// The F32 folder and the model as it is served, side by side over every case.
pub(crate) struct SideBySide {
    /// Of the F32 folder.
    pub(crate) exact: Vec<Measured>,
    /// Of the GGUF file with quantized activations.
    pub(crate) served: Vec<Measured>,
    /// Of the served distributions from the exact ones, the mean over all positions, in nats.
    pub(crate) mean_divergence: f64,
    /// How many positions that are.
    pub(crate) positions: usize,
}

/// Computed by the first test that asks, which must hold the [`compute::turn`].
pub(crate) fn side_by_side() -> &'static SideBySide {
    static RESULT: OnceLock<SideBySide> = OnceLock::new();
    RESULT.get_or_init(|| {
        let (mut exact, mut served) =
            (model::open(unquantized::folder(), compute::exact(), DType::F32), model::served());
        let vocabulary = exact.vocabulary();
        let mut result = SideBySide { exact: Vec::new(), served: Vec::new(), mean_divergence: 0.0, positions: 0 };
        let mut divergences = 0.0;
        for case in &smollm2().cases {
            let tokens = case.tokens();
            let (mut exact_measured, mut served_measured) = (Measured::default(), Measured::default());
            let (mut exact_sequence, mut served_sequence) = (Sequence::default(), Sequence::default());
            for chunk in tokens.chunks(CHUNK) {
                let start = exact_sequence.tokens();
                let expect = exact.extend(&mut exact_sequence, chunk);
                let actual = served.extend(&mut served_sequence, chunk);
                let rows = expect.chunks_exact(vocabulary).zip(actual.chunks_exact(vocabulary));
                for (position, (expect, actual)) in (start..).zip(rows) {
                    divergences += divergence(expect, actual);
                    exact_measured.add(case, &tokens, position, expect);
                    served_measured.add(case, &tokens, position, actual);
                }
            }
            result.positions += tokens.len();
            result.exact.push(exact_measured);
            result.served.push(served_measured);
        }
        result.mean_divergence = divergences / result.positions as f64;
        result
    })
}
