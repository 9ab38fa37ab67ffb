//! JSON Schema, against the instances of two suites, a validator that is not ours, and `llguidance` called directly.

use std::fmt::Write as _;

use serde_json::{Value, json};
use sglhost_core::{Error, ErrorCode};
use sglhost_text::Constraint;

use crate::{
    cases::{Case, maskbench, suite},
    upstream,
    walk::{self, Admitted, Walk, tokenizer},
    writing,
};

/// Walks for each schema.
const SEEDS: u64 = 4;

/// What came of a set of schemas. Each list has a line for each finding, which begins with the case's name.
#[derive(Default)]
struct Report {
    schemas: usize,
    compiled: usize,
    refused: Vec<String>,
    /// Refused though `llguidance` takes it.
    refused_by_us: Vec<String>,
    taken_by_upstream: usize,
    walks: usize,
    given_up: usize,
    /// Walks that ended at a limit.
    failed: Vec<String>,
    /// Outputs with numbers past what the validator can compare: JSON has no limit.
    inexact: usize,
    /// Outputs that the validator refuses.
    wrong: Vec<String>,
    valid: usize,
    /// Valid instances that are not admitted.
    missed: Vec<String>,
    invalid: usize,
    /// Invalid instances that are.
    holes: Vec<String>,
    /// Instances on which the suite and the validator disagree.
    disputed: Vec<String>,
    /// Refusals without a code that fits.
    unnamed: Vec<String>,
}

impl Report {
    fn of(cases: &[Case]) -> Self {
        let mut report = Self::default();
        cases.iter().for_each(|case| report.add(case));
        report
    }

    fn add(&mut self, case: &Case) {
        self.schemas += 1;
        let upstream = upstream::accepts(&case.schema);
        self.taken_by_upstream += usize::from(upstream.is_ok());
        let constraint = match Constraint::json_schema(&case.schema.to_string(), tokenizer()) {
            Ok(constraint) => constraint,
            Err(error) => {
                self.refusal(case, &error);
                if upstream.is_ok() {
                    self.refused_by_us.push(format!("{} | {}", case.name, error.message));
                }
                return;
            }
        };
        self.compiled += 1;
        let validator = jsonschema::options().should_validate_formats(true).build(&case.schema);
        let validator = match validator {
            Ok(validator) => validator,
            Err(error) => {
                self.disputed.push(format!("{} | no schema: {error}", case.name));
                return;
            }
        };
        for seed in 0..SEEDS {
            self.walks += 1;
            match walk::uniform(&constraint, tokenizer(), seed, &case.name) {
                Walk::Ended { text, .. } => {
                    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
                        self.wrong.push(format!("{} | not JSON: {error}: {text}", case.name));
                        continue;
                    }
                    match serde_json::from_str::<Value>(&text) {
                        Ok(value) if exact(&value) => {
                            if let Err(error) = validator.validate(&value) {
                                self.wrong.push(format!("{} | {error} | {text}", case.name));
                            }
                        }
                        _ => self.inexact += 1,
                    }
                }
                Walk::GivenUp => self.given_up += 1,
                Walk::Failed(error) => self.failed.push(format!("{} | {}", case.name, error.message)),
            }
        }
        for (index, (valid, instance)) in case.tests.iter().enumerate() {
            let name = format!("{}, instance {index}", case.name);
            if *valid != validator.is_valid(instance) {
                self.disputed.push(format!("{name} | {valid}: {instance}"));
                continue;
            }
            self.instance(&constraint, &case.schema, &name, *valid, instance);
        }
    }

    fn refusal(&mut self, case: &Case, error: &Error) {
        let named = match error.code {
            ErrorCode::Unsupported | ErrorCode::Invalid | ErrorCode::LimitExceeded => !error.message.is_empty(),
            _ => false,
        };
        let line = format!("{} | {:?}: {}", case.name, error.code, error.message);
        if !named {
            self.unnamed.push(line.clone());
        }
        self.refused.push(line);
    }

    fn instance(&mut self, constraint: &Constraint, schema: &Value, name: &str, valid: bool, instance: &Value) {
        let texts = writing::texts(schema, instance);
        let mut best = String::new();
        let mut admitted = false;
        for text in &texts {
            match walk::admits(constraint, tokenizer(), text) {
                Admitted::Whole => admitted = true,
                Admitted::Until(until) if until.len() >= best.len() => best = until,
                Admitted::Until(_) => {}
                Admitted::Failed(error) => self.failed.push(format!("{name} | {}", error.message)),
            }
            if admitted {
                break;
            }
        }
        if valid {
            self.valid += 1;
            if !admitted {
                self.missed.push(format!("{name} | {} | admitted: {best}", texts[0]));
            }
        } else {
            self.invalid += 1;
            if admitted {
                self.holes.push(format!("{name} | {}", texts[0]));
            }
        }
    }

    fn figures(&self, what: &str) -> String {
        let mut text = format!(
            "{what}: {} of {} schemas compiled, {} by llguidance; {} walks, {} given up, {} with numbers past f64; {} valid instances, {} invalid\n",
            self.compiled,
            self.schemas,
            self.taken_by_upstream,
            self.walks,
            self.given_up,
            self.inexact,
            self.valid,
            self.invalid,
        );
        for (what, lines) in [
            ("refused", &self.refused),
            ("refused, though llguidance takes it", &self.refused_by_us),
            ("refused without a code", &self.unnamed),
            ("ended at a limit", &self.failed),
            ("outputs that are wrong", &self.wrong),
            ("valid instances not admitted", &self.missed),
            ("invalid instances admitted", &self.holes),
            ("disputed", &self.disputed),
        ] {
            let _ = writeln!(text, "== {what}: {}", lines.len());
            lines.iter().for_each(|line| {
                let short: String = line.chars().take(600).collect();
                let _ = writeln!(text, "    {short}");
            });
        }
        text
    }
}

