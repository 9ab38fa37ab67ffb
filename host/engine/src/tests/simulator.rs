//! The simulator: seeded worlds of programs that call, fork, wait, dawdle and go away, on a machine with too little
//! memory that now and then fails, some of them under constraints whose masks come late. After every step all books are checked; every text is compared with what the script
//! says; in the end every call has ended exactly once and nothing is held.
//!
//! A failing world prints its seed. To replay it, or to run more of them:
//!
//! ```text
//! SIMULATOR_SEED=17 cargo test -p sglhost-engine simulator
//! SIMULATOR_STEPS=1000000 cargo test --release -p sglhost-engine simulator -- --nocapture
//! ```

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sglhost_core::{
    ChoicesMethod, ErrorCode, SamplingParams, StopConditions, TokenId,
    limits::{EngineLimits, SchedulePolicy},
};
use sglhost_model::ModelError;
use sglhost_text::Constraint;
use tokio::sync::mpsc::{Receiver, error::TryRecvError};

use super::{
    Fault,
    scripted::{Bench, Caller, Sizes, constrained_text, logprobs_adapted, sampled_text},
};
use crate::{CallEvent, Outcome, call::Job};

/// Steps of the test run.
const STEPS: u64 = 100_000;
/// Steps in which programs start, in one world.
const BUSY_STEPS: u64 = 1000;
/// Steps after which a world that nobody adds to must be empty.
const PATIENCE: u64 = 60_000;

/// What some outputs must match: with nothing forced, with forced runs before, between and behind, and nothing else.
const PATTERNS: &[&str] = &[
    "[a-p]{3,30}",
    "hello[a-z]{2,6}theend[xyz]?",
    "[a-m]{2}nopqrs[a-z]{1,9}ttttt",
    "abcdefghijklmnop",
    "(foo|fob)ar[a-z]+z",
];

/// What the script says that a call gives.
enum Expected {
    Text(String),
    Logprobs(Vec<f32>),
    /// Each choice's.
    Select(Vec<Vec<f32>>),
    Anything,
}

struct Live {
    events: Receiver<CallEvent>,
    expected: Expected,
    text: String,
    /// The chance that it reads in a step.
    diligence: f64,
    /// The chance that it goes away in a step.
    fickleness: f64,
    deadline: Option<Duration>,
    /// Whose next call waits for this one: index into `programs`, and its prompt.
    program: usize,
    prompt: Vec<TokenId>,
}

/// A program: a run that makes one round of calls after the other.
struct Program {
    caller: Caller,
    rounds: u32,
    under_way: usize,
    /// The text so far.
    context: Vec<TokenId>,
}

struct World {
    random: StdRng,
    bench: Bench,
    programs: Vec<Program>,
    live: Vec<Live>,
    steps: u64,
    next_run: u64,
    context_length: usize,
    open_loop: bool,
    may_fail: bool,
    /// The engine failed in this step or before: calls under way may say so.
    failures: u64,
    shared: Vec<TokenId>,
    constraints: Vec<Constraint>,
}

impl World {
    fn new(seed: u64, fault: Option<Fault>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let page_tokens = [1, 1, 4, 16][random.random_range(0..4)];
        let kv_slots = random.random_range(96..512);
        let context_length = random.random_range(64..=96);
        let chunk = random.random_range(4..64);
        let limits = EngineLimits {
            policy: if random.random_bool(0.8) {
                SchedulePolicy::LeastAttainedService
            } else {
                SchedulePolicy::FirstComeFirstServed
            },
            running_max: random.random_range(2..32),
            prefill_chunk_tokens: chunk,
            step_tokens_max: chunk + random.random_range(8..64),
            step_rows_max: 64,
            slow_reader: Duration::from_secs(1_000_000),
            jump_forward: random.random_bool(0.8),
            ..EngineLimits::default()
        };
        let sizes = Sizes { kv_slots, page_tokens, context_length, ahead: random.random_bool(0.5) };
        let mut bench = Bench::with(sizes, limits);
        bench.engine.scheduler().fault = fault;
        let mut lateness = StdRng::seed_from_u64(seed);
        let late = [0.0, 0.1, 0.7][random.random_range(0..3)];
        let delay = move || if lateness.random_bool(late) { lateness.random_range(1..6) } else { 0 };
        bench.engine.masks().delays = Some(Box::new(delay));
        let constraints =
            PATTERNS.iter().map(|pattern| Constraint::regex(pattern, &bench.tokenizer).unwrap()).collect();
        let shared = (0..40).map(|_| random.random_range(0..26)).collect();
        Self {
            bench,
            programs: Vec::new(),
            live: Vec::new(),
            steps: 0,
            next_run: 0,
            context_length,
            open_loop: random.random_bool(0.5),
            may_fail: random.random_bool(0.2),
            failures: 0,
            shared,
            constraints,
            random,
        }
    }

