//! A tokenizer from the metadata of a GGUF file.
//!
//! GGUF holds the vocabulary and the merges, but of the rule that splits text into words only a name: `pre`. What each
//! name means is in [`super::pre_tokenizer`], written as Hugging Face's `tokenizer.json` of that model writes it, so
//! that both sources give the same ids.

use std::collections::HashMap;

use serde_json::json;
use sglhost_core::TokenId;
use tokenizers::{
    ModelWrapper,
    models::bpe::{BPE, Vocab},
};

use super::{
    Parts, Tokenizer,
    added::AddedToken,
    bytes::{Spelling, byte_token},
    pre_tokenizer,
};
use crate::TextError;

/// The vocabulary as GGUF metadata holds it; each field names its key under `tokenizer.`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocabulary {
    /// `ggml.model`: `gpt2` (byte-level BPE) or `llama` (SentencePiece BPE).
    pub model: String,
    /// `ggml.pre`: which rule splits text into words.
    pub pre: Option<String>,
    /// `ggml.tokens`: the token of each id.
    pub tokens: Vec<String>,
    /// `ggml.token_type` of each id: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. May be empty:
    /// then all are normal.
    pub token_types: Vec<i32>,
    /// `ggml.merges`: pairs separated by a space, best first.
    pub merges: Vec<String>,
    /// `ggml.scores` of each id: of two merges of a SentencePiece vocabulary the higher is made first.
    pub scores: Vec<f32>,
    /// `ggml.bos_token_id`.
    pub bos: Option<TokenId>,
    /// `ggml.eos_token_id`.
    pub eos: Option<TokenId>,
    /// `ggml.eot_token_id`.
    pub eot: Option<TokenId>,
    /// `ggml.eom_token_id`.
    pub eom: Option<TokenId>,
    /// `ggml.unknown_token_id`.
    pub unknown: Option<TokenId>,
    /// `ggml.padding_token_id`.
    pub padding: Option<TokenId>,
    /// `ggml.add_bos_token`.
    pub add_bos: Option<bool>,
    /// `ggml.add_space_prefix`.
    pub add_space_prefix: Option<bool>,
    /// `chat_template`.
    pub chat_template: Option<String>,
}

const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

impl GgufVocabulary {
    fn token_type(&self, id: usize) -> i32 {
        self.token_types.get(id).copied().unwrap_or(NORMAL)
    }

    /// Tokens that merges may build: all but control tokens, unused ones and the unknown one.
    fn is_text(&self, id: usize) -> bool {
        matches!(self.token_type(id), NORMAL | USER_DEFINED | BYTE)
    }

    fn check(&self) -> Result<(), TextError> {
        let malformed = |key: &str, reason: String| Err(TextError::malformed(format!("tokenizer.ggml.{key}"), reason));
        if self.tokens.is_empty() {
            return malformed("tokens", "is missing or empty".to_owned());
        }
        if u32::try_from(self.tokens.len()).is_err() {
            return malformed("tokens", format!("has {} entries", self.tokens.len()));
        }
        for (key, length) in [("token_type", self.token_types.len()), ("scores", self.scores.len())] {
            if length != 0 && length != self.tokens.len() {
                return malformed(key, format!("has {length} entries; there are {} tokens", self.tokens.len()));
            }
        }
        let ids = [
            ("bos_token_id", self.bos),
            ("eos_token_id", self.eos),
            ("eot_token_id", self.eot),
            ("eom_token_id", self.eom),
            ("unknown_token_id", self.unknown),
            ("padding_token_id", self.padding),
        ];
        match ids.into_iter().find(|(_, id)| id.is_some_and(|id| id as usize >= self.tokens.len())) {
            Some((key, id)) => {
                malformed(key, format!("is {}; there are {} tokens", id.unwrap_or(0), self.tokens.len()))
            }
            None => Ok(()),
        }
    }

    /// Ids by token, for the model: without control tokens, so that no merge can build one, but with `unknown`.
    fn vocabulary(&self, unknown: Option<TokenId>) -> impl Iterator<Item = (String, TokenId)> + '_ {
        self.tokens
            .iter()
            .enumerate()
            .filter(move |&(id, _)| self.is_text(id) || unknown == Some(id as TokenId))
            .map(|(id, token)| (token.clone(), id as TokenId))
    }

    /// Tokens found by their spelling. Byte-level vocabularies mark as user-defined what `tokenizer.json` lists as added
    /// but not special. Old files mark nothing: their end-of-text is a control token all the same.
    fn added(&self) -> Vec<AddedToken> {
        let named = [self.bos, self.eos, self.eot, self.eom];
        let is_named =
            |id: usize| named.contains(&Some(id as TokenId)) && AddedToken::looks_like_markup(&self.tokens[id]);
        (0..self.tokens.len())
            .filter(|&id| matches!(self.token_type(id), CONTROL | UNKNOWN | USER_DEFINED) || is_named(id))
            .map(|id| AddedToken {
                id: id as TokenId,
                text: self.tokens[id].clone(),
                control: self.token_type(id) != USER_DEFINED || AddedToken::looks_like_markup(&self.tokens[id]),
                strip_left: false,
                strip_right: false,
            })
            .collect()
    }
}

