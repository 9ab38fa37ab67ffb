//! Constraints against brute force: every token sequence over a small vocabulary is allowed exactly if it can still
//! become a match.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeSet, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use regex_automata::{Anchored, Input, meta};
use sglhost_core::{ErrorCode, TokenId, TokenMask};

use super::{
    constraint::{Constraint, ConstraintState},
    pattern,
    regular::{MemoryLimits, Regular},
};
use crate::{GgufVocabulary, Tokenizer};

const EOS: TokenId = 0;

/// A vocabulary of `<eos>`, `<x>` (a control token), and these tokens in SentencePiece's spelling.
fn tokenizer(tokens: &[&str]) -> Arc<Tokenizer> {
    let all: Vec<String> = ["<eos>", "<x>"].iter().chain(tokens).map(|&token| token.to_owned()).collect();
    let byte = |token: &str| if token.starts_with("<0x") { 6 } else { 1 };
    let types = [3, 3].into_iter().chain(tokens.iter().map(|token| byte(token))).collect();
    Arc::new(
        Tokenizer::from_gguf(GgufVocabulary {
            model: "llama".to_owned(),
            scores: vec![0.0; all.len()],
            token_types: types,
            tokens: all,
            eos: Some(EOS),
            ..GgufVocabulary::default()
        })
        .unwrap(),
    )
}

/// Every byte a token of its own, and some longer ones, one of them twice and one that ends within a character.
fn rich() -> Arc<Tokenizer> {
    let mut tokens = vec!["a", "b", "c", "ab", "bc", "abc", "ba", "aa", "A", "é", "日本", "\n", "1", "12"];
    let bytes: Vec<String> = (0..=255u8).map(|byte| format!("<0x{byte:02X}>")).collect();
    tokens.extend(bytes.iter().map(String::as_str));
    tokenizer(&tokens)
}

