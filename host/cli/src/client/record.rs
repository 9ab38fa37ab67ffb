//! What a server says of programs and runs, as much of it as is shown.

use serde::Deserialize;
use serde_json::Value;
use sglhost_core::{Error, ErrorCode, Quotas, RunId, RunRecord, Usage};

use crate::explain;

/// A version of a program.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ProgramVersion {
    /// The program's name on the server.
    pub(crate) name: String,
    /// Counts from 1.
    pub(crate) version: u32,
    /// `sha256:…`.
    pub(crate) digest: String,
    /// Bytes of its component.
    pub(crate) size_bytes: u64,
    /// What it calls itself.
    pub(crate) title: String,
    /// What it says of itself.
    pub(crate) description: String,
    /// The JSON Schema of its arguments.
    pub(crate) arguments: Value,
    /// Tags that point at it.
    pub(crate) tags: Vec<String>,
    /// When it came, in RFC 3339.
    pub(crate) created_at: String,
}

/// A run, as lists have it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RunSummary {
    /// Its id.
    pub(crate) id: RunId,
    /// The program's name.
    pub(crate) program: String,
    /// The program's version.
    pub(crate) version: u32,
    /// `running`, `succeeded`, ….
    pub(crate) status: String,
    /// When it began, in RFC 3339.
    pub(crate) created_at: String,
    /// From its start to its end, if it has ended.
    #[serde(default)]
    pub(crate) wall_time_ms: Option<u64>,
    /// What it used, if it has ended.
    #[serde(default)]
    pub(crate) usage: Option<Usage>,
}

/// What was used, and what may be.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct UsageReport {
    /// By day, the oldest first.
    pub(crate) days: Vec<UsageDay>,
    /// All together.
    pub(crate) total: UsageSum,
    /// What may be used.
    pub(crate) quotas: Quotas,
    /// What is kept.
    pub(crate) stored: Stored,
}

/// What was used in a day.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct UsageDay {
    /// As in 2026-11-25.
    pub(crate) day: String,
    /// How much.
    #[serde(flatten)]
    pub(crate) sum: UsageSum,
}

/// What was used.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct UsageSum {
    /// Runs that ended.
    pub(crate) runs: u64,
    /// Tokens.
    #[serde(flatten)]
    pub(crate) tokens: Usage,
    /// CPU time of programs' own code.
    pub(crate) cpu_time_us: u64,
    /// Sum of the runs' times from start to end.
    pub(crate) wall_time_ms: u64,
}

/// What is kept.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct Stored {
    /// Versions of programs.
    pub(crate) programs: u32,
    /// Their bytes.
    pub(crate) program_bytes: u64,
}

/// A page of a list.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    /// What is listed.
    pub(crate) items: Vec<Value>,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<String>,
}

/// The record in what a server says of a run. An error of a kind that is not known here keeps its message; one about a
/// limit names no way out that only the server's operator has.
pub(crate) fn run_record(mut run: Value) -> RunRecord {
    if let Some(code) = run.pointer_mut("/error/code")
        && code.as_str().and_then(ErrorCode::parse).is_none()
    {
        *code = Value::from(ErrorCode::Unavailable.as_str());
    }
    if let Some(error) = run.get_mut("error")
        && let Ok(mut known) = serde_json::from_value::<Error>(error.clone())
    {
        explain::remote_limit(&mut known);
        error["message"] = Value::from(known.message);
    }
    if let Value::Object(fields) = &mut run {
        if fields.get("error").is_some_and(Value::is_null) {
            fields.remove("error");
        }
        // Absent where nothing came of it.
        for field in ["variables", "usage"] {
            if fields.get(field).is_none_or(Value::is_null) {
                let none = serde_json::to_value(RunRecord::default()).unwrap_or_default();
                fields.insert(field.to_owned(), none[field].clone());
            }
        }
    }
    serde_json::from_value(run).unwrap_or_else(|error| {
        RunRecord::failed(Error::invalid(format!("the server tells of a run in a way that is not known here: {error}")))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_run_becomes_the_record_that_a_run_here_has() {
        let run = json!({
            "id": "000000000000002f", "program": "p", "version": 1, "status": "succeeded", "result": null,
            "variables": {"answer": "x"}, "usage": {"prompt_tokens": 1, "cached_tokens": 0, "completion_tokens": 2},
            "cpu_time_us": 7, "wall_time_ms": 1,
        });
        let record: Value = serde_json::from_str(&run_record(run).to_json()).unwrap_or_default();
        assert_eq!(record["variables"], json!({"answer": "x"}));
        assert_eq!(record["usage"]["completion_tokens"], 2);
    }

    #[test]
    fn an_error_of_an_unknown_kind_keeps_its_message() {
        let record = run_record(json!({"index": 1, "error": {"code": "too-many-requests", "message": "later"}}));
        assert_eq!(record.error().map(|error| error.message.as_str()), Some("later"));
    }
}
