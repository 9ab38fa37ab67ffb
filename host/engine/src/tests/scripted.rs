//! A model by script: a slot of its KV memory stores a hash of everything up to its token, and the next token is a
//! function of that hash. So a stale, shared or misplaced slot shows as a wrong token.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use sglhost_cache::Namespace;
use sglhost_core::{Clock, SamplingParams, TenantId, TokenId, limits::EngineLimits};
use sglhost_model::{Batch, ModelError, ModelInfo, ModelRunner, RowRequest, RowResult};
use sglhost_text::{GgufVocabulary, Tokenizer};
use tokio::sync::mpsc;

use crate::{
    CallEvent, Outcome,
    call::{Accepted, Job},
    engine_loop::EngineLoop,
    generation::{Generation, Start},
    output::Output,
};

/// Letters, each a token; the last token ends a text and is never produced by [`next_token`].
pub(super) const VOCABULARY: usize = 27;
pub(super) const END: TokenId = 26;

/// A tokenizer of the letters a to z and an end-of-text.
pub(super) fn tokenizer() -> Arc<Tokenizer> {
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

fn hash(tokens: &[TokenId]) -> u64 {
    tokens.iter().fold(7, |hash, &token| extend(hash, token))
}

fn token_after(hash: u64) -> TokenId {
    (hash % 26) as TokenId
}

fn logprob(hash: u64, token: TokenId) -> f32 {
    -((extend(hash, token) % 1000) as f32) / 100.0
}

/// What the model says after `tokens`.
pub(super) fn next_token(tokens: &[TokenId]) -> TokenId {
    token_after(hash(tokens))
}

/// What the model says of `continuation` after `prompt`.
pub(super) fn logprobs(prompt: &[TokenId], continuation: &[TokenId]) -> Vec<f32> {
    let all = [prompt, continuation].concat();
    (prompt.len()..all.len()).map(|at| logprob(hash(&all[..at]), all[at])).collect()
}

/// What a greedy generation of `count` tokens gives, as text.
pub(super) fn expected_text(prompt: &[TokenId], count: usize) -> String {
    let mut tokens = prompt.to_vec();
    for _ in 0..count {
        tokens.push(next_token(&tokens));
    }
    tokens[prompt.len()..].iter().map(|&token| char::from(b'a' + token as u8)).collect()
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
    /// Hash and position of what each slot holds.
    slots: Vec<Option<(u64, u32)>>,
    rows: Vec<u64>,
    results: Vec<RowResult>,
    pub(super) seen: Arc<Mutex<Seen>>,
    pub(super) fail: Arc<AtomicBool>,
}

impl Scripted {
    pub(super) fn new(kv_slots: usize, context_length: usize) -> Self {
        let kv = sglhost_device::KvLayout {
            layers: 1,
            kv_heads: 1,
            head_dim: 1,
            dtype: sglhost_device::DType::F32,
            page_tokens: 1,
        };
        Self {
            info: ModelInfo {
                name: "scripted".to_owned(),
                architecture: "script".to_owned(),
                vocabulary: VOCABULARY,
                context_length,
                end_of_text: vec![END],
                kv,
                description: "a script".to_owned(),
            },
            slots: vec![None; kv_slots],
            rows: Vec::new(),
            results: Vec::new(),
            seen: Arc::default(),
            fail: Arc::default(),
        }
    }
}

impl ModelRunner for Scripted {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn kv_slots(&self) -> usize {
        self.slots.len()
    }

    fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        if self.fail.swap(false, Ordering::Relaxed) {
            return Err(ModelError::Unsupported("a scripted failure".to_owned()));
        }
        let mut hashes = Vec::new();
        for sequence in 0..batch.sequence_count() {
            let [start, end] = [0, 1].map(|more| batch.sequence_starts[sequence + more] as usize);
            let [from, to] = [0, 1].map(|more| batch.context_starts[sequence + more] as usize);
            let context = &batch.context_slots[from..to];
            let cached = context.len() - (end - start);
            for (position, &slot) in context[..cached].iter().enumerate() {
                let (_, held) = self.slots[slot as usize].expect("a context slot was written");
                assert_eq!(held as usize, position, "slot {slot} holds another position");
            }
            let mut hash = if cached == 0 { 7 } else { self.slots[context[cached - 1] as usize].unwrap().0 };
            for row in start..end {
                assert_eq!(batch.positions[row] as usize, cached + row - start);
                assert_eq!(batch.slots[row], context[cached + row - start]);
                hash = extend(hash, batch.tokens[row]);
                self.slots[batch.slots[row] as usize] = Some((hash, batch.positions[row]));
                hashes.push(hash);
            }
        }
        self.rows = batch.sample_rows.iter().map(|&row| hashes[row as usize]).collect();
        let mut seen = self.seen.lock().unwrap();
        seen.tokens += batch.token_count();
        seen.steps += 1;
        seen.most_sequences = seen.most_sequences.max(batch.sequence_count());
        Ok(())
    }

    fn sample(&mut self, rows: &[RowRequest]) -> Result<(), ModelError> {
        assert_eq!(rows.len(), self.rows.len());
        let answer = |(request, &hash): (&RowRequest, &u64)| match request {
            RowRequest::Sample(row) => {
                let wanted = token_after(hash);
                let token = match &row.mask {
                    Some(mask) if !mask.allows(wanted) => mask.iter().next().expect("a mask allows something"),
                    _ => wanted,
                };
                RowResult { token, logprob: logprob(hash, token), top: Vec::new() }
            }
            RowRequest::Score { token, top } => {
                let mut all: Vec<(u32, f32)> = (0..26).map(|other| (other, logprob(hash, other))).collect();
                all.sort_by(|a, b| b.1.total_cmp(&a.1));
                all.truncate(*top as usize);
                RowResult { token: *token, logprob: logprob(hash, *token), top: all }
            }
        };
        self.results = rows.iter().zip(&self.rows).map(answer).collect();
        Ok(())
    }

    fn wait_sampled(&mut self) -> Result<Vec<RowResult>, ModelError> {
        Ok(std::mem::take(&mut self.results))
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
    pub(super) fail: Arc<AtomicBool>,
    inbox: SyncSender<Accepted>,
    tokenizer: Arc<Tokenizer>,
}

impl Bench {
    pub(super) fn new(kv_slots: usize, limits: EngineLimits) -> Self {
        let runner = Scripted::new(kv_slots, kv_slots);
        let (seen, fail) = (runner.seen.clone(), runner.fail.clone());
        let clock = Arc::new(TestClock::default());
        let (inbox, receiver): (_, Receiver<Accepted>) = sync_channel(10_000);
        let engine = EngineLoop::new(Box::new(runner), limits, clock.clone(), receiver);
        Self { engine, clock, seen, fail, inbox, tokenizer: tokenizer() }
    }

    /// Queues a call whose reader holds at most `buffered` events.
    pub(super) fn call_with_buffer(&self, prompt: &[TokenId], job: Job, buffered: usize) -> mpsc::Receiver<CallEvent> {
        let (sender, receiver) = mpsc::channel(buffered);
        let namespace = Namespace::new(TenantId::local(), Arc::from("scripted"));
        self.inbox.send(Accepted { namespace, prompt: prompt.to_vec(), job, output: Output::new(sender) }).unwrap();
        receiver
    }

    pub(super) fn call(&self, prompt: &[TokenId], job: Job) -> mpsc::Receiver<CallEvent> {
        self.call_with_buffer(prompt, job, 4096)
    }

    pub(super) fn generation(&self, params: SamplingParams) -> Job {
        let start = Start { prompt: &[], end_tokens: &[END], tokenizer: &self.tokenizer, fallback_seed: 0 };
        Job::Generate(Box::new(Generation::new(params, None, &start).unwrap()))
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
