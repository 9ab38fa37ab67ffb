//! Random data and the plain reference that kernels are compared with.

#![allow(clippy::unwrap_used, reason = "test code")]

use half::f16;

use super::pack::{BLOCK, PanelFormat};

pub(super) const FORMATS: [PanelFormat; 3] = [PanelFormat::Q8_0, PanelFormat::Q4_0, PanelFormat::Q4_1];

/// SplitMix64.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// In [-1, 1).
    pub(super) fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub(super) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// Stored rows of random quants with scales (and minima) of a plausible size.
pub(super) fn quantized_rows(random: &mut Random, format: PanelFormat, rows: usize, blocks: usize) -> Vec<Vec<u8>> {
    (0..rows)
        .map(|_| {
            (0..blocks)
                .flat_map(|_| {
                    let mut block: Vec<u8> = (0..format.block_bytes()).map(|_| random.next() as u8).collect();
                    block[..2].copy_from_slice(&f16::from_f32(0.01 + 0.005 * random.float()).to_le_bytes());
                    if format == PanelFormat::Q4_1 {
                        block[2..4].copy_from_slice(&f16::from_f32(0.1 * random.float()).to_le_bytes());
                    }
                    block
                })
                .collect()
        })
        .collect()
}

/// A stored row as floats, by the definition of its format.
pub(super) fn dequantize(format: PanelFormat, row: &[u8]) -> Vec<f32> {
    let half = |bytes: &[u8]| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32();
    row.chunks_exact(format.block_bytes())
        .flat_map(|block| {
            let d = half(block);
            (0..BLOCK)
                .map(|i| {
                    let nibble = |quants: &[u8]| f32::from(if i < 16 { quants[i] & 15 } else { quants[i - 16] >> 4 });
                    match format {
                        PanelFormat::Q8_0 => d * f32::from(block[2 + i] as i8),
                        PanelFormat::Q4_0 => d * (nibble(&block[2..]) - 8.0),
                        PanelFormat::Q4_1 => d * nibble(&block[4..]) + half(&block[2..]),
                    }
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// `out[t][r] = Σ w[r][k] x[t][k]` in f64.
pub(super) fn product(weights: &[Vec<f32>], x: &[f32], columns: usize) -> Vec<f64> {
    x.chunks_exact(columns)
        .flat_map(|x| {
            weights
                .iter()
                .map(|w| w.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum())
                .collect::<Vec<f64>>()
        })
        .collect()
}

/// `‖a − b‖ / ‖b‖`.
pub(super) fn relative_error(a: &[f32], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let error: f64 = a.iter().zip(b).map(|(&a, &b)| (f64::from(a) - b).powi(2)).sum();
    let norm: f64 = b.iter().map(|b| b * b).sum();
    (error / norm).sqrt()
}
