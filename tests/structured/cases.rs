//! Schemas with instances, as `data/README.md` describes them.

use serde::Deserialize;
use serde_json::Value;

/// A schema with instances that are valid or not.
#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) schema: Value,
    pub(crate) tests: Vec<(bool, Value)>,
}

/// The JSON Schema Test Suite for draft 2020-12.
pub(crate) fn suite() -> Vec<Case> {
    read(include_str!("data/suite.jsonl"))
}

/// A sample of MaskBench.
pub(crate) fn maskbench() -> Vec<Case> {
    read(include_str!("data/maskbench.jsonl"))
}

fn read(lines: &str) -> Vec<Case> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
