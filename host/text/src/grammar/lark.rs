//! A grammar in Lark's notation.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use serde_json::Value;
use sglhost_core::{Error, limits};

use super::{
    context_free::{ContextFree, check_text},
    json_schema,
};
use crate::Tokenizer;

/// Compiles a grammar.
pub(super) fn compile(grammar: &str, tokenizer: &Arc<Tokenizer>) -> Result<ContextFree, Error> {
    check_text(grammar, "Lark", (limits::LARK_BYTES_MAX, "LARK_BYTES_MAX"))?;
    // Those in literals are counted too: few grammars have more.
    let (meeting, max) = (grammar.matches('&').count(), limits::GRAMMAR_PATTERNS_MEETING_MAX);
    if meeting > max {
        return Err(Error::limit(format!(
            "Lark: {meeting} times `&`; the limit is {max} (GRAMMAR_PATTERNS_MEETING_MAX)"
        )));
    }
    let grammar = with_schemas(grammar)?;
    ContextFree::new(TopLevelGrammar::from_lark(grammar), tokenizer, |message| json_schema::explain("Lark", message))
}

/// The grammar with its JSON Schemas (`%json {…}`) as the host takes schemas, each on as many lines as before.
///
/// Finds what `llguidance`'s lexer takes for `%json`: that is where no literal, expression, comment or other JSON is. What
/// the lexer would not take at all is refused, so that nothing passes for one of these.
fn with_schemas(grammar: &str) -> Result<String, Error> {
    let mut out = String::with_capacity(grammar.len());
    let mut rest = grammar;
    while let Some(first) = rest.chars().next() {
        let takes_json = ["%json", "%regex", "%llguidance"].into_iter().find(|keyword| rest.starts_with(keyword));
        let length = match (first, takes_json) {
            (_, Some(keyword)) => {
                let after = &rest[keyword.len()..];
                let mut values = serde_json::Deserializer::from_str(after).into_iter::<Value>();
                let value = match values.next() {
                    Some(Ok(value)) => value,
                    Some(Err(error)) => return Err(invalid(grammar, rest, &format!("{keyword}: not JSON: {error}"))),
                    None => return Err(invalid(grammar, rest, &format!("{keyword} without JSON"))),
                };
                let (json, after) = after.split_at(values.byte_offset());
                out.push_str(keyword);
                if keyword == "%json" {
                    let schema = json_schema::written_in_one_line(value, "Lark, %json")?.to_string();
                    out.push_str(" {");
                    out.extend(json.matches('\n'));
                    out.push_str(schema.strip_prefix('{').unwrap_or(&schema));
                } else {
                    out.push_str(json);
                }
                rest = after;
                continue;
            }
            ('#', _) => rest.find('\n').unwrap_or(rest.len()),
            ('/', _) if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            ('"' | '/', _) => closed(rest, first).ok_or_else(|| {
                let what = if first == '"' { "a literal" } else { "an expression" };
                invalid(grammar, rest, &format!("{what} has no end"))
            })?,
            ('<', _) => {
                let end =
                    rest.char_indices().skip(1).find(|(_, other)| matches!(other, '<' | '>') || other.is_whitespace());
                let end = end.filter(|(_, other)| *other == '>');
                end.ok_or_else(|| invalid(grammar, rest, "a token's name has no `>`"))?.0 + 1
            }
            _ => first.len_utf8(),
        };
        let (done, after) = rest.split_at(length);
        out.push_str(done);
        rest = after;
    }
    Ok(out)
}

/// Bytes of a literal or an expression, with its marks; nothing where it does not end.
fn closed(text: &str, mark: char) -> Option<usize> {
    let mut escaped = false;
    let (end, _) = text.char_indices().skip(1).find(|(_, character)| {
        let ends = *character == mark && !escaped;
        escaped = *character == '\\' && !escaped;
        ends
    })?;
    Some(end + mark.len_utf8())
}

fn invalid(grammar: &str, rest: &str, message: &str) -> Error {
    let before = &grammar[..grammar.len() - rest.len()];
    let (line, column) = (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default().len() + 1);
    Error::invalid(format!("Lark: at {line}({column}): {message}"))
}
