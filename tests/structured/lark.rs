//! Grammars in Lark's notation.

use sglhost_core::ErrorCode;
use sglhost_text::Constraint;

use crate::walk::{self, Admitted, Walk, tokenizer};

#[track_caller]
fn check(grammar: &str, admitted: &[&str], refused: &[&str]) {
    let constraint = Constraint::lark(grammar, tokenizer()).unwrap_or_else(|error| panic!("{error}"));
    for text in admitted {
        match walk::admits(&constraint, tokenizer(), text) {
            Admitted::Whole => {}
            Admitted::Until(until) => panic!("{text:?} is admitted until {until:?} only"),
            Admitted::Failed(error) => panic!("{text:?}: {error}"),
        }
    }
    for text in refused {
        assert!(!matches!(walk::admits(&constraint, tokenizer(), text), Admitted::Whole), "{text:?} is admitted");
    }
    for seed in 0..10 {
        if let Walk::Failed(error) = walk::uniform(&constraint, tokenizer(), seed, grammar) {
            panic!("{error}");
        }
    }
}

const ARITHMETIC: &str = r#"
start: sum
sum: product (("+" | "-") product)*
product: atom (("*" | "/") atom)*
atom: NUMBER | "-" atom | "(" sum ")"
NUMBER: /[0-9]+(\.[0-9]+)?/
"#;

#[test]
fn arithmetic() {
    check(
        ARITHMETIC,
        &["1", "12.5", "1+2*3", "-(4-5)/6", "((((7))))", "--8", "1+(2+(3+(4+5)))"],
        &["", "+", "1+", "(1", "1)", "1 + 2", "1..2", "()"],
    );
}

#[test]
fn any_walk_through_arithmetic_is_in_balance() {
    let constraint = Constraint::lark(ARITHMETIC, tokenizer()).unwrap();
    let mut ended = 0;
    for seed in 0..30 {
        let Walk::Ended { text, .. } = walk::uniform(&constraint, tokenizer(), seed, "arithmetic") else { continue };
        ended += 1;
        let mut depth = 0_i32;
        for character in text.chars() {
            depth += i32::from(character == '(') - i32::from(character == ')');
            assert!(depth >= 0, "{text}");
        }
        assert_eq!(depth, 0, "{text}");
    }
    assert!(ended > 0);
}

#[test]
fn a_small_language() {
    check(
        r#"
start: statement+
statement: "let " NAME " = " expression ";\n"
         | "print " expression ";\n"
         | "if " expression " {\n" statement* "}\n"
expression: NAME | NUMBER | STRING | expression " + " expression
NAME: /[a-z]{1,8}/
NUMBER: /[0-9]{1,4}/
STRING: /"[^"\n]*"/
"#,
        &[
            "print 1;\n",
            "let x = 1 + 2;\nprint x;\n",
            "if x {\nprint \"yes, é\";\n}\n",
            "if x + 1 {\nif y {\n}\nlet z = \"\" + 3;\n}\nprint 1 + 2 + 3;\n",
        ],
        &["", "print;\n", "print 1", "if x {\n", "let X = 1;\n", "let x = 12345;\n"],
    );
}

#[test]
fn json_inside_a_grammar() {
    // Written, refused and made stricter as a schema by itself.
    check(
        r#"
start: "call " NAME " " arguments | "%json {\"x\": 1}"
NAME: /[a-z]+/
arguments: %json {
    "type": "object",
    "properties": { "n": { "type": "integer" }, "d": { "type": "string", "format": "date" } },
    "required": ["n"]
} "."
"#,
        &["call f {\"n\": 1}.", "call f {\"n\": 1, \"d\": \"2024-02-29\", \"m\": {\"k\": []}}.", "%json {\"x\": 1}"],
        &[
            "call f {}.",
            "call f {\"n\": \"1\"}.",
            "call f {\"n\":1}.",
            "call {\"n\": 1}.",
            "call f {\"n\": 1}",
            "call f {\"n\": 1, \"d\": \"2023-02-29\"}.",
            "call f {\"\\u006e\": 1}.",
        ],
    );
    let refuse = |grammar: &str, code: ErrorCode, part: &str| {
        let error = Constraint::lark(grammar, tokenizer()).unwrap_err();
        assert_eq!(error.code, code, "{grammar}: {error}");
        assert!(error.message.contains(part), "{grammar}: {error}");
    };
    refuse("start: %json { \"not\": {} }", ErrorCode::Unsupported, "not");
    refuse("start: %json { \"format\": \"colour\" }", ErrorCode::Unsupported, "colour");
    refuse("start: %json {\n\"type\":\n\"integer\"\n}\nb c", ErrorCode::Invalid, "5(");
}

