//! Numbers and weights to compute with.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
};

use half::{bf16, f16};
use sglhost_device::{MappedBytes, MappedFile, RowOrder, WeightFormat, WeightPart};

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// In [-1, 1).
    pub(crate) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// In [-1, 1).
    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }

    /// As [`Random::floats`], and every one a bf16: both devices then start from the same numbers.
    pub(crate) fn halves(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| bf16::from_f32(self.float()).to_f32()).collect()
    }

    /// All of `0..count` in some order.
    pub(crate) fn permutation(&mut self, count: usize) -> Vec<u32> {
        let mut all: Vec<u32> = (0..count as u32).collect();
        for i in (1..count).rev() {
            all.swap(i, self.below(i + 1));
        }
        all
    }
}

/// A file of these bytes, mapped; its name is gone at once.
fn mapped(bytes: &[u8]) -> MappedBytes {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("sglhost-twin-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let path: PathBuf = std::env::temp_dir().join(name);
    std::fs::write(&path, bytes).unwrap();
    let file = MappedFile::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    MappedBytes::new(file, 0..bytes.len()).unwrap()
}

/// Random rows of a format.
pub(crate) fn part(
    random: &mut Random,
    format: WeightFormat,
    rows: usize,
    columns: usize,
    order: RowOrder,
) -> WeightPart {
    let mut bytes = Vec::new();
    for _ in 0..rows * columns / format.block_elements() {
        let start = bytes.len();
        match format {
            WeightFormat::F32 => bytes.extend(random.float().to_le_bytes()),
            WeightFormat::F16 => bytes.extend(f16::from_f32(random.float()).to_le_bytes()),
            WeightFormat::BF16 => bytes.extend(bf16::from_f32(random.float()).to_le_bytes()),
            _ => {
                bytes.extend((0..format.block_bytes()).map(|_| random.next() as u8));
                // Where a block's half floats are, any bytes will not do.
                let (at, halves, size) = match format {
                    WeightFormat::Q4_1 | WeightFormat::Q5_1 => (0, 2, 0.02),
                    WeightFormat::Q4_K | WeightFormat::Q5_K => (0, 2, 0.0005),
                    WeightFormat::Q6_K => (208, 1, 0.0003),
                    _ => (0, 1, 0.02),
                };
                for i in 0..halves {
                    let half = f16::from_f32(size * (1.0 + 0.5 * random.float())).to_le_bytes();
                    bytes[start + at + 2 * i..][..2].copy_from_slice(&half);
                }
            }
        }
    }
    WeightPart { data: mapped(&bytes), format, rows, columns, order }
}

/// Random rows of bf16.
pub(crate) fn matrix(random: &mut Random, rows: usize, columns: usize) -> WeightPart {
    part(random, WeightFormat::BF16, rows, columns, RowOrder::Natural)
}
