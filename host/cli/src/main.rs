//! The `sglhost` binary.
mod arguments;
mod component;
mod environment;
mod failure;
mod flags;
mod interrupt;
mod model;
mod render;
mod split;
mod units;
fn main() {}
