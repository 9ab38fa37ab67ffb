//! Which computed tokens can be taken over.
//!
//! The simplest structure that is right: a list of token sequences with their slots, searched for the longest common
//! prefix. Entries may share slots (a fork and its parent do), which the pool counts. At `capacity` entries a search
//! compares at most that many prefixes, microseconds beside a forward pass; a radix tree is to replace the list.

use sglhost_core::TokenId;

use crate::{Namespace, Slot, SlotPool};

#[derive(Debug)]
struct Entry {
    namespace: Namespace,
    tokens: Vec<TokenId>,
    /// `slots[i]` holds the KV of `tokens[i]` after all tokens before it.
    slots: Vec<Slot>,
    /// The value of the counter when it was last matched or inserted.
    used: u64,
}

/// Remembers computed token sequences, per namespace.
#[derive(Debug)]
pub struct PrefixCache {
    entries: Vec<Entry>,
    capacity: usize,
    counter: u64,
}

/// Length of the longest common prefix.
fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl PrefixCache {
    /// A cache of at most `capacity` sequences.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { entries: Vec::new(), capacity, counter: 0 }
    }

    /// The slots of the longest cached prefix of `tokens` in `namespace`. The caller locks those it uses before
    /// anything is evicted.
    pub fn match_prefix(&mut self, namespace: &Namespace, tokens: &[TokenId]) -> &[Slot] {
        self.counter += 1;
        let best = self
            .entries
            .iter_mut()
            .filter(|entry| entry.namespace == *namespace)
            .map(|entry| (common(&entry.tokens, tokens), entry))
            .max_by_key(|(length, entry)| (*length, entry.used));
        match best {
            Some((length, entry)) if length > 0 => {
                entry.used = self.counter;
                &entry.slots[..length]
            }
            _ => &[],
        }
    }

    /// Remembers that `slots` hold `tokens`. The slots are locked by the caller, and stay so.
    ///
    /// # Panics
    /// If there is not a slot for each token.
    pub fn insert(&mut self, namespace: &Namespace, tokens: &[TokenId], slots: &[Slot], pool: &mut SlotPool) {
        assert_eq!(tokens.len(), slots.len(), "a slot for each token");
        self.counter += 1;
        if tokens.is_empty() {
            return;
        }
        for entry in self.entries.iter_mut().filter(|entry| entry.namespace == *namespace) {
            if entry.tokens.len() >= tokens.len() && entry.tokens.starts_with(tokens) {
                entry.used = self.counter;
                return;
            }
        }
        pool.remember(slots);
        self.entries.retain(|entry| {
            let covered = entry.namespace == *namespace && tokens.starts_with(&entry.tokens);
            if covered {
                pool.forget(&entry.slots);
            }
            !covered
        });
        if self.entries.len() >= self.capacity {
            self.evict_oldest(pool);
        }
        self.entries.push(Entry {
            namespace: namespace.clone(),
            tokens: tokens.to_vec(),
            slots: slots.to_vec(),
            used: self.counter,
        });
    }

    /// Forgets the least recently used sequences until `count` slots are free. Returns whether they are.
    pub fn evict(&mut self, count: usize, pool: &mut SlotPool) -> bool {
        while pool.free() < count {
            if !self.evict_oldest(pool) {
                return false;
            }
        }
        true
    }

    /// Forgets everything.
    pub fn clear(&mut self, pool: &mut SlotPool) {
        while self.evict_oldest(pool) {}
    }

    fn evict_oldest(&mut self, pool: &mut SlotPool) -> bool {
        let oldest = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.used).map(|(index, _)| index);
        let Some(index) = oldest else { return false };
        let entry = self.entries.swap_remove(index);
        pool.forget(&entry.slots);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sglhost_core::TenantId;

    use super::*;

    fn namespace(tenant: &str) -> Namespace {
        Namespace::new(TenantId(Arc::from(tenant)), Arc::from("model"))
    }

    /// Inserts `tokens` as a finished sequence: matched slots are shared, the rest is allocated.
    fn run(
        cache: &mut PrefixCache,
        pool: &mut SlotPool,
        namespace: &Namespace,
        tokens: &[TokenId],
    ) -> (usize, Vec<Slot>) {
        let mut slots = cache.match_prefix(namespace, tokens).to_vec();
        pool.lock(&slots);
        let cached = slots.len();
        let missing = tokens.len() - cached;
        assert!(cache.evict(missing, pool), "room for {missing}");
        assert!(pool.allocate(missing, &mut slots));
        cache.insert(namespace, tokens, &slots, pool);
        pool.unlock(&slots);
        pool.check();
        (cached, slots)
    }

    #[test]
    fn a_prefix_is_shared_and_its_slots_are_the_same() {
        let (mut cache, mut pool) = (PrefixCache::new(16), SlotPool::new(64));
        let tenant = namespace("a");
        let (_, first) = run(&mut cache, &mut pool, &tenant, &[1, 2, 3, 4]);
        let (cached, second) = run(&mut cache, &mut pool, &tenant, &[1, 2, 3, 9, 9]);
        assert_eq!((cached, &second[..3]), (3, &first[..3]));
        assert_eq!(pool.evictable(), 6);
    }

    #[test]
    fn a_longer_sequence_replaces_its_prefix_and_a_shorter_one_adds_nothing() {
        let (mut cache, mut pool) = (PrefixCache::new(16), SlotPool::new(64));
        let tenant = namespace("a");
        run(&mut cache, &mut pool, &tenant, &[1, 2]);
        run(&mut cache, &mut pool, &tenant, &[1, 2, 3]);
        run(&mut cache, &mut pool, &tenant, &[1]);
        assert_eq!((cache.entries.len(), pool.evictable()), (1, 3));
    }

    #[test]
    fn nothing_is_shared_across_namespaces() {
        let (mut cache, mut pool) = (PrefixCache::new(16), SlotPool::new(64));
        run(&mut cache, &mut pool, &namespace("a"), &[1, 2, 3]);
        let salted = Namespace { salt: Arc::from("x"), ..namespace("a") };
        for other in [namespace("b"), salted] {
            assert_eq!(run(&mut cache, &mut pool, &other, &[1, 2, 3]).0, 0);
        }
    }

    #[test]
    fn the_least_recently_used_goes_first_and_locked_slots_stay() {
        let (mut cache, mut pool) = (PrefixCache::new(16), SlotPool::new(8));
        let tenant = namespace("a");
        run(&mut cache, &mut pool, &tenant, &[1, 1, 1]);
        run(&mut cache, &mut pool, &tenant, &[2, 2, 2]);
        let held = cache.match_prefix(&tenant, &[1, 1, 1]).to_vec();
        pool.lock(&held);
        assert!(cache.evict(5, &mut pool));
        assert_eq!(cache.match_prefix(&tenant, &[2, 2, 2]), &[] as &[Slot]);
        assert_eq!(cache.match_prefix(&tenant, &[1, 1, 1]), held);
        assert!(!cache.evict(6, &mut pool), "the rest is locked");
        assert_eq!((pool.free(), pool.locked()), (5, 3));
        pool.unlock(&held);
        pool.check();
        assert_eq!(pool.free(), 8);
    }

    #[test]
    fn the_number_of_entries_is_bounded() {
        let (mut cache, mut pool) = (PrefixCache::new(4), SlotPool::new(64));
        for token in 0..20 {
            run(&mut cache, &mut pool, &namespace("a"), &[token]);
        }
        assert_eq!((cache.entries.len(), pool.evictable()), (4, 4));
    }
}
