//! Packed weights × f32 activations: a block of weights is dequantized at a time, never a whole matrix.
//!
//! Column k of a row's weights goes to chain `k % 4` of its sum; chains are fused multiply-adds from the first column
//! on, and end as `(c0 + c1) + (c2 + c3)`. Reference: dequantized weights × activations in f64.

use std::ops::Range;

use super::{
    dot_panel::Output,
    lanes::{LANES, Lanes},
    pack::{BLOCK, BLOCKS_OF_K, PanelFormat, PanelLayout},
};

/// Sixteen rows' halves, the `index`th sixteen from `start` on.
#[inline(always)]
fn halves<S: Lanes>(s: S, panel: &[u8], start: usize, index: usize) -> S::F {
    s.load_f16(&panel[start..].as_chunks().0[index])
}

/// Sixteen rows' bytes, as above.
#[inline(always)]
fn bytes<S: Lanes>(s: S, panel: &[u8], start: usize, index: usize) -> S::F {
    s.load_i8(&panel[start..].as_chunks().0[index])
}

/// Column k of a block as it is packed.
#[inline(always)]
fn quant<S: Lanes>(s: S, bits: usize, quants: &[[u8; 4 * LANES]], k: usize) -> S::F {
    let (group, j) = (k / 4, k % 4);
    if bits == 8 {
        return s.to_float(s.byte_of_group(&quants[group], j));
    }
    let nibble = s.to_float(s.bits_of_group(&quants[group / 2], j, group % 2 * 4, 15));
    let high = match bits {
        5 => s.bits_of_group(&quants[4], j, group, 1),
        6 => s.bits_of_group(&quants[4 + group / 4], j, group % 4 * 2, 3),
        _ => return nibble,
    };
    s.fma(s.to_float(high), s.splat(16.0), nibble)
}

/// Columns of one block, each the weights of sixteen rows.
#[inline(always)]
fn dequantize<S: Lanes>(s: S, layout: PanelLayout, panel: &[u8], b: usize) -> [S::F; BLOCK] {
    let format = layout.format;
    let k_block = b / BLOCKS_OF_K;
    let none = s.splat(0.0);
    // Scales of the first and the last sixteen columns, and what is added.
    let (first, last, minimum) = match format {
        PanelFormat::Q8_0 | PanelFormat::Q4_0 | PanelFormat::Q5_0 => {
            let scale = halves(s, panel, layout.scales(), b);
            (scale, scale, none)
        }
        PanelFormat::Q4_1 | PanelFormat::Q5_1 => {
            let scale = halves(s, panel, layout.scales(), b);
            (scale, scale, halves(s, panel, layout.minima(), b))
        }
        PanelFormat::Q4_K | PanelFormat::Q5_K => {
            let block_scale = halves(s, panel, layout.block_scales(), k_block);
            let block_minimum = halves(s, panel, layout.block_minima(), k_block);
            let scale = s.mul(bytes(s, panel, layout.scales(), b), block_scale);
            (scale, scale, s.mul(bytes(s, panel, layout.minima(), b), block_minimum))
        }
        PanelFormat::Q6_K => {
            let scale = halves(s, panel, layout.block_scales(), k_block);
            let (first, last) = (bytes(s, panel, layout.scales(), 2 * b), bytes(s, panel, layout.scales(), 2 * b + 1));
            (s.mul(first, scale), s.mul(last, scale), none)
        }
    };
    let (quants, _) = panel[b * format.quant_bytes()..][..format.quant_bytes()].as_chunks::<{ 4 * LANES }>();
    let offset = s.splat(format.offset());
    let mut columns = [none; BLOCK];
    // One loop for each width, so that none asks for it at every column. Where there are minima the offset is 0, and
    // where there is an offset the minimum is.
    match format.bits() {
        4 => {
            for k in 0..BLOCK {
                columns[k] = s.sub(quant(s, 4, quants, k), offset);
            }
        }
        5 => {
            for k in 0..BLOCK {
                columns[k] = s.sub(quant(s, 5, quants, k), offset);
            }
        }
        6 => {
            for k in 0..BLOCK {
                columns[k] = s.sub(quant(s, 6, quants, k), offset);
            }
        }
        _ => {
            for k in 0..BLOCK {
                columns[k] = s.sub(quant(s, 8, quants, k), offset);
            }
        }
    }
    for k in 0..BLOCK / 2 {
        columns[k] = s.fma(columns[k], first, minimum);
        columns[k + 16] = s.fma(columns[k + 16], last, minimum);
    }
    columns
}

