//! A JSON Schema → its grammar: what JSON the host has models write, and what a schema is refused for.
//!
//! `llguidance` implements the keywords. Before it sees a schema, what it would pass over is refused by name, and what it
//! would admit too much for is made stricter ([`prepare`]). `tests/structured` holds both against a validator.

use std::{collections::HashSet, sync::Arc};

use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};
use sglhost_core::{Error, ErrorCode, limits};

use super::context_free::{ContextFree, check_definitions};
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
    check_definitions(text, what)?;
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
    let speaks_of_controls = speaks_of_controls(&schema);
    prepare(&mut schema).map_err(|error| Error::new(error.code, format!("{what}: {}", error.message)))?;
    let defaults = json!({
        "whitespace_flexible": false,
        "item_separator": ", ",
        "key_separator": ": ",
        // With `u` a name spelled with `\u0061` would pass for another than `a`. Without it there is no control character.
        "json_allowed_escapes": if speaks_of_controls { "nrbtf\\\"u" } else { "nrbtf\\\"" },
    });
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

/// Whether a text or an expression in the schema may hold a control character that JSON has no short escape for.
/// `llguidance` would leave it out where it may not be escaped.
fn speaks_of_controls(schema: &Value) -> bool {
    let text = schema.to_string();
    let escapes = [r"\u00", r"\\x", r"\\u", r"\\v", r"\\a", r"\\0", r"\\c", "\u{7f}"];
    escapes.iter().any(|escape| text.contains(escape))
}

/// A complaint about a schema, under the code that says whose fault it is.
pub(super) fn explain(what: &str, message: &str) -> Error {
    // `llguidance` says "Unimplemented keys: [...]" and the like.
    let unsupported = [
        "Unimplemented",
        "not supported",
        "only supported",
        "not implemented",
        "Unknown format",
        "not disjoint",
        "are disjoint",
        "does not fetch",
    ];
    let code =
        if unsupported.iter().any(|word| message.contains(word)) { ErrorCode::Unsupported } else { ErrorCode::Invalid };
    Error::new(code, format!("{what}: {message}"))
}

/// Keywords of some draft that are not implemented. `llguidance` refuses them in the drafts that have them, and takes them
/// for comments in the others; but whoever writes one means it.
const NOT_IMPLEMENTED: [&str; 19] = [
    "$dynamicRef",
    "$recursiveRef",
    "contains",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "disallow",
    "divisibleBy",
    "else",
    "extends",
    "if",
    "maxContains",
    "minContains",
    "not",
    "propertyNames",
    "then",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
];

/// Keywords whose value is a map of schemas: its keys are names.
const MAPS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Keywords whose value is a schema or a list of them.
const SCHEMAS: [&str; 7] =
    ["allOf", "anyOf", "oneOf", "items", "prefixItems", "additionalItems", "additionalProperties"];
/// Keywords that count. Some write a count as `2.0`.
const COUNTS: [&str; 6] = ["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"];

/// What a draft lacks of what is implemented.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Draft {
    /// Draft 4 and older.
    WithoutConst,
    /// Drafts 6 to 2019-09.
    WithoutPrefixItems,
    Newest,
}

impl Draft {
    fn of(schema: &Value) -> Self {
        let named = schema["$schema"].as_str().unwrap_or_default();
        let any = |drafts: &[&str]| drafts.iter().any(|draft| named.contains(draft));
        match () {
            () if any(&["draft-03", "draft-04"]) => Self::WithoutConst,
            () if any(&["draft-06", "draft-07", "2019-09"]) => Self::WithoutPrefixItems,
            () => Self::Newest,
        }
    }
}

