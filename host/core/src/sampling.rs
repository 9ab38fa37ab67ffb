//! How a token is chosen and when a call ends. Names, ranges and defaults are SGLang's, less two: `n` is a matter of
//! making n calls, and `spaces_between_special_tokens` says nothing to the byte-level and SentencePiece decoders here,
//! which put no spaces between tokens.

use serde::{Deserialize, Serialize};

use crate::{Error, TokenId, limits};

/// How the next token is drawn from the model's distribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingParams {
    /// Most tokens sampled by the call.
    pub max_tokens: u32,
    /// Until this many tokens are sampled, end-of-text and stop tokens are masked.
    pub min_tokens: u32,
    /// 0, and all below a millionth, is greedy; 1 leaves the distribution as it is.
    pub temperature: f32,
    /// Keep the likeliest tokens whose probabilities reach this sum, in (0, 1].
    pub top_p: f32,
    /// Keep this many of the likeliest tokens; -1 keeps all.
    pub top_k: i32,
    /// Keep tokens at least this fraction as likely as the likeliest, in [0, 1].
    pub min_p: f32,
    /// Subtracted from a token's logit for each time the call sampled it, in [-2, 2].
    pub frequency_penalty: f32,
    /// Subtracted once from the logit of each token the call sampled, in [-2, 2].
    pub presence_penalty: f32,
    /// Divides positive and multiplies negative logits of tokens the call sampled, in [0.01, 2].
    pub repetition_penalty: f32,
    /// Go on after end-of-text.
    pub ignore_eos: bool,
    /// Same seed, same prompt, same output, whatever else runs; none draws a fresh one.
    pub seed: Option<u64>,
    /// Added to the logits of these tokens, in [-1e9, 1e9].
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Report log-probabilities of sampled tokens, with this many alternatives each.
    pub top_logprobs: Option<u32>,
    /// When to stop besides end-of-text and `max_tokens`.
    pub stop: StopConditions,
    /// Keep in the output what ended it: the stop string, the stop token, the end-of-text token.
    pub no_stop_trim: bool,
    /// Leave control tokens that did not end the call out of the text; they are among its tokens all the same.
    pub skip_special_tokens: bool,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            max_tokens: 128,
            min_tokens: 0,
            temperature: 1.0,
            top_p: 1.0,
            top_k: -1,
            min_p: 0.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            repetition_penalty: 1.0,
            ignore_eos: false,
            seed: None,
            logit_bias: Vec::new(),
            top_logprobs: None,
            stop: StopConditions::default(),
            no_stop_trim: false,
            skip_special_tokens: true,
        }
    }
}

/// The least repetition penalty: a smaller one makes numbers of logits that are none.
const REPETITION_PENALTY_MIN: f32 = 0.01;
/// The largest bias: 1,024 of them on one token are still a number.
const LOGIT_BIAS_ABS_MAX: f32 = 1e9;

impl SamplingParams {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// [`crate::ErrorCode::Invalid`] naming the parameter, its value and the range.
    pub fn validate(&self) -> Result<(), Error> {
        let out = |name: &str, value: f32, range: &str| {
            Err(Error::invalid(format!("{name} is {value}; it must be in {range}")))
        };
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return out("temperature", self.temperature, "[0, infinity)");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return out("top_p", self.top_p, "(0, 1]");
        }
        if self.top_k < -1 || self.top_k == 0 {
            return Err(Error::invalid(format!("top_k is {}; it must be -1 (all) or at least 1", self.top_k)));
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return out("min_p", self.min_p, "[0, 1]");
        }
        if !(-2.0..=2.0).contains(&self.frequency_penalty) {
            return out("frequency_penalty", self.frequency_penalty, "[-2, 2]");
        }
        if !(-2.0..=2.0).contains(&self.presence_penalty) {
            return out("presence_penalty", self.presence_penalty, "[-2, 2]");
        }
        if !(REPETITION_PENALTY_MIN..=2.0).contains(&self.repetition_penalty) {
            return out("repetition_penalty", self.repetition_penalty, "[0.01, 2]");
        }
        if self.min_tokens > self.max_tokens {
            return Err(Error::invalid(format!(
                "min_tokens is {}, above max_tokens, which is {}",
                self.min_tokens, self.max_tokens
            )));
        }
        if self.top_logprobs.is_some_and(|count| count > limits::TOP_LOGPROBS_MAX) {
            return Err(Error::limit(format!("top_logprobs is above {}", limits::TOP_LOGPROBS_MAX)));
        }
        if self.logit_bias.len() > limits::LOGIT_BIAS_MAX {
            return Err(Error::limit(format!("logit_bias names more than {} tokens", limits::LOGIT_BIAS_MAX)));
        }
        let biases = -LOGIT_BIAS_ABS_MAX..=LOGIT_BIAS_ABS_MAX;
        if let Some((token, bias)) = self.logit_bias.iter().find(|(_, bias)| !biases.contains(bias)) {
            return Err(Error::invalid(format!("logit_bias of token {token} is {bias}; it must be in [-1e9, 1e9]")));
        }
        self.stop.validate()
    }
}

