//! Renders a chat template as Hugging Face's `apply_chat_template` does.
//!
//! Templates are code that comes with a model: they run with bounded fuel and see nothing but the messages.

use std::time::Duration;

use minijinja::{Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig, value::Kwargs};
use serde::Serialize;
use sglhost_core::limits;

use super::date;

/// A parsed template and the tokens it may name.
pub(super) struct Template<'a> {
    environment: Environment<'a>,
    bos: &'static str,
    eos: String,
}

/// One turn of a conversation to render.
pub(super) struct Message<'a> {
    pub role: &'a str,
    pub content: &'a str,
    /// Of a tool's result: the name of the tool, and of the call it answers.
    pub tool_call: Option<(&'a str, &'a str)>,
}

impl Message<'_> {
    fn to_value(&self) -> Value {
        let mut fields = vec![("role", self.role), ("content", self.content)];
        if let Some((name, call)) = self.tool_call {
            fields.extend([("name", name), ("tool_call_id", call)]);
        }
        Value::from_pairs(fields)
    }
}

const NAME: &str = "chat template";

impl Template<'_> {
    /// Parses a template. `now` is the time since the Unix epoch that `strftime_now` tells; without it the function is
    /// not defined, and templates that ask whether it is fall back to a date of their own.
    pub(super) fn new(source: &str, bos: &'static str, eos: String, now: Option<Duration>) -> Result<Self, Error> {
        let mut environment = Environment::new();
        environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
        environment.set_fuel(Some(limits::TEMPLATE_FUEL));
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        if let Some(now) = now {
            environment.add_function("strftime_now", move |format: &str| date::format(now, format));
        }
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, without_generation_marks(source))?;
        Ok(Self { environment, bos, eos })
    }

    /// The text of a conversation, with the assistant's turn opened at its end if `generation` is set.
    pub(super) fn render(&self, messages: &[Message<'_>], generation: bool) -> Result<String, Error> {
        self.environment.get_template(NAME)?.render(context! {
            messages => messages.iter().map(Message::to_value).collect::<Vec<_>>(),
            add_generation_prompt => generation,
            bos_token => self.bos,
            eos_token => self.eos.as_str(),
            tools => Value::from(()),
            documents => Value::from(()),
        })
    }
}

/// Takes out `{% generation %}`, an extension of `transformers` that marks what to train on and prints nothing.
fn without_generation_marks(source: &str) -> String {
    let mut text = source.to_owned();
    for word in ["generation", "endgeneration"] {
        for (open, close) in [("{%", "%}"), ("{%-", "%}"), ("{%", "-%}"), ("{%-", "-%}")] {
            // An empty comment keeps the white space control of the tag.
            let comment = format!("{}{}", open.replace('%', "#"), close.replace('%', "#"));
            text = text.replace(&format!("{open} {word} {close}"), &comment);
        }
    }
    text
}

/// `tojson` as `transformers` defines it: nothing is escaped for HTML.
fn to_json(value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Accepted, and of no effect on what we render.
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    let mut bytes = Vec::new();
    match indent {
        Some(width) => {
            let spaces = " ".repeat(width);
            let formatter = serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes());
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter)).map_err(failed)?;
        }
        None => {
            value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, Spaced)).map_err(failed)?;
        }
    }
    Ok(Value::from_safe_string(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Python's separators: a space after each comma and colon.
struct Spaced;

impl serde_json::ser::Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(&mut self, writer: &mut W, first: bool) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(&mut self, writer: &mut W) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}
