//! A program's own arguments: from words of the command line to the JSON object that the program gets.
//!
//! What exists and of which type is in the program's JSON Schema. Names, presence and types are looked at here so that
//! the user reads of `--question` and not of a field; *not here* is the check of the finished object, which is
//! `sglhost_runtime::Description`'s.

mod parameter;

use std::fmt;

use serde_json::{Map, Value};

pub(crate) use parameter::{Kind, Parameter};

/// Similarity (0 to 1, Jaro-Winkler) from which another name is worth proposing.
const SIMILAR: f64 = 0.8;

/// The arguments a program takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameters {
    program: String,
    list: Vec<Parameter>,
    /// The schema admits names that it does not list.
    open: bool,
}

/// An argument as the command line writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flag(String);

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--{}", self.0.replace('_', "-"))
    }
}

/// Arguments that the program does not take.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum ArgumentError {
    /// Required and not given.
    #[error("{program} needs the argument {name} ({kind}){}", description.as_ref().map_or_else(String::new, |it| format!(": {it}")))]
    Missing { program: String, name: Flag, kind: Kind, description: Option<String> },
    /// Not in the program's description.
    #[error("{program} has no argument {name}; {}", hint(similar.as_ref(), known))]
    Unknown { program: String, name: Flag, similar: Option<Flag>, known: Vec<Flag> },
    /// Of another type.
    #[error("{name} takes {kind}, not {found}")]
    WrongType { name: Flag, kind: Kind, found: String },
    /// Of the right type and not among the values listed.
    #[error("{name} takes one of {}, not {found}", choices.join(", "))]
    NotAChoice { name: Flag, choices: Vec<String>, found: String },
    /// The last word is a name.
    #[error("{name} needs a value ({kind}); one that begins with a dash is written {name}=VALUE")]
    NoValue { name: Flag, kind: Kind },
    /// Twice, and not a list.
    #[error("{name} is given twice; it takes {kind}")]
    Repeated { name: Flag, kind: Kind },
    /// A word where a name was expected.
    #[error("unexpected {word:?}; a program's arguments are written --NAME VALUE")]
    Stray { word: String },
    /// `--args` or a batch line is no JSON object.
    #[error("{what} must be a JSON object, as in {{\"question\": \"…\"}}; {reason}")]
    NoObject { what: String, reason: String },
}

