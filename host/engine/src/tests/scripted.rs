//! A model by script: a slot of its KV memory stores a hash of everything up to its token, and the next token is a
//! function of that hash. So a stale, shared or misplaced slot shows as a wrong token. The adapter is part of the hash:
//! where each namespace has an adapter of its own, a slot shown to another namespace shows as well.
//!
//! It can compute while the host goes on: then what is launched is computed when its results are waited for, in order.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use sglhost_cache::Namespace;
use sglhost_core::{Clock, RunId, SamplingParams, TenantId, TokenId, TokenMask, limits::EngineLimits};
use sglhost_model::{Batch, ModelError, ModelInfo, ModelRunner, RowRequest, RowResult};
use sglhost_text::{Constraint, GgufVocabulary, Tokenizer};
use tokio::sync::mpsc;

use crate::{
    CallEvent, EngineMetrics, Outcome,
    call::{Accepted, Job, Message},
    engine_loop::EngineLoop,
    generation::{Generation, Start},
    masks::MaskPool,
    output::Output,
};

/// Letters, each a token; the last token ends a text and is never produced by [`next_token`].
pub(super) const VOCABULARY: usize = 27;
pub(crate) const END: TokenId = 26;

/// A tokenizer of the letters a to z and an end-of-text.
pub(crate) fn tokenizer() -> Arc<Tokenizer> {
    let mut tokens: Vec<String> = ('a'..='z').map(String::from).collect();
    tokens.push("<end>".to_owned());
    let mut token_types = vec![1; 26];
    token_types.push(3);
    Arc::new(
        Tokenizer::from_gguf(GgufVocabulary {
            model: "gpt2".to_owned(),
            pre: Some("gpt-2".to_owned()),
            tokens,
            token_types,
            eos: Some(END),
            ..GgufVocabulary::default()
        })
        .unwrap(),
    )
}

/// The hash of a prefix, token by token.
fn extend(hash: u64, token: TokenId) -> u64 {
    let mixed = (hash ^ u64::from(token)).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ (mixed >> 29)
}

/// The hash of nothing.
fn start(adapter: u32) -> u64 {
    extend(7, adapter)
}

fn hash(adapter: u32, tokens: &[TokenId]) -> u64 {
    tokens.iter().fold(start(adapter), |hash, &token| extend(hash, token))
}

/// The token sampled as the `position`th of an output; greedy without a seed.
fn token_after(hash: u64, random: Option<(u64, u64)>) -> TokenId {
    let drawn = random.map_or(hash, |(seed, position)| extend(extend(hash, seed as u32), position as u32));
    (drawn % 26) as TokenId
}

fn logprob(hash: u64, token: TokenId) -> f32 {
    -((extend(hash, token) % 1000) as f32) / 100.0
}

/// What the model says after `tokens`.
pub(super) fn next_token(tokens: &[TokenId]) -> TokenId {
    token_after(hash(0, tokens), None)
}

/// What the model says of `continuation` after `prompt`.
pub(super) fn logprobs(prompt: &[TokenId], continuation: &[TokenId]) -> Vec<f32> {
    logprobs_adapted(0, prompt, continuation)
}

pub(super) fn logprobs_adapted(adapter: u32, prompt: &[TokenId], continuation: &[TokenId]) -> Vec<f32> {
    let all = [prompt, continuation].concat();
    (prompt.len()..all.len()).map(|at| logprob(hash(adapter, &all[..at]), all[at])).collect()
}

/// What a generation of `count` tokens gives, as text; drawn if there is a seed.
pub(super) fn sampled_text(adapter: u32, prompt: &[TokenId], count: usize, seed: Option<u64>) -> String {
    let mut hash = hash(adapter, prompt);
    let mut text = String::new();
    for position in 0..count as u64 {
        let token = token_after(hash, seed.map(|seed| (seed, position)));
        hash = extend(hash, token);
        text.push(char::from(b'a' + token as u8));
    }
    text
}

/// What a generation of at most `count` tokens under a constraint gives, each token by itself; with its tokens.
pub(super) fn constrained_text(
    adapter: u32,
    prompt: &[TokenId],
    count: usize,
    seed: Option<u64>,
    constraint: &Constraint,
) -> String {
    let mut hash = hash(adapter, prompt);
    let mut state = constraint.start();
    let mut text = String::new();
    for position in 0..count as u64 {
        let token = masked(token_after(hash, seed.map(|seed| (seed, position))), &state.mask());
        if token == END {
            break;
        }
        assert!(state.advance(token));
        hash = extend(hash, token);
        text.push(char::from(b'a' + token as u8));
        if state.is_finished() {
            break;
        }
    }
    text
}

