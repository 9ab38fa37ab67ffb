//! What `run` prints: text, JSON, figures; and that a seed repeats it.

use serde_json::Value;
use sglhost_tests::binary::{plugin, run, sglhost};

use crate::{arguments::probe, events::tell};

const QUESTION: &[&str] = &["--question", "What is the capital of France?", "--max-tokens", "24", "--seed", "11"];

#[test]
fn standard_output_is_the_text_of_the_context() {
    let mut command = sglhost(["run"]);
    let text = run(command.arg(plugin("text_qa")).args(QUESTION)).well();
    let told = tell("text_qa", QUESTION);
    assert_eq!(text.trim_end_matches('\n'), told.text().trim_end_matches('\n'), "the same seed gives the same text");
    assert!(!text.contains('\x1b'), "a pipe gets no colours");
}

#[test]
fn another_seed_gives_another_text() {
    let texts = ["1", "2"]
        .map(|seed| tell("text_qa", &["--question", "Tell me a story.", "--seed", seed, "--max-tokens", "24"]));
    assert_ne!(texts[0].text(), texts[1].text());
}

#[test]
fn colours_tell_prompt_from_output() {
    let mut command = sglhost(["run", "--color=always"]);
    let text = run(command.arg(plugin("text_qa")).args(QUESTION)).well();
    assert!(text.contains("\x1b[2mWhat is the capital of France?\x1b[0m"), "{text:?}");
    assert!(text.contains("\x1b[1m"), "{text:?}");
}

#[test]
fn forks_come_as_labelled_blocks() {
    let text = run(sglhost(["run"]).arg(probe()).args(["--numbers", "[]", "--forks", "3"])).well();
    let mut labels: Vec<&str> = text.lines().filter(|line| line.starts_with("── ")).collect();
    // Which fork's call starts first is nobody's promise.
    labels[..3].sort_unstable();
    assert_eq!(labels, ["── fork 1 ──", "── fork 2 ──", "── fork 3 ──", "── main ──", "── result ──"]);
    let blocks: Vec<&str> = text.split("\n── ").collect();
    for block in &blocks[1..4] {
        let (label, block) = block.split_once(" ──\n").unwrap();
        assert!(block.contains(&format!("<|im_start|>assistant\n{}: ", label.replace("fork", "Fork"))), "{text}");
        // What the model says is its own business, but it says no control tokens: one marker, one fork.
        assert_eq!(block.matches("<|im_start|>").count(), 1, "{text}");
    }
    assert!(blocks[4].contains("In short: "), "{text}");
}

#[test]
fn json_holds_result_variables_and_usage() {
    let mut command = sglhost(["run", "--json"]);
    let ended = run(command.arg(plugin("text_qa")).args(QUESTION).arg("--stats"));
    for figure in
        ["prompt tokens", "cached", "completion tokens", "time to first token", "tokens per second", "wall time"]
    {
        assert!(ended.stderr.contains(figure), "{}", ended.stderr);
    }
    let told = tell("text_qa", QUESTION);
    let record: Value = serde_json::from_str(&ended.well()).unwrap();
    assert_eq!(record["result"], Value::Null);
    assert_eq!(record["variables"]["answer"], told.call("answer").text);
    assert_eq!(record["usage"], serde_json::to_value(told.usage).unwrap());
}

#[test]
fn variables_of_forks_are_apart() {
    let run = run(sglhost(["run", "--json"]).arg(probe()).args(["--numbers", "[]", "--forks", "2"])).well();
    let record: Value = serde_json::from_str(&run).unwrap();
    let names: Vec<_> = record["variables"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["summary"]);
    let forks = record["forks"].as_array().unwrap();
    let contexts: Vec<_> = forks.iter().map(|fork| (&fork["context"], &fork["parent"])).collect();
    assert_eq!(contexts, [(&Value::from(1), &Value::from(0)), (&Value::from(2), &Value::from(0))]);
    assert!(forks.iter().all(|fork| fork["variables"]["said"].is_string()), "{record}");
}

#[test]
fn what_a_program_says_beside_its_text_goes_to_standard_error() {
    let ended = run(sglhost(["run"]).arg(probe()).args(["--say", "hello", "--numbers", "1"]));
    assert_eq!(ended.stderr, "said: hello\nhello\n");
    assert_eq!(ended.well(), "── result ──\n[\"1\"]\n");
}
