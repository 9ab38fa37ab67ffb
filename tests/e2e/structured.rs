//! Structured output: what the model says is the program's shape, whatever the model would rather say; and what is wrong
//! with a shape is told in the words that its author wrote.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;
use serde_json::Value;
use sglhost_core::FinishReason;
use sglhost_tests::binary::{Ended, plugin, run, sglhost};

use crate::{arguments::probe, events::tell};

/// What the schema beside the program `extract` asks for, in its order.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invoice {
    number: u32,
    date: String,
    customer: String,
    items: Vec<Item>,
    #[serde(rename = "paid")]
    _paid: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Item {
    name: String,
    count: u32,
    price: f64,
}

#[test]
fn extract() {
    for arguments in [&["--temperature", "0"][..], &["--seed", "1"], &["--seed", "2"]] {
        let told = tell("extract", arguments);
        let json = told.call("json");
        assert_eq!(json.finish_reason, FinishReason::Stop, "{json:?}");
        let invoice: Invoice = serde_json::from_str(&json.text).unwrap();
        assert!((1..=99_999).contains(&invoice.number) && invoice.date.len() == "2024-03-03".len(), "{}", json.text);
        assert!(invoice.customer.chars().count() <= 30 && (1..=3).contains(&invoice.items.len()), "{}", json.text);
        for Item { name, count, price } in invoice.items {
            assert!(name.chars().count() <= 20 && (1..=100).contains(&count), "{}", json.text);
            assert!((0.0..=1000.0).contains(&price), "{}", json.text);
        }
        // Written as the contract says.
        let places: Vec<_> = [r#"{"number": "#, r#", "date": ""#, r#", "customer": ""#, r#", "items": [{"name": ""#]
            .iter()
            .map(|part| json.text.find(part))
            .collect();
        assert!(places.is_sorted() && places[0] == Some(0) && !places.contains(&None), "{}", json.text);
        let (result, text): (Value, Value) =
            (serde_json::from_str(&told.result).unwrap(), serde_json::from_str(&json.text).unwrap());
        assert_eq!(result, text);
    }
}

/// A schema of the caller's own: order and separators are the schema's.
#[test]
fn extract_by_another_schema() {
    let schema = r##"{
        "x-guidance": {"item_separator": ",", "key_separator": ":"},
        "type": "object",
        "properties": {"z": {"enum": [1, 2]}, "a": {"$ref": "#/$defs/truth"}},
        "required": ["z", "a"],
        "additionalProperties": false,
        "$defs": {"truth": {"type": "boolean"}}
    }"##;
    let told = tell("extract", &["--text", "It is true that there are two.", "--schema", schema]);
    let text = &told.call("json").text;
    assert!(["1", "2"].iter().any(|z| ["true", "false"].iter().any(|a| *text == format!(r#"{{"z":{z},"a":{a}}}"#))));
}

#[test]
fn tool_call() {
    for arguments in [&["--temperature", "0"][..], &["--seed", "3", "--temperature", "0.5"]] {
        let told = tell("tool_call", arguments);
        let value: Value = serde_json::from_str(&told.result).unwrap();
        let calls = value["calls"].as_array().unwrap();
        let degrees: i64 = told.call("degrees").text.parse().unwrap();
        assert_eq!(value["degrees"], degrees);
        let climate = BTreeMap::from([("Cairo", [14, 29]), ("Lima", [23, 17]), ("Oslo", [-4, 18]), ("Paris", [5, 21])]);
        assert!((1..=3).contains(&calls.len()), "{value}");
        for call in calls {
            let [january, july] = climate[call["call"]["city"].as_str().unwrap()];
            let expect = if call["call"]["month"] == "January" { january } else { july };
            assert_eq!(call["degrees"], expect, "{value}");
        }
        // Whatever was said, a tool's call is whole and one that there is, or cut.
        for said in told.calls.iter().filter(|call| call.name == "said") {
            if let Some((_, call)) = said.text.split_once("<function=") {
                let whole = call.starts_with(r#"temperature>{"city": ""#) && call.ends_with(r#""}</function>"#);
                assert!(whole || said.finish_reason == FinishReason::Length, "{}", said.text);
            }
        }
    }
}

/// Values of each type parse, and what is forced is not sampled.
#[test]
fn typed_values() {
    let ended = run(sglhost(["run", "--json"]).arg(probe()).args(["--numbers", "[]", "--typed", "--temperature", "0"]));
    let record: Value = serde_json::from_str(&ended.well()).unwrap();
    let values: Vec<String> = serde_json::from_value(record["result"].clone()).unwrap();
    let [integer, fraction, truth, _, colour, forced] = &values[..] else { panic!("{values:?}") };
    assert!(integer.parse::<i64>().is_ok() && fraction.parse::<f64>().is_ok() && truth.parse::<bool>().is_ok());
    assert!(["red", "green", "blue"].contains(&colour.as_str()));
    assert_eq!(record["variables"]["json"], r#"{"a long name": "a long value"}"#, "{record}");
    let (forced, all) = forced.split_once(" of ").unwrap();
    let (forced, all): (u32, u32) = (forced.parse().unwrap(), all.parse().unwrap());
    assert!(0 < forced && forced <= all, "{values:?}");
}

/// Runs `extract` with a schema that is wrong: standard error.
#[track_caller]
fn refused(schema: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("arguments.json");
    // Longer than a command line may be.
    fs::write(&file, serde_json::json!({ "schema": schema }).to_string()).unwrap();
    let Ended { code, stdout, stderr } =
        run(sglhost(["run"]).arg(plugin("extract")).arg("--args").arg(format!("@{}", file.display())));
    assert_eq!(code, Some(1), "{stderr}");
    assert!(!stdout.contains("assistant\n{"), "nothing was generated: {stdout}");
    stderr
}

#[test]
fn a_schema_that_is_wrong_is_told_in_its_authors_words() {
    for (schema, code, words) in [
        // What is not implemented is named.
        (r#"{"items": {"type": "integer"}, "uniqueItems": true}"#, "unsupported", "uniqueItems"),
        (r#"{"type": "string", "format": "color"}"#, "unsupported", "color"),
        ("{type: object}", "invalid", "not JSON: key must be a string at line 1 column 2"),
        ("[]", "invalid", "a schema is an object, `true` or `false`"),
        (r#"{"type": "strin"}"#, "invalid", "strin"),
        ("false", "invalid", "`false` admits nothing"),
    ] {
        let told = refused(schema);
        let error = told.strip_prefix(&format!("error: the run failed: {code}: JSON Schema: "));
        assert!(error.is_some_and(|error| error.contains(words)), "{schema}: {told}");
    }
}

#[test]
fn a_schema_that_is_a_bomb_is_refused() {
    let long = format!(r#"{{"description": "{}"}}"#, "x".repeat(600_000));
    // Each level doubles what is below it.
    let doubled = (0..60).map(|level| {
        let below = format!(r##"{{"$ref": "#/$defs/{}"}}"##, level + 1);
        format!(r#""{level}": {{"allOf": [{{"properties": {{"a": {below}}}}}, {{"properties": {{"a": {below}}}}}]}}"#)
    });
    let doubled: Vec<String> = doubled.collect();
    let doubled =
        format!(r##"{{"$ref": "#/$defs/0", "$defs": {{{}, "60": {{"type": "object"}}}}}}"##, doubled.join(", "));
    let long_words = "600019 bytes; the limit is 524288 (GRAMMAR_BYTES_MAX); leave out descriptions and examples";
    for (schema, limit) in [(long, long_words), (doubled, "use fewer alternatives")] {
        let told = refused(&schema);
        assert!(told.contains("error: the run failed: limit-exceeded: ") && told.contains(limit), "{told}");
    }
}
