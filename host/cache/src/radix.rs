//! The radix cache: a tree of token sequences for each namespace, whose nodes own the slots of their tokens.
//!
//! A sequence takes the longest prefix over that is there and holds the path to it with a [`Lock`]; slots it computes
//! itself are its own until it inserts them. Where two sequences computed the same tokens, the second gives its own
//! slots back. All lengths in the tree are whole pages. Eviction takes the least recently used leaf, from its end, and
//! as little of it as is asked for; leaves of running programs ([`Lease`]) come last.
//!
//! The operator's published prefixes are a tree of their own that is never evicted. A namespace's tree may hang below
//! the end of a published prefix as well as stand alone: so published slots are shared, and what follows them is not.

use std::collections::{BTreeSet, HashMap};

use sglhost_core::TokenId;
use slotmap::{SecondaryMap, SlotMap, new_key_type};

use crate::{Namespace, Owner, Slot, pages::FreePages};

new_key_type! {
    struct NodeId;
    struct LeaseId;
}

/// A hold on a path of the tree: none of it is evicted. Given back with [`RadixCache::release`].
#[derive(Debug)]
#[must_use = "a lock that is dropped is never released"]
pub struct Lock {
    node: NodeId,
    /// Tokens on the path.
    tokens: usize,
}

impl Lock {
    /// Tokens on the path; the slots after them are the sequence's own.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens
    }
}

/// A wish that a path be evicted last. Given back with [`RadixCache::end_lease`].
#[derive(Debug)]
#[must_use = "a lease that is dropped never ends"]
pub struct Lease(LeaseId);

/// A cached prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// Its length.
    pub tokens: usize,
    /// Of those, how many nobody holds: taking them over makes them unavailable to others.
    pub evictable: usize,
}

/// Where a namespace's tree begins: on its own, or below the end of a published prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Root {
    namespace: Namespace,
    below: Option<NodeId>,
}

#[derive(Debug, Default)]
struct Node {
    parent: Option<NodeId>,
    /// Set for the node that a tree begins with; it has no tokens.
    root: Option<Box<Root>>,
    /// The tokens between the parent's end and this node's.
    tokens: Vec<TokenId>,
    /// The slot of each of them.
    slots: Vec<Slot>,
    /// By their first page of tokens.
    children: HashMap<Box<[TokenId]>, NodeId>,
    /// Trees of other namespaces that hang here.
    branches: usize,
    /// Locks whose path goes through.
    locks: usize,
    /// Leases whose path goes through.
    leases: usize,
    /// Leases whose path ends here.
    leases_here: Vec<LeaseId>,
    /// The value of the counter when a path through it was last locked or released.
    used: u64,
    /// A published prefix ends here.
    published: bool,
}

/// A place in a tree: `in_edge` tokens into a node, `length` tokens from the beginning.
#[derive(Clone, Copy, Debug)]
struct Position {
    node: NodeId,
    in_edge: usize,
    length: usize,
}

/// All slots of one KV memory, and the token sequences that they hold.
#[derive(Debug)]
pub struct RadixCache {
    pages: FreePages,
    nodes: SlotMap<NodeId, Node>,
    roots: HashMap<Root, NodeId>,
    /// Where each lease's path ends.
    leases: SlotMap<LeaseId, NodeId>,
    /// Leaves that no lock holds, by (leased, last use): the first is evicted next.
    leaves: BTreeSet<(bool, u64, NodeId)>,
    evictable: usize,
    uses: u64,
    evicted: u64,
}

