//! Operations row by row: embedding, norms, the gate, gathering.

use std::sync::Arc;

use sglhost_device::{Batch, CudaConfig, Device, DeviceError, Precision, RowOrder, WeightFormat, WeightPart};

use crate::{
    both::{self, BF16, F32, buffer, check_near, cpu, gpu, read},
    random::{self, Random},
};

/// Runs `work` on both devices and compares.
macro_rules! on_both {
    ($what:expr, $tolerance:expr, $work:expr) => {
        let expect = $work(&mut cpu());
        let got = $work(&mut gpu(CudaConfig::default()));
        check_near($what, &got, &expect, $tolerance);
    };
}

fn embedded<D: Device>(device: &mut D, parts: &[WeightPart], batch: &Batch) -> Vec<f32> {
    let table = device.load_weight(parts).unwrap();
    let batch = device.upload_batch(batch).unwrap();
    let count = batch_tokens(device, &batch) * parts[0].columns;
    let mut out = device.allocate(count, Precision::Full).unwrap();
    device.embed(&table, &batch, &mut out).unwrap();
    read(device, &out, count)
}

fn batch_tokens<D: Device>(device: &D, batch: &D::Batch) -> usize {
    device.rows(batch).tokens
}

/// A prompt of these tokens.
fn prompt(tokens: &[u32]) -> Batch {
    let mut batch = Batch::default();
    let slots: Vec<u32> = (0..tokens.len() as u32).collect();
    batch.push_sequence(tokens, 0..tokens.len() as u32, &slots);
    batch
}

#[test]
fn every_format_and_order_of_rows_is_loaded() {
    let mut random = Random(1);
    let formats = [
        WeightFormat::F32,
        WeightFormat::F16,
        WeightFormat::BF16,
        WeightFormat::Q8_0,
        WeightFormat::Q4_0,
        WeightFormat::Q4_1,
        WeightFormat::Q5_0,
        WeightFormat::Q5_1,
        WeightFormat::Q4_K,
        WeightFormat::Q5_K,
        WeightFormat::Q6_K,
    ];
    let (mut cpu, mut gpu) = (cpu(), gpu(CudaConfig::default()));
    for format in formats {
        let orders = [RowOrder::Natural, RowOrder::RopeInterleaved { head_dim: 8 }, RowOrder::Natural];
        let parts: Vec<WeightPart> = [5, 24, 18]
            .into_iter()
            .zip(orders)
            .map(|(rows, order)| random::part(&mut random, format, rows, 256, order))
            .collect();
        let batch = prompt(&(0..47).collect::<Vec<_>>());
        let expect = embedded(&mut cpu, &parts, &batch);
        let rounded: Vec<f32> = expect.iter().map(|&x| half::bf16::from_f32(x).to_f32()).collect();
        assert_eq!(embedded(&mut gpu, &parts, &batch), rounded, "{format:?}");
    }
}

#[test]
fn large_weights_come_in_pieces() {
    // More than two pieces of 8 MiB, with a tail; two threads' worth to convert.
    let mut random = Random(2);
    let parts = [WeightFormat::BF16, WeightFormat::F16]
        .map(|format| random::part(&mut random, format, 3301, 1672, RowOrder::Natural));
    let batch = prompt(&[0, 2507, 2508, 2509, 3300, 3301, 5808, 5809, 5810, 6601]);
    on_both!("embed", BF16, |device: &mut _| embedded_of(device, &parts, &batch));
}

fn embedded_of<D: Device>(device: &mut D, parts: &[WeightPart], batch: &Batch) -> Vec<f32> {
    embedded(device, parts, batch)
}

#[test]
fn given_embeddings_take_the_place_of_tokens() {
    let mut random = Random(3);
    let parts = [random::matrix(&mut random, 10, 72)];
    let mut batch = prompt(&[3, 9999, 4, 9999]);
    for row in [1, 3] {
        batch.embedding_rows.push((row, Arc::from(random.floats(72))));
    }
    let mut plain = batch.clone();
    plain.tokens = vec![3, 0, 4, 0];
    let expect = embedded(&mut cpu(), &parts, &plain);
    let mut gpu = gpu(CudaConfig::default());
    check_near("embed", &embedded(&mut gpu, &parts, &batch), &expect, both::Tolerance { relative: 0.0, absolute: 0.0 });
    batch.embedding_rows[1].1 = Arc::from([0.0; 64]);
    let error = gpu.upload_batch(&batch).unwrap_err();
    assert_eq!(error.to_string(), "shape: embeddings of 72 and of 64 elements");
}