    fn run(&mut self) {
        if self.random.random_bool(0.3) {
            // What the operator publishes is taken over by the tenants whose adapter it fits.
            let prompt = self.shared[..16].to_vec();
            let caller = Caller::of("operator", u64::MAX);
            let events = self.bench.call_by(&caller, &prompt, Job::Publish);
            let program = self.program(caller, 0);
            self.watch(events, Expected::Anything, program, prompt, false);
        }
        for _ in 0..BUSY_STEPS {
            self.arrive();
            self.step();
        }
        if self.random.random_bool(0.1) {
            self.bench.engine.shut_down_for_test();
            self.failures += 1;
            for index in 0..self.live.len() {
                assert!(self.read_one(index).is_some(), "a call is not told of the shutdown");
            }
            return;
        }
        // Everybody who is left reads; nothing new comes.
        for live in &mut self.live {
            (live.diligence, live.fickleness) = (1.0, 0.0);
        }
        self.may_fail = false;
        let mut left = PATIENCE;
        while !self.live.is_empty() {
            self.step();
            left -= 1;
            assert!(left > 0, "{} calls make no progress", self.live.len());
        }
        for index in 0..self.programs.len() {
            let caller = self.programs[index].caller.clone();
            self.bench.end_run(&caller);
        }
        self.step();
        self.step();
        assert!(self.bench.engine.is_empty(), "calls are left");
        let scheduler = self.bench.engine.scheduler();
        assert_eq!((scheduler.running(), scheduler.waiting()), (0, 0), "sequences are left");
        assert!(scheduler.cache().locked() <= 16, "nothing is held but what is published");
    }

    fn step(&mut self) {
        self.steps += 1;
        let jump = if self.random.random_bool(0.001) { 20_000 } else { self.random.random_range(0..10) };
        self.bench.advance(Duration::from_millis(jump));
        if self.may_fail && self.random.random_bool(0.002) {
            *self.bench.fail.lock().unwrap() = Some(ModelError::Unsupported("a scripted failure".to_owned()));
            self.failures += 1;
        }
        self.bench.step();
        self.read();
    }

    fn program(&mut self, caller: Caller, rounds: u32) -> usize {
        self.programs.push(Program { caller, rounds, under_way: 0, context: Vec::new() });
        self.programs.len() - 1
    }

    /// Starts programs: as they come, or as many as there is room for.
    fn arrive(&mut self) {
        let starts = if self.open_loop {
            usize::from(self.random.random_bool(0.1))
        } else {
            12_usize.saturating_sub(self.live.len())
        };
        for _ in 0..starts {
            let adapter = self.random.random_range(0..3);
            self.next_run += 1;
            let caller = Caller {
                adapter,
                priority: if self.random.random_bool(0.1) { self.random.random_range(-1..=1) } else { 0 },
                ..Caller::of(["a", "b", "c"][adapter as usize], self.next_run)
            };
            let rounds = self.random.random_range(1..5);
            let program = self.program(caller, rounds);
            let shared = self.random.random_range(0..=self.shared.len());
            let mut context = self.shared[..shared].to_vec();
            let own = self.random.random_range(1..12);
            context.extend((0..own).map(|_| self.random.random_range(0..26)));
            self.programs[program].context = context;
            self.round(program);
        }
    }

    /// The next round of a program's calls: one, or a fork's several.
    fn round(&mut self, program: usize) {
        let room = self.context_length.saturating_sub(self.programs[program].context.len());
        if self.programs[program].rounds == 0 || room < 8 {
            let caller = self.programs[program].caller.clone();
            return self.bench.end_run(&caller);
        }
        self.programs[program].rounds -= 1;
        let forks = if self.random.random_bool(0.3) { self.random.random_range(2..6) } else { 1 };
        for fork in 0..forks {
            let mut prompt = self.programs[program].context.clone();
            if forks > 1 {
                prompt.extend([fork, fork]);
            }
            self.call(program, prompt);
        }
    }

