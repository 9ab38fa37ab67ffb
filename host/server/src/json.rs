//! What is kept, as the JSON of the API. Times are RFC 3339 in UTC, with milliseconds.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sglhost_core::limits::LIST_BYTES_MAX;
use sglhost_core::{Error, Usage};
use sglhost_store::{ProgramVersion, RunRow, RunStatus, UsageDay};

use crate::ApiError;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A version of a program.
pub(crate) fn program_version(version: &ProgramVersion) -> Value {
    let said = |field: &str| version.description.get(field).cloned().unwrap_or(Value::Null);
    json!({
        "name": version.name,
        "version": version.version,
        "digest": format!("sha256:{}", version.digest),
        "size_bytes": version.size_bytes,
        "title": said("name"),
        "description": said("description"),
        "arguments": said("arguments"),
        "tags": version.tags,
        "created_at": time(version.created_ms),
    })
}

/// A run with all that came of it, as text: what is said of it first, and its record, which may be megabytes, as it is
/// kept. One after the other they are an object.
pub(crate) fn run(row: &RunRow) -> [Bytes; 2] {
    struct Kept(Arc<str>);
    impl AsRef<[u8]> for Kept {
        fn as_ref(&self) -> &[u8] {
            self.0.as_bytes()
        }
    }
    let mut fields = head(row);
    match &row.record {
        Some(record) if record.starts_with('{') => {
            fields.remove("usage");
            let mut head = Value::Object(fields).to_string();
            head.pop();
            head.push(',');
            [head.into(), Bytes::from_owner(Kept(Arc::clone(record))).slice(1..)]
        }
        _ => [Value::Object(fields).to_string().into(), Bytes::new()],
    }
}

/// A run in a list: without its result and what its calls said. (The store gives the beginning of its error alone.)
pub(crate) fn run_in_list(row: &RunRow) -> Value {
    let mut fields = head(row);
    if let Some(Error { code, message }) = &row.error {
        fields.insert("error".to_owned(), json!({"code": code, "message": message}));
    }
    Value::Object(fields)
}

fn head(row: &RunRow) -> Map<String, Value> {
    let mut fields = Map::new();
    let mut field = |name: &str, value: Value| fields.insert(name.to_owned(), value);
    field("id", Value::from(row.id.to_string()));
    field("program", Value::from(row.program.clone()));
    field("version", Value::from(row.version));
    field("digest", Value::from(format!("sha256:{}", row.digest)));
    field("status", Value::from(status(row.status)));
    field("created_at", Value::from(time(row.started_ms)));
    field("finished_at", row.finished_ms.map_or(Value::Null, |ms| Value::from(time(ms))));
    field("usage", usage(row.usage));
    field("cpu_time_us", Value::from(row.cpu_time_us));
    // Nobody knows when one that was interrupted stopped: usage counts no time of it.
    let ended = row.finished_ms.filter(|_| row.status != RunStatus::Interrupted);
    field("wall_time_ms", ended.map_or(Value::Null, |ms| Value::from(ms.saturating_sub(row.started_ms))));
    fields
}

/// A run's status.
pub(crate) fn status(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Running => "running",
        RunStatus::Succeeded => "succeeded",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "cancelled",
        RunStatus::Interrupted => "interrupted",
    }
}

/// A line of a batch, from what [`run`] gives.
pub(crate) fn batch_line(index: usize, run: Result<[Bytes; 2], ApiError>) -> [Bytes; 3] {
    match run {
        Ok([head, record]) => {
            let index = format!("{{\"index\":{index},");
            let line = [index.as_bytes(), &head[1..]].concat();
            [line.into(), record, Bytes::from_static(b"\n")]
        }
        Err(error) => {
            let line = json!({"index": index, "error": {"code": error.code, "message": error.message}});
            [line.to_string().into(), Bytes::new(), Bytes::from_static(b"\n")]
        }
    }
}

/// Usage by day, and in all.
pub(crate) fn usage_days(days: &[UsageDay]) -> (Vec<Value>, Value) {
    let fields = |day: &UsageDay| {
        let mut fields = Map::new();
        fields.insert("runs".to_owned(), Value::from(day.runs));
        if let Value::Object(tokens) = usage(day.usage) {
            fields.extend(tokens);
        }
        fields.insert("cpu_time_us".to_owned(), Value::from(day.cpu_time_us));
        fields.insert("wall_time_ms".to_owned(), Value::from(day.wall_time_ms));
        fields
    };
    let mut total = UsageDay { day_ms: 0, runs: 0, usage: Usage::default(), cpu_time_us: 0, wall_time_ms: 0 };
    for day in days {
        total.runs += day.runs;
        total.usage.add(day.usage);
        total.cpu_time_us += day.cpu_time_us;
        total.wall_time_ms += day.wall_time_ms;
    }
    let with_day = |day: &UsageDay| {
        let mut all = Map::new();
        all.insert("day".to_owned(), Value::from(date(day.day_ms)));
        all.extend(fields(day));
        Value::Object(all)
    };
    (days.iter().map(with_day).collect(), Value::Object(fields(&total)))
}

fn usage(usage: Usage) -> Value {
    let Usage { prompt_tokens, cached_tokens, completion_tokens } = usage;
    json!({"prompt_tokens": prompt_tokens, "cached_tokens": cached_tokens, "completion_tokens": completion_tokens})
}

/// A page of a list, and what to ask the next one after: the last entry, if there may be more.
pub(crate) fn next<T>(entries: &[T], limit: u32, name: impl Fn(&T) -> String) -> Value {
    match entries.last() {
        Some(last) if entries.len() >= limit as usize => Value::from(name(last)),
        _ => Value::Null,
    }
}

