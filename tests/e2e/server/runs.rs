//! A program that is pushed runs as its file does, and is gone when it is removed.

use std::{io::Read, process::Child};

use serde_json::Value;
use sglhost_tests::binary::plugin;

use super::{Served, ended, here, interrupt};
use crate::arguments::probe;
use crate::stopping::until_the_model_speaks;

const WORDS: [&str; 8] =
    ["--question", "What is the capital of France?", "--max-tokens", "24", "--temperature", "0", "--seed", "11"];

#[test]
fn a_pushed_program_runs_as_its_file_does() {
    let served = Served::start();
    let file = plugin("text_qa");
    let pushed = served.push(&file);
    assert!(pushed.starts_with("text_qa@1  sha256:"), "{pushed}");

    // The first thing that either engine does, so that even the cached tokens are the same.
    let local = ended(here(["run", "--json"]).arg(&file).args(WORDS)).well();
    let remote = ended(served.command(["run", "--json", "text_qa"]).args(WORDS)).well();
    assert_eq!(remote, local, "the same result, variables and usage");

    let local = ended(here(["run"]).arg(&file).args(WORDS)).well();
    let remote = ended(served.command(["run", "text_qa@1", "--stats"]).args(WORDS));
    for figure in ["prompt tokens", "completion tokens", "time to first token", "tokens per second", "wall time"] {
        assert!(remote.stderr.contains(figure), "{}", remote.stderr);
    }
    assert_eq!(remote.well(), local, "the same text");

    let kinds = |text: &str| -> Vec<String> {
        let kind = |line: &str| serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_owned();
        let mut kinds: Vec<String> = text.lines().map(kind).collect();
        // How the text falls into pieces is nobody's promise.
        kinds.dedup();
        kinds
    };
    let local = ended(here(["run", "--events"]).arg(&file).args(WORDS)).well();
    let remote = ended(served.command(["run", "--events", "text_qa"]).args(WORDS)).well();
    assert_eq!(kinds(&remote), kinds(&local));

    let help = served.run(["run", "text_qa", "--help"]).well();
    assert!(help.contains("Arguments of text_qa") && help.contains("--question <STRING>"), "{help}");
    assert!(!help.contains("--kv-tokens"), "what is the server's operator's has no flag: {help}");
}

#[test]
fn versions_and_tags_are_kept_until_they_are_removed() {
    let served = Served::start();
    let text_qa = plugin("text_qa");
    served.push(&text_qa);
    let again = served.run(["push".as_ref(), text_qa.as_os_str()]);
    assert!(again.stderr.contains("stays version 1"), "{}", again.stderr);
    assert!(again.well().starts_with("text_qa@1 "));
    let other = ended(served.command(["push", "--name", "text_qa", "--tag", "stable"]).arg(probe())).well();
    assert!(other.starts_with("text_qa@2 ") && other.ends_with("  stable\n"), "{other}");

    assert_eq!(served.run(["tag", "text_qa", "1", "first"]).well(), "text_qa@first is text_qa@1\n");
    let listed: Value = serde_json::from_str(&served.run(["ls", "text_qa", "--json"]).well()).unwrap();
    let tags: Vec<_> = listed["versions"].as_array().unwrap().iter().map(|it| &it["tags"][0]).collect();
    assert_eq!(tags, ["stable", "first"]);
    let table = served.run(["ls"]).well();
    let cells: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(cells[0][..3], ["NAME", "VERSION", "TAGS"]);
    assert_eq!(cells[1][..3], ["text_qa", "2", "stable"], "{table}");

    assert_eq!(served.run(["rm", "text_qa@stable"]).well(), "deleted text_qa@stable (1 version)\n");
    assert_eq!(served.run(["rm", "text_qa"]).well(), "deleted text_qa (1 version)\n");
    let gone = ended(served.command(["run", "text_qa"]).args(WORDS));
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.starts_with("error: ") && gone.stderr.contains("text_qa"), "{}", gone.stderr);
    assert!(served.run(["ls"]).well().is_empty());
}

/// Starts a run that does not end by itself, and reads until the model speaks.
pub(crate) fn start_endless(served: &Served) -> Child {
    let mut command = served.command(["run", "probe", "--numbers", "[]", "--endless"]);
    until_the_model_speaks(&mut command)
}

fn newest(served: &Served) -> Value {
    let runs: Value = serde_json::from_str(&served.run(["runs", "--json"]).well()).unwrap();
    runs["runs"][0].clone()
}

#[test]
#[cfg(unix)]
fn ctrl_c_cancels_the_run_on_the_server() {
    let served = Served::start();
    served.push(&probe());
    let mut child = start_endless(&served);
    interrupt(&child);
    // What was read before may end within a character.
    let (mut rest, mut stderr) = (Vec::new(), String::new());
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{stderr}");
    assert!(rest.ends_with(b"\n") && !stderr.contains("error"), "{rest:?} {stderr}");
    assert_eq!(newest(&served)["status"], "cancelled");
    let table = served.run(["runs"]).well();
    assert!(table.contains("cancelled") && table.contains("probe@1"), "{table}");
}

#[test]
fn a_client_that_is_gone_leaves_no_run_behind() {
    let served = Served::start();
    served.push(&probe());
    let mut child = start_endless(&served);
    let id = newest(&served)["id"].as_str().unwrap().to_owned();
    child.kill().unwrap();
    child.wait().unwrap();
    // Follows it to its end.
    let logs = served.run(["logs", &id]);
    assert_eq!(logs.code, Some(1));
    assert!(logs.stderr.contains("cancelled"), "{}", logs.stderr);
    assert_eq!(newest(&served)["status"], "cancelled");
}
