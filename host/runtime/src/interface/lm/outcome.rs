//! `outcome`: how a call ended. It stays with the host; what is asked for is copied.

use std::sync::Arc;

use sglhost_core::FinishReason;
use sglhost_engine::{Model, Outcome};
use wasmtime::component::Resource;

use crate::bindings::sgl::program::lm::HostOutcome;
use crate::bindings::sgl::program::types;
use crate::call::KeptOutcome;
use crate::host::Host;
use crate::interface::types::logprobs;
use crate::ledger::Share;

/// An outcome in the guest's hands.
#[derive(Debug)]
pub struct OutcomeHandle {
    pub(crate) kept: Arc<KeptOutcome>,
    pub(crate) model: Arc<Model>,
    pub(crate) handle: Share,
}

type OutcomeResource = Resource<OutcomeHandle>;

fn count(tokens: u64) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

impl Host {
    fn outcome(&self, outcome: &OutcomeResource) -> wasmtime::Result<&Outcome> {
        Ok(&self.table.get(outcome)?.kept.outcome)
    }
}

impl HostOutcome for Host {
    fn text(&mut self, outcome: OutcomeResource) -> wasmtime::Result<String> {
        Ok(self.outcome(&outcome)?.text.clone())
    }

    fn tokens(&mut self, outcome: OutcomeResource) -> wasmtime::Result<Vec<u32>> {
        Ok(self.outcome(&outcome)?.tokens.clone())
    }

    fn finish_reason(&mut self, outcome: OutcomeResource) -> wasmtime::Result<String> {
        let reason = self.outcome(&outcome)?.finish_reason.unwrap_or(FinishReason::Stop);
        Ok(reason.as_str().to_owned())
    }

    fn matched(&mut self, outcome: OutcomeResource) -> wasmtime::Result<Option<String>> {
        Ok(self.outcome(&outcome)?.matched.clone())
    }

    fn logprobs(&mut self, outcome: OutcomeResource) -> wasmtime::Result<Vec<types::TokenLogprob>> {
        let handle = self.table.get(&outcome)?;
        Ok(logprobs(&handle.model.tokenizer, &handle.kept.outcome.logprobs))
    }

    fn top_logprobs(&mut self, outcome: OutcomeResource, position: u32) -> wasmtime::Result<Vec<types::TokenLogprob>> {
        let handle = self.table.get(&outcome)?;
        let list = handle.kept.outcome.top_logprobs.get(position as usize).map_or(&[][..], Vec::as_slice);
        Ok(logprobs(&handle.model.tokenizer, list))
    }

    fn prompt_tokens(&mut self, outcome: OutcomeResource) -> wasmtime::Result<u32> {
        Ok(count(self.outcome(&outcome)?.usage.prompt_tokens))
    }

    fn cached_tokens(&mut self, outcome: OutcomeResource) -> wasmtime::Result<u32> {
        Ok(count(self.outcome(&outcome)?.usage.cached_tokens))
    }

    fn completion_tokens(&mut self, outcome: OutcomeResource) -> wasmtime::Result<u32> {
        Ok(count(self.outcome(&outcome)?.usage.completion_tokens))
    }

    fn forced_tokens(&mut self, outcome: OutcomeResource) -> wasmtime::Result<u32> {
        Ok(count(self.outcome(&outcome)?.forced_tokens as u64))
    }

    fn choice(&mut self, outcome: OutcomeResource) -> wasmtime::Result<Option<u32>> {
        Ok(self.outcome(&outcome)?.choice.map(|choice| u32::try_from(choice).unwrap_or(u32::MAX)))
    }

    fn scores(&mut self, outcome: OutcomeResource) -> wasmtime::Result<Vec<f32>> {
        Ok(self.outcome(&outcome)?.scores.clone())
    }

    fn drop(&mut self, outcome: OutcomeResource) -> wasmtime::Result<()> {
        let OutcomeHandle { handle, .. } = self.table.delete(outcome)?;
        drop(handle);
        Ok(())
    }
}
