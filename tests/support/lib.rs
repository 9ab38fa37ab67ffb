//! What several test folders share: finding the model, building guests and the binary, scripted engines and models, a
//! server and a client of HTTP.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod binary;
pub mod distance;
pub mod golden;
pub mod guests;
pub mod hostile;
pub mod http;
pub mod load;
pub mod model;
pub mod scripted;
pub mod scripted_model;
pub mod sequences;
pub mod server;
pub mod serving;
