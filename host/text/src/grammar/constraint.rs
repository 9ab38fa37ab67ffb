//! A compiled constraint and the state of one output under it.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use regex_automata::nfa::thompson::NFA;
use sglhost_core::{Error, TokenId, TokenMask, limits};

use super::{
    automaton::{Assertions, Automaton, DEAD, Id, StateSet, Table},
    pattern,
};
use crate::Tokenizer;

/// What an output must match. Cheap to clone; clones share their memory of states and masks.
#[derive(Clone, Debug)]
pub struct Constraint {
    shared: Arc<Shared>,
}

impl fmt::Debug for Shared {
    /// Short: an automaton in full is megabytes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Constraint").finish_non_exhaustive()
    }
}

struct Shared {
    automaton: Automaton,
    tokenizer: Arc<Tokenizer>,
    memory: Mutex<Memory>,
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
    /// The generation of the table that the three above belong to.
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

impl Constraint {
    /// The whole output must match `pattern`, in the syntax of Rust's `regex` crate: classes are Unicode's, `.` is any
    /// character but a newline. Look-around, back-references, word boundaries and multi-line anchors are not supported.
    ///
    /// # Errors
    /// [`sglhost_core::ErrorCode::Invalid`] with the place for a pattern that is wrong or matches nothing that the
    /// vocabulary can spell; [`sglhost_core::ErrorCode::LimitExceeded`] for one that is too large.
    pub fn regex(pattern: &str, tokenizer: &Arc<Tokenizer>) -> Result<Self, Error> {
        Self::new(pattern::regex(pattern)?, tokenizer)
    }

    /// The whole output must be one of `choices`.
    ///
    /// # Errors
    /// No choice, or too many or too long ones.
    pub fn choices(choices: &[String], tokenizer: &Arc<Tokenizer>) -> Result<Self, Error> {
        Self::new(pattern::choices(choices)?, tokenizer)
    }

    fn new(nfa: NFA, tokenizer: &Arc<Tokenizer>) -> Result<Self, Error> {
        Self::within(nfa, tokenizer, Memory::DEFAULT)
    }

    /// With limits of its own, so that tests can have the memory forget at every step.
    pub(super) fn within(nfa: NFA, tokenizer: &Arc<Tokenizer>, limits: MemoryLimits) -> Result<Self, Error> {
        let automaton = Automaton::new(nfa, true, Assertions::Exact, tokenizer.trie().spells());
        let memory = Memory::new(&automaton, limits);
        let constraint = Self {
            shared: Arc::new(Shared { automaton, tokenizer: Arc::clone(tokenizer), memory: Mutex::new(memory) }),
        };
        let mut start = constraint.start();
        if start.mask().is_empty() {
            return Err(start.failure().cloned().unwrap_or_else(|| {
                Error::invalid("the constraint matches no text that the model's vocabulary can spell")
            }));
        }
        Ok(constraint)
    }

    /// The state of an output before its first token.
    #[must_use]
    pub fn start(&self) -> ConstraintState {
        ConstraintState {
            constraint: self.clone(),
            set: Arc::clone(self.shared.automaton.start()),
            id: None,
            failure: None,
        }
    }
}

/// Where an output is within its constraint's language. A clone goes its own way: a fork, or a rollback.
#[derive(Clone, Debug)]
pub struct ConstraintState {
    constraint: Constraint,
    set: Arc<StateSet>,
    /// The set's id and the generation of the table that gave it.
    id: Option<(Id, u64)>,
    failure: Option<Error>,
}

impl ConstraintState {
    /// Tokens that may come next. End-of-text is among them exactly if the output so far is a match.
    ///
    /// Empty only if building the mask took more steps than [`limits::CONSTRAINT_MASK_STEPS_MAX`]; then
    /// [`ConstraintState::failure`] says so, and the call must end with that error.
    pub fn mask(&mut self) -> Arc<TokenMask> {
        let shared = Arc::clone(&self.constraint.shared);
        let mut memory = shared.lock();
        let id = self.enter(&mut memory);
        let mask = memory.mask(&shared, id);
        self.note(&memory);
        mask.unwrap_or_else(|error| {
            self.failure = Some(error);
            Arc::new(TokenMask::none(shared.tokenizer.vocabulary()))
        })
    }

    /// Why the last mask could not be built.
    #[must_use]
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// Takes a token; false, and no change, if it is not allowed. End-of-text is allowed where the output is a match,
    /// and changes nothing.
    pub fn advance(&mut self, token: TokenId) -> bool {
        let shared = Arc::clone(&self.constraint.shared);
        if shared.tokenizer.end_of_text().contains(&token) {
            return self.set.is_accepting();
        }
        !shared.tokenizer.is_special(token) && self.take(shared.tokenizer.token_bytes(token), true)
    }

