//! A grammar in Lark's notation.

use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use sglhost_core::{Error, limits};

use super::context_free::ContextFree;
use crate::Tokenizer;

/// Compiles a grammar.
pub(super) fn compile(grammar: &str, tokenizer: &Arc<Tokenizer>) -> Result<ContextFree, Error> {
    let max = limits::GRAMMAR_BYTES_MAX;
    if grammar.len() > max {
        return Err(Error::limit(format!("Lark: {} bytes; the limit is {max} (GRAMMAR_BYTES_MAX)", grammar.len())));
    }
    ContextFree::new(TopLevelGrammar::from_lark(grammar.to_owned()), tokenizer, |message| {
        Error::invalid(format!("Lark: {message}"))
    })
}
