//! What an operator sees of an engine: counters, gauges and histograms for a registry, and log lines as SGLang writes
//! them.
//!
//! *Not here*: prompt text, tokens or anything else of what programs say.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use crate::scheduler::{Plan, Scheduler};
use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// A `Decode batch.` line is written every so many steps.
const DECODE_LOG_STEPS: u64 = 40;

/// Counters and histograms of one engine. Cheap to clone parts of; read at any time from any thread.
#[derive(Debug)]
pub struct EngineMetrics {
    /// Steps taken.
    pub steps: Counter,
    /// Tokens that went through the model, prompt and output.
    pub computed_tokens: Counter,
    /// Tokens of prompts, cached ones included.
    pub prompt_tokens: Counter,
    /// Tokens of prompts that were cached.
    pub cached_tokens: Counter,
    /// Tokens sampled.
    pub generation_tokens: Counter,
    /// Tokens of outputs that were forced by a constraint, and not sampled.
    pub forced_tokens: Counter,
    /// Rows that were not sampled because their mask was not there in time; the token before is computed again.
    pub late_rows: Counter,
    /// Rows that were computed one step ahead for a sequence that had ended.
    pub discarded_tokens: Counter,
    /// Tokens evicted from the cache.
    pub evicted_tokens: Counter,
    /// Sequences that gave their memory back to be resumed later.
    pub retractions: Counter,
    /// Calls that ended well.
    pub finished_calls: Counter,
    /// Calls that ended with an error.
    pub failed_calls: Counter,
    /// Calls whose reader went away.
    pub cancelled_calls: Counter,
    /// Times the engine started afresh after a failure.
    pub restarts: Counter,
    /// Sequences in the batch.
    pub running: Gauge,
    /// Sequences that wait.
    pub queued: Gauge,
    /// Slots in use or cached.
    pub used_slots: Gauge,
    /// Slots in all.
    pub slots: Gauge,
    /// Of the slots in use, the share that a sequence or the operator holds.
    pub token_usage: Gauge<f64, AtomicU64>,
    /// From a call's arrival to the first token that is sampled for it.
    pub time_to_first_token: Histogram,
    /// Between two tokens that are sampled for a call.
    pub inter_token_latency: Histogram,
    /// From a call's arrival to its end.
    pub call_latency: Histogram,
    /// Of a step, what was spent on anything but waiting for the model.
    pub host_time: Histogram,
    /// Building a mask, on whichever thread.
    pub mask_time: Histogram,
    /// Sequences of a step.
    pub batch_size: Histogram,
}

impl Default for EngineMetrics {
    fn default() -> Self {
        let seconds = || {
            Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0])
        };
        Self {
            steps: Counter::default(),
            computed_tokens: Counter::default(),
            prompt_tokens: Counter::default(),
            cached_tokens: Counter::default(),
            generation_tokens: Counter::default(),
            forced_tokens: Counter::default(),
            late_rows: Counter::default(),
            discarded_tokens: Counter::default(),
            evicted_tokens: Counter::default(),
            retractions: Counter::default(),
            finished_calls: Counter::default(),
            failed_calls: Counter::default(),
            cancelled_calls: Counter::default(),
            restarts: Counter::default(),
            running: Gauge::default(),
            queued: Gauge::default(),
            used_slots: Gauge::default(),
            slots: Gauge::default(),
            token_usage: Gauge::default(),
            time_to_first_token: seconds(),
            inter_token_latency: seconds(),
            call_latency: seconds(),
            host_time: Histogram::new([10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 5e-3, 25e-3]),
            mask_time: Histogram::new([10e-6, 25e-6, 50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 5e-3, 25e-3]),
            batch_size: Histogram::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]),
        }
    }
}