    fn call(&mut self, program: usize, prompt: Vec<TokenId>) {
        let mut caller = self.programs[program].caller.clone();
        let adapter = caller.adapter;
        let slow = self.random.random_bool(0.1);
        caller.buffered = if slow { self.random.random_range(1..4) } else { 256 };
        if self.random.random_bool(0.05) {
            let now = *self.bench.clock.0.lock().unwrap();
            caller.deadline = Some(now + Duration::from_millis(self.random.random_range(0..500)));
        }
        let room = self.context_length - prompt.len();
        let (job, expected) = match self.random.random_range(0..10) {
            0 => {
                let count = self.random.random_range(1..4_usize.min(room));
                let tokens: Vec<TokenId> = (0..count).map(|_| self.random.random_range(0..26)).collect();
                let logprobs = logprobs_adapted(adapter, &prompt, &tokens);
                (Job::Score(tokens), Expected::Logprobs(logprobs))
            }
            1 => {
                let choices: Vec<Vec<TokenId>> = (0..self.random.random_range(1..6))
                    .map(|_| (0..self.random.random_range(1..3)).map(|_| self.random.random_range(0..26)).collect())
                    .collect();
                let all = choices.iter().map(|choice| logprobs_adapted(adapter, &prompt, choice)).collect();
                let method = ChoicesMethod::TokenLengthNormalized;
                (Job::Select { choices, method, root: None }, Expected::Select(all))
            }
            2 => (Job::NextTokens(3), Expected::Anything),
            _ => {
                let count = self.random.random_range(0..room.min(40) as u32);
                let seed = self.random.random_bool(0.5).then(|| self.random.random_range(0..1000));
                let constraint = self.random.random_range(0..2 * self.constraints.len());
                let constraint = self.constraints.get(constraint);
                let mut text = match constraint {
                    Some(constraint) => constrained_text(adapter, &prompt, count as usize, seed, constraint),
                    None => sampled_text(adapter, &prompt, count as usize, seed),
                };
                let mut stop = StopConditions::default();
                if self.random.random_bool(0.5) {
                    // A letter that may or may not come: nobody knows the end in advance.
                    stop.strings.push("q".to_owned());
                    text = text.split('q').next().unwrap_or_default().to_owned();
                }
                let temperature = f32::from(u8::from(seed.is_some()));
                let params = SamplingParams { max_tokens: count, temperature, seed, stop, ..SamplingParams::default() };
                (self.bench.constrained(params, constraint), Expected::Text(text))
            }
        };
        let events = self.bench.call_by(&caller, &prompt, job);
        self.programs[program].under_way += 1;
        self.watch(events, expected, program, prompt, slow);
        self.live.last_mut().unwrap().deadline = caller.deadline;
    }

    fn watch(
        &mut self,
        events: Receiver<CallEvent>,
        expected: Expected,
        program: usize,
        prompt: Vec<TokenId>,
        slow: bool,
    ) {
        let diligence = if slow { self.random.random_range(0.02..0.5) } else { 1.0 };
        let fickleness = if self.random.random_bool(0.1) { 0.05 } else { 0.0 };
        let (text, deadline) = (String::new(), None);
        self.live.push(Live { events, expected, text, diligence, fickleness, deadline, program, prompt });
    }

    /// Readers read, or go away; programs whose calls have ended go on.
    fn read(&mut self) {
        let mut index = 0;
        while index < self.live.len() {
            let live = &mut self.live[index];
            if self.random.random_bool(live.fickleness) {
                let gone = self.live.swap_remove(index);
                self.ended(gone.program, None);
                continue;
            }
            if !self.random.random_bool(live.diligence) {
                index += 1;
                continue;
            }
            match self.read_one(index) {
                None => index += 1,
                Some(continuation) => {
                    let live = self.live.swap_remove(index);
                    self.ended(live.program, continuation);
                }
            }
        }
    }

