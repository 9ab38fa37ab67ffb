//! What to ask the model for: `gen` and `select`, with every option that a call has.

use crate::bindings::sgl::program::lm;
use crate::error::{Result, from_host};

/// Text to be generated, and how. Made by [`gen`](crate::gen()) or [`select`], appended like text.
///
/// What is not set takes the host's default, which is SGLang's: 128 tokens, temperature 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gen {
    pub(crate) name: Option<String>,
    /// With choices it is a `select`.
    pub(crate) choices: Option<Vec<String>>,
    max_tokens: Option<u32>,
    min_tokens: Option<u32>,
    temperature: Option<f32>,
    top_p: Option<f32>,
    top_k: Option<i32>,
    min_p: Option<f32>,
    frequency_penalty: Option<f32>,
    presence_penalty: Option<f32>,
    repetition_penalty: Option<f32>,
    stop: Vec<String>,
    stop_tokens: Vec<u32>,
    stop_regexes: Vec<String>,
    ignore_eos: Option<bool>,
    no_stop_trim: Option<bool>,
    skip_special_tokens: Option<bool>,
    seed: Option<u64>,
    logit_bias: Vec<(u32, f32)>,
    top_logprobs: Option<u32>,
    choices_method: Option<ChoicesMethod>,
    constraint: Option<Pattern>,
}

/// What an output must match.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Regex(String),
    JsonSchema(String),
    Lark(String),
}

/// How `select` compares its choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChoicesMethod {
    /// Highest mean log-probability over the choice's tokens.
    #[default]
    TokenLengthNormalized,
    /// Highest log-probability token by token, as greedy decoding over the choices would take them.
    GreedyTokenSelection,
    /// Highest mean of log-probability given the prompt less log-probability without it.
    UnconditionalLikelihoodNormalized,
}

impl ChoicesMethod {
    fn as_str(self) -> &'static str {
        match self {
            Self::TokenLengthNormalized => "token-length-normalized",
            Self::GreedyTokenSelection => "greedy-token-selection",
            Self::UnconditionalLikelihoodNormalized => "unconditional-likelihood-normalized",
        }
    }
}

/// Text to be generated under this name: `s.assistant(gen("answer").max_tokens(512))`, then `s["answer"]`.
///
/// `gen` is a reserved word from edition 2024 on. In a crate of that edition write `r#gen("answer")`, or
/// [`generate`]`("answer")`, which is the same; in edition 2021, which `sglhost new` sets up, plain `gen` works.
pub fn r#gen(name: impl Into<String>) -> Gen {
    Gen { name: Some(name.into()), ..Gen::default() }
}

/// The same as [`gen`](crate::gen()), for crates of edition 2024.
pub fn generate(name: impl Into<String>) -> Gen {
    r#gen(name)
}

/// An integer, such as `-12`: `gen(name)` with SGLang's regex for it. Read it with `s.get::<i64>(name)`.
pub fn gen_int(name: impl Into<String>) -> Gen {
    r#gen(name).regex(r"[-+]?[0-9]+[ \n]*")
}

/// A decimal number: `gen(name)` with SGLang's regex for it. Read it with `s.get::<f64>(name)`.
pub fn gen_float(name: impl Into<String>) -> Gen {
    r#gen(name).regex(r"[-+]?[0-9]*\.?[0-9]+[ \n]*")
}

/// The likeliest of several continuations; the same as `gen(name).choices(choices)`.
pub fn select(name: impl Into<String>, choices: impl Into<Strings>) -> Gen {
    r#gen(name).choices(choices)
}

impl Gen {
    /// Text that needs no name because nobody reads it by one.
    #[must_use]
    pub fn unnamed() -> Self {
        Self::default()
    }

    /// Most tokens to generate (default 128).
    #[must_use]
    pub fn max_tokens(mut self, count: u32) -> Self {
        self.max_tokens = Some(count);
        self
    }

    /// Until this many tokens are generated, neither end-of-text nor a stop token is taken.
    #[must_use]
    pub fn min_tokens(mut self, count: u32) -> Self {
        self.min_tokens = Some(count);
        self
    }

