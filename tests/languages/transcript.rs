//! Every function of the contract, in every language: the same words, whoever calls it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use sglhost_core::limits::RunLimits;

use crate::host::Host;
use crate::in_every_language;

/// Of the slow calls below.
const PASSES: usize = 40;

in_every_language! { the_same_transcript four_forks_overlap budgets_are_told }

fn the_same_transcript(language: &str) {
    let host = Host::new(language, Duration::ZERO);
    let end = host.run("all", RunLimits::default());
    let mut said = format!("{:#}\n", host.description());
    match &end.result {
        Ok(result) => {
            for line in result["lines"].as_array().unwrap() {
                writeln!(said, "{}", line.as_str().unwrap()).unwrap();
            }
        }
        Err(error) => writeln!(said, "{error}\n{}", end.log).unwrap(),
    }
    for (channel, data) in end.emitted {
        writeln!(said, "emitted {channel}: {data}").unwrap();
    }
    let left = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("transcript-{language}.txt"));
    fs::write(&left, &said).unwrap();
    let expect = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("languages/transcript.txt")).unwrap();
    for (number, (said, expect)) in said.lines().zip(expect.lines()).enumerate() {
        assert_eq!(said, expect, "line {} of {}", number + 1, left.display());
    }
    assert_eq!(said.lines().count(), expect.lines().count(), "lines of {}", left.display());
}

/// Passes are counted, which a busy machine does not change: calls one after the other would take four times as many.
fn four_forks_overlap(language: &str) {
    let host = Host::new(language, Duration::from_millis(5));
    let passes = |part: &str| {
        let before = host.passes();
        assert_eq!(
            host.run(part, RunLimits::default()).result,
            Ok(Value::from(PASSES * if part == "one" { 1 } else { 4 }))
        );
        host.passes() - before
    };
    let one = passes("one");
    let four = passes("four");
    assert!((PASSES..2 * PASSES).contains(&one), "{one}");
    assert!(four * 2 <= one * 3, "one call took {one} passes, four {four}");
}

fn budgets_are_told(language: &str) {
    let host = Host::new(language, Duration::ZERO);
    let limits = RunLimits { tokens_max: 500, ..RunLimits::default() };
    let end = host.run("budget", limits.clone());
    let told = end.result.unwrap_or_else(|error| panic!("{error}\n{}", end.log));
    let told = told.as_str().unwrap();
    assert!(told.starts_with("limit-exceeded: ") && told.contains("500"), "{told}");
    // The same, where the program does not look at it.
    let end = host.run("four", RunLimits { tokens_max: 50, ..limits });
    assert_eq!(end.result.unwrap_err().code.as_str(), "limit-exceeded");
}