/// What is drawn under a mask in place of `wanted`.
fn masked(wanted: TokenId, mask: &TokenMask) -> TokenId {
    if mask.allows(wanted) { wanted } else { mask.iter().next().expect("a mask allows something") }
}

/// What a greedy generation of `count` tokens gives, as text.
pub(super) fn expected_text(prompt: &[TokenId], count: usize) -> String {
    sampled_text(0, prompt, count, None)
}

/// What the model saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) tokens: usize,
    pub(super) steps: usize,
    pub(super) most_sequences: usize,
}

pub(super) struct Scripted {
    info: ModelInfo,
    /// Whether it computes while the host goes on.
    ahead: bool,
    /// Hash and position of what each slot holds.
    slots: Vec<Option<(u64, u32)>>,
    launched: VecDeque<Launched>,
    /// Hashes of the last pass's sample rows.
    rows: Vec<u64>,
    /// Tokens of the last sampling that was computed.
    sampled: Vec<TokenId>,
    pub(super) seen: Arc<Mutex<Seen>>,
    /// What the next pass fails with.
    pub(super) fail: Arc<Mutex<Option<ModelError>>>,
}

/// Of calls whose rows have no answer.
pub(super) const REFUSED_SEED: u64 = 0x0bad_5eed;

enum Launched {
    Forward(Box<Batch>),
    Sample(Vec<RowRequest>),
}

/// Sizes of a scripted model.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) kv_slots: usize,
    pub(super) page_tokens: usize,
    pub(super) context_length: usize,
    pub(super) ahead: bool,
}

impl Scripted {
    pub(super) fn new(sizes: Sizes) -> Self {
        let kv = sglhost_device::KvLayout {
            layers: 1,
            kv_heads: 1,
            head_dim: 1,
            dtype: sglhost_device::DType::F32,
            page_tokens: sizes.page_tokens,
        };
        Self {
            info: ModelInfo {
                name: "scripted".to_owned(),
                architecture: "script".to_owned(),
                vocabulary: VOCABULARY,
                context_length: sizes.context_length,
                end_of_text: vec![END],
                kv,
                description: "a script".to_owned(),
            },
            ahead: sizes.ahead,
            slots: vec![None; sizes.kv_slots],
            launched: VecDeque::new(),
            rows: Vec::new(),
            sampled: Vec::new(),
            seen: Arc::default(),
            fail: Arc::default(),
        }
    }

    fn compute(&mut self, batch: &Batch) {
        let mut tokens = batch.tokens.clone();
        for &(row, sampled) in &batch.sampled_inputs {
            tokens[row as usize] = self.sampled[sampled as usize];
        }
        let mut hashes = Vec::new();
        for sequence in 0..batch.sequence_count() {
            let [start_row, end] = [0, 1].map(|more| batch.sequence_starts[sequence + more] as usize);
            let [from, to] = [0, 1].map(|more| batch.context_starts[sequence + more] as usize);
            let context = &batch.context_slots[from..to];
            let adapter = batch.adapters.get(start_row).copied().unwrap_or(0);
            let cached = context.len() - (end - start_row);
            let mut all = start(adapter);
            for (position, &slot) in context[..cached].iter().enumerate() {
                let (hash, held) = self.slots[slot as usize].expect("a context slot was written");
                assert_eq!(held as usize, position, "slot {slot} holds another position");
                all = hash;
            }
            for row in start_row..end {
                assert_eq!(batch.positions[row] as usize, cached + row - start_row);
                assert_eq!(batch.slots[row], context[cached + row - start_row]);
                all = extend(all, tokens[row]);
                self.slots[batch.slots[row] as usize] = Some((all, batch.positions[row]));
                hashes.push(all);
            }
        }
        self.rows = batch.sample_rows.iter().map(|&row| hashes[row as usize]).collect();
        let mut seen = self.seen.lock().unwrap();
        seen.tokens += batch.token_count();
        seen.steps += 1;
        seen.most_sequences = seen.most_sequences.max(batch.sequence_count());
    }

