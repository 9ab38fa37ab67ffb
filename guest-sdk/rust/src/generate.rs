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
    constraint: Option<Constraint>,
}

/// What a whole output must match, for [`Gen::constrain`]. The host compiles it, and keeps it for calls to come; what is
/// wrong with it is the error of the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint(Kind);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Regex(String),
    Choices(Vec<String>),
    JsonSchema(String),
    Lark(String),
    StructuralTag(String),
}

/// An integer that an `i64` holds and that is JSON: no `+`, no leading zeros, no `-0`.
const INT: &str = "0|-?[1-9][0-9]{0,17}";
/// A decimal number that is JSON.
const FLOAT: &str = r"-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?";
/// As Rust and JSON write it; SGLang has Python's `True` and `False`.
const BOOL: &str = "true|false";
/// A string of JSON's, with its quotes. Escapes that are half of a character (surrogates) are left out.
const STRING: &str =
    r#""([^"\\\x00-\x1f\x7f]|\\(["\\/bfnrt]|u([0-9a-cefA-CEF][0-9a-fA-F]|[dD][0-7])[0-9a-fA-F]{2}))*""#;

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

/// An integer; the same as `gen(name).int()`.
pub fn gen_int(name: impl Into<String>) -> Gen {
    r#gen(name).int()
}

/// A decimal number; the same as `gen(name).float()`.
pub fn gen_float(name: impl Into<String>) -> Gen {
    r#gen(name).float()
}

/// A string between quotes; the same as `gen(name).string()`.
pub fn gen_string(name: impl Into<String>) -> Gen {
    r#gen(name).string()
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

    /// What the whole output must match. A call has one constraint: the last that is given.
    #[must_use]
    pub fn constrain(mut self, constraint: Constraint) -> Self {
        self.constraint = Some(constraint);
        self
    }

    /// The whole output must match this regular expression.
    #[must_use]
    pub fn regex(self, pattern: impl Into<String>) -> Self {
        self.constrain(Constraint::regex(pattern))
    }

    /// The output must be JSON that this JSON Schema accepts; see [`Constraint::json_schema`]. Read it with
    /// `s.get_json(name)`.
    #[must_use]
    pub fn json_schema(self, schema: impl Into<String>) -> Self {
        self.constrain(Constraint::json_schema(schema))
    }

    /// The output must be in the language of this Lark grammar; see [`Constraint::lark`].
    #[must_use]
    pub fn lark(self, grammar: impl Into<String>) -> Self {
        self.constrain(Constraint::lark(grammar))
    }

    /// The output is free text with calls of tools, or the like, that are well-formed; see
    /// [`Constraint::structural_tag`].
    #[must_use]
    pub fn structural_tag(self, tags: impl Into<String>) -> Self {
        self.constrain(Constraint::structural_tag(tags))
    }

    /// An integer of at most 18 digits, such as `-12`: SGLang's `dtype=int`. Read it with `s.get::<i64>(name)`.
    #[must_use]
    pub fn int(self) -> Self {
        self.regex(INT)
    }

    /// A decimal number of at most 18 digits before the point and 17 after it: SGLang's `dtype=float`. Read it with
    /// `s.get::<f64>(name)`.
    #[must_use]
    pub fn float(self) -> Self {
        self.regex(FLOAT)
    }

    /// `true` or `false`: SGLang's `dtype=bool`. Read it with `s.get::<bool>(name)`.
    #[must_use]
    pub fn bool(self) -> Self {
        self.regex(BOOL)
    }

    /// A string of JSON's, between quotes: SGLang's `dtype=str`. Read what is between them with
    /// `s.get_json::<String>(name)`. It is as long as the model likes: one that reaches `max_tokens` has no end.
    #[must_use]
    pub fn string(self) -> Self {
        self.regex(STRING)
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
        if let Some(constraint) = &self.constraint {
            set.constrain(&constraint.compile()?);
        }
        Ok(options)
    }
}

impl Constraint {
    /// The output must match this regular expression, in the syntax of Rust's `regex` crate without word boundaries.
    pub fn regex(pattern: impl Into<String>) -> Self {
        Self(Kind::Regex(pattern.into()))
    }

    /// The output must be one of these texts. It is sampled token by token, as all that is generated is;
    /// [`Gen::choices`] compares the texts as wholes instead, and tells their scores.
    pub fn choices(choices: impl Into<Strings>) -> Self {
        Self(Kind::Choices(choices.into().0))
    }

