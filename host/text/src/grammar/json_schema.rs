//! A JSON Schema → its grammar: what JSON the host has models write, and what a schema is refused for.
//!
//! `llguidance` implements the keywords. Before it sees a schema, what it would pass over is refused by name, and what it
//! would admit too much for is made stricter ([`prepare`]). `tests/structured` holds both against a validator.

mod ecmascript;
mod numbers;
mod scan;

use std::{collections::HashSet, sync::Arc};

use llguidance::api::TopLevelGrammar;
use serde_json::{Map, Value, json};
use sglhost_core::{Error, ErrorCode, limits};

use self::{
    numbers::{BOUNDS, INTEGER_MAX, check_numbers, past_integers},
    scan::Scan,
};
use super::context_free::{ContextFree, check_text};
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
    check_text(text, what, (limits::GRAMMAR_BYTES_MAX, "GRAMMAR_BYTES_MAX"))?;
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
    let in_what = |error: Error| Error::new(error.code, format!("{what}: {}", error.message));
    let own = schema.as_object_mut().and_then(|schema| schema.shift_remove(OPTIONS));
    let options = options(own, speaks_of_controls).map_err(in_what)?;
    prepare(&mut schema, speaks_of_controls).map_err(in_what)?;
    schema[OPTIONS] = options;
    Ok(schema)
}

/// How JSON is written: as the schema says, and by default as the host does. `llguidance` has options that weaken a schema,
/// and takes separators for expressions; so only these are taken, and only where they are white space.
fn options(own: Option<Value>, speaks_of_controls: bool) -> Result<Value, Error> {
    let mut options = json!({
        "whitespace_flexible": false,
        "item_separator": ", ",
        "key_separator": ": ",
        // With `u` a name spelled with `\u0061` would pass for another than `a`. Without it there is no control character.
        "json_allowed_escapes": if speaks_of_controls { "nrbtf\\\"u" } else { "nrbtf\\\"" },
    });
    let own = match own {
        None => return Ok(options),
        Some(Value::Object(own)) => own,
        Some(_) => return Err(Error::invalid(format!("{OPTIONS} is an object"))),
    };
    for (name, value) in own {
        let separates = |mark: &str| {
            let max = limits::GRAMMAR_SEPARATOR_BYTES_MAX;
            value.as_str().is_some_and(|text| text.len() <= max && text.trim_matches([' ', '\t', '\n', '\r']) == mark)
        };
        let taken = match name.as_str() {
            "whitespace_flexible" if value.is_boolean() => true,
            "item_separator" => separates(","),
            "key_separator" => separates(":"),
            "whitespace_flexible" => false,
            _ => {
                return Err(Error::new(
                    ErrorCode::Unsupported,
                    format!(
                        "{OPTIONS} has no option `{}`; there are `whitespace_flexible`, `item_separator` and \
                         `key_separator`",
                        shortened(&name)
                    ),
                ));
            }
        };
        if !taken {
            return Err(Error::invalid(format!(
                "{OPTIONS}: {} is no `{name}`: `whitespace_flexible` is true or false, a separator is one `,` or `:` with \
                 white space around it, of at most {} bytes (GRAMMAR_SEPARATOR_BYTES_MAX)",
                shortened(&value.to_string()),
                limits::GRAMMAR_SEPARATOR_BYTES_MAX
            )));
        }
        options[&name] = value;
    }
    Ok(options)
}