/// Whether all numbers are ones that an f64 holds exactly enough to be compared.
fn exact(value: &Value) -> bool {
    match value {
        // Of `-0`, which is an integer, serde_json makes a float.
        Value::Number(number) => {
            number.as_f64().is_some_and(|number| number.abs() < 1e15 && (number != 0.0 || number.is_sign_positive()))
        }
        Value::Array(items) => items.iter().all(exact),
        Value::Object(properties) => properties.values().all(exact),
        _ => true,
    }
}

/// What is known to differ: how the finding begins, and why. Each has to be found.
type Known = [(&'static str, &'static str)];

#[track_caller]
fn check(what: &str, found: &[String], known: &Known) {
    let new: Vec<&String> = found.iter().filter(|line| !known.iter().any(|(name, _)| line.starts_with(name))).collect();
    assert!(new.is_empty(), "{what}, and not known: {new:#?}");
    for (name, reason) in known {
        assert!(found.iter().any(|line| line.starts_with(name)), "{what}: {name:?} is no more ({reason})");
    }
}

const NO_SECOND_SPELLING: &str = "an integer is written with digits alone";
const LEAP_SECOND: &str = "a leap second is in few minutes of UTC, which no expression finds: there is none";
const PUNYCODE: &str = "an expression cannot decode punycode, most of which is wrong: there is none";
const NO_CONTROLS: &str = "a control character is not written, but where the schema speaks of one";