#[test]
fn norms_of_any_width() {
    for (seed, (rows, width)) in
        [(1, 8), (3, 24), (2, 576), (5, 2048), (2, 8192), (1, 20000), (1, 1003)].into_iter().enumerate()
    {
        let mut random = Random(10 + seed as u64);
        let (x, weight, added) = (random.floats(rows * width), random.floats(width), random.halves(rows * width));
        on_both!(&format!("rms_norm {rows} x {width}"), BF16, |device: &mut _| norm(device, &x, None, &weight).0);
        let add = |sums: bool| {
            let pick = move |(out, residual): (Vec<f32>, Vec<f32>)| if sums { residual } else { out };
            let expect = pick(norm(&mut cpu(), &x, Some(&added), &weight));
            let got = pick(norm(&mut gpu(CudaConfig::default()), &x, Some(&added), &weight));
            check_near(&format!("add_rms_norm {rows} x {width}"), &got, &expect, if sums { F32 } else { BF16 });
        };
        add(false);
        add(true);
    }
}

/// The norm and, where something was added, the sums.
fn norm<D: Device>(device: &mut D, x: &[f32], added: Option<&[f32]>, weight: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let rows = x.len() / weight.len();
    let mut residual = buffer(device, x, Precision::Full);
    let weight = buffer(device, weight, Precision::Full);
    let mut out = device.allocate(x.len(), Precision::Activation).unwrap();
    match added {
        None => device.rms_norm(&residual, &weight, 1e-5, rows, &mut out).unwrap(),
        Some(added) => {
            let added = buffer(device, added, Precision::Activation);
            device.add_rms_norm(&mut residual, &added, &weight, 1e-5, rows, &mut out).unwrap();
        }
    }
    (read(device, &out, x.len()), read(device, &residual, x.len()))
}

#[test]
fn gates_of_any_width() {
    for (rows, width) in [(1, 8), (3, 1024), (7, 1536), (2, 1032)] {
        let gate_up = Random(20).halves(2 * rows * width);
        let gate_up: Vec<f32> = gate_up.iter().map(|x| 8.0 * x).collect();
        on_both!(&format!("silu_mul {rows} x {width}"), BF16, |device: &mut _| gate(device, &gate_up, rows, width));
    }
    let mut gpu = gpu(CudaConfig::default());
    let (from, mut to) =
        (buffer(&mut gpu, &[0.0; 24], Precision::Activation), gpu.allocate(12, Precision::Activation).unwrap());
    assert!(matches!(gpu.silu_mul(&from, 1, 12, &mut to), Err(DeviceError::Shape(_))));
}

fn gate<D: Device>(device: &mut D, gate_up: &[f32], rows: usize, width: usize) -> Vec<f32> {
    let from = buffer(device, gate_up, Precision::Activation);
    let mut out = device.allocate(rows * width, Precision::Activation).unwrap();
    device.silu_mul(&from, rows, width, &mut out).unwrap();
    read(device, &out, rows * width)
}

#[test]
fn sample_rows_are_gathered() {
    let mut batch = prompt(&[0; 9]);
    batch.sample_rows = vec![1, 5, 8];
    for (precision, width) in [(Precision::Full, 7), (Precision::Activation, 2054), (Precision::Full, 4096)] {
        let x = Random(30).halves(9 * width);
        on_both!(&format!("gather {width}"), both::Tolerance { relative: 0.0, absolute: 0.0 }, |device: &mut _| {
            gathered(device, &x, &batch, width, precision)
        });
    }
}

fn gathered<D: Device>(device: &mut D, x: &[f32], batch: &Batch, width: usize, precision: Precision) -> Vec<f32> {
    let batch = device.upload_batch(batch).unwrap();
    let x = buffer(device, x, precision);
    let mut out = device.allocate(3 * width, precision).unwrap();
    device.gather_sample_rows(&x, &batch, width, &mut out).unwrap();
    read(device, &out, 3 * width)
}
