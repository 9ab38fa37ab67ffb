//! A model that follows a script, for the real engine: its tokens are bytes, and what it answers is letters that depend
//! on all tokens before them, as a model's would.
//!
//! Its KV memory holds, for each slot, a hash of all tokens up to that one: a cache that served a slot to the wrong
//! sequence would change what is answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use sglhost_core::TokenMask;
use sglhost_core::limits::EngineLimits;
use sglhost_device::{Batch, DType, KvLayout, RowRequest, RowResult, SampleRow};
use sglhost_engine::{EngineHandle, ServedModel, SystemClock};
use sglhost_model::{ModelError, ModelInfo, ModelRunner};
use sglhost_text::Roles;

use crate::scripted::{END, byte_tokenizer};

/// Its chat template.
const TEMPLATE: &str = "{% for message in messages %}[{{ message.role }}]{{ message.content }}[/]\n{% endfor %}\
                        {% if add_generation_prompt %}[assistant]{% endif %}";

/// The model.
pub struct ScriptedModel {
    info: ModelInfo,
    /// Of each slot: the hash of all tokens up to its own.
    slots: Vec<u64>,
    /// Hashes of the rows to sample.
    rows: Vec<u64>,
    answers: VecDeque<Vec<RowResult>>,
    /// What a pass takes.
    step: Duration,
    passes: Arc<AtomicUsize>,
}

impl ScriptedModel {
    /// A model with room for `slots` tokens, whose passes take `step` each.
    #[must_use]
    pub fn new(slots: usize, step: Duration) -> Self {
        let kv = KvLayout { layers: 1, kv_heads: 1, head_dim: 1, dtype: DType::F32, page_tokens: 1 };
        let info = ModelInfo {
            name: "scripted".to_owned(),
            architecture: "script".to_owned(),
            vocabulary: END as usize + 1,
            context_length: 4096,
            end_of_text: vec![END],
            kv,
            description: "a script".to_owned(),
        };
        Self { info, slots: vec![0; slots], rows: Vec::new(), answers: VecDeque::new(), step, passes: Arc::default() }
    }

    /// How many passes it has computed, for a look after it has become an engine.
    #[must_use]
    pub fn passes(&self) -> Arc<AtomicUsize> {
        Arc::clone(&self.passes)
    }

    /// An engine that serves it.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn engine(self, limits: EngineLimits) -> Arc<EngineHandle> {
        let tokenizer = Arc::new(byte_tokenizer());
        let roles = Roles::from_template(TEMPLATE, &tokenizer).unwrap();
        let served = ServedModel { runner: Box::new(self), tokenizer, roles };
        Arc::new(EngineHandle::start(vec![served], limits, Arc::new(SystemClock::default())).unwrap())
    }
}

impl ModelRunner for ScriptedModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn kv_slots(&self) -> usize {
        self.slots.len()
    }

    fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        let mut hashes = Vec::with_capacity(batch.token_count());
        for sequence in 0..batch.sequence_count() {
            let rows = batch.sequence_starts[sequence] as usize..batch.sequence_starts[sequence + 1] as usize;
            let context_end = batch.context_starts[sequence + 1] as usize;
            let cached = (context_end - rows.len()).checked_sub(1);
            let has_cached = context_end - batch.context_starts[sequence] as usize > rows.len();
            let last = cached.filter(|_| has_cached).map(|at| self.slots[batch.context_slots[at] as usize]);
            let mut hash = last.unwrap_or(1);
            for row in rows {
                hash = mix(hash ^ u64::from(batch.tokens[row]));
                self.slots[batch.slots[row] as usize] = hash;
                hashes.push(hash);
            }
        }
        self.rows = batch.sample_rows.iter().map(|&row| hashes[row as usize]).collect();
        self.passes.fetch_add(1, Ordering::SeqCst);
        if !self.step.is_zero() {
            thread::sleep(self.step);
        }
        Ok(())
    }

    fn sample(&mut self, rows: &[RowRequest]) -> Result<(), ModelError> {
        let answer = |(request, &hash): (&RowRequest, &u64)| match request {
            RowRequest::Sample(row) => {
                let random = if row.temperature > 0.0 { row.seed ^ row.position } else { 0 };
                let letter = u32::from(b'a') + (mix(hash ^ random ^ unusual(row)) % 26) as u32;
                let token = match &row.mask {
                    Some(mask) if !mask.allows(letter) => first_of(mask),
                    _ => letter,
                };
                let top = likeliest(hash, row.top_logprobs.unwrap_or_default());
                RowResult { token, logprob: logprob(hash, token), top, ..RowResult::default() }
            }
            RowRequest::Score { tokens, top } => {
                let scores = tokens.iter().map(|&token| logprob(hash, token)).collect();
                RowResult { scores, top: likeliest(hash, *top), ..RowResult::default() }
            }
        };
        self.answers.push_back(rows.iter().zip(&self.rows).map(answer).collect());
        Ok(())
    }

    fn wait_sampled(&mut self) -> Result<Vec<RowResult>, ModelError> {
        Ok(self.answers.pop_front().unwrap_or_default())
    }

    fn reset(&mut self) {
        self.answers.clear();
    }
}

/// SplitMix64's output function.
fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// A letter if the mask allows one.
fn first_of(mask: &TokenMask) -> u32 {
    let letter = (u32::from(b'a')..=u32::from(b'z')).find(|&letter| mask.allows(letter));
    letter.or_else(|| mask.iter().next()).unwrap_or(END)
}

/// Zero if the sampling parameters are the default ones; else a number of their own, so that each that arrives is seen.
fn unusual(row: &SampleRow) -> u64 {
    let SampleRow { top_k, top_p, min_p, frequency_penalty, presence_penalty, repetition_penalty, .. } = *row;
    let usual = SampleRow::default();
    let changed = [
        u64::from(top_k ^ usual.top_k),
        u64::from(top_p.to_bits() ^ usual.top_p.to_bits()),
        u64::from(min_p.to_bits() ^ usual.min_p.to_bits()),
        u64::from(frequency_penalty.to_bits() ^ usual.frequency_penalty.to_bits()),
        u64::from(presence_penalty.to_bits() ^ usual.presence_penalty.to_bits()),
        u64::from(repetition_penalty.to_bits() ^ usual.repetition_penalty.to_bits()),
        row.bias.iter().map(|&(token, bias)| u64::from(token) << 32 | u64::from(bias.to_bits())).sum(),
    ];
    let each = |(index, value): (u64, u64)| if value == 0 { 0 } else { mix(value ^ index << 60) };
    (0..).zip(changed).map(each).fold(0, |sum, it| sum ^ it)
}

fn likeliest(hash: u64, count: u32) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = (97..123).map(|token| (token, logprob(hash, token))).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(count as usize);
    all
}

fn logprob(hash: u64, token: u32) -> f32 {
    -1.0 - (mix(hash ^ u64::from(token) << 32) % 1000) as f32 / 1000.0
}
