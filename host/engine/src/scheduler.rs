//! Which sequences run, and which of their tokens the next step computes.
//!
//! A step computes one token of each running sequence that decodes, with what a constraint has forced after it, and
//! within its budget of tokens chunks of prefill: of running sequences and of those it lets in, in the order of `queue.rs`. A request that shares an uncached prefix
//! with a running prefill waits for that and takes it over.
//!
//! *Memory*: what only the cache remembers is evicted first, then the sequence that `Queue::burden` names is retracted:
//! it gives its slots back to the cache and waits, to take over or compute its tokens again. The sequence that is last
//! in that order is never retracted for another, and one always fits, so there is always progress. A waiting sequence
//! that was served much less takes the place of a running one (`Queue::outranks`).
//!
//! *One step ahead*: a plan may be made while the last one's tokens are still being sampled. Then a decoding sequence
//! computes a token that only the device knows; if that token turns out to end it, the step's row is discarded.
//!
//! *Invariant*: a plan is a pure function of the scheduler's state and the time handed in.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    ops::Range,
    time::Duration,
};

use sglhost_cache::RadixCache;
use sglhost_core::{RunId, TenantId, limits::EngineLimits};
use sglhost_model::{Batch, ModelRunner};
use slotmap::SlotMap;

#[cfg(test)]
use crate::tests::Fault;
use crate::{
    call::CallKey,
    queue::{Account, Holding, Queue, STARVED_AFTER},
    sequence::{Goal, Sequence, SequenceId, Standing},
};

/// A request waits for a running prefill that it shares at least this many uncached tokens with; below that, computing
/// them twice is cheaper than a step of waiting.
const SHARED_PREFILL_MIN_TOKENS: usize = 16;
/// Of a run's ready sequences, the one with the longest cached prefix is taken among this many.
const PREFIX_CANDIDATES: usize = 16;
/// Output tokens of one sequence that memory is reserved for at most.
const RESERVED_OUTPUT_MAX: usize = 4096;

/// Sequences, their slots and the cache.
#[derive(Debug)]
pub(crate) struct Scheduler {
    limits: EngineLimits,
    context_length: usize,
    cache: RadixCache,
    queue: Queue,
    sequences: SlotMap<SequenceId, Sequence>,
    arrivals: u64,
    /// In the order of admission.
    running: Vec<SequenceId>,
    /// Those of them whose prompt others may wait for.
    prefilling: Vec<SequenceId>,
    /// Who waits for the prefill of whom, and up to which token. Some may be gone meanwhile.
    followers: HashMap<SequenceId, Vec<(SequenceId, usize)>>,
    /// Sequences that wait for their reader or for a token that is still being sampled.
    parked: Vec<SequenceId>,
    reserve: Reserve,
    #[cfg(test)]
    pub(crate) fault: Option<Fault>,
}

/// One step's work.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) chunks: Vec<Chunk>,
    /// Sequences let in, and the tokens they took over from the cache.
    pub(crate) admitted: usize,
    pub(crate) cached_tokens: usize,
    /// Sequences retracted.
    pub(crate) retracted: usize,
}

/// What a step computes of one sequence.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) sequence: SequenceId,
    /// Which of its tokens are computed.
    pub(crate) tokens: Range<usize>,
    /// Which of them give logits.
    pub(crate) rows: Range<usize>,
    /// Whether they are part of the prompt.
    pub(crate) prefill: bool,
    /// The row of the last sampling that the one token comes from, if it is not known yet.
    pub(crate) sampled_row: Option<u32>,
}

/// The share of their possible output that running sequences are expected to need: optimistic, and corrected by
/// retractions (SGLang's new-token ratio).
#[derive(Clone, Copy, Debug)]
struct Reserve(f64);

impl Reserve {
    const START: f64 = 0.5;
    const LEAST: f64 = 0.1;

