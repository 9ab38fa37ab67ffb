//! Random data and the plain reference that kernels are compared with.

#![allow(clippy::unwrap_used, reason = "test code")]

use half::f16;

use super::pack::{BLOCK, PanelFormat};

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

/// Stored rows of random quants with scales (and minima) of a plausible size; `blocks` of 32.
pub(super) fn quantized_rows(random: &mut Random, format: PanelFormat, rows: usize, blocks: usize) -> Vec<Vec<u8>> {
    let stored_blocks = blocks * BLOCK / format.block_elements();
    let mut row = || {
        let mut row = Vec::new();
        for _ in 0..stored_blocks {
            row.extend(stored_block(random, format));
        }
        row
    };
    (0..rows).map(|_| row()).collect()
}

fn stored_block(random: &mut Random, format: PanelFormat) -> Vec<u8> {
    let mut block: Vec<u8> = (0..format.block_bytes()).map(|_| random.next() as u8).collect();
    let mut put = |at: usize, value: f32| block[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
    let (scale, minimum) = (0.01 + 0.005 * random.float(), 0.1 * random.float());
    match format {
        PanelFormat::Q8_0 | PanelFormat::Q4_0 | PanelFormat::Q5_0 => put(0, scale),
        PanelFormat::Q4_1 | PanelFormat::Q5_1 => {
            put(0, scale);
            put(2, minimum);
        }
        PanelFormat::Q4_K | PanelFormat::Q5_K => {
            put(0, scale / 32.0);
            put(2, minimum / 32.0);
        }
        PanelFormat::Q6_K => put(208, scale / 64.0),
    }
    block
}

/// A stored row as floats, by the definition of its format in ggml.
pub(super) fn dequantize(format: PanelFormat, row: &[u8]) -> Vec<f32> {
    let mut out = Vec::new();
    for block in row.chunks_exact(format.block_bytes()) {
        let half = |at: usize| f16::from_le_bytes([block[at], block[at + 1]]).to_f32();
        let nibble = |at: usize, i: usize| if i < 16 { block[at + i] & 15 } else { block[at + i - 16] >> 4 };
        let fifth = |at: usize, i: usize| block[at + i / 8] >> (i % 8) & 1;
        match format {
            PanelFormat::Q8_0 => out.extend(block[2..].iter().map(|&q| half(0) * f32::from(q as i8))),
            PanelFormat::Q4_0 => out.extend((0..32).map(|i| half(0) * (f32::from(nibble(2, i)) - 8.0))),
            PanelFormat::Q4_1 => out.extend((0..32).map(|i| half(0) * f32::from(nibble(4, i)) + half(2))),
            PanelFormat::Q5_0 => {
                out.extend((0..32).map(|i| half(0) * (f32::from(nibble(6, i) + 16 * fifth(2, i)) - 16.0)));
            }
            PanelFormat::Q5_1 => {
                out.extend((0..32).map(|i| half(0) * f32::from(nibble(8, i) + 16 * fifth(4, i)) + half(2)));
            }
            PanelFormat::Q4_K | PanelFormat::Q5_K => {
                // As `dequantize_row_q4_K` and `dequantize_row_q5_K` go over it: 64 elements at a time.
                let (high, nibbles) = if format == PanelFormat::Q4_K { (None, 16) } else { (Some(16), 48) };
                for j in 0..4 {
                    for (is, shift) in [(2 * j, 0), (2 * j + 1, 4)] {
                        let (scale, minimum) = scale_and_minimum(is, &block[4..16]);
                        for l in 0..32 {
                            let bit = high.map_or(0, |at| block[at + l] >> is & 1);
                            let q = (block[nibbles + 32 * j + l] >> shift & 15) + 16 * bit;
                            out.push(half(0) * scale * f32::from(q) - half(2) * minimum);
                        }
                    }
                }
            }
            PanelFormat::Q6_K => {
                let at = out.len();
                out.resize(at + 256, 0.0);
                for n in 0..2 {
                    let (ql, qh, sc) = (&block[64 * n..], &block[128 + 32 * n..], &block[192 + 8 * n..]);
                    for l in 0..32 {
                        let quants = [
                            ql[l] & 15 | (qh[l] & 3) << 4,
                            ql[l + 32] & 15 | (qh[l] >> 2 & 3) << 4,
                            ql[l] >> 4 | (qh[l] >> 4 & 3) << 4,
                            ql[l + 32] >> 4 | (qh[l] >> 6) << 4,
                        ];
                        for (part, q) in quants.into_iter().enumerate() {
                            let scale = half(208) * f32::from(sc[l / 16 + 2 * part] as i8);
                            out[at + 128 * n + 32 * part + l] = scale * (f32::from(q) - 32.0);
                        }
                    }
                }
            }
        }
    }
    out
}

/// ggml's `get_scale_min_k4`, by its table: bytes of scales A to D with two bits of E to H, the same of minima, then
/// four bits each of the rest.
fn scale_and_minimum(index: usize, bytes: &[u8]) -> (f32, f32) {
    let (low, rest) = (index % 4, bytes[8 + index % 4]);
    let (scale, minimum) = match index {
        0..4 => (bytes[low] & 0x3f, bytes[4 + low] & 0x3f),
        _ => ((bytes[low] & 0xc0) >> 2 | rest & 0x0f, (bytes[4 + low] & 0xc0) >> 2 | rest >> 4),
    };
    (f32::from(scale), f32::from(minimum))
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