fn hint(similar: Option<&Flag>, known: &[Flag]) -> String {
    match (similar, known) {
        (Some(similar), _) => format!("did you mean {similar}?"),
        (None, []) => "it takes none".to_owned(),
        (None, known) => format!("it takes {}", known.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
    }
}

impl Parameters {
    /// Reads a program's description; a schema that lists no properties admits anything.
    pub(crate) fn from_schema(program: &str, schema: &Value) -> Self {
        let properties = schema.get("properties").and_then(Value::as_object);
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let list = properties
            .into_iter()
            .flatten()
            .map(|(name, property)| Parameter::from_schema(name, property, schema, required.contains(&name.as_str())))
            .collect();
        let open = properties.is_none() || schema.get("additionalProperties") == Some(&Value::Bool(true));
        Self { program: program.to_owned(), list, open }
    }

    /// In the schema's order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Parameter> {
        self.list.iter()
    }

    /// Parses the program's words of a command line on top of the object of `--args`, if one was given.
    ///
    /// # Errors
    /// Names the argument at fault.
    pub(crate) fn parse_words(
        &self,
        words: &[String],
        base: Map<String, Value>,
    ) -> Result<Map<String, Value>, ArgumentError> {
        let mut given = Map::new();
        let mut words = words.iter().map(String::as_str).peekable();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
                return Err(ArgumentError::Stray { word: word.to_owned() });
            };
            let (name, attached) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (flag, None),
            };
            let parameter = self.find(name)?;
            let flag_name = parameter.flag();
            let mut next = || words.next_if(|word| !word.starts_with("--"));
            let text = match (attached, &parameter.kind) {
                (Some(text), _) => text,
                // A flag alone means yes; a word after it is its value only if it is one.
                (None, Kind::Boolean) => words.next_if(|word| matches!(*word, "true" | "false")).unwrap_or("true"),
                (None, kind) => {
                    next().ok_or_else(|| ArgumentError::NoValue { name: flag_name.clone(), kind: kind.clone() })?
                }
            };
            let value = parameter.parse(text)?;
            match given.get_mut(&parameter.name) {
                None => {
                    given.insert(parameter.name.clone(), value);
                }
                Some(Value::Array(before)) if parameter.is_list() => before.extend(match value {
                    Value::Array(more) => more,
                    one => vec![one],
                }),
                Some(_) => return Err(ArgumentError::Repeated { name: flag_name, kind: parameter.kind.clone() }),
            }
        }
        let mut arguments = base;
        arguments.extend(given);
        self.check_present(&arguments)?;
        Ok(arguments)
    }

    fn check_present(&self, arguments: &Map<String, Value>) -> Result<(), ArgumentError> {
        match self.list.iter().find(|parameter| parameter.required && !arguments.contains_key(&parameter.name)) {
            None => Ok(()),
            Some(parameter) => Err(ArgumentError::Missing {
                program: self.program.clone(),
                name: parameter.flag(),
                kind: parameter.kind.clone(),
                description: parameter.description.clone(),
            }),
        }
    }

    /// The parameter of that name; dashes and underscores are the same on the command line.
    fn find(&self, name: &str) -> Result<Parameter, ArgumentError> {
        let same = |parameter: &&Parameter| parameter.name.replace('_', "-") == name.replace('_', "-");
        if let Some(parameter) = self.list.iter().find(same) {
            return Ok(parameter.clone());
        }
        if self.open {
            return Ok(Parameter::any(name));
        }
        let similarity = |parameter: &Parameter| strsim::jaro_winkler(&parameter.name, &name.replace('-', "_"));
        let closest = self.list.iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
        Err(ArgumentError::Unknown {
            program: self.program.clone(),
            name: Flag(name.to_owned()),
            similar: closest.filter(|it| similarity(it) >= SIMILAR).map(|it| it.flag()),
            known: self.list.iter().map(|parameter| parameter.flag()).collect(),
        })
    }
}

/// Reads a JSON object; `what` names it to the user.
///
/// # Errors
/// [`ArgumentError::NoObject`] with the place.
pub(crate) fn parse_object(what: &str, text: &str) -> Result<Map<String, Value>, ArgumentError> {
    let no_object = |reason| ArgumentError::NoObject { what: what.to_owned(), reason };
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err(no_object(format!("this is {}", parameter::shorten(&other.to_string())))),
        Err(_) if text.trim().is_empty() => Err(no_object("this is empty".to_owned())),
        Err(error) => Err(no_object(format!("this is not JSON: {}", json_problem(text, &error)))),
    }
}