/// What brute force tries: all strings of up to `length` of these pieces.
fn strings(pieces: &[&str], length: usize) -> BTreeSet<String> {
    let mut all = BTreeSet::from([String::new()]);
    let mut last = all.clone();
    for _ in 0..length {
        last = last.iter().flat_map(|start| pieces.iter().map(move |piece| format!("{start}{piece}"))).collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// Another engine's answer to whether a whole text matches.
fn whole(pattern: &str) -> impl Fn(&str) -> bool {
    let regex = meta::Regex::new(&format!(r"\A(?:{pattern})\z")).unwrap();
    move |text| regex.is_match(Input::new(text).anchored(Anchored::Yes))
}

/// All beginnings of `texts`, where tokens can spell what comes after.
fn beginnings(texts: &BTreeSet<String>, tokens: &[&[u8]]) -> HashSet<Vec<u8>> {
    let mut all = HashSet::new();
    for text in texts.iter().map(String::as_bytes) {
        let mut spelled = vec![false; text.len() + 1];
        spelled[text.len()] = true;
        for at in (0..=text.len()).rev() {
            let next = |token: &&[u8]| !token.is_empty() && text[at..].starts_with(token) && spelled[at + token.len()];
            if spelled[at] || tokens.iter().any(next) {
                spelled[at] = true;
                all.insert(text[..at].to_vec());
            }
        }
    }
    all
}

/// A pattern whose memory has limits of its own.
fn within(pattern: &str, tokenizer: &Arc<Tokenizer>, limits: MemoryLimits) -> Constraint {
    let language = Regular::within(pattern::regex(pattern).unwrap(), tokenizer, limits).unwrap();
    Constraint::regular(language, tokenizer)
}

/// Compares what masks allow with the language itself, over token sequences of at most [`BYTES_MAX`] bytes.
fn check_within(pattern: &str, tokenizer: &Arc<Tokenizer>, pieces: &[&str], limits: Option<MemoryLimits>) {
    let matches = whole(pattern);
    let tokens: Vec<&[u8]> = (2..tokenizer.vocabulary() as TokenId).map(|token| tokenizer.token_bytes(token)).collect();
    let bytes: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
    let bytes: Vec<&[u8]> = bytes.iter().map(<[u8; 1]>::as_slice).collect();
    let universe = strings(pieces, 7);
    let language: BTreeSet<String> = universe.iter().filter(|text| matches(text)).cloned().collect();
    let known = beginnings(&universe, &bytes);
    let live = beginnings(&language, &tokens);
    let constraint = match limits {
        None => Constraint::regex(pattern, tokenizer).unwrap(),
        Some(limits) => within(pattern, tokenizer, limits),
    };
    let mut reached = BTreeSet::new();
    let mut stack: Vec<(ConstraintState, Vec<u8>)> = vec![(constraint.start(), Vec::new())];
    while let Some((mut state, text)) = stack.pop() {
        let is_match = std::str::from_utf8(&text).is_ok_and(&matches);
        assert_eq!(state.is_accepting(), is_match, "{pattern:?} at {text:?}");
        let mask = state.mask();
        assert_eq!(mask.allows(EOS), is_match, "{pattern:?} at {text:?}");
        assert!(!mask.allows(EOS + 1), "a control token is never allowed");
        if is_match {
            reached.insert(String::from_utf8(text.clone()).unwrap());
        }
        for (token, bytes) in (2..).zip(&tokens) {
            let next: Vec<u8> = [text.as_slice(), bytes].concat();
            // Brute force knows only its own strings.
            if next.len() > BYTES_MAX || !known.contains(&next) {
                continue;
            }
            let expect = live.contains(&next);
            assert_eq!(mask.allows(token), expect, "{pattern:?} at {text:?}, token {bytes:?}");
            let mut after = state.clone();
            assert_eq!(after.advance(token), expect, "{pattern:?} at {text:?}, token {bytes:?}");
            if expect {
                stack.push((after, next));
            }
        }
    }
    assert!(live.contains(&Vec::new()), "{pattern:?} has texts that tokens can spell");
    let spelled = language.into_iter().filter(|text| {
        text.len() <= BYTES_MAX && beginnings(&BTreeSet::from([text.clone()]), &tokens).contains(&Vec::new())
    });
    assert_eq!(reached, spelled.collect(), "{pattern:?}");
}

/// Longest output tried; brute force knows longer ones, so that it sees how these can go on.
const BYTES_MAX: usize = 4;

fn check(pattern: &str, tokenizer: &Arc<Tokenizer>, pieces: &[&str]) {
    check_within(pattern, tokenizer, pieces, None);
    // Forgetting everything at every step changes nothing.
    let forgetful = MemoryLimits { table_bytes: 0, mask_bytes: 0, mask_steps: u64::MAX };
    check_within(pattern, tokenizer, pieces, Some(forgetful));
}

#[test]
fn masks_reach_the_whole_language_and_nothing_else() {
    let tokenizer = rich();
    let patterns = [
        "",
        "a|ab",
        "ab|a",
        "a*",
        "(ab)*c?",
        "a{2,3}|b",
        "(a|b)*abb",
        "[a-c]{0,3}",
        "a||b",
        "(a|ab)(c|bcd?)",
        "a?a?a?aa",
        "[^a]",
        "[^b]{2}",
        "(?i)ab",
        "^a$",
        "^$",
        "a$|b",
        "(^a|b)c",
        "a(^b|c)",
        "(a$|b)c|ab",
        r"\Aab\z",
        "(a*)*b",
        "(?:)*a",
        "(a|b){2}(?:ab)?",
        "(|a)(|b)",
        "a+?b",
        "b*|(ab)+",
    ];
    for pattern in patterns {
        check(pattern, &tokenizer, &["a", "b", "c"]);
    }
}

#[test]
fn multi_byte_characters_are_spelled_whole() {
    let tokenizer = rich();
    for pattern in [".", "..", "é|a", "[é-ë]", "é*a", "[^a]", r"\w{1,2}", "日?a", "(?s).", r"[^\n]"] {
        check(pattern, &tokenizer, &["a", "é", "日", "\n"]);
    }
}

#[test]
fn a_vocabulary_that_lacks_bytes_is_never_led_into_a_dead_end() {
    // "b" and "c" exist only inside longer tokens: after "a" no "b" can follow, though "ab" can be sampled at once.
    let tokenizer = tokenizer(&["a", "ab", "bc", "cc"]);
    for pattern in ["ab?", "a|ab", "abc|a", "a(bc)*c", "(ab)*(bc)*", "a*b|a", "abcc|abc", "(ab|cc)+"] {
        check(pattern, &tokenizer, &["a", "b", "c"]);
    }
    for pattern in ["b", "ac", "x", "abb", "[a&&b]", "a^b", "$a"] {
        let error = Constraint::regex(pattern, &tokenizer).unwrap_err();
        assert!(error.message.contains("matches no text"), "{pattern}: {error}");
    }
}

#[test]
fn choices_are_literal() {
    let tokenizer = rich();
    let own = |choices: &[&str]| choices.iter().map(|&choice| choice.to_owned()).collect::<Vec<_>>();
    let mut state = Constraint::choices(&own(&["a.b", "a", "abc"]), &tokenizer).unwrap().start();
    assert!(state.advance_bytes(b"a") && state.is_accepting() && !state.is_finished());
    assert!(!state.clone().advance_bytes(b"x"));
    assert!(state.advance_bytes(b".b") && state.is_finished());
    assert_eq!(state.mask().iter().collect::<Vec<_>>(), [EOS]);
    assert_eq!(Constraint::choices(&[], &tokenizer).unwrap_err().code, ErrorCode::Invalid);
    assert_eq!(Constraint::choices(&own(&["a"; 2000]), &tokenizer).unwrap_err().code, ErrorCode::Invalid);
}

#[test]
fn a_refused_token_changes_nothing() {
    let tokenizer = rich();
    let token = |text: &str| tokenizer.encode_plain(text).last().copied().unwrap();
    let mut state = Constraint::regex("ab+", &tokenizer).unwrap().start();
    assert!(
        !state.advance(EOS) && !state.advance(EOS + 1) && !state.advance(token("b")) && !state.advance(TokenId::MAX)
    );
    assert!(!state.advance_bytes(b"ac") && state.advance_bytes(b""));
    assert!(state.advance_bytes(b"a") && !state.is_accepting());
    let mut fork = state.clone();
    assert!(fork.advance_bytes(b"bb") && fork.is_accepting() && !fork.is_finished() && fork.advance(EOS));
    assert!(!state.is_accepting() && !state.advance(EOS) && state.advance_bytes(b"b"));
}

#[test]
fn errors_point_at_the_place_or_name_the_limit() {
    let tokenizer = rich();
    let check = |pattern: &str, code: ErrorCode, parts: &[&str]| {
        let error = Constraint::regex(pattern, &tokenizer).unwrap_err();
        assert_eq!(error.code, code, "{pattern}: {error}");
        for part in parts {
            assert!(error.message.contains(part), "{pattern}: {error}");
        }
    };
    check("ab(c", ErrorCode::Invalid, &["unclosed group", "(column 3)", "\n    ab(c\n      ^"]);
    check("a\nb[", ErrorCode::Invalid, &["line 2, column 2", "\n    b[\n     ^"]);
    check(r"a(?=b)", ErrorCode::Invalid, &["look-ahead", "column 2"]);
    check(r"(a)\1", ErrorCode::Invalid, &["backreferences", "column 4"]);
    check(r"日本\q", ErrorCode::Invalid, &["column 3"]);
    check(r"\p{Foo}", ErrorCode::Invalid, &["Unicode property", "column 1"]);
    check(r"a\bb", ErrorCode::Invalid, &["word boundaries", "column 2"]);
    check("(?m)^a$", ErrorCode::Invalid, &["multi-line", "column 5"]);
    check(&format!("{}(", "x".repeat(500)), ErrorCode::Invalid, &["column 501", "^"]);
    check(r"(\w{100}){1000}", ErrorCode::LimitExceeded, &["larger than 16 MiB"]);
    check(&"a".repeat(100_000), ErrorCode::LimitExceeded, &["100000 bytes", "65536"]);
}

#[test]
fn a_mask_that_takes_too_long_is_an_error() {
    let tokenizer = rich();
    let limits = MemoryLimits { table_bytes: 1 << 20, mask_bytes: 1 << 20, mask_steps: 20_000 };
    let constraint = within(".*a.{500}", &tokenizer, limits);
    let mut state = constraint.start();
    for _ in 0..400 {
        assert!(state.advance_bytes(b"a"));
    }
    assert!(state.failure().is_none());
    assert!(state.mask().is_empty());
    assert_eq!(state.failure().unwrap().code, ErrorCode::LimitExceeded);
}

#[test]
fn many_outputs_share_one_constraint() {
    let tokenizer = rich();
    let constraint = Constraint::regex("[abc]*", &tokenizer).unwrap();
    let first = constraint.start().mask();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut state = constraint.clone().start();
                for _ in 0..50 {
                    assert!(state.advance_bytes(b"abc"));
                    assert_eq!(state.mask(), first);
                }
            });
        }
    });
}