    /// Of so many tokens that may yet be sampled.
    fn slots(self, tokens: usize) -> usize {
        (tokens.min(RESERVED_OUTPUT_MAX) as f64 * self.0) as usize
    }

    fn step(&mut self) {
        self.0 = (self.0 - (Self::START - Self::LEAST) / 500.0).max(Self::LEAST);
    }

    fn retracted(&mut self) {
        self.0 = (self.0 + 0.1).min(1.0);
    }
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
        match sequence.goal {
            Goal::Score { .. } => count.min(sequence.first_row().saturating_sub(sequence.computed) + self.rows),
            Goal::Generate(_) | Goal::NextTokens { .. } if count == sequence.remaining() && self.rows == 0 => count - 1,
            Goal::Generate(_) | Goal::NextTokens { .. } | Goal::Publish => count,
        }
    }
}

impl Scheduler {
    /// A scheduler over the model's KV memory, empty.
    pub(crate) fn new(limits: EngineLimits, model: &dyn ModelRunner) -> Self {
        Self {
            queue: Queue::new(limits.policy),
            context_length: model.longest_sequence(),
            cache: RadixCache::new(model.kv_slots(), model.info().kv.page_tokens),
            sequences: SlotMap::with_key(),
            arrivals: 0,
            running: Vec::new(),
            prefilling: Vec::new(),
            followers: HashMap::new(),
            parked: Vec::new(),
            reserve: Reserve(Reserve::START),
            limits,
            #[cfg(test)]
            fault: None,
        }
    }

    /// The account that sequences of a run are charged on.
    pub(crate) fn account(&mut self, tenant: &TenantId, run: RunId, priority: i32) -> Account {
        self.queue.account(tenant, run, priority)
    }

    /// Notes that a run calls no more.
    pub(crate) fn end_run(&mut self, tenant: &TenantId, run: RunId) {
        self.queue.end_run(tenant, run);
        self.end_leases();
    }

    /// Queues a new sequence.
    pub(crate) fn add(&mut self, mut sequence: Sequence, now: Duration) -> SequenceId {
        sequence.progress_at = now;
        self.arrivals += 1;
        sequence.arrival = self.arrivals;
        let account = sequence.account;
        let id = self.sequences.insert(sequence);
        self.queue.opened(account);
        self.queue.push(account, id, false, now);
        id
    }

    pub(crate) fn get_mut(&mut self, id: SequenceId) -> Option<&mut Sequence> {
        self.sequences.get_mut(id)
    }

    /// Whether so many more tokens can be held for good, and the longest sequence still fits beside them.
    pub(crate) fn has_room_to_publish(&self, tokens: usize) -> bool {
        let publishing = self.sequences.values().filter(|sequence| matches!(sequence.goal, Goal::Publish));
        let publishing: usize = publishing.map(|sequence| sequence.tokens.len()).sum();
        let needed = self.cache.missing(0, self.context_length) + self.cache.missing(0, tokens) + publishing;
        self.cache.published() + needed <= self.cache.size()
    }

    /// Notes that a call needs no sequence after all.
    pub(crate) fn close_unused(&mut self, account: Account) {
        self.queue.close_unused(account);
    }

    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Sequences that wait, whatever for.
    pub(crate) fn waiting(&self) -> usize {
        self.sequences.len() - self.running.len()
    }

    pub(crate) fn cache(&self) -> &RadixCache {
        &self.cache
    }

    /// Takes sequences out, those that are still there.
    pub(crate) fn remove(&mut self, ids: &[SequenceId], now: Duration) {
        for &id in ids {
            self.finish(id, now);
        }
    }

    /// Takes a sequence out, whatever it does; what it computed stays cached.
    pub(crate) fn finish(&mut self, id: SequenceId, now: Duration) -> Option<Sequence> {
        let sequence = self.sequences.get(id)?;
        match sequence.standing {
            Standing::Running => self.stop(id, now, Keep::Run),
            Standing::Ready => self.queue.remove(sequence.account, id),
            Standing::Parked => self.parked.retain(|&parked| parked != id),
            // Its leader finds out: looking for it among the others would take long where there are many.
            Standing::Following(_) => {}
        }
        self.forget(id)
    }

