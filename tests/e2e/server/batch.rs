//! `--batch` on a server prints what it prints here.

use std::fs;

use sglhost_tests::binary::plugin;

use super::{Served, ended, here};

#[test]
fn a_batch_says_what_it_says_here() {
    let served = Served::start();
    let program = plugin("text_qa");
    served.push(&program);
    let lines =
        "{\"question\": \"Why?\"}\n\n{\"question\": 3}\n{\"question\": \"How?\"}\nno json\n{\"question\": \"Who?\"}\n";
    let file = served.folder.path().join("questions.jsonl");
    fs::write(&file, lines).unwrap();
    let words = ["--temperature", "0", "--max-tokens", "12"];
    let local = ended(here(["run", "--batch"]).arg(&file).arg(&program).args(words));
    let remote = ended(served.command(["run", "--stats", "--batch"]).arg(&file).arg("text_qa").args(words));
    assert_eq!((remote.code, local.code), (Some(1), Some(1)), "{}", remote.stderr);
    assert!(remote.stderr.ends_with("error: 2 of 5 lines failed\n"), "{}", remote.stderr);
    assert!(remote.stderr.contains("runs                 5\n"), "{}", remote.stderr);
    // Which of runs at once finds what the other computed is chance; all else is not.
    let plain = |text: &str| -> Vec<String> {
        let cut = |line: &str| line.split("\"usage\"").next().unwrap_or_default().to_owned();
        text.lines().map(cut).collect()
    };
    assert_eq!(plain(&remote.stdout), plain(&local.stdout));
    assert_eq!(remote.stdout.lines().count(), 5);
}
