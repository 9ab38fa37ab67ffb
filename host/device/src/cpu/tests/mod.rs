//! Every operation of the device against plain reference code.

#![allow(clippy::unwrap_used, reason = "test code")]

mod attention;
mod linear;
mod rows;
mod sample;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::*;
use crate::{MappedBytes, MappedFile, RowOrder, WeightFormat};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// In [-1, 1).
    fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// A file of these bytes, mapped; its name is gone at once.
fn mapped(bytes: &[u8]) -> MappedBytes {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("sglhost-device-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let path: PathBuf = std::env::temp_dir().join(name);
    std::fs::write(&path, bytes).unwrap();
    let file = MappedFile::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    MappedBytes::new(file, 0..bytes.len()).unwrap()
}

fn device(threads: usize, activations: Activations, isa: Isa) -> CpuDevice {
    CpuDevice::new(CpuConfig { threads, activations, isa: Some(isa) })
}

fn buffer(device: &mut CpuDevice, values: &[f32]) -> CpuBuffer {
    let mut buffer = device.allocate(values.len(), Precision::Full).unwrap();
    device.write_f32(&mut buffer, values).unwrap();
    buffer
}

fn read(device: &mut CpuDevice, buffer: &CpuBuffer, count: usize) -> Vec<f32> {
    let mut out = vec![0.0; count];
    device.read_f32(buffer, &mut out).unwrap();
    out
}

/// `‖a − b‖ / ‖b‖`.
fn relative_error(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let error: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - b).powi(2)).sum();
    (error / b.iter().map(|b| b * b).sum::<f64>()).sqrt()
}

fn half(bytes: &[u8]) -> f32 {
    half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32()
}

/// A stored matrix with the floats it stands for, in natural row order.
struct Stored {
    part: WeightPart,
    rows: Vec<Vec<f32>>,
}

fn stored(random: &mut Random, format: WeightFormat, rows: usize, columns: usize, order: RowOrder) -> Stored {
    let mut bytes = Vec::new();
    let mut in_file = Vec::new();
    for _ in 0..rows {
        let mut row = Vec::new();
        for _ in 0..columns / format.block_elements() {
            block(random, format, &mut bytes, &mut row);
        }
        in_file.push(row);
    }
    let part = WeightPart { data: mapped(&bytes), format, rows, columns, order };
    Stored { part, rows: (0..rows).map(|row| in_file[order.stored_row(row)].clone()).collect() }
}