/// Versions for a list, of which each may be as long as a description: those that fit [`LIST_BYTES_MAX`], one at least.
/// And what the next page comes after.
pub(crate) fn versions(
    versions: &[ProgramVersion],
    limit: u32,
    name: impl Fn(&ProgramVersion) -> String,
) -> (Vec<Value>, Value) {
    let mut bytes = 0;
    let (mut listed, mut after) = (Vec::new(), next(versions, limit, &name));
    for (index, version) in versions.iter().enumerate() {
        let value = program_version(version);
        bytes += value.to_string().len();
        if bytes > LIST_BYTES_MAX && index > 0 {
            after = Value::from(name(&versions[index - 1]));
            break;
        }
        listed.push(value);
    }
    (listed, after)
}

/// `2026-11-25T18:00:00.000Z`.
pub(crate) fn time(ms: u64) -> String {
    let (second, ms_of_second) = (ms / 1000, ms % 1000);
    let (hour, minute) = (second / 3600 % 24, second / 60 % 60);
    format!("{}T{hour:02}:{minute:02}:{:02}.{ms_of_second:03}Z", date(ms), second % 60)
}

/// `2026-11-25`.
fn date(ms: u64) -> String {
    // Days since 0000-03-01, in eras of 400 years: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let days = ms / DAY_MS + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// The first millisecond of a day that is written `2026-11-25`, from 1970 to 9999.
pub(crate) fn day_ms(text: &str) -> Option<u64> {
    let digits = |range: std::ops::Range<usize>| -> Option<u64> {
        let part = text.get(range)?;
        part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())?
    };
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let right = text.len() == 10 && text.get(4..5) == Some("-") && text.get(7..8) == Some("-");
    if !right || year < 1970 || !(1..=12).contains(&month) || day < 1 {
        return None;
    }
    let (shifted, from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = shifted % 400 * 365 + shifted % 400 / 4 - shifted % 400 / 100 + day_of_year;
    let ms = (shifted / 400 * 146_097 + day_of_era - 719_468) * DAY_MS;
    // A day that its month has not comes out as another.
    (date(ms) == text).then_some(ms)
}

#[cfg(test)]
mod tests {
    use sglhost_core::{ErrorCode, ProgramId, RunId, RunRecord};

    use super::*;

    fn row(status: RunStatus, record: Option<String>) -> RunRow {
        RunRow {
            id: RunId(7),
            program: "p".to_owned(),
            version: 1,
            digest: ProgramId("00".into()),
            status,
            started_ms: 1000,
            finished_ms: record.is_some().then_some(3000),
            error: record.is_none().then(|| Error::new(ErrorCode::Invalid, "no")),
            record: record.map(Into::into),
            usage: Usage { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 2 },
            cpu_time_us: 5,
        }
    }

    #[test]
    fn a_record_is_answered_as_it_is_kept() {
        let usage = Usage { prompt_tokens: 1, cached_tokens: 0, completion_tokens: 2 };
        let record = RunRecord::default().ended(&Ok("[1.50,  0]".to_owned()), usage);
        let row = row(RunStatus::Succeeded, Some(record.clone()));
        let [head, rest] = run(&row);
        assert_eq!(rest, record[1..]);
        // Not even a copy.
        assert_eq!(rest.as_ptr(), row.record.as_deref().map_or(std::ptr::null(), |record| record[1..].as_ptr()));
        let read = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
        let whole = [&*head, &rest].concat();
        assert_eq!(String::from_utf8_lossy(&whole).matches("usage").count(), 1);
        let whole = read(&whole).unwrap_or_default();
        assert_eq!((&whole["wall_time_ms"], &whole["result"]), (&json!(2000), &json!([1.5, 0])));
        let line = batch_line(3, Ok(run(&row))).concat();
        let mut line = read(&line[..line.len() - 1]).unwrap_or_default();
        assert_eq!(line["index"].take(), 3);
        assert_eq!(line["result"], whole["result"]);
        let refused = batch_line(4, Err(ApiError::invalid("no"))).concat();
        assert_eq!(read(&refused), Some(json!({"index": 4, "error": {"code": "invalid", "message": "no"}})));
    }

    #[test]
    fn a_run_that_was_interrupted_took_nobody_knows_how_long() {
        let failed = || Some(RunRecord::failed(Error::unavailable("the server stopped")).to_json());
        for (status, record, expect) in [
            (RunStatus::Interrupted, failed(), Value::Null),
            (RunStatus::Failed, failed(), json!(2000)),
            (RunStatus::Running, None, Value::Null),
        ] {
            let row = row(status, record);
            let whole = serde_json::from_slice::<Value>(&run(&row).concat()).unwrap_or_default();
            assert_eq!((&whole["wall_time_ms"], &run_in_list(&row)["wall_time_ms"]), (&expect, &expect), "{status:?}");
        }
    }

    #[test]
    fn times_are_written_and_days_are_read() {
        let days = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_709_164_800_000, "2024-02-29T00:00:00.000Z"),
            (1_795_629_600_123, "2026-11-25T18:00:00.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (ms, expect) in days {
            assert_eq!(time(ms), expect);
            assert_eq!(day_ms(&expect[..10]), Some(ms / DAY_MS * DAY_MS), "{expect}");
        }
        for wrong in [
            "",
            "2026-11-31",
            "2026-02-29",
            "2026-13-01",
            "2026-00-01",
            "2026-01-00",
            "1969-12-31",
            "2026-1-01",
            "2026-11-251",
            "２０２６-1-1",
            "+026-01-01",
            "2026/01/01",
        ] {
            assert_eq!(day_ms(wrong), None, "{wrong}");
        }
    }
}
