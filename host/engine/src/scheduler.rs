//! Which sequences run, and which of their tokens the next step computes.
//!
//! First come, first served: a sequence's age is its place in `running` followed by `waiting`. Prefill is cut into
//! chunks and mixed with decode. When KV memory runs out, cached prefixes go first, then the youngest running sequence
//! is retracted: its slots are given back and it waits at the head of the queue, to take over or compute its tokens
//! again. The oldest sequence is never retracted for another, and one always fits, so there is always progress.
//!
//! *Invariant*: a plan is a pure function of the scheduler's state; no clock, no channel.

use std::{collections::VecDeque, ops::Range};

use sglhost_cache::{PrefixCache, SlotPool};
use sglhost_core::limits::EngineLimits;
use sglhost_model::Batch;

use crate::sequence::{CallKey, Goal, Sequence};

/// A request waits for a running prefill that it shares at least this many uncached tokens with; below that, computing
/// them twice is cheaper than a step of waiting.
const SHARED_PREFILL_MIN_TOKENS: usize = 16;

/// Logits of one step at most: a row takes a vocabulary of floats.
const STEP_ROWS_MAX: usize = 256;

/// Cached sequences at most.
const CACHED_SEQUENCES_MAX: usize = 1024;

/// Sequences, their slots and the cache.
#[derive(Debug)]
pub(crate) struct Scheduler {
    limits: EngineLimits,
    pool: SlotPool,
    cache: PrefixCache,
    /// Oldest first.
    running: Vec<Sequence>,
    waiting: VecDeque<Sequence>,
}

/// One step's work.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Sequences of this step, by their place in `running`, in increasing order.
    pub(crate) chunks: Vec<Chunk>,
}

/// What a step computes of one sequence.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    /// Its place among the running ones.
    pub(crate) index: usize,
    /// Which of its tokens are computed.
    pub(crate) tokens: Range<usize>,
    /// Which of them give logits.
    pub(crate) rows: Range<usize>,
    /// Whether they are part of the prompt.
    pub(crate) prefill: bool,
}