    fn forget(&mut self, id: SequenceId) -> Option<Sequence> {
        let mut sequence = self.sequences.remove(id)?;
        if let Some(lease) = sequence.lease.take() {
            self.cache.end_lease(lease);
        }
        self.queue.closed(sequence.account);
        self.end_leases();
        Some(sequence)
    }

    fn end_leases(&mut self) {
        for lease in self.queue.take_ended_leases() {
            self.cache.end_lease(lease);
        }
    }

    /// Takes a sequence out of the running ones and gives its slots to the cache.
    fn stop(&mut self, id: SequenceId, now: Duration, keep: Keep) {
        #[cfg(test)]
        if self.fault == Some(Fault::LeakSlot) {
            self.sequences[id].slots.pop();
            self.sequences[id].computed -= 1;
        }
        self.running.retain(|&running| running != id);
        self.lead_no_more(id, now);
        let sequence = &mut self.sequences[id];
        sequence.late = false;
        let mut lock = sequence.lock.take().expect("a running sequence holds a lock");
        let mut slots = std::mem::take(&mut sequence.slots);
        self.queue.stopped(sequence.account, slots.len());
        self.cache.insert(&mut lock, sequence.known(), &mut slots);
        sequence.computed = 0;
        match keep {
            Keep::Everybody => return self.cache.publish(lock, &slots),
            Keep::Itself => sequence.lease = Some(self.cache.lease(&lock)),
            Keep::Run if self.queue.may_call_again(sequence.account) => {
                let lease = self.cache.lease(&lock);
                self.queue.keep_lease(sequence.account, lease, |longer, shorter| self.cache.covers(longer, shorter));
            }
            Keep::Run => {}
        }
        self.cache.release(lock, &slots);
    }

    /// Lets those go on that waited for the prefill of `id`.
    fn lead_no_more(&mut self, id: SequenceId, now: Duration) {
        self.prefilling.retain(|&prefilling| prefilling != id);
        self.release_followers(id, usize::MAX, now);
    }

    /// Lets those go on that waited for tokens of `leader` before `computed`.
    fn release_followers(&mut self, leader: SequenceId, computed: usize, now: Duration) {
        let Some(followers) = self.followers.remove(&leader) else { return };
        let (ready, still): (Vec<_>, Vec<_>) = followers.into_iter().partition(|&(_, shared)| shared <= computed);
        if !still.is_empty() {
            self.followers.insert(leader, still);
        }
        // From the last, as each is put first.
        for (follower, _) in ready.into_iter().rev() {
            let standing = self.sequences.get(follower).map(|sequence| sequence.standing);
            if standing == Some(Standing::Following(leader)) {
                self.make_ready(follower, now);
            }
        }
    }

    /// Queues a sequence that was put aside, before the others of its run.
    fn make_ready(&mut self, id: SequenceId, now: Duration) {
        let sequence = &mut self.sequences[id];
        sequence.standing = Standing::Ready;
        self.queue.push(sequence.account, id, true, now);
    }

    fn retract(&mut self, id: SequenceId, now: Duration, paused: &BTreeSet<CallKey>, plan: &mut Plan) {
        self.stop(id, now, Keep::Itself);
        plan.retracted += 1;
        let sequence = &self.sequences[id];
        let settled = sequence.rows_in_flight == 0;
        #[cfg(test)]
        let settled = settled || self.fault == Some(Fault::ResumeUnsettled);
        if !settled || paused.contains(&sequence.call) {
            self.park(id);
        } else {
            self.make_ready(id, now);
        }
    }

    fn park(&mut self, id: SequenceId) {
        self.sequences[id].standing = Standing::Parked;
        self.parked.push(id);
    }

