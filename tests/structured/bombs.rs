//! Constraints made to take time or memory: each is refused, naming what it would have taken, or is none.
//!
//! Each is compiled in a process of its own, this test binary again: a stack that overflows ends a process.

use std::{
    env,
    fmt::Write as _,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};
use sglhost_core::{Error, ErrorCode, TokenId, limits};
use sglhost_text::ConstraintSpec;

use crate::{counting, walk::tokenizer};

/// What compiling may take above what was there before.
const BYTES_MAX: usize = 64 << 20;
/// Where something hangs. Times are printed; on a machine that does nothing else they are far below.
const TIME_MAX: Duration = Duration::from_secs(5);
/// A process that takes longer than this is ended.
const HANGS_AFTER: Duration = Duration::from_secs(15);
/// What an error may say: it is shown to whoever sent the constraint.
const MESSAGE_BYTES_MAX: f64 = 4096.0;
/// Names the bomb to the process that compiles it.
const VARIABLE: &str = "SGLHOST_TEST_BOMB";

fn regex(pattern: impl Into<Arc<str>>) -> ConstraintSpec {
    ConstraintSpec::Regex(pattern.into())
}

fn schema(schema: &Value) -> ConstraintSpec {
    ConstraintSpec::JsonSchema(schema.to_string().into())
}

fn lark(grammar: impl Into<Arc<str>>) -> ConstraintSpec {
    ConstraintSpec::Lark(grammar.into())
}

/// Rules or terminals that are each made of the next, the last of "a".
fn numbered(count: usize, of_next: impl Fn(usize) -> String, name: &str) -> String {
    let mut grammar = format!("start: {name}0\n");
    for number in 0..count {
        let _ = writeln!(grammar, "{name}{number}: {}", of_next(number + 1));
    }
    let _ = writeln!(grammar, "{name}{count}: \"a\"");
    grammar
}

fn words(count: usize) -> Vec<Value> {
    (0..count).map(|number| format!("word{number}").into()).collect()
}

/// Definitions that each refer to the next, the last to `end`.
fn chain(length: usize, wrap: impl Fn(Value) -> Value, end: Value) -> Value {
    let mut definitions = serde_json::Map::new();
    for number in 0..length {
        definitions.insert(format!("d{number}"), wrap(json!({ "$ref": format!("#/$defs/d{}", number + 1) })));
    }
    definitions.insert(format!("d{length}"), end);
    json!({ "$ref": "#/$defs/d0", "$defs": definitions })
}

/// A product of 2 to the power of `factors` alternatives.
fn product(factors: usize) -> Value {
    let factor = |number: usize| {
        let either = |kind: &str| json!({ "properties": { (format!("p{number}")): { "type": kind } } });
        json!({ "anyOf": [either("string"), either("integer")] })
    };
    json!({ "allOf": (0..factors).map(factor).collect::<Vec<_>>() })
}

