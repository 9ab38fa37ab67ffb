//! What happens in a run, step by step: one type for the terminal, server-sent events, the web page and traces.

use serde::{Deserialize, Serialize};

use crate::{CallId, ContextId, Error, ProgramId, RunId};

/// Why a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FinishReason {
    /// A stop string, stop token or stop regex of the call matched, or the constraint admits nothing more.
    Stop,
    /// `max_tokens` or the end of the model's context was reached.
    Length,
    /// The model ended its text.
    EndOfText,
}

impl FinishReason {
    /// The reason as it is written in WIT, JSON and traces.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::EndOfText => "end-of-text",
        }
    }
}

/// What a call or a run used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens before the output, cached ones included.
    pub prompt_tokens: u64,
    /// Of those, tokens whose KV was already there.
    pub cached_tokens: u64,
    /// Tokens of outputs, sampled or forced.
    pub completion_tokens: u64,
}

impl Usage {
    /// Adds another call's usage to this one.
    pub fn add(&mut self, other: Usage) {
        self.prompt_tokens += other.prompt_tokens;
        self.cached_tokens += other.cached_tokens;
        self.completion_tokens += other.completion_tokens;
    }
}

/// A step of a run.
///
/// The text of a context is the concatenation of its `ContextText` and `CallDelta` events (and, for a fork, what its
/// parent held when it was opened): prompt text is part of it, as in SGLang's `text_iter`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
#[non_exhaustive]
pub enum Event {
    /// Always the first event.
    #[serde(rename = "run.started")]
    RunStarted {
        /// The run.
        run: RunId,
        /// The program's content.
        program: ProgramId,
    },
    /// A context was created or forked.
    #[serde(rename = "context.opened")]
    ContextOpened {
        /// The new context.
        context: ContextId,
        /// The context it was forked from.
        #[serde(skip_serializing_if = "Option::is_none")]
        parent: Option<ContextId>,
    },
    /// The program appended text, or a role marker did.
    #[serde(rename = "context.text")]
    ContextText {
        /// Where.
        context: ContextId,
        /// What was added.
        text: String,
    },
    /// A call took effect on its context: what it sees is settled.
    #[serde(rename = "call.started")]
    CallStarted {
        /// The call.
        call: CallId,
        /// Its context.
        context: ContextId,
        /// The name of its result ("answer").
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Text was generated: whole UTF-8 characters, never part of a stop string.
    #[serde(rename = "call.delta")]
    CallDelta {
        /// The call.
        call: CallId,
        /// Its context.
        context: ContextId,
        /// The piece.
        text: String,
    },
    /// A call ended well.
    #[serde(rename = "call.finished")]
    CallFinished {
        /// The call.
        call: CallId,
        /// Its context.
        context: ContextId,
        /// The name of its result.
        #[serde(skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The whole output.
        text: String,
        /// Why it ended.
        finish_reason: FinishReason,
        /// What it used.
        usage: Usage,
        /// How many of its tokens a constraint forced, so that nobody sampled them.
        #[serde(default)]
        forced_tokens: u64,
    },
    /// A call ended with an error.
    #[serde(rename = "call.failed")]
    CallFailed {
        /// The call.
        call: CallId,
        /// Its context.
        context: ContextId,
        /// Why.
        error: Error,
    },
    /// The program sent a piece of output of its own.
    #[serde(rename = "emit")]
    Emit {
        /// The program's own name for this stream of data.
        channel: String,
        /// The data.
        data: String,
    },
    /// The program wrote to its standard output or error.
    #[serde(rename = "log")]
    Log {
        /// `stdout` or `stderr`.
        stream: LogStream,
        /// What it wrote; invalid UTF-8 is replaced.
        text: String,
    },
    /// Always the last event of a run.
    #[serde(rename = "run.finished")]
    RunFinished {
        /// The program's result as JSON text, or why there is none.
        result: Result<String, Error>,
        /// The sum over its calls.
        usage: Usage,
        /// CPU time of the program's own code, in microseconds.
        cpu_time_us: u64,
    },
}

impl Event {
    /// The event as a line of JSON, with `at_ms`: milliseconds since the run began, by the host's clock.
    #[must_use]
    pub fn to_json(&self, at_ms: u64) -> String {
        // All keys are strings and no number is infinite: there is nothing that JSON cannot hold.
        let mut json = serde_json::to_string(self).unwrap_or_default();
        // An object, which has its `type` at least.
        json.pop();
        json + &format!(",\"at_ms\":{at_ms}}}")
    }

    /// What kind of step it is, as its JSON says in `type`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::RunStarted { .. } => "run.started",
            Self::ContextOpened { .. } => "context.opened",
            Self::ContextText { .. } => "context.text",
            Self::CallStarted { .. } => "call.started",
            Self::CallDelta { .. } => "call.delta",
            Self::CallFinished { .. } => "call.finished",
            Self::CallFailed { .. } => "call.failed",
            Self::Emit { .. } => "emit",
            Self::Log { .. } => "log",
            Self::RunFinished { .. } => "run.finished",
        }
    }
}

/// Which of a program's output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_what_json_calls_it() {
        let (call, context, text) = (CallId(0), ContextId(0), String::new());
        let (name, usage, error) = (None, Usage::default(), Error::invalid(""));
        let result = Err(error.clone());
        for event in [
            Event::RunStarted { run: RunId(0), program: ProgramId("".into()) },
            Event::ContextOpened { context, parent: None },
            Event::ContextText { context, text: text.clone() },
            Event::CallStarted { call, context, name: name.clone() },
            Event::CallDelta { call, context, text: text.clone() },
            Event::CallFinished {
                call,
                context,
                name,
                text: text.clone(),
                finish_reason: FinishReason::Stop,
                usage,
                forced_tokens: 3,
            },
            Event::CallFailed { call, context, error },
            Event::Emit { channel: text.clone(), data: text.clone() },
            Event::Log { stream: LogStream::Stdout, text },
            Event::RunFinished { result, usage, cpu_time_us: 0 },
        ] {
            let json: Option<serde_json::Value> = serde_json::from_str(&event.to_json(1500)).ok();
            let said = json.as_ref().map(|json| (json["type"].as_str(), json["at_ms"].as_u64()));
            assert_eq!(said, Some((Some(event.kind()), Some(1500))));
            assert_eq!(json.and_then(|json| serde_json::from_value::<Event>(json).ok()), Some(event));
        }
    }
}
