//! The example programs that are there in every language: each does what the one in Rust does, to the last token.

use std::ffi::OsString;
use std::path::Path;

use serde_json::Value;
use sglhost_tests::binary::{plugin, run, sglhost};

/// The programs, and what each is run with besides.
const PROGRAMS: [(&str, &[&str]); 2] = [("tip_suggestion", &[]), ("react_agent", &["--max-tokens", "24"])];

/// What a run of a component says, with all its variables and what it used.
fn said(component: &Path, options: &[&str]) -> Value {
    let arguments = ["run".into(), component.into(), "--temperature".into(), "0".into(), "--json".into()];
    let arguments = arguments.into_iter().chain(options.iter().map(OsString::from));
    serde_json::from_str(&run(&mut sglhost(arguments)).well()).unwrap()
}

fn says_the_same(language: &str) {
    for (program, options) in PROGRAMS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(language).join(program);
        let component = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{program}-{language}.wasm"));
        let arguments: [OsString; 4] = ["build".into(), folder.into(), "--output".into(), component.clone().into()];
        let _ = run(&mut sglhost(arguments)).well();
        // Objects are compared by their members, in whatever order a language writes them.
        assert_eq!(said(&component, options), said(&plugin(program), options), "{program} in {language}");
    }
}

#[test]
fn python() {
    says_the_same("python");
}

#[test]
fn js() {
    says_the_same("js");
}

#[test]
fn ts() {
    says_the_same("ts");
}

#[test]
fn c() {
    says_the_same("c");
}

#[test]
fn go() {
    says_the_same("go");
}