type Bomb = (&'static str, fn() -> ConstraintSpec);

#[allow(clippy::too_many_lines, reason = "a list")]
fn bombs() -> Vec<Bomb> {
    vec![
        ("(a?){5000}", || regex("(a?){5000}")),
        ("((a{0,100}){0,100}){0,100}", || regex("((a{0,100}){0,100}){0,100}")),
        (r"(\w{1,100}){100}", || regex(r"(\w{1,100}){100}")),
        (r"\w{1,1000}", || regex(r"\w{1,1000}")),
        (r"(\pL|\pN){500}", || regex(r"(\pL|\pN){500}")),
        (".*a.{500}", || regex(".*a.{500}")),
        ("(.*){50}", || regex("(.*){50}")),
        ("a regex in 200 groups", || regex(format!("{}a{}", "(".repeat(200), ")".repeat(200)))),
        ("a regex in 20000 groups", || regex(format!("{}a{}", "(".repeat(20_000), ")".repeat(20_000)))),
        ("a regex of 10000 alternatives", || {
            let words: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
            regex(words.join("|"))
        }),
        ("1024 choices of 60 bytes", || {
            ConstraintSpec::Choices((0..1024).map(|number| format!("{number:060}")).collect())
        }),
        ("enum of 100000 strings", || schema(&json!({ "enum": words(100_000) }))),
        ("enum of 40000 strings", || schema(&json!({ "enum": words(40_000) }))),
        ("enum of 2000 strings", || schema(&json!({ "enum": words(2000) }))),
        ("enum of 5000 numbers", || schema(&json!({ "enum": (0..5000).collect::<Vec<_>>() }))),
        ("enum of 5000 arrays", || schema(&json!({ "enum": (0..5000).map(|n| json!([n])).collect::<Vec<_>>() }))),
        ("enum of one string of 500 KB", || schema(&json!({ "enum": ["a".repeat(500_000)] }))),
        ("const of 100 KB with hard characters", || schema(&json!({ "const": "é\"\\\n".repeat(20_000) }))),
        ("$ref chain of 10000", || schema(&chain(10_000, |next| next, json!({ "type": "integer" })))),
        ("$ref chain of 5000 through allOf", || {
            schema(&chain(5000, |next| json!({ "allOf": [next] }), json!({ "type": "integer" })))
        }),
        ("$ref chain of 900 through properties", || {
            let wrap = |next| json!({ "type": "object", "properties": { "a": next }, "required": ["a"] });
            schema(&chain(900, wrap, json!({ "type": "integer" })))
        }),
        ("Lark: 8000 rules in a chain", || lark(numbered(8000, |next| format!("\"a\" r{next}"), "r"))),
        ("Lark: 8000 terminals in a chain", || lark(numbered(8000, |next| format!("T{next} \"a\""), "T"))),
        ("$ref chain of 10000 with siblings", || {
            let wrap = |mut next: Value| {
                next["type"] = "object".into();
                next
            };
            schema(&chain(10_000, wrap, json!({ "type": "object" })))
        }),
        ("$ref chain of 10000 through properties", || {
            let wrap = |next| json!({ "type": "object", "properties": { "a": next }, "required": ["a"] });
            schema(&chain(8000, wrap, json!({ "type": "integer" })))
        }),
        ("$ref chain of 10000 through allOf", || {
            schema(&chain(10_000, |next| json!({ "allOf": [next] }), json!({ "type": "integer" })))
        }),
        ("a $ref to itself", || schema(&json!({ "$ref": "#" }))),
        ("mutual recursion without an end", || {
            schema(&json!({
                "$ref": "#/$defs/a",
                "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } },
            }))
        }),
        ("mutual recursion that needs itself", || {
            schema(&json!({
                "$ref": "#/$defs/a",
                "$defs": {
                    "a": { "type": "object", "properties": { "b": { "$ref": "#/$defs/b" } }, "required": ["b"] },
                    "b": { "type": "object", "properties": { "a": { "$ref": "#/$defs/a" } }, "required": ["a"] },
                },
            }))
        }),
        ("trees that meet through allOf", || {
            let tree = |name: &str| json!({ "properties": { "child": { "$ref": format!("#/$defs/{name}") } } });
            schema(&json!({
                "allOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/b" }],
                "$defs": { "a": tree("a"), "b": tree("b") },
            }))
        }),
        ("a schema 10000 deep", || {
            let (open, close) = (r#"{"items":"#, "}");
            ConstraintSpec::JsonSchema(format!("{}{{}}{}", open.repeat(10_000), close.repeat(10_000)).into())
        }),
        ("a schema 120 deep", || {
            let (open, close) = (r#"{"items":"#, "}");
            ConstraintSpec::JsonSchema(format!("{}{{}}{}", open.repeat(120), close.repeat(120)).into())
        }),
        ("a schema of 10 MB", || schema(&json!({ "description": "x".repeat(10 << 20) }))),
        ("3000 properties", || {
            let properties: serde_json::Map<String, Value> =
                (0..3000).map(|number| (format!("p{number}"), json!({ "type": "string", "maxLength": 40 }))).collect();
            schema(&json!({ "properties": properties }))
        }),
        ("1000 properties", || {
            let properties: serde_json::Map<String, Value> =
                (0..1000).map(|number| (format!("p{number}"), json!({ "type": "string", "maxLength": 40 }))).collect();
            schema(&json!({ "properties": properties }))
        }),
        ("3000 properties of which 1 is allowed", || {
            let properties: serde_json::Map<String, Value> =
                (0..3000).map(|number| (format!("p{number}"), json!({ "type": "integer" }))).collect();
            schema(&json!({ "properties": properties, "additionalProperties": false, "minProperties": 1 }))
        }),
        ("patternProperties with a hostile regex", || {
            schema(&json!({ "patternProperties": { "^(([a-z])+.)+[A-Z]([a-z])+$": {}, "(x+x+)+y{100}": {} } }))
        }),
        ("patternProperties with 60 expressions", || {
            let patterns: serde_json::Map<String, Value> =
                (0..60).map(|number| (format!("^{number}_.*a.{{12}}$"), json!({}))).collect();
            schema(&json!({ "patternProperties": patterns }))
        }),
        ("pattern with a counted repeat", || schema(&json!({ "type": "string", "pattern": r"^(\w{1,100}){100}$" }))),
        ("pattern whose automaton doubles", || schema(&json!({ "type": "string", "pattern": "^(a|b)*a(a|b){500}$" }))),
        ("pattern and length", || {
            schema(&json!({ "type": "string", "pattern": "(a|b)*a(a|b){20}", "minLength": 1000, "maxLength": 20_000 }))
        }),
        ("patterns that meet", || {
            let one = |number: usize| json!({ "type": "string", "pattern": format!("a.{{{number}}}b") });
            schema(&json!({ "allOf": (1..40).map(one).collect::<Vec<_>>() }))
        }),
        ("16 patterns that meet", || {
            let one = |number: usize| json!({ "type": "string", "pattern": format!("a.{{{number}}}b") });
            schema(&json!({ "allOf": (1..17).map(one).collect::<Vec<_>>() }))
        }),
        ("patterns that meet in a property", || {
            let one = |number: usize| json!({ "properties": { "a": { "type": "string", "pattern": format!("a.{{{number}}}b") } } });
            schema(&json!({ "allOf": (1..40).map(one).collect::<Vec<_>>() }))
        }),
        ("Lark: patterns that meet", || {
            let all: Vec<String> = (1..40).map(|number| format!("/.*a.{{{number}}}b.*/")).collect();
            lark(format!("start: A\nA: {}", all.join(" & ")))
        }),
        ("maxLength of 10^9", || schema(&json!({ "type": "string", "maxLength": 1_000_000_000 }))),
        ("minLength of 10^9", || schema(&json!({ "type": "string", "minLength": 1_000_000_000 }))),
        ("maxItems of 10^9", || schema(&json!({ "type": "array", "maxItems": 1_000_000_000 }))),
        ("minItems of 10^6", || schema(&json!({ "type": "array", "minItems": 1_000_000 }))),
        ("minItems within minItems", || {
            let inner = json!({ "type": "array", "minItems": 5000, "items": { "type": "array", "minItems": 5000 } });
            schema(&json!({ "type": "array", "minItems": 5000, "items": inner }))
        }),
        ("lengths past 64 bits", || {
            ConstraintSpec::JsonSchema(r#"{"type": "string", "maxLength": 99999999999999999999}"#.into())
        }),
        ("a product of 2^20", || schema(&product(20))),
        ("a product of 2^10", || schema(&product(10))),
        ("multipleOf of 15 digits", || schema(&json!({ "type": "integer", "multipleOf": 123_456_789_012_345_u64 }))),
        ("multipleOf of 7 digits", || schema(&json!({ "type": "integer", "multipleOf": 9_999_991 }))),
        ("multipleOf of 5 digits that is a prime", || schema(&json!({ "type": "number", "multipleOf": 9973 }))),
        ("multipleOf with 5 digits after the point", || schema(&json!({ "type": "number", "multipleOf": 0.123_45 }))),
        ("multipleOf that is hardly any", || schema(&json!({ "type": "number", "multipleOf": 1e-300 }))),
        ("multipleOf beside a $ref to one", || {
            schema(&json!({ "$ref": "#/$defs/a", "multipleOf": 9973, "$defs": { "a": { "multipleOf": 9967 } } }))
        }),
        ("an integer past 64 bits below", || schema(&json!({ "type": "integer", "minimum": -1e19, "maximum": -1e19 }))),
        ("the least integer of 64 bits", || schema(&json!({ "type": "integer", "const": i64::MIN }))),
        ("the least integer of 64 bits, within", || {
            schema(&json!({ "type": "array", "enum": [[{ "a": i64::MIN }], []] }))
        }),
        ("all integers of 64 bits", || schema(&json!({ "type": "integer", "minimum": i64::MIN, "maximum": i64::MAX }))),
        ("all integers of 64 bits, exclusively", || {
            schema(&json!({ "type": "integer", "exclusiveMinimum": i64::MIN, "exclusiveMaximum": u64::MAX }))
        }),
        ("numbers up to 1e300", || schema(&json!({ "type": "number", "minimum": -1e300, "maximum": 1e300 }))),
        ("numbers from 1e300", || schema(&json!({ "type": "number", "minimum": 1e300 }))),
        ("the number 1e300", || schema(&json!({ "const": 1e300 }))),
        ("a name of 100 KB around 3000 schemas", || {
            let properties: serde_json::Map<String, Value> =
                (0..2900).map(|number| (number.to_string(), json!({}))).collect();
            schema(&json!({ "properties": { ("x".repeat(100_000)): { "properties": properties } } }))
        }),
        ("a name of 100 KB around 20000 schemas", || {
            let all: Vec<Value> = (0..20_000).map(|_| json!({})).collect();
            schema(&json!({ "properties": { ("x".repeat(100_000)): { "anyOf": all } } }))
        }),
        ("Lark: 5000 times %json on a line", || lark(format!("start: {}", "\"%json\" ".repeat(5000)))),
        ("multipleOf that meet", || {
            let one = |number: u32| json!({ "type": "number", "multipleOf": number });
            schema(&json!({ "allOf": [one(997), one(991), one(983), one(977)] }))
        }),
        ("a number between hard bounds", || {
            schema(&json!({ "type": "number", "minimum": 1.000000000000001, "maximum": 123_456_789.987_654_3 }))
        }),
        ("anyOf of 5000 objects", || {
            let one = |number: usize| json!({ "type": "object", "properties": { (format!("p{number}")): {} } });
            schema(&json!({ "anyOf": (0..5000).map(one).collect::<Vec<_>>() }))
        }),
        ("anyOf of 1400 objects", || {
            let one = |number: usize| json!({ "type": "object", "properties": { (format!("p{number}")): {} } });
            schema(&json!({ "anyOf": (0..1400).map(one).collect::<Vec<_>>() }))
        }),
        ("oneOf of 3000 objects", || {
            let one = |number: usize| {
                let kind = json!({ "const": format!("k{number}") });
                json!({ "type": "object", "properties": { "kind": kind }, "required": ["kind"] })
            };
            schema(&json!({ "oneOf": (0..3000).map(one).collect::<Vec<_>>() }))
        }),
        ("Lark: left recursion", || lark("start: start \"a\" | \"a\"")),
        ("Lark: every way to cut a text", || lark("start: start start start | \"a\" | \"\"")),
        ("Lark: rules that lead nowhere", || lark("start: a | \"x\"\na: b\nb: c\nc: a")),
        ("Lark: an empty loop", || lark("start: a* \"x\"\na: b*\nb: \"\"")),
        ("Lark: nothing at all", || lark("start: start")),
        ("Lark: 10000 rules in a chain", || lark(numbered(10_000, |next| format!("r{next}"), "r"))),
        ("Lark: 10000 groups", || lark(format!("start: {}\"a\"{}", "(".repeat(10_000), ")".repeat(10_000)))),
        ("Lark: 100000 groups", || lark(format!("start: {}\"a\"{}", "(".repeat(100_000), ")".repeat(100_000)))),
        ("Lark: 20000 terminals in a chain", || lark(numbered(20_000, |next| format!("T{next} \"a\""), "T"))),
        ("Lark: terminals that double", || lark(numbered(40, |next| format!("T{next} T{next}"), "T"))),
        ("Lark: rules that double", || lark(numbered(40, |next| format!("r{next} r{next}"), "r"))),
        ("Lark: a repeat of 10^9", || lark("start: \"a\"{1000000000}")),
        ("Lark: a repeat of a repeat", || lark("start: a{1000}\na: b{1000}\nb: \"x\"{1000}")),
        ("Lark: a hostile expression", || lark("start: A\nA: /(a|b)*a(a|b){500}/ & /(x|[ab]){400}.*/ & ~/.*bb.*/")),
        ("Lark: a complement of a complement", || lark("start: A\nA: ~(~(~(/(a|b)*a(a|b){18}/)))")),
        ("Lark: an expression in 20000 groups", || {
            lark(format!("start: A\nA: /{}a{}/", "(".repeat(20_000), ")".repeat(20_000)))
        }),
        ("Lark: 5000 words", || {
            let words: Vec<String> = (0..5000).map(|number| format!("\"word{number}\"")).collect();
            lark(format!("start: {}", words.join(" | ")))
        }),
        ("structural tags with 128 triggers", || {
            let tag = |number: usize| json!({ "begin": format!("<{number}>"), "regex": ".*", "end": "</>" });
            let triggers: Vec<String> = (0..128).map(|number| format!("<{number}>")).collect();
            let tags = json!({ "structures": (0..128).map(tag).collect::<Vec<_>>(), "triggers": triggers });
            ConstraintSpec::StructuralTag(tags.to_string().into())
        }),
        ("structural tags with 300 triggers", || {
            let tag = |number: usize| json!({ "begin": format!("<{number}>"), "regex": ".*", "end": "</>" });
            let triggers: Vec<String> = (0..300).map(|number| format!("<{number}>")).collect();
            let tags = json!({ "structures": (0..300).map(tag).collect::<Vec<_>>(), "triggers": triggers });
            ConstraintSpec::StructuralTag(tags.to_string().into())
        }),
        ("structural tags with a trigger of 50 KB", || {
            let begin = "ab".repeat(25_000);
            let tags = json!({ "structures": [{ "begin": begin, "regex": "a", "end": "" }], "triggers": [begin] });
            ConstraintSpec::StructuralTag(tags.to_string().into())
        }),
        ("structural tags with hostile regexes", || {
            let tags = json!({
                "structures": [{ "begin": "<a>", "regex": r"(\w{1,100}){100}", "end": "</a>" }], "triggers": ["<a>"],
            });
            ConstraintSpec::StructuralTag(tags.to_string().into())
        }),
    ]
}

/// Compiles the bomb that the environment names, walks a little where it compiles, and says what it took.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn one() {
    let Ok(name) = env::var(VARIABLE) else { return };
    let (_, make) = bombs().into_iter().find(|(bomb, _)| *bomb == name).unwrap();
    // What is built once for a vocabulary is no part of it.
    ConstraintSpec::JsonSchema("{}".into()).compile(tokenizer()).unwrap();
    ConstraintSpec::Regex("a".into()).compile(tokenizer()).unwrap();
    let spec = make();
    // As the host does.
    let thread = thread::Builder::new().stack_size(limits::CONSTRAINT_STACK_BYTES);
    thread.spawn(move || measure(&spec)).unwrap().join().unwrap();
}

fn measure(spec: &ConstraintSpec) {
    let (mut report, bytes) = counting::peak(|| {
        let started = Instant::now();
        let compiled = spec.compile(tokenizer());
        let took = started.elapsed();
        let mut report = json!({ "compile_ms": took.as_secs_f64() * 1e3 });
        match compiled {
            Err(error) => {
                report["code"] = format!("{:?}", error.code).into();
                // What holds the bomb itself does not fit into the pipe.
                report["message_bytes"] = error.message.len().into();
                report["message"] = error.message.chars().take(1000).collect::<String>().into();
            }
            Ok(constraint) => {
                let (longest, failure) = little_walk(&constraint);
                report["mask_ms"] = (longest.as_secs_f64() * 1e3).into();
                report["failure"] = failure.map(|error| error.message).into();
            }
        }
        report
    });
    report["bytes"] = bytes.into();
    println!("\n{MARK}{report}");
}

const MARK: &str = "bomb: ";

/// The longest that a step took.
fn little_walk(constraint: &sglhost_text::Constraint) -> (Duration, Option<Error>) {
    let mut random = StdRng::seed_from_u64(0);
    let mut state = constraint.start();
    let mut longest = Duration::ZERO;
    for _ in 0..40 {
        let started = Instant::now();
        let allowed: Vec<TokenId> = state.mask().iter().collect();
        if allowed.is_empty() {
            assert!(state.failure().is_some(), "stuck");
            break;
        }
        let token = allowed[random.random_range(0..allowed.len())];
        if tokenizer().end_of_text().contains(&token) {
            break;
        }
        state.forced_tokens(&[]);
        state.advance(token);
        longest = longest.max(started.elapsed());
    }
    (longest, state.failure().cloned())
}

#[test]
fn every_bomb_is_refused_or_compiles_within_time_and_memory() {
    let mut lines = String::new();
    let mut wrong = Vec::new();
    for (name, _) in bombs() {
        let started = Instant::now();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "bombs::one", "--ignored", "--nocapture"])
            .env(VARIABLE, name)
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // What it says fits into the pipes.
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > HANGS_AFTER {
                child.kill().unwrap();
            }
            thread::sleep(Duration::from_millis(5));
        }
        let child = child.wait_with_output().unwrap();
        let all = started.elapsed();
        let output = String::from_utf8_lossy(&child.stdout);
        let Some(report) = output.lines().find_map(|line| line.strip_prefix(MARK)) else {
            let errors = String::from_utf8_lossy(&child.stderr);
            let errors: Vec<&str> = errors.lines().filter(|line| !line.is_empty()).take(3).collect();
            wrong.push(format!("{name}: {} after {:.1} s: {}", child.status, all.as_secs_f64(), errors.join(" / ")));
            continue;
        };
        let report: Value = serde_json::from_str(report).unwrap();
        let number = |field: &str| report[field].as_f64().unwrap_or(0.0);
        let outcome = report["code"].as_str().unwrap_or("compiles");
        let message = report["message"].as_str().or(report["failure"].as_str()).unwrap_or_default();
        let short: String = message.chars().take(160).collect();
        let _ = writeln!(
            lines,
            "{name}: {outcome}, {:.1} ms, longest step {:.1} ms, {:.1} MiB, process {:.1} s {}",
            number("compile_ms"),
            number("mask_ms"),
            number("bytes") / f64::from(1 << 20),
            all.as_secs_f64(),
            short.replace('\n', " / "),
        );
        let refused = [ErrorCode::Invalid, ErrorCode::Unsupported, ErrorCode::LimitExceeded];
        if outcome != "compiles" && !refused.iter().any(|code| format!("{code:?}") == outcome) {
            wrong.push(format!("{name}: {outcome}: {message}"));
        }
        if number("bytes") > BYTES_MAX as f64 {
            wrong.push(format!("{name}: {:.1} MiB", number("bytes") / f64::from(1 << 20)));
        }
        if number("compile_ms").max(number("mask_ms")) > TIME_MAX.as_secs_f64() * 1e3 {
            wrong.push(format!("{name}: {:.0} ms, {:.0} ms", number("compile_ms"), number("mask_ms")));
        }
        if number("message_bytes") > MESSAGE_BYTES_MAX {
            wrong.push(format!("{name}: a message of {} bytes", number("message_bytes")));
        }
        if outcome == "LimitExceeded" && !message.contains(|character: char| character.is_ascii_digit()) {
            wrong.push(format!("{name}: names no budget: {message}"));
        }
    }
    println!("{lines}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
