//! The `sglhost` binary.
fn main() {}
