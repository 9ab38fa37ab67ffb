//! Tokens → text, one token at a time.

use std::sync::Arc;

use sglhost_core::TokenId;

use crate::Tokenizer;

/// Turns tokens into text as they come, whole UTF-8 characters only.
///
/// Bytes that can never become a character come out as U+FFFD; the beginning of a character waits for its end. What
/// still waits when the last token was pushed is dropped.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    previous: Option<TokenId>,
    /// The beginning of a character, at most three bytes.
    pending: Vec<u8>,
}

impl Detokenizer {
    /// For tokens that start a text.
    #[must_use]
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self { tokenizer, previous: None, pending: Vec::new() }
    }

    /// For tokens after `previous`, the last one of the prompt. A SentencePiece-style vocabulary puts a space in front
    /// of a text and after control tokens; that space is no part of the text and is not given back.
    #[must_use]
    pub fn after(tokenizer: Arc<Tokenizer>, previous: Option<TokenId>) -> Self {
        Self { tokenizer, previous, pending: Vec::new() }
    }

    /// Takes the next token and gives the text that is certain now; may be empty. Control tokens are visible.
    pub fn push(&mut self, id: TokenId) -> String {
        self.pending.extend_from_slice(self.tokenizer.text_bytes(id, self.previous));
        self.previous = Some(id);
        let mut text = String::new();
        let mut done = 0;
        for chunk in self.pending.utf8_chunks() {
            text.push_str(chunk.valid());
            done += chunk.valid().len();
            let invalid = chunk.invalid();
            let is_last = done + invalid.len() == self.pending.len();
            if is_last && is_incomplete(invalid) {
                break;
            }
            if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
                done += invalid.len();
            }
        }
        self.pending.drain(..done);
        text
    }

    /// The beginning of a character that waits for more tokens.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }
}

/// Whether more bytes could make `bytes` a character.
fn is_incomplete(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}