    /// Chooses the next step's work and allocates its slots. `paused` calls keep their place but compute nothing.
    pub(crate) fn plan(&mut self, now: Duration, paused: &BTreeSet<CallKey>) -> Plan {
        let mut plan = Plan::default();
        self.reserve.step();
        self.unpark(now, paused);
        self.preempt(now, paused, &mut plan);
        let decoding = self.decoding(paused);
        let step = self.limits.step_tokens_max.saturating_sub(decoding.len());
        let mut budget = Budget {
            prefill: if decoding.is_empty() { step } else { step.min(self.limits.prefill_chunk_tokens) },
            rows: self.limits.step_rows_max.saturating_sub(decoding.len()),
        };
        self.plan_decode(decoding, now, paused, &mut budget, &mut plan);
        self.plan_prefill(now, paused, &mut budget, &mut plan);
        if plan.chunks.is_empty() {
            self.unblock(now, paused, &mut budget, &mut plan);
        }
        plan
    }

    fn unpark(&mut self, now: Duration, paused: &BTreeSet<CallKey>) {
        #[cfg(test)]
        if self.fault == Some(Fault::ForgetParked) {
            return;
        }
        let sequences = &self.sequences;
        let (still, ready): (Vec<_>, Vec<_>) = self
            .parked
            .drain(..)
            .partition(|&id| paused.contains(&sequences[id].call) || sequences[id].rows_in_flight > 0);
        self.parked = still;
        for id in ready {
            self.make_ready(id, now);
        }
    }

    /// Retracts running sequences for the next waiting one if that was served much less.
    fn preempt(&mut self, now: Duration, paused: &BTreeSet<CallKey>, plan: &mut Plan) {
        let Some(id) = self.next_candidate(paused, now) else { return };
        loop {
            let needed = self.needed(id);
            if self.fits(needed) {
                return;
            }
            let account = self.sequences[id].account;
            let waiting = Holding { account, slots: needed, computed: 0, rescued: false };
            let memory_is_scarce = needed + self.committed() > self.cache.available();
            let gives_way = |id: &SequenceId| {
                let sequence = &self.sequences[*id];
                let running = Holding {
                    account: sequence.account,
                    slots: sequence.slots.len(),
                    computed: sequence.computed_since_admission,
                    rescued: sequence.rescued,
                };
                paused.contains(&sequence.call) || self.queue.outranks(waiting, running, memory_is_scarce)
            };
            let victims = || self.running.iter().copied().filter(gives_way);
            let gained: usize = victims().map(|id| self.sequences[id].slots.len()).sum();
            let Some(victim) = victims().max_by_key(|&id| self.burden(id, paused)) else { return };
            if needed > self.cache.available() + gained {
                return; // It would be in vain.
            }
            self.retract(victim, now, paused, plan);
        }
    }

    /// Slots that letting a waiting sequence in takes from what is available.
    fn needed(&self, id: SequenceId) -> usize {
        let sequence = &self.sequences[id];
        let matched = self.cache.matched(&sequence.namespace, sequence.reusable());
        self.cache.missing(matched.tokens, sequence.tokens.len()) + matched.evictable + self.reserved(sequence)
    }

    /// Whether there is a seat and memory for a waiting sequence that needs so much.
    fn fits(&self, needed: usize) -> bool {
        self.running.is_empty()
            || (self.running.len() < self.limits.running_max && needed + self.committed() <= self.cache.available())
    }

    /// Slots that running sequences still need for their prompts and are expected to need for their output.
    fn committed(&self) -> usize {
        let running = self.running.iter().map(|&id| &self.sequences[id]);
        running
            .map(|sequence| self.cache.missing(sequence.slots.len(), sequence.tokens.len()) + self.reserved(sequence))
            .sum()
    }

    /// Slots that a sequence is expected to need for its output.
    fn reserved(&self, sequence: &Sequence) -> usize {
        let room = self.context_length.saturating_sub(sequence.tokens.len());
        self.reserve.slots(sequence.tokens_to_sample().min(room))
    }