/// What an error shows of the author's text.
fn shortened(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    match text.char_indices().nth(CHARACTERS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Whether a text or an expression in the schema may hold a control character that JSON has no short escape for.
/// `llguidance` would leave it out where it may not be escaped.
fn speaks_of_controls(schema: &Value) -> bool {
    let text = schema.to_string();
    let in_json = [r"\u00", "\u{7f}"];
    // In an expression, each `\` of which JSON has as two.
    let in_expressions = [r"x0", r"x1", r"x7", r"u000", r"u001", r"u007", r"u{", r"v", r"0", r"c"];
    let after = |(at, _): (usize, &str)| in_expressions.iter().any(|escape| text[at + 2..].starts_with(escape));
    in_json.iter().any(|escape| text.contains(escape)) || text.match_indices(r"\\").any(after)
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
const SCHEMAS: [&str; 8] = [
    "allOf",
    "anyOf",
    "oneOf",
    "items",
    "prefixItems",
    "additionalItems",
    "additionalProperties",
    // Says nothing, but what it holds may be referred to.
    "contentSchema",
];
/// Keywords that apply other schemas to the same value.
const APPLIED: [&str; 4] = ["allOf", "anyOf", "oneOf", "$ref"];
/// Keywords whose value is no schema, whatever it looks like.
const VALUES: [&str; 4] = ["const", "enum", "default", "examples"];
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
fn prepare(schema: &mut Value, speaks_of_controls: bool) -> Result<(), Error> {
    let within = within_root(schema);
    strip_root(schema, within.as_deref());
    let places = Scan::of(schema, speaks_of_controls)?;
    rewrite(schema, &places)
}

/// The name that a schema gives to itself: references that begin with it are to itself.
fn within_root(schema: &Value) -> Option<String> {
    let id = ["$id", "id"].iter().find_map(|keyword| schema.get(keyword)?.as_str())?;
    Some(id.strip_suffix('#').unwrap_or(id)).filter(|id| !id.is_empty() && !id.contains('#')).map(str::to_owned)
}

/// Takes the schema's own name out of its references; [`rewrite_one`] takes it away. With the name of a schema that
/// `llguidance` has built in (`http://json-schema.org/draft-07/schema`), that one would be taken instead.
fn strip_root(schema: &mut Value, name: Option<&str>) {
    fn strip(value: &mut Value, name: &str) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(reference)) = members.get_mut("$ref")
                    && let Some(rest) = reference.strip_prefix(name)
                    && (rest.is_empty() || rest.starts_with('#'))
                {
                    *reference = if rest.is_empty() { "#".to_owned() } else { rest.to_owned() };
                }
                for (keyword, member) in members {
                    if !VALUES.contains(&keyword.as_str()) {
                        strip(member, name);
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| strip(item, name)),
            _ => {}
        }
    }
    if let Some(name) = name {
        strip(schema, name);
    }
}

/// Where a value is in memory: what tells it from the others.
fn place(value: &Value) -> usize {
    std::ptr::from_ref(value).addr()
}

/// Rewrites the schemas at the places. What is inside a schema first: only what is done with may move in memory.
fn rewrite(value: &mut Value, places: &HashSet<usize>) -> Result<(), Error> {
    match value {
        Value::Object(members) => members.values_mut().try_for_each(|member| rewrite(member, places))?,
        Value::Array(items) => items.iter_mut().try_for_each(|item| rewrite(item, places))?,
        _ => {}
    }
    if places.contains(&place(value))
        && let Value::Object(keywords) = value
    {
        rewrite_one(keywords)?;
    }
    Ok(())
}

/// Refuses what a schema's own keywords say and would not be kept.
fn check_one(keywords: &Map<String, Value>, draft: Draft, speaks_of_controls: bool) -> Result<(), Error> {
    let unsupported = |message: String| Error::new(ErrorCode::Unsupported, message);
    let says_nothing = |keyword: &str| keyword == "uniqueItems" && keywords[keyword] == Value::Bool(false);
    let missing = NOT_IMPLEMENTED.iter().find(|keyword| keywords.contains_key(**keyword) && !says_nothing(keyword));
    if let Some(keyword) = missing {
        return Err(unsupported(format!("the keyword `{keyword}` is not implemented")));
    }
    let later = [("const", Draft::WithoutPrefixItems), ("prefixItems", Draft::Newest)];
    if let Some((keyword, _)) = later.iter().find(|(keyword, since)| draft < *since && keywords.contains_key(*keyword))
    {
        return Err(unsupported(format!(
            "the draft that `$schema` names has no keyword `{keyword}`, which would mean nothing"
        )));
    }
    refuse_counts_of_names(keywords)?;
    check_numbers(keywords)?;
    let patterns = keywords.get("patternProperties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let own = keywords.get("pattern").and_then(Value::as_str);
    patterns.map(String::as_str).chain(own).try_for_each(|pattern| in_rust(pattern).map(drop))?;
    check_names(keywords, speaks_of_controls)
}

/// [`ecmascript::in_rust`], or what an error says of it.
fn in_rust(pattern: &str) -> Result<String, Error> {
    ecmascript::in_rust(pattern).map_err(|why| {
        let message = format!("the expression `{}` is not supported: {why}", shortened(pattern));
        Error::new(ErrorCode::Unsupported, message)
    })
}

/// Refuses names that could be written in a second way, and would then pass for one that is not listed.
fn check_names(keywords: &Map<String, Value>, speaks_of_controls: bool) -> Result<(), Error> {
    let closed = keywords.get("additionalProperties") == Some(&Value::Bool(false));
    let by_pattern = keywords.contains_key("patternProperties");
    if closed && !by_pattern {
        return Ok(());
    }
    let is_empty = |keyword: &str| match keywords.get(keyword) {
        Some(Value::Object(members)) => members.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        _ => true,
    };
    let listed = keywords.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let required = keywords.get("required").and_then(Value::as_array).into_iter().flatten();
    // Where control characters are written at all, those with a short escape have a long one, too.
    let has_two = |name: &str| {
        name.chars().any(|character| {
            matches!(character, '\0'..='\u{1f}' | '\u{7f}')
                && (speaks_of_controls || !"\u{8}\t\n\u{c}\r".contains(character))
        })
    };
    if let Some(name) = listed.map(String::as_str).chain(required.filter_map(Value::as_str)).find(|name| has_two(name))
    {
        return Err(Error::new(
            ErrorCode::Unsupported,
            format!(
                "the property name {:?} has a control character, which is not supported where other properties may be \
                 written; set `additionalProperties` to false, and use no `patternProperties`",
                shortened(name)
            ),
        ));
    }
    let lists = ["properties", "required", "patternProperties"].iter().any(|keyword| !is_empty(keyword));
    if speaks_of_controls && !closed && lists {
        return Err(Error::new(
            ErrorCode::Unsupported,
            "a control character somewhere in the schema is not supported beside an object that lists properties and may \
             have others: a listed name could be written with escapes, and pass for another; set `additionalProperties` to \
             false, or leave the control character out",
        ));
    }
    Ok(())
}

/// Makes a schema say in `llguidance`'s terms what it says in JSON Schema's.
fn rewrite_one(keywords: &mut Map<String, Value>) -> Result<(), Error> {
    // They say nothing, or have been followed.
    keywords.retain(|keyword, value| match keyword.as_str() {
        "uniqueItems" => value != &Value::Bool(false),
        "$id" | "id" => !value.is_string(),
        _ => true,
    });
    for (keyword, below) in BOUNDS {
        // Integers of more than 64 bits are not computed with. A bound past those is made theirs, which is stricter.
        if let Some(bound) = keywords.get_mut(keyword).filter(|bound| past_integers(bound, below)) {
            *bound = Value::from(if below { -INTEGER_MAX } else { INTEGER_MAX });
        }
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
        *pattern = in_rust(pattern)?;
    }
    if let Some(Value::Object(patterns)) = keywords.get_mut("patternProperties") {
        let count = patterns.len();
        let translated: Result<Map<String, Value>, Error> =
            std::mem::take(patterns).into_iter().map(|(pattern, schema)| Ok((in_rust(&pattern)?, schema))).collect();
        *patterns = translated?;
        if patterns.len() < count {
            let message = "two expressions in `patternProperties` are the same; make them one";
            return Err(Error::new(ErrorCode::Unsupported, message));
        }
    }
    let format = keywords.get("format").and_then(Value::as_str);
    let whole = format.and_then(written_anew);
    if let Some(pattern) = whole.clone().or_else(|| format.and_then(stricter)) {
        if whole.is_some() {
            keywords.remove("format");
        }
        match (keywords.contains_key("pattern"), keywords.get_mut("allOf")) {
            (false, _) => drop(keywords.insert("pattern".to_owned(), pattern.into())),
            (true, Some(Value::Array(all))) => all.push(json!({ "pattern": pattern })),
            (true, _) => drop(keywords.insert("allOf".to_owned(), json!([{ "pattern": pattern }]))),
        }
    }
    Ok(())
}

/// The grammar counts properties as they are written, and a model may write a name twice that the schema does not list.
fn refuse_counts_of_names(keywords: &Map<String, Value>) -> Result<(), Error> {
    let counted = keywords.contains_key("minProperties") || keywords.contains_key("maxProperties");
    let listed = keywords.get("properties").and_then(Value::as_object).map_or(0, Map::len);
    let max = limits::GRAMMAR_COUNTED_PROPERTIES_MAX;
    if counted && listed > max {
        // The grammar has an alternative for each of them with all the others.
        return Err(Error::limit(format!(
            "`minProperties` and `maxProperties` beside {listed} properties; the limit is {max} \
             (GRAMMAR_COUNTED_PROPERTIES_MAX); list fewer, or do not count them"
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

/// Formats of which `llguidance`'s expression leaves out some texts, in expressions of our own.
fn written_anew(format: &str) -> Option<String> {
    // RFC 3986, section 3.2.2: 128 bits, of which the last 32 may be written as an IPv4 address.
    let group = "[0-9a-fA-F]{1,4}";
    let byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    let ipv4 = format!("{byte}(?:\\.{byte}){{3}}");
    let last = format!("(?:{group}:{group}|{ipv4})");
    let up_to = |groups: usize| format!("(?:(?:{group}:){{0,{groups}}}{group})?::");
    let mut ways = vec![format!("(?:{group}:){{6}}{last}"), format!("::(?:{group}:){{5}}{last}")];
    ways.extend((0..=3).map(|before| format!("{}(?:{group}:){{{}}}{last}", up_to(before), 4 - before)));
    ways.extend([format!("{}{last}", up_to(4)), format!("{}{group}", up_to(5)), up_to(6)]);
    let ipv6 = ways.join("|");
    match format {
        "ipv6" => Some(format!("^(?:{ipv6})$")),
        // RFC 5321, section 4.1.2, without quoted pairs.
        "email" => {
            let atom = "[a-zA-Z0-9!#$%&'*+\\-/=?\\^_`{|}~]+";
            let label = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
            let name = format!("(?:{atom}(?:\\.{atom})*|\"[ !#-\\[\\]-~]+\")");
            Some(format!("^{name}@(?:{label}(?:\\.{label})*|\\[{ipv4}\\]|\\[IPv6:(?:{ipv6})\\])$"))
        }
        _ => None,
    }
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
