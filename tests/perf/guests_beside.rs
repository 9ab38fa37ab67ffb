//! How fast a neighbour's text streams beside programs that spin, by the priority of the threads that programs run on;
//! and how long it takes from the end of a program's call to its next.
//!
//! `guests_beside [--rounds N] [--seconds S] [--spinning N] [--model PATH] [--threads N]`. The model computes on two
//! threads by default, programs on two others.

#![allow(clippy::unwrap_used, reason = "a panic is how a benchmark fails")]

mod measured_engine;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use measured_engine::{Flags, MeasuredEngine, request};
use sglhost_core::{Error, RunId, SamplingParams, TenantId, TokenId};
use sglhost_engine::{Call, CallEvent, Engine, Model, Request, Work};
use sglhost_runtime::{Program, RunRequest, Runtime, RuntimeConfig};
use sglhost_tests::guests;
use sglhost_tests::scripted::ScriptedEngine;
use tokio::sync::mpsc;

/// How far the threads of programs come behind the rest.
const NICE: [i32; 4] = [0, 5, 10, 19];
const GUEST_THREADS: usize = 2;
/// How long a call of a program takes: about a token of the model.
const ANSWER: Duration = Duration::from_millis(10);

fn main() {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    tokio.block_on(async { tokio::spawn(measure(Flags::read())).await.unwrap() });
}

async fn measure(flags: Flags) {
    let (rounds, seconds) = (flags.number("rounds", 5), flags.number("seconds", 3.0));
    let spinning = flags.number("spinning", 4);
    let window = Duration::from_secs_f64(seconds);
    let measured = MeasuredEngine::start(&flags).await;
    let hosts: Vec<Host> = NICE.map(|nice| Host::start(nice, &measured)).into();
    let programs = {
        let component = guests::component("tests/attacks/guests", "attacks");
        let mut programs = Vec::new();
        for host in &hosts {
            programs.push(host.runtime.load(&component).await.unwrap());
        }
        programs
    };
    let mut figures: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut note = |what: String, figure: f64| figures.entry(what).or_default().push(figure);
    for _ in 0..rounds {
        note("stream, alone: tokens/s".to_owned(), streamed(&measured, window).await);
        for (host, program) in hosts.iter().zip(&programs) {
            let nice = host.nice;
            // Calls of a program, with nothing else to do and then with the model busy and programs that spin.
            let idle = host.gaps(program, window / 4).await;
            note(format!("nice {nice}, next call, idle: median µs"), percentile(&idle, 0.5));
            let stop = Arc::new(AtomicBool::new(false));
            let spinners: Vec<_> = (0..spinning).map(|_| spin(host, program, &stop)).collect();
            note(
                format!("nice {nice}, stream beside {spinning} that spin: tokens/s"),
                streamed(&measured, window).await,
            );
            let (_, busy) = tokio::join!(streamed(&measured, window), host.gaps(program, window));
            note(format!("nice {nice}, next call, spinning and streaming: median µs"), percentile(&busy, 0.5));
            note(format!("nice {nice}, next call, spinning and streaming: 99% µs"), percentile(&busy, 0.99));
            stop.store(true, Ordering::Relaxed);
            for spinner in spinners {
                spinner.await.unwrap();
            }
            let (_, streaming) = tokio::join!(streamed(&measured, window), host.gaps(program, window));
            note(format!("nice {nice}, next call, streaming: median µs"), percentile(&streaming, 0.5));
            note(format!("nice {nice}, next call, streaming: 99% µs"), percentile(&streaming, 0.99));
        }
    }
    eprintln!("{}", measured.counted());
    for (what, mut values) in figures {
        values.sort_by(f64::total_cmp);
        println!("{what:60} {:8.1}  {values:.1?}", values[values.len() / 2]);
    }
}

fn percentile(sorted: &[f64], part: f64) -> f64 {
    sorted.get(((sorted.len() as f64 - 1.0) * part) as usize).copied().unwrap_or(f64::NAN)
}

/// Programs on threads of one priority, with an engine that answers soon.
struct Host {
    nice: i32,
    runtime: Runtime,
    engine: Arc<QuickEngine>,
    /// Ends with the process.
    _guests: &'static tokio::runtime::Runtime,
}