/// What is wrong with a JSON text and where; lines are counted only where there are several.
fn json_problem(text: &str, error: &serde_json::Error) -> String {
    let (line, column) = (error.line(), error.column());
    let message = error.to_string();
    let problem = message.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&message);
    // The parser's own word for what begins like `null`, `true` or `false`.
    let problem = problem.replace("expected ident", "expected a value");
    if text.trim_end().contains('\n') {
        format!("{problem} (line {line}, column {column})")
    } else {
        format!("{problem} (column {column})")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parameters() -> Parameters {
        let schema = json!({
            "type": "object",
            "properties": {
                "question": {"type": "string", "description": "what to ask"},
                "max_words": {"type": "integer", "default": 10},
                "heat": {"type": "number"},
                "verbose": {"type": "boolean"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "house": {"enum": ["Gryffindor", "Slytherin"]},
                "note": {"type": ["string", "null"]},
            },
            "required": ["question"],
            "additionalProperties": false,
        });
        Parameters::from_schema("ask", &schema)
    }

    #[track_caller]
    fn check(words: &[&str], expect: Result<Value, &str>) {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let parsed = parameters().parse_words(&words, Map::new()).map(Value::Object);
        match (parsed, expect) {
            (Ok(parsed), Ok(expect)) => assert_eq!(parsed, expect),
            (Err(error), Err(expect)) => assert_eq!(error.to_string(), expect),
            (parsed, expect) => panic!("{words:?}: {parsed:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn words_become_typed_values() {
        check(&["--question", "why?"], Ok(json!({"question": "why?"})));
        check(&["--question", "7", "--max-words", "7"], Ok(json!({"question": "7", "max_words": 7})));
        check(&["--question=--x", "--max_words=-7"], Ok(json!({"question": "--x", "max_words": -7})));
        check(&["--question", "-3 or so", "--heat", "1"], Ok(json!({"question": "-3 or so", "heat": 1.0})));
        check(&["--verbose", "--question", "q"], Ok(json!({"question": "q", "verbose": true})));
        check(&["--question", "q", "--verbose", "false"], Ok(json!({"question": "q", "verbose": false})));
        check(&["--question", "q", "--tags", "a", "--tags", "b"], Ok(json!({"question": "q", "tags": ["a", "b"]})));
        check(&["--question", "q", "--tags", r#"["a", "b"]"#], Ok(json!({"question": "q", "tags": ["a", "b"]})));
        check(&["--question", "q", "--house", "Slytherin"], Ok(json!({"question": "q", "house": "Slytherin"})));
        check(&["--question", "", "--note", "null"], Ok(json!({"question": "", "note": "null"})));
    }

    #[test]
    fn mistakes_are_named() {
        check(&[], Err("ask needs the argument --question (a string): what to ask"));
        check(&["--quesion", "q"], Err("ask has no argument --quesion; did you mean --question?"));
        check(
            &["--zzz", "q"],
            Err(
                "ask has no argument --zzz; it takes --question, --max-words, --heat, --verbose, --tags, --house, --note",
            ),
        );
        check(&["--max-words", "many"], Err("--max-words takes an integer, not \"many\""));
        check(&["--max-words", "1.5"], Err("--max-words takes an integer, not \"1.5\""));
        check(&["--verbose=maybe"], Err("--verbose takes true or false, not \"maybe\""));
        check(&["--house", "Hogwarts"], Err("--house takes one of \"Gryffindor\", \"Slytherin\", not \"Hogwarts\""));
        check(&["--tags", "[1]"], Err("--tags takes a list of strings, not [1]"));
        check(
            &["--question"],
            Err("--question needs a value (a string); one that begins with a dash is written --question=VALUE"),
        );
        check(&["--question", "a", "--question", "b"], Err("--question is given twice; it takes a string"));
        check(&["why?"], Err("unexpected \"why?\"; a program's arguments are written --NAME VALUE"));
    }

    #[test]
    fn words_override_an_object() {
        let base = parse_object("it", r#"{"question": "a", "max_words": 1}"#).unwrap_or_default();
        let words = ["--question".to_owned(), "b".to_owned()];
        let merged = parameters().parse_words(&words, base).map(Value::Object);
        assert_eq!(merged, Ok(json!({"question": "b", "max_words": 1})));
    }

    #[test]
    fn a_program_without_a_schema_takes_anything() {
        let open = Parameters::from_schema("any", &json!({}));
        let words = ["--n", "3", "--s", "text", "--flag=true"].map(str::to_owned);
        let parsed = open.parse_words(&words, Map::new()).map(Value::Object);
        assert_eq!(parsed, Ok(json!({"n": 3, "s": "text", "flag": true})));
    }

    #[test]
    fn what_is_no_object_is_shown_with_the_place() {
        #[track_caller]
        fn check(text: &str, expect: &str) {
            let error = parse_object("it", text).map(|_| ()).map_err(|error| error.to_string());
            let expect = format!("it must be a JSON object, as in {{\"question\": \"…\"}}; this is {expect}");
            assert_eq!(error, Err(expect));
        }
        check("[1]", "[1]");
        check(" ", "empty");
        check("nope", "not JSON: expected a value (column 2)");
        check("{question: 1}", "not JSON: key must be a string (column 2)");
        check("{\"a\": 1", "not JSON: EOF while parsing an object (column 7)");
        check("{\n\"a\": 1,\n}", "not JSON: trailing comma (line 3, column 1)");
    }
}
