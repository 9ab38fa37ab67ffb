//! Times all linear layers of the default model's shape on random weights, and one layer's attention.
//!
//! `cargo run --release -p sglhost-device --example linears [-- ROWS…]` prints, for each number of rows, the tokens a
//! second that the linear layers alone allow: 30 layers of Q4_1 and a Q8_0 head (one row of it for prefill). K formats
//! have rows of whole blocks of 256, so their matrices are wider: compare operations a second. `--threads N`,
//! `--fastest` (of the repeats, not the median; for a machine that others use too).

#![allow(clippy::unwrap_used, reason = "a measuring tool")]
#![allow(clippy::disallowed_methods, reason = "it measures time")]

use std::time::Instant;

use sglhost_device::{
    AttentionShape, Batch, CpuConfig, CpuDevice, DType, Device, KvLayout, MappedBytes, MappedFile, Precision, Rope,
    RowOrder, WeightFormat, WeightPart, cpu::CpuWeight,
};

const LAYERS: usize = 30;
const SHAPES: [(usize, usize); 4] = [(960, 576), (576, 576), (3072, 576), (576, 1536)];
const HEAD: (usize, usize) = (49_152, 576);

/// A matrix of arbitrary quants with small scales.
fn weight(device: &mut CpuDevice, format: WeightFormat, (rows, columns): (usize, usize)) -> CpuWeight {
    let mut state = (rows * columns) as u64;
    let mut bytes: Vec<u8> = (0..rows * format.row_bytes(columns).unwrap())
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        match format {
            WeightFormat::F32 => block.copy_from_slice(&0.01_f32.to_le_bytes()),
            WeightFormat::F16 => block.copy_from_slice(&half::f16::from_f32(0.01).to_le_bytes()),
            WeightFormat::BF16 => block.copy_from_slice(&half::bf16::from_f32(0.01).to_le_bytes()),
            WeightFormat::Q4_K | WeightFormat::Q5_K => {
                block[..2].copy_from_slice(&half::f16::from_f32(0.0003).to_le_bytes());
                block[2..4].copy_from_slice(&half::f16::from_f32(0.002).to_le_bytes());
            }
            WeightFormat::Q6_K => block[208..].copy_from_slice(&half::f16::from_f32(0.0001).to_le_bytes()),
            _ => block[..2].copy_from_slice(&half::f16::from_f32(0.01).to_le_bytes()),
        }
        if matches!(format, WeightFormat::Q4_1 | WeightFormat::Q5_1) {
            block[2..4].copy_from_slice(&half::f16::from_f32(-0.07).to_le_bytes());
        }
    }
    let path = std::env::temp_dir().join(format!("sglhost-linears-{}", std::process::id()));
    std::fs::write(&path, &bytes).unwrap();
    let file = MappedFile::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let data = MappedBytes::new(file, 0..bytes.len()).unwrap();
    device.load_weight(&[WeightPart { data, format, rows, columns, order: RowOrder::Natural }]).unwrap()
}

/// Median seconds of `repeats` runs, or the least.
fn seconds(repeats: usize, mut run: impl FnMut()) -> f64 {
    run();
    let mut times: Vec<f64> = (0..repeats)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[if std::env::args().any(|argument| argument == "--fastest") { 0 } else { repeats / 2 }]
}

