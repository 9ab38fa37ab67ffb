//! The cache against what a sequence of the engine does with it.

use std::{collections::BTreeMap, sync::Arc};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sglhost_core::{TenantId, TokenId};

use crate::{Lock, Namespace, RadixCache, Slot};

fn namespace(tenant: &str) -> Namespace {
    Namespace::new(TenantId(Arc::from(tenant)), Arc::from("model"))
}

/// A sequence with its hold on the cache.
struct Held {
    lock: Lock,
    slots: Vec<Slot>,
    cached: usize,
}

fn start(cache: &mut RadixCache, namespace: &Namespace, tokens: &[TokenId]) -> Held {
    let mut slots = Vec::new();
    let lock = cache.acquire(namespace, tokens, &mut slots);
    let cached = slots.len();
    assert_eq!(lock.tokens(), cached);
    assert!(cache.reserve(&mut slots, tokens.len()), "room for {tokens:?}");
    Held { lock, slots, cached }
}

fn finish(cache: &mut RadixCache, mut held: Held, tokens: &[TokenId]) -> (usize, Vec<Slot>) {
    cache.insert(&mut held.lock, tokens, &mut held.slots);
    cache.release(held.lock, &held.slots);
    cache.check([].iter());
    (held.cached, held.slots)
}

/// Computes `tokens` as a whole: how many were cached, and the slots.
fn run(cache: &mut RadixCache, namespace: &Namespace, tokens: &[TokenId]) -> (usize, Vec<Slot>) {
    let held = start(cache, namespace, tokens);
    finish(cache, held, tokens)
}

fn counts(cache: &RadixCache) -> (usize, usize, usize) {
    (cache.free(), cache.evictable(), cache.locked())
}

#[test]
fn a_prefix_is_shared_and_its_slots_are_the_same() {
    let mut cache = RadixCache::new(64, 1);
    let tenant = namespace("a");
    let (_, first) = run(&mut cache, &tenant, &[1, 2, 3, 4]);
    let (cached, second) = run(&mut cache, &tenant, &[1, 2, 3, 9, 9]);
    assert_eq!((cached, &second[..3]), (3, &first[..3]));
    assert_eq!(counts(&cache), (58, 6, 0));
    assert_eq!(run(&mut cache, &tenant, &[1, 2]), (2, first[..2].to_vec()));
    assert_eq!(cache.match_length(&tenant, &[1, 2, 3, 9, 8]), 4);
}

#[test]
fn pages_are_shared_whole_only() {
    let mut cache = RadixCache::new(70, 16);
    assert_eq!(cache.size(), 64, "slots that fill no page are left out");
    let tenant = namespace("a");
    let tokens: Vec<TokenId> = (0..40).collect();
    run(&mut cache, &tenant, &tokens);
    assert_eq!(counts(&cache), (32, 32, 0), "the last, partial page is not kept");
    let other: Vec<TokenId> = (0..30).chain([99; 10]).collect();
    let held = start(&mut cache, &tenant, &other);
    assert_eq!((held.cached, held.slots.len()), (16, 48));
    assert_eq!(held.slots[17], held.slots[16] + 1, "a page's slots are neighbours");
    assert_eq!(counts(&cache), (0, 16, 48));
    finish(&mut cache, held, &other);
    assert_eq!(counts(&cache), (16, 48, 0));
}

#[test]
fn what_was_computed_twice_is_kept_once() {
    let mut cache = RadixCache::new(64, 1);
    let tenant = namespace("a");
    let tokens = [1, 2, 3, 4, 5];
    let (mut first, mut second) = (start(&mut cache, &tenant, &tokens), start(&mut cache, &tenant, &tokens));
    assert_eq!(counts(&cache), (54, 0, 10));
    cache.insert(&mut first.lock, &tokens[..3], &mut first.slots);
    cache.insert(&mut second.lock, &tokens, &mut second.slots);
    assert_eq!(second.slots[..3], first.slots[..3]);
    cache.check(first.slots[3..].iter());
    assert_eq!(counts(&cache), (57, 0, 7));
    finish(&mut cache, first, &tokens);
    finish(&mut cache, second, &tokens);
    assert_eq!(counts(&cache), (59, 5, 0));
}