    fn answer(&mut self, requests: &[RowRequest]) -> Vec<RowResult> {
        assert_eq!(requests.len(), self.rows.len());
        let answer = |(request, &hash): (&RowRequest, &u64)| match request {
            RowRequest::Sample(row) if row.seed == REFUSED_SEED => {
                RowResult { refused: Some("a scripted refusal"), ..RowResult::default() }
            }
            RowRequest::Sample(row) => {
                let random = (row.temperature > 0.0).then_some((row.seed, row.position));
                let wanted = token_after(hash, random);
                let token = row.mask.as_ref().map_or(wanted, |mask| masked(wanted, mask));
                RowResult { token, logprob: logprob(hash, token), ..RowResult::default() }
            }
            RowRequest::Score { tokens, top } => {
                let mut all: Vec<(u32, f32)> = (0..26).map(|other| (other, logprob(hash, other))).collect();
                all.sort_by(|a, b| b.1.total_cmp(&a.1));
                all.truncate(*top as usize);
                let scores = tokens.iter().map(|&token| logprob(hash, token)).collect();
                RowResult { scores, top: all, ..RowResult::default() }
            }
        };
        let results: Vec<RowResult> = requests.iter().zip(&self.rows).map(answer).collect();
        self.sampled = results.iter().map(|result| result.token).collect();
        results
    }
}

impl ModelRunner for Scripted {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn kv_slots(&self) -> usize {
        self.slots.len()
    }

    fn runs_ahead(&self) -> bool {
        self.ahead
    }

    fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        if let Some(error) = self.fail.lock().unwrap().take() {
            return Err(error);
        }
        self.launched.push_back(Launched::Forward(Box::new(batch.clone())));
        Ok(())
    }

    fn sample(&mut self, rows: &[RowRequest]) -> Result<(), ModelError> {
        self.launched.push_back(Launched::Sample(rows.to_vec()));
        Ok(())
    }

    fn wait_sampled(&mut self) -> Result<Vec<RowResult>, ModelError> {
        while let Some(launched) = self.launched.pop_front() {
            match launched {
                Launched::Forward(batch) => self.compute(&batch),
                Launched::Sample(rows) => return Ok(self.answer(&rows)),
            }
        }
        panic!("nothing was sampled");
    }

    fn reset(&mut self) {
        self.launched.clear();
    }
}

/// A clock that a test moves.
#[derive(Debug, Default)]
pub(super) struct TestClock(pub(super) Mutex<Duration>);

impl Clock for TestClock {
    fn monotonic(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn wall(&self) -> Duration {
        self.monotonic()
    }
}

/// An engine loop that a test steps by hand.
pub(super) struct Bench {
    pub(super) engine: EngineLoop,
    pub(super) clock: Arc<TestClock>,
    pub(super) seen: Arc<Mutex<Seen>>,
    /// What the next pass fails with.
    pub(super) fail: Arc<Mutex<Option<ModelError>>>,
    pub(super) metrics: Arc<EngineMetrics>,
    inbox: SyncSender<Message>,
    pub(super) tokenizer: Arc<Tokenizer>,
    jump_forward: bool,
}

/// Who calls, and how.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) tenant: TenantId,
    pub(super) run: RunId,
    pub(super) adapter: u32,
    pub(super) priority: i32,
    pub(super) deadline: Option<Duration>,
    /// Events that the reader's channel holds.
    pub(super) buffered: usize,
}

impl Caller {
    /// A run of the one local tenant.
    pub(super) fn run(run: u64) -> Self {
        let tenant = TenantId::local();
        Self { tenant, run: RunId(run), adapter: 0, priority: 0, deadline: None, buffered: 4096 }
    }

    pub(super) fn of(tenant: &str, run: u64) -> Self {
        Self { tenant: TenantId(Arc::from(tenant)), ..Self::run(run) }
    }
}

impl Bench {
    pub(super) fn new(kv_slots: usize, limits: EngineLimits) -> Self {
        Self::with(Sizes { kv_slots, page_tokens: 1, context_length: kv_slots, ahead: false }, limits)
    }

