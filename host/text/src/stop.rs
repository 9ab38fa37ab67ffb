//! Where an output ends: stop strings and stop regexes, found while the text grows.
//!
//! A stop string and all after it is cut, so text that may be its beginning is held back. A stop regex's match is kept,
//! as SGLang does. Among several, the one that is complete first ends the output; the result of strings does not depend
//! on how the text was cut into pieces.
//!
//! Each byte is looked at once by the strings (Knuth, Morris and Pratt's automaton, one per string) and once by a
//! deterministic automaton per regex, which only tells *that* a match ended; where it begins and how far it goes is
//! then asked of the real regex engine, as SGLang asks `re.search` after each token.

use regex_automata::{Input, meta};
use sglhost_core::{Error, StopConditions, TokenId, limits};

use crate::grammar::{
    automaton::{Assertions, Automaton, Id, Table},
    pattern,
};

/// What ended an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// A stop string.
    String,
    /// A stop regex.
    Regex,
}

/// A stop condition that was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopMatch {
    /// Which kind.
    pub kind: StopKind,
    /// The stop string, or the text that the regex matched.
    pub text: String,
    /// Length of the output in bytes: up to the stop string, or up to the end of the regex's match.
    pub cut_at: usize,
}

/// What a piece of text led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StopStep {
    /// Text that may be delivered now: never part of a possible stop string.
    pub emit: String,
    /// Set once the output has ended; nothing more may be pushed.
    pub matched: Option<StopMatch>,
}

/// Watches an output for the stop conditions of its call.
#[derive(Debug)]
pub struct StopMatcher {
    strings: Vec<StopString>,
    regexes: Vec<StopRegex>,
    tokens: Vec<TokenId>,
    /// The end of the output: with regexes all of it, else what is held back.
    text: String,
    /// Where `text` begins in the output.
    start: usize,
    /// How much of the output was delivered.
    delivered: usize,
}

impl StopMatcher {
    /// Compiles the conditions.
    ///
    /// # Errors
    /// [`sglhost_core::ErrorCode::Invalid`] with the place for a regex that is wrong, and for a condition that the
    /// empty text meets; [`sglhost_core::ErrorCode::LimitExceeded`] for a regex that is too large.
    pub fn new(conditions: &StopConditions) -> Result<Self, Error> {
        if conditions.strings.iter().any(String::is_empty) {
            return Err(Error::invalid("a stop string is empty; it would match at once"));
        }
        Ok(Self {
            strings: conditions.strings.iter().map(|string| StopString::new(string)).collect(),
            regexes: conditions.regexes.iter().map(|pattern| StopRegex::new(pattern)).collect::<Result<_, _>>()?,
            tokens: conditions.tokens.clone(),
            text: String::new(),
            start: 0,
            delivered: 0,
        })
    }

    /// Whether a token ends the call. It is not part of the output.
    #[must_use]
    pub fn is_stop_token(&self, token: TokenId) -> bool {
        self.tokens.contains(&token)
    }

    /// Takes the next piece of the output.
    pub fn push(&mut self, piece: &str) -> StopStep {
        let before = self.start + self.text.len();
        self.text.push_str(piece);
        let string = self.strings.iter_mut().filter_map(|string| string.advance(piece, before)).min();
        let regex = self.regexes.iter_mut().filter_map(|regex| regex.advance(&self.text, before)).min();
        let matched = match (string, regex) {
            (Some(string), Some(regex)) if regex.end < string.end => Some((StopKind::Regex, regex)),
            (Some(string), _) => Some((StopKind::String, string)),
            (None, regex) => regex.map(|regex| (StopKind::Regex, regex)),
        };
        let matched = matched.map(|(kind, found)| StopMatch {
            kind,
            text: self.text[found.start - self.start..found.end - self.start].to_owned(),
            cut_at: if kind == StopKind::String { found.start } else { found.end },
        });
        let held = self.strings.iter().map(StopString::held).max().unwrap_or(0);
        let until = matched.as_ref().map_or(before + piece.len() - held, |matched| matched.cut_at);
        StopStep { emit: self.deliver(until), matched }
    }

    /// The output ends without a stop: gives what was held back.
    pub fn finish(&mut self) -> String {
        self.deliver(self.start + self.text.len())
    }

    fn deliver(&mut self, until: usize) -> String {
        // A regex's match may end before what a string held back before.
        let until = until.max(self.delivered);
        let text = self.text[self.delivered - self.start..until - self.start].to_owned();
        self.delivered = until;
        if self.regexes.is_empty() {
            self.text.drain(..until - self.start);
            self.start = until;
        }
        text
    }
}

