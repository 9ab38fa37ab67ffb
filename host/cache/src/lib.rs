//! Which KV slots hold which tokens: pure data structures over slot numbers.
//!
//! A *slot* is room for the keys and values of one token in every layer. [`SlotPool`] knows who holds each slot;
//! [`PrefixCache`] remembers which token sequences computed slots belong to, so that a later sequence that begins alike
//! takes them over instead of computing them again.
//!
//! *Invariants*: free + evictable + locked slots = pool size, after every operation · a slot is only ever shown to the
//! namespace that filled it · tokens are compared, never hashes of them.
//!
//! *Boundary*: no KV bytes, no text, no clock (recency is a counter), no threads.

mod namespace;
mod pool;
mod prefix;

pub use namespace::Namespace;
pub use pool::{Slot, SlotPool};
pub use prefix::PrefixCache;