    /// 0 always takes the likeliest token; 1 (the default) leaves the distribution as it is.
    #[must_use]
    pub fn temperature(mut self, value: f32) -> Self {
        self.temperature = Some(value);
        self
    }

    /// Keep the likeliest tokens whose probabilities reach this sum, in (0, 1].
    #[must_use]
    pub fn top_p(mut self, value: f32) -> Self {
        self.top_p = Some(value);
        self
    }

    /// Keep this many of the likeliest tokens; -1 keeps all.
    #[must_use]
    pub fn top_k(mut self, value: i32) -> Self {
        self.top_k = Some(value);
        self
    }

    /// Keep tokens at least this fraction as likely as the likeliest, in [0, 1].
    #[must_use]
    pub fn min_p(mut self, value: f32) -> Self {
        self.min_p = Some(value);
        self
    }

    /// Subtracted from a token's logit for each time that this call took it, in [-2, 2].
    #[must_use]
    pub fn frequency_penalty(mut self, value: f32) -> Self {
        self.frequency_penalty = Some(value);
        self
    }

    /// Subtracted once from the logit of each token that this call took, in [-2, 2].
    #[must_use]
    pub fn presence_penalty(mut self, value: f32) -> Self {
        self.presence_penalty = Some(value);
        self
    }

    /// Divides positive and multiplies negative logits of tokens that this call took, in [0.01, 2].
    #[must_use]
    pub fn repetition_penalty(mut self, value: f32) -> Self {
        self.repetition_penalty = Some(value);
        self
    }

    /// Stop at this text, or at any of these: `.stop("\n")`, `.stop(["\n", "###"])`. It is cut off, with all after it.
    #[must_use]
    pub fn stop(mut self, texts: impl Into<Strings>) -> Self {
        self.stop.extend(texts.into().0);
        self
    }

    /// Stop at this token.
    #[must_use]
    pub fn stop_token(mut self, token: u32) -> Self {
        self.stop_tokens.push(token);
        self
    }

    /// Stop where this regular expression, or any of these, matches. The match is kept.
    #[must_use]
    pub fn stop_regex(mut self, patterns: impl Into<Strings>) -> Self {
        self.stop_regexes.extend(patterns.into().0);
        self
    }

    /// Keep in the output what ended it: the stop text, stop token or end-of-text.
    #[must_use]
    pub fn no_stop_trim(mut self, keep: bool) -> Self {
        self.no_stop_trim = Some(keep);
        self
    }

    /// Leave control tokens out of the text (the default).
    #[must_use]
    pub fn skip_special_tokens(mut self, skip: bool) -> Self {
        self.skip_special_tokens = Some(skip);
        self
    }

    /// Go on after end-of-text.
    #[must_use]
    pub fn ignore_eos(mut self, ignore: bool) -> Self {
        self.ignore_eos = Some(ignore);
        self
    }

    /// Same seed, same prompt, same output.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Adds this to a token's logit; negative infinity is not allowed, -100 forbids in practice.
    #[must_use]
    pub fn logit_bias(mut self, token: u32, bias: f32) -> Self {
        self.logit_bias.push((token, bias));
        self
    }

    /// Report log-probabilities of the generated tokens, with this many alternatives each.
    #[must_use]
    pub fn top_logprobs(mut self, count: u32) -> Self {
        self.top_logprobs = Some(count);
        self
    }

    /// The whole output must match this regular expression.
    #[must_use]
    pub fn regex(mut self, pattern: impl Into<String>) -> Self {
        self.constraint = Some(Pattern::Regex(pattern.into()));
        self
    }

    /// The output must be JSON that this JSON Schema accepts.
    #[must_use]
    pub fn json_schema(mut self, schema: impl Into<String>) -> Self {
        self.constraint = Some(Pattern::JsonSchema(schema.into()));
        self
    }

    /// The output must be in the language of this Lark grammar.
    #[must_use]
    pub fn lark(mut self, grammar: impl Into<String>) -> Self {
        self.constraint = Some(Pattern::Lark(grammar.into()));
        self
    }

    /// Take the likeliest of these continuations instead of generating freely.
    #[must_use]
    pub fn choices(mut self, choices: impl Into<Strings>) -> Self {
        self.choices = Some(choices.into().0);
        self
    }

