//! A mix of requests through the engine: lengths spread, in a closed and in an open loop, and how long the GPU idles.

use std::{
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sglhost_core::{RunId, SamplingParams, TenantId, limits::EngineLimits};
use sglhost_device::cuda::{CudaDevice, Mark};
use sglhost_engine::{CallEvent, Engine, EngineHandle, Request, ServedModel, SystemClock, Work};
use sglhost_model::{Batch, DeviceRunner, Loaded, ModelError, ModelInfo, ModelRunner, RowRequest, RowResult};

/// Requests of the closed loop that are under way at once.
const CLIENTS: usize = 128;
/// Of the closed loop's rate, the open loop's.
const LOAD: f64 = 0.7;

/// When each step began and ended on the device.
type Steps = Arc<Mutex<Vec<(Mark, Mark)>>>;

/// A model that marks its steps on the device.
struct MarkedRunner {
    inner: DeviceRunner<CudaDevice>,
    began: Option<Mark>,
    steps: Steps,
}

impl ModelRunner for MarkedRunner {
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
        self.began = Some(self.inner.device_mut().mark()?);
        self.inner.forward(batch)
    }

    fn sample(&mut self, rows: &[RowRequest]) -> Result<(), ModelError> {
        self.inner.sample(rows)?;
        let began = self.began.take().unwrap();
        self.steps.lock().unwrap().push((began, self.inner.device_mut().mark()?));
        Ok(())
    }

    fn wait_sampled(&mut self) -> Result<Vec<RowResult>, ModelError> {
        self.inner.wait_sampled()
    }
}

/// A request: lengths as chats have them, most short and some long.
struct Ask {
    prompt: Arc<[u32]>,
    output: u32,
    /// Time from the request before, as a share of the mean.
    gap: f64,
}

fn asks(count: usize, longest: usize) -> Vec<Ask> {
    let mut random = StdRng::seed_from_u64(1);
    let mut spread = |least: f64, most: f64| (random.random_range(0.0..1.0_f64) * (most / least).ln()).exp() * least;
    (0..count)
        .map(|_| {
            let most = 4096.0_f64.min(longest as f64);
            let (prompt, output) = (spread(most / 128.0, most) as usize, spread(most / 256.0, most / 8.0) as u32);
            let gap = -spread(1e-6, 1.0).ln() / 6.9;
            Ask { prompt: (0..prompt).map(|_| 1 + (spread(1.0, 250.0) as u32)).collect(), output, gap }
        })
        .collect()
}

/// What one request met.
struct Met {
    first: Duration,
    wall: Duration,
    tokens: u64,
}

fn one(engine: &EngineHandle, ask: &Ask) -> Met {
    let started = Instant::now();
    let params =
        SamplingParams { max_tokens: ask.output, ignore_eos: true, seed: Some(1), ..SamplingParams::default() };
    let work = Work::Generate { params: Box::new(params), constraint: None };
    let (tenant, prompt) = (TenantId::local(), ask.prompt.clone());
    let mut call =
        engine.submit(Request { model: 0, tenant, run: RunId(1), priority: 0, deadline: None, prompt, work }).unwrap();
    let mut first = None;
    loop {
        match call.events.blocking_recv().unwrap() {
            CallEvent::Delta(_) => first = first.or(Some(started.elapsed())),
            CallEvent::Finished(outcome) => {
                let wall = started.elapsed();
                return Met { first: first.unwrap_or(wall), wall, tokens: outcome.usage.completion_tokens };
            }
            CallEvent::Failed(error) => panic!("{error}"),
        }
    }
}

fn closed(engine: &EngineHandle, asks: &[Ask]) -> Vec<Met> {
    let next = Mutex::new(asks.iter());
    let client = || {
        let mut met = Vec::new();
        while let Some(ask) = { next.lock().unwrap().next() } {
            met.push(one(engine, ask));
        }
        met
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

fn open(engine: &EngineHandle, asks: &[Ask], mean_gap: Duration) -> Vec<Met> {
    thread::scope(|scope| {
        let mut clients = Vec::new();
        for ask in asks {
            thread::sleep(mean_gap.mul_f64(ask.gap));
            clients.push(scope.spawn(move || one(engine, ask)));
        }
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

/// Share of the time between the first and the last step in which the device computed nothing.
fn idle(steps: &[(Mark, Mark)]) -> f64 {
    let (first, last) = (&steps[0].0, &steps[steps.len() - 1].1);
    let whole = last.milliseconds_since(first).unwrap();
    let gaps: f32 = steps.windows(2).map(|pair| pair[1].0.milliseconds_since(&pair[0].1).unwrap().max(0.0)).sum();
    f64::from(gaps / whole)
}

fn report(name: &str, met: &[Met], seconds: f64, steps: &Steps, engine: &EngineHandle) {
    let steps = std::mem::take(&mut *steps.lock().unwrap());
    let tokens: u64 = met.iter().map(|met| met.tokens).sum();
    let mut firsts: Vec<f64> = met.iter().map(|met| met.first.as_secs_f64() * 1e3).collect();
    firsts.sort_by(f64::total_cmp);
    let between: f64 = met.iter().map(|met| (met.wall - met.first).as_secs_f64() * 1e3).sum::<f64>() / tokens as f64;
    let host = engine.metrics().next().unwrap();
    println!(
        "| {name} | {} | {:.0} | {:.0}, {:.0} | {between:.1} | {} | {:.1}% | {} |",
        met.len(),
        tokens as f64 / seconds,
        firsts[firsts.len() / 2],
        firsts[firsts.len() * 99 / 100],
        steps.len(),
        idle(&steps) * 100.0,
        host.retractions.get(),
    );
}

/// Runs both loops and prints a table.
pub(crate) fn measure(loaded: Loaded<CudaDevice>, requests: usize, longest: usize) {
    let steps = Steps::default();
    let runner = MarkedRunner { inner: loaded.runner, began: None, steps: Arc::clone(&steps) };
    let model = ServedModel { runner: Box::new(runner), tokenizer: loaded.tokenizer, roles: loaded.roles };
    let engine = EngineHandle::start(vec![model], EngineLimits::gpu(), Arc::new(SystemClock::default())).unwrap();
    println!(
        "| serving mix | requests | output tokens/s | first token, ms (median, p99) | between tokens, ms | steps | device idle | retracted |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let all = asks(2 * requests + requests / 4, longest);
    let (warm_up, rest) = all.split_at(requests / 4);
    closed(&engine, warm_up);
    steps.lock().unwrap().clear();
    let started = Instant::now();
    let met = closed(&engine, &rest[..requests]);
    let seconds = started.elapsed().as_secs_f64();
    report("closed loop", &met, seconds, &steps, &engine);
    let started = Instant::now();
    let met = open(&engine, &rest[requests..], Duration::from_secs_f64(seconds / requests as f64 / LOAD));
    report("open loop", &met, started.elapsed().as_secs_f64(), &steps, &engine);
    println!();
}
