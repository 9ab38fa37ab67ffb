//! Where a model computes, on a machine that shows no GPU.

use std::process::Command;

use sglhost_tests::binary::{plugin, run, sglhost};

/// A run that sees no GPU even where there is one, and whose environment names no device.
fn without_gpu(arguments: &[&str]) -> Command {
    let mut command = sglhost(["run"]);
    command.env("CUDA_VISIBLE_DEVICES", "").env_remove("SGLHOST_DEVICE");
    command.args(arguments).arg(plugin("basic_qa")).args(["--question", "Hello?", "--max-tokens", "2"]);
    command
}

#[test]
fn a_machine_without_a_gpu_says_so_in_a_line_and_uses_the_cpu() {
    let ended = run(&mut without_gpu(&["--json"]));
    let note = "note: computing on the CPU: ";
    assert!(ended.stderr.starts_with(note) && ended.stderr.lines().count() == 1, "{}", ended.stderr);
    assert!(ended.well().contains("answer"));
}

#[test]
fn nothing_is_said_where_the_cpu_was_asked_for() {
    for mut command in [without_gpu(&["--device", "cpu", "--json"]), {
        let mut command = without_gpu(&["--json"]);
        command.env("SGLHOST_DEVICE", "cpu");
        command
    }] {
        let ended = run(&mut command);
        assert_eq!(ended.stderr, "");
        assert_eq!(ended.code, Some(0));
    }
}

#[test]
fn a_gpu_that_is_insisted_on_and_not_there_is_an_error_that_says_what_is_missing() {
    let ended = run(&mut without_gpu(&["--device", "cuda"]));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""));
    let expect = [
        "error: --device cuda: no NVIDIA GPU: libcuda.so.1 was not found",
        "error: --device cuda: NVIDIA's driver sees",
    ];
    assert!(expect.iter().any(|expect| ended.stderr.starts_with(expect)), "{}", ended.stderr);
    assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
}

#[test]
fn wrong_settings_are_refused() {
    let mut command = without_gpu(&[]);
    command.env("SGLHOST_DEVICE", "tpu");
    let ended = run(&mut command);
    assert_eq!(
        (ended.code, ended.stderr.as_str()),
        (Some(2), "error: SGLHOST_DEVICE=tpu: it must be auto, cpu or cuda\n")
    );
    for fraction in ["0", "1", "NaN"] {
        let ended = run(&mut without_gpu(&["--mem-fraction", fraction]));
        assert!(ended.stderr.contains("it must be above 0 and below 1"), "{}", ended.stderr);
    }
}
