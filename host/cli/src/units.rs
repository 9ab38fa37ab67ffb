//! Quantities as people write them on a command line: `10s`, `1.5m`, `128MiB`.

use std::time::Duration;

/// The shortest time that can be a limit, and how often the sandbox looks at one.
const TIME_LIMIT_MIN: Duration = Duration::from_millis(1);
/// A year: longer ones are mistakes.
const TIME_LIMIT_MAX: Duration = Duration::from_secs(8760 * 3600);
/// A page of WebAssembly memory: no program does with less.
const MEMORY_LIMIT_MIN: usize = 64 << 10;

/// Parses a limit of time; see [`parse_duration`].
///
/// # Errors
/// What is wrong, for clap to put after the flag's name.
pub(crate) fn parse_time_limit(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if (TIME_LIMIT_MIN..=TIME_LIMIT_MAX).contains(&time) {
        Ok(time)
    } else {
        Err("it must be in 1ms..=8760h".to_owned())
    }
}

/// Parses a limit of memory; see [`parse_bytes`].
///
/// # Errors
/// What is wrong, for clap to put after the flag's name.
pub(crate) fn parse_memory_limit(text: &str) -> Result<usize, String> {
    match parse_bytes(text)? {
        0..MEMORY_LIMIT_MIN => Err("it must be at least 64KiB, a page of a program's memory".to_owned()),
        bytes => Ok(bytes),
    }
}

/// Parses a size that may be anything; see [`parse_bytes`].
///
/// # Errors
/// What is wrong, for clap to put after the flag's name.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    parse_bytes(text).map(|bytes| bytes as u64)
}

/// Parses a time: a number with `ms`, `s`, `m` or `h`; a bare number is seconds.
///
/// # Errors
/// What is wrong, for the user.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text)?;
    let seconds = match unit {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return Err(format!("unknown unit {unit:?}; there are ms, s, m and h, as in 500ms or 10s")),
    };
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("{text} is out of range"))
}

/// Parses a size in bytes: a number with `k`, `M` or `G`, optionally followed by `B` or `iB`; all are powers of 1024.
///
/// # Errors
/// What is wrong, for the user.
fn parse_bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = split_unit(text)?;
    let shift = match unit.trim_end_matches(['B', 'b']).trim_end_matches('i') {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        _ => return Err(format!("unknown unit {unit:?}; there are KiB, MiB and GiB, as in 128MiB")),
    };
    let bytes = number * f64::from(1_u32 << shift);
    if bytes >= 2_f64.powi(53) {
        return Err(format!("{text} is out of range"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked: 0 <= bytes < 2^53")]
    Ok(bytes as usize)
}

fn split_unit(text: &str) -> Result<(f64, &str), String> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number = number.parse::<f64>().map_err(|_| "it must begin with a number, as in 10s or 128MiB".to_owned())?;
    Ok((number, unit.trim()))
}

/// A size for people: `98.4 MB`, in powers of 1000 as download pages have it.
pub(crate) fn display_bytes(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let value = bytes as f64;
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.2} GB", value / 1e9),
    }
}

/// A day for people and machines: `2026-11-25`, in UTC, of milliseconds since the Unix epoch.
///
/// By Howard Hinnant's `civil_from_days`, for days from the epoch on.
pub(crate) fn display_day(milliseconds: u64) -> String {
    let days = milliseconds / 86_400_000 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Counted from March.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + carry)
}

/// A time for people: `12 ms`, `3.41 s`, `2 min 5 s`.
pub(crate) fn display_duration(time: Duration) -> String {
    match time.as_secs() {
        0 if time.as_millis() < 1 => format!("{} µs", time.as_micros()),
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.2} s", time.as_secs_f64()),
        seconds => format!("{} min {} s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check = |text, expect: Option<u64>| {
            assert_eq!(parse_duration(text).ok().map(|time| time.as_millis()), expect.map(u128::from), "{text}");
        };
        check("10", Some(10_000));
        check("1.5s", Some(1_500));
        check("250ms", Some(250));
        check("2 m", Some(120_000));
        check("1h", Some(3_600_000));
        check("soon", None);
        check("10d", None);
        check("-1s", None);
        check("99999999999999999999h", None);
    }

    #[test]
    fn sizes() {
        let check = |text, expect| assert_eq!(parse_bytes(text).ok(), expect, "{text}");
        check("0", Some(0));
        check("1.5k", Some(1536));
        check("128MiB", Some(128 << 20));
        check("2 GB", Some(2 << 30));
        check("many", None);
        check("1TB", None);
        check("99999999999G", None);
    }

    #[test]
    fn limits_have_a_range() {
        let range = || Err("it must be in 1ms..=8760h".to_owned());
        for (text, expect) in [("0", range()), ("0.5ms", range()), ("1ms", Ok(Duration::from_millis(1)))] {
            assert_eq!(parse_time_limit(text), expect);
        }
        assert_eq!(parse_time_limit("8760h"), Ok(TIME_LIMIT_MAX));
        assert_eq!(parse_time_limit("8761h"), range());
        assert_eq!(parse_memory_limit("64KiB"), Ok(64 << 10));
        assert!(parse_memory_limit("0").is_err() && parse_memory_limit("1").is_err());
    }

    #[test]
    fn days() {
        let check = |seconds: u64, expect| assert_eq!(display_day(seconds * 1000), expect);
        check(0, "1970-01-01");
        check(951_782_399, "2000-02-28");
        check(951_782_400, "2000-02-29");
        check(1_795_651_199, "2026-11-25");
        check(4_107_542_400, "2100-03-01");
    }

    #[test]
    fn for_people() {
        assert_eq!(display_bytes(999), "999 B");
        assert_eq!(display_bytes(98_362_432), "98.4 MB");
        assert_eq!(display_duration(Duration::from_micros(80)), "80 µs");
        assert_eq!(display_duration(Duration::from_millis(999)), "999 ms");
        assert_eq!(display_duration(Duration::from_millis(61_000)), "1 min 1 s");
    }
}