/// One panel and the T rows of activations from row `t`.
#[inline(always)]
unsafe fn tile<S: Lanes, const T: usize>(
    s: S,
    layout: PanelLayout,
    panel: &[u8],
    x: &[f32],
    t: usize,
    index: usize,
    out: &Output,
) {
    let columns = layout.blocks * BLOCK;
    let mut acc = [[s.splat(0.0); 4]; T];
    for b in 0..layout.blocks {
        let weights = dequantize(s, layout, panel, b);
        for (row, acc) in acc.iter_mut().enumerate() {
            let x = &x[(t + row) * columns + b * BLOCK..][..BLOCK];
            for k in 0..BLOCK {
                acc[k % 4] = s.fma(weights[k], s.splat(x[k]), acc[k % 4]);
            }
        }
    }
    for (row, acc) in acc.iter().enumerate() {
        let sum = s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3]));
        // SAFETY: the caller's contract.
        unsafe { out.store_panel(s, t + row, index, sum) };
    }
}

#[inline(always)]
unsafe fn panels<S: Lanes>(
    s: S,
    layout: PanelLayout,
    bytes: &[u8],
    range: Range<usize>,
    x: &[f32],
    rows: Range<usize>,
    out: Output,
) {
    for index in range {
        let panel = &bytes[index * layout.panel_bytes()..][..layout.panel_bytes()];
        let mut t = rows.start;
        // SAFETY: the caller's contract, passed on.
        unsafe {
            while rows.end - t >= 4 {
                tile::<S, 4>(s, layout, panel, x, t, index, &out);
                t += 4;
            }
            while t < rows.end {
                tile::<S, 1>(s, layout, panel, x, t, index, &out);
                t += 1;
            }
        }
    }
}

dispatched! {
    /// Multiplies the panels `range` of `bytes` with the rows `rows` of `x` `[T, K]` and stores the results in `out`.
    ///
    /// # Safety
    /// While this runs nobody else may touch the elements of `out` that belong to these panels and rows.
    ///
    /// # Panics
    /// If panels or rows lie outside the slices.
    pub unsafe fn exact_panels(
        layout: PanelLayout,
        bytes: &[u8],
        range: Range<usize>,
        x: &[f32],
        rows: Range<usize>,
        out: Output<'_>,
    ) = panels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{
        Isa, SharedMut,
        pack::{PANEL_ROWS, pack_panel},
        testing::{Random, dequantize, product, quantized_rows, relative_error},
    };

    fn run(isa: Isa, layout: PanelLayout, packed: &[u8], rows: usize, x: &[f32]) -> Vec<f32> {
        let count = x.len() / (layout.blocks * BLOCK);
        let mut out = vec![0.0; count * rows];
        let output = Output { elements: SharedMut::new(&mut out), stride: rows, column: 0, rows, bias: None };
        // SAFETY: one thread, one call.
        unsafe { exact_panels(isa, layout, packed, 0..rows.div_ceil(PANEL_ROWS), x, 0..count, output) };
        out
    }

    #[test]
    fn equals_the_reference_row_by_row() {
        let mut random = Random(21);
        for format in PanelFormat::ALL {
            for (rows, stored_blocks, count) in [(16, 1, 1), (37, 5, 6), (32, 18, 9)] {
                let blocks = stored_blocks * format.block_elements() / BLOCK;
                let layout = PanelLayout { format, blocks };
                let stored = quantized_rows(&mut random, format, rows, blocks);
                let mut packed = vec![0; rows.div_ceil(PANEL_ROWS) * layout.panel_bytes()];
                for (panel, rows) in packed.chunks_exact_mut(layout.panel_bytes()).zip(stored.chunks(PANEL_ROWS)) {
                    pack_panel(layout, &rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), panel);
                }
                let weights: Vec<_> = stored.iter().map(|row| dequantize(format, row)).collect();
                let x = random.floats(count * blocks * BLOCK);
                let expect = product(&weights, &x, blocks * BLOCK);
                for isa in Isa::available() {
                    let out = run(isa, layout, &packed, rows, &x);
                    let error = relative_error(&out, &expect);
                    assert!(error < 1e-6, "{} {format:?} {rows}×{blocks}: {error}", isa.name());
                    for (t, x) in x.chunks(blocks * BLOCK).enumerate() {
                        assert_eq!(run(isa, layout, &packed, rows, x), out[t * rows..(t + 1) * rows]);
                    }
                }
            }
        }
    }
}
