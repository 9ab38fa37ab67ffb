//! The loop that serves all calls together. One thread owns scheduler, cache and model by `&mut`; nothing is locked.
//!
//! A step: take new requests in → drop calls whose reader went away → plan → forward → sample → commit.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::Duration,
};

use sglhost_core::{Clock, Error, limits::EngineLimits};
use sglhost_model::{Batch, ModelError, ModelRunner, RowRequest, RowResult};

use crate::{
    CallEvent, Outcome, TokenLogprob,
    call::{Accepted, CallState},
    output::Reader,
    scheduler::{Plan, Scheduler},
    sequence::{CallKey, Goal},
};

/// How often a loop that has only slow readers looks whether they caught up.
const SLOW_READER_POLL: Duration = Duration::from_millis(2);

/// Everything the engine's thread owns.
pub(crate) struct EngineLoop {
    runner: Box<dyn ModelRunner>,
    clock: Arc<dyn Clock>,
    limits: EngineLimits,
    /// Longest sequence in tokens; one always fits KV memory.
    context_length: usize,
    inbox: Receiver<Accepted>,
    scheduler: Scheduler,
    calls: BTreeMap<CallKey, CallState>,
    paused: BTreeSet<CallKey>,
    next_call: CallKey,
    batch: Batch,
    /// The last step found nothing it could compute.
    stalled: bool,
}

/// What a step asked of the sampler: the row of which chunk, and which of its tokens it follows.
struct RowOwner {
    chunk: usize,
    row: usize,
}

impl EngineLoop {
    pub(crate) fn new(
        runner: Box<dyn ModelRunner>,
        limits: EngineLimits,
        clock: Arc<dyn Clock>,
        inbox: Receiver<Accepted>,
    ) -> Self {
        let scheduler = Scheduler::new(limits.clone(), runner.kv_slots());
        Self {
            context_length: runner.info().context_length.min(runner.kv_slots()),
            runner,
            clock,
            limits,
            inbox,
            scheduler,
            calls: BTreeMap::new(),
            paused: BTreeSet::new(),
            next_call: 0,
            batch: Batch::default(),
            stalled: false,
        }
    }

    /// Serves until every handle is gone.
    pub(crate) fn run(mut self) {
        while self.take_requests() {
            self.supervised_step();
        }
        self.fail_all(&Error::unavailable("the engine was shut down"));
    }

