//! Which values of a schema are schemas: all that it holds, and where its references lead.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};
use sglhost_core::{Error, ErrorCode, limits};

use super::{APPLIED, Draft, MAPS, SCHEMAS, VALUES, check_one, ecmascript, numbers::check_divisors, place, shortened};

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
pub(super) struct Scan<'a> {
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
    pub(super) fn of(root: &'a Value, speaks_of_controls: bool) -> Result<HashSet<usize>, Error> {
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
        self.numbers_meet |= self.meet
            || ["properties", "patternProperties"].iter().all(has)
            || (has(&"multipleOf") && APPLIED.iter().any(has));
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
            if names == Some("patternProperties") && ecmascript::in_rust(&name).is_ok_and(|pattern| pattern != name) {
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

/// Whether one value may have to match two schemas.
fn meets(keywords: &Map<String, Value>) -> bool {
    let own = ["pattern", "format", "properties", "patternProperties", "additionalProperties", "items", "prefixItems"];
    let has = |names: &[&str]| names.iter().filter(|name| keywords.contains_key(**name)).count();
    let all = keywords.get("allOf").and_then(Value::as_array).map_or(0, Vec::len);
    all > 1 || has(&APPLIED) > 1 || (has(&APPLIED) == 1 && has(&own) > 0)
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