/// Refuses what would be passed over, and closes what would admit too much, in a schema, in all that it holds, and where
/// its references lead.
fn prepare(schema: &mut Value) -> Result<(), Error> {
    let draft = Draft::of(schema);
    let mut seen = HashSet::from([String::new()]);
    let mut waiting = vec![String::new()];
    let mut divisors = Vec::new();
    let (mut patterns, mut meet) = (0, false);
    while let Some(at) = waiting.pop() {
        if seen.len() > limits::GRAMMAR_SCHEMAS_MAX {
            return Err(Error::limit(format!(
                "more than {} schemas within it (GRAMMAR_SCHEMAS_MAX)",
                limits::GRAMMAR_SCHEMAS_MAX
            )));
        }
        let Some(here) = schema.pointer_mut(&at) else { continue };
        let mut found = Vec::new();
        match here {
            Value::Object(keywords) => {
                meet |= meets(keywords);
                patterns += usize::from(keywords.contains_key("pattern"));
                prepare_one(keywords, draft)?;
                divisors.extend(keywords.get("multipleOf").and_then(Value::as_f64));
                for (keyword, value) in keywords.iter() {
                    let inside = format!("{at}/{}", escaped(keyword));
                    match (keyword.as_str(), value) {
                        ("$ref", Value::String(reference)) => found.extend(reference.strip_prefix('#').map(unescaped)),
                        (keyword, Value::Object(map)) if MAPS.contains(&keyword) => {
                            found.extend(map.keys().map(|name| format!("{inside}/{}", escaped(name))));
                        }
                        (keyword, Value::Object(_) | Value::Array(_)) if SCHEMAS.contains(&keyword) => {
                            found.push(inside)
                        }
                        _ => {}
                    }
                }
            }
            Value::Array(schemas) => found.extend((0..schemas.len()).map(|index| format!("{at}/{index}"))),
            _ => {}
        }
        waiting.extend(found.into_iter().filter(|place| seen.insert(place.clone())));
    }
    let max = limits::GRAMMAR_PATTERNS_MEETING_MAX;
    if meet && patterns > max {
        return Err(Error::limit(format!(
            "{patterns} times `pattern` beside `allOf`, or `anyOf` and `$ref` with others: one text may have to match all; \
             the limit is {max} (GRAMMAR_PATTERNS_MEETING_MAX)"
        )));
    }
    check_divisors(&divisors)
}

/// Whether one value may have to match two schemas.
fn meets(keywords: &Map<String, Value>) -> bool {
    let applied = ["allOf", "anyOf", "oneOf", "$ref"];
    let own = ["pattern", "format", "properties", "patternProperties", "additionalProperties", "items", "prefixItems"];
    let has = |names: &[&str]| names.iter().filter(|name| keywords.contains_key(**name)).count();
    let all = keywords.get("allOf").and_then(Value::as_array).map_or(0, Vec::len);
    all > 1 || has(&applied) > 1 || (has(&applied) == 1 && has(&own) > 0)
}

/// A name within a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A JSON pointer that was part of a URI.
fn unescaped(fragment: &str) -> String {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn prepare_one(keywords: &mut Map<String, Value>, draft: Draft) -> Result<(), Error> {
    // Says nothing, and is refused with the other value.
    keywords.retain(|keyword, value| keyword != "uniqueItems" || value != &Value::Bool(false));
    if let Some(keyword) = NOT_IMPLEMENTED.iter().find(|keyword| keywords.contains_key(**keyword)) {
        return Err(Error::new(ErrorCode::Unsupported, format!("the keyword `{keyword}` is not implemented")));
    }
    let later = [("const", Draft::WithoutPrefixItems), ("prefixItems", Draft::Newest)];
    if let Some((keyword, _)) = later.iter().find(|(keyword, since)| draft < *since && keywords.contains_key(*keyword))
    {
        return Err(Error::new(
            ErrorCode::Unsupported,
            format!("the draft that `$schema` names has no keyword `{keyword}`, which would mean nothing"),
        ));
    }
    refuse_counts_of_names(keywords)?;
    if let Some(number) = ["const", "enum"].iter().filter_map(|keyword| keywords.get(*keyword)).find_map(inexact) {
        return Err(Error::new(ErrorCode::Unsupported, format!("{number} is not exact as a 64-bit float")));
    }
    for count in COUNTS {
        if let Some(value) = keywords.get_mut(count)
            && let Some(number) = value.as_f64().filter(|number| value.is_f64() && number.fract() == 0.0)
            && (0.0..=f64::from(u32::MAX)).contains(&number)
        {
            *value = Value::from(number as u64);
        }
    }
    if let Some(Value::String(pattern)) = keywords.get_mut("pattern") {
        *pattern = with_spaces_of_ecmascript(pattern);
    }
    if let Some(pattern) = keywords.get("format").and_then(Value::as_str).and_then(stricter) {
        match (keywords.contains_key("pattern"), keywords.get_mut("allOf")) {
            (false, _) => drop(keywords.insert("pattern".to_owned(), pattern.into())),
            (true, Some(Value::Array(all))) => all.push(json!({ "pattern": pattern })),
            (true, _) => drop(keywords.insert("allOf".to_owned(), json!([{ "pattern": pattern }]))),
        }
    }
    Ok(())
}

/// Properties that may be counted.
const COUNTED_PROPERTIES_MAX: usize = 200;

/// The grammar counts properties as they are written, and a model may write a name twice that the schema does not list.
fn refuse_counts_of_names(keywords: &Map<String, Value>) -> Result<(), Error> {
    let counted = keywords.contains_key("minProperties") || keywords.contains_key("maxProperties");
    let listed = keywords.get("properties").and_then(Value::as_object).map_or(0, Map::len);
    if counted && listed > COUNTED_PROPERTIES_MAX {
        // The grammar has an alternative for each of them with all the others.
        return Err(Error::limit(format!(
            "`minProperties` and `maxProperties` beside {listed} properties; the limit is {COUNTED_PROPERTIES_MAX}"
        )));
    }
    let least = keywords.get("minProperties").and_then(Value::as_f64).unwrap_or(0.0);
    let required = keywords.get("required").and_then(Value::as_array).map_or(0, Vec::len);
    if least >= 2.0 && least > required as f64 + 1.0 {
        return Err(Error::new(
            ErrorCode::Unsupported,
            "`minProperties` of 2 or more is not supported: a name may be written twice; list names in `required`",
        ));
    }
    Ok(())
}

/// An integer in a value that is compared as a float, and would be taken for another.
fn inexact(value: &Value) -> Option<String> {
    match value {
        Value::Number(number) => {
            let exact = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from))?;
            (exact as f64 as i128 != exact).then(|| number.to_string())
        }
        Value::Array(items) => items.iter().find_map(inexact),
        Value::Object(properties) => properties.values().find_map(inexact),
        _ => None,
    }
}

