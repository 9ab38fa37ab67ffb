//! What a program says of itself, and the check of a run's arguments against it.
//!
//! Of JSON Schema this reads what decides whether a call is right (`type`, `properties`, `required`, `enum`,
//! `additionalProperties`, `items`); other keywords are for people and tools and are passed on unread.

use serde_json::{Map, Value};
use sglhost_core::{Error, limits};

use crate::RuntimeError;

/// Levels of nesting that are checked; deeper values are taken as they are.
const DEPTH_MAX: usize = 32;

/// What a program says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// What it does, for people.
    pub description: String,
    /// The JSON Schema of its arguments, of type `object`.
    pub arguments: Value,
}

impl Description {
    /// Reads what `describe` returned.
    pub(crate) fn parse(json: &str) -> Result<Self, RuntimeError> {
        let wrong = |reason: String| RuntimeError::Description(reason);
        if json.len() > limits::DESCRIPTION_BYTES_MAX {
            let max = limits::DESCRIPTION_BYTES_MAX;
            return Err(wrong(format!("it has {} bytes; the limit is {max} (DESCRIPTION_BYTES_MAX)", json.len())));
        }
        let value: Value = serde_json::from_str(json).map_err(|error| wrong(format!("it is not JSON: {error}")))?;
        let Value::Object(mut fields) = value else {
            return Err(wrong(format!("it is {}, not an object", kind(&value))));
        };
        let mut text = |field: &str, required: bool| match fields.remove(field) {
            Some(Value::String(text)) if !(required && text.is_empty()) => Ok(text),
            None if !required => Ok(String::new()),
            Some(other) => Err(wrong(format!("{field:?} is {}; it must be a string", kind(&other)))),
            None => Err(wrong(format!("{field:?} is missing"))),
        };
        let (name, description) = (text("name", true)?, text("description", false)?);
        let arguments = match fields.remove("arguments") {
            None => serde_json::json!({ "type": "object" }),
            Some(Value::Object(schema)) => {
                if schema.get("type").is_some_and(|kind| kind != "object") {
                    return Err(wrong("the type of \"arguments\" must be \"object\"".to_owned()));
                }
                Value::Object(schema)
            }
            Some(other) => return Err(wrong(format!("\"arguments\" is {}; it must be an object", kind(&other)))),
        };
        Ok(Self { name, description, arguments })
    }

    /// Checks a run's arguments: an object with all required arguments, no unknown ones, each of its type.
    ///
    /// # Errors
    /// [`sglhost_core::ErrorCode::Invalid`] naming the argument, what was given and what is expected.
    pub fn check(&self, arguments: &Value) -> Result<(), Error> {
        let Value::Object(given) = arguments else {
            return Err(Error::invalid(format!("the arguments are {}; they must be a JSON object", kind(arguments))));
        };
        let none = Map::new();
        let properties = self.arguments.get("properties").and_then(Value::as_object).unwrap_or(&none);
        let names = || properties.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        for name in required(&self.arguments) {
            if !given.contains_key(name) {
                let what = properties.get(name).and_then(|schema| schema.get("description")).and_then(Value::as_str);
                let what = what.map(|what| format!(" ({what})")).unwrap_or_default();
                return Err(Error::invalid(format!("argument {name:?} is missing{what}; {} takes it", self.name)));
            }
        }
        let open = properties.is_empty() && self.arguments.get("properties").is_none()
            || self.arguments.get("additionalProperties").is_some_and(|allowed| allowed != &Value::Bool(false));
        for (name, value) in given {
            match properties.get(name) {
                Some(schema) => check_value(&format!("argument {name:?}"), value, schema, 0)?,
                None if open => {}
                None if properties.is_empty() => {
                    return Err(Error::invalid(format!("unknown argument {name:?}; {} takes none", self.name)));
                }
                None => {
                    return Err(Error::invalid(format!("unknown argument {name:?}; {} takes {}", self.name, names())));
                }
            }
        }
        Ok(())
    }
}

