//! Packed weights × f32 activations: a block of weights is dequantized at a time, never a whole matrix.
//!
//! Column k of a row's weights goes to chain `k % 4` of its sum; chains are fused multiply-adds from the first column
//! on, and end as `(c0 + c1) + (c2 + c3)`. Reference: dequantized weights × activations in f64.

use std::ops::Range;

use super::{
    dot_panel::Output,
    lanes::{LANES, Lanes},
    pack::{BLOCK, PanelFormat, PanelLayout},
};

/// Columns of one block, each the weights of sixteen rows.
#[inline(always)]
fn dequantize<S: Lanes>(s: S, layout: PanelLayout, panel: &[u8], b: usize) -> [S::F; BLOCK] {
    let part = |start: usize| -> &[u8; 2 * LANES] { &panel[start..].as_chunks::<{ 2 * LANES }>().0[b] };
    let scale = s.load_f16(part(layout.scales()));
    let (quants, _) = panel[b * layout.format.quant_bytes()..][..layout.format.quant_bytes()].as_chunks::<64>();
    let mut columns = [s.splat(0.0); BLOCK];
    match layout.format {
        PanelFormat::Q8_0 => {
            for k in 0..BLOCK {
                let q = s.sub(s.to_float(s.byte_of_group(&quants[k / 4], k % 4)), s.splat(128.0));
                columns[k] = s.mul(q, scale);
            }
        }
        PanelFormat::Q4_0 => {
            for k in 0..BLOCK {
                let q = s.to_float(s.nibble_of_group(&quants[k / 8], k % 4, k / 4 % 2 == 1));
                columns[k] = s.mul(s.sub(q, s.splat(8.0)), scale);
            }
        }
        PanelFormat::Q4_1 => {
            let minimum = s.load_f16(part(layout.minima()));
            for k in 0..BLOCK {
                let q = s.to_float(s.nibble_of_group(&quants[k / 8], k % 4, k / 4 % 2 == 1));
                columns[k] = s.fma(q, scale, minimum);
            }
        }
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
        testing::{FORMATS, Random, dequantize, product, quantized_rows, relative_error},
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
        for format in FORMATS {
            for (rows, blocks, count) in [(16, 1, 1), (37, 5, 6), (32, 18, 9)] {
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
