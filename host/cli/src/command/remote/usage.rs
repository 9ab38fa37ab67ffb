//! `sglhost usage`: what was used on a server, and what may be.

use std::time::Duration;

use serde_json::Value;

use super::{ask, width};
use crate::{
    client::{Client, UsageReport, UsageSum},
    command::tenant::{quota_lines, versions},
    failure::Failure,
    flags::UsageFlags,
    interrupt::Interrupt,
    render::{Table, print},
    units::{display_bytes, display_duration},
};

/// Prints usage by day, and the quotas.
///
/// # Errors
/// The server refuses.
pub(super) async fn usage(client: Client, flags: UsageFlags, interrupt: &Interrupt) -> Result<(), Failure> {
    let path = match &flags.since {
        None => "/v1/usage".to_owned(),
        Some(day) => format!("/v1/usage?since={}", check_day(day)?),
    };
    let answer: Value = ask(&client, interrupt, move |client| client.get(&path)).await?;
    if flags.json {
        return print(&format!("{answer:#}\n"));
    }
    let report: UsageReport = serde_json::from_value(answer).map_err(Failure::other)?;
    print(&as_text(&report))
}

/// A day goes into a URL: nothing but digits and dashes.
fn check_day(day: &str) -> Result<&str, Failure> {
    let digits = |part: &str, length| part.len() == length && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = day.split('-').collect();
    match parts[..] {
        [year, month, date] if digits(year, 4) && digits(month, 2) && digits(date, 2) => Ok(day),
        _ => Err(Failure::Usage(format!("--since {day}: it must be a day as in 2026-11-01"))),
    }
}

fn as_text(report: &UsageReport) -> String {
    let headings = ["DAY (UTC)", "RUNS", "PROMPT", "CACHED", "COMPLETION", "CPU", "TIME"];
    let mut table = Table::new(&headings, &[1, 2, 3, 4, 5, 6], width());
    for day in &report.days {
        table.row(row(&day.day, day.sum));
    }
    table.row(row("total", report.total));
    let mut text = table.text();
    text += "\nmay use\n";
    for line in quota_lines(&report.quotas) {
        text += &format!("  {line}\n");
    }
    let stored = report.stored;
    text += &format!("keeps\n  {}, {}\n", versions(stored.programs), display_bytes(stored.program_bytes));
    text
}

fn row(day: &str, sum: UsageSum) -> [String; 7] {
    [
        day.to_owned(),
        sum.runs.to_string(),
        sum.tokens.prompt_tokens.to_string(),
        sum.tokens.cached_tokens.to_string(),
        sum.tokens.completion_tokens.to_string(),
        display_duration(Duration::from_micros(sum.cpu_time_us)),
        display_duration(Duration::from_millis(sum.wall_time_ms)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_day() {
        assert!(check_day("2026-11-01").is_ok());
        for other in ["", "2026-11", "2026-11-1", "yesterday", "2026-11-01&x", "20261101"] {
            assert!(check_day(other).is_err(), "{other}");
        }
    }
}
