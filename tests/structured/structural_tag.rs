//! Structural tags: free text, and what a trigger leads into.

use serde_json::{Value, json};
use sglhost_core::ErrorCode;
use sglhost_text::Constraint;

use crate::walk::{self, Admitted, Walk, bytes_tokenizer, tokenizer};

fn compile(tags: &Value) -> Constraint {
    Constraint::structural_tag(&tags.to_string(), tokenizer()).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn admits(constraint: &Constraint, texts: &[&str]) {
    for text in texts {
        match walk::admits(constraint, tokenizer(), text) {
            Admitted::Whole => {}
            Admitted::Until(until) => panic!("{text:?} is admitted until {until:?} only"),
            Admitted::Failed(error) => panic!("{text:?}: {error}"),
        }
    }
}

#[track_caller]
fn refuses(constraint: &Constraint, texts: &[&str]) {
    for text in texts {
        assert!(!matches!(walk::admits(constraint, tokenizer(), text), Admitted::Whole), "{text:?} is admitted");
    }
}

/// Two functions behind one trigger, and a thought behind another.
fn functions() -> Value {
    json!({
        "structures": [
            {
                "begin": "<function=add>",
                "schema": {
                    "type": "object",
                    "properties": { "a": { "type": "integer" }, "b": { "type": "integer" } },
                    "required": ["a", "b"],
                    "additionalProperties": false,
                },
                "end": "</function>",
            },
            { "begin": "<function=name>", "schema": { "enum": ["x", "y"] }, "end": "</function>" },
            { "begin": "[[", "regex": "[a-z ]{1,20}", "end": "]]" },
        ],
        "triggers": ["<function=", "[["],
    })
}

#[test]
fn text_without_a_trigger_is_free_and_may_end_anywhere() {
    let constraint = compile(&functions());
    admits(&constraint, &["", "a", "Any text.\nIn lines, with é and 日本.", "<function", "a < b [c] <func=", "<<<[ ["]);
    let mut state = constraint.start();
    for token in tokenizer().encode_plain("Some text, that may end after each token <func") {
        assert!(state.is_accepting() && state.advance(token));
    }
    assert!(state.is_accepting());
}

#[test]
fn a_trigger_leads_into_the_tags_that_begin_with_it() {
    let constraint = compile(&functions());
    admits(
        &constraint,
        &["<function=add>{\"a\": 1, \"b\": -20}</function>", "<function=name>\"x\"</function>", "[[some words]]"],
    );
    refuses(
        &constraint,
        &[
            "<function=",
            "<function=sub>{}</function>",
            "<function=add>",
            "<function=add>{\"a\": 1, \"b\": 2}",
            "<function=add>{\"a\": 1, \"b\": 2}</function",
            "<function=add>{\"a\": 1}</function>",
            "<function=add>{\"a\": 1, \"b\": \"2\"}</function>",
            "<function=add>\"x\"</function>",
            "<function=name>\"z\"</function>",
            "[[",
            "[[]]",
            "[[NO]]",
            "[[<function=name>\"x\"</function>]]",
        ],
    );
}

#[test]
fn text_is_free_again_after_a_tag() {
    let constraint = compile(&functions());
    let call = "<function=name>\"x\"</function>";
    admits(
        &constraint,
        &[
            &format!("First this: {call} and then that."),
            &format!("{call}{call}"),
            &format!("a {call} b [[c]] d {call}</function>"),
            &format!("{call} <function"),
            &format!("<<function=name>\"y\"</function>, {call}\n"),
        ],
    );
    refuses(
        &constraint,
        &[&format!("{call} <function="), &format!("{call}<function=name>"), &format!("[[a]]{call}[[")],
    );
}

#[test]
fn a_trigger_is_seen_however_it_is_cut_into_tokens() {
    let tags = functions().to_string();
    let constraint = Constraint::structural_tag(&tags, bytes_tokenizer()).unwrap();
    assert!(
        walk::after(&constraint, "x <function=name>\"x\"</function> y").is_some_and(|mut state| state.is_accepting())
    );
    assert!(walk::after(&constraint, "x <function=name>\"x\"<").is_some_and(|mut state| !state.is_accepting()));
    assert!(walk::after(&constraint, "x <function=s").is_none() && walk::after(&constraint, "[[1").is_none());
    // A token that holds the trigger and what may not follow it is not allowed.
    let constraint = compile(&json!({
        "structures": [{ "begin": "ing.", "regex": "[0-9]+", "end": "!" }], "triggers": ["ing"]
    }));
    admits(&constraint, &["go", "go in", "going.12!", "sing.1!ing.2! x"]);
    refuses(&constraint, &["going", "going home", "sing", "ing.!", "singing.1!"]);
    for seed in 0..20 {
        let Walk::Ended { text, .. } = walk::uniform(&constraint, tokenizer(), seed, "ing") else { continue };
        for (at, _) in text.match_indices("ing") {
            let rest = text[at..].strip_prefix("ing.").and_then(|rest| rest.split_once('!'));
            assert!(rest.is_some_and(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit())), "{text:?}");
        }
    }
}

