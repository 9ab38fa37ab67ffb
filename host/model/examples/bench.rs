//! Tokens per second of a model on the CPU: prefill, decode, and decode of several sequences together.
//!
//! ```text
//! cargo run --release -p sglhost-model --example bench -- MODEL [--threads N] [--repetitions N] [--json]
//! ```
//!
//! The tests are those of llama.cpp's `llama-bench` (pp512, pp128: a prompt from nothing; tg128: tokens one by one from
//! nothing) and `llama-batched-bench` (tgN: sequences with 128 tokens behind them, 32 tokens each), so that
//! `tests/perf/against_llama_cpp.py` can set them side by side. Decoding samples, greedily, which llama.cpp's does not.

#![allow(clippy::disallowed_methods, reason = "a benchmark measures wall-clock time")]

use std::{
    error::Error,
    path::PathBuf,
    time::{Duration, Instant},
};

use sglhost_device::{CpuConfig, CpuDevice};
use sglhost_model::{Batch, DeviceRunner, ModelRunner, OpenOptions, RowRequest, SampleRow, load};

const PROMPTS: [usize; 2] = [512, 128];
const GENERATED: usize = 128;
const TOGETHER: [usize; 5] = [1, 2, 4, 8, 16];
const TOGETHER_PROMPT: usize = 128;
const TOGETHER_GENERATED: usize = 32;
const KV_SLOTS: usize = 16 * (TOGETHER_PROMPT + TOGETHER_GENERATED);

struct Arguments {
    model: PathBuf,
    threads: usize,
    repetitions: usize,
    json: bool,
}

impl Arguments {
    fn parse() -> Result<Self, Box<dyn Error>> {
        let mut parsed = Self { model: PathBuf::new(), threads: 0, repetitions: 3, json: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut number = || -> Result<usize, Box<dyn Error>> {
                Ok(arguments.next().ok_or_else(|| format!("{argument} needs a number"))?.parse()?)
            };
            match argument.as_str() {
                "--threads" => parsed.threads = number()?,
                "--repetitions" => parsed.repetitions = number()?.max(1),
                "--json" => parsed.json = true,
                model => parsed.model = model.into(),
            }
        }
        if parsed.model.as_os_str().is_empty() {
            return Err("usage: bench MODEL [--threads N] [--repetitions N] [--json]".into());
        }
        Ok(parsed)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse()?;
    let device = CpuDevice::new(CpuConfig { threads: arguments.threads, ..CpuConfig::default() });
    let started = Instant::now();
    let options = OpenOptions { kv_slots: Some(KV_SLOTS), ..OpenOptions::default() };
    let mut model = load(&arguments.model, device, &options)?.runner;
    if !arguments.json {
        println!("{}: loaded in {:.0?}", model.info().description, started.elapsed());
    }
    let report = |name: String, tokens: usize, mut times: Vec<Duration>| {
        times.sort_unstable();
        let rate = tokens as f64 / times[times.len() / 2].as_secs_f64();
        match arguments.json {
            true => println!("{{\"test\":\"{name}\",\"tokens_per_second\":{rate:.3}}}"),
            false => println!("{name:>6} {rate:9.1} tok/s"),
        }
    };
    prefill(&mut model, 32)?;
    for tokens in PROMPTS {
        let times = (0..arguments.repetitions).map(|_| prefill(&mut model, tokens)).collect::<Result<_, _>>()?;
        report(format!("pp{tokens}"), tokens, times);
    }
    let times = (0..arguments.repetitions).map(|_| decode(&mut model, 1, 0, GENERATED)).collect::<Result<_, _>>()?;
    report(format!("tg{GENERATED}"), GENERATED, times);
    for sequences in TOGETHER {
        let times = (0..arguments.repetitions)
            .map(|_| decode(&mut model, sequences, TOGETHER_PROMPT, TOGETHER_GENERATED))
            .collect::<Result<_, _>>()?;
        report(format!("x{sequences}"), sequences * TOGETHER_GENERATED, times);
    }
    Ok(())
}

/// Tokens that make no sense and differ from each other.
fn prompt(count: usize, seed: usize) -> Vec<u32> {
    (0..count).map(|index| ((index + 7 * seed) * 7919 % 40_000 + 100) as u32).collect()
}

fn greedy() -> RowRequest {
    RowRequest::Sample(Box::new(SampleRow { temperature: 0.0, ..SampleRow::default() }))
}

/// Time of one pass over a prompt of `count` tokens, its last row sampled.
fn prefill(model: &mut DeviceRunner<CpuDevice>, count: usize) -> Result<Duration, Box<dyn Error>> {
    let slots: Vec<u32> = (0..count as u32).collect();
    let mut batch = Batch::default();
    batch.push_sequence(&prompt(count, 0), 0..count as u32, &slots);
    batch.sample_rows.push(count as u32 - 1);
    let started = Instant::now();
    model.forward(&batch)?;
    model.sample(&[greedy()])?;
    model.wait_sampled()?;
    Ok(started.elapsed())
}

/// Time to sample `generated` tokens for each of `sequences` sequences that have `prompt_tokens` behind them.
fn decode(
    model: &mut DeviceRunner<CpuDevice>,
    sequences: usize,
    prompt_tokens: usize,
    generated: usize,
) -> Result<Duration, Box<dyn Error>> {
    let length = prompt_tokens + generated;
    let slots: Vec<Vec<u32>> = (0..sequences)
        .map(|sequence| ((sequence * length) as u32..((sequence + 1) * length) as u32).collect())
        .collect();
    let mut batch = Batch::default();
    if prompt_tokens > 0 {
        for (sequence, slots) in slots.iter().enumerate() {
            batch.clear();
            batch.push_sequence(&prompt(prompt_tokens, sequence), 0..prompt_tokens as u32, &slots[..prompt_tokens]);
            model.forward(&batch)?;
        }
    }
    let mut last: Vec<u32> = (0..sequences).map(|sequence| prompt(1, sequence)[0]).collect();
    let requests = vec![greedy(); sequences];
    let started = Instant::now();
    for position in prompt_tokens..length {
        batch.clear();
        for (token, slots) in last.iter().zip(&slots) {
            batch.push_sequence(&[*token], [position as u32], &slots[..=position]);
        }
        batch.sample_rows.extend(0..sequences as u32);
        model.forward(&batch)?;
        model.sample(&requests)?;
        last = model.wait_sampled()?.into_iter().map(|result| result.token).collect();
    }
    Ok(started.elapsed())
}
