//! Quantized weights, repacked from ggml's rows into panels of sixteen rows, at the same size.
//!
//! A panel keeps sixteen rows side by side, so that one vector holds the same columns of all of them and a product
//! needs no sum across lanes. With `B = columns / 32` blocks a row, a panel is
//!
//! | part | bytes | holds |
//! | --- | --- | --- |
//! | quants | `B × 256` (4 bits) or `B × 512` (8 bits) | see below |
//! | scales | `B × 16 × 2` | f16, one a row |
//! | minima | `B × 16 × 2`, Q4_1 only | f16, one a row |
//!
//! rounded up to whole cache lines. Within a block, columns come in eight groups of four:
//! - 8 bits: group g is 64 bytes, byte `4 r + j` is row r, column `4 g + j`, as value + 128;
//! - 4 bits: groups 2p and 2p + 1 share 64 bytes, the even one in the low nibbles.
//!
//! Rows past the last are zero, scale included. One layout serves all instruction sets.

use half::f16;

/// Rows of a panel.
pub const PANEL_ROWS: usize = 16;
/// Elements of a quantized block.
pub const BLOCK: usize = 32;

/// The quantized formats that have panels. Blocks are ggml's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PanelFormat {
    /// f16 scale, 32 × int8.
    Q8_0,
    /// f16 scale, 32 × 4 bits with offset −8: element i in the low nibble of byte i, element 16 + i in the high one.
    Q4_0,
    /// f16 scale, f16 minimum, 32 × 4 bits as in Q4_0 without the offset.
    Q4_1,
}

impl PanelFormat {
    /// Bytes of a stored block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
        }
    }

    /// Bytes that the quants of a block take in a panel.
    #[must_use]
    pub(super) const fn quant_bytes(self) -> usize {
        match self {
            Self::Q8_0 => 512,
            Self::Q4_0 | Self::Q4_1 => 256,
        }
    }
}

/// Where things are in a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PanelLayout {
    /// How elements are encoded.
    pub format: PanelFormat,
    /// Blocks of a row.
    pub blocks: usize,
}

impl PanelLayout {
    /// Bytes of a panel: a whole number of cache lines.
    #[must_use]
    pub const fn panel_bytes(self) -> usize {
        let minima = matches!(self.format, PanelFormat::Q4_1) as usize;
        (self.minima() + minima * self.blocks * 2 * PANEL_ROWS).next_multiple_of(64)
    }

    /// Offset of the scales.
    pub(super) const fn scales(self) -> usize {
        self.blocks * self.format.quant_bytes()
    }

    /// Offset of the minima, or of the end where there are none.
    pub(super) const fn minima(self) -> usize {
        self.scales() + self.blocks * 2 * PANEL_ROWS
    }
}

/// Packs up to sixteen stored rows into the zeroed `panel`.
///
/// # Panics
/// If a row or the panel has another size than the layout says, or there are more than sixteen rows.
pub fn pack_panel(layout: PanelLayout, rows: &[&[u8]], panel: &mut [u8]) {
    assert!(rows.len() <= PANEL_ROWS, "a panel has sixteen rows");
    assert_eq!(panel.len(), layout.panel_bytes(), "a panel of the layout's size");
    let (quants, rest) = panel.split_at_mut(layout.scales());
    let (scales, minima) = rest.split_at_mut(layout.minima() - layout.scales());
    for (r, row) in rows.iter().enumerate() {
        assert_eq!(row.len(), layout.blocks * layout.format.block_bytes(), "a row of the layout's size");
        for (b, block) in row.chunks_exact(layout.format.block_bytes()).enumerate() {
            let at = 2 * (b * PANEL_ROWS + r);
            scales[at..at + 2].copy_from_slice(&block[..2]);
            let quants = &mut quants[b * layout.format.quant_bytes()..][..layout.format.quant_bytes()];
            match layout.format {
                PanelFormat::Q8_0 => pack_bytes(&block[2..], r, quants),
                PanelFormat::Q4_0 => pack_nibbles(&block[2..], r, quants),
                PanelFormat::Q4_1 => {
                    minima[at..at + 2].copy_from_slice(&block[2..4]);
                    pack_nibbles(&block[4..], r, quants);
                }
            }
        }
    }
}

fn pack_bytes(values: &[u8], row: usize, quants: &mut [u8]) {
    for (group, four) in values.chunks_exact(4).enumerate() {
        for (j, &value) in four.iter().enumerate() {
            quants[group * 64 + row * 4 + j] = value ^ 0x80;
        }
    }
}

fn pack_nibbles(values: &[u8], row: usize, quants: &mut [u8]) {
    const LOW: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    let word = |at: usize| values[at..at + 8].iter().rev().fold(0_u64, |word, &byte| word << 8 | u64::from(byte));
    let (a, b) = (word(0), word(8));
    // Eight columns each, a byte a column: two groups of four.
    for (pair, columns) in [a & LOW, b & LOW, a >> 4 & LOW, b >> 4 & LOW].into_iter().enumerate() {
        let bytes = (columns as u32 | ((columns >> 32) as u32) << 4).to_le_bytes();
        quants[pair * 64 + row * 4..][..4].copy_from_slice(&bytes);
    }
}

/// Reads row `row` of a packed panel back as floats: `out` is `[columns]`.
///
/// # Panics
/// If the panel, the row or `out` does not fit the layout.
pub fn unpack_row(layout: PanelLayout, panel: &[u8], row: usize, out: &mut [f32]) {
    assert!(row < PANEL_ROWS && panel.len() == layout.panel_bytes() && out.len() == layout.blocks * BLOCK);
    let half = |at: usize| f16::from_le_bytes([panel[at], panel[at + 1]]).to_f32();
    for (b, out) in out.chunks_exact_mut(BLOCK).enumerate() {
        let quants = &panel[b * layout.format.quant_bytes()..][..layout.format.quant_bytes()];
        let scale = half(layout.scales() + 2 * (b * PANEL_ROWS + row));
        for (k, out) in out.iter_mut().enumerate() {
            let (group, j) = (k / 4, k % 4);
            let nibble = || {
                let byte = quants[group / 2 * 64 + row * 4 + j];
                f32::from(if group % 2 == 0 { byte & 15 } else { byte >> 4 })
            };
            *out = match layout.format {
                PanelFormat::Q8_0 => scale * f32::from((quants[group * 64 + row * 4 + j] ^ 0x80) as i8),
                PanelFormat::Q4_0 => scale * (nibble() - 8.0),
                PanelFormat::Q4_1 => scale * nibble() + half(layout.minima() + 2 * (b * PANEL_ROWS + row)),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{FORMATS, Random, dequantize, quantized_rows};

    #[test]
    fn rows_come_back() {
        let mut random = Random(1);
        for format in FORMATS {
            for (rows, blocks) in [(16, 1), (16, 3), (5, 2)] {
                let layout = PanelLayout { format, blocks };
                let stored = quantized_rows(&mut random, format, rows, blocks);
                let mut panel = vec![0; layout.panel_bytes()];
                pack_panel(layout, &stored.iter().map(Vec::as_slice).collect::<Vec<_>>(), &mut panel);
                for r in 0..PANEL_ROWS {
                    let mut out = vec![1.0; blocks * BLOCK];
                    unpack_row(layout, &panel, r, &mut out);
                    match stored.get(r) {
                        Some(row) => assert_eq!(out, dequantize(format, row), "{format:?} row {r}"),
                        None => assert!(out.iter().all(|&x| x == 0.0), "padding is zero"),
                    }
                }
            }
        }
    }
}
