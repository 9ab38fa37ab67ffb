//! The house rules that a compiler does not check: which crate may know which.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod floors;
