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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::GgufVocabulary;

    /// Token `i` is the byte `i`; token 256 is `▁a`, 257 a control token.
    fn bytes() -> Arc<Tokenizer> {
        let mut tokens: Vec<String> = (0..=255u8).map(|byte| format!("<0x{byte:02X}>")).collect();
        let mut token_types = vec![6; 256];
        tokens.extend(["▁a".to_owned(), "<end>".to_owned()]);
        token_types.extend([1, 3]);
        let scores = vec![0.0; tokens.len()];
        let model = "llama".to_owned();
        Arc::new(
            Tokenizer::from_gguf(GgufVocabulary { model, tokens, token_types, scores, ..Default::default() }).unwrap(),
        )
    }

    fn check(previous: Option<TokenId>, tokens: &[TokenId], expect: &[&str], pending: &[u8]) {
        let mut detokenizer = Detokenizer::after(bytes(), previous);
        let pieces: Vec<String> = tokens.iter().map(|&token| detokenizer.push(token)).collect();
        assert_eq!(pieces, expect);
        assert_eq!(detokenizer.pending(), pending);
    }

    #[test]
    fn characters_come_out_whole() {
        let inside = Some(65);
        check(inside, &[0xf0, 0x9f, 0x99, 0x82, 0x41], &["", "", "", "🙂", "A"], b"");
        check(inside, &[0x41, 0xf0, 0x9f], &["A", "", ""], b"\xf0\x9f");
        check(inside, &[0xc3, 0xc3, 0xa9], &["", "\u{fffd}", "é"], b"");
    }

    #[test]
    fn bytes_that_are_no_character_are_replaced() {
        check(Some(65), &[0xff, 0x41], &["\u{fffd}", "A"], b"");
        check(Some(65), &[0xe6, 0x41], &["", "\u{fffd}A"], b"");
        check(Some(65), &[0x80, 0x80], &["\u{fffd}", "\u{fffd}"], b"");
    }

    #[test]
    fn the_space_that_encoding_adds_is_taken_back() {
        check(None, &[256, 256], &["a", " a"], b"");
        check(Some(257), &[256], &["a"], b"");
        check(Some(65), &[256, 257, 256], &[" a", "<end>", "a"], b"");
        check(None, &[9999], &[""], b"");
    }
}
