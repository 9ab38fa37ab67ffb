//! The programs that show what a host is for: agents, searches and votes. What the model says is its own; what is
//! checked is what the program makes of it.

use std::collections::BTreeMap;

use regex::Regex;
use serde_json::Value;
use sglhost_core::ContextId;

use crate::events::{FinishedCall, Told, tell};

/// Few tokens a call: structure shows with these too.
const SHORT: [&str; 4] = ["--temperature", "0", "--max-tokens", "12"];

#[track_caller]
fn tell_short(name: &str, arguments: &[&str]) -> Told {
    tell(name, &[&SHORT, arguments].concat())
}

impl Told {
    fn named(&self, name: &str) -> Vec<&FinishedCall> {
        self.calls.iter().filter(|call| call.name == name).collect()
    }

    fn value(&self) -> Value {
        serde_json::from_str(&self.result).unwrap()
    }
}

/// All of them were under way at the same time.
#[track_caller]
fn overlap(calls: &[&FinishedCall]) {
    let last_start = calls.iter().map(|call| call.started_at).max().unwrap();
    let first_end = calls.iter().map(|call| call.finished_at).min().unwrap();
    assert!(last_start < first_end, "the last starts at event {last_start}, the first ends at {first_end}");
}

/// All but the one that computed it found the prefix that they share in the cache.
#[track_caller]
fn shared(calls: &[&FinishedCall], tokens: u64) {
    let computed = calls.iter().filter(|call| call.usage.cached_tokens < tokens).count();
    assert!(computed <= 1, "{computed} calls computed a prefix of {tokens} tokens: {calls:?}");
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|item| item.as_str().unwrap()).collect()
}

#[test]
fn tree_of_thought() {
    let told = tell_short("tree_of_thought", &["--depth", "2", "--branches", "2", "--beam", "1"]);
    let (first, second) = (told.named("step_1"), told.named("step_2"));
    assert_eq!((first.len(), second.len(), told.named("rating").len(), told.calls.len()), (2, 2, 4, 9));
    overlap(&first);
    overlap(&second);
    // The second step's ideas all grow from the one first idea that was kept.
    let kept = told.parents[&second[0].context].unwrap();
    assert!(first.iter().any(|idea| idea.context == kept));
    assert_eq!(told.parents[&second[1].context], Some(kept));
    // Judges are copies: a line of thought never sees their question.
    for rating in told.named("rating") {
        let judged = told.parents[&rating.context].unwrap();
        assert!(first.iter().chain(&second).any(|idea| idea.context == judged));
        assert!(told.texts[&rating.context].contains("How promising"));
        assert!(!told.texts[&judged].contains("How promising"));
        assert!(["1", "2", "3", "4", "5"].contains(&&*rating.text));
    }
    let (answer, value) = (told.call("answer"), told.value());
    assert!(second.iter().any(|idea| idea.context == answer.context));
    assert!(told.texts[&answer.context].ends_with(&format!("So the answer is{}<|im_end|>\n", answer.text)));
    let thought = |calls: &[&FinishedCall], of: ContextId| {
        calls.iter().find(|call| call.context == of).unwrap().text.trim().to_owned()
    };
    assert_eq!(strings(&value["steps"]), [thought(&first, kept), thought(&second, answer.context)]);
    assert!((1.0..=5.0).contains(&value["rating"].as_f64().unwrap()), "{value}");
}

