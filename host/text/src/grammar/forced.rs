//! Forced bytes → the tokens that the model would have spelled them with (jump-forward).
//!
//! Two seams can do damage. In front, the text is tokenized jointly with the last tokens before it; if that changes
//! those tokens, which are settled, the forced text is tokenized as what goes on behind them. At the end, bytes that a
//! token may share with what follows are left to be sampled under the mask.

use sglhost_core::TokenId;

use crate::Tokenizer;

/// Tokens before the forced text that it is tokenized with at most: a word and what is around it.
const TAIL_TOKENS_MAX: usize = 4;

/// The tokens of `forced` behind `before`, without those whose end depends on what follows. `may_follow` tells whether a
/// byte may come next after all of `forced`.
pub(super) fn tokens(
    tokenizer: &Tokenizer,
    before: &[TokenId],
    forced: &[u8],
    may_follow: impl Fn(u8) -> bool,
) -> Vec<TokenId> {
    let text = whole_characters(forced);
    let settled = if text.len() < forced.len() {
        // The character that is not whole goes on with the next bytes.
        tokenizer.trie().settled(text.as_bytes(), |byte| byte == forced[text.len()])
    } else {
        tokenizer.trie().settled(text.as_bytes(), may_follow)
    };
    if settled == 0 {
        return Vec::new();
    }
    let plain = |&&token: &&TokenId| !tokenizer.is_special(token);
    let tail = before.iter().rev().take(TAIL_TOKENS_MAX).take_while(plain).count();
    let joint = (0..=tail).rev().find_map(|tail| {
        let tail = &before[before.len() - tail..];
        let mut bytes: Vec<u8> = tail.iter().flat_map(|&token| tokenizer.token_bytes(token)).copied().collect();
        bytes.extend_from_slice(text.as_bytes());
        let tokens = tokenizer.encode_inside(std::str::from_utf8(&bytes).ok()?);
        let spelled = tokens.iter().flat_map(|&token| tokenizer.token_bytes(token));
        // A vocabulary's normalisation may change the text, which the constraint does not allow.
        let exact = spelled.eq(&bytes) && !tokens.iter().any(|&token| tokenizer.is_special(token));
        (exact && tokens.starts_with(tail)).then(|| tokens[tail.len()..].to_vec())
    });
    let mut tokens = joint.unwrap_or_default();
    let mut end = 0;
    let kept = tokens.iter().take_while(|&&token| {
        end += tokenizer.token_bytes(token).len();
        end <= settled
    });
    let kept = kept.count();
    tokens.truncate(kept);
    tokens
}

/// The longest beginning of `bytes` that is text.
fn whole_characters(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}
