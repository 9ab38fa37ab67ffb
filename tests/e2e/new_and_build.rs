//! `sglhost new`, `sglhost build` and `sglhost run`, one after the other, in each language: with nothing but the language's
//! own package client.

use std::path::Path;

use sglhost_tests::{
    binary::{Ended, run, sglhost},
    guests,
};

/// In a folder of its own: a new program, what it becomes, and what it says.
fn start_build_and_run(language: &str) {
    let folder = tempfile::tempdir().unwrap();
    let inside = |arguments: &[&str]| in_folder(folder.path(), arguments);
    let _ = inside(&["new", "--lang", language, "first_steps"]).well();
    let ended = inside(&["new", "--lang", language, "first_steps"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), "error: first_steps exists and is not empty\n"));
    let ended = inside(&["build", "first_steps"]);
    let built = &ended.stderr;
    assert!(built.contains("first_steps.wasm: ") && built.ends_with(" KB\n"), "{built}");
    let _ = ended.well();
    let text = inside(&["inspect", "first_steps.wasm"]).well();
    assert!(text.starts_with("first_steps\n") && text.contains("--question"), "{text}");
    let asked =
        ["run", "first_steps.wasm", "--question", "Is it?", "--temperature", "0", "--max-tokens", "8", "--json"];
    let told: serde_json::Value = serde_json::from_str(&inside(&asked).well()).unwrap();
    assert!(told["variables"]["answer"].as_str().is_some_and(|answer| !answer.is_empty()), "{language}: {told}");
}

fn in_folder(folder: &Path, arguments: &[&str]) -> Ended {
    let mut command = sglhost(arguments);
    command.current_dir(folder).env("SGLHOST_GUEST_TOOLCHAIN", guests::toolchain());
    // Shared with the other guests, so that the SDK's dependencies are compiled once.
    command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("new"));
    run(&mut command)
}

#[test]
fn rust() {
    start_build_and_run("rust");
}

#[test]
fn python() {
    start_build_and_run("python");
}

#[test]
fn js() {
    start_build_and_run("js");
}

#[test]
fn ts() {
    start_build_and_run("ts");
}

#[test]
fn c() {
    start_build_and_run("c");
}

#[test]
fn go() {
    start_build_and_run("go");
}

#[test]
fn what_is_no_program_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let ended = in_folder(folder.path(), &["build", "nowhere"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr.starts_with("error: nowhere holds no program, that is, none of Cargo.toml"),
        "{}",
        ended.stderr
    );
    let ended = in_folder(folder.path(), &["new", "--lang", "cobol", "first_steps"]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("[possible values: rust"), "{}", ended.stderr);
}
