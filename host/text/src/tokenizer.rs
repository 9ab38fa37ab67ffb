//! Text → token ids and back.
//!
//! Owns the vocabulary: the bytes each token stands for, which tokens are control tokens, where a text begins and ends.
//! The merging itself is the `tokenizers` crate's ([`pipeline`]); finding control tokens is ours ([`added`]), because
//! only markup may yield them.
//!
//! *Invariants*: [`SegmentKind::Plain`] text never becomes control tokens; the bytes of the tokens of a text,
//! concatenated, are the text (after the vocabulary's own normalisation).

mod added;
mod bytes;
mod gguf;
mod hugging_face;
mod pipeline;
mod pre_tokenizer;

use std::{fmt, sync::OnceLock};

use serde_json::Value;
use sglhost_core::TokenId;
use tokenizers::{Model, ModelWrapper};

pub use self::gguf::GgufVocabulary;
use self::{
    added::{AddedToken, AddedTokens, Piece},
    bytes::Spelling,
    pipeline::{Pipeline, Place},
};
#[cfg(doc)]
use crate::SegmentKind;
use crate::{
    Segment, TextError,
    grammar::{context_free::Vocabulary, trie::TokenTrie},
};

/// A model's vocabulary and the rules that turn text into its tokens.
pub struct Tokenizer {
    pipeline: Pipeline,
    added: AddedTokens,
    /// Bytes of all tokens behind one another; token `i` is `bytes[starts[i]..starts[i + 1]]`.
    bytes: Vec<u8>,
    starts: Vec<u32>,
    /// Control tokens, the unknown token and unused ones.
    special: Vec<bool>,
    unknown: Option<TokenId>,
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    padding: Option<TokenId>,
    adds_bos: bool,
    end_of_text: Vec<TokenId>,
    chat_template: Option<String>,
    /// Built for the first constraint.
    trie: OnceLock<TokenTrie>,
    /// Built for the first grammar.
    grammars: OnceLock<Vocabulary>,
}

/// What a tokenizer is made of, whichever files it came from.
struct Parts {
    model: ModelWrapper,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    spelling: Spelling,
    added: Vec<AddedToken>,
    unused: Vec<TokenId>,
    bos: Option<TokenId>,
    eos: Option<TokenId>,
    unknown: Option<TokenId>,
    padding: Option<TokenId>,
    adds_bos: bool,
    /// Other tokens that end a text.
    other_eos: Vec<TokenId>,
    chat_template: Option<String>,
}

impl fmt::Debug for Tokenizer {
    /// Short: a vocabulary in full is megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer").field("vocabulary", &self.vocabulary()).finish_non_exhaustive()
    }
}

impl Tokenizer {
    fn assemble(parts: Parts) -> Result<Self, TextError> {
        let added = AddedTokens::new(parts.added)?;
        let vocabulary = parts.model.get_vocab();
        let highest = vocabulary.values().copied().chain(added.iter().map(|token| token.id)).max();
        let length = highest.map_or(0, |id| id as usize + 1);
        if length > VOCABULARY_MAX {
            return Err(TextError::malformed("vocabulary", format!("the highest token id is {}", length - 1)));
        }
        let mut texts: Vec<Vec<u8>> = vec![Vec::new(); length];
        for (token, id) in &vocabulary {
            texts[*id as usize] = parts.spelling.bytes(token);
        }
        for token in added.iter() {
            texts[token.id as usize] = token.text.clone().into_bytes();
        }
        let mut bytes = Vec::new();
        let mut starts = vec![0];
        for text in &texts {
            bytes.extend_from_slice(text);
            starts.push(u32::try_from(bytes.len()).map_err(|error| TextError::malformed("vocabulary", error))?);
        }
        // Files name tokens that the vocabulary does not hold; those are as good as not named.
        let known = |id: Option<TokenId>| id.filter(|&id| (id as usize) < length);
        let [bos, eos, unknown, padding] = [parts.bos, parts.eos, parts.unknown, parts.padding].map(known);
        let mut end_of_text = Vec::new();
        for id in eos.into_iter().chain(parts.other_eos.into_iter().filter_map(|id| known(Some(id)))) {
            if !end_of_text.contains(&id) {
                end_of_text.push(id);
            }
        }
        let mut special = vec![false; length];
        let control = added.iter().filter(|token| token.control).map(|token| token.id);
        let named = [bos, unknown, padding].into_iter().flatten();
        for id in parts.unused.into_iter().chain(control).chain(named).chain(end_of_text.iter().copied()) {
            if let Some(special) = special.get_mut(id as usize) {
                *special = true;
            }
        }
        Ok(Self {
            pipeline: Pipeline::new(parts.model, parts.normalizer, parts.pre_tokenizer)?,
            added,
            bytes,
            starts,
            special,
            unknown,
            bos,
            eos,
            padding,
            adds_bos: parts.adds_bos && bos.is_some(),
            end_of_text,
            chat_template: parts.chat_template,
            trie: OnceLock::new(),
            grammars: OnceLock::new(),
        })
    }

    /// All tokens that stand for text, by their bytes.
    pub(crate) fn trie(&self) -> &TokenTrie {
        self.trie.get_or_init(|| TokenTrie::new(self))
    }

    /// The vocabulary as grammars need it.
    pub(crate) fn grammars(&self) -> &Vocabulary {
        self.grammars.get_or_init(|| Vocabulary::new(self))
    }

    /// The tokens of text in the middle of another, without markup.
    pub(crate) fn encode_inside(&self, text: &str) -> Vec<TokenId> {
        let mut ids = Vec::new();
        self.encode_text(text, Place::Inside, &mut ids);
        ids
    }

