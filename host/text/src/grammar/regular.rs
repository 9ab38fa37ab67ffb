//! Constraints that are regular languages: an automaton over bytes, and a memory of its states, masks and forced runs.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use regex_automata::nfa::thompson::NFA;
use sglhost_core::{Error, TokenId, TokenMask, limits};

use super::automaton::{Assertions, Automaton, DEAD, Id, StateSet, Table};
use crate::Tokenizer;

/// A regular language. Cheap to clone; clones share their memory of states and masks.
#[derive(Clone, Debug)]
pub(super) struct Regular {
    shared: Arc<Shared>,
}

impl fmt::Debug for Shared {
    /// Short: an automaton in full is megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Regular").finish_non_exhaustive()
    }
}

struct Shared {
    automaton: Automaton,
    tokenizer: Arc<Tokenizer>,
    memory: Mutex<Memory>,
    /// Who waits for the memory and must not wait for a mask.
    hurried: AtomicUsize,
    /// Bytes of the memory when a mask was last built, for those who must not wait for the next.
    remembered: AtomicUsize,
}

/// What was computed so far; forgetting any of it costs only time.
#[derive(Debug)]
struct Memory {
    table: Table,
    masks: HashMap<Id, Arc<TokenMask>>,
    /// States with a mask, oldest first.
    masked: VecDeque<Id>,
    /// Whether the vocabulary can spell the way from a state to a match; only asked where it may not.
    finishable: HashMap<Id, bool>,
    /// Nodes of the trie visited to find that out, ever.
    searched: u64,
    forced: HashMap<Id, Arc<Forced>>,
    /// The generation of the table that the four above belong to.
    generation: u64,
    limits: MemoryLimits,
}

/// How much may be remembered, and done at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryLimits {
    pub table_bytes: usize,
    pub mask_bytes: usize,
    pub mask_steps: u64,
}

impl Regular {
    /// The language of an automaton.
    ///
    /// # Errors
    /// A language of which the vocabulary can spell nothing.
    pub(super) fn new(nfa: NFA, tokenizer: &Arc<Tokenizer>) -> Result<Self, Error> {
        Self::within(nfa, tokenizer, Memory::DEFAULT)
    }

    /// With limits of its own, so that tests can have the memory forget at every step.
    pub(super) fn within(nfa: NFA, tokenizer: &Arc<Tokenizer>, limits: MemoryLimits) -> Result<Self, Error> {
        let automaton = Automaton::new(nfa, true, Assertions::Exact, tokenizer.trie().spells());
        let memory = Memory::new(&automaton, limits);
        let constraint = Self {
            shared: Arc::new(Shared {
                automaton,
                tokenizer: Arc::clone(tokenizer),
                memory: Mutex::new(memory),
                hurried: AtomicUsize::new(0),
                remembered: AtomicUsize::new(0),
            }),
        };
        let mut start = constraint.start();
        if start.mask().is_empty() {
            return Err(start.failure().cloned().unwrap_or_else(|| {
                Error::invalid("the constraint matches no text that the model's vocabulary can spell")
            }));
        }
        Ok(constraint)
    }

    /// Bytes that it takes before any output.
    pub(super) fn compiled_bytes(&self) -> usize {
        self.shared.automaton.bytes()
    }

    /// Bytes that it takes with what it has learnt of its states.
    pub(super) fn bytes(&self) -> usize {
        self.compiled_bytes() + self.shared.remembered.load(Ordering::Relaxed)
    }

    /// The state of an output before its first token.
    pub(super) fn start(&self) -> RegularState {
        RegularState { language: self.clone(), set: Arc::clone(self.shared.automaton.start()), id: None, failure: None }
    }
}

/// Where an output is within its language.
#[derive(Clone, Debug)]
pub(super) struct RegularState {
    language: Regular,
    set: Arc<StateSet>,
    /// The set's id and the generation of the table that gave it.
    id: Option<(Id, u64)>,
    failure: Option<Error>,
}