/// A match within the output, ordered by which is complete first, then by which is longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    end: usize,
    start: usize,
}

/// A stop string and how much of it the output ends with.
#[derive(Debug)]
struct StopString {
    bytes: Vec<u8>,
    /// Of each prefix, the length of its longest proper prefix that it ends with.
    fallback: Vec<usize>,
    matched: usize,
}

impl StopString {
    fn new(text: &str) -> Self {
        let bytes = text.as_bytes().to_vec();
        let mut string = Self { fallback: vec![0; bytes.len()], bytes, matched: 0 };
        for index in 1..string.bytes.len() {
            string.step(string.bytes[index]);
            string.fallback[index] = string.matched;
        }
        string.matched = 0;
        string
    }

    /// Bytes at the end of the output that may be the beginning of the string.
    fn held(&self) -> usize {
        self.matched
    }

    fn step(&mut self, byte: u8) {
        while self.matched > 0 && self.bytes[self.matched] != byte {
            self.matched = self.fallback[self.matched - 1];
        }
        if self.bytes[self.matched] == byte {
            self.matched += 1;
        }
    }

    /// Looks at the next piece, which starts at `before` in the output.
    fn advance(&mut self, piece: &str, before: usize) -> Option<Found> {
        for (index, &byte) in piece.as_bytes().iter().enumerate() {
            self.step(byte);
            if self.matched == self.bytes.len() {
                self.matched = 0;
                let end = before + index + 1;
                return Some(Found { end, start: end - self.bytes.len() });
            }
        }
        None
    }
}

/// A stop regex and the state of the automaton that tells when to ask it.
#[derive(Debug)]
struct StopRegex {
    regex: meta::Regex,
    automaton: Automaton,
    table: Table,
    state: Id,
    idle: Id,
    /// No match that is still possible begins before this byte of the output.
    from: usize,
    /// A match may have ended before, if the assertions after it hold: from where to look.
    undecided: Option<usize>,
}

impl StopRegex {
    fn new(pattern: &str) -> Result<Self, Error> {
        let hir = pattern::parse("stop regex", pattern)?;
        let automaton = Automaton::new(pattern::build(&hir)?, false, Assertions::Assumed, &[true; 256]);
        if automaton.start().is_accepting() {
            return Err(Error::invalid(format!(
                "the stop regex {pattern:?} matches the empty text; it would match at once"
            )));
        }
        let config = meta::Config::new().nfa_size_limit(Some(limits::CONSTRAINT_BYTES_MAX));
        let regex = meta::Builder::new()
            .configure(config)
            .build_from_hir(&hir)
            .map_err(|error| Error::limit(format!("the stop regex {pattern:?}: {error}")))?;
        let mut table = Table::new(&automaton, limits::STOP_REGEX_BYTES_MAX);
        let idle = table.enter(automaton.start());
        Ok(Self { regex, automaton, table, state: idle, idle, from: 0, undecided: None })
    }