#[test]
fn react_agent() {
    let expression = Regex::new("^([0-9]{1,6}) ([-+*/]) ([0-9]{1,6})$").unwrap();
    for question in ["How much higher is Mount Everest than Mont Blanc?", "What is 12 * 7?"] {
        let told = tell_short("react_agent", &["--question", question, "--max_actions", "3"]);
        let value = told.value();
        let steps = value["steps"].as_array().unwrap();
        let (actions, inputs) = (told.named("action"), told.named("input"));
        assert!(steps.len() <= 3 && inputs.len() == steps.len(), "{value}");
        // One more action than steps where the model chose to finish.
        let finished = actions.last().unwrap().text == "finish";
        assert_eq!(actions.len(), steps.len() + usize::from(finished), "{value}");
        for (step, input) in steps.iter().zip(inputs) {
            assert_eq!(step["input"], input.text);
            let (input, observation) = (step["input"].as_str().unwrap(), step["observation"].as_str().unwrap());
            match step["action"].as_str().unwrap() {
                "look up" => assert!(observation.contains(input) && observation.ends_with('.'), "{step}"),
                "calculate" => check_calculation(&expression, input, observation),
                other => panic!("{other:?} is no tool: {value}"),
            }
            assert!(
                told.text().contains(&format!("\nInput: {input}\nObservation: {observation}\n")),
                "{}",
                told.text()
            );
        }
        assert!(told.text().ends_with(&format!("\nAnswer:{}<|im_end|>\n", told.call("answer").text)));
    }
}

#[track_caller]
fn check_calculation(expression: &Regex, input: &str, observation: &str) {
    let parts = expression.captures(input).unwrap_or_else(|| panic!("{input:?} is no expression"));
    let (left, right): (f64, f64) = (parts[1].parse().unwrap(), parts[3].parse().unwrap());
    let expect = match &parts[2] {
        "+" => left + right,
        "-" => left - right,
        "*" => left * right,
        _ if right == 0.0 => return assert_eq!(observation, "nothing can be divided by 0"),
        _ => left / right,
    };
    assert_eq!(observation.parse::<f64>().unwrap(), expect, "{input}");
}

#[test]
fn self_consistency() {
    let arguments = ["--temperature", "0.8", "--max-tokens", "16", "--samples", "4", "--first_seed", "7"];
    let told = tell("self_consistency", &arguments);
    let (reasonings, answers) = (told.named("reasoning"), told.named("answer"));
    assert_eq!((reasonings.len(), answers.len()), (4, 4));
    overlap(&reasonings);
    shared(&reasonings, reasonings[0].usage.prompt_tokens / 2);
    assert!(reasonings.iter().any(|reasoning| reasoning.text != reasonings[0].text), "samples differ: {reasonings:?}");
    // The votes are the answers, counted.
    let mut votes = BTreeMap::<i64, u64>::new();
    for answer in &answers {
        *votes.entry(answer.text.parse().unwrap()).or_default() += 1;
    }
    let value = told.value();
    let told_votes = value["votes"].as_object().unwrap().iter();
    let told_votes: BTreeMap<i64, u64> = told_votes.map(|(k, v)| (k.parse().unwrap(), v.as_u64().unwrap())).collect();
    assert_eq!(told_votes, votes);
    assert_eq!(votes[&value["answer"].as_i64().unwrap()], *votes.values().max().unwrap(), "{value}");
    // The samples' seeds are the program's own: they need none of the run's to be repeatable.
    assert_eq!(tell("self_consistency", &arguments).result, told.result);
}

#[test]
fn multi_document_qa() {
    let documents = ["The mill was built in 1790.", "Tickets cost five pounds.", "The mill grinds corn on Sundays."];
    let question = "What does a ticket cost?";
    let arguments: Vec<&str> = documents.iter().flat_map(|document| ["--documents", document]).collect();
    let told = tell_short("multi_document_qa", &[&arguments[..], &["--question", question]].concat());
    let (helps, notes) = (told.named("helps"), told.named("notes"));
    assert_eq!((helps.len(), notes.len(), told.calls.len()), (3, 3, 7));
    overlap(&helps);
    let of = |calls: &[&FinishedCall], document: usize| {
        let context = ContextId(u32::try_from(document).unwrap() + 1);
        calls.iter().find(|call| call.context == context).unwrap().text.clone()
    };
    // No document sees another, and the parent sees none.
    for (number, document) in documents.iter().enumerate() {
        for (context, text) in &told.texts {
            assert_eq!(text.contains(document), context.0 as usize == number + 1, "{context}: {text}");
        }
    }
    let helpful: Vec<usize> = (0..3).filter(|&document| of(&helps, document) == "yes").collect();
    let sources = if helpful.is_empty() { vec![0, 1, 2] } else { helpful };
    let value = told.value();
    assert_eq!(value["sources"], Value::from_iter(sources.iter().map(|source| source + 1)));
    let merged: String =
        sources.iter().map(|&source| format!("Notes on document {}:{}\n", source + 1, of(&notes, source))).collect();
    let answer = told.call("answer");
    let expect = format!(
        "<|im_start|>user\n{merged}\nQuestion: {question}<|im_end|>\n<|im_start|>assistant\nAnswer:{}<|im_end|>\n",
        answer.text
    );
    assert!(told.text().ends_with(&expect), "{}", told.text());
    assert_eq!(value["answer"], answer.text.trim());
}