#[test]
fn nothing_is_shared_across_namespaces() {
    let mut cache = RadixCache::new(64, 1);
    run(&mut cache, &namespace("a"), &[1, 2, 3]);
    let salted = Namespace { salt: Arc::from("x"), ..namespace("a") };
    let adapted = Namespace { adapter: 1, ..namespace("a") };
    let other_model = Namespace { model: Arc::from("other"), ..namespace("a") };
    for other in [namespace("b"), salted, adapted, other_model] {
        assert_eq!(run(&mut cache, &other, &[1, 2, 3]).0, 0);
    }
}

#[test]
fn the_least_recently_used_goes_first_and_locked_slots_stay() {
    let mut cache = RadixCache::new(8, 1);
    let tenant = namespace("a");
    let (_, first) = run(&mut cache, &tenant, &[1, 1, 1]);
    run(&mut cache, &tenant, &[2, 2, 2]);
    let held = start(&mut cache, &tenant, &[1, 1, 1]);
    let mut slots = Vec::new();
    assert!(cache.reserve(&mut slots, 4));
    assert_eq!(cache.match_length(&tenant, &[2, 2, 2]), 1, "a leaf goes from its end, and no more of it than needed");
    assert!(!cache.reserve(&mut slots, 6), "the rest is locked");
    assert_eq!((slots.len(), held.slots.clone()), (4, first));
    assert_eq!(counts(&cache), (0, 1, 7));
    assert_eq!(cache.evicted(), 2);
}

#[test]
fn a_leased_path_goes_last_but_goes() {
    let mut cache = RadixCache::new(8, 1);
    let tenant = namespace("a");
    let mut held = start(&mut cache, &tenant, &[1, 2, 3]);
    cache.insert(&mut held.lock, &[1, 2, 3], &mut held.slots);
    let lease = cache.lease(&held.lock);
    cache.release(held.lock, &held.slots);
    run(&mut cache, &tenant, &[4, 5, 6]);
    let mut slots = Vec::new();
    assert!(cache.reserve(&mut slots, 5));
    assert_eq!(cache.match_length(&tenant, &[1, 2, 3]), 3);
    assert_eq!(cache.match_length(&tenant, &[4, 5, 6]), 0, "used later, but not leased");
    assert!(cache.reserve(&mut slots, 8));
    assert_eq!(cache.match_length(&tenant, &[1, 2, 3]), 0);
    cache.check(slots.iter());
    cache.end_lease(lease);
    let none = cache.acquire(&tenant, &[], &mut Vec::new());
    cache.release(none, &slots);
    assert_eq!(counts(&cache), (8, 0, 0));
    assert!(cache.is_empty(), "an empty tree is forgotten");
}

#[test]
fn a_longer_lease_covers_a_shorter_one() {
    let mut cache = RadixCache::new(64, 1);
    let tenant = namespace("a");
    let mut lease = |tokens: &[TokenId]| {
        let mut held = start(&mut cache, &tenant, tokens);
        cache.insert(&mut held.lock, tokens, &mut held.slots);
        let lease = cache.lease(&held.lock);
        cache.release(held.lock, &held.slots);
        lease
    };
    let (short, long, other) = (lease(&[1, 2]), lease(&[1, 2, 3]), lease(&[1, 9]));
    assert!(cache.covers(&long, &short) && !cache.covers(&short, &long));
    assert!(!cache.covers(&other, &short), "it only shares a part of the way");
    for lease in [short, long, other] {
        cache.end_lease(lease);
    }
    cache.check([].iter());
}