impl RegularState {
    /// Tokens that may come next; none only if building the mask took more steps than
    /// [`limits::CONSTRAINT_MASK_STEPS_MAX`], which [`RegularState::failure`] then says.
    pub(super) fn mask(&mut self) -> Arc<TokenMask> {
        let shared = Arc::clone(&self.language.shared);
        let mut memory = shared.lock();
        let id = self.enter(&mut memory);
        let (mask, memory) = shared.mask(memory, id);
        shared.remembered.store(memory.bytes(&shared.tokenizer), Ordering::Relaxed);
        self.note(&memory);
        mask.unwrap_or_else(|error| {
            self.failure = Some(error);
            Arc::new(TokenMask::none(shared.tokenizer.vocabulary()))
        })
    }

    /// The mask, if it was built before.
    pub(super) fn known_mask(&mut self) -> Option<Arc<TokenMask>> {
        let shared = Arc::clone(&self.language.shared);
        let mut memory = shared.lock_first();
        let id = self.enter(&mut memory);
        memory.masks.get(&id).cloned()
    }

    pub(super) fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Takes a token of text; false, and no change, if it is not allowed.
    pub(super) fn advance(&mut self, token: TokenId) -> bool {
        let shared = Arc::clone(&self.language.shared);
        self.take(shared.tokenizer.token_bytes(token), true)
    }

    #[cfg(test)]
    pub(super) fn advance_bytes(&mut self, bytes: &[u8]) -> bool {
        bytes.is_empty() || self.take(bytes, false)
    }

    pub(super) fn is_accepting(&self) -> bool {
        self.set.is_accepting()
    }

    pub(super) fn is_finished(&self) -> bool {
        self.set.is_accepting() && !self.set.can_go_on()
    }

    /// The bytes that must come next.
    pub(super) fn forced(&mut self) -> Arc<Forced> {
        let shared = Arc::clone(&self.language.shared);
        let mut memory = shared.lock_first();
        let id = self.enter(&mut memory);
        memory.forced(&shared.automaton, id)
    }

    fn take(&mut self, bytes: &[u8], as_token: bool) -> bool {
        if bytes.is_empty() {
            return false;
        }
        let shared = Arc::clone(&self.language.shared);
        let mut memory = shared.lock_first();
        let start = self.enter(&mut memory);
        let mut id = start;
        for &byte in bytes {
            id = memory.table.step(&shared.automaton, id, byte);
            if id == DEAD {
                return false;
            }
        }
        if as_token && !memory.can_finish(&shared, id) {
            return false;
        }
        self.set = Arc::clone(memory.table.set(id));
        self.id = Some((id, memory.table.generation()));
        true
    }

    /// This state's id in the table as it is now.
    fn enter(&mut self, memory: &mut Memory) -> Id {
        memory.make_room();
        let generation = memory.table.generation();
        match self.id {
            Some((id, of)) if of == generation => id,
            _ => {
                let id = memory.table.enter(&self.set);
                self.id = Some((id, generation));
                id
            }
        }
    }

    /// Forgets the id if the table was cleared meanwhile.
    fn note(&mut self, memory: &Memory) {
        if self.id.is_some_and(|(_, of)| of != memory.table.generation()) {
            self.id = None;
        }
    }
}