#[test]
fn judge() {
    let dimensions = ["clarity", "evidence", "style"];
    let arguments: Vec<&str> = dimensions.iter().flat_map(|dimension| ["--dimensions", dimension]).collect();
    let told = tell_short("judge", &arguments);
    let (judgments, scores) = (told.named("judgment"), told.named("score"));
    assert_eq!((judgments.len(), scores.len(), told.calls.len()), (3, 3, 7));
    overlap(&judgments);
    // The essay, which is most of each prompt, is computed once.
    shared(&judgments, judgments[0].usage.prompt_tokens - 50);
    let value = told.value();
    assert_eq!(strings(&value["dimensions"]), dimensions);
    for (number, dimension) in dimensions.iter().enumerate() {
        let context = ContextId(u32::try_from(number).unwrap() + 1);
        let in_fork = |calls: &[&FinishedCall]| calls.iter().find(|call| call.context == context).unwrap().text.clone();
        let (judgment, score) = (in_fork(&judgments), in_fork(&scores));
        assert_eq!(value["scores"][number].to_string(), score);
        assert!(told.texts[&context].contains(&format!("Judge the {dimension} of the essay")));
        assert!(told.text().contains(&format!("\n{dimension} ({score} of 5):{judgment}\n")), "{}", told.text());
    }
    let report = &told.call("report").text;
    let pattern = r#"^\{"summary": "[A-Z][^".\\\n]{10,200}\.", "grade": "[ABCDF][+-]?"\}$"#;
    assert!(Regex::new(pattern).unwrap().is_match(report), "{report}");
    let report: Value = serde_json::from_str(report).unwrap();
    assert_eq!((&value["summary"], &value["grade"]), (&report["summary"], &report["grade"]));
}

#[test]
fn multi_turn_chat() {
    let messages = ["My name is Ada.", "What is my name?", "Spell it."];
    let arguments: Vec<&str> = messages.iter().flat_map(|message| ["--messages", message]).collect();
    let told = tell_short("multi_turn_chat", &[&arguments[..], &["--instructions", "You are brief."]].concat());
    let replies: Vec<&FinishedCall> = (1..=3).map(|turn| told.call(&format!("reply_{turn}"))).collect();
    let turns: String = messages
        .iter()
        .zip(&replies)
        .map(|(message, reply)| {
            format!("<|im_start|>user\n{message}<|im_end|>\n<|im_start|>assistant\n{}<|im_end|>\n", reply.text)
        })
        .collect();
    assert_eq!(told.text(), format!("<|im_start|>system\nYou are brief.<|im_end|>\n{turns}"));
    assert_eq!(strings(&told.value()), replies.iter().map(|reply| &*reply.text).collect::<Vec<_>>());
    // A turn computes nothing again but, at most, the very end of the turn before it.
    for turn in replies.windows(2) {
        let before = turn[0].usage.prompt_tokens + turn[0].usage.completion_tokens;
        assert!(turn[1].usage.cached_tokens + 1 >= before, "{turn:?}");
    }
}
