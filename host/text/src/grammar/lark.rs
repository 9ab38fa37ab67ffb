//! A grammar in Lark's notation.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use serde_json::Value;
use sglhost_core::{Error, limits};

use super::{
    context_free::{ContextFree, check_definitions},
    json_schema,
};
use crate::Tokenizer;

/// Compiles a grammar.
pub(super) fn compile(grammar: &str, tokenizer: &Arc<Tokenizer>) -> Result<ContextFree, Error> {
    let max = limits::LARK_BYTES_MAX;
    if grammar.len() > max {
        return Err(Error::limit(format!("Lark: {} bytes; the limit is {max} (LARK_BYTES_MAX)", grammar.len())));
    }
    check_definitions(grammar, "Lark")?;
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
fn with_schemas(grammar: &str) -> Result<String, Error> {
    const MARK: &str = "%json";
    let mut out = String::with_capacity(grammar.len());
    let mut rest = grammar;
    while let Some(at) = rest.find(MARK) {
        let (before, after) = rest.split_at(at + MARK.len());
        out.push_str(before);
        rest = after;
        // Within a literal it is text.
        let line = out.rsplit('\n').next().unwrap_or_default();
        let quotes = line.replace("\\\\", "").replace("\\\"", "").matches('"').count();
        let mut values = serde_json::Deserializer::from_str(after).into_iter::<Value>();
        if quotes.is_multiple_of(2)
            && let Some(Ok(schema @ Value::Object(_))) = values.next()
        {
            let length = values.byte_offset();
            let schema = json_schema::written_in_one_line(schema, "Lark, %json")?.to_string();
            out.push_str(" {");
            out.extend(after[..length].matches('\n'));
            out.push_str(schema.strip_prefix('{').unwrap_or(&schema));
            rest = &after[length..];
        }
    }
    out.push_str(rest);
    Ok(out)
}
