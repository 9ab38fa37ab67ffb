//! What cannot be done is told with the way out. But for one, no server is needed.

use std::{ffi::OsStr, fs};

use sglhost_tests::binary::plugin;

use super::{Served, ended, here};

#[track_caller]
fn check(variables: &[(&str, &str)], arguments: &[&str], code: i32, expect: &str) {
    let mut command = here(arguments);
    let ended = ended(command.envs(variables.iter().copied()));
    assert_eq!((ended.code, ended.stderr.contains(expect)), (Some(code), true), "{arguments:?}: {}", ended.stderr);
    assert!(!ended.stderr.contains("sgl_secret"), "a key is told to nobody: {}", ended.stderr);
}

#[test]
fn flags_of_this_machine_are_none_of_a_servers() {
    let here = [("SGLHOST_SERVER", "http://127.0.0.1:1")];
    for flag in
        ["--model=x", "--device=cpu", "--kv-tokens=9", "--schedule-policy=las", "--memory=1MiB", "--deadline=1s"]
    {
        let name = flag.split('=').next().unwrap();
        check(
            &here,
            &["run", "text_qa", flag],
            2,
            &format!("error: {name} is for a run on this machine, and SGLHOST_SERVER"),
        );
        check(&[], &["run", "text_qa", flag, "--server", "http://127.0.0.1:1"], 2, "and --server names a server");
    }
    check(&[], &["run", "text_qa", "--detach"], 2, "--detach is for a run on a server");
    check(&here, &["run", "a/text_qa.wasm"], 2, "`sglhost push a/text_qa.wasm` takes it there");
    check(&here, &["run", "Text"], 2, "\"Text\" names no program");
    check(&here, &["run", "text_qa", "--detach", "--json"], 2, "cannot be used with");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    check(
        &[],
        &["ls", "--server", "http://127.0.0.1:1"],
        1,
        "no server answers at http://127.0.0.1:1: connection refused",
    );
    check(&[], &["ls", "--server", "127.0.0.1:1"], 2, "it must begin with http:// or https://");
    check(&[], &["logs", "7"], 2, "16 hexadecimal digits");
    let key = ("SGLHOST_KEY", "sgl_secret");
    check(&[key], &["ls", "--server", "http://192.0.2.1"], 2, "http://192.0.2.1 is reached in the clear");
    check(&[], &["ls", "--server", "http://sgl_secret@127.0.0.1:1"], 2, "a key does not belong into it");
    check(&[("SGLHOST_KEY", "two words")], &["ls"], 2, "SGLHOST_KEY holds no key");
    check(&[], &["ls", "--key-file", "no-such"], 1, "--key-file no-such does not exist");
    check(&[], &["tenant", "ls", "--data", "no-such"], 1, "there is no data folder no-such");
}

#[test]
fn what_the_server_says_of_a_program_is_shown_whole() {
    let served = Served::start();
    let file = served.folder.path().join("empty.wasm");
    // A component that has nothing in it.
    fs::write(&file, b"\0asm\x0d\0\x01\0").unwrap();
    let refused = served.run([OsStr::new("push"), file.as_os_str()]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("not a prompt program (world sgl:program/program)"), "{}", refused.stderr);

    served.push(&plugin("text_qa"));
    let unknown = served.run(["run", "text_qa", "--quesion", "x"]);
    assert!(unknown.stderr.contains("did you mean --question?"), "{}", unknown.stderr);
    let missing = served.run(["logs", "0123456789abcdef"]);
    assert!(missing.stderr.starts_with("error: "), "{}", missing.stderr);
    let none = served.run(["rm", "text_qa@9"]);
    assert_eq!(none.code, Some(1), "{}", none.stderr);
}