#[test]
fn a_tag_may_have_no_end_and_its_begin_may_be_the_trigger() {
    let constraint = compile(&json!({
        "type": "structural_tag",
        "structures": [{ "begin": "N:", "regex": "[0-9]{2}", "end": "" }],
        "triggers": ["N:"],
    }));
    admits(&constraint, &["N:12", "a N:12b", "N:12N:345"]);
    refuses(&constraint, &["N:1", "N:a", "N:12N:"]);
    let odd = compile(&json!({
        "structures": [{ "begin": "a/b\\\"\n", "regex": "x/y|\\/", "end": "\\/\n\"" }], "triggers": ["a/b\\"]
    }));
    admits(&odd, &["a/b\\\"\nx/y\\/\n\"", "a/b\\\"\n/\\/\n\""]);
    refuses(&odd, &["a/b\\"]);
}

#[test]
fn what_is_wrong_is_named() {
    let tag = |begin: &str| json!({ "begin": begin, "regex": "a", "end": "" });
    let check = |tags: Value, code: ErrorCode, part: &str| {
        let error = Constraint::structural_tag(&tags.to_string(), tokenizer()).unwrap_err();
        assert_eq!(error.code, code, "{tags}: {error}");
        assert!(error.message.contains(part), "{tags}: {error}");
    };
    let invalid = ErrorCode::Invalid;
    check(json!({ "structures": [tag("a")], "triggers": [""] }), invalid, "a trigger is empty");
    check(json!({ "structures": [tag("ab"), tag("a")], "triggers": ["ab", "a"] }), invalid, "is part of the trigger");
    check(json!({ "structures": [tag("a")], "triggers": ["a", "b"] }), invalid, "no structure begins with");
    check(
        json!({ "structures": [tag("a"), tag("b")], "triggers": ["a"] }),
        invalid,
        "begins with none of the triggers",
    );
    check(json!({ "structures": [tag("a")], "triggers": [] }), invalid, "0 triggers");
    check(json!({ "structures": [], "triggers": ["a"] }), invalid, "0 structures");
    check(
        json!({ "structures": [{ "begin": "a", "schema": {}, "regex": "a", "end": "" }], "triggers": ["a"] }),
        invalid,
        "either a schema or a regex",
    );
    check(
        json!({ "structures": [{ "begin": "a", "end": "" }], "triggers": ["a"] }),
        invalid,
        "either a schema or a regex",
    );
    check(
        json!({ "structures": [{ "begin": "a", "regex": "(", "end": "" }], "triggers": ["a"] }),
        invalid,
        "unclosed group",
    );
    check(
        json!({ "structures": [{ "begin": "a", "schema": { "not": {} }, "end": "" }], "triggers": ["a"] }),
        ErrorCode::Unsupported,
        "not",
    );
    check(json!({ "structures": [tag("a")], "triggers": ["a"], "other": 1 }), invalid, "other");
    let many: Vec<Value> = (0..300).map(|number| tag(&format!("a{number}"))).collect();
    check(json!({ "structures": many, "triggers": ["a"] }), invalid, "300 structures");
}
