//! The ways in which Hugging Face folders say the same things.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::PathBuf};

use serde_json::{Value, json};
use sglhost_text::{Segment, Tokenizer};

/// A copy of the SmolLM2 fixture with some files replaced; none takes a file away.
fn load(name: &str, files: &[(&str, Option<Value>)]) -> Result<Tokenizer, String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    let fixture = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/smollm2"));
    fs::create_dir_all(&folder).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"] {
        fs::copy(fixture.join(file), folder.join(file)).unwrap();
    }
    for (file, content) in files {
        match content {
            Some(Value::String(text)) => fs::write(folder.join(file), text).unwrap(),
            Some(value) => fs::write(folder.join(file), value.to_string()).unwrap(),
            None => fs::remove_file(folder.join(file)).unwrap(),
        }
    }
    Tokenizer::from_hugging_face(&folder).map_err(|error| error.to_string())
}

fn fixture() -> Value {
    serde_json::from_str(include_str!("fixtures/smollm2/tokenizer.json")).unwrap()
}

/// The fixture's tokenizer.json with its value at a JSON pointer replaced.
fn with(pointer: &str, value: Value) -> Option<Value> {
    let mut file = fixture();
    *file.pointer_mut(pointer).unwrap() = value;
    Some(file)
}

#[test]
fn ends_of_text_are_collected() {
    let check = |name: &str, generation: Value, config: Value, expect: &[&str]| {
        let files = [("generation_config.json", Some(generation)), ("tokenizer_config.json", Some(config))];
        let tokenizer = load(name, &files).unwrap();
        let found: Vec<String> = tokenizer.end_of_text().iter().map(|&id| tokenizer.decode(&[id])).collect();
        assert_eq!(found, expect);
        assert_eq!(tokenizer.eos(), tokenizer.end_of_text().first().copied());
    };
    let (text, end) = ("<|endoftext|>", "<|im_end|>");
    check("eos-list", json!({"eos_token_id": [0, 2]}), json!({"eos_token": end}), &[end, text]);
    check("eos-object", json!({}), json!({"eos_token": {"content": text}}), &[text]);
    check("eos-number", json!({"eos_token_id": 2}), json!({}), &[end]);
    check("eos-nowhere", json!({}), json!({}), &[]);
    check("eos-unknown", json!({"eos_token_id": 999_999}), json!({}), &[]);
}

#[test]
fn begin_of_text_is_added_where_the_files_say_so() {
    let check = |name: &str, config: Value, post_processor: Value, expect: bool| {
        let files = [
            ("tokenizer_config.json", Some(config)),
            ("tokenizer.json", with("/post_processor", post_processor)),
            ("generation_config.json", None),
        ];
        assert_eq!(load(name, &files).unwrap().adds_bos(), expect, "{name}");
    };
    let bos = "<|im_start|>";
    let template = json!({"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
    ]});
    let sequence = json!({"type": "Sequence", "processors": [{"type": "ByteLevel"}, template]});
    check("bos-flag", json!({"bos_token": bos, "add_bos_token": true}), Value::Null, true);
    check("bos-no-flag", json!({"bos_token": bos, "add_bos_token": false}), template.clone(), false);
    check("bos-template", json!({"bos_token": bos}), template.clone(), true);
    check("bos-sequence", json!({"bos_token": bos}), sequence, true);
    check("bos-none", json!({"bos_token": bos}), Value::Null, false);
    check("bos-unknown", json!({"bos_token": null}), template, false);
}

#[test]
fn a_chat_template_has_several_homes() {
    let check = |name: &str, files: &[(&str, Option<Value>)], expect: Option<&str>| {
        assert_eq!(load(name, files).unwrap().chat_template(), expect, "{name}");
    };
    let list = json!({"chat_template": [{"name": "tool_use", "template": "b"}, {"name": "default", "template": "a"}]});
    check("template-text", &[("tokenizer_config.json", Some(json!({"chat_template": "a"})))], Some("a"));
    check("template-list", &[("tokenizer_config.json", Some(list))], Some("a"));
    check("template-file", &[("chat_template.jinja", Some(json!("c")))], Some("c"));
    check("template-none", &[("tokenizer_config.json", None)], None);
}

#[test]
fn spaces_go_in_front_as_the_scheme_says() {
    let bytes = |tokenizer: &Tokenizer, ids: &[u32]| -> String {
        ids.iter().map(|&id| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned()).collect()
    };
    let check = |name: &str, scheme: &str, start: &str, after: &str| {
        let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
        let mut file = fixture();
        file["pre_tokenizer"] = metaspace.clone();
        file["decoder"] = metaspace;
        file["model"]["vocab"] = json!({"▁": 0, "a": 1, "b": 2});
        file["model"]["merges"] = json!([]);
        file["added_tokens"] = json!([{"id": 3, "content": "<x>", "special": true}]);
        let files = [("tokenizer.json", Some(file)), ("tokenizer_config.json", None)];
        let tokenizer = load(name, &files).unwrap();
        let ids = tokenizer.encode(&[Segment::markup("a<x>b")]);
        assert_eq!(bytes(&tokenizer, &ids), format!("{start}<x>{after}"), "{scheme}");
        assert_eq!(bytes(&tokenizer, &tokenizer.encode_after(Some(1), &[Segment::plain("b")])), "b", "{scheme}");
        assert_eq!(tokenizer.decode(&ids), "a<x>b", "{scheme}");
    };
    check("space-always", "always", " a", " b");
    check("space-first", "first", " a", "b");
    check("space-never", "never", "a", "b");
}

#[test]
fn a_token_may_swallow_the_space_beside_it() {
    let mut file = fixture();
    file["added_tokens"][1]["rstrip"] = true.into();
    let spelling = file["added_tokens"][1]["content"].as_str().unwrap().to_owned();
    let tokenizer = load("rstrip", &[("tokenizer.json", Some(file))]).unwrap();
    let ids = tokenizer.encode(&[Segment::markup(format!("{spelling} \n")), Segment::plain(" a")]);
    assert_eq!(tokenizer.decode(&ids), format!("{spelling}a"));
}

#[test]
fn what_is_wrong_is_named_with_its_file() {
    let check = |name: &str, files: &[(&str, Option<Value>)], parts: &[&str]| {
        let error = load(name, files).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{name}: {error}");
        }
    };
    check("bad-json", &[("tokenizer.json", Some(json!("{")))], &["tokenizer.json", "EOF"]);
    check("bad-config", &[("tokenizer_config.json", Some(json!("[1,")))], &["tokenizer_config.json"]);
    check("bad-step", &[("tokenizer.json", with("/pre_tokenizer", json!({"type": "Unheard"})))], &["pre_tokenizer"]);
    check("bad-merge", &[("tokenizer.json", with("/model/merges", json!([["qq", "zz"]])))], &["tokenizer.json", "qq"]);
    check("missing", &[("tokenizer.json", None)], &["tokenizer.json"]);
    let mut word_piece = fixture();
    word_piece["decoder"] = json!({"type": "WordPiece", "prefix": "##", "cleanup": true});
    word_piece["pre_tokenizer"] = Value::Null;
    check("word-piece", &[("tokenizer.json", Some(word_piece))], &["neither a byte-level nor"]);
}
