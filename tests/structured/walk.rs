//! Walks over the masks of a constraint, with the default model's vocabulary or with one token for each byte.

use std::sync::{Arc, LazyLock};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sglhost_core::TokenId;
use sglhost_tests::model::default_gguf;
use sglhost_text::{Constraint, ConstraintState, GgufVocabulary, Tokenizer};

/// The default model's tokenizer.
pub(crate) fn tokenizer() -> &'static Arc<Tokenizer> {
    static TOKENIZER: LazyLock<Arc<Tokenizer>> =
        LazyLock::new(|| Arc::new(sglhost_model::tokenizer(&default_gguf()).unwrap_or_else(|error| panic!("{error}"))));
    &TOKENIZER
}

/// A tokenizer with an end-of-text token, which is 0, and a token for each byte, which is the byte + 1.
pub(crate) fn bytes_tokenizer() -> &'static Arc<Tokenizer> {
    static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
        let bytes = (0..=u8::MAX).map(|byte| format!("<0x{byte:02X}>"));
        let vocabulary = GgufVocabulary {
            model: "llama".to_owned(),
            tokens: std::iter::once("<eos>".to_owned()).chain(bytes).collect(),
            scores: vec![0.0; 257],
            token_types: std::iter::once(3).chain([6; 256]).collect(),
            eos: Some(0),
            ..GgufVocabulary::default()
        };
        Arc::new(Tokenizer::from_gguf(vocabulary).unwrap())
    });
    &TOKENIZER
}

/// Tokens that are drawn uniformly before a walk heads for the end.
const FREE_TOKENS: usize = 48;
/// Tokens after which a walk that did not find the end is given up. That is no error: a language may have no short end.
const TOKENS_MAX: usize = 300;

/// What a walk came to.
pub(crate) enum Walk {
    /// A match.
    Ended { tokens: Vec<TokenId>, text: String },
    /// Too long, so far.
    GivenUp,
    /// A limit, which the host would end the call with.
    Failed(sglhost_core::Error),
}

/// Draws uniformly among the tokens that masks allow, and after a while those that look like an end.
///
/// # Panics
/// If a mask is empty without a reason, allows a token that cannot be taken or is no text, or end-of-text where the output
/// is no match: `what` then says whose.
pub(crate) fn uniform(constraint: &Constraint, tokenizer: &Tokenizer, seed: u64, what: &str) -> Walk {
    let distances = distances(tokenizer);
    let mut random = StdRng::seed_from_u64(seed);
    let mut state = constraint.start();
    let mut tokens = Vec::new();
    loop {
        let mask = state.mask();
        if mask.is_empty() {
            let Some(failure) = state.failure() else { panic!("{what}: stuck after {:?}", tokenizer.decode(&tokens)) };
            return Walk::Failed(failure.clone());
        }
        let mut allowed: Vec<TokenId> = mask.iter().collect();
        let end = tokenizer.end_of_text().iter().any(|&token| mask.allows(token));
        assert_eq!(end, state.is_accepting(), "{what}: the end after {:?}", tokenizer.decode(&tokens));
        // Now and then any token still: what looks like an end may lead away from it.
        if tokens.len() >= FREE_TOKENS && !end && random.random_range(0..8) > 0 {
            let best = allowed.iter().map(|&token| distances[token as usize]).min().unwrap();
            allowed.retain(|&token| distances[token as usize] == best);
        }
        let drawn = allowed[random.random_range(0..allowed.len())];
        if end && (tokens.len() >= FREE_TOKENS || tokenizer.end_of_text().contains(&drawn)) {
            let bytes: Vec<u8> = tokens.iter().flat_map(|&token| tokenizer.token_bytes(token)).copied().collect();
            let text = String::from_utf8(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
            return Walk::Ended { tokens, text };
        }
        if tokens.len() >= TOKENS_MAX {
            return Walk::GivenUp;
        }
        assert!(!tokenizer.is_special(drawn), "{what}: the control token {drawn} is allowed");
        if !state.advance(drawn) {
            let Some(failure) = state.failure() else {
                panic!("{what}: {drawn} is allowed and not taken after {:?}", tokenizer.decode(&tokens))
            };
            return Walk::Failed(failure.clone());
        }
        tokens.push(drawn);
    }
}

/// [`distance`] of every token.
fn distances(tokenizer: &Tokenizer) -> Arc<[usize]> {
    static OF_THE_MODEL: LazyLock<Arc<[usize]>> = LazyLock::new(|| of_all(self::tokenizer()));
    fn of_all(tokenizer: &Tokenizer) -> Arc<[usize]> {
        (0..tokenizer.vocabulary() as TokenId).map(|token| distance(tokenizer.token_bytes(token))).collect()
    }
    if std::ptr::eq(tokenizer, &**self::tokenizer()) { Arc::clone(&OF_THE_MODEL) } else { of_all(tokenizer) }
}

/// How little a token looks like an end: what ends a string, what closes, digits, then what is short.
fn distance(bytes: &[u8]) -> usize {
    let all = |set: &[u8]| bytes.iter().all(|byte| set.contains(byte));
    match bytes {
        [b'"', rest @ ..] if rest.iter().all(|byte| b"}]".contains(byte)) => 0,
        _ if all(b"}]") => 1,
        _ if all(b"0123456789") => 2,
        _ => 2 + bytes.len(),
    }
}

/// How far an output was admitted.
pub(crate) enum Admitted {
    Whole,
    /// The text before the first token that is not allowed, or all of it where the end is not.
    Until(String),
    Failed(sglhost_core::Error),
}

/// Whether masks allow a text, cut as the model's tokenizer cuts it.
///
/// # Panics
/// If a mask and what is taken disagree.
pub(crate) fn admits(constraint: &Constraint, tokenizer: &Tokenizer, text: &str) -> Admitted {
    let mut state = constraint.start();
    let tokens = tokenizer.encode_plain(text);
    for (at, &token) in tokens.iter().enumerate() {
        let mask = state.mask();
        let taken = state.advance(token);
        if let Some(failure) = state.failure() {
            return Admitted::Failed(failure.clone());
        }
        assert_eq!(mask.allows(token), taken, "{token} in {text:?}");
        if !taken {
            return Admitted::Until(tokenizer.decode(&tokens[..at]));
        }
    }
    assert_eq!(tokenizer.decode(&tokens), text);
    if state.is_accepting() { Admitted::Whole } else { Admitted::Until(text.to_owned()) }
}

/// A state after some text that it must admit, byte by byte.
pub(crate) fn after(constraint: &Constraint, text: &str) -> Option<ConstraintState> {
    let mut state = constraint.start();
    text.bytes().all(|byte| state.advance(TokenId::from(byte) + 1)).then_some(state)
}
