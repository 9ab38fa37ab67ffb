//! Where the lines of a bundle come from: its source map, made short enough to be part of a script.

use serde_json::{Value, json};

/// What a script is given to tell its author's lines by:
/// `{"files": […], "runs": [[line, file, line of the file], …]}`.
/// Lines count from 1. A run holds until the next begins, line by line.
///
/// `before` lines come before the bundle in the script; `name` is asked how people know a source.
///
/// # Errors
/// It is no source map.
pub(super) fn lines(map: &str, before: i64, name: impl Fn(&str) -> String) -> Result<Value, String> {
    let map: Value = serde_json::from_str(map).map_err(|error| format!("no source map: {error}"))?;
    let sources = map["sources"].as_array().ok_or("a source map without sources")?;
    let files: Vec<_> = sources.iter().map(|source| name(source.as_str().unwrap_or_default())).collect();
    let mappings = map["mappings"].as_str().ok_or("a source map without mappings")?;
    let mut runs: Vec<[i64; 3]> = Vec::new();
    // Of the segment before, from which the next one counts.
    let (mut file, mut line) = (0, 0);
    for (number, segments) in mappings.split(';').enumerate() {
        let mut first = None;
        for segment in segments.split(',').filter(|segment| !segment.is_empty()) {
            let numbers = numbers(segment).ok_or_else(|| format!("{segment:?} is no segment of a source map"))?;
            // The column alone: it comes from nowhere.
            let [_, file_step, line_step, ..] = numbers[..] else { continue };
            file += file_step;
            line += line_step;
            first.get_or_insert((file, line + 1));
        }
        let Some((file, line)) = first else { continue };
        let here = before + 1 + i64::try_from(number).map_err(|error| error.to_string())?;
        let goes_on = runs.last().is_some_and(|&[from, of_file, of]| of_file == file && of + here - from == line);
        if !goes_on {
            runs.push([here, file, line]);
        }
    }
    Ok(json!({ "files": files, "runs": runs }))
}

/// The numbers of a segment: base 64, five bits a digit, the least first; the lowest bit of a number is its sign.
fn numbers(segment: &str) -> Option<Vec<i64>> {
    let (mut numbers, mut number, mut shift) = (Vec::new(), 0_i64, 0);
    for byte in segment.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        if shift > 50 {
            return None;
        }
        number |= i64::from(digit & 31) << shift;
        shift += 5;
        if digit & 32 == 0 {
            numbers.push(if number & 1 == 0 { number >> 1 } else { -(number >> 1) });
            (number, shift) = (0, 0);
        }
    }
    (shift == 0).then_some(numbers)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn digits_are_numbers() {
        assert_eq!(numbers("AACA"), Some(vec![0, 0, 1, 0]));
        assert_eq!(numbers("DF"), Some(vec![-1, -2]));
        assert_eq!(numbers("gBhB"), Some(vec![16, -16]));
        assert_eq!(numbers("g"), None);
        assert_eq!(numbers("!"), None);
    }

    #[test]
    fn lines_that_follow_each_other_are_one_run() {
        // Lines 1 and 2 of the first file, nothing, line 5 of the second, its line 6, and the first's line 1 again.
        let map = r#"{"sources": ["a.js", "b.js"], "mappings": "AAAA,CAAC;AACA;;ACGA;AACA;ADLA"}"#;
        let expect = json!({ "files": ["A.JS", "B.JS"], "runs": [[2, 0, 1], [5, 1, 5], [7, 0, 1]] });
        assert_eq!(lines(map, 1, str::to_uppercase).unwrap(), expect);
        assert!(lines("{}", 0, str::to_owned).is_err());
        assert!(lines(r#"{"sources": [], "mappings": "!"}"#, 0, str::to_owned).is_err());
    }
}