#[test]
fn the_test_suite_of_json_schema() {
    let report = Report::of(&suite());
    println!("{}", report.figures("JSON Schema Test Suite"));
    report.check_what_is_never_known();
    check("wrong outputs", &report.wrong, &[]);
    check("ended at a limit", &report.failed, &[]);
    check(
        "refused, though llguidance takes it",
        &report.refused_by_us,
        &[("ref: $id must be resolved against nearest parent", "`not` in a definition that nothing refers to")],
    );
    check(
        "valid instances not admitted",
        &report.missed,
        &[
            ("const: const with object, instance 1", "properties come in the order in which `const` has them"),
            ("optional/bignum: integer, instance 0", NO_SECOND_SPELLING),
            ("optional/bignum: integer, instance 1", NO_SECOND_SPELLING),
            ("optional/float-overflow: ", NO_SECOND_SPELLING),
            (r"optional/ecmascript-regex: ECMA 262 \s matches whitespace, instance 2", NO_CONTROLS),
            (r"optional/ecmascript-regex: ECMA 262 \S matches everything but whitespace, instance 9", NO_CONTROLS),
            ("optional/format/date-time: validation of date-time strings, instance 10", LEAP_SECOND),
            ("optional/format/date-time: validation of date-time strings, instance 11", LEAP_SECOND),
            ("optional/format/time: ", LEAP_SECOND),
            ("optional/format/hostname: validation of A-label (punycode) host names", PUNYCODE),
            ("optional/format/email: ", "no quoted names, and no IPv6 addresses in brackets"),
            ("optional/format/ipv6: ", "no IPv4 address at the end"),
        ],
    );
    check(
        "invalid instances admitted",
        &report.holes,
        &[("optional/format/hostname: validation of host names, instance 20", "names of more than 253 characters")],
    );
    check("disputed", &report.disputed, &[("format: ", "the suite takes `format` for a comment by default")]);
}

#[test]
fn schemas_of_real_projects() {
    let report = Report::of(&maskbench());
    println!("{}", report.figures("MaskBench"));
    report.check_what_is_never_known();
    check("wrong outputs", &report.wrong, &[]);
    check(
        "ended at a limit",
        &report.failed,
        &[(
            "Github_trivial---o78117",
            "a counted repeat in `patternProperties`, whose complement takes too many steps",
        )],
    );
    check("refused, though llguidance takes it", &report.refused_by_us, &[]);
    check("valid instances not admitted", &report.missed, &[("Github_trivial---o78117", "as above")]);
    check("invalid instances admitted", &report.holes, &[]);
    check(
        "disputed",
        &report.disputed,
        &[("Github_hard---o71304, instance 2", "MaskBench says no, the validator yes")],
    );
}

impl Report {
    fn check_what_is_never_known(&self) {
        assert!(self.unnamed.is_empty(), "{:#?}", self.unnamed);
        assert!(self.given_up * 4 < self.walks, "{} of {} walks given up", self.given_up, self.walks);
        let refused = self.refused_by_us.len() as f64 / self.taken_by_upstream as f64;
        assert!(refused <= 0.01, "{} of {} refused", self.refused_by_us.len(), self.taken_by_upstream);
    }
}

/// Keywords that are implemented, or say nothing about instances.
const TAKEN: [&str; 44] = [
    "$anchor",
    "$comment",
    "$defs",
    "$id",
    "$ref",
    "$schema",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "deprecated",
    "description",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "id",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "readOnly",
    "required",
    "title",
    "type",
    "writeOnly",
];

#[test]
fn a_keyword_of_any_draft_is_implemented_or_refused_by_name() {
    let drafts = [
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-06/schema#",
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
    ];
    let of_some_draft = [
        "$dynamicRef",
        "$recursiveRef",
        "contains",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "disallow",
        "divisibleBy",
        "else",
        "extends",
        "if",
        "maxContains",
        "minContains",
        "not",
        "propertyNames",
        "then",
        "unevaluatedItems",
        "unevaluatedProperties",
        "uniqueItems",
    ];
    for keyword in of_some_draft {
        assert!(!TAKEN.contains(&keyword));
        for draft in drafts {
            for other in ["type", "title"] {
                let inner = json!({ (other): "object", (keyword): {} });
                for schema in [
                    json!({ "$schema": draft, (other): "object", (keyword): {} }),
                    json!({ "$schema": draft, "type": "object", "properties": { "a": inner } }),
                    json!({ "$schema": draft, "$ref": "#/elsewhere", "elsewhere": inner }),
                ] {
                    let error = Constraint::json_schema(&schema.to_string(), tokenizer()).map(drop).unwrap_err();
                    assert_eq!(error.code, ErrorCode::Unsupported, "{schema}: {error}");
                    assert!(error.message.contains(keyword), "{schema}: {error}");
                }
            }
        }
    }
    // What is in a suite's schemas and none of ours is no keyword.
    for keyword in TAKEN {
        assert!(!of_some_draft.contains(&keyword));
    }
}

