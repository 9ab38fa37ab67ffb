//! Quantized weights, repacked from ggml's rows into panels of sixteen rows, at about the same size.
//!
//! A panel keeps sixteen rows side by side, so that one vector holds the same columns of all of them and a product
//! needs no sum across lanes. Columns are worked on in blocks of 32, whatever the stored blocks are; with
//! `B = columns / 32`, a panel is
//!
//! | part | bytes | holds |
//! | --- | --- | --- |
//! | quants | `B × 64 × bits` | see below |
//! | scales | `B × 16 × 2`, Q4_K and Q5_K `B × 16` | f16, one a row; K formats: int8, Q6_K two a row |
//! | minima | `B × 16 × 2` for Q4_1 and Q5_1, `B × 16` for Q4_K and Q5_K | f16; K formats: int8 |
//! | block scales | `B / 8 × 16 × 2`, K formats only | f16: what eight blocks' scales are multiplied with |
//! | block minima | `B / 8 × 16 × 2`, Q4_K and Q5_K only | f16, negative: the same for minima |
//!
//! rounded up to whole cache lines. Within a block, columns come in eight groups of four:
//! - 8 bits: group g is 64 bytes, byte `4 r + j` is row r, column `4 g + j`, as value + 128;
//! - fewer bits: groups 2p and 2p + 1 share 64 bytes for their low nibbles, the even one's in the low half;
//! - 5 bits: 64 bytes follow, bit g of byte `4 r + j` is the fifth of row r, column `4 g + j`;
//! - 6 bits: twice 64 bytes follow, for groups 0 to 3 and 4 to 7, two bits each.
//!
//! Rows past the last are zero, scale included. One layout serves all instruction sets.

use half::f16;

/// Rows of a panel.
pub const PANEL_ROWS: usize = 16;
/// Columns of a block of a panel, and of activations that share a scale.
pub const BLOCK: usize = 32;
/// Blocks that share the scales of a stored K block.
pub(super) const BLOCKS_OF_K: usize = 8;

/// The quantized formats that have panels. Blocks are ggml's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(non_camel_case_types, reason = "ggml's names")]
pub enum PanelFormat {
    /// f16 scale, 32 × int8.
    Q8_0,
    /// f16 scale, 32 × 4 bits with offset −8: element i in the low nibble of byte i, element 16 + i in the high one.
    Q4_0,
    /// f16 scale, f16 minimum, 32 × 4 bits as in Q4_0 without the offset.
    Q4_1,
    /// f16 scale, 32 fifth bits, 32 × 4 bits as in Q4_0, offset −16.
    Q5_0,
    /// f16 scale, f16 minimum, 32 fifth bits, 32 × 4 bits as in Q4_0.
    Q5_1,
    /// 256 elements: f16 scale, f16 minimum, eight 6-bit scales and minima in 12 bytes, 256 × 4 bits: of each 64, the
    /// first 32 in the low nibbles.
    Q4_K,
    /// As Q4_K, with 32 bytes of fifth bits before the nibbles: bit s of byte i is that of element `32 s + i`.
    Q5_K,
    /// 256 elements: 256 × 4 bits, 256 × 2 bits, sixteen int8 scales of 16 elements each, f16 scale; offset −32.
    Q6_K,
}

impl PanelFormat {
    /// All of them; their places are what kernels are compiled for.
    pub(super) const ALL: [Self; 8] =
        [Self::Q8_0, Self::Q4_0, Self::Q4_1, Self::Q5_0, Self::Q5_1, Self::Q4_K, Self::Q5_K, Self::Q6_K];

    /// Elements of a stored block.
    #[must_use]
    pub const fn block_elements(self) -> usize {
        if self.is_k() { BLOCK * BLOCKS_OF_K } else { BLOCK }
    }

