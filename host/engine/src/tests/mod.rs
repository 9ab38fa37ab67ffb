//! The real scheduler, cache and loop over a scripted model whose every token is known in advance.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod calls;
mod constraints;
mod contexts;
mod fairness;
mod pressure;
pub(crate) mod scripted;
mod simulator;

use sglhost_cache::Namespace;
use sglhost_core::TenantId;

/// Bugs that the simulator's own test plants, to show that it sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A stopped sequence forgets one of its slots.
    LeakSlot,
    /// All tenants read and write one namespace.
    ShareAcrossNamespaces,
    /// A sequence goes on with slots that it does not hold any more.
    UnlockEarly,
    /// A finished call is not told so.
    LoseEnding,
    /// The counter of the random number counts what was computed again.
    CountRecomputed,
    /// A retracted sequence is resumed while a token of it is still being sampled.
    ResumeUnsettled,
    /// A sequence that waits for its reader is never looked at again.
    ForgetParked,
    /// A sequence whose mask was late is never looked at again.
    ForgetLate,
    /// A token is sampled after one that others were forced after.
    AskTwice,
}

/// The namespace of [`Fault::ShareAcrossNamespaces`].
pub(crate) fn anybody() -> Namespace {
    Namespace::new(TenantId::local(), "scripted".into())
}