/// Refuses divisors whose common multiple may not fit where `llguidance` computes it.
fn check_divisors(divisors: &[f64]) -> Result<(), Error> {
    let mut divisors: Vec<f64> =
        divisors.iter().map(|divisor| divisor.abs()).filter(|divisor| *divisor > 0.0).collect();
    divisors.sort_by(f64::total_cmp);
    divisors.dedup();
    let places = |divisor: f64| (0..10).find(|&places| (divisor * 10_f64.powi(places)).fract() == 0.0).unwrap_or(10);
    let most = divisors.iter().map(|&divisor| places(divisor)).max().unwrap_or(0);
    let product: f64 = divisors.iter().map(|divisor| divisor * 10_f64.powi(most)).product();
    if divisors.len() > 1 && product > f64::from(u32::MAX) {
        return Err(Error::limit(format!(
            "{} different values of `multipleOf` whose product is above {}; use fewer or smaller ones",
            divisors.len(),
            u32::MAX
        )));
    }
    Ok(())
}

/// A pattern in which `\s` is what it is in ECMAScript: with U+FEFF and without U+0085, which is Unicode's.
fn with_spaces_of_ecmascript(pattern: &str) -> String {
    const SPACES: &str =
        "\t\n\u{b}\u{c}\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";
    let mut out = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match (character, (character == '\\').then(|| characters.next()).flatten()) {
            ('\\', Some('s')) => out.extend(["[", SPACES, "]"]),
            ('\\', Some('S')) => out.extend(["[^", SPACES, "]"]),
            (character, escaped) => {
                out.push(character);
                out.extend(escaped);
            }
        }
    }
    out
}

/// What `llguidance`'s expression for a format leaves open.
fn stricter(format: &str) -> Option<String> {
    // The 29th of February is in leap years only.
    let date = concat!(
        "(?:[0-9]{4}-(?:0[13-9]|1[0-2])-[0-9]{2}|[0-9]{4}-02-(?:[01][0-9]|2[0-8])|",
        "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
    );
    // A leap second is at the end of some day in UTC, which an expression would have to convert to: there is none.
    let time = "[0-9]{2}:[0-9]{2}:[0-5]";
    // Two hyphens in the third and fourth place mark a name in another encoding, most of which are none.
    let label = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,2}[a-zA-Z0-9]|[a-zA-Z0-9-](?:[a-zA-Z0-9][a-zA-Z0-9-]|-[a-zA-Z0-9])\
                 [a-zA-Z0-9-]{0,58}[a-zA-Z0-9])?";
    match format {
        "date" => Some(format!("^{date}$")),
        "date-time" => Some(format!("^{date}[Tt]{time}")),
        "time" => Some(format!("^{time}")),
        "hostname" => Some(format!("^{label}(?:\\.{label})*$")),
        _ => None,
    }
}
