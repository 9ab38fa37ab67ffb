//! A JSON Schema → its grammar: what JSON the host has models write, and what a schema is refused for.
//!
//! `llguidance` implements the keywords. Before it sees a schema, what it would pass over is refused by name, and what it
//! would admit too much for is made stricter ([`prepare`]). `tests/structured` holds both against a validator.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

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

/// Takes the schema's own name away, and out of its references. With the name of a schema that `llguidance` has built in
/// (`http://json-schema.org/draft-07/schema`), that one would be taken instead.
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
    if let Value::Object(root) = schema {
        root.retain(|keyword, value| !(["$id", "id"].contains(&keyword.as_str()) && value.is_string()));
    }
}

/// Where a value is in memory: what tells it from the others.
fn place(value: &Value) -> usize {
    std::ptr::from_ref(value).addr()
}

/// The JSON pointer of a value within another, for an error.
fn pointer(within: &Value, wanted: usize) -> Option<String> {
    if place(within) == wanted {
        return Some(String::new());
    }
    match within {
        Value::Object(members) => members.iter().find_map(|(name, member)| {
            let after = pointer(member, wanted)?;
            Some(format!("/{}{after}", escaped(&shortened(name))))
        }),
        Value::Array(items) => items.iter().enumerate().find_map(|(index, item)| {
            let after = pointer(item, wanted)?;
            Some(format!("/{index}{after}"))
        }),
        _ => None,
    }
}

/// A look at all schemas within a schema.
struct Scan<'a> {
    root: &'a Value,
    /// The oldest of those that it names.
    draft: Draft,
    speaks_of_controls: bool,
    /// The schemas, by their place.
    seen: HashSet<usize>,
    waiting: Vec<&'a Value>,
    /// What the `$anchor`s mark; nothing where two have the same name.
    anchors: HashMap<&'a str, Option<&'a Value>>,
    divisors: Vec<f64>,
    patterns: usize,
    /// Whether one text may have to match two schemas.
    meet: bool,
    /// Whether one number may have to.
    numbers_meet: bool,
    refers: bool,
    /// A schema with a name of its own: references within it mean something else.
    named: Option<usize>,
}

impl<'a> Scan<'a> {
    /// The places of all that is a schema.
    fn of(root: &'a Value, speaks_of_controls: bool) -> Result<HashSet<usize>, Error> {
        let mut scan = Scan {
            root,
            draft: Draft::of(root),
            speaks_of_controls,
            seen: HashSet::new(),
            waiting: Vec::new(),
            anchors: HashMap::new(),
            divisors: Vec::new(),
            patterns: 0,
            meet: false,
            numbers_meet: false,
            refers: false,
            named: None,
        };
        scan.find_anchors(root);
        scan.add(root)?;
        while let Some(here) = scan.waiting.pop() {
            scan.one(here).map_err(|error| scan.at(error, place(here)))?;
        }
        if let Some(named) = scan.named.filter(|_| scan.refers) {
            let error = "`$id` within a schema that has `$ref` is not supported; refer to places as `#/…`";
            return Err(scan.at(Error::new(ErrorCode::Unsupported, error), named));
        }
        let max = limits::GRAMMAR_PATTERNS_MEETING_MAX;
        if scan.meet && scan.patterns > max {
            return Err(Error::limit(format!(
                "{} times `pattern` beside `allOf`, or `anyOf` and `$ref` with others: one text may have to match all; \
                 the limit is {max} (GRAMMAR_PATTERNS_MEETING_MAX)",
                scan.patterns
            )));
        }
        if scan.numbers_meet {
            check_divisors(&scan.divisors)?;
        }
        Ok(scan.seen)
    }

    /// The error with the place that it is about.
    fn at(&self, error: Error, place: usize) -> Error {
        let path = pointer(self.root, place).unwrap_or_default();
        Error::new(error.code, format!("{} (at `#{}`)", error.message, shortened(&path)))
    }

    fn add(&mut self, schema: &'a Value) -> Result<(), Error> {
        if self.seen.contains(&place(schema)) {
            return Ok(());
        }
        let max = limits::GRAMMAR_SCHEMAS_MAX;
        if self.seen.len() >= max {
            return Err(Error::limit(format!(
                "more than {max} schemas within it (GRAMMAR_SCHEMAS_MAX); use fewer, or refer to those that are alike"
            )));
        }
        self.seen.insert(place(schema));
        self.waiting.push(schema);
        Ok(())
    }

