//! One argument of a program: its name and type as its JSON Schema says.

use std::fmt;

use serde_json::Value;

use super::{ArgumentError, Flag};

/// Characters of a wrong value that an error repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// The types that have a spelling on a command line; all others are written as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Taken as it is.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`; the flag alone is `true`.
    Boolean,
    /// A JSON array, or the flag repeated.
    List(Box<Kind>),
    /// A JSON object.
    Object,
    /// JSON of any type; what is no JSON is a string.
    Any,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "a string",
            Self::Integer => "an integer",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::Object => "a JSON object",
            Self::Any => "a value",
            Self::List(items) => {
                return match **items {
                    Self::String => f.write_str("a list of strings"),
                    Self::Integer => f.write_str("a list of integers"),
                    Self::Number => f.write_str("a list of numbers"),
                    _ => f.write_str("a JSON array"),
                };
            }
        })
    }
}

impl Kind {
    /// Reads a schema's `type`; `null` beside another type makes no difference on a command line. `root` holds what
    /// `$ref`s name.
    fn from_schema(schema: &Value, root: &Value) -> Self {
        let schema = resolve(schema, root);
        let alternatives = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
        if let Some(alternatives) = alternatives {
            let is_null = |it: &&Value| it.get("type").and_then(Value::as_str) == Some("null");
            let mut others = alternatives.iter().filter(|it| !is_null(it));
            return match (others.next(), others.next()) {
                (Some(one), None) => Self::from_schema(one, root),
                _ => Self::Any,
            };
        }
        let names: Vec<&str> = match schema.get("type") {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        match names.into_iter().filter(|name| *name != "null").collect::<Vec<_>>()[..] {
            ["string"] => Self::String,
            ["integer"] => Self::Integer,
            ["number"] => Self::Number,
            ["boolean"] => Self::Boolean,
            ["object"] => Self::Object,
            ["array"] => Self::List(Box::new(schema.get("items").map_or(Self::Any, |it| Self::from_schema(it, root)))),
            _ => Self::Any,
        }
    }

    fn admits(&self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::List(items) => value.as_array().is_some_and(|list| list.iter().all(|item| items.admits(item))),
            Self::Any => true,
        }
    }

    /// Reads a value as the command line writes it; none if it is of another type.
    fn parse(&self, text: &str) -> Option<Value> {
        match self {
            Self::String => Some(Value::from(text)),
            Self::Integer => {
                text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<u64>().map(Value::from)).ok()
            }
            Self::Number => text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from),
            Self::Boolean => text.parse::<bool>().ok().map(Value::from),
            Self::Any => Some(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))),
            Self::Object => serde_json::from_str(text).ok().filter(Value::is_object),
            Self::List(items) => match serde_json::from_str::<Value>(text) {
                Ok(list @ Value::Array(_)) => Some(list).filter(|list| self.admits(list)),
                _ => items.parse(text).map(|item| Value::Array(vec![item])),
            },
        }
    }
}

/// Follows `{"$ref": "#/…"}` once: what schema generators write for a named type.
fn resolve<'a>(schema: &'a Value, root: &'a Value) -> &'a Value {
    let pointer = schema.get("$ref").and_then(Value::as_str).and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

/// An argument that a program takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parameter {
    /// As the program names it.
    pub(crate) name: String,
    /// What it takes.
    pub(crate) kind: Kind,
    /// Whether the program cannot do without.
    pub(crate) required: bool,
    /// For people.
    pub(crate) description: Option<String>,
    /// What the program takes when it is not given, if the schema says.
    pub(crate) default: Option<Value>,
    /// The only values it takes; empty for all.
    pub(crate) choices: Vec<Value>,
}

impl Parameter {
    pub(super) fn from_schema(name: &str, schema: &Value, root: &Value, required: bool) -> Self {
        let kind = Kind::from_schema(schema, root);
        let resolved = resolve(schema, root);
        let choices = resolved.get("enum").and_then(Value::as_array).cloned().unwrap_or_default();
        // A list of strings without a type is the usual way to write choices.
        let kind = if kind == Kind::Any && !choices.is_empty() && choices.iter().all(Value::is_string) {
            Kind::String
        } else {
            kind
        };
        let description = schema.get("description").or_else(|| resolved.get("description")).and_then(Value::as_str);
        Self {
            name: name.to_owned(),
            kind,
            required,
            description: description.map(str::to_owned),
            default: schema.get("default").cloned(),
            choices,
        }
    }

    /// One that the schema does not name, of a program that takes such.
    pub(super) fn any(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Any,
            required: false,
            description: None,
            default: None,
            choices: Vec::new(),
        }
    }

    /// What stands for its value in help.
    pub(crate) fn value_name(&self) -> &'static str {
        match &self.kind {
            Kind::String => "STRING",
            Kind::Integer => "INTEGER",
            Kind::Number => "NUMBER",
            Kind::Boolean => "",
            Kind::List(items) if **items == Kind::String => "STRING|JSON",
            Kind::List(_) | Kind::Object | Kind::Any => "JSON",
        }
    }

    pub(super) fn is_list(&self) -> bool {
        matches!(self.kind, Kind::List(_))
    }

    /// Its name as messages write it.
    pub(crate) fn flag(&self) -> Flag {
        Flag(self.name.clone())
    }

    /// Reads its value as the command line writes it.
    pub(super) fn parse(&self, text: &str) -> Result<Value, ArgumentError> {
        let Some(value) = self.kind.parse(text) else {
            // JSON is shown as it was written, words in quotes.
            let json = text.starts_with(['[', '{']);
            let found = if json { shorten(text) } else { format!("{:?}", shorten(text)) };
            return Err(ArgumentError::WrongType { name: self.flag(), kind: self.kind.clone(), found });
        };
        if !self.choices.is_empty() && !self.choices.contains(&value) {
            let choices = self.choices.iter().map(ToString::to_string).collect();
            let found = shorten(&value.to_string());
            return Err(ArgumentError::NotAChoice { name: self.flag(), choices, found });
        }
        Ok(value)
    }
}

/// A wrong value as an error shows it.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