#[test]
fn json_is_found_wherever_the_lexer_finds_it() {
    // An option is refused: that is how it shows that a schema was looked at.
    let json = "%json { \"x-guidance\": { \"lenient\": true } }";
    for before in [
        "A: /\"/\n",
        "# it's \"\n",
        "// \"\n",
        "A: /a\n\"/\n",
        "A: /\\/\"/\n",
        "A: \"\\\\\\\"\"\n",
        "A: <[1-3]> | <\"#/>\n",
        "A: %regex { \"substring_chars\": \"\\\"\" }\n",
        "%llguidance { \"no_forcing\": false }\n",
    ] {
        let error = Constraint::lark(&format!("{before}start: {json}"), tokenizer()).unwrap_err();
        assert_eq!(error.code, ErrorCode::Unsupported, "{before}: {error}");
        assert!(error.message.contains("lenient"), "{before}: {error}");
    }
    for before in ["# ", "// ", "# /", "A: \"#\" // \""] {
        check(&format!("{before} {json}\nstart: \"a\""), &["a"], &["b"]);
    }
    check(r#"start: "%json {" /%json "/"#, &["%json {%json \""], &[]);
    check("start: %json true", &["[1, 2]"], &["[1,2]"]);
    for (grammar, part) in [
        ("start: %json x", "not JSON"),
        ("start: %json", "without JSON"),
        ("start: %json false", "false"),
        ("start: \"a", "no end"),
        ("start: /a", "no end"),
        ("start: <a b>", "`>`"),
    ] {
        let error = Constraint::lark(grammar, tokenizer()).unwrap_err();
        assert!(error.code == ErrorCode::Invalid && error.message.contains(part), "{grammar}: {error}");
    }
}

#[test]
fn repetition_options_and_the_end() {
    check(
        "start: (A | B){2,3} C?\nA: \"a\"\nB: \"b\"\nC: /c+/",
        &["ab", "aba", "bbccc", "aaac"],
        &["a", "aaaa", "abcb", "cab"],
    );
    check("start: \"a\"i \"b\"", &["ab", "Ab"], &["aB", "b"]);
    // Left, right, and both.
    check("start: start \"a\" | \"b\"", &["b", "baa"], &["a", "ab"]);
    check("start: \"a\" start | \"b\"", &["b", "aab"], &["a", "ba"]);
    check("start: \"a\" start \"b\" | \"\"", &["", "ab", "aaabbb"], &["a", "aab", "ba"]);
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let check = |grammar: &str, parts: &[&str]| {
        let error = Constraint::lark(grammar, tokenizer()).unwrap_err();
        assert_eq!(error.code, ErrorCode::Invalid, "{grammar}: {error}");
        assert!(error.message.starts_with("Lark: "), "{error}");
        for part in parts {
            assert!(error.message.contains(part), "{grammar}: {error}");
        }
    };
    check("start: other", &["other"]);
    check("start: A\nA: /(/", &["2("]);
    check("start: \"a\"\nb c", &["2("]);
    check("", &[]);
    check("A: \"a\"", &["start"]);
    check("start: \"a\n", &["1("]);
    check("start: A\nA: B\nB: A", &[]);
    check("start: %json { \"type\": \"integr\" }", &["integr"]);
}
