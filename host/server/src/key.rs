//! Keys of tenants: `sgl_`, six characters that name the key, `_`, and 43 that are the secret.
//!
//! # Invariants
//! - A key's text is shown to whoever made it, once; what is kept is its SHA-256. The secret has 256 bits from the
//!   operating system, so that a plain hash is as good as a slow one.
//! - No key is ever printed by `{:?}`.

use std::fmt;

use sglhost_store::KeyRecord;
use sha2::{Digest, Sha256};

const PREFIX: &str = "sgl_";
const ID_CHARACTERS: usize = 6;
/// 62 to the power of 43 is above 2 to the power of 256.
const SECRET_CHARACTERS: usize = 43;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key as its owner presents it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

/// The operating system gave no randomness.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the operating system gives no random numbers: {0}")]
pub struct NoRandomness(getrandom::Error);

impl ApiKey {
    /// A new key, and what is kept of it.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn generate(label: &str, now_ms: u64) -> Result<(Self, KeyRecord), NoRandomness> {
        let id = random_text(ID_CHARACTERS)?;
        let key = Self(format!("{PREFIX}{id}_{}", random_text(SECRET_CHARACTERS)?));
        let record = KeyRecord { id, label: label.to_owned(), sha256: digest(&key.0), created_ms: now_ms };
        Ok((key, record))
    }

    /// Its text, to be shown once.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// What is kept of a key, and what it is looked up by.
#[must_use]
pub fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Characters of the alphabet, each as likely as any other.
fn random_text(length: usize) -> Result<String, NoRandomness> {
    /// The largest multiple of the alphabet's size that a byte can be below.
    const FAIR: u8 = (256 / ALPHABET.len() * ALPHABET.len()) as u8;
    let (mut text, mut bytes) = (String::with_capacity(length), [0; 64]);
    while text.len() < length {
        getrandom::fill(&mut bytes).map_err(NoRandomness)?;
        let fair = bytes.iter().filter(|&&byte| byte < FAIR);
        let missing = length - text.len();
        text.extend(fair.take(missing).map(|&byte| char::from(ALPHABET[usize::from(byte) % ALPHABET.len()])));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_key_has_its_form_and_is_found_by_its_digest() {
        let (key, record) = ApiKey::generate("ci", 7).unwrap();
        let parts: Vec<&str> = key.text().split('_').collect();
        assert_eq!((parts[0], parts[1], parts[2].len()), ("sgl", record.id.as_str(), SECRET_CHARACTERS));
        assert!(parts[1..].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_alphanumeric())));
        assert_eq!((record.sha256, record.created_ms), (digest(key.text()), 7));
        assert_eq!(format!("{key:?}"), "ApiKey(…)");
    }

    #[test]
    fn keys_differ_and_use_the_whole_alphabet() {
        let keys: BTreeSet<String> = (0..200).map(|_| ApiKey::generate("", 0).unwrap().0.0).collect();
        assert_eq!(keys.len(), 200);
        let used: BTreeSet<u8> = keys.iter().flat_map(|key| key.bytes().skip(PREFIX.len())).collect();
        assert!(ALPHABET.iter().all(|byte| used.contains(byte)));
    }
}