#[test]
fn what_llguidance_alone_would_admit_is_not() {
    let check = |schema: Value, admitted: &[&str], refused: &[&str]| {
        let constraint = Constraint::json_schema(&schema.to_string(), tokenizer()).unwrap();
        let whole = |text: &&&str| matches!(walk::admits(&constraint, tokenizer(), text), Admitted::Whole);
        assert_eq!(admitted.iter().filter(whole).count(), admitted.len(), "{schema}: {admitted:?}");
        assert_eq!(refused.iter().find(whole), None, "{schema}");
    };
    // A listed name in another spelling.
    let integer = json!({ "properties": { "a": { "type": "integer" } } });
    check(integer, &[r#"{"a": 1}"#, r#"{"b": "x"}"#], &[r#"{"\u0061": "x"}"#, r#"{"a": "x"}"#]);
    // A control character that may not be spelled is not left out.
    check(json!({ "const": "a\u{0}b" }), &[r#""a\u0000b""#], &[r#""ab""#]);
    check(json!({ "type": "string", "pattern": "^a\\x0bb$" }), &[r#""a\u000bb""#], &[r#""ab""#]);
    check(json!({ "type": "string", "pattern": r"^a\sb$" }), &[r#""a b""#, r#""a\tb""#], &[r#""ab""#]);
    // White space is ECMAScript's.
    let space = json!({ "type": "string", "pattern": r"^[\sx]\\\S$" });
    check(
        space,
        &["\" \\\\x\"", "\"\u{feff}\\\\x\"", "\"x\\\\\u{85}\""],
        &["\"\u{85}\\\\x\"", "\"x\\\\\u{feff}\"", "\"s\\\\x\""],
    );
    // Days that were not.
    let date = json!({ "type": "string", "format": "date" });
    check(date, &[r#""2024-02-29""#, r#""2000-02-29""#, r#""2023-02-28""#], &[r#""2023-02-29""#, r#""1900-02-29""#]);
    let dated = json!({ "type": "string", "format": "date-time", "pattern": "^2" });
    check(dated, &[r#""2024-02-29T01:02:03Z""#], &[r#""2023-02-29T01:02:03Z""#, r#""1996-02-29T01:02:03Z""#]);
    // Counts written as floats, a keyword that says nothing, a bound past f64.
    check(json!({ "type": "string", "maxLength": 1.0, "uniqueItems": false }), &[r#""a""#], &[r#""ab""#]);
    let refuse = |schema: Value, code: ErrorCode, part: &str| {
        let error = Constraint::json_schema(&schema.to_string(), tokenizer()).unwrap_err();
        assert_eq!(error.code, code, "{schema}: {error}");
        assert!(error.message.contains(part), "{schema}: {error}");
    };
    let limit = json!({ "type": "object", "properties": { "limit": false }, "required": ["limit"] });
    refuse(limit, ErrorCode::Invalid, "limit");
    refuse(json!({ "minProperties": 2 }), ErrorCode::Unsupported, "minProperties");
    refuse(json!({ "const": 9_007_199_254_740_993_u64 }), ErrorCode::Unsupported, "9007199254740993");
    let old = "http://json-schema.org/draft-04/schema#";
    refuse(json!({ "$schema": old, "const": 1 }), ErrorCode::Unsupported, "const");
    let divisors = json!({ "allOf": [{ "multipleOf": 99_991 }, { "multipleOf": 99_989 }] });
    refuse(divisors, ErrorCode::LimitExceeded, "multipleOf");
    refuse(json!({ "$ref": "https://example.com/other.json" }), ErrorCode::Unsupported, "example.com");
}
