//! `sglhost new`, `sglhost build`, and what is built runs.

use std::path::Path;

use sglhost_tests::{
    binary::{run, sglhost},
    guests,
};

#[test]
fn a_new_program_is_built_and_described() {
    let folder = tempfile::tempdir().unwrap();
    let inside = |arguments: &[&str]| {
        let mut command = sglhost(arguments);
        command.current_dir(folder.path()).env("SGLHOST_GUEST_TOOLCHAIN", guests::toolchain());
        // Shared with the other guests, so that the SDK's dependencies are compiled once.
        command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("new"));
        run(&mut command)
    };
    let _ = inside(&["new", "first_steps"]).well();
    let ended = inside(&["new", "first_steps"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(1), "error: first_steps exists and is not empty\n"));
    let _ = inside(&["build", "first_steps"]).well();
    let text = inside(&["inspect", "first_steps.wasm"]).well();
    assert!(text.starts_with("first_steps\n"), "{text}");
    let ended = inside(&["build", "nowhere"]);
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.stderr, "error: nowhere holds no Cargo.toml; `sglhost new NAME` starts a program\n");
}
