//! A pattern → its NFA, or an error that says where the pattern is wrong.

use regex_automata::nfa::thompson::{self, NFA, WhichCaptures};
use regex_syntax::{
    ast::{self, AssertionKind, Ast},
    hir::{Hir, Look},
};
use sglhost_core::{Error, limits};

/// Parses the pattern of a constraint and builds its automaton.
pub(super) fn regex(pattern: &str) -> Result<NFA, Error> {
    check_length(pattern.len())?;
    let hir = parse("regex", pattern)?;
    let looks = hir.properties().look_set();
    if looks.iter().any(|look| !matches!(look, Look::Start | Look::End)) {
        return Err(Error::invalid(format!(
            "regex: word boundaries and multi-line anchors are not supported in a constraint{}",
            place_of_assertion(pattern)
        )));
    }
    build(&hir)
}

/// The automaton of "one of these strings".
pub(super) fn choices(choices: &[String]) -> Result<NFA, Error> {
    if choices.is_empty() || choices.len() > limits::CHOICES_MAX {
        return Err(Error::invalid(format!(
            "{} choices; a constraint takes 1 to {}",
            choices.len(),
            limits::CHOICES_MAX
        )));
    }
    check_length(choices.iter().map(String::len).sum())?;
    build(&Hir::alternation(choices.iter().map(|choice| Hir::literal(choice.as_bytes())).collect()))
}

/// Parses a pattern; the error points at the place.
pub(crate) fn parse(what: &str, pattern: &str) -> Result<Hir, Error> {
    regex_syntax::Parser::new().parse(pattern).map_err(|error| {
        let span = match &error {
            regex_syntax::Error::Parse(error) => Some(*error.span()),
            regex_syntax::Error::Translate(error) => Some(*error.span()),
            _ => None,
        };
        let kind = match &error {
            regex_syntax::Error::Parse(error) => error.kind().to_string(),
            regex_syntax::Error::Translate(error) => error.kind().to_string(),
            other => other.to_string(),
        };
        Error::invalid(format!("{what}: {kind}{}", span.map_or(String::new(), |span| place(pattern, &span))))
    })
}

/// Shows a place in a pattern: in words, and the line with a caret below it.
fn place(pattern: &str, span: &ast::Span) -> String {
    let line = pattern.lines().nth(span.start.line.saturating_sub(1)).unwrap_or("");
    let column = span.start.column.saturating_sub(1);
    // A long line is shown from a little before the place on.
    let from = column.saturating_sub(PLACE_BEFORE);
    let shown: String = line.chars().skip(from).take(PLACE_BEFORE + PLACE_AFTER).collect();
    let lines = if pattern.lines().nth(1).is_some() {
        format!("line {}, column {}", span.start.line, span.start.column)
    } else {
        format!("column {}", span.start.column)
    };
    format!(" ({lines})\n    {shown}\n    {}^", " ".repeat(column - from))
}

const PLACE_BEFORE: usize = 60;
const PLACE_AFTER: usize = 40;

/// Where the first assertion other than `\A` and `\z` stands.
fn place_of_assertion(pattern: &str) -> String {
    struct Find(Option<ast::Span>);
    impl ast::Visitor for Find {
        type Output = Option<ast::Span>;
        type Err = std::convert::Infallible;

        fn finish(self) -> Result<Self::Output, Self::Err> {
            Ok(self.0)
        }

        fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
            if let Ast::Assertion(assertion) = ast
                && !matches!(assertion.kind, AssertionKind::StartText | AssertionKind::EndText)
                && self.0.is_none()
            {
                self.0 = Some(assertion.span);
            }
            Ok(())
        }
    }
    let found = ast::parse::Parser::new().parse(pattern).ok().and_then(|ast| ast::visit(&ast, Find(None)).ok());
    found.flatten().map_or(String::new(), |span| place(pattern, &span))
}

fn check_length(bytes: usize) -> Result<(), Error> {
    if bytes > limits::PATTERN_BYTES_MAX {
        return Err(Error::limit(format!("a constraint of {bytes} bytes; the limit is {}", limits::PATTERN_BYTES_MAX)));
    }
    Ok(())
}

/// Builds an automaton within its size limit.
pub(crate) fn build(hir: &Hir) -> Result<NFA, Error> {
    let config = thompson::Config::new()
        .utf8(true)
        .which_captures(WhichCaptures::None)
        .nfa_size_limit(Some(limits::CONSTRAINT_BYTES_MAX));
    thompson::Compiler::new().configure(config).build_from_hir(hir).map_err(|error| match error.size_limit() {
        Some(limit) => Error::limit(format!(
            "the constraint's automaton is larger than {} MiB; use fewer or smaller repetitions ({{1,100}})",
            limit >> 20
        )),
        None => Error::invalid(format!("regex: {error}")),
    })
}
