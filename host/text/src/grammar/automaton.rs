//! A regular language as a deterministic automaton over bytes, built as far as it is walked.
//!
//! The nondeterministic automaton is `regex-automata`'s; the subset construction is ours. Its own lazy DFA sees a match
//! one byte late and hands out state ids that die when its cache is cleared. Here a state *is* the set of NFA states it
//! stands for ([`StateSet`], shared and immutable): ids only make steps fast, and may be forgotten at any time.
//!
//! *Invariants*: a set holds only NFA states from which a match can be reached, so a set that is not [`DEAD`] never
//! leads into a dead end; the set says whether the bytes so far are a match, and all matches are seen, the longer ones
//! too (there is no priority between alternatives).

use std::{collections::HashMap, sync::Arc};

use regex_automata::{
    nfa::thompson::{NFA, State, Transition},
    util::{alphabet::ByteClasses, look::Look, primitives::StateID},
};

/// What assertions in the pattern mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assertions {
    /// `\A` and `\z` are obeyed. No other may occur.
    Exact,
    /// Each holds everywhere: the automaton matches at least where the pattern does.
    Assumed,
}

/// The NFA with what is known of it before any byte.
#[derive(Debug)]
pub(crate) struct Automaton {
    nfa: NFA,
    assertions: Assertions,
    classes: ByteClasses,
    /// Whether a match can be reached from a state, after the first byte.
    live: Vec<bool>,
    /// The same, when only bytes are read that are tokens of their own.
    spellable: Vec<bool>,
    start: Arc<StateSet>,
}

/// The NFA states an input may be in: those that read a byte, in increasing order.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct StateSet {
    accepting: bool,
    /// Whether a match is here or can be reached byte by byte, whatever longer tokens there are.
    spellable: bool,
    states: Box<[StateID]>,
}

impl StateSet {
    fn dead() -> Self {
        Self { accepting: false, spellable: false, states: Box::default() }
    }

    /// Whether the bytes so far are a match.
    pub(crate) fn is_accepting(&self) -> bool {
        self.accepting
    }

    /// Whether a match is here or can be reached by tokens of one byte.
    pub(crate) fn is_spellable(&self) -> bool {
        self.spellable
    }

    /// Whether more bytes can lead to a match.
    pub(crate) fn can_go_on(&self) -> bool {
        !self.states.is_empty()
    }
}

/// A state's place in a [`Table`]; dies when the table is cleared.
pub(crate) type Id = u32;

/// No match can be reached any more.
pub(crate) const DEAD: Id = 0;
/// A step that was not taken yet.
const UNKNOWN: Id = Id::MAX;

impl Automaton {
    /// Prepares the walk from the NFA's anchored (or unanchored) start. `spells` tells which bytes are tokens of their
    /// own.
    pub(crate) fn new(nfa: NFA, anchored: bool, assertions: Assertions, spells: &[bool; 256]) -> Self {
        let start = if anchored { nfa.start_anchored() } else { nfa.start_unanchored() };
        let mut automaton = Self {
            classes: *nfa.byte_classes(),
            live: live_states(&nfa, assertions, &[true; 256]),
            spellable: live_states(&nfa, assertions, spells),
            assertions,
            start: Arc::new(StateSet::dead()),
            nfa,
        };
        automaton.start = Arc::new(Closure::new(&automaton).of(&automaton, [start], true));
        automaton
    }

    /// The state before any byte.
    pub(crate) fn start(&self) -> &Arc<StateSet> {
        &self.start
    }

    /// Bytes that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.nfa.memory_usage() + self.live.len() + self.spellable.len()
    }

    /// The NFA states reached from `set` by `byte`.
    fn targets<'a>(&'a self, set: &'a StateSet, byte: u8) -> impl Iterator<Item = StateID> + 'a {
        set.states.iter().filter_map(move |&id| match self.nfa.state(id) {
            State::ByteRange { trans } => trans.matches_byte(byte).then_some(trans.next),
            State::Sparse(transitions) => transitions.matches_byte(byte),
            State::Dense(transitions) => transitions.matches_byte(byte),
            _ => None,
        })
    }
}

