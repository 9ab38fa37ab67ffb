//! Which KV slots hold which tokens: pure data structures over slot numbers.
//!
//! A *slot* is room for the keys and values of one token in every layer; a *page* is a run of slots that is handed out
//! as a whole (one slot, unless the device asks for more). [`RadixCache`] owns all slots of one KV memory. It remembers
//! which token sequences the computed ones hold, so that a later sequence that begins alike takes them over instead of
//! computing them again.
//!
//! *Invariants*: free + evictable + locked slots = all slots, after every operation · a slot is only ever shown to the
//! namespace that filled it, or to all if the operator published it · tokens are compared, never hashes of them · what
//! a [`Lock`] holds is never evicted, and what a [`Lease`] holds is evicted last.
//!
//! *Boundary*: no KV bytes, no text, no clock (recency is a counter), no threads.

mod namespace;
mod pages;
mod radix;
#[cfg(test)]
mod tests;

pub use namespace::{Namespace, Owner};
pub use pages::Slot;
pub use radix::{Lease, Lock, Match, RadixCache};