    /// The greatest gives way when memory has run out: one whose reader is slow, then as the queue orders runs, then
    /// the youngest.
    fn burden(&self, id: SequenceId, paused: &BTreeSet<CallKey>) -> impl Ord + use<> {
        let sequence = &self.sequences[id];
        (paused.contains(&sequence.call), self.queue.burden(sequence.account), sequence.arrival)
    }

    /// Running sequences that decode.
    fn decoding(&self, paused: &BTreeSet<CallKey>) -> Vec<SequenceId> {
        let mut decoding = self.running.clone();
        decoding.retain(|&id| {
            let sequence = &self.sequences[id];
            sequence.is_decoding()
                && !is_halted(sequence, paused)
                && (sequence.sampled_row.is_none() || sequence.may_go_on(self.context_length))
        });
        decoding
    }

    /// Plans a token for each of these, and what was forced after it. Where there is more of that than half the budget
    /// for prefill, some have to wait for a part: they go on as if it were sampled, and prefills go on, too.
    fn plan_decode(
        &mut self,
        decoding: Vec<SequenceId>,
        now: Duration,
        paused: &BTreeSet<CallKey>,
        budget: &mut Budget,
        plan: &mut Plan,
    ) {
        let mut room = budget.prefill / 2;
        let chunk = |id: SequenceId| {
            let forced = self.sequences[id].remaining().saturating_sub(1).min(room);
            room -= forced;
            (id, 1 + forced)
        };
        let mut decoding: Vec<(SequenceId, usize)> = decoding.into_iter().map(chunk).collect();
        let missing = |&(id, count): &(SequenceId, usize)| {
            let sequence = &self.sequences[id];
            self.cache.missing(sequence.slots.len(), sequence.computed + count)
        };
        if decoding.iter().map(missing).sum::<usize>() > self.cache.available() {
            // Who would be retracted last takes first, so that whoever is retracted has no part in the plan yet.
            decoding.sort_by_cached_key(|&(id, _)| self.burden(id, paused));
            // Nobody is retracted for what can be computed later.
            decoding.iter_mut().for_each(|(_, count)| *count = 1);
        }
        for (id, count) in decoding {
            if self.sequences[id].standing == Standing::Running {
                budget.prefill -= count - 1;
                self.plan_tokens(id, count, now, paused, plan);
            }
        }
    }

    fn plan_tokens(
        &mut self,
        id: SequenceId,
        count: usize,
        now: Duration,
        paused: &BTreeSet<CallKey>,
        plan: &mut Plan,
    ) {
        loop {
            if self.grow(id, count) {
                let chunk = self.take(id, count, now);
                return plan.chunks.push(chunk);
            }
            self.reserve.retracted();
            let planned = |other: SequenceId| plan.chunks.iter().any(|chunk| chunk.sequence == other);
            let victim = self.running.iter().copied().filter(|&other| !planned(other));
            let victim = victim.max_by_key(|&other| self.burden(other, paused)).expect("at least the sequence itself");
            self.retract(victim, now, paused, plan);
            if victim == id {
                return;
            }
        }
    }

    /// Makes room for `count` more tokens of a running sequence, at nobody's expense but the cache's.
    fn grow(&mut self, id: SequenceId, count: usize) -> bool {
        let sequence = &mut self.sequences[id];
        let held = sequence.slots.len();
        let grown = self.cache.reserve(&mut sequence.slots, sequence.computed + count);
        self.queue.took(sequence.account, sequence.slots.len() - held);
        grown
    }

