//! A JSON Schema → its grammar: what JSON the host has models write, and what a schema is refused for.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};
use sglhost_core::{Error, ErrorCode, limits};

use super::context_free::ContextFree;
use crate::Tokenizer;

/// Where a schema may say otherwise how JSON is written; `llguidance`'s own keyword.
const OPTIONS: &str = "x-guidance";

/// Compiles a schema.
pub(super) fn compile(schema: &str, tokenizer: &Arc<Tokenizer>) -> Result<ContextFree, Error> {
    let schema = parse(schema, "JSON Schema")?;
    ContextFree::new(TopLevelGrammar::from_json_schema(schema), tokenizer, |message| explain("JSON Schema", message))
}

/// Reads a schema, within its limits. `what` names it in errors.
pub(super) fn parse(text: &str, what: &str) -> Result<Value, Error> {
    let max = limits::GRAMMAR_BYTES_MAX;
    if text.len() > max {
        return Err(Error::limit(format!("{what}: {} bytes; the limit is {max} (GRAMMAR_BYTES_MAX)", text.len())));
    }
    let schema: Value =
        serde_json::from_str(text).map_err(|error| Error::invalid(format!("{what}: not JSON: {error}")))?;
    written_in_one_line(schema, what)
}

/// The schema with the host's way to write JSON, where it does not name another.
pub(super) fn written_in_one_line(mut schema: Value, what: &str) -> Result<Value, Error> {
    match &mut schema {
        // `true` admits anything, and has no place for options.
        Value::Bool(true) => schema = json!({}),
        Value::Bool(false) => return Err(Error::invalid(format!("{what}: `false` admits nothing"))),
        Value::Object(_) => {}
        _ => return Err(Error::invalid(format!("{what}: a schema is an object, `true` or `false`"))),
    }
    let defaults = json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
    let options = &mut schema[OPTIONS];
    match (defaults, &mut *options) {
        (defaults, Value::Null) => *options = defaults,
        (Value::Object(defaults), Value::Object(options)) => {
            for (name, value) in defaults {
                options.entry(name).or_insert(value);
            }
        }
        _ => return Err(Error::invalid(format!("{what}: {OPTIONS} is an object"))),
    }
    Ok(schema)
}

/// A complaint about a schema, under the code that says whose fault it is.
pub(super) fn explain(what: &str, message: &str) -> Error {
    // `llguidance` says "Unimplemented keys: [...]" and the like.
    let unsupported = ["Unimplemented", "not supported", "not implemented", "Unknown format"];
    let code =
        if unsupported.iter().any(|word| message.contains(word)) { ErrorCode::Unsupported } else { ErrorCode::Invalid };
    Error::new(code, format!("{what}: {message}"))
}
