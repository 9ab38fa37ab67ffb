//! The house rules that a compiler does not check: which crate may know which, what was compiled from what, what a page
//! shows.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cuda_images;
mod floors;
mod shown_sources;