#[test]
fn a_mask_that_others_interrupt_is_the_same() {
    let tokenizer = rich();
    let pattern = "(a|b|ab|bc|é)*(a(a|b|c){0,40}|日本)*";
    let texts: Vec<String> = (0..40).map(|length| "abcé".chars().cycle().take(length).collect()).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).filter(|text| !text.contains("ca")).collect();
    let masks = |constraint: &Constraint| -> Vec<Arc<TokenMask>> {
        let state = |text: &str| {
            let mut state = constraint.start();
            state.advance_bytes(text.as_bytes()).then(|| state.mask())
        };
        texts.iter().filter_map(|text| state(text)).collect()
    };
    let expect = masks(&Constraint::regex(pattern, &tokenizer).unwrap());
    // Whoever interrupts may have the memory forget what the mask was built from.
    for table_bytes in [usize::MAX, 2000, 0] {
        let limits = MemoryLimits { table_bytes, mask_bytes: 0, mask_steps: u64::MAX };
        let constraint = within(pattern, &tokenizer, limits);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let mut state = constraint.start();
                        assert!(state.advance_bytes(b"aab") && state.known_mask().is_none());
                        state.forced_tokens(&[]);
                    }
                });
            }
            for _ in 0..4 {
                assert_eq!(masks(&constraint), expect, "{table_bytes}");
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}

