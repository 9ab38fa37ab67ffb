//! A grammar in Lark's notation.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use sglhost_core::{Error, limits};

use super::context_free::{ContextFree, check_definitions};
use crate::Tokenizer;

/// Compiles a grammar.
pub(super) fn compile(grammar: &str, tokenizer: &Arc<Tokenizer>) -> Result<ContextFree, Error> {
    let max = limits::GRAMMAR_BYTES_MAX;
    if grammar.len() > max {
        return Err(Error::limit(format!("Lark: {} bytes; the limit is {max} (GRAMMAR_BYTES_MAX)", grammar.len())));
    }
    check_definitions(grammar, "Lark")?;
    // Those in literals are counted too: few grammars have more.
    let (meeting, max) = (grammar.matches('&').count(), limits::GRAMMAR_PATTERNS_MEETING_MAX);
    if meeting > max {
        return Err(Error::limit(format!(
            "Lark: {meeting} times `&`; the limit is {max} (GRAMMAR_PATTERNS_MEETING_MAX)"
        )));
    }
    ContextFree::new(TopLevelGrammar::from_lark(grammar.to_owned()), tokenizer, |message| {
        Error::invalid(format!("Lark: {message}"))
    })
}
