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
    check(
        &["{text_qa}", "--args", "{question: x}"],
        2,
        "error: --args must be a JSON object, as in {\"question\": \"…\"}; this is not JSON: key must be a string \
         (column 2)",
    );
    check(&["{text_qa}", "--args", "@nope"], 1, "error: --args @nope does not exist");
    check(&["{text_qa}", "--batch", "nope"], 1, "error: --batch nope does not exist");
}

/// A program's argument in front of the program: clap's own tip would be `-- --question`.
#[test]
fn an_argument_before_its_program() {
    let ended = run(sglhost(["run", "--question", "hi"]).arg(plugin("text_qa")));
    assert_eq!(ended.code, Some(2));
    let tip = "a program's own arguments follow it: `sglhost run PROGRAM --question …`";
    assert!(ended.stderr.contains(tip) && !ended.stderr.contains("-- --question"), "{}", ended.stderr);
    // An option that is only misspelt is guessed.
    let ended = run(sglhost(["run", "--temprature", "0"]).arg(plugin("text_qa")));
    assert!(ended.stderr.contains("--temperature") && !ended.stderr.contains("PROGRAM --temp"), "{}", ended.stderr);
}

/// Limits are named by the flags that set them, and those that no flag sets are no way out.
#[test]
fn limits() {
    let ended = run(sglhost(["run", "--memory", "64KiB"]).arg(plugin("text_qa")).args(["--question", "x"]));
    let expect = " bytes, and a run may have 65536 (--memory); make the program use less, or raise --memory\n";
    assert!(ended.stderr.ends_with(expect), "{}", ended.stderr);
    check(
        &["{text_qa}", "--question", "x", "--max-total-tokens", "10"],
        1,
        "error: the run failed: limit-exceeded: the call needs up to 159 tokens (prompt 31, output 128) and the run has 10 \
         of its 10 left (--max-total-tokens); ask for fewer max-tokens, shorten the prompt, or raise --max-total-tokens",
    );
    check(
        &["{probe}", "--numbers", "[]", "--endless", "--deadline", "300ms"],
        1,
        "error: the run failed: deadline-exceeded: the run took longer than its 0.3 s (--deadline); ask less of it, or \
         raise --deadline",
    );
    for (flag, range) in [("--cpu-budget", "it must be in 1ms..=8760h"), ("--deadline", "it must be in 1ms..=8760h")] {
        let ended = run(sglhost(["run", flag, "0"]).arg(plugin("text_qa")));
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains(range), "{}", ended.stderr);
    }
}

/// The folder of caches only saves time: what does not need it goes on without.
#[test]
fn a_cache_folder_that_cannot_be_used() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let call = |arguments: &[&str]| {
        run(sglhost(arguments.iter().copied()).arg(plugin("text_qa")).env("SGLHOST_CACHE", file.path()))
    };
    let ended = call(&["inspect"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.starts_with("text_qa\n"), "{}", ended.stdout);
    let place = file.path().join("programs").display().to_string();
    assert!(ended.stderr.starts_with(&format!("note: the cache of compiled programs at {place}")), "{}", ended.stderr);
    assert!(ended.stderr.contains("SGLHOST_CACHE names another folder"), "{}", ended.stderr);
    let ended = run(sglhost(["model", "pull"]).env("SGLHOST_CACHE", file.path()));
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("; SGLHOST_CACHE names another cache folder"), "{}", ended.stderr);
}

#[test]
fn a_chat_template_is_named_by_its_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "{% if %}").unwrap();
    let path = file.path().to_str().unwrap();
    let ended = run(sglhost(["run"]).arg(plugin("text_qa")).args(["--question", "x", "--chat-template", path]));
    assert_eq!(ended.code, Some(2));
    let expect = format!("error: --chat-template: the template in {path} does not parse (line 1): ");
    assert!(ended.stderr.starts_with(&expect), "{}", ended.stderr);
    check(
        &["{text_qa}", "--question", "x", "--chat-template", "nope"],
        1,
        "error: --chat-template nope does not exist",
    );
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

#[test]
fn a_folder_that_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    check(
        &["{text_qa}", "--question", "x", "--model", path],
        1,
        &format!(
            "error: the folder {path} is no model: it has neither a config.json, as a Hugging Face folder has, nor a GGUF \
             file\n`sglhost model list` shows the models there are; `--model PATH` takes a GGUF file or a Hugging Face \
             folder"
        ),
    );
    // A folder with one GGUF file means that file.
    fs::write(folder.path().join("m.gguf"), "no model").unwrap();
    check(
        &["{text_qa}", "--question", "x", "--model", path],
        1,
        &format!(
            "error: the model cannot be served: {path}/m.gguf: is not a GGUF file: it does not begin with the letters GGUF"
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
         SmolLM2-135M-Instruct.Q4_1, which is 64 tokens; shorten it, or raise --kv-tokens: the KV memory holds 64 tokens, \
         the model itself takes 8192",
    );
}
