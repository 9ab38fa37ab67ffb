//! What several test folders share: finding the model, building guests, a scripted model runner.

pub mod model;
