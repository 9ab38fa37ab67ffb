//! The loop that serves all calls together. One thread owns scheduler, cache and model by `&mut`; nothing is locked.
//!
//! A step: take messages in → drop calls whose reader went away → plan → launch the forward pass → commit the step
//! before → launch sampling. On a device that computes while the host goes on, committing a step (detokenizing,
//! matching stops, advancing constraints, telling readers) and building the next one's masks thus overlap the device's
//! work. Where launching is computing, a step is committed at its own end. Masks are built by other threads (`masks.rs`);
//! a row whose mask is late is asked for again in a later step.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::Duration,
};

use sglhost_core::{Clock, Error, ErrorCode, limits::EngineLimits};
use sglhost_model::{Batch, ModelError, ModelRunner, RowRequest, RowResult};
use tokio::sync::watch;

#[cfg(test)]
use crate::tests::Fault;
use crate::{
    CallEvent, EngineMetrics, Outcome, TokenLogprob,
    call::{Accepted, CallKey, CallState, Job, Message},
    masks::{GRACE, HELP, MaskPool},
    metrics::Observer,
    output::Reader,
    scheduler::{Plan, Scheduler},
    sequence::{Goal, Sequence, SequenceId},
};

/// How often a loop that has only slow readers, or masks, to wait for looks whether others came.
const SLOW_READER_POLL: Duration = Duration::from_millis(2);
/// Messages taken in between two steps at most.
const MESSAGES_PER_STEP: usize = 256;
/// How often all calls are looked at: whether their reader went away, whether their deadline passed. Those that ended, and
/// those whose reader did not take what it was sent, are looked at in the next step.
const SWEEP_INTERVAL: Duration = Duration::from_millis(20);

/// Everything the engine's thread owns.
pub(crate) struct EngineLoop {
    runner: Box<dyn ModelRunner>,
    clock: Arc<dyn Clock>,
    limits: EngineLimits,
    /// Longest sequence in tokens; one always fits KV memory.
    context_length: usize,
    inbox: Receiver<Message>,
    scheduler: Scheduler,
    masks: MaskPool,
    /// Sequences whose mask was late; some may be gone.
    late: Vec<SequenceId>,
    calls: BTreeMap<CallKey, CallState>,
    /// Calls whose reader is slow.
    paused: BTreeSet<CallKey>,
    /// Calls to look at in the next step.
    attention: Vec<CallKey>,
    next_call: CallKey,
    batch: Batch,
    /// The step whose sampling was launched and not committed.
    in_flight: Option<InFlight>,
    swept_at: Duration,
    observer: Observer,
    /// What this step spent on the model so far.
    model_time: Duration,
    /// The last step found nothing it could compute.
    stalled: bool,
    /// Why nothing will be computed again in this process: what every call is answered.
    lost: watch::Sender<Option<Error>>,
}

/// What a step asked of the sampler.
struct InFlight {
    rows: Vec<AskedRow>,
}

/// A row of logits that was given to the sampler.
struct AskedRow {
    sequence: SequenceId,
    /// Which of the sequence's tokens it follows.
    at: usize,
    /// Whether anybody wants to know what comes of it.
    wanted: bool,
}

impl EngineLoop {
    pub(crate) fn new(
        runner: Box<dyn ModelRunner>,
        limits: EngineLimits,
        clock: Arc<dyn Clock>,
        inbox: Receiver<Message>,
        masks: MaskPool,
        metrics: Arc<EngineMetrics>,
    ) -> Self {
        Self {
            scheduler: Scheduler::new(limits.clone(), &*runner),
            context_length: runner.longest_sequence(),
            runner,
            clock,
            limits,
            inbox,
            masks,
            late: Vec::new(),
            calls: BTreeMap::new(),
            paused: BTreeSet::new(),
            attention: Vec::new(),
            next_call: 0,
            batch: Batch::default(),
            in_flight: None,
            swept_at: Duration::ZERO,
            observer: Observer::new(metrics),
            model_time: Duration::ZERO,
            stalled: false,
            lost: watch::Sender::new(None),
        }
    }

    /// Tells when nothing will be computed again.
    pub(crate) fn lost(&self) -> watch::Receiver<Option<Error>> {
        self.lost.subscribe()
    }

    /// Serves until every handle is gone.
    pub(crate) fn run(mut self) {
        while self.take_messages() {
            self.supervised(Self::step);
        }
        self.shut_down();
    }

