//! Arguments of a program: from the JSON object of a run to typed values, and to JSON Schema for the description.

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A type that a program may take as an argument.
///
/// Implemented for text, numbers, `bool`, `Option`, `Vec` and [`serde_json::Value`], which takes anything.
pub trait Argument: Sized {
    /// Whether a run must give it; an `Option` may be left out.
    const REQUIRED: bool = true;

    /// The JSON Schema of its values.
    fn schema() -> Value;

    /// Parses a value.
    ///
    /// # Errors
    /// What it must be and what it is, as in "must be an integer, and is text".
    fn parse(value: Value) -> Result<Self, String>;
}

fn must_be<T>(wanted: &str, value: &Value) -> Result<T, String> {
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    Err(format!("must be {wanted}, and is {is}"))
}

fn of_type(name: &str) -> Value {
    let mut schema = Map::new();
    schema.insert("type".to_owned(), name.into());
    Value::Object(schema)
}

impl Argument for String {
    fn schema() -> Value {
        of_type("string")
    }

    fn parse(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Ok(text),
            other => must_be("text", &other),
        }
    }
}

impl Argument for bool {
    fn schema() -> Value {
        of_type("boolean")
    }

    fn parse(value: Value) -> Result<Self, String> {
        value.as_bool().map_or_else(|| must_be("true or false", &value), Ok)
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Argument for $type {
            fn schema() -> Value {
                let mut schema = of_type("integer");
                // 64-bit bounds are no news to anybody, and JSON readers round them.
                if size_of::<$type>() < 8 {
                    schema["maximum"] = <$type>::MAX.into();
                }
                if size_of::<$type>() < 8 || <$type>::MIN == 0 {
                    schema["minimum"] = <$type>::MIN.into();
                }
                schema
            }

            fn parse(value: Value) -> Result<Self, String> {
                // A JSON number may be written 3.0.
                let whole = |number: f64| (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64);
                let number = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
                let number = number.or(value.as_f64().and_then(whole).map(i128::from));
                match number.map(<$type>::try_from) {
                    Some(Ok(number)) => Ok(number),
                    Some(Err(_)) => Err(format!("must be from {} to {}, and is {value}", <$type>::MIN, <$type>::MAX)),
                    None if value.is_number() => Err(format!("must be an integer, and is {value}")),
                    None => must_be("an integer", &value),
                }
            }
        }
    )*};
}

integers! { i8 i16 i32 i64 u8 u16 u32 u64 }

macro_rules! floats {
    ($($type:ty)*) => {$(
        impl Argument for $type {
            fn schema() -> Value {
                of_type("number")
            }

            fn parse(value: Value) -> Result<Self, String> {
                value.as_f64().map_or_else(|| must_be("a number", &value), |number| Ok(number as $type))
            }
        }
    )*};
}

floats! { f32 f64 }

impl<T: Argument> Argument for Option<T> {
    const REQUIRED: bool = false;

    fn schema() -> Value {
        T::schema()
    }

    fn parse(value: Value) -> Result<Self, String> {
        if value.is_null() { Ok(None) } else { T::parse(value).map(Some) }
    }
}

impl<T: Argument> Argument for Vec<T> {
    fn schema() -> Value {
        let mut schema = of_type("array");
        schema["items"] = T::schema();
        schema
    }

    fn parse(value: Value) -> Result<Self, String> {
        match value {
            Value::Array(items) => {
                let item = |(index, item)| T::parse(item).map_err(|problem| format!("item {index} {problem}"));
                items.into_iter().enumerate().map(item).collect()
            }
            other => must_be("a list", &other),
        }
    }
}

impl Argument for Value {
    fn schema() -> Value {
        Value::Object(Map::new())
    }

    fn parse(value: Value) -> Result<Self, String> {
        Ok(value)
    }
}

/// What `#[program]` knows of an argument.
#[derive(Debug)]
pub struct ArgumentInfo {
    /// Its name.
    pub name: &'static str,
    /// From its doc comment; may be empty.
    pub description: &'static str,
    /// JSON Schema of its type.
    pub schema: fn() -> Value,
    /// Whether its type must be given.
    pub required: bool,
    /// The value it takes when it is left out, for the description.
    pub default: Option<fn() -> Value>,
}

/// The arguments of a run while they are taken one by one.
#[derive(Debug)]
pub struct Arguments {
    given: Map<String, Value>,
}

