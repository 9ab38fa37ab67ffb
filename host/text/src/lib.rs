//! Text and tokens: tokenizer, incremental detokenizer, chat roles, stop matcher, constraints.
//!
//! *Boundary*: no async runtime, no wall clock, no environment; reads the tokenizer files it is pointed at and nothing
//! else.

/// STUB replaced by the text helper: see API in its brief.
#[derive(Debug)]
pub struct Tokenizer;
/// STUB
#[derive(Clone, Debug)]
pub struct Roles;
/// STUB
#[derive(Clone, Debug)]
pub struct Constraint;
/// STUB
#[derive(Clone, Debug)]
pub struct Segment;
