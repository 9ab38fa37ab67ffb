//! What a run holds and has used, against its limits.
//!
//! Counts of things that are held (contexts, calls, operations, handles, bytes) are given back when their [`Share`] is
//! dropped; what is used up (tokens, emitted bytes) is not. The guest reads none of this: it gets the error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sglhost_core::limits::RunLimits;
use sglhost_core::{Error, Usage};

/// What a run holds at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Contexts whose handle the guest has.
    Contexts,
    /// Calls started and not finished, and pieces of output that wait for a slow reader.
    Calls,
    /// Operations queued on its contexts.
    Operations,
    /// Options, constraints, calls, outcomes and images.
    Handles,
    /// Bytes of text, options and results that the host keeps for it.
    Bytes,
}

const HELD_KINDS: usize = 5;

/// A run's accounts.
#[derive(Debug)]
pub(crate) struct Ledger {
    limits: RunLimits,
    held: [AtomicU64; HELD_KINDS],
    tokens: AtomicU64,
    emitted_bytes: AtomicU64,
}

impl Ledger {
    pub(crate) fn new(limits: RunLimits) -> Self {
        Self { limits, held: Default::default(), tokens: AtomicU64::new(0), emitted_bytes: AtomicU64::new(0) }
    }

    pub(crate) fn limits(&self) -> &RunLimits {
        &self.limits
    }

    /// Takes `amount` of what the run may hold, until the share is dropped.
    ///
    /// # Errors
    /// *limit-exceeded*, naming the limit; nothing is taken then.
    pub(crate) fn take(self: &Arc<Self>, what: Held, amount: usize) -> Result<Share, Error> {
        let mut share = Share { ledger: Arc::clone(self), what, amount: 0 };
        share.grow(amount)?;
        Ok(share)
    }

    /// Reserves tokens for a call: its prompt and the most it may sample.
    ///
    /// # Errors
    /// *limit-exceeded*, when the run has fewer left; nothing is reserved then.
    pub(crate) fn reserve_tokens(self: &Arc<Self>, prompt: u64, output: u64) -> Result<Tokens, Error> {
        let max = self.limits.tokens_max;
        let amount = prompt.saturating_add(output);
        self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| within(used, amount, max)).map_err(
            |used| {
                Error::limit(format!(
                    "the call needs up to {amount} tokens (prompt {prompt}, output {output}) and the run has {} of its \
                     {max} left (tokens_max); ask for fewer max-tokens, shorten the prompt, or run with a higher \
                     tokens_max",
                    max - used.min(max)
                ))
            },
        )?;
        Ok(Tokens { ledger: Arc::clone(self), reserved: amount, used: amount })
    }

    pub(crate) fn tokens_left(&self) -> u64 {
        self.limits.tokens_max.saturating_sub(self.tokens.load(Ordering::Relaxed))
    }

    pub(crate) fn contexts_left(&self) -> u32 {
        let open = self.held[Held::Contexts as usize].load(Ordering::Relaxed);
        self.limits.contexts_max.saturating_sub(u32::try_from(open).unwrap_or(u32::MAX))
    }

    /// Counts bytes that are emitted.
    ///
    /// # Errors
    /// *limit-exceeded*; nothing is counted then.
    pub(crate) fn emit(&self, bytes: usize) -> Result<(), Error> {
        let max = self.limits.emitted_bytes_max;
        self.emitted_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| within(used, bytes as u64, max))
            .map(|_| ())
            .map_err(|used| {
                Error::limit(format!(
                    "emitting {bytes} bytes more than the {used} so far passes the {max} bytes that a run may emit \
                     (emitted_bytes_max); emit less, or run with a higher emitted_bytes_max"
                ))
            })
    }

    fn max(&self, what: Held) -> u64 {
        match what {
            Held::Contexts => u64::from(self.limits.contexts_max),
            Held::Calls => u64::from(self.limits.pending_calls_max),
            Held::Operations => self.limits.queued_operations_max as u64,
            Held::Handles => self.limits.handles_max as u64,
            Held::Bytes => self.limits.held_bytes_max as u64,
        }
    }

    fn exceeded(&self, what: Held, amount: usize) -> Error {
        let max = self.max(what);
        Error::limit(match what {
            Held::Contexts => format!(
                "the run has {max} contexts open, as many as it may (contexts_max); drop some before opening more, or \
                 run with a higher contexts_max"
            ),
            Held::Calls => format!(
                "the run has {max} calls pending, as many as it may (pending_calls_max); wait for some to finish \
                 before starting more, or run with a higher pending_calls_max"
            ),
            Held::Operations => format!(
                "the run has {max} operations queued on its contexts, as many as it may (queued_operations_max); wait \
                 for a call to finish before queueing more, or run with a higher queued_operations_max"
            ),
            Held::Handles => format!(
                "the run holds {max} options, constraints, calls, outcomes and images, as many as it may \
                 (handles_max); drop some before making more, or run with a higher handles_max"
            ),
            Held::Bytes => format!(
                "{amount} bytes more would pass the {max} bytes of text, options and results that the host keeps for a \
                 run (held_bytes_max); drop contexts and outcomes that are done with, or run with a higher \
                 held_bytes_max"
            ),
        })
    }
}

