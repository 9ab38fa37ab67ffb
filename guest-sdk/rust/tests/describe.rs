//! What `#[program]` makes of a function, as far as it needs no host.

#![allow(clippy::unwrap_used, reason = "tests")]

use sglhost_guest::__private::Arguments;
use sglhost_guest::prelude::*;
use sglhost_guest::{Argument, Program};

/// Answers a question,
/// or several.
#[program]
fn answer(
    s: &mut State,
    /// What to ask.
    question: String,
    #[arg(default = 512)] max_tokens: u32,
    #[arg(default = "en")]
    /// Language of the answer.
    language: String,
    hints: Option<Vec<String>>,
) -> Result<String> {
    s += user(question) + assistant(r#gen("answer").max_tokens(max_tokens));
    s.user(format!("{language} {hints:?}"));
    Ok(s["answer"].clone())
}

#[program]
fn nothing(s: &mut State) {
    s.user("Hello.");
}

#[test]
fn a_function_describes_itself() {
    let expect = concat!(
        r#"{"name":"answer","description":"Answers a question, or several.","arguments":{"type":"object","#,
        r#""properties":{"question":{"description":"What to ask.","type":"string"},"#,
        r#""max_tokens":{"default":512,"maximum":4294967295,"minimum":0,"type":"integer"},"#,
        r#""language":{"default":"en","description":"Language of the answer.","type":"string"},"#,
        r#""hints":{"items":{"type":"string"},"type":"array"}},"#,
        r#""required":["question"],"additionalProperties":false}}"#
    );
    assert_eq!(<answer as Program>::describe(), expect);
    let expect = concat!(
        r#"{"name":"nothing","description":"","arguments":{"type":"object","properties":{},"#,
        r#""required":[],"additionalProperties":false}}"#
    );
    assert_eq!(<nothing as Program>::describe(), expect);
}

#[test]
fn arguments_are_taken_by_name() {
    let parse = |json: &str| Arguments::parse(json, <answer as Program>::ARGUMENTS);
    let mut arguments = parse(r#"{"question": "Why?", "language": null}"#).unwrap();
    assert_eq!(arguments.take("question", None), Ok(String::from("Why?")));
    assert_eq!(arguments.take("max_tokens", Some(|| 512_u32)), Ok(512));
    assert_eq!(arguments.take("language", Some(|| String::from("en"))), Ok(String::from("en")));
    assert_eq!(arguments.take::<Option<Vec<String>>>("hints", None), Ok(None));

    fn check<T: Argument + std::fmt::Debug>(arguments: Result<Arguments>, name: &str, expect: &str) {
        let error = arguments.and_then(|mut arguments| arguments.take::<T>(name, None)).unwrap_err();
        assert_eq!(error.to_string(), expect);
    }
    check::<String>(parse("{}"), "question", r#"invalid: missing argument "question""#);
    check::<String>(parse(""), "question", r#"invalid: missing argument "question""#);
    check::<String>(
        parse(r#"{"question": 1}"#),
        "question",
        r#"invalid: argument "question" must be text, and is a number"#,
    );
    check::<String>(
        parse(r#"{"qestion": "Why?"}"#),
        "question",
        r#"invalid: unknown argument "qestion"; the program takes question, max_tokens, language, hints"#,
    );
    check::<String>(parse("[]"), "question", "invalid: the arguments must be a JSON object of names and values");
}
