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
pub(crate) fn exact(value: &Value) -> bool {
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
const OWN_ID: &str = "a reference to a schema by an `$id` of its own";
const BOUNDS: &str = "a bound past 64-bit integers is made theirs";
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
        &[
            ("anchor: Location-independent identifier with absolute URI", OWN_ID),
            ("anchor: Location-independent identifier with base URI change", OWN_ID),
            ("anchor: same $anchor with different base uri", OWN_ID),
            ("optional/id: $id inside an enum is not a real identifier", OWN_ID),
            ("ref: Recursive references between schemas", OWN_ID),
            ("ref: refs with relative uris and defs", OWN_ID),
            ("ref: relative refs with absolute uris and defs", OWN_ID),
            ("ref: $id must be resolved against nearest parent", OWN_ID),
            ("ref: order of evaluation: $id and $ref", OWN_ID),
            ("ref: order of evaluation: $id and $anchor and $ref", OWN_ID),
            ("ref: URN ref with nested pointer ref", OWN_ID),
            ("ref: ref with absolute-path-reference", OWN_ID),
        ],
    );
    check(
        "valid instances not admitted",
        &report.missed,
        &[
            ("const: const with object, instance 1", "properties come in the order in which `const` has them"),
            ("optional/bignum: integer, instance 0", NO_SECOND_SPELLING),
            ("optional/bignum: integer, instance 1", NO_SECOND_SPELLING),
            ("optional/bignum: maximum integer comparison, instance 0", BOUNDS),
            ("optional/bignum: minimum integer comparison, instance 0", BOUNDS),
            ("optional/float-overflow: ", NO_SECOND_SPELLING),
            (r"optional/ecmascript-regex: ECMA 262 \s matches whitespace, instance 2", NO_CONTROLS),
            (r"optional/ecmascript-regex: ECMA 262 \S matches everything but whitespace, instance 9", NO_CONTROLS),
            ("optional/format/date-time: validation of date-time strings, instance 10", LEAP_SECOND),
            ("optional/format/date-time: validation of date-time strings, instance 11", LEAP_SECOND),
            ("optional/format/time: ", LEAP_SECOND),
            ("optional/format/hostname: validation of A-label (punycode) host names", PUNYCODE),
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
    let refused = report.refused_by_us.len() as f64 / report.taken_by_upstream as f64;
    assert!(refused <= 0.01, "{} of {} refused", report.refused_by_us.len(), report.taken_by_upstream);
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
    refuse(json!({ "const": 9_007_199_254_740_993_u64 }), ErrorCode::LimitExceeded, "9007199254740993");
    let old = "http://json-schema.org/draft-04/schema#";
    refuse(json!({ "$schema": old, "const": 1 }), ErrorCode::Unsupported, "const");
    let divisors = json!({ "allOf": [{ "multipleOf": 99_991 }, { "multipleOf": 99_989 }] });
    refuse(divisors, ErrorCode::LimitExceeded, "multipleOf");
    refuse(json!({ "$ref": "https://example.com/other.json" }), ErrorCode::Unsupported, "example.com");
}

#[track_caller]
fn refuse(schema: &Value, code: ErrorCode, parts: &[&str]) {
    let error = Constraint::json_schema(&schema.to_string(), tokenizer()).unwrap_err();
    assert_eq!(error.code, code, "{schema}: {error}");
    for part in parts {
        assert!(error.message.contains(part), "{schema}: {part}: {error}");
    }
}

#[track_caller]
fn admits(schema: &Value, admitted: &[&str], refused: &[&str]) {
    let constraint = Constraint::json_schema(&schema.to_string(), tokenizer()).unwrap();
    for (texts, whole) in [(admitted, true), (refused, false)] {
        for text in texts {
            let admits = matches!(walk::admits(&constraint, tokenizer(), text), Admitted::Whole);
            assert_eq!(admits, whole, "{schema}: {text}");
        }
    }
}

#[test]
fn a_number_that_is_not_computed_with_is_refused_by_name() {
    let max = "GRAMMAR_NUMBER_MAX";
    for keyword in ["minimum", "exclusiveMinimum"] {
        for number in [json!(1e19), json!(1e300), json!(i64::MAX), json!((1_u64 << 53) + 1), json!(-1e17)] {
            let schema = json!({ "properties": { "a": { "type": "integer", (keyword): number } } });
            refuse(&schema, ErrorCode::LimitExceeded, &[keyword, &number.to_string(), max, "`#/properties/a`"]);
        }
    }
    for keyword in ["maximum", "exclusiveMaximum"] {
        for number in [json!(-1e19), json!(-1e300), json!(i64::MIN), json!(-((1_i64 << 53) + 1)), json!(1e17)] {
            refuse(&json!({ (keyword): number }), ErrorCode::LimitExceeded, &[keyword, &number.to_string(), max]);
        }
    }
    refuse(&json!({ "const": [{ "a": i64::MIN }] }), ErrorCode::LimitExceeded, &["const", "-9223372036854775808", max]);
    refuse(&json!({ "enum": [1, 1e300] }), ErrorCode::LimitExceeded, &["enum", "1e+300", max]);
    // Bounds that leave room for all 64-bit integers are made theirs.
    let all = json!({ "type": "integer", "minimum": i64::MIN, "maximum": u64::MAX });
    admits(
        &all,
        &["0", "-9223372036854770000", "9223372036854770000"],
        &["-9223372036854775809", "99999999999999999999"],
    );
    let exclusive = json!({ "type": "integer", "exclusiveMinimum": -1e300, "exclusiveMaximum": i64::MAX });
    admits(&exclusive, &["0", "-9223372036854770000"], &["9223372036854775807"]);
    admits(&json!({ "minimum": -9_007_199_254_740_992_i64 }), &["-9007199254740992", "1.5"], &["-9007199254740993"]);
}

#[test]
fn divisors_are_small_enough_for_their_remainders() {
    for number in [json!(100_003), json!(1_234_567), json!(0.123_456), json!(1e-300), json!(1e300)] {
        refuse(
            &json!({ "multipleOf": number }),
            ErrorCode::LimitExceeded,
            &["multipleOf", "10000", "GRAMMAR_MULTIPLE_MAX"],
        );
    }
    refuse(&json!({ "multipleOf": 0 }), ErrorCode::Invalid, &["multipleOf"]);
    // Those that cannot meet do not matter to each other.
    let apart = json!({ "properties": { "a": { "multipleOf": 997 }, "b": { "multipleOf": 0.001 } } });
    admits(&apart, &[r#"{"a": 1994, "b": 0.003}"#], &[r#"{"a": 1995}"#]);
    for meet in [
        json!({ "$ref": "#/$defs/a", "multipleOf": 997, "$defs": { "a": { "multipleOf": 991 } } }),
        json!({ "anyOf": [{ "multipleOf": 997 }], "multipleOf": 991 }),
        json!({ "properties": { "a": { "multipleOf": 997 } }, "patternProperties": { "a": { "multipleOf": 991 } } }),
    ] {
        refuse(&meet, ErrorCode::LimitExceeded, &["multipleOf", "GRAMMAR_MULTIPLE_MAX"]);
    }
}

#[test]
fn a_reference_leads_to_what_was_looked_at_or_is_refused() {
    let not = json!({ "not": {} });
    let meta = "http://json-schema.org/draft-07/schema#";
    for (schema, part) in [
        (json!({ "$ref": meta }), "draft-07"),
        (json!({ "$ref": "#/$defs/none" }), "leads nowhere"),
        (json!({ "$ref": "#none" }), "leads nowhere"),
        (json!({ "$ref": "a.json", "$defs": { "a": { "$id": "a.json", "unknown": not } } }), "a.json"),
        (json!({ "$ref": "json-schema:///#/unknown", "unknown": not }), "json-schema:///"),
        (json!({ "$ref": "#/unknown/x%6Fy", "unknown": { "xoy": not } }), "`not`"),
        (json!({ "$ref": "#/contentSchema", "contentSchema": not }), "`not`"),
        (json!({ "$ref": "#here", "unknown": { "$anchor": "here", "not": {} } }), "`not`"),
        (json!({ "$id": "http://example.com/a", "$ref": "http://example.com/a#/unknown", "unknown": not }), "`not`"),
        (json!({ "$ref": "#/const", "const": { "pattern": "." } }), "#/const"),
        (json!({ "properties": { "a": { "$ref": "#/properties" } } }), "#/properties"),
        (
            json!({ "$defs": { "a": { "$id": "http://example.com/b", "$ref": "#/unknown", "unknown": not } }, "unknown": {} }),
            "`$id`",
        ),
        (json!({ "$ref": "#/x/$defs/a", "x": { "$id": "http://example.com/b", "$defs": { "a": {} } } }), "`$id`"),
        (json!({ "$ref": "#a", "$defs": { "x": { "$anchor": "a" }, "y": { "$anchor": "a" } } }), "`$anchor`"),
        // In its draft `const` would be a comment.
        (
            json!({ "properties": { "a": { "$schema": "http://json-schema.org/draft-04/schema#", "const": 1 } } }),
            "`const`",
        ),
    ] {
        let error = Constraint::json_schema(&schema.to_string(), tokenizer()).unwrap_err();
        assert!([ErrorCode::Unsupported, ErrorCode::Invalid].contains(&error.code), "{schema}: {error}");
        assert!(error.message.contains(part) && error.message.contains("(at `#"), "{schema}: {error}");
    }
    // A schema's own name does not lead away from it, not even one that `llguidance` has built in.
    let own = json!({ "$id": meta, "type": "object", "properties": { "a": { "$ref": format!("{meta}/$defs/b") } },
        "$defs": { "b": { "type": "integer" } } });
    admits(&own, &[r#"{"a": 1}"#], &[r#"{"a": "x"}"#, "true"]);
    let anchor = json!({ "$ref": "#here", "$defs": { "a/b": { "$anchor": "here", "type": "integer" } } });
    admits(&anchor, &["1"], &["true"]);
    let names = json!({ "properties": { "id": { "type": "string" }, "$id": { "$ref": "#/properties/id" } } });
    admits(&names, &[r#"{"id": "x", "$id": "y"}"#], &[r#"{"$id": 1}"#]);
    let without = json!({ "properties": { "a": { "$id": "http://example.com/a", "type": "integer" } } });
    admits(&without, &[r#"{"a": 1}"#], &[r#"{"a": "x"}"#]);
    admits(&json!({ "$ref": "#/$defs/properties", "$defs": { "properties": { "type": "null" } } }), &["null"], &["1"]);
}

#[test]
fn options_cannot_weaken_a_schema() {
    let with = |options: Value| json!({ "properties": { "a": {} }, "x-guidance": options });
    for option in ["lenient", "coerce_one_of", "whitespace_pattern", "json_allowed_escapes", "other"] {
        refuse(&with(json!({ (option): true })), ErrorCode::Unsupported, &[option, "x-guidance"]);
    }
    for separator in ["", " ", ",,", ",|;", ".", ", ?", "\u{a0},"] {
        refuse(&with(json!({ "item_separator": separator })), ErrorCode::Invalid, &["item_separator"]);
    }
    refuse(&with(json!({ "key_separator": "," })), ErrorCode::Invalid, &["key_separator"]);
    refuse(&with(json!({ "whitespace_flexible": 1 })), ErrorCode::Invalid, &["whitespace_flexible"]);
    refuse(&with(json!(1)), ErrorCode::Invalid, &["x-guidance"]);
    let other = with(json!({ "item_separator": " ,\n", "key_separator": ":" }));
    admits(&other, &["{\"a\":1 ,\n\"b\":2}"], &[r#"{"a": 1}"#]);
}

#[test]
fn a_name_with_two_spellings_is_refused_where_others_may_be_written() {
    let named = |rest: Value| {
        let mut schema = json!({ "properties": { "a\u{1}": { "type": "integer" } } });
        schema.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        schema
    };
    refuse(&named(json!({})), ErrorCode::Unsupported, &["additionalProperties", "u{1}"]);
    let patterns = json!({ "patternProperties": { "^b": {} }, "additionalProperties": false });
    refuse(&named(patterns), ErrorCode::Unsupported, &["patternProperties"]);
    refuse(&json!({ "required": ["a\u{7f}"] }), ErrorCode::Unsupported, &["additionalProperties"]);
    let closed = named(json!({ "additionalProperties": false }));
    admits(&closed, &[r#"{"a\u0001": 1}"#], &[r#"{"a\u0001": "x"}"#]);
    admits(&json!({ "properties": { "a\n": { "type": "integer" } } }), &[r#"{"a\n": 1}"#], &[r#"{"a\n": "x"}"#]);
    // Where some other text has a control character, the name has two spellings as well.
    let both = json!({ "properties": { "a": { "type": "integer" }, "b": { "const": "\u{1}" } } });
    refuse(&both, ErrorCode::Unsupported, &["control character", "additionalProperties"]);
    let closed = json!({
        "properties": { "a": { "type": "integer" }, "b": { "const": "\u{1}" } }, "additionalProperties": false,
    });
    admits(&closed, &[r#"{"a": 1, "b": "\u0001"}"#], &[r#"{"a": "x"}"#, r#"{"\u0061": "x"}"#, r#"{"b": ""}"#]);
    // None is in these.
    let han = json!({ "properties": { "a": { "type": "string", "pattern": r"^[\u4e00-\u9fa5\xe9]$" } } });
    admits(&han, &[r#"{"a": "é"}"#], &[r#"{"a": "e"}"#, r#"{"\u0061": "x"}"#]);
}

#[test]
fn a_pattern_means_what_it_does_in_ecmascript() {
    let pattern = |pattern: &str| json!({ "type": "string", "pattern": pattern });
    admits(&pattern("^a.b$"), &[r#""axb""#, r#""a\tb""#], &[r#""a\rb""#, r#""a\nb""#, "\"a\u{2028}b\""]);
    admits(&pattern("^[^]$"), &[r#""a""#, r#""\n""#], &[r#""""#]);
    admits(&pattern("^[a[b]$"), &[r#""[""#, r#""b""#], &[r#""]""#]);
    admits(&pattern("^[a-z&&[x]]$"), &[r#""a]""#, r#""[]""#, r#""&]""#], &[r#""x""#]);
    admits(&pattern("^[[:alpha:]]$"), &[r#""a]""#, r#""[]""#], &[r#""b""#]);
    admits(&pattern("^[a~~b]$"), &[r#""~""#, r#""b""#], &[r#""c""#]);
    admits(&pattern(r"^\<a\>$"), &[r#""<a>""#], &[r#""a""#]);
    admits(&pattern(r"^\p{Lu}\u{61}[\p{Lu}.]$"), &[r#""AaB""#, r#""Aa.""#], &[r#""aaB""#, r#""Aab""#]);
    let names =
        json!({ "patternProperties": { "^a.$": { "type": "integer" } }, "additionalProperties": { "type": "null" } });
    admits(&names, &[r#"{"ab": 1, "a\r": null}"#], &[r#"{"a\r": 1}"#, r#"{"ab": null}"#]);
    for other in
        ["(?i)a", "(?P<n>a)", r"\Aa", r"a\z", r"\x{61}", r"\pL", "a{,5}", "a{ 5}", "[a--b]", "[]", r"\a", "(?x) a"]
    {
        refuse(&pattern(other), ErrorCode::Unsupported, &[other, "(at `#`)"]);
        refuse(&json!({ "patternProperties": { (other): {} } }), ErrorCode::Unsupported, &[other]);
    }
}

#[test]
fn what_the_author_wrote_does_not_say_what_is_wrong() {
    for word in ["limit", "schema too large", "exceeded", "fuel", "Too many items", "too complex"] {
        refuse(&json!({ "type": word }), ErrorCode::Invalid, &[word]);
        refuse(&json!({ "required": word }), ErrorCode::Invalid, &["required"]);
    }
}