/// What ends a call before `max_tokens`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopConditions {
    /// Strings; the match and all after it are cut from the output. One that spells a control token stops at that
    /// token, which is never text.
    pub strings: Vec<String>,
    /// Tokens; a matched one is not part of the output.
    pub tokens: Vec<TokenId>,
    /// Regular expressions; the match is kept, as SGLang does.
    pub regexes: Vec<String>,
}

impl StopConditions {
    fn validate(&self) -> Result<(), Error> {
        let count = self.strings.len() + self.tokens.len() + self.regexes.len();
        if count > limits::STOP_CONDITIONS_MAX {
            return Err(Error::limit(format!(
                "{count} stop conditions; a call takes at most {}",
                limits::STOP_CONDITIONS_MAX
            )));
        }
        if self.strings.iter().any(String::is_empty) {
            return Err(Error::invalid("a stop string is empty; it would match at once"));
        }
        let longest = self.strings.iter().chain(&self.regexes).map(String::len).max().unwrap_or(0);
        if longest > limits::STOP_BYTES_MAX {
            return Err(Error::limit(format!(
                "a stop condition of {longest} bytes; the limit is {}",
                limits::STOP_BYTES_MAX
            )));
        }
        Ok(())
    }
}

/// How `select` compares its choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChoicesMethod {
    /// Highest mean log-probability over the choice's tokens.
    #[default]
    TokenLengthNormalized,
    /// Highest log-probability token by token, as greedy decoding over the choices would take them.
    GreedyTokenSelection,
    /// Highest mean of log-probability given the prompt less log-probability without it.
    UnconditionalLikelihoodNormalized,
}

impl std::str::FromStr for ChoicesMethod {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name.replace('_', "-").as_str() {
            "token-length-normalized" => Ok(Self::TokenLengthNormalized),
            "greedy-token-selection" => Ok(Self::GreedyTokenSelection),
            "unconditional-likelihood-normalized" => Ok(Self::UnconditionalLikelihoodNormalized),
            _ => Err(Error::invalid(format!(
                "unknown choices method {name:?}; there are token-length-normalized, greedy-token-selection and \
                 unconditional-likelihood-normalized"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(params: SamplingParams, expect: &str) {
        let message = params.validate().map_err(|error| error.message).err().unwrap_or_default();
        assert_eq!(message, expect, "{params:?}");
    }

    #[test]
    fn each_parameter_has_its_range() {
        let params = SamplingParams::default;
        check(params(), "");
        for temperature in [0.0, 1e-9, 1e30] {
            check(SamplingParams { temperature, ..params() }, "");
        }
        check(SamplingParams { temperature: -0.5, ..params() }, "temperature is -0.5; it must be in [0, infinity)");
        check(SamplingParams { temperature: f32::NAN, ..params() }, "temperature is NaN; it must be in [0, infinity)");
        check(SamplingParams { top_p: 0.0, ..params() }, "top_p is 0; it must be in (0, 1]");
        check(SamplingParams { top_p: 1.5, ..params() }, "top_p is 1.5; it must be in (0, 1]");
        check(SamplingParams { top_k: 0, ..params() }, "top_k is 0; it must be -1 (all) or at least 1");
        check(SamplingParams { top_k: -2, ..params() }, "top_k is -2; it must be -1 (all) or at least 1");
        check(SamplingParams { min_p: 1.1, ..params() }, "min_p is 1.1; it must be in [0, 1]");
        check(SamplingParams { frequency_penalty: 3.0, ..params() }, "frequency_penalty is 3; it must be in [-2, 2]");
        check(SamplingParams { presence_penalty: -3.0, ..params() }, "presence_penalty is -3; it must be in [-2, 2]");
        for repetition_penalty in [0.0, 1e-30, 2.5] {
            let expect = format!("repetition_penalty is {repetition_penalty}; it must be in [0.01, 2]");
            check(SamplingParams { repetition_penalty, ..params() }, &expect);
        }
        check(SamplingParams { min_tokens: 129, ..params() }, "min_tokens is 129, above max_tokens, which is 128");
        check(SamplingParams { max_tokens: 0, ..params() }, "");
        check(SamplingParams { top_logprobs: Some(257), ..params() }, "top_logprobs is above 256");
        let logit_bias = vec![(3, 1.0), (5, f32::NEG_INFINITY)];
        check(SamplingParams { logit_bias, ..params() }, "logit_bias of token 5 is -inf; it must be in [-1e9, 1e9]");
        check(SamplingParams { logit_bias: vec![(0, -1e9); 1024], ..params() }, "");
        check(
            SamplingParams { logit_bias: vec![(0, 0.0); 1025], ..params() },
            "logit_bias names more than 1024 tokens",
        );
        let stop = |strings: &[&str], tokens: usize| StopConditions {
            strings: strings.iter().map(|&string| string.to_owned()).collect(),
            tokens: vec![1; tokens],
            ..StopConditions::default()
        };
        check(SamplingParams { stop: stop(&["a"], 63), ..params() }, "");
        check(SamplingParams { stop: stop(&["a"], 64), ..params() }, "65 stop conditions; a call takes at most 64");
        check(SamplingParams { stop: stop(&[""], 0), ..params() }, "a stop string is empty; it would match at once");
    }
}