/// One random block as bytes and, by the definition of its format, as floats.
fn block(random: &mut Random, format: WeightFormat, bytes: &mut Vec<u8>, row: &mut Vec<f32>) {
    let scale = half::f16::from_f32(0.01 + 0.005 * random.float());
    match format {
        WeightFormat::F32 => {
            let x = random.float();
            bytes.extend(x.to_le_bytes());
            row.push(x);
        }
        WeightFormat::F16 => {
            let x = half::f16::from_f32(random.float());
            bytes.extend(x.to_le_bytes());
            row.push(x.to_f32());
        }
        WeightFormat::BF16 => {
            let x = half::bf16::from_f32(random.float());
            bytes.extend(x.to_le_bytes());
            row.push(x.to_f32());
        }
        WeightFormat::Q8_0 => {
            let quants: [i8; 32] = std::array::from_fn(|_| random.next() as i8);
            bytes.extend(scale.to_le_bytes());
            bytes.extend(quants.map(|q| q as u8));
            row.extend(quants.map(|q| scale.to_f32() * f32::from(q)));
        }
        WeightFormat::Q4_0 | WeightFormat::Q4_1 => {
            let quants: [u8; 16] = std::array::from_fn(|_| random.next() as u8);
            let start = bytes.len();
            bytes.extend(scale.to_le_bytes());
            let minimum = if format == WeightFormat::Q4_1 {
                bytes.extend(half::f16::from_f32(0.1 * random.float()).to_le_bytes());
                half(&bytes[start + 2..])
            } else {
                -8.0 * scale.to_f32()
            };
            bytes.extend(quants);
            let values = quants.map(|q| q & 15).into_iter().chain(quants.map(|q| q >> 4));
            row.extend(values.map(|q| scale.to_f32() * f32::from(q) + minimum));
        }
        WeightFormat::Q5_0 | WeightFormat::Q5_1 => {
            let quants: [u8; 32] = std::array::from_fn(|_| random.next() as u8 & 31);
            let start = bytes.len();
            bytes.extend(scale.to_le_bytes());
            let minimum = if format == WeightFormat::Q5_1 {
                bytes.extend(half::f16::from_f32(0.1 * random.float()).to_le_bytes());
                half(&bytes[start + 2..])
            } else {
                -16.0 * scale.to_f32()
            };
            let fifth = quants.iter().enumerate().fold(0_u32, |bits, (i, q)| bits | u32::from(q >> 4) << i);
            bytes.extend(fifth.to_le_bytes());
            bytes.extend((0..16).map(|i| quants[i] & 15 | quants[16 + i] << 4));
            row.extend(quants.map(|q| scale.to_f32() * f32::from(q) + minimum));
        }
        WeightFormat::Q4_K | WeightFormat::Q5_K => k_block(random, format, bytes, row),
        WeightFormat::Q6_K => {
            let quants: Vec<u8> = (0..256).map(|_| random.next() as u8 & 63).collect();
            let scales: [i8; 16] = std::array::from_fn(|_| random.next() as i8);
            let at = |part: usize, of_four: usize, l: usize| quants[128 * part + 32 * of_four + l];
            for part in 0..2 {
                bytes.extend((0..64).map(|i| at(part, i / 32, i % 32) & 15 | at(part, 2 + i / 32, i % 32) << 4));
            }
            for part in 0..2 {
                let high = |l: usize| (0..4).fold(0, |bits, of_four| bits | at(part, of_four, l) >> 4 << (2 * of_four));
                bytes.extend((0..32).map(high));
            }
            bytes.extend(scales.map(|scale| scale as u8));
            let scale = half::f16::from_f32(scale.to_f32() / 64.0);
            bytes.extend(scale.to_le_bytes());
            let weight = |(i, q): (usize, &u8)| scale.to_f32() * f32::from(scales[i / 16]) * (f32::from(*q) - 32.0);
            row.extend(quants.iter().enumerate().map(weight));
        }
    }
}

/// A block of Q4_K or Q5_K.
fn k_block(random: &mut Random, format: WeightFormat, bytes: &mut Vec<u8>, row: &mut Vec<f32>) {
    let bits = if format == WeightFormat::Q4_K { 4 } else { 5 };
    let quants: Vec<u8> = (0..256).map(|_| random.next() as u8 >> (8 - bits)).collect();
    let [scales, minima]: [[u8; 8]; 2] = std::array::from_fn(|_| std::array::from_fn(|_| random.next() as u8 & 63));
    let [scale, minimum] = [0.0004, 0.0003].map(|size| half::f16::from_f32(size * (1.0 + 0.5 * random.float())));
    bytes.extend(scale.to_le_bytes());
    bytes.extend(minimum.to_le_bytes());
    for values in [&scales, &minima] {
        bytes.extend((0..4).map(|i| values[i] | values[4 + i] >> 4 << 6));
    }
    bytes.extend((4..8).map(|i| scales[i] & 15 | minima[i] << 4));
    if bits == 5 {
        let fifth = |l: usize| (0..8).fold(0, |bits, s| bits | quants[32 * s + l] >> 4 << s);
        bytes.extend((0..32).map(fifth));
    }
    for quants in quants.chunks(64) {
        bytes.extend((0..32).map(|l| quants[l] & 15 | quants[32 + l] << 4));
    }
    row.extend(quants.iter().enumerate().map(|(i, q)| {
        let (factor, taken) = (f32::from(scales[i / 32]), f32::from(minima[i / 32]));
        scale.to_f32() * factor * f32::from(*q) - minimum.to_f32() * taken
    }));
}

/// All configurations whose results must be right: each instruction set, one and three threads.
fn machines() -> impl Iterator<Item = (Isa, usize)> {
    Isa::available().into_iter().flat_map(|isa| [(isa, 1), (isa, 3)])
}

/// A batch of sequences given as new tokens' count and context.
fn batch_of(sequences: &[(usize, &[u32])]) -> Batch {
    let mut batch = Batch::default();
    for &(new, context) in sequences {
        let first = (context.len() - new) as u32;
        batch.push_sequence(&vec![0; new], first..context.len() as u32, context);
    }
    batch
}

fn shared(values: &[f32]) -> Arc<[f32]> {
    values.into()
}