impl Host {
    fn start(nice: i32, measured: &MeasuredEngine) -> Self {
        let base = rustix::process::getpriority_process(None).unwrap();
        let guests = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(GUEST_THREADS)
            .on_thread_start(move || rustix::process::setpriority_process(None, base + nice).unwrap())
            .enable_all()
            .build()
            .unwrap();
        let guests: &'static _ = Box::leak(Box::new(guests));
        let engine = Arc::new(QuickEngine::new());
        let config = RuntimeConfig { guests: Some(guests.handle().clone()), ..RuntimeConfig::default() };
        let runtime = Runtime::new(config, engine.clone(), measured.clock.clone(), Arc::new(|| 1)).unwrap();
        Self { nice, runtime, engine, _guests: guests }
    }

    /// Microseconds between a call's end and the next call of the same program, sorted.
    async fn gaps(&self, program: &Program, window: Duration) -> Vec<f64> {
        self.engine.gaps.lock().unwrap().clear();
        let started = Instant::now();
        while started.elapsed() < window {
            let mut run = self.runtime.start(program, attack("tokens"));
            while run.events.recv().await.is_some() {
                if started.elapsed() >= window {
                    break;
                }
            }
            *self.engine.ended.lock().unwrap() = None;
        }
        let mut gaps = std::mem::take(&mut *self.engine.gaps.lock().unwrap());
        gaps.sort_by(f64::total_cmp);
        gaps
    }
}

/// A program that spins to the end of its CPU time, again and again.
fn spin(host: &Host, program: &Program, stop: &Arc<AtomicBool>) -> tokio::task::JoinHandle<()> {
    let (runtime, program, stop) = (host.runtime.clone(), program.clone(), Arc::clone(stop));
    tokio::spawn(async move {
        while !stop.load(Ordering::Relaxed) {
            let mut run = runtime.start(&program, attack("loop"));
            loop {
                tokio::select! {
                    event = run.events.recv() => if event.is_none() { break },
                    () = tokio::time::sleep(Duration::from_millis(20)) => if stop.load(Ordering::Relaxed) { return },
                }
            }
        }
    })
}

fn attack(name: &str) -> RunRequest {
    RunRequest {
        tenant: TenantId::local(),
        arguments: format!(r#"{{"attack": "{name}"}}"#),
        defaults: SamplingParams::default(),
        priority: 0,
        limits: None,
        seed: Some(0),
    }
}

/// Tokens a second of one stream of the model.
async fn streamed(measured: &MeasuredEngine, window: Duration) -> f64 {
    let prompt: Vec<TokenId> = (40..72).collect();
    let params = SamplingParams { max_tokens: 4000, ignore_eos: true, ..SamplingParams::default() };
    let work = Work::Generate { params: Box::new(params), constraint: None };
    let mut call = measured.engine.submit(request(&TenantId::local(), RunId(1), prompt.into(), work)).unwrap();
    // From the first on: the prompt is not what streams.
    call.events.recv().await.unwrap();
    let steps = || measured.engine.metrics().next().unwrap().steps.get();
    let (started, before) = (Instant::now(), steps());
    while started.elapsed() < window && call.events.recv().await.is_some() {}
    (steps() - before) as f64 / started.elapsed().as_secs_f64()
}

/// An engine that answers soon, and notes when.
#[derive(Debug)]
struct QuickEngine {
    models: Vec<Arc<Model>>,
    answering: tokio::runtime::Handle,
    ended: Arc<Mutex<Option<Instant>>>,
    gaps: Mutex<Vec<f64>>,
}

impl QuickEngine {
    fn new() -> Self {
        Self {
            models: ScriptedEngine::new().models().to_vec(),
            answering: tokio::runtime::Handle::current(),
            ended: Arc::default(),
            gaps: Mutex::default(),
        }
    }
}

impl Engine for QuickEngine {
    fn models(&self) -> &[Arc<Model>] {
        &self.models
    }

    fn submit(&self, _request: Request) -> Result<Call, Error> {
        if let Some(ended) = self.ended.lock().unwrap().take() {
            self.gaps.lock().unwrap().push(ended.elapsed().as_secs_f64() * 1e6);
        }
        let (sender, events) = mpsc::channel(4);
        let ended = Arc::clone(&self.ended);
        self.answering.spawn(async move {
            tokio::time::sleep(ANSWER).await;
            *ended.lock().unwrap() = Some(Instant::now());
            let _ = sender.send(CallEvent::Finished(Box::default())).await;
        });
        Ok(Call { events })
    }

    fn run_ended(&self, _tenant: &TenantId, _run: RunId) {}
}