    /// Bytes of a stored block.
    #[must_use]
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::Q8_0 => 34,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
        }
    }

    /// Whether stored blocks are of 256 elements and their scales have scales.
    pub(super) const fn is_k(self) -> bool {
        matches!(self, Self::Q4_K | Self::Q5_K | Self::Q6_K)
    }

    /// Whether something is added to each block of products, rather than to each quant.
    pub(super) const fn has_minima(self) -> bool {
        matches!(self, Self::Q4_1 | Self::Q5_1 | Self::Q4_K | Self::Q5_K)
    }

    /// Bits of a quant.
    pub(super) const fn bits(self) -> usize {
        match self {
            Self::Q8_0 => 8,
            Self::Q4_0 | Self::Q4_1 | Self::Q4_K => 4,
            Self::Q5_0 | Self::Q5_1 | Self::Q5_K => 5,
            Self::Q6_K => 6,
        }
    }

    /// What is taken from a packed quant.
    pub(super) const fn offset(self) -> f32 {
        match self {
            Self::Q8_0 => 128.0,
            Self::Q4_0 => 8.0,
            Self::Q5_0 => 16.0,
            Self::Q6_K => 32.0,
            Self::Q4_1 | Self::Q5_1 | Self::Q4_K | Self::Q5_K => 0.0,
        }
    }

    /// Bytes that the quants of a block take in a panel.
    pub(super) const fn quant_bytes(self) -> usize {
        self.bits() * BLOCK * PANEL_ROWS / 8
    }

    /// Bytes that the scales of a block take in a panel.
    pub(super) const fn scale_bytes(self) -> usize {
        match self {
            Self::Q4_K | Self::Q5_K => PANEL_ROWS,
            _ => 2 * PANEL_ROWS,
        }
    }

    /// Bytes that the minima of a block take in a panel.
    const fn minimum_bytes(self) -> usize {
        if self.has_minima() { self.scale_bytes() } else { 0 }
    }
}

/// Where things are in a panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PanelLayout {
    /// How elements are encoded.
    pub format: PanelFormat,
    /// Blocks of 32 columns: for K formats a multiple of eight.
    pub blocks: usize,
}

impl PanelLayout {
    /// Bytes of a panel: a whole number of cache lines.
    #[must_use]
    pub const fn panel_bytes(self) -> usize {
        self.end().next_multiple_of(64)
    }

    /// Offset of the scales.
    pub(super) const fn scales(self) -> usize {
        self.blocks * self.format.quant_bytes()
    }

    /// Offset of the minima, or of what follows where there are none.
    pub(super) const fn minima(self) -> usize {
        self.scales() + self.blocks * self.format.scale_bytes()
    }

    /// Offset of the block scales, or of the end where there are none.
    pub(super) const fn block_scales(self) -> usize {
        self.minima() + self.blocks * self.format.minimum_bytes()
    }

    /// Offset of the block minima, or of the end where there are none.
    pub(super) const fn block_minima(self) -> usize {
        let k_blocks = if self.format.is_k() { self.blocks / BLOCKS_OF_K } else { 0 };
        self.block_scales() + k_blocks * 2 * PANEL_ROWS
    }

    const fn end(self) -> usize {
        let has_block_minima = self.format.is_k() && self.format.has_minima();
        self.block_minima() + if has_block_minima { self.blocks / BLOCKS_OF_K * 2 * PANEL_ROWS } else { 0 }
    }
}

/// Packs up to sixteen stored rows into the zeroed `panel`.
///
/// # Panics
/// If a row or the panel has another size than the layout says, or there are more than sixteen rows.
pub fn pack_panel(layout: PanelLayout, rows: &[&[u8]], panel: &mut [u8]) {
    let format = layout.format;
    let stored_blocks = layout.blocks * BLOCK / format.block_elements();
    assert!(rows.len() <= PANEL_ROWS, "a panel has sixteen rows");
    assert_eq!(panel.len(), layout.panel_bytes(), "a panel of the layout's size");
    assert!(!format.is_k() || layout.blocks.is_multiple_of(BLOCKS_OF_K), "whole stored blocks");
    for (r, row) in rows.iter().enumerate() {
        assert_eq!(row.len(), stored_blocks * format.block_bytes(), "a row of the layout's size");
        for (index, block) in row.chunks_exact(format.block_bytes()).enumerate() {
            let mut put_half =
                |at: usize, half: &[u8]| panel[at + 2 * (index * PANEL_ROWS + r)..][..2].copy_from_slice(half);
            match format {
                PanelFormat::Q8_0 | PanelFormat::Q4_0 | PanelFormat::Q5_0 => put_half(layout.scales(), &block[..2]),
                PanelFormat::Q4_1 | PanelFormat::Q5_1 => {
                    put_half(layout.scales(), &block[..2]);
                    put_half(layout.minima(), &block[2..4]);
                }
                PanelFormat::Q4_K | PanelFormat::Q5_K => {
                    put_half(layout.block_scales(), &block[..2]);
                    // Minima are taken away: from here on they are added.
                    put_half(layout.block_minima(), &[block[2], block[3] ^ 0x80]);
                    for sub in 0..BLOCKS_OF_K {
                        let (scale, minimum) = six_bits(&block[4..16], sub);
                        let at = (index * BLOCKS_OF_K + sub) * PANEL_ROWS + r;
                        panel[layout.scales() + at] = scale;
                        panel[layout.minima() + at] = minimum;
                    }
                }
                PanelFormat::Q6_K => {
                    put_half(layout.block_scales(), &block[208..210]);
                    for (half, &scale) in block[192..208].iter().enumerate() {
                        panel[layout.scales() + (index * 2 * BLOCKS_OF_K + half) * PANEL_ROWS + r] = scale;
                    }
                }
            }
            let blocks = format.block_elements() / BLOCK;
            for sub in 0..blocks {
                let at = (index * blocks + sub) * format.quant_bytes();
                let quants = stored_quants(format, block, sub);
                put_quants(format.bits(), &quants, r, &mut panel[at..at + format.quant_bytes()]);
            }
        }
    }
}

