//! What several test folders share: finding the model, building guests and the binary, a scripted model runner.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod binary;
pub mod distance;
pub mod golden;
pub mod guests;
pub mod model;
pub mod scripted;
pub mod sequences;
pub mod serving;
