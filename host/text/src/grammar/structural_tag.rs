//! Structural tags: free text until a trigger, then a tag whose content is constrained, then free text again.
//!
//! Made into a Lark grammar. Free text before a trigger is one lexeme that ends with the trigger's first occurrence;
//! free text at the end is one that contains no trigger.

use std::{fmt::Write as _, sync::Arc};

use llguidance::api::TopLevelGrammar;
use serde::Deserialize;
use serde_json::Value;
use sglhost_core::{Error, limits};

use super::{
    context_free::{ContextFree, check_text},
    json_schema, pattern,
};
use crate::Tokenizer;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tags {
    /// `structural_tag`, as SGLang's requests have it.
    #[serde(default, rename = "type")]
    _type: Option<String>,
    structures: Vec<Tag>,
    triggers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tag {
    begin: String,
    schema: Option<Value>,
    regex: Option<String>,
    end: String,
}

/// Compiles tags.
pub(super) fn compile(text: &str, tokenizer: &Arc<Tokenizer>) -> Result<ContextFree, Error> {
    check_text(text, "structural tag", (limits::GRAMMAR_BYTES_MAX, "GRAMMAR_BYTES_MAX"))?;
    let tags: Tags = serde_json::from_str(text).map_err(invalid)?;
    let grammar = tags.grammar()?;
    ContextFree::new(TopLevelGrammar::from_lark(grammar), tokenizer, |message| {
        json_schema::explain("structural tag", message)
    })
}

impl Tags {
    fn check(&self) -> Result<(), Error> {
        let max = limits::STRUCTURAL_TAGS_MAX;
        if self.structures.is_empty() || self.structures.len() > max {
            return Err(invalid(format!("{} structures; 1 to {max} are taken", self.structures.len())));
        }
        if self.triggers.is_empty() || self.triggers.len() > max {
            return Err(invalid(format!("{} triggers; 1 to {max} are taken", self.triggers.len())));
        }
        for (index, trigger) in self.triggers.iter().enumerate() {
            if trigger.is_empty() {
                return Err(invalid("a trigger is empty"));
            }
            let other =
                self.triggers.iter().enumerate().find(|(other, text)| *other != index && text.contains(trigger));
            if let Some((_, other)) = other {
                return Err(invalid(format!("the trigger {trigger:?} is part of the trigger {other:?}")));
            }
            if !self.structures.iter().any(|tag| tag.begin.starts_with(trigger)) {
                return Err(invalid(format!("no structure begins with the trigger {trigger:?}")));
            }
        }
        for tag in &self.structures {
            if !self.triggers.iter().any(|trigger| tag.begin.starts_with(trigger)) {
                return Err(invalid(format!("{:?} begins with none of the triggers", tag.begin)));
            }
        }
        Ok(())
    }

    /// The grammar in Lark's notation.
    fn grammar(self) -> Result<String, Error> {
        self.check()?;
        let mut grammar = String::from("%llguidance {}\nstart: tagged* TEXT\n");
        let any = r"(.|\n)*";
        let has_trigger = |trigger: &String| format!("/{any}{}{any}/", slashed(trigger));
        let none: Vec<String> = self.triggers.iter().map(|trigger| format!("~{}", has_trigger(trigger))).collect();
        let _ = writeln!(grammar, "TEXT: /{any}/ & {}", none.join(" & "));
        let tagged: Vec<String> = (0..self.triggers.len()).map(|index| format!("triggered_{index}")).collect();
        let _ = writeln!(grammar, "tagged: {}", tagged.join(" | "));
        for (index, trigger) in self.triggers.iter().enumerate() {
            // Ends where its trigger first ends; no other has come before.
            let others = self.triggers.iter().filter(|other| *other != trigger);
            let others: String = others.map(|other| format!(" & ~{}", has_trigger(other))).collect();
            let _ = writeln!(grammar, "before_{index}[lazy]: /{any}{}/{others}", slashed(trigger));
            let begun = self.structures.iter().enumerate().filter(|(_, tag)| tag.begin.starts_with(trigger.as_str()));
            let begun: Vec<String> = begun.map(|(tag, _)| format!("tag_{tag}")).collect();
            let _ = writeln!(grammar, "triggered_{index}: before_{index} ({})", begun.join(" | "));
        }
        for (index, tag) in self.structures.into_iter().enumerate() {
            let what = format!("structural tag {:?}", tag.begin);
            let trigger = self.triggers.iter().find(|trigger| tag.begin.starts_with(trigger.as_str()));
            let rest = &tag.begin[trigger.map_or(0, String::len)..];
            let content = match (tag.schema, tag.regex) {
                (Some(schema), None) => format!("%json {}", json_schema::written_in_one_line(schema, &what)?),
                (None, Some(regex)) => {
                    pattern::parse(&what, &regex)?;
                    format!("CONTENT_{index}\nCONTENT_{index}: /{}/", unslashed(&regex))
                }
                _ => return Err(invalid(format!("{:?} takes either a schema or a regex", tag.begin))),
            };
            let (name, definition) = content.split_once('\n').unwrap_or((&content, ""));
            let literals =
                [rest, tag.end.as_str()].map(|text| if text.is_empty() { String::new() } else { quoted(text) });
            let _ = writeln!(grammar, "tag_{index}: {} {name} {}\n{definition}", literals[0], literals[1]);
        }
        Ok(grammar)
    }
}

/// A literal of Lark's.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// A literal inside a regular expression between slashes.
fn slashed(text: &str) -> String {
    unslashed(&regex_syntax::escape(text)).replace('\n', r"\n").replace('\r', r"\r")
}

/// A regular expression between slashes.
fn unslashed(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut escaped = false;
    for character in pattern.chars() {
        if character == '/' && !escaped {
            out.push('\\');
        }
        escaped = character == '\\' && !escaped;
        out.push(character);
    }
    out
}

fn invalid(message: impl std::fmt::Display) -> Error {
    Error::invalid(format!("structural tag: {message}"))
}
