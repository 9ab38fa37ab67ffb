//! The default model behind the engine, as programs meet it.

use sglhost_core::limits::EngineLimits;
use sglhost_engine::EngineHandle;
use sglhost_model::{OpenOptions, open};
pub(crate) use sglhost_tests::serving::{assert_same_outcomes, finish, submit, try_submit};
use sglhost_tests::{model::default_gguf, serving};

use crate::compute;

/// An engine that serves the default model with KV memory for `kv_slots` tokens.
pub(crate) fn start(kv_slots: usize, limits: EngineLimits) -> EngineHandle {
    let options = OpenOptions { kv_slots: Some(kv_slots), ..OpenOptions::default() };
    start_with(&options, limits)
}

/// The same, opened as `options` say.
pub(crate) fn start_with(options: &OpenOptions, limits: EngineLimits) -> EngineHandle {
    let opened = open(&default_gguf(), compute::as_served(), options).unwrap_or_else(|error| panic!("{error}"));
    serving::start(opened, limits)
}
