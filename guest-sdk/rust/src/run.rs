//! The run a program is part of: output of its own, and what it may still use.

use crate::bindings::sgl::program::{lm, run};
use crate::error::{Result, from_host};

/// Sends a piece of output to whoever started the run, at once; waits when the reader is slow.
///
/// # Errors
/// The run's limit of emitted bytes is reached, or nobody reads any more.
pub fn emit(channel: &str, data: &str) -> Result<()> {
    run::emit(channel, data).map_err(from_host)
}

/// Tokens, of prompts and outputs together, that the run may still use.
#[must_use]
pub fn tokens_left() -> u64 {
    run::tokens_left()
}

/// States that the run may still open or fork.
#[must_use]
pub fn contexts_left() -> u32 {
    run::contexts_left()
}

/// Time until the run's deadline.
#[must_use]
pub fn milliseconds_left() -> u64 {
    run::milliseconds_left()
}

/// Names of the models served here, the default first.
#[must_use]
pub fn models() -> Vec<String> {
    lm::models()
}

/// Longest conversation, in tokens, of a model; `None` is the default model.
///
/// # Errors
/// No model of that name is served.
pub fn context_length(model: Option<&str>) -> Result<u32> {
    lm::context_length(model).map_err(from_host)
}

/// Whether a model takes images; `None` is the default model.
///
/// # Errors
/// No model of that name is served.
pub fn accepts_images(model: Option<&str>) -> Result<bool> {
    lm::accepts_images(model).map_err(from_host)
}