fn linears(device: &mut CpuDevice, layers: WeightFormat, head: WeightFormat, row_counts: &[usize]) {
    let whole = |format: WeightFormat, (rows, columns): (usize, usize)| {
        (rows, columns.next_multiple_of(format.block_elements()))
    };
    let shapes = SHAPES.map(|shape| whole(layers, shape));
    let head_shape = whole(head, HEAD);
    let mut weights = Vec::new();
    for _ in 0..LAYERS {
        weights.extend(shapes.map(|shape| weight(device, layers, shape)));
    }
    let head = weight(device, head, head_shape);
    for &rows in row_counts {
        let head_rows = if rows >= 64 { 1 } else { rows };
        let mut x = device.allocate(rows * 1536, Precision::Full).unwrap();
        let values: Vec<f32> = (0..rows * 1536).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        device.write_f32(&mut x, &values).unwrap();
        let mut out = device.allocate((rows * 3072).max(head_rows * HEAD.0), Precision::Full).unwrap();
        let seconds = seconds(if rows >= 64 { 5 } else { 15 }, || {
            for weight in &weights {
                device.linear(weight, None, &x, rows, &mut out).unwrap();
            }
            device.linear(&head, None, &x, head_rows, &mut out).unwrap();
        });
        let head_products = head_shape.0 * head_shape.1 * head_rows;
        let products = shapes.map(|(n, k)| n * k).iter().sum::<usize>() * LAYERS * rows + head_products;
        let speed = rows as f64 / seconds;
        let rate = 2e-9 * products as f64 / seconds;
        println!("  {rows:4} rows: {:8.3} ms, {speed:6.0} tok/s, {rate:5.0} GOPS", seconds * 1e3);
    }
}

fn attention(device: &mut CpuDevice) {
    let shape = AttentionShape { heads: 9, kv_heads: 3, head_dim: 64, scale: 0.125, window: None };
    let layout = KvLayout { layers: 1, kv_heads: 3, head_dim: 64, dtype: DType::F16, page_tokens: 1 };
    let mut kv = device.allocate_kv(layout, 20_000).unwrap();
    for (name, sequences, new, context) in [
        ("prefill of 512", 1, 512, 512),
        ("one token at 200", 1, 1, 200),
        ("one token at 1,100", 1, 1, 1100),
        ("16 tokens at 1,100", 16, 1, 1100),
    ] {
        let mut batch = Batch::default();
        for s in 0..sequences {
            let slots: Vec<u32> = (s * context..(s + 1) * context).collect();
            batch.push_sequence(&vec![0; new as usize], 0..new, &slots);
        }
        let batch = device.upload_batch(&batch).unwrap();
        let rows = (sequences * new) as usize;
        let mut qkv = device.allocate(rows * 960, Precision::Full).unwrap();
        let values: Vec<f32> = (0..rows * 960).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        device.write_f32(&mut qkv, &values).unwrap();
        let mut frequencies = device.allocate(32, Precision::Full).unwrap();
        device.write_f32(&mut frequencies, &[0.01; 32]).unwrap();
        let mut out = device.allocate(rows * 576, Precision::Full).unwrap();
        let rope = Rope { inverse_frequencies: &frequencies, sections: [32, 0, 0], head_norm: None };
        device.rope_and_write_kv(&mut qkv, &rope, &shape, &batch, &mut kv, 0).unwrap();
        let seconds = seconds(30, || device.attention(&qkv, &shape, &batch, &kv, 0, &mut out).unwrap());
        println!("  {name}: {:.1} µs a layer, {:.2} ms for {LAYERS}", seconds * 1e6, seconds * 1e3 * LAYERS as f64);
    }
}

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let threads = match arguments.iter().position(|argument| argument == "--threads") {
        Some(at) => arguments.drain(at..at + 2).nth(1).unwrap().parse().unwrap(),
        None => 0,
    };
    let rows: Vec<usize> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let rows = if rows.is_empty() { vec![1, 2, 4, 8, 16, 32, 64, 512] } else { rows };
    let mut device = CpuDevice::new(CpuConfig { threads, ..CpuConfig::default() });
    println!("{}", device.description());
    println!("attention:");
    attention(&mut device);
    for (layers, head) in [
        (WeightFormat::Q4_1, WeightFormat::Q8_0),
        (WeightFormat::Q4_0, WeightFormat::Q8_0),
        (WeightFormat::Q4_K, WeightFormat::Q6_K),
        (WeightFormat::Q5_K, WeightFormat::Q6_K),
        (WeightFormat::Q6_K, WeightFormat::Q6_K),
        (WeightFormat::Q5_0, WeightFormat::Q8_0),
        (WeightFormat::Q8_0, WeightFormat::Q8_0),
        (WeightFormat::F16, WeightFormat::F16),
    ] {
        println!("{layers:?} layers, {head:?} head:");
        linears(&mut device, layers, head, &rows);
    }
}