impl EngineMetrics {
    /// Registers all of them, to be exported under the names that follow.
    pub fn register(&self, registry: &mut Registry) {
        macro_rules! register {
            ($($name:literal $help:literal $field:ident),+ $(,)?) => {
                $(registry.register($name, $help, self.$field.clone());)+
            };
        }
        register! {
            "engine_steps" "Steps taken" steps,
            "computed_tokens" "Tokens that went through the model" computed_tokens,
            "prompt_tokens" "Tokens of prompts, cached ones included" prompt_tokens,
            "cached_tokens" "Tokens of prompts that were cached" cached_tokens,
            "generation_tokens" "Tokens sampled" generation_tokens,
            "forced_tokens" "Tokens of outputs that a constraint forced" forced_tokens,
            "late_rows" "Rows not sampled because their mask was late" late_rows,
            "discarded_tokens" "Rows computed for a sequence that had ended" discarded_tokens,
            "evicted_tokens" "Tokens evicted from the cache" evicted_tokens,
            "retractions" "Sequences retracted" retractions,
            "finished_calls" "Calls that ended well" finished_calls,
            "failed_calls" "Calls that ended with an error" failed_calls,
            "cancelled_calls" "Calls whose reader went away" cancelled_calls,
            "engine_restarts" "Times the engine started afresh" restarts,
            "running_sequences" "Sequences in the batch" running,
            "queued_sequences" "Sequences that wait" queued,
            "used_slots" "Slots in use or cached" used_slots,
            "slots" "Slots in all" slots,
            "token_usage" "Share of the slots that is in use" token_usage,
            "batch_size" "Sequences of a step" batch_size,
        }
        macro_rules! register_seconds {
            ($($name:literal $help:literal $field:ident),+ $(,)?) => {
                $(registry.register_with_unit($name, $help, Unit::Seconds, self.$field.clone());)+
            };
        }
        register_seconds! {
            "time_to_first_token" "From arrival to the first sampled token" time_to_first_token,
            "inter_token_latency" "Between two sampled tokens of a call" inter_token_latency,
            "call_latency" "From arrival to the end" call_latency,
            "step_host_time" "Of a step, what was not spent on the model" host_time,
            "mask_time" "Building a mask" mask_time,
        }
    }
}

/// Writes what a step did into the metrics and, now and then, the log.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) metrics: Arc<EngineMetrics>,
    evicted: u64,
    /// Decode steps, and tokens sampled, since `logged_at`.
    decode_steps: u64,
    decoded: u64,
    logged_at: Duration,
}

impl Observer {
    pub(crate) fn new(metrics: Arc<EngineMetrics>) -> Self {
        Self { metrics, evicted: 0, decode_steps: 0, decoded: 0, logged_at: Duration::ZERO }
    }

    /// The cache was replaced by an empty one.
    pub(crate) fn restarted(&mut self) {
        self.metrics.restarts.inc();
        self.evicted = 0;
    }

    /// Takes down a step as it was planned.
    pub(crate) fn planned(&mut self, plan: &Plan, scheduler: &Scheduler, now: Duration) {
        let (cache, running, waiting) = (scheduler.cache(), scheduler.running(), scheduler.waiting());
        let metrics = &self.metrics;
        let usage = cache.locked() as f64 / cache.size().max(1) as f64;
        metrics.running.set(running as i64);
        metrics.queued.set(waiting as i64);
        metrics.used_slots.set((cache.size() - cache.free()) as i64);
        metrics.slots.set(cache.size() as i64);
        metrics.token_usage.set(usage);
        metrics.evicted_tokens.inc_by(cache.evicted() - self.evicted);
        self.evicted = cache.evicted();
        if plan.retracted > 0 {
            metrics.retractions.inc_by(plan.retracted as u64);
            tracing::warn!(
                "KV cache pool is full or another was served much less. Retract requests. #retracted_reqs: {}, token usage: \
                 {usage:.2}, #running-req: {running}, #queue-req: {waiting}",
                plan.retracted
            );
        }
        if plan.chunks.is_empty() {
            return;
        }
        metrics.steps.inc();
        metrics.batch_size.observe(plan.chunks.len() as f64);
        let (mut prefill, mut decode) = (0, 0);
        for chunk in &plan.chunks {
            *(if chunk.prefill { &mut prefill } else { &mut decode }) += chunk.tokens.len();
        }
        metrics.computed_tokens.inc_by((prefill + decode) as u64);
        metrics.cached_tokens.inc_by(plan.cached_tokens as u64);
        if prefill > 0 {
            tracing::info!(
                "Prefill batch. #new-seq: {}, #new-token: {prefill}, #cached-token: {}, token usage: {usage:.2}, \
                 #running-req: {running}, #queue-req: {waiting}",
                plan.admitted,
                plan.cached_tokens,
            );
        }
        if decode > 0 {
            if self.decode_steps == 0 {
                self.logged_at = now;
            }
            self.decode_steps += 1;
            self.decoded += decode as u64;
            if self.decode_steps > DECODE_LOG_STEPS {
                let seconds = now.saturating_sub(self.logged_at).as_secs_f64().max(1e-9);
                tracing::info!(
                    "Decode batch. #running-req: {running}, #token: {}, token usage: {usage:.2}, gen throughput \
                     (token/s): {:.2}, #queue-req: {waiting}",
                    cache.locked(),
                    self.decoded as f64 / seconds,
                );
                (self.decode_steps, self.decoded) = (0, 0);
            }
        }
    }
}
