//! The golden values, as `golden/make.py` wrote them.

use std::sync::OnceLock;

use serde::Deserialize;
use sglhost_tests::golden::{Arrays, folder};

/// Everything about the default model.
pub(crate) struct Golden {
    pub(crate) cases: Vec<Case>,
    pub(crate) tokenizer: Vec<TokenizerCase>,
    /// `Case::stride` holds every how manieth logit.
    pub(crate) logit_stride: usize,
    /// Positions between two of `Case::distributions`.
    pub(crate) distribution_every: usize,
}

/// One prompt.
pub(crate) struct Case {
    pub(crate) name: String,
    /// The prompt's tokens.
    pub(crate) ids: Vec<u32>,
    /// The likeliest tokens after it, one after the other; empty for some.
    pub(crate) greedy: Vec<u32>,
    /// Negative log-likelihood of each prompt token but the first.
    pub(crate) nll: Vec<f32>,
    /// Logits after the prompt, every `logit_stride`-th.
    pub(crate) stride: Vec<f32>,
    /// The largest logits after the prompt.
    pub(crate) top: Vec<(u32, f32)>,
    /// The likeliest tokens and their log-probabilities, after the prompt and after every `distribution_every`-th token
    /// of the continuation.
    pub(crate) distributions: Vec<Vec<(u32, f32)>>,
    /// At each token of `greedy`: by how much its logit leads.
    pub(crate) gaps: Vec<f32>,
}

impl Case {
    /// Prompt and continuation.
    pub(crate) fn tokens(&self) -> Vec<u32> {
        [self.ids.as_slice(), &self.greedy].concat()
    }

    /// The position that the prompt ends at.
    pub(crate) fn last(&self) -> usize {
        self.ids.len() - 1
    }
}

/// A text with its tokens.
#[derive(Deserialize)]
pub(crate) struct TokenizerCase {
    pub(crate) text: String,
    /// Where special tokens are recognised.
    pub(crate) markup: Vec<u32>,
    /// Where they are not.
    pub(crate) plain: Vec<u32>,
}

/// The golden values of the default model, read once.
pub(crate) fn smollm2() -> &'static Golden {
    static GOLDEN: OnceLock<Golden> = OnceLock::new();
    GOLDEN.get_or_init(read)
}

fn read() -> Golden {
    #[derive(Deserialize)]
    struct Document {
        logit_stride: usize,
        distribution_every: usize,
        cases: Vec<DocumentCase>,
        tokenizer: Vec<TokenizerCase>,
    }
    #[derive(Deserialize)]
    struct DocumentCase {
        name: String,
        ids: Vec<u32>,
        greedy: Vec<u32>,
    }
    let text = std::fs::read_to_string(folder().join("smollm2.json")).unwrap();
    let document: Document = serde_json::from_str(&text).unwrap();
    let arrays = Arrays::open("smollm2.safetensors");
    let cases = document.cases.into_iter().map(|case| {
        let array = |name: &str| format!("{}/{name}", case.name);
        let pairs = |ids: &str, values: &str| -> Vec<(u32, f32)> {
            arrays.u16(&array(ids)).into_iter().zip(arrays.f32(&array(values))).collect()
        };
        let distributions = pairs("distribution.ids", "distribution.logprobs");
        let rows = if case.greedy.is_empty() { 1 } else { case.greedy.len() / document.distribution_every };
        Case {
            nll: arrays.f32(&array("nll")),
            stride: arrays.f32(&array("logits.stride")),
            top: pairs("logits.top.ids", "logits.top.values"),
            distributions: distributions.chunks(distributions.len() / rows).map(<[_]>::to_vec).collect(),
            gaps: if case.greedy.is_empty() { Vec::new() } else { arrays.f32(&array("greedy.gap")) },
            name: case.name.clone(),
            ids: case.ids,
            greedy: case.greedy,
        }
    });
    Golden {
        cases: cases.collect(),
        tokenizer: document.tokenizer,
        logit_stride: document.logit_stride,
        distribution_every: document.distribution_every,
    }
}
