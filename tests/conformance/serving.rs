//! The default model behind the engine, as programs meet it.

use std::sync::Arc;

use sglhost_core::{Error, RunId, TenantId, limits::EngineLimits};
use sglhost_engine::{Call, CallEvent, Engine, EngineHandle, Outcome, Request, ServedModel, SystemClock, Work};
use sglhost_model::{OpenOptions, open};
use sglhost_tests::model::default_gguf;

use crate::compute;

/// An engine that serves the default model with KV memory for `kv_slots` tokens.
pub(crate) fn start(kv_slots: usize, limits: EngineLimits) -> EngineHandle {
    let options = OpenOptions { kv_slots: Some(kv_slots), ..OpenOptions::default() };
    start_with(&options, limits)
}

/// The same, opened as `options` say.
pub(crate) fn start_with(options: &OpenOptions, limits: EngineLimits) -> EngineHandle {
    let opened = open(&default_gguf(), compute::as_served(), options).unwrap_or_else(|error| panic!("{error}"));
    let model = ServedModel { runner: opened.runner, tokenizer: opened.tokenizer, roles: opened.roles };
    EngineHandle::start(vec![model], limits, Arc::new(SystemClock::default())).unwrap()
}

/// Starts a call of `tenant`: tenants share no cache.
pub(crate) fn try_submit(engine: &EngineHandle, tenant: &str, prompt: &[u32], work: Work) -> Result<Call, Error> {
    let tenant = TenantId(Arc::from(tenant));
    let (prompt, run) = (prompt.into(), RunId(1));
    engine.submit(Request { model: 0, tenant, run, priority: 0, deadline: None, prompt, work })
}

/// The same, of a call that is right.
pub(crate) fn submit(engine: &EngineHandle, tenant: &str, prompt: &[u32], work: Work) -> Call {
    try_submit(engine, tenant, prompt, work).unwrap()
}

/// Waits for the call's end.
pub(crate) fn finish(mut call: Call) -> Outcome {
    let mut text = String::new();
    loop {
        match call.events.blocking_recv() {
            Some(CallEvent::Delta(piece)) => text += &piece,
            Some(CallEvent::Finished(outcome)) => {
                assert_eq!(text, outcome.text, "what was delivered is the outcome");
                return *outcome;
            }
            Some(CallEvent::Failed(error)) => panic!("{error}"),
            None => panic!("the engine is gone"),
        }
    }
}