    /// Counts `count` tokens of a running sequence, which has slots for them, as computed.
    fn take(&mut self, id: SequenceId, count: usize, now: Duration) -> Chunk {
        let sequence = &mut self.sequences[id];
        let prefill = !sequence.is_decoding();
        let tokens = sequence.computed..sequence.computed + count;
        sequence.computed = tokens.end;
        sequence.computed_since_admission += count;
        sequence.progress_at = now;
        let new = tokens.end.saturating_sub(sequence.charged.max(tokens.start));
        sequence.charged = sequence.charged.max(tokens.end);
        // What is forced is computed as cheaply as a prompt.
        let decoded = new.min(usize::from(!prefill));
        self.queue.charge(sequence.account, decoded, new - decoded);
        let rows = sequence.rows_of(&tokens);
        Chunk { sequence: id, tokens, rows, prefill, sampled_row: sequence.sampled_row }
    }

    /// Spends the budget on running prefills and on sequences it lets in, whoever was served least first.
    fn plan_prefill(&mut self, now: Duration, paused: &BTreeSet<CallKey>, budget: &mut Budget, plan: &mut Plan) {
        let turn = |scheduler: &Self, id: SequenceId| {
            let sequence = &scheduler.sequences[id];
            let starved = now.saturating_sub(sequence.progress_at) > STARVED_AFTER;
            (Reverse(starved), scheduler.queue.turn(sequence.account))
        };
        let mut prefills: Vec<SequenceId> = self.running.clone();
        prefills.retain(|&id| {
            let sequence = &self.sequences[id];
            !is_halted(sequence, paused) && !sequence.is_decoding() && sequence.remaining() > 0
        });
        prefills.sort_by_cached_key(|&id| Reverse(turn(self, id)));
        let mut admitting = true;
        while budget.prefill > 0 {
            let running = prefills.last().copied();
            let waiting = if admitting { self.next_candidate(paused, now) } else { None };
            let earlier = match (waiting, running) {
                (Some(waiting), Some(running)) => turn(self, waiting) < turn(self, running),
                (waiting, _) => waiting.is_some(),
            };
            if let Some(waiting) = waiting.filter(|_| earlier) {
                admitting = self.admit(waiting, now, plan);
                if admitting {
                    self.plan_chunk(waiting, now, budget, plan);
                }
            } else if let Some(running) = running {
                prefills.pop();
                self.plan_chunk(running, now, budget, plan);
            } else {
                return;
            }
        }
    }

    /// Plans as much of a running prefill as budget and memory allow.
    fn plan_chunk(&mut self, id: SequenceId, now: Duration, budget: &mut Budget, plan: &mut Plan) {
        let sequence = &self.sequences[id];
        let room = self.cache.available() + sequence.slots.len() - sequence.computed;
        let count = budget.chunk(sequence).min(room);
        if count == 0 || !self.grow(id, count) {
            return;
        }
        let chunk = self.take(id, count, now);
        budget.prefill -= count;
        budget.rows -= chunk.rows.len();
        plan.chunks.push(chunk);
    }

    /// Nothing could be planned. If running prefills have filled the memory between them, the first in order goes on
    /// at the others' expense.
    fn unblock(&mut self, now: Duration, paused: &BTreeSet<CallKey>, budget: &mut Budget, plan: &mut Plan) {
        let stuck = self.running.iter().copied().filter(|&id| {
            let sequence = &self.sequences[id];
            !is_halted(sequence, paused) && sequence.sampled_row.is_none() && sequence.remaining() > 0
        });
        let Some(first) = stuck.min_by_key(|&id| self.burden(id, paused)) else { return };
        while plan.chunks.is_empty() {
            let others = self.running.iter().copied().filter(|&id| id != first);
            let Some(victim) = others.max_by_key(|&id| self.burden(id, paused)) else { return };
            self.reserve.retracted();
            self.retract(victim, now, paused, plan);
            self.plan_chunk(first, now, budget, plan);
        }
    }