    /// The tokens of a text that starts with `segments`.
    ///
    /// Control tokens are recognised only in markup. Between two of them all text is tokenized jointly, across the
    /// borders of segments, as the model saw it in training. No begin-of-text token is added.
    #[must_use]
    pub fn encode(&self, segments: &[Segment]) -> Vec<TokenId> {
        self.encode_after(None, segments)
    }

    /// The tokens of `segments` where `previous` is the last token before them, if there is one.
    ///
    /// Matters for SentencePiece-style vocabularies, which put a space in front of a text, but not in its middle.
    #[must_use]
    pub fn encode_after(&self, previous: Option<TokenId>, segments: &[Segment]) -> Vec<TokenId> {
        let text: String = segments.iter().map(|segment| segment.text.as_str()).collect();
        let mut place = self.place_after(previous);
        let mut ids = Vec::with_capacity(text.len() / 3);
        for piece in self.added.split(&text, segments) {
            match piece {
                Piece::Token(id) => {
                    ids.push(id);
                    place = Place::AfterToken;
                }
                Piece::Text(text) => {
                    self.encode_text(text, place, &mut ids);
                    place = Place::Inside;
                }
            }
        }
        ids
    }

    /// The tokens of a text without markup.
    #[must_use]
    pub fn encode_plain(&self, text: &str) -> Vec<TokenId> {
        self.encode(&[Segment::plain(text)])
    }

    fn encode_text(&self, text: &str, place: Place, ids: &mut Vec<TokenId>) {
        let before = ids.len();
        if self.pipeline.encode(text, place, |id| self.is_special(id), ids).is_err() {
            // No step of a byte-level or SentencePiece pipeline fails on text; a file with an odd step (a unigram
            // model without an unknown token) still gets every character that is a token.
            ids.truncate(before);
            let mut buffer = [0; 4];
            let model = self.pipeline.model();
            ids.extend(text.chars().filter_map(|character| model.token_to_id(character.encode_utf8(&mut buffer))));
        }
    }

    fn place_after(&self, previous: Option<TokenId>) -> Place {
        match previous {
            None => Place::Start,
            // A begin-of-text token that the host put in front is no part of the text: this is still its start.
            Some(id) if Some(id) == self.bos && self.adds_bos => Place::Start,
            Some(id) if self.added.by_id(id).is_some() => Place::AfterToken,
            Some(_) => Place::Inside,
        }
    }

    /// Highest id + 1.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.starts.len() - 1
    }

    /// The raw bytes that a token stands for: of a control token its visible spelling; of an unknown id none.
    #[must_use]
    pub fn token_bytes(&self, id: TokenId) -> &[u8] {
        let at = |index: usize| self.starts.get(index).map(|&start| start as usize);
        match (at(id as usize), at(id as usize + 1)) {
            (Some(start), Some(end)) => &self.bytes[start..end],
            _ => &[],
        }
    }

    /// Whether a token stands for no text of its own: a control token, begin or end of text, the unknown token, or one
    /// that is not used.
    #[must_use]
    pub fn is_special(&self, id: TokenId) -> bool {
        self.special.get(id as usize).copied().unwrap_or(false)
    }

    /// The control or added token that is spelled `text`.
    #[must_use]
    pub fn token_id(&self, text: &str) -> Option<TokenId> {
        self.added.by_text(text).map(|token| token.id)
    }

    /// The begin-of-text token.
    #[must_use]
    pub fn bos(&self) -> Option<TokenId> {
        self.bos
    }

    /// Whether a text starts with [`Tokenizer::bos`]; [`Tokenizer::encode`] never adds it.
    #[must_use]
    pub fn adds_bos(&self) -> bool {
        self.adds_bos
    }

    /// The end-of-text token that the model's configuration names, which its chat template calls `eos_token`.
    #[must_use]
    pub fn eos(&self) -> Option<TokenId> {
        self.eos
    }

    /// The padding token.
    #[must_use]
    pub fn padding(&self) -> Option<TokenId> {
        self.padding
    }

    /// The token that stands for text outside the vocabulary.
    #[must_use]
    pub fn unknown(&self) -> Option<TokenId> {
        self.unknown
    }

    /// All tokens that end a text, as the model's files name them; [`Tokenizer::eos`] first.
    #[must_use]
    pub fn end_of_text(&self) -> &[TokenId] {
        &self.end_of_text
    }

    /// The model's chat template (Jinja), for [`crate::Roles::from_template`].
    #[must_use]
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// The text of `ids` from the start of a text; control tokens are visible, bytes that are no UTF-8 become U+FFFD.
    #[must_use]
    pub fn decode(&self, ids: &[TokenId]) -> String {
        let mut bytes = Vec::new();
        let mut previous = None;
        for &id in ids {
            bytes.extend_from_slice(self.text_bytes(id, previous));
            previous = Some(id);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes that `id` adds to a text after `previous`: without the space that encoding put in front of it.
    pub(crate) fn text_bytes(&self, id: TokenId, previous: Option<TokenId>) -> &[u8] {
        let bytes = self.token_bytes(id);
        let text = self.added.by_id(id).is_none();
        if text && self.pipeline.adds_space(self.place_after(previous)) {
            bytes.strip_prefix(b" ").unwrap_or(bytes)
        } else {
            bytes
        }
    }
}

/// Token ids beyond this are taken for a damaged file: the largest vocabularies have 262,144.
const VOCABULARY_MAX: usize = 1 << 24;
