//! Text between added tokens → ids: normalise, split into words, merge. The work is the `tokenizers` crate's.
//!
//! The crate's own `Tokenizer` is not used: it finds control tokens in any text, and it cannot tell text that starts a
//! document from text that goes on in the middle of one, which SentencePiece-style vocabularies tokenize differently.

use serde::Deserialize;
use serde_json::Value;
use sglhost_core::TokenId;
use tokenizers::{
    Model, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper, OffsetReferential, OffsetType,
    PreTokenizedString, PreTokenizer, PreTokenizerWrapper,
};

use crate::TextError;

/// When a space is put in front of a run of text, as SentencePiece-style vocabularies were trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpacePrefix {
    /// Never.
    Never,
    /// At the start of the text.
    AtStart,
    /// At the start of the text and after each added token.
    AfterTokens,
}

/// What a run of text comes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing: it starts the text.
    Start,
    /// An added token.
    AfterToken,
    /// A token that was sampled or tokenized before: it goes on in mid-text.
    Inside,
}

/// One way to normalise and split.
#[derive(Debug)]
struct Steps {
    normalizer: Option<NormalizerWrapper>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
}

impl Steps {
    fn parse(normalizer: Option<&Value>, pre_tokenizer: Option<&Value>) -> Result<Self, TextError> {
        let parse = |name: &str, error: serde_json::Error| TextError::malformed(name, error);
        Ok(Self {
            normalizer: normalizer
                .map(|value| NormalizerWrapper::deserialize(value).map_err(|error| parse("normalizer", error)))
                .transpose()?,
            pre_tokenizer: pre_tokenizer
                .map(|value| PreTokenizerWrapper::deserialize(value).map_err(|error| parse("pre_tokenizer", error)))
                .transpose()?,
        })
    }
}

/// The model with its two ways to prepare text: with and without a space put in front.
#[derive(Debug)]
pub(crate) struct Pipeline {
    model: ModelWrapper,
    prefixed: Steps,
    bare: Steps,
    prefix: SpacePrefix,
}

impl Pipeline {
    /// Builds from the normaliser and pre-tokenizer as `tokenizer.json` writes them.
    pub(crate) fn new(
        model: ModelWrapper,
        normalizer: Option<Value>,
        pre_tokenizer: Option<Value>,
    ) -> Result<Self, TextError> {
        let prefixed = Steps::parse(normalizer.as_ref(), pre_tokenizer.as_ref())?;
        let mut prefix = SpacePrefix::Never;
        let normalizer = normalizer.and_then(|value| without_prefix(value, &mut prefix));
        let pre_tokenizer = pre_tokenizer.and_then(|value| without_prefix(value, &mut prefix));
        let bare = Steps::parse(normalizer.as_ref(), pre_tokenizer.as_ref())?;
        Ok(Self { model, prefixed, bare, prefix })
    }

    pub(crate) fn model(&self) -> &ModelWrapper {
        &self.model
    }

    /// Whether a run of text at `place` gets a space put in front.
    pub(crate) fn adds_space(&self, place: Place) -> bool {
        match self.prefix {
            SpacePrefix::Never => false,
            SpacePrefix::AtStart => place == Place::Start,
            SpacePrefix::AfterTokens => place != Place::Inside,
        }
    }

    /// Appends the ids of `text`. Where the text spells a control token (`is_control`) and merging finds it, that token
    /// is taken apart.
    pub(crate) fn encode(
        &self,
        text: &str,
        place: Place,
        is_control: impl Fn(TokenId) -> bool,
        ids: &mut Vec<TokenId>,
    ) -> tokenizers::Result<()> {
        let steps = if self.adds_space(place) { &self.prefixed } else { &self.bare };
        let mut normalized = NormalizedString::from(text);
        if let Some(normalizer) = &steps.normalizer {
            normalizer.normalize(&mut normalized)?;
        }
        let mut words = PreTokenizedString::from(normalized);
        if let Some(pre_tokenizer) = &steps.pre_tokenizer {
            pre_tokenizer.pre_tokenize(&mut words)?;
        }
        for (word, _, _) in words.get_splits(OffsetReferential::Normalized, OffsetType::None) {
            self.encode_word(word, &is_control, ids)?;
        }
        Ok(())
    }

    fn encode_word(
        &self,
        word: &str,
        is_control: &impl Fn(TokenId) -> bool,
        ids: &mut Vec<TokenId>,
    ) -> tokenizers::Result<()> {
        for token in self.model.tokenize(word)? {
            let first = token.value.chars().next().map_or(0, char::len_utf8);
            // The unknown token stands for other text than its own spelling.
            let is_spelled = word.get(token.offsets.0..token.offsets.1) == Some(token.value.as_str());
            if is_control(token.id) && is_spelled && first < token.value.len() {
                self.encode_word(&token.value[..first], is_control, ids)?;
                self.encode_word(&token.value[first..], is_control, ids)?;
            } else {
                ids.push(token.id);
            }
        }
        Ok(())
    }
}

/// The same step without the part that puts a space in front, and notes in `prefix` when that part would act.
fn without_prefix(mut step: Value, prefix: &mut SpacePrefix) -> Option<Value> {
    match step.get("type").and_then(Value::as_str) {
        Some("Sequence") => {
            let list = ["normalizers", "pretokenizers"].into_iter().find(|&key| step.get(key).is_some())?;
            let steps = step[list].take();
            let steps = steps.as_array().into_iter().flatten().cloned();
            step[list] = steps.filter_map(|step| without_prefix(step, prefix)).collect();
            Some(step)
        }
        Some("Prepend") => {
            *prefix = SpacePrefix::AfterTokens;
            None
        }
        Some("Metaspace") => {
            let scheme = step.get("prepend_scheme").and_then(Value::as_str).unwrap_or("always");
            let adds = step.get("add_prefix_space").and_then(Value::as_bool) != Some(false);
            match scheme {
                "never" => {}
                _ if !adds => {}
                "first" => *prefix = SpacePrefix::AtStart,
                _ => *prefix = SpacePrefix::AfterTokens,
            }
            let step = step.as_object_mut()?;
            step.remove("add_prefix_space");
            step.insert("prepend_scheme".to_owned(), "never".into());
            Some(Value::Object(std::mem::take(step)))
        }
        Some("ByteLevel") => {
            // As a normaliser it has no such field.
            if step.get("add_prefix_space").and_then(Value::as_bool) == Some(true) {
                *prefix = SpacePrefix::AfterTokens;
                step["add_prefix_space"] = false.into();
            }
            Some(step)
        }
        _ => Some(step),
    }
}