    /// Takes text that was not sampled; false, and no change, if it leaves the language.
    pub fn advance_bytes(&mut self, bytes: &[u8]) -> bool {
        bytes.is_empty() || self.take(bytes, false)
    }

    /// Whether the output so far is a match.
    pub fn is_accepting(&mut self) -> bool {
        self.set.is_accepting()
    }

    /// Whether the output so far is a match and nothing can follow.
    pub fn is_finished(&mut self) -> bool {
        self.set.is_accepting() && !self.set.can_go_on()
    }

    fn take(&mut self, bytes: &[u8], as_token: bool) -> bool {
        if bytes.is_empty() {
            return false;
        }
        let shared = Arc::clone(&self.constraint.shared);
        let mut memory = shared.lock();
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
        Self { table, masks: HashMap::new(), masked: VecDeque::new(), finishable: HashMap::new(), generation, limits }
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
        }
    }

    fn mask(&mut self, shared: &Shared, id: Id) -> Result<Arc<TokenMask>, Error> {
        if let Some(mask) = self.masks.get(&id) {
            return Ok(Arc::clone(mask));
        }
        let (mask, id) = self.build_mask(shared, id)?;
        let mask = Arc::new(mask);
        let each = size_of_val(mask.words()) + MASK_OVERHEAD_BYTES;
        while (self.masked.len() + 1) * each > self.limits.mask_bytes {
            let Some(oldest) = self.masked.pop_front() else { break };
            self.masks.remove(&oldest);
        }
        self.masks.insert(id, Arc::clone(&mask));
        self.masked.push_back(id);
        Ok(mask)
    }

    /// Walks the trie and the automaton side by side. Gives the state's id too, which is a new one if the table had to
    /// be cleared on the way.
    fn build_mask(&mut self, shared: &Shared, id: Id) -> Result<(TokenMask, Id), Error> {
        let trie = shared.tokenizer.trie();
        let work_max = self.table.work().saturating_add(self.limits.mask_steps);
        let mut mask = TokenMask::none(shared.tokenizer.vocabulary());
        let mut path = vec![id];
        let mut index = 0;
        while let Some(node) = trie.node(index) {
            path.truncate(usize::from(node.depth));
            if self.table.is_full() {
                self.table.clear_keeping(&mut path);
                self.follow();
            }
            if self.table.work() > work_max {
                return Err(Error::limit(format!(
                    "the constraint is too ambiguous: one mask takes more than {} steps; avoid overlapping repetitions",
                    self.limits.mask_steps
                )));
            }
            let next = self.table.step(&shared.automaton, path[path.len() - 1], node.byte);
            if next == DEAD {
                index = node.skip as usize;
                continue;
            }
            let tokens = trie.tokens(index);
            if !tokens.is_empty() && self.can_finish(shared, next) {
                tokens.iter().for_each(|&token| mask.allow(token));
            }
            path.push(next);
            index += 1;
        }
        if self.table.set(path[0]).is_accepting() {
            shared.tokenizer.end_of_text().iter().for_each(|&token| mask.allow(token));
        }
        Ok((mask, path[0]))
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

    /// Looks for a match over whole tokens, depth first. Gives up, and says no, after [`SEARCH_STATES_MAX`] states.
    fn search(&mut self, shared: &Shared, id: Id) -> bool {
        let trie = shared.tokenizer.trie();
        let mut seen = vec![id];
        let mut stack = vec![id];
        while let Some(from) = stack.pop() {
            let mut path = vec![from];
            let mut index = 0;
            while let Some(node) = trie.node(index) {
                path.truncate(usize::from(node.depth));
                let next = self.table.step(&shared.automaton, path[path.len() - 1], node.byte);
                if next == DEAD {
                    index = node.skip as usize;
                    continue;
                }
                if !trie.tokens(index).is_empty() {
                    if self.table.set(next).is_spellable() || self.finishable.get(&next) == Some(&true) {
                        return true;
                    }
                    if !seen.contains(&next) {
                        if seen.len() >= SEARCH_STATES_MAX {
                            return false;
                        }
                        seen.push(next);
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

/// A mask's own fields and its entries in the map and the queue.
const MASK_OVERHEAD_BYTES: usize = 128;
/// States visited in search of a match that the vocabulary can spell with longer tokens only; real vocabularies have a
/// token for nearly every byte and do not search.
const SEARCH_STATES_MAX: usize = 4096;
