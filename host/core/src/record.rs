//! A run in sum: its result, what its named calls said, what it used.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{ContextId, Error, Event, Usage};

/// What `--json` and each line of `--batch` print, and what the HTTP API says of a run.
///
/// `variables` are those of contexts that the program opened itself, as `state["answer"]` is in SGLang; a name that was
/// used twice has its last value. A fork's are its own, as `forks[0]["tip"]` is: each fork with named calls is listed in
/// `forks`, in the order of opening.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Error>,
    variables: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    forks: Vec<ForkRecord>,
    usage: Usage,
    #[serde(skip)]
    cpu_time_us: u64,
    #[serde(skip)]
    parents: BTreeMap<ContextId, Option<ContextId>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct ForkRecord {
    context: ContextId,
    parent: ContextId,
    variables: BTreeMap<String, String>,
}

/// A result that is there, though it be `null`: most programs' is.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl RunRecord {
    /// A run that never began.
    #[must_use]
    pub fn failed(error: Error) -> Self {
        Self { error: Some(error), ..Self::default() }
    }

    /// Takes an event in.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::ContextOpened { context, parent } => {
                self.parents.insert(*context, *parent);
            }
            Event::CallFinished { context, name: Some(name), text, .. } => {
                self.variables_of(*context).insert(name.clone(), text.clone());
            }
            Event::RunFinished { result, usage, cpu_time_us } => {
                (self.usage, self.cpu_time_us) = (*usage, *cpu_time_us);
                match result {
                    // The contract says JSON; a program that gives something else has its text shown.
                    Ok(text) => {
                        self.result = Some(serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())));
                    }
                    Err(error) => self.error = Some(error.clone()),
                }
            }
            _ => {}
        }
    }

    /// The record of a run that ended so, as JSON, with the result as the program wrote it: a value made of megabytes
    /// takes many times their memory, and the time to be read and written again.
    #[must_use]
    pub fn ended(mut self, result: &Result<String, Error>, usage: Usage) -> String {
        self.usage = usage;
        match result {
            Ok(text) => {
                self.result = None;
                let (result, rest) = (as_json(text), self.to_json());
                // `rest` is an object that has its `usage` at least.
                format!("{{\"result\":{result},{}", &rest[1..])
            }
            Err(error) => {
                self.error = Some(error.clone());
                self.to_json()
            }
        }
    }

    /// Why the run has no result; none while it goes on or if it has one.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// The run's usage, known at its end.
    #[must_use]
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Microseconds of CPU time of the program's own code, known at the run's end.
    #[must_use]
    pub fn cpu_time_us(&self) -> u64 {
        self.cpu_time_us
    }

    /// As a line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // All keys are strings and no number is infinite: there is nothing that JSON cannot hold.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// For people: indented.
    #[must_use]
    pub fn to_json_pretty(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    fn variables_of(&mut self, context: ContextId) -> &mut BTreeMap<String, String> {
        let Some(parent) = self.parents.get(&context).copied().flatten() else { return &mut self.variables };
        let place = match self.forks.binary_search_by_key(&context, |fork| fork.context) {
            Ok(place) => place,
            Err(place) => {
                self.forks.insert(place, ForkRecord { context, parent, variables: BTreeMap::new() });
                place
            }
        };
        &mut self.forks[place].variables
    }
}

/// A result within other JSON, on one line: as it is if it is JSON that others can read, too, else as a string.
fn as_json(text: &str) -> Cow<'_, str> {
    if serde_json::from_str::<Readable>(text).is_err() {
        return Cow::Owned(Value::from(text).to_string());
    }
    // Between values only: in a string they are written with a backslash.
    if text.contains(['\n', '\r']) { Cow::Owned(text.replace(['\n', '\r'], " ")) } else { Cow::Borrowed(text) }
}

/// Any JSON, read as [`Value`] reads it (no number out of range, no nesting without end) and forgotten at once.
struct Readable;