    /// Finds what is marked, and which drafts are named.
    fn find_anchors(&mut self, value: &'a Value) {
        match value {
            Value::Object(members) => {
                if members.contains_key("$schema") && Draft::of(value) < self.draft {
                    self.draft = Draft::of(value);
                }
                for keyword in ["$anchor", "$dynamicAnchor"] {
                    if let Some(name) = members.get(keyword).and_then(Value::as_str) {
                        self.anchors.entry(name).and_modify(|marked| *marked = None).or_insert(Some(value));
                    }
                }
                for (keyword, member) in members {
                    if !VALUES.contains(&keyword.as_str()) {
                        self.find_anchors(member);
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.find_anchors(item)),
            _ => {}
        }
    }

    fn one(&mut self, here: &'a Value) -> Result<(), Error> {
        let keywords = match here {
            Value::Object(keywords) => keywords,
            Value::Array(schemas) => return schemas.iter().try_for_each(|schema| self.add(schema)),
            _ => return Ok(()),
        };
        self.meet |= meets(keywords);
        let has = |keyword: &&str| keywords.contains_key(*keyword);
        let applied = ["allOf", "anyOf", "oneOf", "$ref"];
        self.numbers_meet |= self.meet
            || ["properties", "patternProperties"].iter().all(has)
            || (has(&"multipleOf") && applied.iter().any(has));
        self.patterns += usize::from(keywords.contains_key("pattern"));
        self.named = self.named.or(self.own_name(here));
        check_one(keywords, self.draft, self.speaks_of_controls)?;
        self.divisors.extend(keywords.get("multipleOf").and_then(Value::as_f64));
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("$ref", Value::String(reference)) => {
                    self.refers = true;
                    let target = self.target(reference)?;
                    self.add(target)?;
                }
                (keyword, Value::Object(map)) if MAPS.contains(&keyword) => {
                    map.values().try_for_each(|schema| self.add(schema))?;
                }
                (keyword, Value::Object(_) | Value::Array(_)) if SCHEMAS.contains(&keyword) => self.add(value)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// The place of a schema that has a name of its own, and is not the root.
    fn own_name(&self, here: &Value) -> Option<usize> {
        let named = ["$id", "id"].iter().any(|keyword| here.get(keyword).is_some_and(Value::is_string));
        (named && !std::ptr::eq(here, self.root)).then(|| place(here))
    }

    /// What a reference leads to.
    fn target(&self, reference: &str) -> Result<&'a Value, Error> {
        let nowhere = |code, why: &str| Error::new(code, format!("`$ref` `{}` {why}", shortened(reference)));
        let Some(fragment) = reference.strip_prefix('#') else {
            let why = "is not within the schema: the host does not fetch schemas; copy it into `$defs`, and refer to it as \
                       `#/$defs/…`";
            return Err(nowhere(ErrorCode::Unsupported, why));
        };
        let missing = || nowhere(ErrorCode::Invalid, "leads nowhere in the schema");
        if fragment.is_empty() {
            return Ok(self.root);
        }
        if !fragment.starts_with('/') {
            return match self.anchors.get(fragment) {
                Some(Some(marked)) => Ok(marked),
                Some(None) => Err(nowhere(ErrorCode::Unsupported, "is the `$anchor` of two schemas")),
                None => Err(missing()),
            };
        }
        let mut here = self.root;
        // In a map of schemas there are names, which are no keywords.
        let mut names = None;
        for segment in unescaped(fragment).split('/').skip(1) {
            let name = segment.replace("~1", "/").replace("~0", "~");
            if names.is_none() && ["const", "enum"].contains(&name.as_str()) {
                return Err(nowhere(ErrorCode::Unsupported, "leads into a value, which is no schema"));
            }
            // Its name will be another, in `llguidance`'s terms.
            if names == Some("patternProperties") && ecmascript(&name).is_ok_and(|pattern| pattern != name) {
                return Err(nowhere(ErrorCode::Unsupported, "leads into `patternProperties`; use `$defs`"));
            }
            if self.own_name(here).is_some() {
                return Err(nowhere(ErrorCode::Unsupported, "leads through a schema with an `$id` of its own"));
            }
            here = match here {
                Value::Object(members) => members.get(&name),
                Value::Array(items) => {
                    let written_plainly = !(name.starts_with('+') || name.starts_with('0') && name.len() > 1);
                    name.parse().ok().filter(|_| written_plainly).and_then(|index: usize| items.get(index))
                }
                _ => None,
            }
            .ok_or_else(missing)?;
            names = MAPS.into_iter().find(|map| names.is_none() && *map == name && here.is_object());
        }
        match names {
            Some(_) => Err(nowhere(ErrorCode::Unsupported, "leads to a map of schemas, which is none itself")),
            None => Ok(here),
        }
    }
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

/// [`ecmascript`], or what an error says of it.
fn in_rust(pattern: &str) -> Result<String, Error> {
    ecmascript(pattern).map_err(|why| {
        let message = format!("the expression `{}` is not supported: {why}", shortened(pattern));
        Error::new(ErrorCode::Unsupported, message)
    })
}

/// Numbers up to which integers are exact as 64-bit floats, which is what `llguidance` computes with.
const NUMBER_MAX: f64 = limits::GRAMMAR_NUMBER_MAX as f64;
/// About where 64-bit integers end, as the nearest float below.
const INTEGER_MAX: f64 = 9_223_372_036_854_774_784.0;
/// Bounds from below, and whether they are; the others are from above.
const BOUNDS: [(&str, bool); 4] =
    [("minimum", true), ("exclusiveMinimum", true), ("maximum", false), ("exclusiveMaximum", false)];

/// Refuses numbers that `llguidance` would take for others, or would not come to an end with.
fn check_numbers(keywords: &Map<String, Value>) -> Result<(), Error> {
    let too_large = |keyword: &str, number: &Value| {
        Error::limit(format!(
            "`{keyword}`: {number} is past ±{} (GRAMMAR_NUMBER_MAX), up to which integers are exact as 64-bit floats; use a \
             smaller one, or a string",
            limits::GRAMMAR_NUMBER_MAX
        ))
    };
    for keyword in ["const", "enum"] {
        if let Some(number) = keywords.get(keyword).and_then(past_exact) {
            return Err(too_large(keyword, number));
        }
    }
    for (keyword, below) in BOUNDS {
        if let Some(value) = keywords.get(keyword)
            && past_exact(value).is_some()
            && !past_integers(value, below)
        {
            return Err(too_large(keyword, value));
        }
    }
    match keywords.get("multipleOf").filter(|value| value.is_number()) {
        Some(value) => check_divisor(value),
        None => Ok(()),
    }
}

/// A number in a value that is past what is exact.
fn past_exact(value: &Value) -> Option<&Value> {
    match value {
        Value::Number(number) => {
            number.as_f64().is_none_or(|number| number.abs() > NUMBER_MAX).then_some(value).or_else(
                // 2^53 + 1 is 2^53 as a float.
                || {
                    number
                        .as_i64()
                        .is_some_and(|number| number.unsigned_abs() > limits::GRAMMAR_NUMBER_MAX)
                        .then_some(value)
                },
            )
        }
        Value::Array(items) => items.iter().find_map(past_exact),
        Value::Object(members) => members.values().find_map(past_exact),
        _ => None,
    }
}

/// Whether a bound leaves room for all 64-bit integers.
fn past_integers(bound: &Value, below: bool) -> bool {
    let bound = bound.as_f64().map(|bound| if below { -bound } else { bound });
    bound.is_some_and(|bound| bound > INTEGER_MAX)
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
    if let Some(pattern) = keywords.get("format").and_then(Value::as_str).and_then(stricter) {
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

/// A divisor as `llguidance` has it: an integer, and by which power of ten it is to be divided.
fn decimal(divisor: f64) -> Option<(u64, u32)> {
    // As it counts them.
    let (mut number, mut places) = (divisor.abs(), 0);
    while number.fract() != 0.0 && places <= PLACES_MAX {
        number *= 10.0;
        places += 1;
    }
    let fits = places <= PLACES_MAX && number <= limits::GRAMMAR_MULTIPLE_MAX as f64;
    fits.then_some((number as u64, places))
}

/// Digits after the point of a divisor.
const PLACES_MAX: u32 = 9;

/// A number is divided as it is written, by an automaton with a state for each remainder.
fn check_divisor(divisor: &Value) -> Result<(), Error> {
    let max = limits::GRAMMAR_MULTIPLE_MAX;
    match divisor.as_f64().map(decimal) {
        Some(Some((0, _))) => Err(Error::invalid("`multipleOf`: 0 is none; it is above 0")),
        Some(Some(_)) => Ok(()),
        _ => Err(Error::limit(format!(
            "`multipleOf`: {divisor} has too many digits: without its point it may be at most {max} \
             (GRAMMAR_MULTIPLE_MAX), with {PLACES_MAX} digits after the point; use a rounder one"
        ))),
    }
}

/// Refuses divisors whose common multiple is too large.
fn check_divisors(divisors: &[f64]) -> Result<(), Error> {
    let divisors: HashSet<(u64, u32)> = divisors.iter().filter_map(|&divisor| decimal(divisor)).collect();
    let most = divisors.iter().map(|(_, places)| *places).max().unwrap_or(0);
    let max = limits::GRAMMAR_MULTIPLE_MAX;
    let mut common = 1;
    for (number, places) in &divisors {
        // Neither is above what 64 bits hold: 10 to the power of PLACES_MAX times the limit, squared, is.
        let number = u128::from(*number) * 10_u128.pow(most - places);
        let (mut a, mut b) = (common, number);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        common = common / a.max(1) * number;
        if divisors.len() > 1 && common > u128::from(max) {
            return Err(Error::limit(format!(
                "{} different values of `multipleOf`, of which one number may have to match all: their least common \
                 multiple, without its point, is above {max} (GRAMMAR_MULTIPLE_MAX); use fewer or smaller ones",
                divisors.len()
            )));
        }
    }
    Ok(())
}

/// An expression of ECMAScript's in Rust's syntax; or what it has that means something else there.
fn ecmascript(pattern: &str) -> Result<String, String> {
    // With U+FEFF and without U+0085, which is Unicode's.
    const SPACES: &str =
        "\t\n\u{b}\u{c}\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";
    let mut out = String::with_capacity(pattern.len());
    let mut in_class = false;
    let mut rest = pattern;
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '\\' => {
                let Some(escaped) = rest.chars().next() else { return Err("`\\` at its end".to_owned()) };
                rest = &rest[escaped.len_utf8()..];
                match escaped {
                    's' => out.extend(["[", SPACES, "]"]),
                    'S' => out.extend(["[^", SPACES, "]"]),
                    'b' if in_class => out.push_str(r"\x08"),
                    // The beginning or the end of a word in Rust's.
                    '<' | '>' => out.push(escaped),
                    'a' | 'A' | 'z' | 'Z' | 'G' | 'U' | 'Q' | 'E' | 'h' | 'H' | 'R' | 'X' | 'K' => {
                        return Err(format!("`\\{escaped}` is not ECMAScript's"));
                    }
                    'b' | 'B' | 'x' | 'p' | 'P' if rest.starts_with('{') != "pP".contains(escaped) => {
                        return Err(format!(
                            "`\\{escaped}{}` is not ECMAScript's",
                            if rest.starts_with('{') { "{" } else { "" }
                        ));
                    }
                    // A name or a number in braces.
                    'p' | 'P' | 'u' if rest.starts_with('{') => {
                        let end = rest.find('}').ok_or("a `{` without `}`")?;
                        out.extend(['\\', escaped]);
                        out.push_str(&rest[..=end]);
                        rest = &rest[end + 1..];
                    }
                    _ => out.extend(['\\', escaped]),
                }
            }
            '[' if in_class => out.push_str(r"\["),
            '[' if rest.starts_with("^]") => {
                out.push_str(r"[\x{0}-\x{10FFFF}]");
                rest = &rest[2..];
            }
            '[' if rest.starts_with(']') => return Err("`[]` matches nothing".to_owned()),
            '[' => {
                in_class = true;
                out.push('[');
                if let Some(after) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = after;
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => out.extend(['\\', character]),
            '-' if in_class && rest.starts_with('-') => return Err("`--` in a class; write `\\-`".to_owned()),
            _ if in_class => out.push(character),
            '.' => out.push_str(r"[^\n\r\x{2028}\x{2029}]"),
            '(' if rest.starts_with('?') => {
                let known = ["?:", "?=", "?!", "?<"];
                if !known.iter().any(|group| rest.starts_with(group)) {
                    return Err("a group that begins with `(?` and is none of `(?:`, `(?=`, `(?!` and `(?<`".to_owned());
                }
                out.push('(');
            }
            '{' => {
                let counts = rest.split_once('}').map(|(counts, _)| counts.split_once(',').unwrap_or((counts, "")));
                let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
                if !counts.is_some_and(|(least, most)| !least.is_empty() && digits(least) && digits(most)) {
                    return Err("a `{` that begins no repetition; write `\\{`".to_owned());
                }
                out.push('{');
            }
            _ => out.push(character),
        }
    }
    Ok(out)
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