impl Shared {
    /// The memory is a cache: after a panic elsewhere it is still right or is rebuilt.
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Shared::lock`], before masks that are being built: for what takes a moment, and others wait for.
    fn lock_first(&self) -> MutexGuard<'_, Memory> {
        self.hurried.fetch_add(1, Ordering::Relaxed);
        let memory = self.lock();
        self.hurried.fetch_sub(1, Ordering::Relaxed);
        memory
    }

    /// Lets those have the memory who are in a hurry, and takes it again. The states of `path` are what they were, under
    /// new ids if the table was cleared meanwhile.
    fn hand_over<'a>(&'a self, memory: MutexGuard<'a, Memory>, path: &mut [Id]) -> MutexGuard<'a, Memory> {
        let sets: Vec<Arc<StateSet>> = path.iter().map(|&id| Arc::clone(memory.table.set(id))).collect();
        drop(memory);
        while self.hurried.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        let mut memory = self.lock();
        memory.follow();
        for (id, set) in path.iter_mut().zip(&sets) {
            *id = memory.table.enter(set);
        }
        memory
    }

    /// The mask of a state, remembered or built.
    fn mask<'a>(
        &'a self,
        memory: MutexGuard<'a, Memory>,
        id: Id,
    ) -> (Result<Arc<TokenMask>, Error>, MutexGuard<'a, Memory>) {
        if let Some(mask) = memory.masks.get(&id) {
            return (Ok(Arc::clone(mask)), memory);
        }
        let (built, mut memory) = self.build_mask(memory, id);
        let remembered = built.map(|(mask, id)| memory.remember(id, mask));
        (remembered, memory)
    }

    /// Walks the trie and the automaton side by side. Gives the state's id too, which is a new one if the table had to
    /// be cleared on the way.
    fn build_mask<'a>(
        &'a self,
        mut memory: MutexGuard<'a, Memory>,
        id: Id,
    ) -> (Result<(TokenMask, Id), Error>, MutexGuard<'a, Memory>) {
        let trie = self.tokenizer.trie();
        let vocabulary = self.tokenizer.vocabulary();
        // One word more, for nodes that no token ends at: most of the time goes into branches that cannot be foretold,
        // and this one need not be taken.
        let nowhere = vocabulary.div_ceil(32);
        let mut words = vec![0_u32; nowhere + 1];
        let mut allow = |token: TokenId| words[(token as usize / 32).min(nowhere)] |= 1 << (token % 32);
        // The states before each byte of the way to a node.
        let mut path = vec![DEAD; trie.depth() + 1];
        path[0] = id;
        let (mut index, mut work) = (0, 0);
        while let Some(node) = trie.node(index) {
            let depth = usize::from(node.depth);
            if self.hurried.load(Ordering::Relaxed) > 0 {
                memory = self.hand_over(memory, &mut path[..depth]);
            }
            if memory.table.is_full() {
                memory.table.clear_keeping(&mut path[..depth]);
                memory.follow();
            }
            if work > memory.limits.mask_steps {
                let error = Error::limit(format!(
                    "the constraint is too ambiguous: one mask takes more than {} steps; avoid overlapping repetitions",
                    memory.limits.mask_steps
                ));
                return (Err(error), memory);
            }
            let before = memory.table.work() + memory.searched;
            let next = memory.table.step(&self.automaton, path[depth - 1], node.byte);
            if next == DEAD {
                work += memory.table.work() + memory.searched - before;
                index = node.skip as usize;
                continue;
            }
            path[depth] = next;
            if memory.table.set(next).is_spellable() || memory.can_finish(self, next) {
                allow(node.token);
                if node.several {
                    trie.tokens(index).iter().copied().for_each(&mut allow);
                }
            }
            work += memory.table.work() + memory.searched - before;
            index += 1;
        }
        let mut mask = TokenMask::from_words(&words, vocabulary);
        if memory.table.set(path[0]).is_accepting() {
            self.tokenizer.end_of_text().iter().for_each(|&token| mask.allow(token));
        }
        (Ok((mask, path[0])), memory)
    }
}

impl Memory {
    const DEFAULT: MemoryLimits = MemoryLimits {
        table_bytes: limits::CONSTRAINT_BYTES_MAX,
        mask_bytes: limits::CONSTRAINT_MASK_BYTES_MAX,
        mask_steps: limits::CONSTRAINT_MASK_STEPS_MAX,
    };

    fn new(automaton: &Automaton, limits: MemoryLimits) -> Self {
        let table = Table::new(automaton, limits.table_bytes);
        let generation = table.generation();
        Self {
            table,
            masks: HashMap::new(),
            masked: VecDeque::new(),
            finishable: HashMap::new(),
            searched: 0,
            forced: HashMap::new(),
            generation,
            limits,
        }
    }

    /// Bytes of all that is remembered, forced runs aside, which are few and mostly short.
    fn bytes(&self, tokenizer: &Tokenizer) -> usize {
        let words = tokenizer.vocabulary().div_ceil(u32::BITS as usize);
        self.table.bytes() + self.masks.len() * (words * size_of::<u32>() + MASK_OVERHEAD_BYTES)
    }

    /// Clears the table if it is past its limit; no id outlives this.
    fn make_room(&mut self) {
        if self.table.is_full() {
            self.table.clear_keeping(&mut []);
        }
        self.follow();
    }

    /// Forgets what belongs to an earlier generation of the table.
    fn follow(&mut self) {
        if self.generation != self.table.generation() {
            self.generation = self.table.generation();
            self.masks.clear();
            self.masked.clear();
            self.finishable.clear();
            self.forced.clear();
        }
    }

    /// Keeps a mask, at the expense of the oldest.
    fn remember(&mut self, id: Id, mask: TokenMask) -> Arc<TokenMask> {
        let mask = Arc::new(mask);
        let each = size_of_val(mask.words()) + MASK_OVERHEAD_BYTES;
        while (self.masked.len() + 1) * each > self.limits.mask_bytes {
            let Some(oldest) = self.masked.pop_front() else { break };
            self.masks.remove(&oldest);
        }
        if self.masks.insert(id, Arc::clone(&mask)).is_none() {
            self.masked.push_back(id);
        }
        mask
    }

    /// Follows a state as long as there is one byte that leads on, and no match to end at.
    fn forced(&mut self, automaton: &Automaton, id: Id) -> Arc<Forced> {
        if let Some(known) = self.forced.get(&id) {
            return Arc::clone(known);
        }
        let (mut bytes, mut at) = (Vec::new(), id);
        // Few states are asked for what follows, and a cycle without a match would be a language without one.
        while bytes.len() < limits::FORCED_BYTES_MAX && !self.table.is_full() && !self.table.set(at).is_accepting() {
            let mut ways = (0..=u8::MAX).map(|byte| (byte, self.table.step(automaton, at, byte)));
            let mut ways = ways.by_ref().filter(|&(_, next)| next != DEAD);
            let (Some((byte, next)), None) = (ways.next(), ways.next()) else { break };
            bytes.push(byte);
            at = next;
        }
        let mut next = [false; 256];
        if !bytes.is_empty() {
            (0..=u8::MAX).for_each(|byte| next[usize::from(byte)] = self.table.step(automaton, at, byte) != DEAD);
        }
        let forced = Arc::new(Forced { bytes, next });
        if self.forced.len() < FORCED_RUNS_MAX {
            self.forced.insert(id, Arc::clone(&forced));
        }
        forced
    }

    /// Whether the vocabulary can spell the way from a state to a match. The automaton knows that there is a way; a
    /// vocabulary in which some bytes are no token of their own may not be able to take it.
    fn can_finish(&mut self, shared: &Shared, id: Id) -> bool {
        if self.table.set(id).is_spellable() {
            return true;
        }
        if let Some(&known) = self.finishable.get(&id) {
            return known;
        }
        let known = self.search(shared, id);
        self.finishable.insert(id, known);
        known
    }

    /// Looks for a match over whole tokens, depth first. Gives up, and says no, after [`SEARCH_STEPS_MAX`] nodes of the
    /// trie. What it says depends on the state alone, not on what is remembered: a mask and the token taken under it agree.
    fn search(&mut self, shared: &Shared, id: Id) -> bool {
        let trie = shared.tokenizer.trie();
        let mut seen = HashSet::from([id]);
        let mut stack = vec![id];
        let mut steps = 0;
        while let Some(from) = stack.pop() {
            let mut path = vec![from];
            let mut index = 0;
            while let Some(node) = trie.node(index) {
                steps += 1;
                self.searched += 1;
                if steps > SEARCH_STEPS_MAX {
                    return false;
                }
                path.truncate(usize::from(node.depth));
                let next = self.table.step(&shared.automaton, path[path.len() - 1], node.byte);
                if next == DEAD {
                    index = node.skip as usize;
                    continue;
                }
                if !trie.tokens(index).is_empty() {
                    if self.table.set(next).is_spellable() {
                        return true;
                    }
                    if seen.insert(next) {
                        stack.push(next);
                    }
                }
                path.push(next);
                index += 1;
            }
        }
        false
    }
}

/// Bytes that must come next, and which may follow them: none if the output then ends.
#[derive(Debug)]
pub(super) struct Forced {
    pub(super) bytes: Vec<u8>,
    pub(super) next: [bool; 256],
}

/// Forced runs that are remembered; a run is as long as a literal in a pattern.
const FORCED_RUNS_MAX: usize = 1024;
/// A mask's own fields and its entries in the map and the queue.
const MASK_OVERHEAD_BYTES: usize = 128;
/// Nodes of the trie visited, some 3 ms, in search of a match that the vocabulary can spell with longer tokens only. Real
/// vocabularies lack a few bytes, of control characters and of planes that are hardly used, and search near those alone.
const SEARCH_STEPS_MAX: u64 = 200_000;
