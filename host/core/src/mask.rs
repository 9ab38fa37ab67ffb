//! Which tokens may come next: a bit a token, packed as the sampler reads it.

use crate::TokenId;

/// A set of allowed tokens; bit `i % 32` of word `i / 32` is token `i`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
    vocabulary: usize,
}

impl TokenMask {
    /// A mask that allows nothing.
    #[must_use]
    pub fn none(vocabulary: usize) -> Self {
        Self { words: vec![0; vocabulary.div_ceil(32)], vocabulary }
    }

    /// A mask that allows every token.
    #[must_use]
    pub fn all(vocabulary: usize) -> Self {
        let mut mask = Self { words: vec![u32::MAX; vocabulary.div_ceil(32)], vocabulary };
        let tail = vocabulary % 32;
        if let (Some(last), true) = (mask.words.last_mut(), tail != 0) {
            *last = (1 << tail) - 1;
        }
        mask
    }

    /// A mask of packed words; those that lack allow nothing, and bits past the vocabulary are dropped.
    #[must_use]
    pub fn from_words(words: &[u32], vocabulary: usize) -> Self {
        let mut mask = Self::none(vocabulary);
        let count = words.len().min(mask.words.len());
        mask.words[..count].copy_from_slice(&words[..count]);
        if let (Some(last), true) = (mask.words.last_mut(), !vocabulary.is_multiple_of(32)) {
            *last &= (1 << (vocabulary % 32)) - 1;
        }
        mask
    }

    /// How many tokens the mask speaks of.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Allows `token`. A token outside the vocabulary is ignored: models pad their embedding.
    pub fn allow(&mut self, token: TokenId) {
        if (token as usize) < self.vocabulary {
            self.words[token as usize / 32] |= 1 << (token % 32);
        }
    }

    /// Forbids `token`.
    pub fn forbid(&mut self, token: TokenId) {
        if (token as usize) < self.vocabulary {
            self.words[token as usize / 32] &= !(1 << (token % 32));
        }
    }

    /// Whether `token` is allowed.
    #[must_use]
    pub fn allows(&self, token: TokenId) -> bool {
        (token as usize) < self.vocabulary && self.words[token as usize / 32] & (1 << (token % 32)) != 0
    }

    /// Whether nothing is allowed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|&word| word == 0)
    }

    /// How many tokens are allowed.
    #[must_use]
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The packed words, `ceil(vocabulary / 32)` of them; bits past the vocabulary are zero.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The allowed tokens in increasing order.
    pub fn iter(&self) -> impl Iterator<Item = TokenId> + '_ {
        self.words.iter().enumerate().flat_map(|(index, &word)| {
            std::iter::successors((word != 0).then_some(word), |&rest| {
                let rest = rest & (rest - 1);
                (rest != 0).then_some(rest)
            })
            .map(move |rest| index as u32 * 32 + rest.trailing_zeros())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_allows_exactly_the_vocabulary() {
        for vocabulary in [1, 31, 32, 33, 49_152] {
            let mask = TokenMask::all(vocabulary);
            assert_eq!(mask.count(), vocabulary);
            assert!(!mask.allows(vocabulary as u32));
        }
    }

    #[test]
    fn words_past_the_vocabulary_are_dropped() {
        let mask = TokenMask::from_words(&[u32::MAX; 3], 40);
        assert_eq!(mask, TokenMask::all(40));
        assert_eq!(TokenMask::from_words(&[1], 40).iter().collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn iter_lists_what_was_allowed() {
        let mut mask = TokenMask::none(100);
        for token in [0, 31, 32, 64, 99, 100] {
            mask.allow(token);
        }
        mask.forbid(32);
        assert_eq!(mask.iter().collect::<Vec<_>>(), [0, 31, 64, 99]);
        assert!(TokenMask::none(100).is_empty());
    }
}