    /// Reads all that one call has to say. After its end: the context's new text, if it ended well.
    fn read_one(&mut self, index: usize) -> Option<Option<Vec<TokenId>>> {
        let now = *self.bench.clock.0.lock().unwrap();
        let live = &mut self.live[index];
        loop {
            match live.events.try_recv() {
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Disconnected) => panic!("a call ended without a terminal event"),
                Ok(CallEvent::Delta(piece)) => live.text.push_str(&piece),
                Ok(CallEvent::Finished(outcome)) => {
                    assert!(live.events.try_recv().is_err(), "the terminal event is the last");
                    check(live, &outcome);
                    return Some(Some([&live.prompt[..], &outcome.tokens[..outcome.kept_tokens]].concat()));
                }
                Ok(CallEvent::Failed(error)) => {
                    match error.code {
                        ErrorCode::Unavailable => assert!(self.failures > 0, "{error}"),
                        ErrorCode::DeadlineExceeded => {
                            assert!(live.deadline.is_some_and(|deadline| deadline <= now), "{error}");
                        }
                        // A published prefix that would leave no room for the longest sequence.
                        ErrorCode::LimitExceeded => assert!(matches!(live.expected, Expected::Anything), "{error}"),
                        _ => panic!("{error}"),
                    }
                    return Some(None);
                }
            }
        }
    }

    fn ended(&mut self, program: usize, context: Option<Vec<TokenId>>) {
        let state = &mut self.programs[program];
        state.under_way = state.under_way.saturating_sub(1);
        if let Some(context) = context {
            state.context = context;
        }
        if state.under_way == 0 {
            self.round(program);
        }
    }
}

fn check(live: &Live, outcome: &Outcome) {
    match &live.expected {
        Expected::Text(text) => {
            assert_eq!((&outcome.text, &live.text), (text, text), "after {:?}", live.prompt);
        }
        Expected::Logprobs(expected) => {
            let logprobs: Vec<f32> = outcome.logprobs.iter().map(|token| token.logprob).collect();
            assert_eq!(&logprobs, expected);
        }
        Expected::Select(expected) => {
            let means: Vec<f32> = expected.iter().map(|row| row.iter().sum::<f32>() / row.len() as f32).collect();
            assert_eq!(outcome.scores, means);
        }
        Expected::Anything => {}
    }
}

/// What happened in some worlds.
#[derive(Debug, Default)]
struct Explored {
    steps: u64,
    retractions: u64,
    discarded: u64,
    forced: u64,
    late: u64,
}

/// Runs worlds from `seed` on until they took `steps` steps. The first that fails, if any.
fn explore(seed: u64, steps: u64, fault: Option<Fault>) -> Result<Explored, u64> {
    let mut explored = Explored::default();
    for seed in seed.. {
        let mut world = World::new(seed, fault);
        if catch_unwind(AssertUnwindSafe(|| world.run())).is_err() {
            return Err(seed);
        }
        let metrics = &world.bench.metrics;
        explored.steps += world.steps;
        explored.retractions += metrics.retractions.get();
        explored.discarded += metrics.discarded_tokens.get();
        explored.forced += metrics.forced_tokens.get();
        explored.late += metrics.late_rows.get();
        if explored.steps >= steps {
            break;
        }
    }
    Ok(explored)
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the test's own command line")]
fn simulator() {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().unwrap());
    let replay = number("SIMULATOR_SEED");
    let steps = number("SIMULATOR_STEPS").unwrap_or(if replay.is_some() { 1 } else { STEPS });
    match explore(replay.unwrap_or(0), steps, None) {
        Ok(explored) => {
            println!("{explored:?}");
            let Explored { steps: _, retractions, discarded, forced, late } = explored;
            let all = retractions > 0 && discarded > 0 && forced > 0 && late > 0;
            assert!(replay.is_some() || all, "memory was tight, steps ran ahead, text was forced, masks came late");
        }
        Err(seed) => panic!("the world of seed {seed} fails; replay it with SIMULATOR_SEED={seed}"),
    }
}

/// A planted bug in each of the things that must hold shows.
#[test]
fn the_simulator_sees_planted_bugs() {
    for fault in [
        Fault::LeakSlot,
        Fault::ShareAcrossNamespaces,
        Fault::UnlockEarly,
        Fault::LoseEnding,
        Fault::CountRecomputed,
        Fault::ResumeUnsettled,
        Fault::ForgetParked,
        Fault::ForgetLate,
        Fault::AskTwice,
    ] {
        assert!(explore(0, STEPS, Some(fault)).is_err(), "{fault:?} goes unseen");
    }
}