/// The seed's regex for a character of Harry Potter.
const CHARACTER: &str = concat!(
    r#"\{\n    "name": "[\w\d\s]{1,16}",\n    "house": "(Gryffindor|Slytherin|Ravenclaw|Hufflepuff)",\n"#,
    r#"    "blood status": "(Pure-blood|Half-blood|Muggle-born)",\n"#,
    r#"    "occupation": "(student|teacher|auror|ministry of magic|death eater|order of the phoenix)",\n"#,
    r#"    "wand": \{\n        "wood": "[\w\d\s]{1,16}",\n        "core": "[\w\d\s]{1,16}",\n"#,
    r#"        "length": [0-9]{1,2}\.[0-9]{0,2}\n    \},\n    "alive": "(Alive|Deceased)",\n"#,
    r#"    "patronus": "[\w\d\s]{1,16}",\n    "bogart": "[\w\d\s]{1,16}"\n\}"#,
);

#[test]
fn any_walk_through_the_seeds_regexes_ends_in_a_match() {
    let tokenizer = rich();
    for pattern in [CHARACTER, r"((25[0-5]|2[0-4]\d|[01]?\d\d?).){3}(25[0-5]|2[0-4]\d|[01]?\d\d?)"] {
        let constraint = Constraint::regex(pattern, &tokenizer).unwrap();
        for seed in 0..20u64 {
            let mut random = seed;
            let mut state = constraint.start();
            let mut text = Vec::new();
            while !state.is_finished() {
                let mask = state.mask();
                let allowed: Vec<TokenId> = mask.iter().filter(|&token| token != EOS).collect();
                // A multiplicative generator: the walk only has to be varied, and the same each time.
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let token = allowed[(random >> 33) as usize % allowed.len()];
                assert!(state.advance(token), "seed {seed}");
                text.extend_from_slice(tokenizer.token_bytes(token));
            }
            let text = String::from_utf8(text).unwrap();
            assert!(whole(pattern)(&text), "seed {seed}: {text:?}");
        }
    }
}
