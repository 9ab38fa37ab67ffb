//! What goes wrong, in the words that the user reads.

use std::fs;

use sglhost_tests::binary::{plugin, run, sglhost};

use crate::arguments::probe;

/// Runs `sglhost run` with `{text_qa}` and `{probe}` standing for those programs; `expect` is all of standard error.
#[track_caller]
fn check(arguments: &[&str], code: i32, expect: &str) {
    let mut command = sglhost(["run"]);
    for argument in arguments {
        match *argument {
            "{text_qa}" => command.arg(plugin("text_qa")),
            "{probe}" => command.arg(probe()),
            other => command.arg(other),
        };
    }
    let ended = run(&mut command);
    assert_eq!((ended.stderr.trim_end(), ended.code), (expect, Some(code)), "{arguments:?}");
}

#[test]
fn a_file_that_is_no_component() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, content: &[u8], problem: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        let path = path.to_str().unwrap();
        check(&[path], 1, &format!("error: {path} {problem}"));
    };
    check("empty.wasm", b"", "is empty, not a WebAssembly component");
    check("text.wasm", b"(component)", "is WebAssembly text; a component is binary (`wasm-tools parse` converts it)");
    check("script.sh", b"#!/bin/sh\n", "is no WebAssembly: it does not begin with its mark, \\0asm");
    check(
        "module.wasm",
        b"\0asm\x01\0\0\0",
        "is a core WebAssembly module, not a component; `sglhost build` makes components, `wasm-tools component new` \
         turns a module that follows the contract into one",
    );
    let path = folder.path().to_str().unwrap();
    super::errors::check(
        &[path],
        1,
        &format!("error: {path} is a folder; `sglhost build` builds the program in it into a component"),
    );
    super::errors::check(&["no-such.wasm"], 1, "error: no-such.wasm does not exist");
    let ended = {
        let path = folder.path().join("other.wasm");
        fs::write(&path, b"\0asm\x0d\0\x01\0").unwrap();
        run(sglhost(["run"]).arg(path))
    };
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("is not a prompt program (world sgl:program/program)"), "{}", ended.stderr);
}

#[test]
fn arguments() {
    check(&["{text_qa}"], 2, "error: text_qa needs the argument --question (a string): What to ask.");
    check(&["{text_qa}", "--qestion", "x"], 2, "error: text_qa has no argument --qestion; did you mean --question?");
    check(&["{probe}", "--numbers", "one"], 2, "error: --numbers takes a list of integers, not \"one\"");
    check(
        &["{text_qa}", "--question"],
        2,
        "error: --question needs a value (a string); one that begins with a dash is written --question=VALUE",
    );
    check(&["{text_qa}", "why?"], 2, "error: unexpected \"why?\"; a program's arguments are written --NAME VALUE");
    check(
        &["{text_qa}", "--args", "{\"question\": 3}"],
        2,
        "error: argument \"question\" is 3; it must be of type string",
    );
    check(&["{text_qa}", "--question", "x", "--top-p", "3"], 2, "error: --top-p is 3; it must be in (0, 1]");
}

#[test]
fn a_model_that_is_not_there() {
    let ways =
        "`sglhost model list` shows the models there are; `--model PATH` takes a GGUF file or a Hugging Face folder";
    for name in ["nothing", "/no/such/model.gguf"] {
        check(
            &["{text_qa}", "--question", "x", "--model", name],
            1,
            &format!(
                "error: there is no model {name:?}: it is no file or folder here, and no model of that name is known\n\
                 {ways}"
            ),
        );
    }
    check(
        &["{text_qa}", "--question", "x", "--model", "some/model"],
        1,
        "error: the model some/model is not here yet; `sglhost model pull some/model` fetches it",
    );
}

#[test]
fn a_file_that_is_no_model() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "no model").unwrap();
    let path = file.path().to_str().unwrap();
    check(
        &["{text_qa}", "--question", "x", "--model", path],
        1,
        &format!(
            "error: the model cannot be served: {path}: is not a GGUF file: it does not begin with the letters GGUF"
        ),
    );
}

/// The place is the guest's to see: it is in the error that its call ended with.
#[test]
fn a_bad_regex_is_shown_with_the_place() {
    let ended = run(sglhost(["run"]).arg(probe()).args(["--numbers", "[]", "--pattern", "ab(c"]));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("error: the run failed: invalid: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("unclosed group"), "{}", ended.stderr);
    assert!(ended.stderr.contains("ab(c\n"), "the pattern: {}", ended.stderr);
    assert!(ended.stderr.contains("  ^"), "the place: {}", ended.stderr);
}

#[test]
fn a_prompt_longer_than_the_context() {
    let question = "word ".repeat(100);
    check(
        &["{text_qa}", "--question", &question, "--kv-tokens", "64"],
        1,
        "error: the run failed: too-long: the prompt of 131 tokens leaves no room for 1 more in the context of \
         SmolLM2-135M-Instruct.Q4_1, which is 64 tokens; shorten it",
    );
}
