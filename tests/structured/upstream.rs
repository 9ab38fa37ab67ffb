//! `llguidance` called directly, with its own limits: what it would take.

use std::sync::{Arc, LazyLock};

use llguidance::{
    ParserFactory,
    api::TopLevelGrammar,
    earley::SlicedBiasComputer,
    toktrie::{ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId},
};
use serde_json::{Value, json};

use crate::walk::tokenizer;

/// Compiles a schema and builds the first mask.
pub(crate) fn accepts(schema: &Value) -> Result<(), String> {
    static FACTORY: LazyLock<ParserFactory> = LazyLock::new(|| {
        let tokenizer = tokenizer();
        let words: Vec<Vec<u8>> = (0..tokenizer.vocabulary() as TokenId)
            .map(|token| if tokenizer.is_special(token) { Vec::new() } else { tokenizer.token_bytes(token).to_vec() })
            .collect();
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, tokenizer.end_of_text()[0]), &words);
        let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let slices = SlicedBiasComputer::json_slices();
        let mut factory = ParserFactory::new(&env, InferenceCapabilities::default(), &slices).unwrap();
        factory.quiet();
        factory
    });
    let mut schema = if schema == &Value::Bool(true) { json!({}) } else { schema.clone() };
    if schema.is_object() {
        schema["x-guidance"] = json!({ "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": " });
    }
    let mut parser = FACTORY.create_parser(TopLevelGrammar::from_json_schema(schema)).map_err(message)?;
    parser.start_without_prompt();
    parser.compute_mask().map(drop).map_err(message)
}

fn message(error: impl std::fmt::Display) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().to_owned()
}