    /// A step whose failure takes nothing else down: what was under way is answered, and the engine starts afresh. KV
    /// memory and cache may be half written, so nothing of them is kept.
    fn supervised_step(&mut self) {
        let reason = match catch_unwind(AssertUnwindSafe(|| self.step())) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "an internal error, which is on the host's standard error".to_owned(),
        };
        self.fail_all(&Error::unavailable(format!("the engine restarted after {reason}; the same call may succeed")));
        self.scheduler = Scheduler::new(self.limits.clone(), self.runner.kv_slots());
    }

    /// Takes in what has arrived, and waits if there is nothing else to do. Returns whether to go on.
    fn take_requests(&mut self) -> bool {
        loop {
            let can_compute = !self.scheduler.is_idle() && self.calls.len() > self.paused.len() && !self.stalled;
            let received = if can_compute {
                self.inbox.try_recv()
            } else if self.calls.is_empty() {
                self.inbox.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.inbox.recv_timeout(SLOW_READER_POLL).map_err(|error| match error {
                    RecvTimeoutError::Timeout => TryRecvError::Empty,
                    RecvTimeoutError::Disconnected => TryRecvError::Disconnected,
                })
            };
            match received {
                Ok(accepted) => self.open(accepted),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn open(&mut self, accepted: Accepted) {
        let key = self.next_call;
        self.next_call += 1;
        self.stalled = false;
        let (mut state, sequences) = CallState::open(key, accepted);
        for mut sequence in sequences {
            match &mut sequence.goal {
                Goal::Generate(generation) if generation.wants_nothing() => {
                    state.finish(generation.empty_outcome(), self.clock.monotonic());
                }
                _ => self.scheduler.add(sequence),
            }
        }
        self.calls.insert(key, state);
    }

    fn step(&mut self) -> Result<(), ModelError> {
        self.watch_readers();
        let plan = self.scheduler.plan(|call| self.paused.contains(&call));
        self.stalled = plan.chunks.is_empty();
        if self.stalled {
            return Ok(());
        }
        self.scheduler.fill(&plan, &mut self.batch);
        self.runner.forward(&self.batch)?;
        let (rows, owners, failed) = self.rows(&plan);
        let results = if rows.is_empty() {
            Vec::new()
        } else {
            self.runner.sample(&rows)?;
            self.runner.wait_sampled()?
        };
        assert_eq!(results.len(), owners.len(), "a result for each row");
        self.scheduler.publish(&plan);
        let now = self.clock.monotonic();
        let failed: BTreeSet<CallKey> = failed
            .into_iter()
            .filter_map(|(call, error)| {
                self.calls.get_mut(&call)?.end(CallEvent::Failed(error), now);
                Some(call)
            })
            .collect();
        self.commit(&plan, owners, results);
        if !failed.is_empty() {
            self.scheduler.cancel(|call| failed.contains(&call));
        }
        Ok(())
    }

    /// Delivers what is held, pauses calls whose reader lags behind and drops those whose reader went away.
    fn watch_readers(&mut self) {
        let now = self.clock.monotonic();
        let (paused, limits) = (&mut self.paused, &self.limits);
        let mut gone = BTreeSet::new();
        self.calls.retain(|&key, state| {
            let reader = state.output.flush(now, limits.slow_reader);
            match reader {
                Reader::Slow => paused.insert(key),
                Reader::Ready | Reader::Gone => paused.remove(&key),
            };
            if reader == Reader::Gone && !state.ended {
                gone.insert(key);
            }
            let done = reader == Reader::Gone || (state.ended && !state.output.is_holding());
            !done
        });
        if !gone.is_empty() {
            self.scheduler.cancel(|call| gone.contains(&call));
        }
    }

    /// What to ask of each row of logits. A call whose constraint has come to a dead end is failed; its row is scored,
    /// which does nothing.
    fn rows(&mut self, plan: &Plan) -> (Vec<RowRequest>, Vec<RowOwner>, Vec<(CallKey, Error)>) {
        let vocabulary = self.runner.info().vocabulary;
        let (mut rows, mut owners, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (chunk, planned) in plan.chunks.iter().enumerate() {
            let sequence = self.scheduler.running_mut(planned.index);
            for row in planned.rows.clone() {
                rows.push(match &mut sequence.goal {
                    Goal::Generate(generation) => generation.row(vocabulary).unwrap_or_else(|error| {
                        failed.push((sequence.call, error));
                        RowRequest::Score { token: 0, top: 0 }
                    }),
                    Goal::Score { .. } => RowRequest::Score { token: sequence.tokens[row + 1], top: 0 },
                    Goal::NextTokens { count } => RowRequest::Score { token: 0, top: *count },
                });
                owners.push(RowOwner { chunk, row });
            }
        }
        (rows, owners, failed)
    }

    /// Takes over the results: appends tokens, delivers text, ends calls.
    fn commit(&mut self, plan: &Plan, owners: Vec<RowOwner>, results: Vec<RowResult>) {
        let now = self.clock.monotonic();
        let mut finished = Vec::new();
        let mut outcomes: BTreeMap<CallKey, Outcome> = BTreeMap::new();
        for (owner, result) in owners.into_iter().zip(results) {
            let index = plan.chunks[owner.chunk].index;
            let sequence = self.scheduler.running_mut(index);
            let Some(state) = self.calls.get_mut(&sequence.call).filter(|state| !state.ended) else { continue };
            match &mut sequence.goal {
                Goal::Generate(generation) => {
                    state.set_cached(sequence.cached.unwrap_or(0));
                    let token = result.token;
                    let room = sequence.tokens.len() + 1 < self.context_length;
                    let progress = generation.push(result, room);
                    if !progress.delta.is_empty() {
                        state.output.send(CallEvent::Delta(progress.delta), now);
                    }
                    match progress.ending {
                        None => sequence.tokens.push(token),
                        Some(ending) => {
                            outcomes.insert(sequence.call, generation.outcome(ending));
                            finished.push(index);
                        }
                    }
                }
                Goal::Score { logprobs, .. } => {
                    logprobs.push(TokenLogprob { token: result.token, logprob: result.logprob });
                    if owner.row + 2 == sequence.tokens.len() {
                        finished.push(index);
                    }
                }
                Goal::NextTokens { .. } => {
                    state.set_cached(sequence.cached.unwrap_or(0));
                    let logprobs = result.top.iter().map(|&(token, logprob)| TokenLogprob { token, logprob }).collect();
                    outcomes.insert(sequence.call, Outcome { logprobs, ..Outcome::default() });
                    finished.push(index);
                }
            }
        }
        for sequence in self.scheduler.finish(&finished) {
            let Some(state) = self.calls.get_mut(&sequence.call) else { continue };
            match outcomes.remove(&sequence.call) {
                Some(outcome) => state.finish(outcome, now),
                None => state.sequence_finished(sequence, now),
            }
        }
    }

    fn fail_all(&mut self, error: &Error) {
        let now = self.clock.monotonic();
        for state in self.calls.values_mut().filter(|state| !state.ended) {
            state.end(CallEvent::Failed(error.clone()), now);
        }
    }
}

#[cfg(test)]
impl EngineLoop {
    /// One turn of [`EngineLoop::run`] that never waits, with every invariant checked after it.
    pub(crate) fn step_for_test(&mut self) {
        while let Ok(accepted) = self.inbox.try_recv() {
            self.open(accepted);
        }
        self.supervised_step();
        self.watch_readers();
        self.scheduler.check();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(crate) fn slots(&self) -> (usize, usize, usize) {
        self.scheduler.slots()
    }
}