#[test]
fn a_published_prefix_is_shared_and_what_follows_it_is_not() {
    let mut cache = RadixCache::new(16, 1);
    let published = Namespace::published(Arc::from("model"));
    let mut held = start(&mut cache, &published, &[1, 2, 3, 4]);
    cache.insert(&mut held.lock, &[1, 2, 3, 4], &mut held.slots);
    let shared = held.slots.clone();
    cache.publish(held.lock, &held.slots);
    let (a, b) = (namespace("a"), namespace("b"));
    assert_eq!(cache.match_length(&a, &[1, 2, 3]), 0, "a published prefix is taken whole");
    let (cached, slots) = run(&mut cache, &a, &[1, 2, 3, 4, 5, 6]);
    assert_eq!((cached, &slots[..4]), (4, &shared[..]));
    assert_eq!(run(&mut cache, &a, &[1, 2, 3, 4, 5, 7]).0, 5);
    assert_eq!(cache.match_length(&b, &[1, 2, 3, 4, 5, 6]), 4, "b sees what is published and no more");
    assert_eq!(cache.match_length(&Namespace { adapter: 1, ..b.clone() }, &[1, 2, 3, 4]), 0);
    assert_eq!(run(&mut cache, &b, &[1, 2, 3, 4]).0, 4);
    let mut all = Vec::new();
    assert!(cache.reserve(&mut all, 12), "all but the published prefix can be evicted");
    assert_eq!(counts(&cache), (0, 0, 16));
    assert_eq!(cache.match_length(&b, &[1, 2, 3, 4, 5]), 4);
    cache.check(all.iter());
}

/// A device that notes of each slot what it was last filled with, as the engine's simulator does.
#[test]
fn random_sequences_never_see_a_slot_that_was_filled_with_something_else() {
    for (seed, page) in [(1, 1), (2, 1), (3, 4), (4, 16)] {
        let mut random = StdRng::seed_from_u64(seed);
        let mut cache = RadixCache::new(160, page);
        let mut filled: BTreeMap<Slot, (Namespace, Vec<TokenId>)> = BTreeMap::new();
        let mut held: Vec<(Namespace, Vec<TokenId>, Held)> = Vec::new();
        let mut leases = Vec::new();
        for _ in 0..4000 {
            let which = random.random_range(0..10);
            if which < 5 && held.len() < 6 {
                let namespace = namespace(["a", "b"][random.random_range(0..2)]);
                let length = random.random_range(1..40);
                let tokens: Vec<TokenId> = (0..length).map(|_| u32::from(random.random_bool(0.1))).collect();
                let mut slots = Vec::new();
                let expected = cache.match_length(&namespace, &tokens);
                let lock = cache.acquire(&namespace, &tokens, &mut slots);
                assert_eq!((slots.len(), lock.tokens()), (expected, expected));
                for (at, slot) in slots.iter().enumerate() {
                    assert_eq!(filled[slot], (namespace.clone(), tokens[..=at].to_vec()), "slot {slot}");
                }
                if cache.reserve(&mut slots, tokens.len()) {
                    for at in expected..tokens.len() {
                        filled.insert(slots[at], (namespace.clone(), tokens[..=at].to_vec()));
                    }
                    held.push((namespace, tokens, Held { lock, slots, cached: expected }));
                } else {
                    cache.release(lock, &slots);
                }
            } else if let Some((_, tokens, sequence)) = held.last_mut().filter(|_| which < 7) {
                let computed = random.random_range(sequence.lock.tokens()..=tokens.len());
                cache.insert(&mut sequence.lock, &tokens[..computed], &mut sequence.slots);
                leases.push(cache.lease(&sequence.lock));
            } else if which < 9 && !held.is_empty() {
                let (_, tokens, mut sequence) = held.swap_remove(random.random_range(0..held.len()));
                if random.random_bool(0.7) {
                    cache.insert(&mut sequence.lock, &tokens, &mut sequence.slots);
                }
                cache.release(sequence.lock, &sequence.slots);
            } else if !leases.is_empty() {
                cache.end_lease(leases.swap_remove(random.random_range(0..leases.len())));
            }
            cache.check(held.iter().flat_map(|(_, _, held)| &held.slots[held.lock.tokens()..]));
        }
        assert!(cache.evicted() > 0, "memory was tight");
    }
}
