//! Single steps without an engine: decode one step ahead as the engine does it, and prefill in one pass.

use std::time::{Duration, Instant};

use sglhost_device::{RowRequest, SampleRow, cuda::CudaDevice};
use sglhost_model::{Batch, DeviceRunner, ModelRunner};

use crate::{floors::Floors, shapes::Shape};

const SEQUENCES: [usize; 5] = [1, 8, 32, 64, 256];
const CONTEXTS: [usize; 2] = [512, 4096];
const PROMPTS: [usize; 3] = [512, 2048, 8192];
/// Steps before the first that counts: plans are tuned and graphs recorded.
const WARM_UP: usize = 8;
const PREFILL_ROUNDS: usize = 5;

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn sample() -> RowRequest {
    RowRequest::Sample(Box::new(SampleRow { top_p: 0.95, seed: 1, ..SampleRow::default() }))
}

/// What decoding took, in milliseconds a step.
struct Decoded {
    wall: f64,
    host: f64,
}

fn decode_steps(runner: &mut DeviceRunner<CudaDevice>, sequences: usize, context: usize, steps: usize) -> Decoded {
    let length = context + WARM_UP + steps;
    let slots: Vec<Vec<u32>> =
        (0..sequences).map(|s| ((s * length) as u32..((s + 1) * length) as u32).collect()).collect();
    let requests = vec![sample(); sequences];
    let (mut host, mut batch, mut started) = (Vec::new(), Batch::default(), Instant::now());
    for step in 0..WARM_UP + steps {
        if step == WARM_UP {
            started = Instant::now();
        }
        let at = Instant::now();
        batch.clear();
        let position = context + step;
        for (s, slots) in slots.iter().enumerate() {
            batch.push_sequence(&[1], [position as u32], &slots[..=position]);
            if step > 0 {
                batch.sampled_inputs.push((s as u32, s as u32));
            }
        }
        batch.sample_rows = (0..sequences as u32).collect();
        runner.forward(&batch).unwrap();
        let mut waited = Duration::ZERO;
        if step > 0 {
            let waiting = Instant::now();
            runner.wait_sampled().unwrap();
            waited = waiting.elapsed();
        }
        runner.sample(&requests).unwrap();
        if step >= WARM_UP {
            host.push(milliseconds(at.elapsed() - waited));
        }
    }
    runner.wait_sampled().unwrap();
    Decoded { wall: milliseconds(started.elapsed()) / steps as f64, host: median(host) }
}

/// Decode of many sequences at several contexts.
pub(crate) fn decode(
    shape: &Shape,
    runner: &mut DeviceRunner<CudaDevice>,
    steps: usize,
    longest: usize,
    floors: &Floors,
) {
    println!("| decode, sequences | context | tokens/s | step, ms | host, ms | floor, ms | of the floor |");
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for context in CONTEXTS.into_iter().filter(|&context| context <= longest) {
        for sequences in SEQUENCES {
            if sequences * (context + WARM_UP + steps) > runner.kv_slots() {
                println!("| {sequences} | {context} | does not fit the memory | | | | |");
                continue;
            }
            let Decoded { wall, host } = decode_steps(runner, sequences, context, steps);
            let bytes = 2 * (shape.linear_weights() + shape.head_weights())
                + sequences * (context + WARM_UP + steps / 2) * shape.slot_bytes();
            let floor = bytes as f64 / floors.bandwidth * 1e3;
            let rate = sequences as f64 / wall * 1e3;
            let share = floor / wall * 100.0;
            println!("| {sequences} | {context} | {rate:.0} | {wall:.3} | {host:.3} | {floor:.3} | {share:.0}% |");
        }
    }
    println!();
}

/// Prefill of one prompt in one pass.
pub(crate) fn prefill(shape: &Shape, runner: &mut DeviceRunner<CudaDevice>, longest: usize, floors: &Floors) {
    println!("| prefill, tokens | tokens/s | ms | TFLOP/s | of the matrix rate |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    for tokens in PROMPTS.into_iter().filter(|&tokens| tokens <= longest) {
        if tokens > runner.kv_slots() {
            println!("| {tokens} | does not fit the memory | | | |");
            continue;
        }
        let mut batch = Batch::default();
        let ids: Vec<u32> = (0..tokens as u32).map(|index| index * 37 % 251).collect();
        batch.push_sequence(&ids, 0..tokens as u32, &(0..tokens as u32).collect::<Vec<_>>());
        batch.sample_rows = vec![tokens as u32 - 1];
        let rounds = (0..PREFILL_ROUNDS).map(|_| {
            let started = Instant::now();
            runner.forward(&batch).unwrap();
            runner.sample(&[sample()]).unwrap();
            runner.wait_sampled().unwrap();
            milliseconds(started.elapsed())
        });
        let milliseconds = median(rounds.skip(1).collect());
        // A token attends to half of the prompt on average, in two products.
        let attention = 2.0 * (tokens * tokens) as f64 * (shape.layers * shape.heads * shape.head_dim) as f64;
        let operations = 2.0 * (tokens * shape.linear_weights() + shape.head_weights()) as f64 + attention;
        let (rate, performed) = (tokens as f64 / milliseconds * 1e3, operations / milliseconds * 1e3);
        let share = performed / floors.matrix_rate * 100.0;
        println!("| {tokens} | {rate:.0} | {milliseconds:.2} | {:.0} | {share:.0}% |", performed / 1e12);
    }
    println!();
}
