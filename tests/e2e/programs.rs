//! Every text program of SGLang's own introduction, on the real model. What the model says differs from seed to seed;
//! what is checked is structure.

use regex::Regex;
use sglhost_core::{ContextId, FinishReason};

use crate::events::tell;

const SYSTEM: &str = "<|im_start|>system\nYou are a helpful assistant than can answer questions.<|im_end|>\n";

#[test]
fn basic_qa() {
    let told = tell("basic_qa", &["--question", "List 3 countries and their capitals.", "--seed", "1"]);
    let answer = told.call("answer");
    assert!(!answer.text.is_empty());
    assert!(answer.usage.completion_tokens <= 512);
    let expect = format!(
        "{SYSTEM}<|im_start|>user\nList 3 countries and their capitals.<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n",
        answer.text
    );
    assert_eq!(told.text(), expect);
    assert_eq!(told.result, "null");
}

#[test]
fn multi_turn_qa() {
    let told = tell("multi_turn_qa", &["--seed", "2"]);
    let (first, second) = (told.call("first_answer"), told.call("second_answer"));
    assert!(first.finished_at < second.started_at);
    assert!(second.usage.prompt_tokens > first.usage.prompt_tokens + first.usage.completion_tokens);
    // Nothing of the first turn is computed again but, at most, its very end.
    assert!(second.usage.cached_tokens + 1 >= first.usage.prompt_tokens + first.usage.completion_tokens, "{told:?}");
    let turns = ["system", "user", "assistant", "user", "assistant"].map(|role| format!("<|im_start|>{role}\n"));
    let found: Vec<&str> =
        Regex::new(r"<\|im_start\|>\w+\n").unwrap().find_iter(told.text()).map(|it| it.as_str()).collect();
    assert_eq!(found, turns);
}

#[test]
fn tool_use() {
    for seed in ["1", "2", "3"] {
        let told = tell("tool_use", &["--question", "What is 2 * 2?", "--seed", seed]);
        let tool = &told.call("tool").text;
        let next = match tool.as_str() {
            "calculator" => "The math expression is: ",
            "search engine" => "The key word to search is: ",
            other => panic!("{other:?} is none of the choices"),
        };
        assert_eq!(told.calls.len(), 2);
        let expect = format!(
            "<|im_start|>assistant\nTo answer this question: What is 2 * 2?. I need to use a {tool}. <|im_end|>\n\
             <|im_start|>assistant\n{next}{}<|im_end|>\n",
            told.calls[1].text
        );
        assert!(told.text().ends_with(&expect), "{}", told.text());
    }
}

#[test]
fn tip_suggestion() {
    let told = tell("tip_suggestion", &["--seed", "4"]);
    let tips: Vec<_> = told.calls.iter().filter(|call| call.name == "detailed_tip").collect();
    let [one, other] = tips[..] else { panic!("two tips: {told:?}") };
    assert!(
        one.started_at < other.finished_at && other.started_at < one.finished_at,
        "the forks overlap in time: {}..{} and {}..{}",
        one.started_at,
        one.finished_at,
        other.started_at,
        other.finished_at
    );
    let summary = told.call("summary");
    assert!(summary.started_at > one.finished_at.max(other.finished_at));
    for tip in &tips {
        assert_eq!(told.parents[&tip.context], Some(ContextId(0)));
        assert!(!tip.text.contains("\n\n"), "the stop string is cut: {:?}", tip.text);
        let number = tip.context.0;
        assert!(
            told.texts[&tip.context].contains(&format!("Now, expand tip {number} into a paragraph:\n{}", tip.text))
        );
        assert!(told.text().contains(&format!("Tip {number}:{}\n", tip.text)));
    }
    // The prefix that the forks share is computed once.
    assert!(one.usage.cached_tokens.max(other.usage.cached_tokens) > 0, "{told:?}");
}

#[test]
fn regular_expression_gen() {
    let told = tell("regular_expression_gen", &[]);
    let pattern = r"((25[0-5]|2[0-4]\d|[01]?\d\d?).){3}(25[0-5]|2[0-4]\d|[01]?\d\d?)";
    let answer = told.call("answer");
    assert!(Regex::new(&format!("^(?:{pattern})$")).unwrap().is_match(&answer.text), "{:?}", answer.text);
    assert_eq!(told.text(), tell("regular_expression_gen", &[]).text(), "temperature 0 needs no seed to be repeatable");
}

#[test]
fn character_gen() {
    let told = tell("character_gen", &["--name", "Harry Potter", "--seed", "6"]);
    let output = told.call("json_output");
    assert_eq!(output.finish_reason, FinishReason::Stop, "{output:?}");
    let pattern = concat!(
        r#"^\{\n    "name": "[\w\d\s]{1,16}",\n    "house": "(Gryffindor|Slytherin|Ravenclaw|Hufflepuff)",\n"#,
        r#"    "blood status": "(Pure-blood|Half-blood|Muggle-born)",\n"#,
        r#"    "occupation": "(student|teacher|auror|ministry of magic|death eater|order of the phoenix)",\n"#,
        r#"    "wand": \{\n        "wood": "[\w\d\s]{1,16}",\n        "core": "[\w\d\s]{1,16}",\n"#,
        r#"        "length": [0-9]{1,2}\.[0-9]{0,2}\n    \},\n    "alive": "(Alive|Deceased)",\n"#,
        r#"    "patronus": "[\w\d\s]{1,16}",\n    "bogart": "[\w\d\s]{1,16}"\n\}$"#,
    );
    assert!(Regex::new(pattern).unwrap().is_match(&output.text), "{}", output.text);
}

#[test]
fn text_qa() {
    let told =
        tell("text_qa", &["--question", "What is the capital of France?", "--temperature", "0.1", "--seed", "7"]);
    let answer = told.call("answer");
    assert!(!answer.text.contains('\n'), "{:?}", answer.text);
    // No system message was given: the template's own comes first.
    assert!(told.text().starts_with("<|im_start|>system\n"), "{}", told.text());
}

#[test]
fn chat_example() {
    let told = tell("chat_example", &["--seed", "8"]);
    let answer = &told.call("answer").text;
    let expect = format!(
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n\
         <|im_start|>user\nQuestion: What is the capital of France?<|im_end|>\n\
         <|im_start|>assistant\nAnswer: {answer}<|im_end|>\n"
    );
    assert_eq!(told.text(), expect);
    assert!(!answer.contains('\n'));
}