    /// The waiting sequence that is to be let in next. Those that have to wait for something else are put aside.
    fn next_candidate(&mut self, paused: &BTreeSet<CallKey>, now: Duration) -> Option<SequenceId> {
        while let Some((account, ready)) = self.queue.next(now) {
            let matched = |id: &SequenceId| {
                let sequence = &self.sequences[*id];
                self.cache.match_length(&sequence.namespace, sequence.reusable())
            };
            let first = *ready.front().expect("a ready run has a ready sequence");
            let id = if ready.len() == 1 || self.sequences[first].lease.is_some() {
                first
            } else {
                // The first of the longest.
                let candidates = ready.iter().take(PREFIX_CANDIDATES).enumerate();
                let best = candidates.max_by_key(|(place, id)| (matched(id), Reverse(*place)));
                best.map_or(first, |(_, id)| *id)
            };
            if paused.contains(&self.sequences[id].call) {
                self.queue.remove(account, id);
                self.park(id);
            } else if let Some((leader, shared)) = self.leader(id, matched(&id)) {
                self.queue.remove(account, id);
                self.sequences[id].standing = Standing::Following(leader);
                self.followers.entry(leader).or_default().push((id, shared));
            } else {
                return Some(id);
            }
        }
        None
    }

    /// A running prefill that is about to compute a prefix which `id` would otherwise compute again, and its length.
    fn leader(&self, id: SequenceId, matched: usize) -> Option<(SequenceId, usize)> {
        let sequence = &self.sequences[id];
        self.prefilling.iter().find_map(|&leader| {
            let other = &self.sequences[leader];
            if other.namespace != sequence.namespace {
                return None;
            }
            let shared = sequence.reusable().iter().zip(&other.tokens).take_while(|(a, b)| a == b).count();
            let shared = self.cache.whole_pages(shared);
            (shared >= matched + SHARED_PREFILL_MIN_TOKENS).then_some((leader, shared))
        })
    }

    /// Lets a waiting sequence in if there is room for it.
    fn admit(&mut self, id: SequenceId, now: Duration, plan: &mut Plan) -> bool {
        if !self.fits(self.needed(id)) {
            return false;
        }
        let sequence = &self.sequences[id];
        #[cfg(test)]
        let namespace = match self.fault {
            Some(Fault::ShareAcrossNamespaces) => &crate::tests::anybody(),
            _ => &sequence.namespace,
        };
        #[cfg(not(test))]
        let namespace = &sequence.namespace;
        let mut slots = Vec::new();
        let lock = self.cache.acquire(namespace, sequence.reusable(), &mut slots);
        let cached = lock.tokens();
        #[cfg(test)]
        let lock = if self.fault == Some(Fault::UnlockEarly) {
            self.cache.release(lock, &slots);
            self.cache.acquire(namespace, &[], &mut Vec::new())
        } else {
            lock
        };
        let sequence = &mut self.sequences[id];
        self.queue.admit(sequence.account, id, now);
        self.queue.took(sequence.account, cached);
        if let Some(lease) = sequence.lease.take() {
            self.cache.end_lease(lease);
        }
        sequence.lock = Some(lock);
        sequence.slots = slots;
        sequence.computed = cached;
        sequence.computed_since_admission = 0;
        sequence.rescued = now.saturating_sub(sequence.progress_at) > STARVED_AFTER;
        sequence.charged = sequence.charged.max(cached);
        sequence.standing = Standing::Running;
        if sequence.cached.is_none() {
            // A constraint may have forced tokens before the first is sampled.
            let cached = cached.min(sequence.prompt_tokens());
            sequence.cached = Some(cached);
            plan.cached_tokens += cached;
        }
        plan.admitted += 1;
        if sequence.has_sampled_nothing() {
            self.prefilling.push(id);
        }
        self.running.push(id);
        true
    }