    /// Tells all calls, also those whose reader has not read what came before.
    fn shut_down(&mut self) {
        let error = Error::unavailable("the engine was shut down");
        self.fail_all(&error);
        for state in self.calls.values_mut().filter(|state| state.output.is_holding()) {
            state.output.cut_off(CallEvent::Failed(error.clone()));
        }
    }

    /// Something whose failure takes nothing else down: what was under way is answered, and the engine starts afresh. KV
    /// memory and cache may be half written, so nothing of them is kept.
    fn supervised(&mut self, act: impl FnOnce(&mut Self) -> Result<(), ModelError>) {
        let reason = match catch_unwind(AssertUnwindSafe(|| act(self))) {
            Ok(Ok(())) => return,
            Ok(Err(error)) if error.is_final() => {
                let lost = Error::unavailable(format!("{error}; the process must be started again"));
                self.lost.send_replace(Some(lost));
                error.to_string()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "an internal error, which is on the host's standard error".to_owned(),
        };
        let lost = self.lost.borrow().clone();
        let answer = if let Some(lost) = lost {
            tracing::error!("The engine stops after {reason}");
            lost
        } else {
            tracing::error!("The engine restarts after {reason}");
            Error::unavailable(format!("the engine restarted after {reason}; the same call may succeed"))
        };
        self.fail_all(&answer);
        self.in_flight = None;
        self.late.clear();
        self.runner.reset();
        self.paused.clear();
        self.scheduler = Scheduler::new(self.limits.clone(), &*self.runner);
        self.observer.restarted();
    }

    /// Takes in what has arrived, and waits if there is nothing else to do. Returns whether to go on.
    fn take_messages(&mut self) -> bool {
        // A burst is taken in over several steps, and what exceeds the limit stays in the inbox, which then refuses more.
        let room = self.limits.queued_max.saturating_sub(self.calls.len()).min(MESSAGES_PER_STEP);
        for _ in 0..room {
            let busy = self.in_flight.is_some() || (!self.stalled && self.calls.len() > self.paused.len());
            let received = if busy {
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
                Ok(message) => self.supervised(|engine| {
                    engine.take(message);
                    Ok(())
                }),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
        if room == 0 && self.stalled {
            std::thread::sleep(SLOW_READER_POLL);
        }
        true
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Call(accepted) => self.open(*accepted),
            Message::RunEnded(tenant, run) => self.scheduler.end_run(&tenant, run),
        }
    }

    fn open(&mut self, accepted: Accepted) {
        let now = self.clock.monotonic();
        let key = self.next_call;
        self.next_call += 1;
        self.stalled = false;
        let refused =
            matches!(accepted.job, Job::Publish) && !self.scheduler.has_room_to_publish(accepted.prompt.len());
        let account = self.scheduler.account(&accepted.tenant, accepted.run, accepted.priority);
        let (mut state, sequences) = CallState::open(key, account, accepted, now);
        self.observer.metrics.prompt_tokens.inc_by(state.prompt_tokens());
        let lost = self.lost.borrow().clone();
        for mut sequence in sequences {
            let begun = match &mut sequence.goal {
                _ if lost.is_some() => lost.clone().map_or(Ok(None), Err),
                Goal::Publish if refused => Err(no_room_to_publish(sequence.tokens.len(), self.context_length)),
                Goal::Generate(generation) if generation.wants_nothing() => Ok(Some(generation.empty_outcome())),
                // What is forced from the beginning is computed with the prompt.
                Goal::Generate(generation) => {
                    generation.jump(&mut sequence.tokens, self.context_length).map(|progress| {
                        self.observer.metrics.forced_tokens.inc_by(progress.forced as u64);
                        if deliver(&mut state, progress.delta, now) != Reader::Ready {
                            self.attention.push(key);
                        }
                        progress.ending.map(|ending| generation.outcome(ending))
                    })
                }
                _ => Ok(None),
            };
            match begun {
                Ok(None) => {
                    let id = self.scheduler.add(sequence, now);
                    state.sequences.push(id);
                }
                Ok(Some(outcome)) => {
                    self.observer.metrics.finished_calls.inc();
                    state.finish(outcome, now);
                }
                Err(error) => {
                    self.observer.metrics.failed_calls.inc();
                    state.end(CallEvent::Failed(error), now);
                    break;
                }
            }
        }
        if state.ended {
            self.scheduler.close_unused(account);
            self.attention.push(key);
        }
        self.calls.insert(key, state);
    }

    fn step(&mut self) -> Result<(), ModelError> {
        let now = self.clock.monotonic();
        self.model_time = Duration::ZERO;
        self.sweep(now);
        self.recall_late(Duration::ZERO);
        let plan = self.scheduler.plan(now, &self.paused);
        self.observer.planned(&plan, &self.scheduler, now);
        let launched = !plan.chunks.is_empty();
        self.stalled = !launched;
        if launched {
            self.scheduler.fill(&plan, &mut self.batch);
            self.start_masks(&plan);
            self.with_model(|runner, batch| runner.forward(batch))?;
            for sequence in self.scheduler.publish_prompts(&plan, now) {
                self.end_sequence(sequence, None, now);
            }
        }
        self.stalled &= !self.settle()?;
        if launched {
            self.launch_sampling(&plan)?;
        }
        if !self.runner.runs_ahead() {
            self.settle()?;
        }
        if launched {
            let host_time = (self.clock.monotonic() - now).saturating_sub(self.model_time);
            self.observer.metrics.host_time.observe(host_time.as_secs_f64());
        }
        if self.stalled && self.recall_late(SLOW_READER_POLL) {
            self.stalled = false;
        }
        Ok(())
    }

    /// Commits the step that is in flight, and says whether there was one.
    fn settle(&mut self) -> Result<bool, ModelError> {
        let Some(step) = self.in_flight.take() else { return Ok(false) };
        let results = self.with_model(|runner, _| runner.wait_sampled())?;
        self.commit(step, results);
        Ok(true)
    }

    /// Calls the model, and counts the time as its own.
    fn with_model<T>(&mut self, call: impl FnOnce(&mut dyn ModelRunner, &Batch) -> T) -> T {
        let start = self.clock.monotonic();
        let result = call(&mut *self.runner, &self.batch);
        self.model_time += self.clock.monotonic() - start;
        result
    }

    /// Delivers what is held, pauses calls whose reader lags behind, and drops those whose reader went away or whose
    /// deadline passed.
    fn sweep(&mut self, now: Duration) {
        let mut keys = std::mem::take(&mut self.attention);
        if now >= self.swept_at + SWEEP_INTERVAL || self.stalled {
            self.swept_at = now;
            keys = self.calls.keys().copied().collect();
        } else {
            keys.extend(&self.paused);
        }
        for key in keys {
            self.look_at(key, now);
        }
    }

    fn look_at(&mut self, key: CallKey, now: Duration) {
        let Some(state) = self.calls.get(&key) else { return };
        if state.deadline.is_some_and(|deadline| now >= deadline) {
            let error = Error::new(ErrorCode::DeadlineExceeded, "the call's deadline passed before it was done");
            self.fail(key, error, now);
        }
        let Some(state) = self.calls.get_mut(&key) else { return };
        let reader = state.output.flush(now, self.limits.slow_reader);
        match reader {
            Reader::Slow => self.paused.insert(key),
            Reader::Ready | Reader::Gone => self.paused.remove(&key),
        };
        if reader == Reader::Gone && !state.ended {
            self.observer.metrics.cancelled_calls.inc();
            self.scheduler.remove(&state.sequences, now);
        }
        if reader == Reader::Gone || (state.ended && !state.output.is_holding()) {
            self.calls.remove(&key);
            self.paused.remove(&key);
        }
    }

    /// Has the masks built that are wanted in the end of what this pass computes, as far as the tokens before are known.
    /// Those of sequences that wait for their turn are neither built nor held. Not in the middle of a commit: outputs under
    /// one constraint share what they learn of it, and a worker that builds a mask keeps others from advancing.
    fn start_masks(&mut self, plan: &Plan) {
        for chunk in &plan.chunks {
            if let Some(Sequence { goal: Goal::Generate(generation), .. }) = self.scheduler.get_mut(chunk.sequence) {
                generation.start_mask(&mut self.masks);
            }
        }
    }

    /// Lets those go on whose mask was late and has come, for one of which it waits as long as `patience`. Returns whether
    /// there are such.
    fn recall_late(&mut self, mut patience: Duration) -> bool {
        #[cfg(test)]
        if self.scheduler.fault == Some(Fault::ForgetLate) {
            return false;
        }
        let any = !self.late.is_empty();
        let (scheduler, masks) = (&mut self.scheduler, &self.masks);
        self.late.retain(|&id| {
            // One that was retracted meanwhile asks for its mask when it is back.
            let Some(sequence) = scheduler.get_mut(id).filter(|sequence| sequence.late) else { return false };
            if let Goal::Generate(generation) = &mut sequence.goal {
                sequence.late = !generation.late_mask_has_come(masks, std::mem::take(&mut patience));
            }
            sequence.late
        });
        any
    }

    /// Asks for each row of logits.
    fn launch_sampling(&mut self, plan: &Plan) -> Result<(), ModelError> {
        self.start_masks(plan);
        let helping_until = self.clock.monotonic() + HELP;
        for chunk in plan.chunks.iter().filter(|chunk| !chunk.rows.is_empty()) {
            if let Some(Sequence { goal: Goal::Generate(generation), .. }) = self.scheduler.get_mut(chunk.sequence) {
                generation.build_mask(&mut self.masks, self.clock.monotonic() < helping_until);
            }
        }
        let deadline = self.clock.monotonic() + GRACE;
        let (mut requests, mut rows) = (Vec::new(), Vec::new());
        for chunk in &plan.chunks {
            for at in chunk.rows.clone() {
                let request = self.ask(chunk.sequence, at, requests.len() as u32, deadline);
                rows.push(AskedRow { sequence: chunk.sequence, at, wanted: request.is_some() });
                requests.push(request.unwrap_or(RowRequest::Score { tokens: Vec::new(), top: 0 }));
            }
        }
        if !requests.is_empty() {
            self.with_model(|runner, _| runner.sample(&requests))?;
            self.in_flight = Some(InFlight { rows });
        }
        Ok(())
    }

    /// What to ask of a row of logits, the one after a sequence's token `at`: none if they are nobody's business. A call
    /// whose constraint has come to a dead end is failed.
    fn ask(&mut self, id: SequenceId, at: usize, row: u32, deadline: Duration) -> Option<RowRequest> {
        let vocabulary = self.runner.info().vocabulary;
        let now = self.clock.monotonic();
        #[cfg(test)]
        let fault = self.scheduler.fault;
        let Some(sequence) = self.scheduler.get_mut(id) else {
            // It has ended meanwhile.
            self.observer.metrics.discarded_tokens.inc();
            return None;
        };
        #[cfg(test)]
        let computed = sequence.computed_since_admission as u64;
        sequence.rows_in_flight += 1;
        let generation = match &mut sequence.goal {
            Goal::Generate(generation) => generation,
            Goal::Score { first_row, rows, .. } => {
                let tokens = rows[at - *first_row].iter().map(|(token, _)| *token).collect();
                return Some(RowRequest::Score { tokens, top: 0 });
            }
            Goal::NextTokens { count } => return Some(RowRequest::Score { tokens: Vec::new(), top: *count }),
            Goal::Publish => return None,
        };
        let overtaken = at + 1 < sequence.tokens.len();
        #[cfg(test)]
        let overtaken = overtaken && fault != Some(Fault::AskTwice);
        if overtaken {
            // The token was sampled when the pass was launched already, and its constraint forces others after it.
            return None;
        }
        if !generation.is_ready(deadline.saturating_sub(now)) {
            // Its logits cannot wait, so its last token is computed again when the mask is there. That writes the slot's
            // keys and values once more, which others may read by then: the same again, as token, position and all before
            // are the same, and where a device's sums depend on the batch, another rounding that is as good.
            sequence.late = true;
            sequence.computed -= 1;
            self.late.push(id);
            self.observer.metrics.late_rows.inc();
            return None;
        }
        match generation.row(vocabulary) {
            Ok(asked) => {
                #[cfg(test)]
                let asked = match (fault, asked) {
                    (Some(Fault::CountRecomputed), RowRequest::Sample(mut row)) => {
                        row.position = computed;
                        RowRequest::Sample(row)
                    }
                    (_, asked) => asked,
                };
                sequence.sampled_row = Some(row);
                Some(asked)
            }
            Err(error) => {
                let call = sequence.call;
                self.fail(call, error, now);
                None
            }
        }
    }

    fn fail(&mut self, call: CallKey, error: Error, now: Duration) {
        let Some(state) = self.calls.get_mut(&call).filter(|state| !state.ended) else { return };
        self.attention.push(call);
        state.end(CallEvent::Failed(error), now);
        self.observer.metrics.failed_calls.inc();
        self.scheduler.remove(&state.sequences, now);
    }

    /// Takes over a step's results: appends tokens, delivers text, ends calls.
    fn commit(&mut self, step: InFlight, results: Vec<RowResult>) {
        assert_eq!(results.len(), step.rows.len(), "a result for each row");
        let now = self.clock.monotonic();
        for (AskedRow { sequence: id, at, wanted }, result) in step.rows.into_iter().zip(results) {
            let Some(sequence) = self.scheduler.get_mut(id) else { continue };
            sequence.rows_in_flight -= 1;
            if !wanted {
                continue;
            }
            sequence.sampled_row = None;
            let call = sequence.call;
            let Some(state) = self.calls.get_mut(&call).filter(|state| !state.ended) else { continue };
            if let Some(reason) = result.refused {
                self.fail(call, Error::unavailable(format!("nothing can be sampled here: {reason}")), now);
                continue;
            }
            let outcome = match &mut sequence.goal {
                Goal::Generate(generation) => {
                    let metrics = &self.observer.metrics;
                    metrics.generation_tokens.inc();
                    match state.token_at.replace(now) {
                        Some(before) => metrics.inter_token_latency.observe((now - before).as_secs_f64()),
                        None => metrics.time_to_first_token.observe((now - state.opened_at).as_secs_f64()),
                    }
                    let before = sequence.tokens.len();
                    let progress = match generation.extend(&result, &mut sequence.tokens, self.context_length) {
                        Ok(progress) => progress,
                        Err(error) => {
                            self.fail(call, error, now);
                            continue;
                        }
                    };
                    sequence.appended = sequence.tokens.len() - before;
                    metrics.forced_tokens.inc_by(progress.forced as u64);
                    if deliver(state, progress.delta, now) != Reader::Ready {
                        self.attention.push(call);
                    }
                    let Some(ending) = progress.ending else { continue };
                    Some(generation.outcome(ending))
                }
                Goal::Score { first_row, rows, scored } => {
                    state.set_scores(&rows[at - *first_row], &result.scores);
                    *scored += 1;
                    if *scored < rows.len() {
                        continue;
                    }
                    None
                }
                Goal::NextTokens { .. } => {
                    let logprobs = result.top.iter().map(|&(token, logprob)| TokenLogprob { token, logprob }).collect();
                    Some(Outcome { logprobs, ..Outcome::default() })
                }
                Goal::Publish => continue,
            };
            if let Some(sequence) = self.scheduler.finish(id, now) {
                self.end_sequence(sequence, outcome, now);
            }
        }
    }

    /// Passes a finished sequence on to its call.
    fn end_sequence(&mut self, sequence: Sequence, outcome: Option<Outcome>, now: Duration) {
        let Some(state) = self.calls.get_mut(&sequence.call).filter(|state| !state.ended) else { return };
        #[cfg(test)]
        if self.scheduler.fault == Some(Fault::LoseEnding) {
            return;
        }
        state.note_cached(&sequence);
        match (outcome, &sequence.goal) {
            (Some(outcome), _) => state.finish(outcome, now),
            (None, Goal::Publish) => state.finish(Outcome::default(), now),
            (None, _) => {
                state.sequence_finished(now);
                if let Some(next) = state.next_sequence(sequence.account, sequence.call) {
                    let id = self.scheduler.add(next, now);
                    state.sequences.push(id);
                }
            }
        }
        if state.ended {
            self.attention.push(sequence.call);
            self.observer.metrics.finished_calls.inc();
            self.observer.metrics.call_latency.observe((now - state.opened_at).as_secs_f64());
        }
    }

    fn fail_all(&mut self, error: &Error) {
        let now = self.clock.monotonic();
        for (&key, state) in self.calls.iter_mut().filter(|(_, state)| !state.ended) {
            self.observer.metrics.failed_calls.inc();
            self.attention.push(key);
            state.end(CallEvent::Failed(error.clone()), now);
        }
    }
}

/// Sends text to a call's reader.
fn deliver(state: &mut CallState, text: String, now: Duration) -> Reader {
    if text.is_empty() { Reader::Ready } else { state.output.send(CallEvent::Delta(text), now) }
}

fn no_room_to_publish(tokens: usize, context_length: usize) -> Error {
    Error::limit(format!(
        "no room to publish {tokens} tokens: what is published is held for good, and a context of {context_length} tokens \
         must fit beside it; publish less, or give the KV memory more tokens"
    ))
}

#[cfg(test)]
impl EngineLoop {
    /// One turn of [`EngineLoop::run`] that never waits, with every invariant checked after it.
    pub(crate) fn step_for_test(&mut self) {
        self.take_all_for_test();
        self.supervised(Self::step);
        self.sweep(self.clock.monotonic());
        self.scheduler.check();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(crate) fn masks(&mut self) -> &mut MaskPool {
        &mut self.masks
    }

    pub(crate) fn scheduler(&mut self) -> &mut Scheduler {
        &mut self.scheduler
    }

    /// What happens when every handle is gone: the inbox is read to its end before.
    pub(crate) fn shut_down_for_test(&mut self) {
        self.take_all_for_test();
        self.shut_down();
    }

    fn take_all_for_test(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            self.take(message);
        }
    }
}
