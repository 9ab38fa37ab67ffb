//! Structured output: what constraints admit, held against engines and validators that are not ours.
//!
//! A sampler that draws uniformly among the tokens that a mask allows is a walk over the masks. `walk` has it, `writing`
//! writes JSON as the host has models write it. `real_model` has the default model write. Each of the other files holds
//! one kind of constraint.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bombs;
mod cases;
mod counting;

mod forced;
mod json_schema;
mod lark;
mod real_model;
mod regex;
mod structural_tag;
mod upstream;
mod walk;
mod writing;