    /// Looks at what is new in `text`, the whole output: the bytes from `before` on.
    fn advance(&mut self, text: &str, before: usize) -> Option<Found> {
        let mut candidate = self.undecided.take();
        let mut ends = false;
        for (index, &byte) in text.as_bytes().iter().enumerate().skip(before) {
            if self.table.is_full() {
                let mut path = [self.state, self.idle];
                self.table.clear_keeping(&mut path);
                [self.state, self.idle] = path;
            }
            self.state = self.table.step(&self.automaton, self.state, byte);
            if self.table.set(self.state).is_accepting() {
                candidate = candidate.or(Some(self.from));
                ends = true;
            } else if self.state == self.idle {
                self.from = index + 1;
            }
        }
        let from = candidate?;
        let found = self.regex.find(Input::new(text).range(from..));
        if found.is_none() && ends {
            // What follows decides: `end\B`.
            self.undecided = Some(from);
        }
        found.map(|found| Found { end: found.end(), start: found.start() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    /// Pushes `pieces`; gives all text delivered, and the match.
    fn run(strings: &[&str], regexes: &[&str], pieces: &[&str]) -> (String, Option<StopMatch>) {
        let own = |list: &[&str]| list.iter().map(|&item| item.to_owned()).collect();
        let conditions = StopConditions { strings: own(strings), regexes: own(regexes), tokens: vec![7] };
        let mut matcher = StopMatcher::new(&conditions).unwrap();
        let mut text = String::new();
        for piece in pieces {
            let step = matcher.push(piece);
            text += &step.emit;
            // What was delivered never reached into the match: it is exactly what the cut leaves.
            if step.matched.is_some() {
                assert_eq!(step.matched.as_ref().map(|matched| matched.cut_at), Some(text.len()));
                return (text, step.matched);
            }
        }
        text += &matcher.finish();
        (text, None)
    }

    fn check_string(strings: &[&str], text: &str, expect: Option<(&str, &str)>) {
        // However the text is cut into pieces, the result is the same.
        let characters: Vec<String> = text.chars().map(String::from).collect();
        for size in 1..=characters.len().max(1) {
            let pieces: Vec<String> = characters.chunks(size).map(|chunk| chunk.concat()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let (output, matched) = run(strings, &[], &pieces);
            let found = matched.as_ref().map(|matched| (output.as_str(), matched.text.as_str()));
            assert_eq!(found, expect, "{strings:?} in {pieces:?}");
            if expect.is_none() {
                assert_eq!(output, text);
            }
        }
    }

    #[test]
    fn strings_are_cut() {
        check_string(&["\n\n"], "one\ntwo\n\nthree", Some(("one\ntwo", "\n\n")));
        check_string(&["\n\n"], "one\ntwo\n", None);
        check_string(&["aab"], "aaab", Some(("a", "aab")));
        check_string(&["abcabd"], "abcabcabd!", Some(("abc", "abcabd")));
        check_string(&["。", "終わり"], "はい終わり。", Some(("はい", "終わり")));
        check_string(&["b", "abc"], "abc", Some(("a", "b")));
        check_string(&["bc", "abc"], "xabc", Some(("x", "abc")));
        check_string(&["stop"], "", None);
    }

    fn check_regex(regexes: &[&str], pieces: &[&str], expect: Option<(&str, &str)>) {
        let (output, matched) = run(&[], regexes, pieces);
        assert_eq!(
            matched.as_ref().map(|matched| (output.as_str(), matched.text.as_str())),
            expect,
            "{regexes:?} in {pieces:?}"
        );
        if expect.is_none() {
            assert_eq!(output, pieces.concat());
        }
    }

    #[test]
    fn regexes_keep_their_match() {
        check_regex(&[r"\d+\."], &["It is 4", "2", ". Then"], Some(("It is 42.", "42.")));
        check_regex(&[r"\d+"], &["It is ", "42 or so"], Some(("It is 42", "42")));
        check_regex(&[r"a|ab"], &["x", "abc"], Some(("xa", "a")));
        check_regex(&[r"end\b"], &["the end", "ing"], Some(("the end", "end")));
        check_regex(&[r"end\B"], &["the end", "ing"], Some(("the end", "end")));
        check_regex(&[r"end\B"], &["the end", " of", " it"], None);
        check_regex(&[r"^b"], &["ab", "b"], None);
        check_regex(&[r"(?i)STOP"], &["don't st", "op now"], Some(("don't stop", "stop")));
        check_regex(&["x+y", "z"], &["xx", "xz", "y"], Some(("xxxz", "z")));
    }

    #[test]
    fn the_first_to_be_complete_ends_the_output() {
        let (output, matched) = run(&["\n"], &[r"\d"], &["a 1\n"]);
        assert_eq!((output.as_str(), matched.unwrap().kind), ("a 1", StopKind::Regex));
        let (output, matched) = run(&["a "], &[r"\d"], &["a 1\n"]);
        assert_eq!((output.as_str(), matched.unwrap().kind), ("", StopKind::String));
        // A regex's match may lie in what a string held back.
        let (output, matched) = run(&["1\n2"], &["\\n"], &["a 1", "\n"]);
        assert_eq!((output.as_str(), matched.unwrap().cut_at), ("a 1\n", 4));
    }

    #[test]
    fn a_bad_condition_is_named_with_its_place() {
        let check = |regex: &str, part: &str| {
            let conditions = StopConditions { regexes: vec![regex.to_owned()], ..StopConditions::default() };
            let error = StopMatcher::new(&conditions).unwrap_err().to_string();
            assert!(error.contains(part), "{regex}: {error}");
        };
        check("a(b", "column 2");
        check("a*", "matches the empty text");
        check("(?:a{1000}){1000}", "larger than");
    }

    #[test]
    fn tokens_are_the_callers_business() {
        let conditions = StopConditions { tokens: vec![7], ..StopConditions::default() };
        let matcher = StopMatcher::new(&conditions).unwrap();
        assert!(matcher.is_stop_token(7) && !matcher.is_stop_token(8));
    }
}
