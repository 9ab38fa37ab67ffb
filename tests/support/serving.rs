//! Calls of an engine from a test.

use std::sync::Arc;

use sglhost_core::{Error, RunId, TenantId, limits::EngineLimits};
use sglhost_engine::{Call, CallEvent, Engine, EngineHandle, Outcome, Request, ServedModel, SystemClock, Work};
use sglhost_model::Opened;

/// An engine that serves `opened` alone.
pub fn start(opened: Opened, limits: EngineLimits) -> EngineHandle {
    let model = ServedModel { runner: opened.runner, tokenizer: opened.tokenizer, roles: opened.roles };
    EngineHandle::start(vec![model], limits, Arc::new(SystemClock::default())).unwrap()
}

/// Starts a call of `tenant`: tenants share no cache.
///
/// # Errors
/// What the engine refuses at once.
pub fn try_submit(engine: &EngineHandle, tenant: &str, prompt: &[u32], work: Work) -> Result<Call, Error> {
    let tenant = TenantId(Arc::from(tenant));
    let (prompt, run) = (prompt.into(), RunId(1));
    engine.submit(Request { model: 0, tenant, run, priority: 0, deadline: None, prompt, work })
}

/// The same, of a call that is right.
pub fn submit(engine: &EngineHandle, tenant: &str, prompt: &[u32], work: Work) -> Call {
    try_submit(engine, tenant, prompt, work).unwrap()
}

/// Waits for the call's end.
///
/// # Errors
/// What the call was answered.
pub fn try_finish(mut call: Call) -> Result<Outcome, Error> {
    let mut text = String::new();
    loop {
        match call.events.blocking_recv() {
            Some(CallEvent::Delta(piece)) => text += &piece,
            Some(CallEvent::Finished(outcome)) => {
                assert_eq!(text, outcome.text, "what was delivered is the outcome");
                return Ok(*outcome);
            }
            Some(CallEvent::Failed(error)) => return Err(error),
            None => panic!("the engine is gone"),
        }
    }
}

/// The same, of a call that ends well.
pub fn finish(call: Call) -> Outcome {
    try_finish(call).unwrap_or_else(|error| panic!("{error}"))
}

/// Tokens and the bits of all log-probabilities.
pub fn assert_same_outcomes(what: &str, actual: &[Outcome], expect: &[Outcome]) {
    assert_eq!(actual.len(), expect.len(), "{what}");
    for (index, (actual, expect)) in actual.iter().zip(expect).enumerate() {
        let what = format!("{what}: call {index}");
        let bits = |outcome: &Outcome| -> Vec<(u32, u32)> {
            let all = outcome.logprobs.iter().chain(outcome.top_logprobs.iter().flatten());
            all.map(|token| (token.token, token.logprob.to_bits())).collect()
        };
        assert_eq!(actual.tokens, expect.tokens, "{what}");
        assert_eq!(actual.text, expect.text, "{what}");
        let (actual, expect) = (bits(actual), bits(expect));
        assert!(!expect.is_empty(), "{what}: log-probabilities are asked for");
        let difference = actual.iter().zip(&expect).position(|(a, e)| a != e);
        assert_eq!((actual.len(), difference), (expect.len(), None), "{what}: the first different log-probability");
    }
}

/// How often a sequence had to give its memory back.
pub fn retractions(engine: &EngineHandle) -> u64 {
    engine.metrics().map(|metrics| metrics.retractions.get()).sum()
}
