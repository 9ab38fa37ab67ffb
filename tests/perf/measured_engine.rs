//! The engine of both sides of a comparison: the default model with the default settings, counting what it computes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sglhost_core::limits::EngineLimits;
use sglhost_core::{RunId, SamplingParams, TenantId, TokenId};
use sglhost_device::{Batch, CpuConfig, CpuDevice, RowRequest, RowResult};
use sglhost_engine::{CallEvent, Engine, EngineHandle, Request, ServedModel, SystemClock, Work};
use sglhost_model::{KV_SLOTS, ModelError, ModelInfo, ModelRunner, OpenOptions};
use sglhost_tests::model::default_gguf;

/// Tokens of the prompt, and of the output, that warm a fresh engine up.
const WARM_UP_TOKENS: (usize, u32) = (256, 16);

/// An engine, and what it has computed since it was warm.
pub(crate) struct MeasuredEngine {
    pub(crate) engine: Arc<EngineHandle>,
    #[allow(dead_code, reason = "each example takes its own part of this file")]
    pub(crate) clock: Arc<SystemClock>,
    /// Microseconds that the engine spent in its model.
    busy: Arc<AtomicU64>,
    /// Steps and tokens that made it warm.
    before: [u64; 2],
}

impl MeasuredEngine {
    /// Opens the model that the flags name and computes something else's tokens until it is warm: `--model PATH`,
    /// `--threads N`, `--kv-tokens N`.
    #[allow(dead_code, reason = "as `clock`")]
    pub(crate) async fn start(flags: &Flags) -> Self {
        Self::start_with(flags, EngineLimits::default()).await
    }

    /// As [`MeasuredEngine::start`], with limits of its own.
    pub(crate) async fn start_with(flags: &Flags, limits: EngineLimits) -> Self {
        let path = flags.get("model").map_or_else(default_gguf, PathBuf::from);
        let (config, options) = (CpuConfig::default(), OpenOptions::default());
        let device = CpuDevice::new(CpuConfig { threads: flags.number("threads", config.threads), ..config });
        let options = OpenOptions { kv_slots: Some(flags.number("kv-tokens", KV_SLOTS)), ..options };
        let opened = sglhost_model::open(&path, device, &options).unwrap();
        let busy = Arc::new(AtomicU64::new(0));
        let runner = Box::new(TimedRunner { inner: opened.runner, busy: Arc::clone(&busy) });
        let served = ServedModel { runner, tokenizer: opened.tokenizer, roles: opened.roles };
        let clock = Arc::new(SystemClock::default());
        let engine = Arc::new(EngineHandle::start(vec![served], limits, clock.clone()).unwrap());
        let mut measured = Self { engine, clock, busy, before: [0, 0] };
        measured.warm_up().await;
        measured
    }

    async fn warm_up(&mut self) {
        let (prompt, output) = WARM_UP_TOKENS;
        // Letters, which every vocabulary has; for a tenant of their own, so that nobody finds them cached.
        let prompt: Vec<TokenId> = (0..prompt).map(|i| u32::try_from(i % 26 + 40).unwrap()).collect();
        let params = SamplingParams { max_tokens: output, ignore_eos: true, ..SamplingParams::default() };
        let work = Work::Generate { params: Box::new(params), constraint: None };
        let request = request(&TenantId("warm-up".into()), RunId(u64::MAX), prompt.into(), work);
        let mut call = self.engine.submit(request).unwrap();
        while let Some(event) = call.events.recv().await {
            if let CallEvent::Failed(error) = event {
                panic!("{error}");
            }
        }
        self.busy.store(0, Ordering::Relaxed);
        let metrics = self.engine.metrics().next().unwrap();
        self.before = [metrics.steps.get(), metrics.computed_tokens.get()];
    }

    /// Forward passes, the tokens that went through them, the time that they and their sampling took, and what memory
    /// pressure did.
    #[allow(dead_code, reason = "as `clock`")]
    pub(crate) fn counted(&self) -> Value {
        let metrics = self.engine.metrics().next().unwrap();
        json!({
            "steps": metrics.steps.get() - self.before[0],
            "computed_tokens": metrics.computed_tokens.get() - self.before[1],
            "busy_ms": Duration::from_micros(self.busy.load(Ordering::Relaxed)).as_secs_f64() * 1e3,
            "evicted_tokens": metrics.evicted_tokens.get(),
            "retractions": metrics.retractions.get(),
        })
    }
}

/// A request for the engine. The one place that knows all its fields.
pub(crate) fn request(tenant: &TenantId, run: RunId, prompt: Arc<[TokenId]>, work: Work) -> Request {
    Request { model: 0, tenant: tenant.clone(), run, priority: 0, deadline: None, prompt, work }
}

/// A model that counts the time that the engine spends in it.
struct TimedRunner {
    inner: Box<dyn ModelRunner>,
    busy: Arc<AtomicU64>,
}

impl ModelRunner for TimedRunner {
    fn info(&self) -> &ModelInfo {
        self.inner.info()
    }

    fn kv_slots(&self) -> usize {
        self.inner.kv_slots()
    }

    fn runs_ahead(&self) -> bool {
        self.inner.runs_ahead()
    }

    fn forward(&mut self, batch: &Batch) -> Result<(), ModelError> {
        self.timed(|inner| inner.forward(batch))
    }

    fn sample(&mut self, rows: &[RowRequest]) -> Result<(), ModelError> {
        self.timed(|inner| inner.sample(rows))
    }

    fn wait_sampled(&mut self) -> Result<Vec<RowResult>, ModelError> {
        self.timed(|inner| inner.wait_sampled())
    }
}

impl TimedRunner {
    fn timed<T>(&mut self, work: impl FnOnce(&mut dyn ModelRunner) -> T) -> T {
        let started = Instant::now();
        let done = work(&mut *self.inner);
        let microseconds = u64::try_from(started.elapsed().as_micros()).unwrap();
        self.busy.fetch_add(microseconds, Ordering::Relaxed);
        done
    }
}

/// The command line: `--name value` pairs.
pub(crate) struct Flags(Vec<String>);

impl Flags {
    pub(crate) fn read() -> Self {
        Self(std::env::args().skip(1).collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let pairs = self.0.chunks_exact(2);
        pairs.filter(|pair| pair[0].strip_prefix("--") == Some(name)).map(|pair| &*pair[1]).next_back()
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> T {
        let parse = |value: &str| value.parse().unwrap_or_else(|_| panic!("--{name} takes a number, not {value:?}"));
        self.get(name).map_or(default, parse)
    }
}
