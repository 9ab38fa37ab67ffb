//! What is asked of each row of logits, and what comes back.

use std::sync::Arc;

use sglhost_core::TokenMask;

/// 53 random bits from seed and position: SplitMix64's output function over the seed's.
pub(crate) fn random(seed: u64, position: u64) -> u64 {
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    mix(mix(seed).wrapping_add(position)) >> 11
}

/// A log-probability as it is computed: of a logit that is not a number it is negative infinity.
pub(crate) fn logprob(computed: f32) -> f32 {
    if computed.is_nan() { f32::NEG_INFINITY } else { computed }
}

/// A row is refused: no token would mean anything.
pub(crate) const NOT_NUMBERS: &str = "its logits are not numbers";
/// A row is refused: the mask, or what the model knows of it, is empty.
pub(crate) const NONE_ALLOWED: &str = "its mask allows no token";

/// What to do with one row of logits. Those that are not numbers count as negative infinity.
#[derive(Clone, Debug, PartialEq)]
pub enum RowRequest {
    /// Draw the next token.
    Sample(Box<SampleRow>),
    /// The log-probabilities of given tokens, with the `top` likeliest beside them.
    Score {
        /// The tokens; there may be none.
        tokens: Vec<u32>,
        /// How many alternatives.
        top: u32,
    },
}

/// How to draw a token. Applied in this order: penalties, bias, mask, temperature, top-k, top-p, min-p.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleRow {
    /// 0 takes the likeliest; ties go to the lowest token.
    pub temperature: f32,
    /// Likeliest tokens kept; 0 keeps all.
    pub top_k: u32,
    /// Probability mass kept, in (0, 1].
    pub top_p: f32,
    /// Fraction of the likeliest token's probability a kept token must have.
    pub min_p: f32,
    /// See `SamplingParams`.
    pub frequency_penalty: f32,
    /// See `SamplingParams`.
    pub presence_penalty: f32,
    /// See `SamplingParams`.
    pub repetition_penalty: f32,
    /// Tokens of this call's output so far, with how often.
    pub counts: Vec<(u32, u32)>,
    /// Added to these tokens' logits.
    pub bias: Vec<(u32, f32)>,
    /// Tokens allowed; none allows all.
    pub mask: Option<Arc<TokenMask>>,
    /// With `position`, the counter of the random number: independent of what else is in the batch.
    pub seed: u64,
    /// Tokens of this call's output so far.
    pub position: u64,
    /// Whether the token's log-probability is wanted, and how many alternatives.
    pub top_logprobs: Option<u32>,
}

/// Draws from the whole distribution as it is.
impl Default for SampleRow {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repetition_penalty: 1.0,
            counts: Vec::new(),
            bias: Vec::new(),
            mask: None,
            seed: 0,
            position: 0,
            top_logprobs: None,
        }
    }
}

/// The answer for one row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowResult {
    /// Why there is no answer: no token can be drawn, or the largest logit is not a finite number. Then the rest means nothing; other
    /// rows are not concerned.
    pub refused: Option<&'static str>,
    /// The token drawn.
    pub token: u32,
    /// Its log-probability under the raw logits' softmax (before penalties, bias, mask and temperature); 0 if it was
    /// not asked for.
    pub logprob: f32,
    /// The log-probabilities of the tokens that were to be scored, likewise.
    pub scores: Vec<f32>,
    /// The likeliest tokens of the raw distribution, best first.
    pub top: Vec<(u32, f32)>,
}