impl Arguments {
    /// Parses the JSON object of a run.
    ///
    /// # Errors
    /// `invalid`: it is no JSON object, or names an argument that the program does not have.
    pub fn parse(json: &str, known: &[ArgumentInfo]) -> Result<Self> {
        let value = serde_json::from_str(if json.trim().is_empty() { "{}" } else { json });
        let given = match value {
            Ok(Value::Object(given)) => given,
            Ok(_) => return Err(Error::invalid("the arguments must be a JSON object of names and values")),
            Err(error) => return Err(Error::invalid(format!("the arguments are no JSON: {error}"))),
        };
        if let Some(name) = given.keys().find(|name| known.iter().all(|argument| argument.name != name.as_str())) {
            let names: Vec<_> = known.iter().map(|argument| argument.name).collect();
            let takes = if names.is_empty() { "no arguments".to_owned() } else { names.join(", ") };
            return Err(Error::invalid(format!("unknown argument {name:?}; the program takes {takes}")));
        }
        Ok(Self { given })
    }

    /// Takes an argument that has a default, or must be given unless its type is an `Option`.
    ///
    /// # Errors
    /// `invalid`: it is missing, or of another type.
    pub fn take<T: Argument>(&mut self, name: &str, default: Option<fn() -> T>) -> Result<T> {
        let parsed = match (self.given.remove(name), default) {
            (Some(Value::Null) | None, Some(default)) => Ok(default()),
            (Some(value), _) => T::parse(value),
            (None, None) if T::REQUIRED => return Err(Error::invalid(format!("missing argument {name:?}"))),
            (None, None) => T::parse(Value::Null),
        };
        parsed.map_err(|problem| Error::invalid(format!("argument {name:?} {problem}")))
    }
}

/// The program's description as a JSON document, with the arguments in the order of the function.
///
/// Written by hand, because a `serde_json` map would sort the arguments by name.
#[must_use]
pub(crate) fn describe(name: &str, description: &str, arguments: &[ArgumentInfo]) -> String {
    let quoted = |text: &str| Value::from(text).to_string();
    let property = |argument: &ArgumentInfo| {
        let mut schema = (argument.schema)();
        if !argument.description.is_empty() {
            schema["description"] = argument.description.into();
        }
        if let Some(default) = argument.default {
            schema["default"] = default();
        }
        format!("{}:{schema}", quoted(argument.name))
    };
    let required = |argument: &&ArgumentInfo| argument.required && argument.default.is_none();
    let properties: Vec<_> = arguments.iter().map(property).collect();
    let required: Vec<_> = arguments.iter().filter(required).map(|argument| quoted(argument.name)).collect();
    format!(
        r#"{{"name":{},"description":{},"arguments":{{"type":"object","properties":{{{}}},"required":[{}],"additionalProperties":false}}}}"#,
        quoted(name),
        quoted(description),
        properties.join(","),
        required.join(",")
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn check<T: Argument + PartialEq + std::fmt::Debug>(json: &str, expect: Result<T, &str>) {
        let parsed = T::parse(serde_json::from_str(json).unwrap());
        assert_eq!(parsed, expect.map_err(str::to_owned), "{json} as {}", std::any::type_name::<T>());
    }

    #[test]
    fn values_parse_or_say_what_they_must_be() {
        check("\"a\"", Ok(String::from("a")));
        check::<String>("1", Err("must be text, and is a number"));
        check("true", Ok(true));
        check::<bool>("\"true\"", Err("must be true or false, and is text"));
        check("-3", Ok(-3_i32));
        check("3.0", Ok(3_u8));
        check("18446744073709551615", Ok(u64::MAX));
        check::<u8>("256", Err("must be from 0 to 255, and is 256"));
        check::<i64>("1.5", Err("must be an integer, and is 1.5"));
        check::<i64>("\"1\"", Err("must be an integer, and is text"));
        check("1", Ok(1.0_f32));
        check::<f64>("null", Err("must be a number, and is null"));
        check("null", Ok(None::<String>));
        check("\"a\"", Ok(Some(String::from("a"))));
        check("[1, 2]", Ok(vec![1_i64, 2]));
        check::<Vec<i64>>("[1, \"2\"]", Err("item 1 must be an integer, and is text"));
        check::<Vec<i64>>("{}", Err("must be a list, and is an object"));
        check("{\"a\": 1}", Ok(serde_json::json!({"a": 1})));
    }

    #[test]
    fn schemas_name_types_and_bounds() {
        let check = |schema: Value, expect: &str| assert_eq!(schema.to_string(), expect);
        check(String::schema(), r#"{"type":"string"}"#);
        check(i64::schema(), r#"{"type":"integer"}"#);
        check(u64::schema(), r#"{"minimum":0,"type":"integer"}"#);
        check(i8::schema(), r#"{"maximum":127,"minimum":-128,"type":"integer"}"#);
        check(Option::<f64>::schema(), r#"{"type":"number"}"#);
        check(Vec::<bool>::schema(), r#"{"items":{"type":"boolean"},"type":"array"}"#);
        check(Value::schema(), "{}");
    }
}
