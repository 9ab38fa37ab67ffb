//! Ctrl-C, and a reader that goes away.

use std::{
    io::{Read, Write as _},
    process::{Child, Command, Stdio},
};

use sglhost_tests::binary::{sglhost, turn};

use crate::arguments::probe;

/// Starts a run that does not end by itself, and reads until the model speaks.
fn start_endless(output: &str) -> Child {
    let mut command = sglhost(["run"]);
    command.arg(probe()).args(["--numbers", "[]", "--endless", output]);
    until_the_model_speaks(&mut command)
}

/// Starts it, and reads until the model speaks.
pub(crate) fn until_the_model_speaks(command: &mut Command) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !String::from_utf8_lossy(&seen).contains("assistant\n") {
        child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
        seen.push(byte[0]);
    }
    child.stdout.as_mut().unwrap().read_exact(&mut byte).unwrap();
    child
}

#[test]
#[cfg(unix)]
fn ctrl_c_ends_a_run_in_good_order() {
    let _turn = turn();
    let mut child = start_endless("--stats");
    // As the terminal does it.
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    // What was read before may end within a character.
    let (mut rest, mut stderr) = (Vec::new(), String::new());
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{stderr}");
    assert!(rest.ends_with(b"\n"), "the last line is ended: {rest:?}");
    assert!(stderr.contains("completion tokens"), "the figures are told: {stderr}");
    assert!(!stderr.contains("error"), "{stderr}");
}

#[test]
fn a_reader_that_goes_away_ends_it_without_a_word() {
    let _turn = turn();
    let mut child = start_endless("--color=never");
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
    std::io::stdout().flush().unwrap();
}