impl Tokenizer {
    /// Builds from GGUF metadata.
    ///
    /// # Errors
    /// Metadata that contradicts itself, a model other than `gpt2` and `llama`, or a `pre` that is not known; the
    /// message names it.
    pub fn from_gguf(vocabulary: GgufVocabulary) -> Result<Self, TextError> {
        vocabulary.check()?;
        let unused = (0..vocabulary.tokens.len())
            .filter(|&id| vocabulary.token_type(id) == UNUSED)
            .map(|id| id as TokenId)
            .collect();
        let (model, normalizer, pre_tokenizer, spelling, adds_bos) = match vocabulary.model.as_str() {
            "gpt2" => {
                let rule = pre_tokenizer::by_name(vocabulary.pre.as_deref())?;
                let model = byte_level_model(&vocabulary, rule.ignore_merges)?;
                (model, rule.normalizer, Some(rule.pre_tokenizer), Spelling::ByteLevel, rule.adds_bos)
            }
            "llama" => {
                let model = sentence_piece_model(&vocabulary)?;
                let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
                let prepend = json!({"type": "Prepend", "prepend": "▁"});
                let normalizer = if vocabulary.add_space_prefix.unwrap_or(true) {
                    json!({"type": "Sequence", "normalizers": [prepend, replace]})
                } else {
                    replace
                };
                (model, Some(normalizer), None, Spelling::SentencePiece, true)
            }
            other => {
                return Err(TextError::Unsupported(format!(
                    "tokenizer.ggml.model is {other:?}; known are \"gpt2\" (byte-level BPE) and \"llama\" \
                     (SentencePiece BPE)"
                )));
            }
        };
        let added = vocabulary.added();
        Self::assemble(Parts {
            model: ModelWrapper::BPE(model),
            normalizer,
            pre_tokenizer,
            spelling,
            added,
            unused,
            bos: vocabulary.bos,
            eos: vocabulary.eos,
            unknown: vocabulary.unknown,
            padding: vocabulary.padding,
            adds_bos: vocabulary.add_bos.unwrap_or(adds_bos),
            other_eos: [vocabulary.eot, vocabulary.eom].into_iter().flatten().collect(),
            chat_template: vocabulary.chat_template,
        })
    }
}

fn byte_level_model(vocabulary: &GgufVocabulary, ignore_merges: bool) -> Result<BPE, TextError> {
    let merges = vocabulary
        .merges
        .iter()
        .map(|merge| {
            // A token may itself hold a space only as `Ġ`, so the first space (past the first byte) is the border.
            let border = merge.char_indices().skip(1).find(|&(_, character)| character == ' ');
            border
                .map(|(at, _)| (merge[..at].to_owned(), merge[at + 1..].to_owned()))
                .ok_or_else(|| TextError::malformed("tokenizer.ggml.merges", format!("{merge:?} is no pair")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    BPE::builder()
        .vocab_and_merges(vocabulary.vocabulary(None).collect::<Vocab>(), merges)
        .ignore_merges(ignore_merges)
        .build()
        .map_err(|error| TextError::malformed("tokenizer.ggml.merges", error))
}

/// SentencePiece holds scores in place of merges: each token is the merge of every pair of tokens that spell it, and
/// of two merges the one with the higher score is made first (as `transformers` converts such models).
fn sentence_piece_model(vocabulary: &GgufVocabulary) -> Result<BPE, TextError> {
    if vocabulary.scores.is_empty() {
        return Err(TextError::malformed("tokenizer.ggml.scores", "is missing"));
    }
    let ids: HashMap<&str, usize> = (0..vocabulary.tokens.len())
        .filter(|&id| matches!(vocabulary.token_type(id), NORMAL | USER_DEFINED))
        .map(|id| (vocabulary.tokens[id].as_str(), id))
        .collect();
    let mut merges: Vec<(usize, usize, usize)> = Vec::new();
    for (&token, &id) in &ids {
        let borders = token.char_indices().skip(1).map(|(at, _)| at);
        merges.extend(borders.filter_map(|at| Some((id, *ids.get(&token[..at])?, *ids.get(&token[at..])?))));
    }
    merges.sort_by(|a, b| {
        let score = |id: usize| vocabulary.scores[id];
        score(b.0).total_cmp(&score(a.0)).then_with(|| a.cmp(b))
    });
    let merges = merges
        .into_iter()
        .map(|(_, left, right)| (vocabulary.tokens[left].clone(), vocabulary.tokens[right].clone()))
        .collect::<Vec<_>>();
    let byte_fallback = (0..vocabulary.tokens.len())
        .any(|id| vocabulary.token_type(id) == BYTE && byte_token(&vocabulary.tokens[id]).is_some());
    let mut builder = BPE::builder()
        .vocab_and_merges(vocabulary.vocabulary(vocabulary.unknown).collect::<Vocab>(), merges)
        .byte_fallback(byte_fallback)
        .fuse_unk(true);
    if let Some(unknown) = vocabulary.unknown {
        builder = builder.unk_token(vocabulary.tokens[unknown as usize].clone());
    }
    builder.build().map_err(|error| TextError::malformed("tokenizer.ggml.tokens", error))
}