fn within(used: u64, amount: u64, max: u64) -> Option<u64> {
    used.checked_add(amount).filter(|&total| total <= max)
}

/// A part of what the run may hold; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Share {
    ledger: Arc<Ledger>,
    what: Held,
    amount: usize,
}

impl Share {
    /// Takes more of the same.
    ///
    /// # Errors
    /// As [`Ledger::take`].
    pub(crate) fn grow(&mut self, amount: usize) -> Result<(), Error> {
        let max = self.ledger.max(self.what);
        self.ledger.held[self.what as usize]
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| within(used, amount as u64, max))
            .map_err(|_| self.ledger.exceeded(self.what, amount))?;
        self.amount += amount;
        Ok(())
    }

    pub(crate) fn amount(&self) -> usize {
        self.amount
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.ledger.held[self.what as usize].fetch_sub(self.amount as u64, Ordering::Relaxed);
    }
}

/// Tokens reserved for a call; dropping it settles what was used.
#[derive(Debug)]
pub(crate) struct Tokens {
    ledger: Arc<Ledger>,
    reserved: u64,
    used: u64,
}

impl Tokens {
    /// What the call used in the end; until this is called, all that was reserved.
    pub(crate) fn settle(&mut self, usage: Usage) {
        self.used = usage.prompt_tokens + usage.completion_tokens;
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        // An engine may count a token more than was reserved (an end-of-text); it is counted all the same.
        self.ledger.tokens.fetch_add(self.used, Ordering::Relaxed);
        self.ledger.tokens.fetch_sub(self.reserved, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn shares_are_given_back() {
        let ledger = Arc::new(Ledger::new(RunLimits { contexts_max: 2, ..RunLimits::default() }));
        let first = ledger.take(Held::Contexts, 1).unwrap();
        let _second = ledger.take(Held::Contexts, 1).unwrap();
        assert_eq!(ledger.contexts_left(), 0);
        let error = ledger.take(Held::Contexts, 1).unwrap_err();
        assert!(error.message.starts_with("the run has 2 contexts open, as many as it may (contexts_max)"), "{error}");
        drop(first);
        assert_eq!(ledger.contexts_left(), 1);
        ledger.take(Held::Contexts, 1).unwrap();
    }

    #[test]
    fn tokens_are_reserved_and_settled() {
        let ledger = Arc::new(Ledger::new(RunLimits { tokens_max: 100, ..RunLimits::default() }));
        let mut call = ledger.reserve_tokens(10, 50).unwrap();
        assert_eq!(ledger.tokens_left(), 40);
        assert!(ledger.reserve_tokens(10, 50).is_err());
        call.settle(Usage { prompt_tokens: 10, cached_tokens: 0, completion_tokens: 5 });
        drop(call);
        assert_eq!(ledger.tokens_left(), 85);
        // A call that is never settled is charged all it reserved.
        drop(ledger.reserve_tokens(10, 10).unwrap());
        assert_eq!(ledger.tokens_left(), 65);
    }

    #[test]
    fn emitted_bytes_are_used_up() {
        let ledger = Ledger::new(RunLimits { emitted_bytes_max: 10, ..RunLimits::default() });
        ledger.emit(6).unwrap();
        let error = ledger.emit(6).unwrap_err();
        assert!(error.message.contains("the 10 bytes that a run may emit (emitted_bytes_max)"), "{error}");
        ledger.emit(4).unwrap();
    }
}
