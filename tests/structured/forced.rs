//! Forced runs: what must come next comes as the tokens that the model's tokenizer would have cut it into.

use sglhost_core::TokenId;
use sglhost_text::{Constraint, ConstraintState};

use crate::{
    cases::{Case, maskbench, suite},
    regex,
    walk::{self, Admitted, Walk, tokenizer},
    writing,
};

/// Walks that forced runs are looked for in, for each constraint.
const SEEDS: u64 = 2;

#[derive(Default)]
struct Figures {
    constraints: usize,
    /// Places where something is forced, tokens forced there, and allowed tokens looked at.
    runs: usize,
    tokens: usize,
    allowed: usize,
    /// Outputs cut by the tokenizer, places in them where something is forced, and places where it is something else.
    outputs: usize,
    compared: usize,
    others: Vec<String>,
}

impl Figures {
    fn add(&mut self, what: &str, constraint: &Constraint, instances: impl Iterator<Item = String>) {
        self.constraints += 1;
        let mut outputs: Vec<String> = instances.collect();
        for seed in 0..SEEDS {
            let Walk::Ended { tokens, text } = walk::uniform(constraint, tokenizer(), seed, what) else { continue };
            outputs.push(text);
            let mut state = constraint.start();
            for at in 0..=tokens.len() {
                let forced = state.forced_tokens(&tokens[..at]);
                if !forced.is_empty() {
                    self.runs += 1;
                    self.tokens += forced.len();
                    self.allowed += follow(&mut state.clone(), &forced, what);
                }
                if let Some(&token) = tokens.get(at) {
                    assert!(state.advance(token), "{what}");
                }
            }
        }
        for text in outputs {
            if matches!(walk::admits(constraint, tokenizer(), &text), Admitted::Whole) {
                self.compare(constraint, &text, what);
            }
        }
    }

    /// Holds what is forced at each place of an output against how the tokenizer cuts the whole of it.
    fn compare(&mut self, constraint: &Constraint, text: &str, what: &str) {
        let tokens = tokenizer().encode_plain(text);
        let mut state = constraint.start();
        self.outputs += 1;
        for at in 0..tokens.len() {
            let forced = state.forced_tokens(&tokens[..at]);
            if !forced.is_empty() {
                self.compared += 1;
                let expect = &tokens[at..tokens.len().min(at + forced.len())];
                if expect != forced {
                    let spell = |tokens: &[TokenId]| -> Vec<String> {
                        tokens.iter().map(|&token| tokenizer().decode(&[token])).collect()
                    };
                    let before = spell(&tokens[at.saturating_sub(6)..at]);
                    self.others.push(format!(
                        "{what} | after {before:?} forced {:?}, cut {:?}",
                        spell(&forced),
                        spell(expect)
                    ));
                }
            }
            assert!(state.advance(tokens[at]), "{what}: {text}");
        }
    }

    fn check(&self, what: &str) {
        println!(
            "{what}: {} constraints, {} runs of {} tokens, {} allowed tokens agree; {} outputs, {} places compared, {} differ",
            self.constraints,
            self.runs,
            self.tokens,
            self.allowed,
            self.outputs,
            self.compared,
            self.others.len()
        );
        assert!(self.runs > 0 && self.compared > 0);
        assert!(self.others.is_empty(), "{}", self.others.join("\n"));
    }
}

/// Takes forced tokens: at each place all that is allowed begins with what is forced, or is the beginning of it. Gives how
/// many tokens that were.
fn follow(state: &mut ConstraintState, forced: &[TokenId], what: &str) -> usize {
    let mut rest: Vec<u8> = forced.iter().flat_map(|&token| tokenizer().token_bytes(token)).copied().collect();
    let mut seen = 0;
    for &token in forced {
        let mask = state.mask();
        for allowed in mask.iter() {
            assert!(!tokenizer().is_special(allowed), "{what}: the end is allowed where {rest:?} is forced");
            let bytes = tokenizer().token_bytes(allowed);
            let common = bytes.len().min(rest.len());
            assert_eq!(bytes[..common], rest[..common], "{what}: another token is allowed where {rest:?} is forced");
            seen += 1;
        }
        assert!(mask.allows(token), "{what}: a forced token is not allowed");
        assert!(state.advance(token), "{what}: a forced token is not taken");
        rest.drain(..tokenizer().token_bytes(token).len());
    }
    seen
}

fn of_schemas(cases: &[Case], what: &str) {
    let mut figures = Figures::default();
    for case in cases {
        let Ok(constraint) = Constraint::json_schema(&case.schema.to_string(), tokenizer()) else { continue };
        let valid = case.tests.iter().filter(|(valid, _)| *valid);
        let texts = valid.filter_map(|(_, instance)| writing::texts(&case.schema, instance).into_iter().next());
        figures.add(&case.name, &constraint, texts);
    }
    figures.check(what);
}

#[test]
fn of_the_test_suite_of_json_schema() {
    of_schemas(&suite(), "JSON Schema Test Suite");
}

#[test]
fn of_schemas_of_real_projects() {
    of_schemas(&maskbench(), "MaskBench");
}

#[test]
fn of_regular_expressions() {
    let mut figures = Figures::default();
    for pattern in regex::patterns() {
        let constraint = Constraint::regex(pattern, tokenizer()).unwrap();
        figures.add(pattern, &constraint, std::iter::empty());
    }
    figures.check("regular expressions");
}
