//! The date that templates print, as Python's `strftime` writes it (UTC, English names).

use std::{fmt::Write, time::Duration};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// Formats a time since the Unix epoch. A conversion that is not known is copied as it is.
pub(super) fn format(since_epoch: Duration, format: &str) -> String {
    let seconds = since_epoch.as_secs();
    let days = seconds / 86_400;
    let (year, month, day) = civil(days);
    let weekday = DAYS[((days + 4) % 7) as usize];
    let month_name = MONTHS[month as usize - 1];
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        let conversion = if character == '%' { characters.next() } else { None };
        // Writing to a string does not fail.
        let _ = match conversion {
            None => write!(text, "{character}"),
            Some('Y') => write!(text, "{year}"),
            Some('y') => write!(text, "{:02}", year % 100),
            Some('m') => write!(text, "{month:02}"),
            Some('d') => write!(text, "{day:02}"),
            Some('B') => write!(text, "{month_name}"),
            Some('b') => write!(text, "{}", &month_name[..3]),
            Some('A') => write!(text, "{weekday}"),
            Some('a') => write!(text, "{}", &weekday[..3]),
            Some('H') => write!(text, "{hour:02}"),
            Some('M') => write!(text, "{minute:02}"),
            Some('S') => write!(text, "{second:02}"),
            Some('%') => write!(text, "%"),
            Some(other) => write!(text, "%{other}"),
        };
    }
    text
}

/// Year, month and day of a number of days since the Unix epoch, after Howard Hinnant's "chrono-Compatible Low-Level
/// Date Algorithms" (`civil_from_days`), for days that are not negative.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_pythons() {
        let check = |seconds: u64, pattern: &str, expect: &str| {
            assert_eq!(format(Duration::from_secs(seconds), pattern), expect);
        };
        check(0, "%A, %d %B %Y", "Thursday, 01 January 1970");
        check(1_709_210_096, "%d %b %Y %H:%M:%S", "29 Feb 2024 12:34:56");
        check(1_735_689_599, "%a %y-%m-%d", "Tue 24-12-31");
        check(0, "100%% %Q", "100% %Q");
    }
}