/// Which states can reach a match over bytes in `allowed`, counting neither what needs the start of the input nor bytes
/// after its end.
fn live_states(nfa: &NFA, assertions: Assertions, allowed: &[bool; 256]) -> Vec<bool> {
    let reads = |trans: &Transition| (trans.start..=trans.end).any(|byte| allowed[usize::from(byte)]);
    let count = nfa.states().len();
    // Two passes over reversed edges: first what reaches a match without a byte, where `\z` holds; then everything,
    // where beyond `\z` only the first pass counts.
    let mut at_end: Vec<Vec<StateID>> = vec![Vec::new(); count];
    let mut inside: Vec<Vec<StateID>> = vec![Vec::new(); count];
    let mut beyond_end = Vec::new();
    for (index, state) in nfa.states().iter().enumerate() {
        let from = StateID::must(index);
        let mut epsilon = |next: StateID| {
            at_end[next.as_usize()].push(from);
            inside[next.as_usize()].push(from);
        };
        match state {
            State::ByteRange { trans } if reads(trans) => inside[trans.next.as_usize()].push(from),
            State::ByteRange { .. } => {}
            State::Sparse(sparse) => {
                let read = sparse.transitions.iter().filter(|trans| reads(trans));
                read.for_each(|trans| inside[trans.next.as_usize()].push(from));
            }
            State::Dense(dense) => {
                let read = dense.transitions.iter().zip(allowed).filter(|(_, allowed)| **allowed);
                read.for_each(|(next, _)| inside[next.as_usize()].push(from));
            }
            State::Look { next, .. } if assertions == Assertions::Assumed => epsilon(*next),
            State::Look { look: Look::End, next } => {
                at_end[next.as_usize()].push(from);
                beyond_end.push((from, *next));
            }
            State::Look { .. } | State::Fail | State::Match { .. } => {}
            State::Union { alternates } => alternates.iter().copied().for_each(epsilon),
            State::BinaryUnion { alt1, alt2 } => [*alt1, *alt2].into_iter().for_each(epsilon),
            State::Capture { next, .. } => epsilon(*next),
        }
    }
    let matches: Vec<StateID> =
        (0..count).map(StateID::must).filter(|&id| matches!(nfa.state(id), State::Match { .. })).collect();
    let reach = |edges: &[Vec<StateID>], mut stack: Vec<StateID>| {
        let mut reached = vec![false; count];
        while let Some(id) = stack.pop() {
            if !std::mem::replace(&mut reached[id.as_usize()], true) {
                stack.extend(&edges[id.as_usize()]);
            }
        }
        reached
    };
    let ends = reach(&at_end, matches.clone());
    let crossings = beyond_end.into_iter().filter(|(_, next)| ends[next.as_usize()]).map(|(from, _)| from);
    reach(&inside, matches.into_iter().chain(crossings).collect())
}

/// Scratch for following edges that read no byte.
#[derive(Debug)]
struct Closure {
    /// Visited inside the input, and beyond its end; holds the number of the visit.
    seen: [Vec<u32>; 2],
    visit: u32,
    stack: Vec<(StateID, bool)>,
    states: Vec<StateID>,
}

impl Closure {
    fn new(automaton: &Automaton) -> Self {
        let count = automaton.nfa.states().len();
        Self { seen: [vec![0; count], vec![0; count]], visit: 0, stack: Vec::new(), states: Vec::new() }
    }

    /// The set that `from` stands for.
    fn of(&mut self, automaton: &Automaton, from: impl IntoIterator<Item = StateID>, at_start: bool) -> StateSet {
        if self.visit == u32::MAX {
            self.seen.iter_mut().for_each(|seen| seen.fill(0));
            self.visit = 0;
        }
        self.visit += 1;
        self.states.clear();
        self.stack.extend(from.into_iter().map(|id| (id, false)));
        let mut accepting = false;
        while let Some((id, ended)) = self.stack.pop() {
            let seen = &mut self.seen[usize::from(ended)][id.as_usize()];
            if std::mem::replace(seen, self.visit) == self.visit {
                continue;
            }
            match automaton.nfa.state(id) {
                State::ByteRange { .. } | State::Sparse(_) | State::Dense(_) => {
                    if !ended && automaton.live[id.as_usize()] {
                        self.states.push(id);
                    }
                }
                State::Match { .. } => accepting = true,
                State::Fail => {}
                State::Union { alternates } => self.stack.extend(alternates.iter().map(|&next| (next, ended))),
                State::BinaryUnion { alt1, alt2 } => self.stack.extend([(*alt1, ended), (*alt2, ended)]),
                State::Capture { next, .. } => self.stack.push((*next, ended)),
                State::Look { next, .. } if automaton.assertions == Assertions::Assumed => {
                    self.stack.push((*next, ended));
                }
                State::Look { look: Look::End, next } => self.stack.push((*next, true)),
                State::Look { look: Look::Start, next } if at_start => self.stack.push((*next, ended)),
                State::Look { .. } => {}
            }
        }
        self.states.sort_unstable();
        let spellable = accepting || self.states.iter().any(|id| automaton.spellable[id.as_usize()]);
        StateSet { accepting, spellable, states: self.states.as_slice().into() }
    }
}