/// Scale and minimum `index` of the eight that 12 bytes hold: the first four whole in six bits, the others' high bits
/// above them.
fn six_bits(bytes: &[u8], index: usize) -> (u8, u8) {
    if index < 4 {
        return (bytes[index] & 63, bytes[index + 4] & 63);
    }
    let low = bytes[index + 4];
    (low & 15 | bytes[index - 4] >> 6 << 4, low >> 4 | bytes[index] >> 6 << 4)
}

/// Quants of 32 columns of a stored block as whole bytes, offset included.
fn stored_quants(format: PanelFormat, block: &[u8], sub: usize) -> [u8; BLOCK] {
    let mut quants = [0; BLOCK];
    let high_nibble = |i: usize| 4 * (i / 16);
    match format {
        PanelFormat::Q8_0 => (0..BLOCK).for_each(|i| quants[i] = block[2 + i] ^ 0x80),
        PanelFormat::Q4_0 => (0..BLOCK).for_each(|i| quants[i] = block[2 + i % 16] >> high_nibble(i) & 15),
        PanelFormat::Q4_1 => (0..BLOCK).for_each(|i| quants[i] = block[4 + i % 16] >> high_nibble(i) & 15),
        PanelFormat::Q5_0 | PanelFormat::Q5_1 => {
            let start = if format == PanelFormat::Q5_0 { 2 } else { 4 };
            let (fifth, nibbles) = (&block[start..start + 4], &block[start + 4..start + 20]);
            for i in 0..BLOCK {
                quants[i] = nibbles[i % 16] >> high_nibble(i) & 15 | (fifth[i / 8] >> (i % 8) & 1) << 4;
            }
        }
        PanelFormat::Q4_K => {
            let nibbles = &block[16 + sub / 2 * BLOCK..][..BLOCK];
            (0..BLOCK).for_each(|i| quants[i] = nibbles[i] >> (4 * (sub % 2)) & 15);
        }
        PanelFormat::Q5_K => {
            let (fifth, nibbles) = (&block[16..16 + BLOCK], &block[48 + sub / 2 * BLOCK..][..BLOCK]);
            for i in 0..BLOCK {
                quants[i] = nibbles[i] >> (4 * (sub % 2)) & 15 | (fifth[i] >> sub & 1) << 4;
            }
        }
        PanelFormat::Q6_K => {
            // Of each 128 elements: two times 32 low nibbles, the high ones 64 elements on; two bits of all four 32s.
            let (part, of_four) = (sub / 4, sub % 4);
            let nibbles = &block[part * 64 + of_four % 2 * BLOCK..][..BLOCK];
            let high = &block[128 + part * BLOCK..][..BLOCK];
            for i in 0..BLOCK {
                quants[i] = nibbles[i] >> (4 * (of_four / 2)) & 15 | (high[i] >> (2 * of_four) & 3) << 4;
            }
        }
    }
    quants
}

