//! What several test folders share: finding the model, building guests and the binary, a scripted model runner.

pub mod binary;
pub mod guests;
pub mod model;
pub mod scripted;