/// Length of the longest common prefix.
fn common(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl RadixCache {
    /// A cache over `slots` free slots in pages of `page_tokens`; slots that fill no page are left unused.
    ///
    /// # Panics
    /// If a page has no tokens, or a slot's number would not fit.
    #[must_use]
    pub fn new(slots: usize, page_tokens: usize) -> Self {
        Self {
            pages: FreePages::new(slots, page_tokens),
            nodes: SlotMap::with_key(),
            roots: HashMap::new(),
            leases: SlotMap::with_key(),
            leaves: BTreeSet::new(),
            evictable: 0,
            uses: 0,
            evicted: 0,
        }
    }

    /// Slots in all.
    #[must_use]
    pub fn size(&self) -> usize {
        self.pages.total_slots()
    }

    /// Slots nobody holds.
    #[must_use]
    pub fn free(&self) -> usize {
        self.pages.free_slots()
    }

    /// Slots that only the cache remembers: they can be had by evicting.
    #[must_use]
    pub fn evictable(&self) -> usize {
        self.evictable
    }

    /// Slots that a sequence or the operator holds.
    #[must_use]
    pub fn locked(&self) -> usize {
        self.size() - self.free() - self.evictable
    }

    /// Slots of published prefixes, which are held for good.
    #[must_use]
    pub fn published(&self) -> usize {
        let roots = self.roots.iter().filter(|(root, _)| root.namespace.owner == Owner::Operator);
        let mut below: Vec<NodeId> = roots.map(|(_, &node)| node).collect();
        let mut slots = 0;
        while let Some(id) = below.pop() {
            // What a publication left that was given up is evictable.
            slots += if self.nodes[id].locks > 0 { self.nodes[id].slots.len() } else { 0 };
            below.extend(self.nodes[id].children.values());
        }
        slots
    }

    /// Slots that can be had without taking anything from a sequence.
    #[must_use]
    pub fn available(&self) -> usize {
        self.free() + self.evictable
    }

    /// Tokens evicted so far.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Slots that a sequence with `held` slots still needs to hold `tokens` tokens.
    #[must_use]
    pub fn missing(&self, held: usize, tokens: usize) -> usize {
        tokens.next_multiple_of(self.pages.page_tokens()).saturating_sub(held)
    }

    /// `tokens` without those that fill no page.
    #[must_use]
    pub fn whole_pages(&self, tokens: usize) -> usize {
        tokens - tokens % self.pages.page_tokens()
    }

    /// How many of `tokens` [`RadixCache::acquire`] would take over. Changes nothing, recency included.
    #[must_use]
    pub fn match_length(&self, namespace: &Namespace, tokens: &[TokenId]) -> usize {
        self.find(namespace, tokens).1.map_or(0, |position| position.length)
    }

    /// What [`RadixCache::acquire`] would take over, and what of it is evictable now. Changes nothing.
    #[must_use]
    pub fn matched(&self, namespace: &Namespace, tokens: &[TokenId]) -> Match {
        let Some(position) = self.find(namespace, tokens).1 else { return Match::default() };
        let mut evictable = 0;
        let (mut next, mut taken) = (Some(position.node), position.in_edge);
        while let Some(id) = next {
            let node = &self.nodes[id];
            evictable += if node.locks == 0 { taken } else { 0 };
            next = node.parent;
            taken = next.map_or(0, |parent| self.nodes[parent].tokens.len());
        }
        Match { tokens: position.length, evictable }
    }

    /// Takes over the longest cached prefix of `tokens`, in whole pages: locks its path and puts its slots into
    /// `slots`, which is empty before.
    pub fn acquire(&mut self, namespace: &Namespace, tokens: &[TokenId], slots: &mut Vec<Slot>) -> Lock {
        debug_assert!(slots.is_empty(), "a sequence acquires before it computes");
        let (root, found) = self.find(namespace, tokens);
        let root = self.ensure_root(root);
        let (node, tokens) = match found {
            Some(position) if self.nodes[root].parent != Some(position.node) => {
                (self.split(position.node, position.in_edge), position.length)
            }
            // Nothing, or exactly a published prefix: what follows belongs below this namespace's own root.
            Some(position) => (root, position.length),
            None => (root, 0),
        };
        self.lock_path(node, None);
        let path: Vec<NodeId> = std::iter::successors(Some(node), |&node| self.nodes[node].parent).collect();
        for &node in path.iter().rev() {
            slots.extend_from_slice(&self.nodes[node].slots);
        }
        debug_assert_eq!(slots.len(), tokens, "a slot for each token of the path");
        Lock { node, tokens }
    }

    /// Grows `slots` until they hold `tokens` tokens, evicting what must go. Returns whether there was room; if not,
    /// nothing has changed.
    pub fn reserve(&mut self, slots: &mut Vec<Slot>, tokens: usize) -> bool {
        let missing = self.missing(slots.len(), tokens);
        if missing > self.available() {
            return false;
        }
        self.evict(missing);
        for _ in 0..missing / self.pages.page_tokens() {
            self.pages.take(slots);
        }
        true
    }

    /// Remembers `tokens`, which `slots` hold: the path of `lock` and what the sequence computed after it, of which
    /// whole pages are taken. The lock then holds all of it. Slots of tokens that were there already are given back,
    /// and `slots` names those that were there.
    ///
    /// # Panics
    /// If there is not a slot for each token.
    pub fn insert(&mut self, lock: &mut Lock, tokens: &[TokenId], slots: &mut [Slot]) {
        assert!(slots.len() >= tokens.len(), "a slot for each token");
        let page = self.pages.page_tokens();
        let end = tokens.len() / page * page;
        let (mut node, mut length) = (lock.node, lock.tokens);
        while length < end {
            let rest = &tokens[length..end];
            if let Some(&child) = self.nodes[node].children.get(&rest[..page]) {
                let shared = common(&self.nodes[child].tokens, rest) / page * page;
                node = self.split(child, shared);
                let duplicates = &mut slots[length..length + shared];
                self.pages.give_back(duplicates);
                duplicates.copy_from_slice(&self.nodes[node].slots);
                length += shared;
            } else {
                let leaf = self.nodes.insert(Node {
                    parent: Some(node),
                    tokens: rest.to_vec(),
                    slots: slots[length..end].to_vec(),
                    ..Node::default()
                });
                self.evictable += rest.len();
                self.nodes[node].children.insert(rest[..page].into(), leaf);
                (node, length) = (leaf, end);
            }
        }
        self.lock_path(node, Some(lock.node));
        *lock = Lock { node, tokens: length.max(lock.tokens) };
    }

    /// Gives back a lock and the sequence's own slots, which are those after the lock's tokens.
    pub fn release(&mut self, lock: Lock, slots: &[Slot]) {
        self.pages.give_back(&slots[lock.tokens..]);
        self.uses += 1;
        let mut next = Some(lock.node);
        while let Some(id) = next {
            let node = &mut self.nodes[id];
            node.locks -= 1;
            node.used = self.uses;
            next = node.parent;
            if node.locks == 0 {
                self.evictable += node.tokens.len();
                self.list(id);
                self.drop_empty_root(id);
            }
        }
    }

    /// Marks the path of `lock` as a published prefix and holds it for good.
    pub fn publish(&mut self, lock: Lock, slots: &[Slot]) {
        self.pages.give_back(&slots[lock.tokens..]);
        self.nodes[lock.node].published = true;
    }

    /// Asks that the path of `lock` be evicted last.
    pub fn lease(&mut self, lock: &Lock) -> Lease {
        let id = self.leases.insert(lock.node);
        self.nodes[lock.node].leases_here.push(id);
        // Nodes of a locked path are not listed, so no key changes.
        let mut next = Some(lock.node);
        while let Some(node) = next {
            self.nodes[node].leases += 1;
            next = self.nodes[node].parent;
        }
        Lease(id)
    }

    /// Whether the path of `longer` goes through the end of `shorter`, which then adds nothing.
    #[must_use]
    pub fn covers(&self, longer: &Lease, shorter: &Lease) -> bool {
        let end = self.leases[shorter.0];
        std::iter::successors(Some(self.leases[longer.0]), |&node| self.nodes[node].parent).any(|node| node == end)
    }

    /// Ends a lease.
    ///
    /// # Panics
    /// If it was made by another cache.
    pub fn end_lease(&mut self, lease: Lease) {
        let end = self.leases.remove(lease.0).expect("a lease ends once");
        self.nodes[end].leases_here.retain(|&id| id != lease.0);
        let mut next = Some(end);
        while let Some(id) = next {
            self.unlist(id);
            self.nodes[id].leases -= 1;
            next = self.nodes[id].parent;
            self.list(id);
            self.drop_empty_root(id);
        }
    }

    /// The root under which `tokens` match best, and how far.
    fn find(&self, namespace: &Namespace, tokens: &[TokenId]) -> (Root, Option<Position>) {
        let own = Root { namespace: namespace.clone(), below: None };
        let alone = self.roots.get(&own).map(|&root| self.walk(root, tokens, |_| {}));
        let Some(trunk) =
            namespace.readable().and_then(|published| self.roots.get(&Root { namespace: published, below: None }))
        else {
            return (own, alone);
        };
        let mut end = None;
        self.walk(*trunk, tokens, |position| {
            if self.nodes[position.node].published {
                end = Some(position);
            }
        });
        let Some(end) = end else { return (own, alone) };
        let branch = Root { namespace: namespace.clone(), below: Some(end.node) };
        let shared = self.roots.get(&branch).map_or(end, |&root| {
            let rest = self.walk(root, &tokens[end.length..], |_| {});
            if rest.length == 0 { end } else { Position { length: end.length + rest.length, ..rest } }
        });
        match alone {
            Some(alone) if alone.length > shared.length => (own, Some(alone)),
            _ => (branch, Some(shared)),
        }
    }

    /// Follows `tokens` down from `root` as far as they match; `visit` sees the end of each node that matches wholly.
    fn walk(&self, root: NodeId, tokens: &[TokenId], mut visit: impl FnMut(Position)) -> Position {
        let page = self.pages.page_tokens();
        let mut at = Position { node: root, in_edge: 0, length: 0 };
        loop {
            let rest = &tokens[at.length..];
            let child = rest.get(..page).and_then(|first| self.nodes[at.node].children.get(first));
            let Some(&child) = child else { return at };
            let edge = &self.nodes[child].tokens;
            let shared = common(edge, rest) / page * page;
            at = Position { node: child, in_edge: shared, length: at.length + shared };
            if shared < edge.len() {
                return at;
            }
            visit(at);
        }
    }

    fn ensure_root(&mut self, root: Root) -> NodeId {
        if let Some(&id) = self.roots.get(&root) {
            return id;
        }
        let below = root.below;
        let id = self.nodes.insert(Node { parent: below, root: Some(Box::new(root.clone())), ..Node::default() });
        if let Some(below) = below {
            // A published node is locked for good, so it is in no list.
            self.nodes[below].branches += 1;
        }
        self.roots.insert(root, id);
        id
    }

    /// Forgets a tree that has become empty, so that passing tenants leave nothing behind.
    fn drop_empty_root(&mut self, id: NodeId) {
        let node = &self.nodes[id];
        if node.root.is_none() || node.locks > 0 || node.leases > 0 || node.branches > 0 || !node.children.is_empty() {
            return;
        }
        let node = self.nodes.remove(id).expect("it was just there");
        if let Some(below) = node.parent {
            self.nodes[below].branches -= 1;
        }
        if let Some(root) = node.root {
            self.roots.remove(&root);
        }
    }

    /// Makes a node end `at` tokens into `id`, and returns it. `id` keeps the tokens after that, its locks and leases.
    fn split(&mut self, id: NodeId, at: usize) -> NodeId {
        let page = self.pages.page_tokens();
        let node = &mut self.nodes[id];
        if at == node.tokens.len() {
            return id;
        }
        let lower = (node.tokens.split_off(at), node.slots.split_off(at));
        let upper = (std::mem::replace(&mut node.tokens, lower.0), std::mem::replace(&mut node.slots, lower.1));
        let first_of_lower: Box<[TokenId]> = node.tokens[..page].into();
        let (parent, locks, leases, used) = (node.parent, node.locks, node.leases, node.used);
        let first_of_upper: Box<[TokenId]> = upper.0[..page].into();
        let new = self.nodes.insert(Node {
            parent,
            tokens: upper.0,
            slots: upper.1,
            children: HashMap::from([(first_of_lower, id)]),
            locks,
            leases,
            used,
            ..Node::default()
        });
        self.nodes[id].parent = Some(new);
        let parent = parent.expect("a node with tokens has a parent");
        self.nodes[parent].children.insert(first_of_upper, new);
        new
    }

    /// Locks the path from `node` up to `until`, which is left out.
    fn lock_path(&mut self, node: NodeId, until: Option<NodeId>) {
        self.uses += 1;
        let mut next = Some(node);
        while next != until {
            let id = next.expect("a path ends where the caller says");
            self.unlist(id);
            let node = &mut self.nodes[id];
            if node.locks == 0 {
                self.evictable -= node.tokens.len();
            }
            node.locks += 1;
            node.used = self.uses;
            next = node.parent;
        }
    }

    /// Puts a node among those that can be evicted, if it is one.
    fn list(&mut self, id: NodeId) {
        let node = &self.nodes[id];
        if node.root.is_none() && node.locks == 0 && node.branches == 0 && node.children.is_empty() {
            self.leaves.insert((node.leases > 0, node.used, id));
        }
    }

    fn unlist(&mut self, id: NodeId) {
        let node = &self.nodes[id];
        self.leaves.remove(&(node.leases > 0, node.used, id));
    }

    /// Evicts until `slots` are free; the caller has checked that as many are available.
    fn evict(&mut self, slots: usize) {
        while self.pages.free_slots() < slots {
            let missing = slots - self.pages.free_slots();
            let (.., id) = self.leaves.pop_first().expect("what is evictable ends in a leaf");
            let node = &mut self.nodes[id];
            debug_assert_eq!(node.locks, 0, "a locked node is never listed");
            let kept = node.tokens.len().saturating_sub(missing.next_multiple_of(self.pages.page_tokens()));
            let gone = node.slots.split_off(kept);
            self.pages.give_back(&gone);
            self.evictable -= gone.len();
            self.evicted += gone.len() as u64;
            if kept > 0 {
                node.tokens.truncate(kept);
                self.list(id);
                continue;
            }
            let node = self.nodes.remove(id).expect("it was just there");
            let parent = node.parent.expect("a node with tokens has a parent");
            self.nodes[parent].children.remove(&node.tokens[..self.pages.page_tokens()]);
            for lease in node.leases_here {
                self.leases[lease] = parent;
                self.nodes[parent].leases_here.push(lease);
            }
            self.list(parent);
            self.drop_empty_root(parent);
        }
    }

    /// Whether nothing is remembered at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Recounts everything; `own` are the slots that sequences hold outside the tree.
    ///
    /// # Panics
    /// If a slot is lost or held twice, or a count is wrong.
    pub fn check<'a>(&self, own: impl Iterator<Item = &'a Slot>) {
        let mut seen = vec![false; self.size()];
        let mut see = |slot: Slot, what: &str| {
            assert!(!std::mem::replace(&mut seen[slot as usize], true), "slot {slot} is held twice, {what}");
        };
        self.pages.iter().for_each(|slot| see(slot, "free"));
        own.for_each(|&slot| see(slot, "by a sequence"));
        // Locks and leases of all children.
        let mut below: SecondaryMap<NodeId, (usize, usize)> = SecondaryMap::new();
        for node in self.nodes.values() {
            if let Some(parent) = node.parent {
                let (locks, leases) = below.get(parent).copied().unwrap_or_default();
                below.insert(parent, (locks + node.locks, leases + node.leases));
            }
        }
        let (mut evictable, mut leaves) = (0, 0);
        for (id, node) in &self.nodes {
            node.slots.iter().for_each(|&slot| see(slot, "in the tree"));
            assert_eq!(node.tokens.len(), node.slots.len(), "a slot for each token");
            let (locks, leases) = below.get(id).copied().unwrap_or_default();
            assert!(locks <= node.locks, "a locked node's parent is locked as often");
            assert_eq!(leases + node.leases_here.len(), node.leases, "leases of a node");
            if node.locks == 0 {
                evictable += node.slots.len();
                if node.root.is_none() && node.children.is_empty() && node.branches == 0 {
                    leaves += 1;
                    assert!(self.leaves.contains(&(node.leases > 0, node.used, id)), "a leaf that is not listed");
                }
            }
        }
        assert_eq!(evictable, self.evictable, "evictable slots");
        assert_eq!(leaves, self.leaves.len(), "leaves that can be evicted");
        assert!(seen.iter().all(|&seen| seen), "a slot is lost");
    }
}