/// Puts one row's quants of a block where they belong.
fn put_quants(bits: usize, quants: &[u8; BLOCK], row: usize, out: &mut [u8]) {
    if bits == 8 {
        for (group, four) in quants.as_chunks::<4>().0.iter().enumerate() {
            out[group * 64 + row * 4..][..4].copy_from_slice(four);
        }
        return;
    }
    // Eight columns each, a byte a column: two groups of four.
    let mut high = [0_u32; 2];
    for (pair, columns) in quants.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*columns);
        let nibbles = word & 0x0f0f_0f0f_0f0f_0f0f;
        let bytes = nibbles as u32 | ((nibbles >> 32) as u32) << 4;
        out[pair * 64 + row * 4..][..4].copy_from_slice(&bytes.to_le_bytes());
        // No byte's bits reach the next one: the shifts are what is free above them.
        let rest = word >> 4 & 0x0f0f_0f0f_0f0f_0f0f;
        let (even, odd) = (rest as u32, (rest >> 32) as u32);
        match bits {
            5 => high[0] |= even << (2 * pair) | odd << (2 * pair + 1),
            6 => high[pair / 2] |= even << (4 * (pair % 2)) | odd << (4 * (pair % 2) + 2),
            _ => {}
        }
    }
    for (plane, high) in high[..bits - 4].iter().enumerate() {
        out[256 + plane * 64 + row * 4..][..4].copy_from_slice(&high.to_le_bytes());
    }
}

/// The packed quant of `row` and column `k` of a block.
fn packed_quant(bits: usize, quants: &[u8], row: usize, k: usize) -> u8 {
    let (group, at) = (k / 4, row * 4 + k % 4);
    let nibble = || quants[group / 2 * 64 + at] >> (4 * (group % 2)) & 15;
    match bits {
        8 => quants[group * 64 + at],
        5 => nibble() | (quants[256 + at] >> group & 1) << 4,
        6 => nibble() | (quants[256 + group / 4 * 64 + at] >> (2 * (group % 4)) & 3) << 4,
        _ => nibble(),
    }
}

/// Reads row `row` of a packed panel back as floats: `out` is `[columns]`.
///
/// # Panics
/// If the panel, the row or `out` does not fit the layout.
pub fn unpack_row(layout: PanelLayout, panel: &[u8], row: usize, out: &mut [f32]) {
    assert!(row < PANEL_ROWS && panel.len() == layout.panel_bytes() && out.len() == layout.blocks * BLOCK);
    let format = layout.format;
    let half = |start: usize, index: usize| {
        let at = start + 2 * (index * PANEL_ROWS + row);
        f16::from_le_bytes([panel[at], panel[at + 1]]).to_f32()
    };
    let byte = |start: usize, index: usize| f32::from(panel[start + index * PANEL_ROWS + row] as i8);
    for (b, out) in out.chunks_exact_mut(BLOCK).enumerate() {
        let quants = &panel[b * format.quant_bytes()..][..format.quant_bytes()];
        let k_block = b / BLOCKS_OF_K;
        let (scales, minimum) = match format {
            PanelFormat::Q8_0 | PanelFormat::Q4_0 | PanelFormat::Q5_0 => ([half(layout.scales(), b); 2], 0.0),
            PanelFormat::Q4_1 | PanelFormat::Q5_1 => ([half(layout.scales(), b); 2], half(layout.minima(), b)),
            PanelFormat::Q4_K | PanelFormat::Q5_K => {
                let minimum = byte(layout.minima(), b) * half(layout.block_minima(), k_block);
                ([byte(layout.scales(), b) * half(layout.block_scales(), k_block); 2], minimum)
            }
            PanelFormat::Q6_K => {
                let scale = half(layout.block_scales(), k_block);
                ([2 * b, 2 * b + 1].map(|index| byte(layout.scales(), index) * scale), 0.0)
            }
        };
        for (k, out) in out.iter_mut().enumerate() {
            let quant = f32::from(packed_quant(format.bits(), quants, row, k)) - format.offset();
            *out = scales[k / 16] * quant + minimum;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::testing::{Random, dequantize, quantized_rows};

    #[test]
    fn rows_come_back() {
        let mut random = Random(1);
        for format in PanelFormat::ALL {
            for (rows, stored_blocks) in [(16, 1), (16, 3), (5, 2)] {
                let blocks = stored_blocks * format.block_elements() / BLOCK;
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

    #[test]
    fn panels_are_hardly_larger_than_rows() {
        for format in PanelFormat::ALL {
            let layout = PanelLayout { format, blocks: 128 };
            let stored = 128 * BLOCK / format.block_elements() * format.block_bytes() * PANEL_ROWS;
            assert!((stored..=stored * 103 / 100).contains(&layout.panel_bytes()), "{format:?}");
        }
    }
}
