//! Token masks: our constraints and `llguidance` called directly, over the same texts and vocabulary. `masks.py` runs it,
//! adds XGrammar and prints the table.
//!
//! `masks MODEL CASES OUT`: reads the cases, writes OUT/vocabulary.json and OUT/traces.json for other engines, and prints
//! a JSON line per case and engine: nanoseconds of compiling with the first mask, and of each mask and advance of the
//! first output (`cold`) and of later ones (`warm`).
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::{hint::black_box, path::Path, sync::Arc, time::Instant};

use llguidance::{
    Matcher, ParserFactory,
    api::TopLevelGrammar,
    earley::SlicedBiasComputer,
    toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sglhost_core::TokenId;
use sglhost_text::{Constraint, Tokenizer};

/// Outputs after the first that are timed.
const WARM: usize = 9;

#[derive(Deserialize, Serialize)]
struct Case {
    kind: String,
    name: String,
    source: String,
    text: String,
    #[serde(default)]
    tokens: Vec<TokenId>,
}

#[derive(Default, Serialize)]
struct Times {
    masks: Vec<u64>,
    advances: Vec<u64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, cases, out] = arguments.as_slice() else { panic!("usage: masks MODEL CASES OUT") };
    let tokenizer = Arc::new(sglhost_model::tokenizer(Path::new(model)).unwrap());
    let mut cases: Vec<Case> = serde_json::from_slice(&std::fs::read(cases).unwrap()).unwrap();
    for case in &mut cases {
        case.tokens = tokenizer.encode_plain(&case.text);
    }
    let words: Vec<Vec<u8>> = (0..tokenizer.vocabulary() as TokenId)
        .map(|token| if tokenizer.is_special(token) { Vec::new() } else { tokenizer.token_bytes(token).to_vec() })
        .collect();
    let vocabulary = json!({ "words": words, "end": tokenizer.end_of_text() });
    std::fs::write(Path::new(out).join("vocabulary.json"), vocabulary.to_string()).unwrap();
    std::fs::write(Path::new(out).join("traces.json"), serde_json::to_string(&cases).unwrap()).unwrap();
    let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, tokenizer.end_of_text()[0]), &words);
    let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    let mut factory =
        ParserFactory::new(&env, InferenceCapabilities::default(), &SlicedBiasComputer::json_slices()).unwrap();
    factory.quiet();
    // What is built once for a tokenizer is no part of a constraint's time.
    ours(&tokenizer, &cases[0]);
    for case in &cases {
        ours(&tokenizer, case);
        theirs(&factory, case);
    }
    let warm_up = cases.iter().find(|case| case.kind == "json_schema").unwrap();
    black_box(compile(&tokenizer, warm_up));
    for case in &cases {
        print(case, "sglhost", ours(&tokenizer, case));
        print(case, "llguidance", theirs(&factory, case));
    }
}

fn print(case: &Case, engine: &str, (first, cold, warm): (u64, Times, Times)) {
    let line = json!({
        "kind": case.kind, "name": case.name, "engine": engine, "first": first, "cold": cold, "warm": warm
    });
    println!("{line}");
}

fn compile(tokenizer: &Arc<Tokenizer>, case: &Case) -> Constraint {
    match case.kind.as_str() {
        "regex" => Constraint::regex(&case.source, tokenizer),
        "json_schema" => Constraint::json_schema(&case.source, tokenizer),
        _ => Constraint::lark(&case.source, tokenizer),
    }
    .unwrap()
}

fn ours(tokenizer: &Arc<Tokenizer>, case: &Case) -> (u64, Times, Times) {
    let started = Instant::now();
    let constraint = compile(tokenizer, case);
    black_box(constraint.start().mask());
    let first = started.elapsed().as_nanos() as u64;
    output(case, first, || {
        let mut state = constraint.start();
        move |token: Option<TokenId>| match token {
            None => state.mask().words().first().copied().unwrap_or(0),
            Some(token) => {
                assert!(state.mask().allows(token) && state.advance(token), "{}: {token}", case.name);
                0
            }
        }
    })
}

fn theirs(factory: &ParserFactory, case: &Case) -> (u64, Times, Times) {
    let started = Instant::now();
    let grammar = match case.kind.as_str() {
        "regex" => TopLevelGrammar::from_regex(&case.source),
        "json_schema" => {
            let mut schema: serde_json::Value = serde_json::from_str(&case.source).unwrap();
            schema["x-guidance"] =
                json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
            TopLevelGrammar::from_json_schema(schema)
        }
        _ => TopLevelGrammar::from_lark(case.source.clone()),
    };
    let mut compiled = Matcher::new(factory.create_parser(grammar));
    black_box(compiled.clone().compute_mask().unwrap());
    let first = started.elapsed().as_nanos() as u64;
    output(case, first, move || {
        let mut matcher = compiled.clone();
        let _ = &mut compiled;
        move |token: Option<TokenId>| match token {
            None => matcher.compute_mask_or_eos().unwrap().as_slice()[0],
            Some(token) => {
                matcher.consume_token(token).unwrap();
                0
            }
        }
    })
}

/// Times the outputs of one engine. `start` begins one; what it gives makes a mask, or takes a token.
fn output<S: FnMut(Option<TokenId>) -> u32>(
    case: &Case,
    first: u64,
    mut start: impl FnMut() -> S,
) -> (u64, Times, Times) {
    let (mut cold, mut warm) = (Times::default(), Times::default());
    for round in 0..=WARM {
        let times = if round == 0 { &mut cold } else { &mut warm };
        let mut step = start();
        for &token in &case.tokens {
            let started = Instant::now();
            black_box(step(None));
            times.masks.push(started.elapsed().as_nanos() as u64);
            let started = Instant::now();
            step(Some(token));
            times.advances.push(started.elapsed().as_nanos() as u64);
        }
    }
    (first, cold, warm)
}