/// States met so far and the steps between them. Bounded: past its limit it is cleared, and what is still needed is
/// entered again.
#[derive(Debug)]
pub(crate) struct Table {
    sets: Vec<Arc<StateSet>>,
    ids: HashMap<Arc<StateSet>, Id>,
    /// `[state, byte class]`
    steps: Vec<Id>,
    stride: usize,
    bytes: usize,
    bytes_max: usize,
    generation: u64,
    closure: Closure,
    work: u64,
}

impl Table {
    /// An empty table of at most about `bytes_max` bytes.
    pub(crate) fn new(automaton: &Automaton, bytes_max: usize) -> Self {
        let mut table = Self {
            sets: Vec::new(),
            ids: HashMap::new(),
            steps: Vec::new(),
            stride: automaton.classes.alphabet_len(),
            bytes: 0,
            bytes_max,
            generation: 0,
            closure: Closure::new(automaton),
            work: 0,
        };
        table.clear();
        table
    }

    /// Counts how often the table was cleared: ids of another generation mean nothing.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// NFA states looked at so far: what the table cost.
    pub(crate) fn work(&self) -> u64 {
        self.work
    }

    /// Whether the table is past its limit; the owner clears it when that suits.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > self.bytes_max
    }

    /// Bytes of the states and the steps.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Forgets everything but the states of `path`, whose ids are renewed.
    pub(crate) fn clear_keeping(&mut self, path: &mut [Id]) {
        let sets: Vec<Arc<StateSet>> = path.iter().map(|&id| Arc::clone(&self.sets[id as usize])).collect();
        self.clear();
        for (id, set) in path.iter_mut().zip(&sets) {
            *id = self.enter(set);
        }
    }

    fn clear(&mut self) {
        self.sets.clear();
        self.ids.clear();
        self.steps.clear();
        self.bytes = 0;
        self.generation += 1;
        let dead = self.enter(&Arc::new(StateSet::dead()));
        debug_assert_eq!(dead, DEAD);
    }

    /// The id of a set.
    pub(crate) fn enter(&mut self, set: &Arc<StateSet>) -> Id {
        if let Some(&id) = self.ids.get(set) {
            return id;
        }
        let id = self.sets.len() as Id;
        self.sets.push(Arc::clone(set));
        self.ids.insert(Arc::clone(set), id);
        self.steps.resize(self.steps.len() + self.stride, UNKNOWN);
        self.bytes += STATE_OVERHEAD_BYTES + size_of_val(&*set.states) + self.stride * size_of::<Id>();
        id
    }

    /// The set of an id of this generation.
    pub(crate) fn set(&self, id: Id) -> &Arc<StateSet> {
        &self.sets[id as usize]
    }

    /// The state after one more byte.
    pub(crate) fn step(&mut self, automaton: &Automaton, id: Id, byte: u8) -> Id {
        let step = id as usize * self.stride + usize::from(automaton.classes.get(byte));
        if self.steps[step] == UNKNOWN {
            let set = Arc::clone(&self.sets[id as usize]);
            let next = self.closure.of(automaton, automaton.targets(&set, byte), false);
            self.work += (set.states.len() + next.states.len()) as u64 + 1;
            self.steps[step] = self.enter(&Arc::new(next));
        }
        self.steps[step]
    }
}

/// The map's entry, the two pointers and the counts of a state.
const STATE_OVERHEAD_BYTES: usize = 96;
