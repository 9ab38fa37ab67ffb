//! A program's arguments: from its own description, next to the host's options.

use std::{fs, path::PathBuf, sync::OnceLock};

use serde_json::Value;
use sglhost_tests::{
    binary::{plugin, run, sglhost},
    guests,
};

/// The component of the tests' own program.
pub(crate) fn probe() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT
        .get_or_init(|| {
            let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("probe.wasm");
            fs::write(&path, guests::component("tests/e2e/guest", "probe")).unwrap();
            path
        })
        .clone()
}

#[track_caller]
fn check(arguments: &[&str], expect: &[&str]) {
    let ended = run(sglhost(["run", "--json"]).arg(probe()).args(arguments));
    let record: Value = serde_json::from_str(&ended.well()).unwrap();
    assert_eq!(record["result"], Value::from(expect), "{arguments:?}");
}

#[test]
fn words_objects_and_two_dashes() {
    check(&["--numbers", "1", "--numbers=-2"], &["1", "-2"]);
    check(&["--numbers", "[3, 4]", "--seed", "7"], &["3", "4"]);
    check(&["--numbers", "5", "--", "--seed", "mine"], &["5", "mine"]);
    check(&["--args", r#"{"numbers": [6], "seed": "x"}"#], &["6", "x"]);
    check(&["--args", r#"{"numbers": [6], "seed": "x"}"#, "--", "--seed", "y"], &["6", "y"]);
}

#[test]
fn help_shows_them_under_the_hosts_options() {
    let help = run(sglhost(["run"]).arg(plugin("basic_qa")).arg("--help")).well();
    let (host, own) = help.split_once("Arguments of basic_qa (Answers a question.):").expect(&help);
    assert!(host.contains("--temperature <T>"), "{host}");
    assert!(own.contains("--question <STRING>  What to ask. [required]"), "{own}");
    let help = run(sglhost(["run"]).arg(probe()).arg("--help")).well();
    assert!(help.contains("probe also takes --seed"), "{help}");
    let help = run(&mut sglhost(["run", "--help"])).well();
    assert!(help.contains("\nUsage: sglhost run [OPTIONS] PROGRAM [--ARGUMENT VALUE]..."), "{help}");
}
