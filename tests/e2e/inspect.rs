//! `inspect` and `--version`.

use serde_json::{Value, json};
use sglhost_tests::binary::{plugin, run, sglhost};

#[test]
fn what_a_program_is() {
    let text = run(sglhost(["inspect"]).arg(plugin("basic_qa"))).well();
    assert!(text.starts_with("basic_qa\nAnswers a question.\n\nid       "), "{text}");
    assert!(text.contains("\narguments\n  --question STRING  What to ask. [required]\n"), "{text}");
    assert!(text.contains("\n  sgl:program/lm@0.1.0\n"), "{text}");
    let json: Value =
        serde_json::from_str(&run(sglhost(["inspect", "--json"]).arg(plugin("basic_qa"))).well()).unwrap();
    let bytes = std::fs::metadata(plugin("basic_qa")).unwrap().len();
    assert_eq!(json["size_bytes"], bytes);
    assert_eq!(json["id"].as_str().map(str::len), Some(64));
    assert_eq!(json["arguments"]["required"], json!(["question"]));
}

#[test]
fn version() {
    assert_eq!(run(&mut sglhost(["--version"])).well(), format!("sglhost {}\n", env!("CARGO_PKG_VERSION")));
}
