//! Regular expressions, against PCRE2.

use std::collections::BTreeSet;

use pcre2::bytes::{Regex, RegexBuilder};
use sglhost_core::TokenId;
use sglhost_text::Constraint;

use crate::walk::{self, Walk, bytes_tokenizer, tokenizer};

/// Walks for each pattern.
const SEEDS: u64 = 6;

/// The patterns of `data/regexes.txt`.
pub(crate) fn patterns() -> Vec<&'static str> {
    include_str!("data/regexes.txt").lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).collect()
}

/// PCRE2's reading of a pattern, over a whole text.
fn whole(pattern: &str) -> Regex {
    let pattern = format!(r"\A(?:{pattern})\z");
    RegexBuilder::new().utf(true).ucp(true).build(&pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"))
}

#[test]
fn any_walk_ends_in_what_another_engine_matches() {
    let patterns = patterns();
    let distinct: BTreeSet<&str> = patterns.iter().copied().collect();
    assert_eq!(distinct.len(), patterns.len(), "a pattern is there twice");
    assert!(patterns.len() >= 200, "{} patterns", patterns.len());
    let (mut walks, mut given_up, mut differ) = (0, 0, Vec::new());
    for pattern in &patterns {
        let constraint = Constraint::regex(pattern, tokenizer()).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        let other = whole(pattern);
        for seed in 0..SEEDS {
            walks += 1;
            match walk::uniform(&constraint, tokenizer(), seed, pattern) {
                Walk::Ended { text, .. } if other.is_match(text.as_bytes()).unwrap() => {}
                Walk::Ended { text, .. } => differ.push(format!("{pattern}: {text:?}")),
                Walk::GivenUp => given_up += 1,
                Walk::Failed(error) => panic!("{pattern}: {error}"),
            }
        }
    }
    println!("{} patterns, {walks} walks, {given_up} given up", patterns.len());
    assert!(differ.is_empty(), "{} outputs that PCRE2 does not match:\n{}", differ.len(), differ.join("\n"));
}

/// Languages of at most 5000 texts, each with the characters and the length that candidates are made of.
const FINITE: [(&str, &str, usize); 44] = [
    ("", "ab", 2),
    ("a", "ab", 3),
    ("a|b|ab", "ab", 3),
    ("a|ab|abc", "abc", 4),
    ("(a|ab)(c|bcd)", "abcd", 5),
    ("(a|ab)(c|bcd)(d?)", "abcd", 6),
    ("a?", "ab", 2),
    ("a{2,4}", "ab", 5),
    ("[ab]{0,5}", "abc", 6),
    ("[abc]{1,4}", "abcd", 5),
    ("[^abc\\x00-\\x60\\x67-\\x{10FFFF}]", "abcdef", 2),
    ("(a?){3}a{3}", "ab", 7),
    ("(a|b)?(c|d)?", "abcd", 3),
    ("a??b", "ab", 3),
    ("a{1,3}?b?", "ab", 5),
    ("(?:foo|foobar)(?:bar)?", "fobar", 6),
    ("[0-9]", "0123456789a", 2),
    ("0[1-9]|1[0-2]", "0123456789", 3),
    ("(?:0?[1-9]|[12][0-9]|3[01])", "0123456789", 3),
    ("25[0-5]|2[0-4][0-9]|[01]?[0-9][0-9]?", "0123456789", 4),
    ("(?:[01][0-9]|2[0-3]):[0-5][0-9]", "012345:69", 5),
    ("[1-5]0{0,2}", "0123456", 4),
    ("-?(?:0|[1-3][0-9]?)", "-0123456789", 3),
    ("(?i)ab", "abAB", 3),
    ("(?i:a)b", "abAB", 3),
    ("a(?i)b", "abAB", 3),
    ("^a$", "a\n", 3),
    ("^(?:ab)?$", "ab\n", 3),
    ("\\Aa\\z|b", "ab\n", 3),
    ("^a|b$", "ab", 3),
    ("(^a|b)c?", "abc", 3),
    ("a(?:b$|c)d?", "abcd", 4),
    ("(|a)(|b)", "ab", 3),
    ("a||b", "ab", 2),
    ("(?:a|b|)(?:a|b|)(?:a|b|)", "abc", 4),
    ("[ab]{2}[bc]{2}", "abc", 5),
    ("(?:[ab]{2}|[cd]{3}){1,2}", "abcd", 7),
    ("M{0,2}(?:CM|CD|D?C{0,3})", "MDCX", 7),
    ("\\t|\\n|\\r\\n?", "\t\n\r", 3),
    ("é|è|[ê-ë]", "éèêëe", 2),
    ("日本語?|日", "日本語", 4),
    ("[😀-😃]{1,2}", "😀😁😂😃😄", 3),
    ("[ab]\\x{301}?", "ab\u{301}", 3),
    ("(?:yes|no)(?:, (?:if|but))?", "yes", 4),
];

#[test]
fn a_small_language_is_reached_whole() {
    let mut texts = 0;
    for (pattern, characters, length) in FINITE {
        let other = whole(pattern);
        let mut candidates = BTreeSet::from([String::new()]);
        let mut last = candidates.clone();
        for _ in 0..length {
            last = last.iter().flat_map(|text| characters.chars().map(move |next| format!("{text}{next}"))).collect();
            candidates.extend(last.iter().cloned());
        }
        let expect: BTreeSet<String> =
            candidates.into_iter().filter(|text| other.is_match(text.as_bytes()).unwrap()).collect();
        let constraint = Constraint::regex(pattern, bytes_tokenizer()).unwrap();
        let reached = language(&constraint);
        for text in &reached {
            assert!(other.is_match(text.as_bytes()).unwrap(), "{pattern}: {text:?} is no match");
        }
        // The language may hold texts of characters that no candidate has.
        let of_characters = |text: &&String| {
            text.chars().all(|character| characters.contains(character)) && text.chars().count() <= length
        };
        let reached: BTreeSet<String> = reached.iter().filter(of_characters).cloned().collect();
        texts += reached.len();
        assert_eq!(reached, expect, "{pattern}");
    }
    println!("{} languages, {texts} texts", FINITE.len());
}

/// All outputs, found by following every token that masks allow. Of large languages the first ones.
fn language(constraint: &Constraint) -> BTreeSet<String> {
    const TEXTS_MAX: usize = 60_000;
    let mut texts = BTreeSet::new();
    let mut stack = vec![(constraint.start(), Vec::new())];
    while let Some((mut state, text)) = stack.pop() {
        let mask = state.mask();
        assert!(!mask.is_empty(), "stuck after {text:?}");
        for token in mask.iter() {
            if token == 0 {
                texts.insert(String::from_utf8(text.clone()).unwrap());
                continue;
            }
            let mut next = state.clone();
            assert!(next.advance(token), "{token} is allowed and not taken after {text:?}");
            stack.push((next, [text.as_slice(), &[(token - 1) as u8]].concat()));
        }
        assert!(stack.len() + texts.len() < TEXTS_MAX, "no small language: {:?}", texts.iter().next_back());
    }
    texts
}

/// Which tokens of a byte each may come next.
fn next(text: &str, constraint: &Constraint) -> Vec<TokenId> {
    walk::after(constraint, text).map(|mut state| state.mask().iter().collect()).unwrap_or_default()
}

#[test]
fn the_end_is_allowed_where_the_text_is_a_match_only() {
    let constraint = Constraint::regex("ab?|abc+", bytes_tokenizer()).unwrap();
    let byte = |byte: u8| TokenId::from(byte) + 1;
    assert_eq!(next("", &constraint), [byte(b'a')]);
    assert_eq!(next("a", &constraint), [0, byte(b'b')]);
    assert_eq!(next("ab", &constraint), [0, byte(b'c')]);
    assert_eq!(next("abcc", &constraint), [0, byte(b'c')]);
    assert!(next("b", &constraint).is_empty());
}