    /// How choices are compared.
    #[must_use]
    pub fn choices_method(mut self, method: ChoicesMethod) -> Self {
        self.choices_method = Some(method);
        self
    }

    /// The options as the host takes them. Compiling a constraint may fail: a bad pattern.
    pub(crate) fn to_options(&self) -> Result<lm::Options> {
        let options = lm::Options::new();
        let set = &options;
        self.name.iter().for_each(|name| set.name(name));
        self.max_tokens.iter().for_each(|&value| set.max_tokens(value));
        self.min_tokens.iter().for_each(|&value| set.min_tokens(value));
        self.temperature.iter().for_each(|&value| set.temperature(value));
        self.top_p.iter().for_each(|&value| set.top_p(value));
        self.top_k.iter().for_each(|&value| set.top_k(value));
        self.min_p.iter().for_each(|&value| set.min_p(value));
        self.frequency_penalty.iter().for_each(|&value| set.frequency_penalty(value));
        self.presence_penalty.iter().for_each(|&value| set.presence_penalty(value));
        self.repetition_penalty.iter().for_each(|&value| set.repetition_penalty(value));
        self.stop.iter().for_each(|text| set.stop(text));
        self.stop_tokens.iter().for_each(|&token| set.stop_token(token));
        self.stop_regexes.iter().for_each(|pattern| set.stop_regex(pattern));
        self.ignore_eos.iter().for_each(|&value| set.ignore_eos(value));
        self.no_stop_trim.iter().for_each(|&value| set.no_stop_trim(value));
        self.skip_special_tokens.iter().for_each(|&value| set.skip_special_tokens(value));
        self.seed.iter().for_each(|&value| set.seed(value));
        self.logit_bias.iter().for_each(|&(token, bias)| set.logit_bias(token, bias));
        self.top_logprobs.iter().for_each(|&value| set.top_logprobs(value));
        self.choices_method.iter().for_each(|method| set.choices_method(method.as_str()));
        if let Some(pattern) = &self.constraint {
            let constraint = match pattern {
                Pattern::Regex(pattern) => lm::Constraint::regex(pattern),
                Pattern::JsonSchema(schema) => lm::Constraint::json_schema(schema),
                Pattern::Lark(grammar) => lm::Constraint::lark(grammar),
            };
            set.constrain(&constraint.map_err(from_host)?);
        }
        Ok(options)
    }
}

/// One text or several, wherever either will do: `"a"`, `["a", "b"]`, a `Vec`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings(pub(crate) Vec<String>);

impl From<&str> for Strings {
    fn from(text: &str) -> Self {
        Self(vec![text.to_owned()])
    }
}

impl From<String> for Strings {
    fn from(text: String) -> Self {
        Self(vec![text])
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for Strings {
    fn from(texts: [S; N]) -> Self {
        Self(texts.into_iter().map(Into::into).collect())
    }
}

impl<S: Into<String>> From<Vec<S>> for Strings {
    fn from(texts: Vec<S>) -> Self {
        Self(texts.into_iter().map(Into::into).collect())
    }
}

impl<S: Clone + Into<String>> From<&[S]> for Strings {
    fn from(texts: &[S]) -> Self {
        Self(texts.iter().cloned().map(Into::into).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_or_several_will_do() {
        let check = |strings: Strings, expect: &[&str]| assert_eq!(strings.0, expect);
        check("a".into(), &["a"]);
        check(String::from("a").into(), &["a"]);
        check(["a", "b"].into(), &["a", "b"]);
        check(vec![String::from("a")].into(), &["a"]);
        check(["a", "b"].as_slice().into(), &["a", "b"]);
    }

    #[test]
    fn stops_add_up_and_the_last_of_the_others_wins() {
        let asked = r#gen("x").stop("\n").stop(["a", "b"]).temperature(1.0).temperature(0.0);
        assert_eq!(asked.stop, ["\n", "a", "b"]);
        assert_eq!(asked.temperature, Some(0.0));
        assert_eq!(generate("x"), r#gen("x"));
        assert_eq!(select("x", ["a"]), r#gen("x").choices(["a"]));
    }
}