    pub(super) fn with(sizes: Sizes, limits: EngineLimits) -> Self {
        let runner = Scripted::new(sizes);
        let (seen, fail) = (runner.seen.clone(), runner.fail.clone());
        let (clock, metrics) = (Arc::new(TestClock::default()), Arc::new(EngineMetrics::default()));
        let (inbox, receiver): (_, Receiver<Message>) = sync_channel(10_000);
        let jump_forward = limits.jump_forward;
        // What threads do is no script's: only where a test asks for them.
        let masks =
            MaskPool::start(limits.mask_threads.or(Some(0)), sizes.ahead, clock.clone(), metrics.clone()).unwrap();
        let engine = EngineLoop::new(Box::new(runner), limits, clock.clone(), receiver, masks, metrics.clone());
        Self { engine, clock, seen, fail, metrics, inbox, tokenizer: tokenizer(), jump_forward }
    }

    pub(super) fn call_by(&self, caller: &Caller, prompt: &[TokenId], job: Job) -> mpsc::Receiver<CallEvent> {
        let (output, receiver) = Output::new(caller.buffered);
        let model: Arc<str> = Arc::from("scripted");
        let namespace = match job {
            Job::Publish => Namespace::published(model),
            _ => Namespace { adapter: caller.adapter, ..Namespace::new(caller.tenant.clone(), model) },
        };
        let accepted = Accepted {
            tenant: caller.tenant.clone(),
            run: caller.run,
            priority: caller.priority,
            deadline: caller.deadline,
            namespace,
            prompt: prompt.to_vec(),
            job,
            output,
        };
        self.inbox.send(Message::Call(Box::new(accepted))).unwrap();
        receiver
    }

    pub(super) fn end_run(&self, caller: &Caller) {
        self.inbox.send(Message::RunEnded(caller.tenant.clone(), caller.run)).unwrap();
    }

    pub(super) fn advance(&self, by: Duration) {
        *self.clock.0.lock().unwrap() += by;
    }

    /// Queues a call whose reader holds at most `buffered` events.
    pub(super) fn call_with_buffer(&self, prompt: &[TokenId], job: Job, buffered: usize) -> mpsc::Receiver<CallEvent> {
        self.call_by(&Caller { buffered, ..Caller::run(0) }, prompt, job)
    }

    pub(super) fn call(&self, prompt: &[TokenId], job: Job) -> mpsc::Receiver<CallEvent> {
        self.call_by(&Caller::run(0), prompt, job)
    }

    pub(super) fn generation(&self, params: SamplingParams) -> Job {
        self.constrained(params, None)
    }

    pub(super) fn constrained(&self, params: SamplingParams, constraint: Option<&Constraint>) -> Job {
        // Without a seed the script is followed greedily.
        let temperature = if params.seed.is_some() { params.temperature } else { 0.0 };
        let params = SamplingParams { temperature, ..params };
        let (tokenizer, jump_forward) = (&self.tokenizer, self.jump_forward);
        let start = Start { prompt: &[], end_tokens: &[END], tokenizer, fallback_seed: 0, jump_forward };
        Job::Generate(Box::new(Generation::new(params, constraint, &start).unwrap()))
    }

    pub(super) fn generate(&self, prompt: &[TokenId], max_tokens: u32) -> mpsc::Receiver<CallEvent> {
        self.call(prompt, self.generation(SamplingParams { max_tokens, ..SamplingParams::default() }))
    }

    /// Takes one step and checks the bookkeeping.
    pub(super) fn step(&mut self) {
        self.engine.step_for_test();
    }

    /// Steps until every call has ended and been delivered.
    ///
    /// # Panics
    /// If that takes absurdly long.
    pub(super) fn finish(&mut self) {
        for _ in 0..100_000 {
            self.step();
            if self.engine.is_empty() {
                return;
            }
        }
        panic!("the engine makes no progress");
    }
}

/// What a call gave: its deltas joined, and how it ended. Checks that there is exactly one terminal event, the last.
pub(super) fn collect(mut events: mpsc::Receiver<CallEvent>) -> (String, Result<Outcome, sglhost_core::Error>) {
    let (mut text, mut ending) = (String::new(), None);
    while let Ok(event) = events.try_recv() {
        assert!(ending.is_none(), "{event:?} after the terminal event");
        match event {
            CallEvent::Delta(piece) => text.push_str(&piece),
            CallEvent::Finished(outcome) => ending = Some(Ok(*outcome)),
            CallEvent::Failed(error) => ending = Some(Err(error)),
        }
    }
    (text, ending.expect("a terminal event"))
}