fn required(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

fn check_value(path: &str, value: &Value, schema: &Value, depth: usize) -> Result<(), Error> {
    if depth >= DEPTH_MAX {
        return Ok(());
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let allowed = allowed.iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
        return Err(Error::invalid(format!("{path} is {}; it must be one of {allowed}", shown(value))));
    }
    let types: Vec<&str> = match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if !types.is_empty() && !types.iter().any(|expected| is_a(value, expected)) {
        let expected = types.join(" or ");
        return Err(Error::invalid(format!("{path} is {}; it must be of type {expected}", shown(value))));
    }
    match value {
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    check_value(&format!("{path}[{index}]"), item, schema, depth + 1)?;
                }
            }
        }
        Value::Object(fields) => {
            for name in required(schema) {
                if !fields.contains_key(name) {
                    return Err(Error::invalid(format!("{path} has no {name:?}, which is required")));
                }
            }
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, value) in fields {
                match properties.and_then(|properties| properties.get(name)) {
                    Some(schema) => check_value(&format!("{path}.{name}"), value, schema, depth + 1)?,
                    None if schema.get("additionalProperties") == Some(&Value::Bool(false)) => {
                        return Err(Error::invalid(format!("{path} has an unknown field {name:?}")));
                    }
                    None => {}
                }
            }
        }
        _ => {}
    }
    Ok(())
}

fn is_a(value: &Value, expected: &str) -> bool {
    match expected {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "number" => value.is_number(),
        // As JSON Schema has it: 1.0 is an integer.
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        // A type this does not know decides nothing.
        _ => true,
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The value if it is short, else what it is: arguments may hold prompt text, which errors do not repeat.
fn shown(value: &Value) -> String {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        _ => kind(value).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn description() -> Description {
        Description::parse(
            r#"{"name": "qa", "description": "answers", "arguments": {"type": "object", "properties": {
                "question": {"type": "string", "description": "what to answer"},
                "count": {"type": "integer"},
                "mood": {"enum": ["kind", "terse"]},
                "examples": {"type": "array", "items": {"type": "object", "required": ["q"],
                    "properties": {"q": {"type": "string"}}, "additionalProperties": false}}
            }, "required": ["question"]}}"#,
        )
        .unwrap()
    }

    fn check(arguments: &str, expect: Result<(), &str>) {
        let result = description().check(&serde_json::from_str(arguments).unwrap());
        assert_eq!(result.map_err(|error| error.message), expect.map_err(str::to_owned), "{arguments}");
    }

    #[test]
    fn arguments_are_checked_against_the_description() {
        check(r#"{"question": "why?"}"#, Ok(()));
        check(r#"{"question": "why?", "count": 2.0, "mood": "kind", "examples": [{"q": "a"}]}"#, Ok(()));
        check("[]", Err("the arguments are an array; they must be a JSON object"));
        check("{}", Err(r#"argument "question" is missing (what to answer); qa takes it"#));
        check(r#"{"question": 3}"#, Err(r#"argument "question" is 3; it must be of type string"#));
        check(r#"{"question": "", "count": 1.5}"#, Err(r#"argument "count" is 1.5; it must be of type integer"#));
        check(
            r#"{"question": "", "mood": "odd"}"#,
            Err(r#"argument "mood" is a string; it must be one of "kind", "terse""#),
        );
        check(
            r#"{"question": "", "quesiton": ""}"#,
            Err(r#"unknown argument "quesiton"; qa takes question, count, mood, examples"#),
        );
        check(
            r#"{"question": "", "examples": [{"q": "a"}, {}]}"#,
            Err(r#"argument "examples"[1] has no "q", which is required"#),
        );
        check(
            r#"{"question": "", "examples": [{"q": "a", "r": 1}]}"#,
            Err(r#"argument "examples"[0] has an unknown field "r""#),
        );
    }

    #[test]
    fn descriptions_are_read() {
        let reject = |json: &str, expect: &str| {
            assert_eq!(
                Description::parse(json).unwrap_err().to_string(),
                format!("the program's description is wrong: {expect}")
            );
        };
        assert_eq!(Description::parse(r#"{"name": "a"}"#).unwrap().arguments, serde_json::json!({"type": "object"}));
        reject("[]", "it is an array, not an object");
        reject("{}", "\"name\" is missing");
        reject(r#"{"name": 1}"#, "\"name\" is a number; it must be a string");
        reject(r#"{"name": "a", "arguments": []}"#, "\"arguments\" is an array; it must be an object");
        reject(r#"{"name": "a", "arguments": {"type": "array"}}"#, "the type of \"arguments\" must be \"object\"");
    }
}