    /// The output must be JSON that this JSON Schema accepts: in one line, with a space after each `,` and `:`, and
    /// properties in the schema's order. A keyword that the host does not implement is the error `unsupported`, which
    /// names it. `"x-guidance": {"whitespace_flexible": true}` in the schema leaves whitespace to the model.
    pub fn json_schema(schema: impl Into<String>) -> Self {
        Self(Kind::JsonSchema(schema.into()))
    }

    /// The output must be what this grammar makes of `start`, in the variant of Lark's notation that the llguidance
    /// library documents.
    pub fn lark(grammar: impl Into<String>) -> Self {
        Self(Kind::Lark(grammar.into()))
    }

    /// The output is free text, in which a trigger opens one of the tags that begin with it, and what is in a tag is
    /// constrained. JSON text of the form that SGLang takes:
    ///
    /// ```json
    /// {"structures": [{"begin": "<function=f>", "schema": {"type": "object"}, "end": "</function>"}],
    ///  "triggers": ["<function="]}
    /// ```
    ///
    /// with `"regex": "…"` in place of `schema` where wanted.
    pub fn structural_tag(tags: impl Into<String>) -> Self {
        Self(Kind::StructuralTag(tags.into()))
    }

    fn compile(&self) -> Result<lm::Constraint> {
        let compiled = match &self.0 {
            Kind::Regex(pattern) => lm::Constraint::regex(pattern),
            Kind::Choices(choices) => lm::Constraint::choices(choices),
            Kind::JsonSchema(schema) => lm::Constraint::json_schema(schema),
            Kind::Lark(grammar) => lm::Constraint::lark(grammar),
            Kind::StructuralTag(tags) => lm::Constraint::structural_tag(tags),
        };
        compiled.map_err(from_host)
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
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Which of the texts a regular expression matches as a whole.
    fn matching<'a>(pattern: &str, texts: &[&'a str]) -> Vec<&'a str> {
        let regex = regex::Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap();
        texts.iter().copied().filter(|text| regex.is_match(text)).collect()
    }

    #[test]
    fn what_is_typed_parses_in_rust_and_as_json() {
        let numbers = [
            "0",
            "7",
            "-12",
            "999999999999999999",
            "-999999999999999999",
            "1.5",
            "0.25",
            "-0.5",
            "-0",
            "+1",
            "007",
            "1.",
            ".5",
            "1e5",
            "1000000000000000000",
            "",
            "-",
            " 1",
            "1\n",
            "NaN",
        ];
        let integers = matching(INT, &numbers);
        assert_eq!(integers, numbers[..5]);
        for text in integers {
            let number: i64 = text.parse().unwrap();
            assert_eq!(serde_json::from_str::<i64>(text).unwrap(), number);
        }
        let floats = matching(FLOAT, &numbers);
        assert_eq!(floats, numbers[..9]);
        for text in floats {
            let number: f64 = text.parse().unwrap();
            assert_eq!(serde_json::from_str::<f64>(text).unwrap(), number);
        }
        assert_eq!(matching(BOOL, &["true", "false", "True", "1"]), ["true", "false"]);
    }

    #[test]
    fn a_typed_string_is_one_of_jsons() {
        let texts = [
            r#""""#,
            r#""a b""#,
            r#""é日本🦀""#,
            r#""\"\\\/\b\f\n\r\t""#,
            r#""\u00e9\uD7ff\uE000\ud799""#,
            r#"""#,
            r#"a"#,
            r#""a"b""#,
            r#""\x""#,
            r#""\uD800""#,
            r#""\udfff""#,
            r#""\u12""#,
            "\"\n\"",
            "\"\u{7f}\"",
        ];
        let strings = matching(STRING, &texts);
        assert_eq!(strings, texts[..5]);
        strings.iter().for_each(|text| drop(serde_json::from_str::<String>(text).unwrap()));
    }

    #[test]
    fn a_call_has_one_constraint() {
        assert_eq!(gen_int("x"), r#gen("x").string().lark("start: \"a\"").int());
        assert_eq!(gen_float("x"), r#gen("x").constrain(Constraint::regex(FLOAT)));
        assert_eq!(gen_string("x"), r#gen("x").bool().string());
        let choices = r#gen("x").constrain(Constraint::choices(["a", "b"]));
        assert!(choices.choices.is_none(), "not a select");
        assert_ne!(r#gen("x").json_schema("{}"), r#gen("x").structural_tag("{}"));
    }

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
