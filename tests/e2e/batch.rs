//! `--batch`: a line in, a line out, in order, whatever ends first.

use std::{fs, io::Write, process::Stdio};

use serde_json::Value;
use sglhost_tests::binary::{plugin, run, sglhost, turn};

const GREEDY: [&str; 4] = ["--temperature", "0", "--max-tokens", "24"];
const QUESTIONS: [&str; 3] =
    ["What is the capital of the United Kingdom?", "What is the capital of France?", "What is the capital of Japan?"];

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A batched run says what the run alone says, to the letter: so order and independence are seen at once.
#[test]
fn each_line_says_what_its_run_says_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("questions.jsonl");
    let questions: String = QUESTIONS.map(|question| format!("{{\"question\": {question:?}}}\n")).concat();
    fs::write(&file, questions).unwrap();
    let batch = run(sglhost(["run", "--batch"]).arg(&file).arg(plugin("text_qa")).args(GREEDY)).well();
    let batch = lines(&batch);
    assert_eq!(batch.len(), QUESTIONS.len());
    for (question, line) in QUESTIONS.iter().zip(&batch) {
        let alone = run(sglhost(["run", "--json", "--question", question]).args(GREEDY).arg(plugin("text_qa")));
        // Options before the program are the host's; a program's own come after it.
        assert_eq!(alone.code, Some(2), "{}", alone.stderr);
        let alone = run(sglhost(["run", "--json"]).arg(plugin("text_qa")).args(["--question", question]).args(GREEDY));
        let alone: Value = serde_json::from_str(&alone.well()).unwrap();
        assert_eq!(line["variables"], alone["variables"], "{question}");
    }
}

#[test]
fn a_bad_line_is_named_and_the_others_go_on() {
    let _turn = turn();
    let mut command = sglhost(["run", "--batch", "-"]);
    let mut child = command
        .arg(plugin("text_qa"))
        .args(GREEDY)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = "{\"question\": \"Why?\"}\n\n{\"question\": 3}\nno json\n{\"question\": \"How?\"}\n";
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let lines = lines(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(lines.len(), 4);
    for (index, message) in [
        (1, "line 3: argument \"question\" is 3; it must be of type string"),
        (
            2,
            "line 4: arguments must be a JSON object, as in {\"question\": \"…\"}; this is not JSON: expected a value \
             (column 2)",
        ),
    ] {
        assert_eq!(lines[index]["error"]["code"], "invalid");
        assert_eq!(lines[index]["error"]["message"], message);
        assert!(stderr.contains(message), "{stderr}");
    }
    for index in [0, 3] {
        assert!(lines[index]["error"].is_null() && lines[index]["variables"]["answer"].is_string(), "{}", lines[index]);
    }
    assert!(stderr.ends_with("error: 2 of 4 lines failed\n"), "{stderr}");
}

#[test]
fn a_batch_without_lines_says_so() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "\n\n").unwrap();
    let ended = run(sglhost(["run", "--batch"]).arg(file.path()).arg(plugin("text_qa")));
    assert_eq!((ended.code, &*ended.stdout), (Some(0), ""));
    assert_eq!(ended.stderr, "note: the batch has no lines; nothing is run\n");
}
