//! What a step of the engine costs beside the model: microseconds per step in which nothing of the model runs.
//!
//! `cargo bench -p sglhost-tests --bench engine_step`
//!
//! The real loop, scheduler, cache and the default model's tokenizer serve sequences that decode; the model is a script
//! that answers at once. What is left is planning, filling the batch, building the sampler's requests, detokenizing,
//! matching stops and telling the readers. Once with steps that follow each other, and once one step ahead, where a
//! device would hide most of it.

#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use sglhost_core::{RunId, SamplingParams, StopConditions, TenantId, limits::EngineLimits};
use sglhost_device::{CpuConfig, CpuDevice};
use sglhost_engine::{CallEvent, Engine, EngineHandle, Request, ServedModel, SystemClock, Work};
use sglhost_model::{Batch, ModelError, ModelInfo, ModelRunner, OpenOptions, RowRequest, RowResult};

const PROMPT_TOKENS: u32 = 100;
const OUTPUT_TOKENS: u32 = 1000;
/// Steps that count: those in which all sequences decode.
const STEPS: usize = 600;

/// Answers at once, and notes the time between its answers.
struct Script {
    info: ModelInfo,
    slots: usize,
    ahead: bool,
    answers: VecDeque<Vec<RowResult>>,
    token: u32,
    left: Option<Instant>,
    this_step: Duration,
    rows: usize,
    steps: Arc<Mutex<Vec<(usize, Duration)>>>,
}

impl Script {
    /// Notes the time since the engine was last answered.
    fn entered(&mut self) {
        if let Some(left) = self.left.take() {
            self.this_step += left.elapsed();
        }
    }

    fn leave(&mut self) {
        self.left = Some(Instant::now());
    }
}

impl ModelRunner for Script {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn kv_slots(&self) -> usize {
        self.slots
    }

    fn runs_ahead(&self) -> bool {
        self.ahead
    }

    fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        self.entered();
        let step = (std::mem::replace(&mut self.rows, batch.token_count()), std::mem::take(&mut self.this_step));
        self.steps.lock().unwrap().push(step);
        self.leave();
        Ok(())
    }

    fn sample(&mut self, rows: &[RowRequest]) -> Result<(), ModelError> {
        self.entered();
        self.token = (self.token + 7) % 10_000;
        let token = 1000 + self.token;
        self.answers.push_back(vec![RowResult { token, ..RowResult::default() }; rows.len()]);
        self.leave();
        Ok(())
    }

    fn wait_sampled(&mut self) -> Result<Vec<RowResult>, ModelError> {
        self.entered();
        let answer = self.answers.pop_front().unwrap();
        self.leave();
        Ok(answer)
    }
}

fn main() {
    println!("| sequences | µs per step, median | 90th percentile | one step ahead, median |");
    println!("| --- | --- | --- | --- |");
    for sequences in [1, 32, 256] {
        let ([median, high], [ahead, _]) = (measure(sequences, false), measure(sequences, true));
        println!("| {sequences} | {median:.1} | {high:.1} | {ahead:.1} |");
    }
}

/// Median and 90th percentile.
fn measure(sequences: usize, ahead: bool) -> [f64; 2] {
    let device = CpuDevice::new(CpuConfig { threads: 1, ..CpuConfig::default() });
    let options = OpenOptions { kv_slots: Some(64), ..OpenOptions::default() };
    let opened = sglhost_model::open(&sglhost_tests::model::default_gguf(), device, &options).unwrap();
    let slots = sequences * (PROMPT_TOKENS + OUTPUT_TOKENS + 1) as usize;
    let steps = Arc::new(Mutex::new(Vec::new()));
    let script = Script {
        info: opened.runner.info().clone(),
        slots,
        ahead,
        answers: VecDeque::new(),
        token: 0,
        left: None,
        this_step: Duration::ZERO,
        rows: 0,
        steps: steps.clone(),
    };
    let served = ServedModel { runner: Box::new(script), tokenizer: opened.tokenizer, roles: opened.roles };
    let limits = EngineLimits { running_max: 256, deltas_buffered_max: 2000, ..EngineLimits::default() };
    let engine = EngineHandle::start(vec![served], limits, Arc::new(SystemClock::default())).unwrap();
    let calls: Vec<_> = (0..sequences as u32)
        .map(|sequence| {
            let params = SamplingParams {
                max_tokens: OUTPUT_TOKENS,
                temperature: 0.7,
                top_p: 0.9,
                stop: StopConditions { strings: vec!["\n\n\n".to_owned()], ..StopConditions::default() },
                ..SamplingParams::default()
            };
            let request = Request {
                model: 0,
                tenant: TenantId::local(),
                run: RunId(u64::from(sequence)),
                priority: 0,
                deadline: None,
                prompt: (0..PROMPT_TOKENS).map(|token| 500 + token * (sequence + 1) % 10_000).collect(),
                work: Work::Generate { params: Box::new(params), constraint: None },
            };
            engine.submit(request).unwrap()
        })
        .collect();
    // Readers have room for everything: what they cost is theirs.
    for mut call in calls {
        while !matches!(call.events.blocking_recv(), Some(CallEvent::Finished(_)) | None) {}
    }
    let steps = steps.lock().unwrap();
    let mut times: Vec<f64> = steps
        .iter()
        .filter(|(rows, _)| *rows == sequences)
        .skip(100)
        .take(STEPS)
        .map(|(_, time)| time.as_secs_f64() * 1e6)
        .collect();
    assert_eq!(times.len(), STEPS, "steps in which all decode");
    times.sort_by(f64::total_cmp);
    [times[STEPS / 2], times[STEPS * 9 / 10]]
}