impl<'de> Deserialize<'de> for Readable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Readable {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self, A::Error> {
        while list.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{CallId, ErrorCode, FinishReason};

    fn finished(context: u32, name: &str, text: &str) -> Event {
        Event::CallFinished {
            call: CallId(0),
            context: ContextId(context),
            name: Some(name.to_owned()),
            text: text.to_owned(),
            finish_reason: FinishReason::Stop,
            usage: Usage::default(),
            forced_tokens: 0,
        }
    }

    #[test]
    fn variables_of_forks_do_not_collide() {
        let mut record = RunRecord::default();
        let usage = Usage { prompt_tokens: 3, cached_tokens: 1, completion_tokens: 2 };
        for event in [
            Event::ContextOpened { context: ContextId(0), parent: None },
            Event::ContextOpened { context: ContextId(1), parent: Some(ContextId(0)) },
            Event::ContextOpened { context: ContextId(2), parent: Some(ContextId(0)) },
            finished(2, "tip", "b"),
            finished(1, "tip", "a"),
            finished(0, "summary", "first"),
            finished(0, "summary", "second"),
            Event::RunFinished { result: Ok(r#"{"n": 1}"#.to_owned()), usage, cpu_time_us: 7 },
        ] {
            record.take(&event);
        }
        let expect = json!({
            "result": {"n": 1},
            "variables": {"summary": "second"},
            "forks": [
                {"context": 1, "parent": 0, "variables": {"tip": "a"}},
                {"context": 2, "parent": 0, "variables": {"tip": "b"}},
            ],
            "usage": {"prompt_tokens": 3, "cached_tokens": 1, "completion_tokens": 2},
        });
        assert_eq!(serde_json::from_str::<Value>(&record.to_json()).ok(), Some(expect));
    }

    #[test]
    fn a_result_stands_in_its_record_as_the_program_wrote_it() {
        let usage = Usage { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 2 };
        let rest = r#""variables":{},"usage":{"prompt_tokens":1,"cached_tokens":0,"completion_tokens":2}}"#;
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        for (text, expect) in [
            (r#"{"b": 1.50, "a": "\n"}"#, r#"{"b": 1.50, "a": "\n"}"#.to_owned()),
            ("[1,\r\n2]\n", "[1,  2] ".to_owned()),
            ("null", "null".to_owned()),
            // What others could not read is text.
            ("{", "\"{\"".to_owned()),
            ("", "\"\"".to_owned()),
            ("1 2", "\"1 2\"".to_owned()),
            ("1e999", "\"1e999\"".to_owned()),
            (r#""\ud800""#, r#""\"\\ud800\"""#.to_owned()),
            (&deep, format!("\"{deep}\"")),
        ] {
            let json = RunRecord::default().ended(&Ok(text.to_owned()), usage);
            assert_eq!(json, format!("{{\"result\":{expect},{rest}"));
            assert!(serde_json::from_str::<Value>(&json).is_ok(), "{json}");
        }
        let json = RunRecord::default().ended(&Err(Error::new(ErrorCode::Invalid, "no")), usage);
        assert_eq!(json, format!(r#"{{"error":{{"code":"invalid","message":"no"}},{rest}"#));
    }

    #[test]
    fn a_record_is_read_as_it_is_written() {
        for result in [Some(Value::Null), Some(json!(7)), None] {
            let record = RunRecord { result, ..RunRecord::default() };
            assert_eq!(serde_json::from_str::<RunRecord>(&record.to_json()).ok(), Some(record));
        }
    }

    #[test]
    fn an_error_takes_the_place_of_the_result() {
        let record = RunRecord::failed(Error::new(ErrorCode::Invalid, "no"));
        let expect = json!({
            "error": {"code": "invalid", "message": "no"},
            "variables": {},
            "usage": {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0},
        });
        assert_eq!(serde_json::from_str::<Value>(&record.to_json()).ok(), Some(expect));
    }
}