    /// Writes the step's batch: what the plan computes, and where it reads and writes.
    pub(crate) fn fill(&self, plan: &Plan, batch: &mut Batch) {
        batch.clear();
        for chunk in &plan.chunks {
            let sequence = &self.sequences[chunk.sequence];
            let base = batch.tokens.len();
            let positions = chunk.tokens.clone().map(|position| position as u32);
            let context = &sequence.slots[..chunk.tokens.end];
            if let Some(row) = chunk.sampled_row {
                batch.sampled_inputs.push((base as u32, row));
                batch.push_sequence(&[0], positions, context);
            } else {
                batch.push_sequence(&sequence.tokens[chunk.tokens.clone()], positions, context);
            }
            if sequence.namespace.adapter != 0 {
                batch.adapters.resize(base, 0);
                batch.adapters.resize(batch.tokens.len(), sequence.namespace.adapter);
            }
            batch.sample_rows.extend(chunk.rows.clone().map(|row| (base + row - chunk.tokens.start) as u32));
        }
        if !batch.adapters.is_empty() {
            batch.adapters.resize(batch.tokens.len(), 0);
        }
    }

    /// Remembers the prompts whose last chunk was launched, and parts of those that others wait for, so that they can be
    /// taken over: whatever takes them over is launched later. Returns the sequences that this completes.
    pub(crate) fn publish_prompts(&mut self, plan: &Plan, now: Duration) -> Vec<Sequence> {
        let mut published = Vec::new();
        for chunk in plan.chunks.iter().filter(|chunk| chunk.prefill) {
            let sequence = &mut self.sequences[chunk.sequence];
            let whole = chunk.tokens.end == sequence.tokens.len();
            if !whole && !self.followers.contains_key(&chunk.sequence) {
                continue;
            }
            if whole && matches!(sequence.goal, Goal::Publish) {
                self.stop(chunk.sequence, now, Keep::Everybody);
                published.extend(self.forget(chunk.sequence));
            } else {
                let lock = sequence.lock.as_mut().expect("a running sequence holds a lock");
                self.cache.insert(lock, &sequence.tokens[..sequence.computed], &mut sequence.slots);
                if whole {
                    self.lead_no_more(chunk.sequence, now);
                } else {
                    self.release_followers(chunk.sequence, chunk.tokens.end, now);
                }
            }
        }
        published
    }

    /// Checks the books.
    ///
    /// # Panics
    /// If a slot or a sequence is lost.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let held = self.running.iter().map(|&id| &self.sequences[id]);
        self.cache.check(held.flat_map(|sequence| &sequence.slots[sequence.lock.as_ref().unwrap().tokens()..]));
        let (free, evictable, locked) = (self.cache.free(), self.cache.evictable(), self.cache.locked());
        assert_eq!(free + evictable + locked, self.cache.size());
        self.queue.check();
        let followers = self.followers.iter().flat_map(|(leader, all)| all.iter().map(move |(id, _)| (leader, id)));
        let followers = followers
            .filter(|(leader, id)| {
                self.sequences.get(**id).is_some_and(|sequence| sequence.standing == Standing::Following(**leader))
            })
            .count();
        let standing = |wanted: fn(&Standing) -> bool| self.sequences.values().filter(|s| wanted(&s.standing)).count();
        assert_eq!(standing(|s| matches!(s, Standing::Running)), self.running.len(), "running sequences");
        assert_eq!(standing(|s| matches!(s, Standing::Following(_))), followers, "followers");
        assert_eq!(standing(|s| matches!(s, Standing::Parked)), self.parked.len(), "parked sequences");
        assert_eq!(standing(|s| matches!(s, Standing::Ready)), self.queue.ready(), "ready sequences");
        for leader in self.followers.keys() {
            assert!(self.prefilling.contains(leader), "followers wait for a running prefill");
        }
    }
}

/// Whether a running sequence computes nothing for now: it waits for its reader, or for a mask.
fn is_halted(sequence: &Sequence, paused: &BTreeSet<CallKey>) -> bool {
    sequence.late || paused.contains(&sequence.call)
}

/// For whom what a stopped sequence computed is kept.
#[derive(Clone, Copy)]
enum Keep {
    /// Its run may ask for more of the same.
    Run,
    /// It will be resumed.
    Itself,
    /// Everybody, for good.
    Everybody,
}
