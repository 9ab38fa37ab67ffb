//! Whether one more run may begin.