impl Scheduler {
    pub(crate) fn new(limits: EngineLimits, kv_slots: usize) -> Self {
        Self {
            limits,
            pool: SlotPool::new(kv_slots),
            cache: PrefixCache::new(CACHED_SEQUENCES_MAX),
            running: Vec::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Queues a sequence behind all others.
    pub(crate) fn add(&mut self, sequence: Sequence) {
        self.waiting.push_back(sequence);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.is_empty()
    }

    pub(crate) fn running_mut(&mut self, index: usize) -> &mut Sequence {
        &mut self.running[index]
    }

    /// Slots: free, evictable, locked. Their sum never changes.
    #[cfg(test)]
    pub(crate) fn slots(&self) -> (usize, usize, usize) {
        (self.pool.free(), self.pool.evictable(), self.pool.locked())
    }

    /// Drops every sequence of the calls that `gone` names.
    pub(crate) fn cancel(&mut self, gone: impl Fn(CallKey) -> bool) {
        let (cache, pool) = (&mut self.cache, &mut self.pool);
        self.running.retain(|sequence| {
            let cancelled = gone(sequence.call);
            if cancelled {
                // What it computed is right; the program may well ask again.
                remember(cache, pool, sequence);
                pool.unlock(&sequence.slots);
            }
            !cancelled
        });
        self.waiting.retain(|sequence| !gone(sequence.call));
    }

    /// Chooses the next step's work and allocates its slots. `paused` calls keep their place but compute nothing.
    pub(crate) fn plan(&mut self, paused: impl Fn(CallKey) -> bool) -> Plan {
        self.retract_paused(&paused);
        let mut plan = Plan::default();
        let decoding = self.running.iter().filter(|sequence| sequence.is_decoding() && !paused(sequence.call)).count();
        let prefill = if decoding == 0 {
            self.limits.step_tokens_max
        } else {
            self.limits.prefill_chunk_tokens.min(self.limits.step_tokens_max.saturating_sub(decoding))
        };
        let mut budget = Budget { prefill, rows: STEP_ROWS_MAX.saturating_sub(decoding) };
        let mut index = 0;
        while index < self.running.len() {
            if !paused(self.running[index].call) {
                self.plan_running(index, &mut budget, &mut plan);
            }
            index += 1;
        }
        self.admit(&mut budget, &mut plan, paused);
        plan
    }

    fn plan_running(&mut self, index: usize, budget: &mut Budget, plan: &mut Plan) {
        let sequence = &self.running[index];
        let decoding = sequence.is_decoding();
        let mut count = if decoding { 1 } else { budget.chunk(sequence) };
        if count == 0 {
            return;
        }
        // A chunk that memory has no room for shrinks before anybody is retracted for it.
        count = count.min((self.pool.free() + self.pool.evictable()).max(1));
        while self.pool.free() < count && !self.cache.evict(count, &mut self.pool) {
            let youngest = self.running.len() - 1;
            self.retract_youngest();
            if youngest == index {
                return;
            }
        }
        let chunk = self.take_slots(index, count, !decoding);
        if chunk.prefill {
            budget.spend(&chunk);
        }
        plan.chunks.push(chunk);
    }

    fn take_slots(&mut self, index: usize, count: usize, prefill: bool) -> Chunk {
        let sequence = &mut self.running[index];
        let tokens = sequence.slots.len()..sequence.slots.len() + count;
        assert!(self.pool.allocate(count, &mut sequence.slots), "room was made");
        let rows = sequence.rows_of(&tokens);
        Chunk { index, tokens, rows, prefill }
    }

    fn retract_youngest(&mut self) {
        let mut sequence = self.running.pop().expect("a sequence asked for memory");
        self.pool.unlock(&sequence.slots);
        sequence.slots.clear();
        self.waiting.push_front(sequence);
    }

    /// Gives back the slots of paused sequences if somebody who could compute waits for memory.
    fn retract_paused(&mut self, paused: impl Fn(CallKey) -> bool) {
        let Some(next) = self.waiting.iter().find(|sequence| !paused(sequence.call)) else { return };
        if self.pool.free() + self.pool.evictable() >= next.remaining() + self.running.len() {
            return;
        }
        let (paused, running): (Vec<_>, Vec<_>) = self.running.drain(..).partition(|sequence| paused(sequence.call));
        self.running = running;
        for mut sequence in paused {
            self.pool.unlock(&sequence.slots);
            sequence.slots.clear();
            self.waiting.push_back(sequence);
        }
    }

    /// Lets waiting sequences in, oldest first, while there is room for them.
    fn admit(&mut self, budget: &mut Budget, plan: &mut Plan, paused: impl Fn(CallKey) -> bool) {
        let mut index = 0;
        while index < self.waiting.len() && self.running.len() < self.limits.running_max && budget.prefill > 0 {
            if paused(self.waiting[index].call) {
                index += 1;
                continue;
            }
            let sequence = &mut self.waiting[index];
            let reusable = &sequence.tokens[..sequence.reusable()];
            let matched = self.cache.match_prefix(&sequence.namespace, reusable);
            if is_being_computed(&self.running, sequence, matched.len()) {
                index += 1;
                continue;
            }
            self.pool.lock(matched);
            sequence.slots.extend_from_slice(matched);
            let needed = sequence.remaining() + self.running.len();
            if !self.running.is_empty() && self.pool.free() + self.pool.evictable() < needed {
                self.pool.unlock(&sequence.slots);
                sequence.slots.clear();
                return;
            }
            let sequence = self.waiting.remove(index).expect("index is in range");
            self.running.push(sequence);
            let place = self.running.len() - 1;
            let cached = self.running[place].slots.len();
            self.running[place].cached.get_or_insert(cached);
            self.plan_running(place, budget, plan);
            if self.running.len() == place {
                return; // It was retracted at once: memory is full.
            }
        }
    }

    /// Writes the step's batch: what the plan computes, and where it reads and writes.
    pub(crate) fn fill(&self, plan: &Plan, batch: &mut Batch) {
        batch.clear();
        for chunk in &plan.chunks {
            let sequence = &self.running[chunk.index];
            let base = batch.tokens.len();
            batch.push_sequence(
                &sequence.tokens[chunk.tokens.clone()],
                chunk.tokens.clone().map(|position| position as u32),
                &sequence.slots[..chunk.tokens.end],
            );
            batch.sample_rows.extend(chunk.rows.clone().map(|row| (base + row - chunk.tokens.start) as u32));
        }
    }

    /// Remembers the prompts that this step finished computing, so that others can take them over.
    pub(crate) fn publish(&mut self, plan: &Plan) {
        for chunk in &plan.chunks {
            let sequence = &self.running[chunk.index];
            if chunk.prefill && chunk.tokens.end == sequence.end() {
                remember(&mut self.cache, &mut self.pool, sequence);
            }
        }
    }

    /// Takes the sequences at `indices` (increasing) out; what they computed stays cached.
    pub(crate) fn finish(&mut self, indices: &[usize]) -> Vec<Sequence> {
        let mut finished: Vec<Sequence> = indices.iter().rev().map(|&index| self.running.remove(index)).collect();
        finished.reverse();
        for sequence in &finished {
            remember(&mut self.cache, &mut self.pool, sequence);
            self.pool.unlock(&sequence.slots);
        }
        finished
    }

    /// Checks the bookkeeping of slots.
    ///
    /// # Panics
    /// If a slot is lost.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        self.pool.check();
        let (free, evictable, locked) = self.slots();
        assert_eq!(free + evictable + locked, self.pool.size());
        let held: std::collections::BTreeSet<_> = self.running.iter().flat_map(|sequence| &sequence.slots).collect();
        assert_eq!(held.len(), locked, "running sequences hold all locked slots");
    }
}

fn remember(cache: &mut PrefixCache, pool: &mut SlotPool, sequence: &Sequence) {
    let computed = sequence.slots.len();
    cache.insert(&sequence.namespace, &sequence.tokens[..computed], &sequence.slots, pool);
}

/// Whether a running prefill is about to compute a prefix that `sequence` would otherwise compute again.
fn is_being_computed(running: &[Sequence], sequence: &Sequence, matched: usize) -> bool {
    let reusable = &sequence.tokens[..sequence.reusable()];
    running.iter().any(|other| {
        other.namespace == sequence.namespace && other.has_sampled_nothing() && {
            let shared = reusable.iter().zip(&other.tokens[..other.end()]).take_while(|(a, b)| a == b).count();
            shared >= matched + SHARED_PREFILL_MIN_TOKENS
        }
    })
}

/// What is left of a step.
struct Budget {
    prefill: usize,
    rows: usize,
}

impl Budget {
    /// The longest chunk of `sequence` that fits.
    fn chunk(&self, sequence: &Sequence) -> usize {
        let count = sequence.remaining().min(self.prefill);
        let start = sequence.slots.len();
        match sequence.goal {
            Goal::Score { from, .. } => count.min((from - 1).saturating_sub(start) + self.rows),
            Goal::Generate(_) | Goal::NextTokens { .. } if count == sequence.remaining() && self.rows == 0 => count - 1,
            Goal::Generate(_) | Goal::NextTokens { .. } => count,
        }
    }

    fn spend(&mut self, chunk: &Chunk) {
        self.prefill -= chunk.tokens.len();
        self.rows -= chunk.rows.len();
    }
}
