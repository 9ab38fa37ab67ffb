//! Tokens with a spelling of their own, found in the text before any merge: control tokens and added words.
//!
//! The rules are those of the Hugging Face library: the leftmost longest spelling wins, and a token may swallow the
//! white space beside it (`lstrip`, `rstrip`). One rule is ours: a control token is found only in markup.

use std::collections::HashMap;

use aho_corasick::{AhoCorasick, MatchKind};
use sglhost_core::TokenId;

use crate::{Segment, SegmentKind, TextError};

/// A token that is found by its spelling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AddedToken {
    pub id: TokenId,
    pub text: String,
    /// Recognised only in markup, never sampled under a constraint.
    pub control: bool,
    /// Swallows white space to its left.
    pub strip_left: bool,
    /// Swallows white space to its right.
    pub strip_right: bool,
}

impl AddedToken {
    /// Whether a token that its file does not call special is one all the same: `<tool_call>`, `<|user|>`,
    /// `[/INST]`, `<｜User｜>`. What files call special is whatever their authors ticked; what user text must not forge
    /// is anything that looks like markup. Added words and runs of white space (Gemma's `"\n\n"`) are text.
    pub(crate) fn looks_like_markup(text: &str) -> bool {
        text.contains(['<', '>', '[', ']', '|', '｜'])
    }
}

/// A piece of text after added tokens were taken out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Text between two added tokens, never empty.
    Text(&'a str),
    /// An added token.
    Token(TokenId),
}

/// All added tokens of a vocabulary.
#[derive(Debug)]
pub(crate) struct AddedTokens {
    tokens: Vec<AddedToken>,
    by_id: HashMap<TokenId, usize>,
    by_text: HashMap<String, usize>,
    spellings: AhoCorasick,
}

impl AddedTokens {
    /// Builds the matcher. Of two tokens with one spelling the later wins, as in the Hugging Face library.
    pub(crate) fn new(mut tokens: Vec<AddedToken>) -> Result<Self, TextError> {
        tokens.retain(|token| !token.text.is_empty());
        let by_text: HashMap<String, usize> =
            tokens.iter().enumerate().map(|(index, token)| (token.text.clone(), index)).collect();
        let by_id = tokens.iter().enumerate().map(|(index, token)| (token.id, index)).collect();
        let spellings = AhoCorasick::builder()
            .match_kind(MatchKind::Standard)
            .build(tokens.iter().map(|token| &token.text))
            .map_err(|error| TextError::malformed("added tokens", error))?;
        Ok(Self { tokens, by_id, by_text, spellings })
    }

    pub(crate) fn by_id(&self, id: TokenId) -> Option<&AddedToken> {
        self.by_id.get(&id).map(|&index| &self.tokens[index])
    }

    pub(crate) fn by_text(&self, text: &str) -> Option<&AddedToken> {
        self.by_text.get(text).map(|&index| &self.tokens[index])
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &AddedToken> {
        self.tokens.iter()
    }

    /// Splits `text`, the concatenation of `segments`, at its added tokens.
    pub(crate) fn split<'a>(&self, text: &'a str, segments: &[Segment]) -> Vec<Piece<'a>> {
        let markup = markup_ranges(segments);
        // (start, end, token), found by their end; a control token must lie within markup.
        let mut found: Vec<(usize, usize, usize)> = self
            .spellings
            .find_overlapping_iter(text)
            .map(|found| {
                // Of two tokens with one spelling the automaton reports either: ask the map.
                let index = self.by_text[&self.tokens[found.pattern().as_usize()].text];
                (found.start(), found.end(), index)
            })
            .filter(|&(start, end, index)| {
                let range = markup.partition_point(|range| range.end < end);
                !self.tokens[index].control || markup.get(range).is_some_and(|range| range.start <= start)
            })
            .collect();
        found.sort_by_key(|&(start, end, _)| (start, std::cmp::Reverse(end)));

        let mut pieces = Vec::new();
        let mut at = 0;
        for (mut start, mut end, index) in found {
            if start < at {
                continue;
            }
            let token = &self.tokens[index];
            if token.strip_left {
                start = at + text[at..start].trim_end().len();
            }
            if token.strip_right {
                end = text.len() - text[end..].trim_start().len();
            }
            if start > at {
                pieces.push(Piece::Text(&text[at..start]));
            }
            pieces.push(Piece::Token(token.id));
            at = end;
        }
        if at < text.len() {
            pieces.push(Piece::Text(&text[at..]));
        }
        pieces
    }
}

/// Byte ranges of markup in the concatenation of `segments`; neighbours are merged.
fn markup_ranges(segments: &[Segment]) -> Vec<std::ops::Range<usize>> {
    let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
    let mut at = 0;
    for segment in segments {
        let end = at + segment.text.len();
        if segment.kind == SegmentKind::Markup {
            match ranges.last_mut() {
                Some(last) if last.end == at => last.end = end,
                _ => ranges.push(at..end),
            }
        }
        at = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn token(id: TokenId, text: &str, control: bool) -> AddedToken {
        AddedToken { id, text: text.to_owned(), control, strip_left: false, strip_right: false }
    }

    fn check(segments: &[Segment], expect: &[Piece<'_>]) {
        let added = AddedTokens::new(vec![
            token(1, "<a>", true),
            token(2, "<a><b>", true),
            token(3, "\n\n", false),
            token(4, "\n\n\n", false),
            AddedToken { strip_left: true, strip_right: true, ..token(5, "<s>", true) },
        ])
        .unwrap();
        let text: String = segments.iter().map(|segment| segment.text.as_str()).collect();
        assert_eq!(added.split(&text, segments), expect, "{segments:?}");
    }

    #[test]
    fn control_tokens_are_found_in_markup_only() {
        use Piece::{Text, Token};
        check(&[Segment::plain("x<a>y")], &[Text("x<a>y")]);
        check(&[Segment::markup("x<a>y")], &[Text("x"), Token(1), Text("y")]);
        check(&[Segment::markup("<a><b>")], &[Token(2)]);
        check(&[Segment::markup("<a"), Segment::markup("><b>")], &[Token(2)]);
        check(&[Segment::markup("<a><"), Segment::plain("b>")], &[Token(1), Text("<b>")]);
        check(&[Segment::plain("<"), Segment::markup("a>")], &[Text("<a>")]);
        check(&[Segment::plain("a\n\n\n\n\nb")], &[Text("a"), Token(4), Token(3), Text("b")]);
        check(
            &[Segment::plain("a \n"), Segment::markup("<s> "), Segment::plain(" b")],
            &[Text("a"), Token(5), Text("b")],
        );
        check(&[], &[]);
    }
}
