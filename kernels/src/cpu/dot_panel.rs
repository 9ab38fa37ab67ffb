//! Packed weights × int8 activations: integer products within a block, floats across blocks.
//!
//! For row r of a panel and a row of activations, block by block from the first:
//! `acc = (Σ q · a) · scale(a) · scale(w) + acc`, for Q6_K once for each sixteen columns, then for formats with minima
//! `acc = minimum(w) · sum(a) + acc`, fused. Integer sums are exact, and so are the products of a K format's two scales,
//! so that this order fixes every bit. Reference: dequantized weights × dequantized activations in f64.

use std::ops::Range;

use super::{
    SharedMut,
    lanes::{LANES, Lanes},
    pack::{BLOCK, BLOCKS_OF_K, PANEL_ROWS, PanelFormat, PanelLayout},
    quantize::Quantized,
};

/// Where a matrix product goes: rows of `stride` elements, weight row 0 at `column`.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// `[T, stride]`.
    pub elements: SharedMut<'a, f32>,
    /// Elements of a row.
    pub stride: usize,
    /// Column of weight row 0.
    pub column: usize,
    /// Rows of the weight: panels are padded, this is not.
    pub rows: usize,
    /// `[rows]` added at the end.
    pub bias: Option<&'a [f32]>,
}

impl Output<'_> {
    /// Adds the bias and stores the results of panel `panel` for activation row `t`.
    ///
    /// # Safety
    /// Nobody else may be writing or reading these elements.
    #[inline(always)]
    pub(super) unsafe fn store_panel<S: Lanes>(&self, s: S, t: usize, panel: usize, mut x: S::F) {
        let first = panel * PANEL_ROWS;
        let count = (self.rows - first).min(PANEL_ROWS);
        if let Some(bias) = self.bias {
            x = s.add(x, s.load_part(&bias[first..first + count], 0.0));
        }
        let at = t * self.stride + self.column + first;
        // SAFETY: the caller's contract.
        let out = unsafe { self.elements.range(at..at + count) };
        match out.as_chunks_mut::<LANES>() {
            ([whole], _) => s.store(x, whole),
            (_, part) => s.store_part(x, part),
        }
    }
}

/// `N` bytes, the `index`th of those from `start` on.
///
/// # Safety
/// They must lie within `bytes`.
#[inline(always)]
unsafe fn part<const N: usize>(bytes: &[u8], start: usize, index: usize) -> &[u8; N] {
    debug_assert!(start + (index + 1) * N <= bytes.len());
    // SAFETY: the caller's contract; bytes need no alignment.
    unsafe { &*bytes.as_ptr().add(start + index * N).cast() }
}

/// One panel and the T rows of activations from row `t`. `FORMAT` is the layout's place in `PanelFormat::ALL`.
#[inline(always)]
unsafe fn tile<S: Lanes, const FORMAT: usize, const T: usize>(
    s: S,
    layout: PanelLayout,
    panel: &[u8],
    a: &Quantized,
    t: usize,
    index: usize,
    out: &Output,
) {
    let format = PanelFormat::ALL[FORMAT];
    let layout = PanelLayout { format, blocks: layout.blocks };
    let blocks = layout.blocks;
    let (values, _) = a.values[t * blocks * BLOCK..(t + T) * blocks * BLOCK].as_chunks::<BLOCK>();
    let a_scales = &a.scales[t * blocks..(t + T) * blocks];
    let a_sums = &a.sums[t * blocks..(t + T) * blocks];
    let a_starts = &a.starts[t * blocks..(t + T) * blocks];
    assert!(values.len() == T * blocks && panel.len() == layout.panel_bytes());
    assert!(!format.is_k() || blocks.is_multiple_of(BLOCKS_OF_K));
    let (scales, minima) = (layout.scales(), layout.minima());

    let mut acc = [s.splat(0.0); T];
    let (mut block_scale, mut block_minimum) = (s.splat(0.0), s.splat(0.0));
    for b in 0..blocks {
        // SAFETY: every index below is less than `blocks` or `T * blocks`, for which the slices were just cut or
        // asserted to be long enough.
        unsafe {
            let block = match format.bits() {
                4 => s.unpack_nibbles(part(panel, 0, b)),
                5 => s.unpack_fives(part(panel, 0, b)),
                6 => s.unpack_sixes(part(panel, 0, b)),
                _ => s.unpack_bytes(part(panel, 0, b)),
            };
            if format.is_k() && b % BLOCKS_OF_K == 0 {
                block_scale = s.load_f16(part(panel, layout.block_scales(), b / BLOCKS_OF_K));
                if format.has_minima() {
                    block_minimum = s.load_f16(part(panel, layout.block_minima(), b / BLOCKS_OF_K));
                }
            }
            // Of the first and the last sixteen columns; of all but Q6_K they are the same.
            let (scale, last_scale, minimum) = match format {
                PanelFormat::Q6_K => {
                    let (first, last) =
                        (s.load_i8(part(panel, scales, 2 * b)), s.load_i8(part(panel, scales, 2 * b + 1)));
                    (s.mul(first, block_scale), s.mul(last, block_scale), block_scale)
                }
                PanelFormat::Q4_K | PanelFormat::Q5_K => {
                    let scale = s.mul(s.load_i8(part(panel, scales, b)), block_scale);
                    (scale, scale, s.mul(s.load_i8(part(panel, minima, b)), block_minimum))
                }
                PanelFormat::Q4_1 | PanelFormat::Q5_1 => {
                    let scale = s.load_f16(part(panel, scales, b));
                    (scale, scale, s.load_f16(part(panel, minima, b)))
                }
                PanelFormat::Q8_0 | PanelFormat::Q4_0 | PanelFormat::Q5_0 => {
                    let scale = s.load_f16(part(panel, scales, b));
                    (scale, scale, scale)
                }
            };
            for t in 0..T {
                let at = t * blocks + b;
                let a = values.get_unchecked(at);
                let a_scale = s.splat(*a_scales.get_unchecked(at));
                let start = if format.has_minima() { 0 } else { a_starts.get_unchecked(at)[0] };
                let sums = match format.bits() {
                    4 => s.dot_nibbles(&block, a, start),
                    5 => s.dot_fives(&block, a, start),
                    6 => {
                        let [first, last] = s.dot_sixes(&block, a, *a_starts.get_unchecked(at));
                        acc[t] = s.fma(s.mul(s.to_float(first), a_scale), scale, acc[t]);
                        last
                    }
                    _ => s.dot_bytes(&block, a, start),
                };
                acc[t] = s.fma(s.mul(s.to_float(sums), a_scale), last_scale, acc[t]);
                if format.has_minima() {
                    acc[t] = s.fma(minimum, s.splat(*a_sums.get_unchecked(at)), acc[t]);
                }
            }
        }
    }
    for (row, &acc) in acc.iter().enumerate() {
        // SAFETY: the caller's contract.
        unsafe { out.store_panel(s, t + row, index, acc) };
    }
}

#[inline(always)]
unsafe fn panels<S: Lanes, const FORMAT: usize>(
    s: S,
    layout: PanelLayout,
    bytes: &[u8],
    range: Range<usize>,
    a: &Quantized,
    rows: Range<usize>,
    out: &Output,
) {
    for index in range {
        let panel = &bytes[index * layout.panel_bytes()..][..layout.panel_bytes()];
        let mut t = rows.start;
        // SAFETY: the caller's contract, passed on.
        unsafe {
            if S::TILE_ROWS >= 8 {
                while rows.end - t >= 8 {
                    tile::<S, FORMAT, 8>(s, layout, panel, a, t, index, out);
                    t += 8;
                }
            }
            while rows.end - t >= 4 {
                tile::<S, FORMAT, 4>(s, layout, panel, a, t, index, out);
                t += 4;
            }
            match rows.end - t {
                3 => tile::<S, FORMAT, 3>(s, layout, panel, a, t, index, out),
                2 => tile::<S, FORMAT, 2>(s, layout, panel, a, t, index, out),
                1 => tile::<S, FORMAT, 1>(s, layout, panel, a, t, index, out),
                _ => {}
            }
        }
    }
}

#[inline(always)]
unsafe fn any_format<S: Lanes>(
    s: S,
    layout: PanelLayout,
    bytes: &[u8],
    range: Range<usize>,
    a: Quantized,
    rows: Range<usize>,
    out: Output,
) {
    // SAFETY: the caller's contract, passed on.
    unsafe {
        match layout.format {
            PanelFormat::Q8_0 => panels::<S, 0>(s, layout, bytes, range, &a, rows, &out),
            PanelFormat::Q4_0 => panels::<S, 1>(s, layout, bytes, range, &a, rows, &out),
            PanelFormat::Q4_1 => panels::<S, 2>(s, layout, bytes, range, &a, rows, &out),
            PanelFormat::Q5_0 => panels::<S, 3>(s, layout, bytes, range, &a, rows, &out),
            PanelFormat::Q5_1 => panels::<S, 4>(s, layout, bytes, range, &a, rows, &out),
            PanelFormat::Q4_K => panels::<S, 5>(s, layout, bytes, range, &a, rows, &out),
            PanelFormat::Q5_K => panels::<S, 6>(s, layout, bytes, range, &a, rows, &out),
            PanelFormat::Q6_K => panels::<S, 7>(s, layout, bytes, range, &a, rows, &out),
        }
    }
}

dispatched! {
    /// Multiplies the panels `range` of `bytes` with the rows `rows` of `a` and stores the results in `out`.
    ///
    /// # Safety
    /// While this runs nobody else may touch the elements of `out` that belong to these panels and rows.
    ///
    /// # Panics
    /// If panels or rows lie outside the slices.
    pub unsafe fn dot_panels(
        layout: PanelLayout,
        bytes: &[u8],
        range: Range<usize>,
        a: Quantized<'_>,
        rows: Range<usize>,
        out: Output<'_>,
    ) = any_format
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{
        AlignedVec, Isa,
        pack::pack_panel,
        quantize::{QuantizedMut, quantize_rows},
        testing::{Random, dequantize, product, quantized_rows, relative_error},
    };

    struct Case {
        layout: PanelLayout,
        packed: AlignedVec<u8>,
        weights: Vec<Vec<f32>>,
        bias: Vec<f32>,
    }

    impl Case {
        fn new(random: &mut Random, format: PanelFormat, rows: usize, blocks: usize) -> Self {
            let layout = PanelLayout { format, blocks };
            let stored = quantized_rows(random, format, rows, blocks);
            let mut packed = AlignedVec::zeroed(rows.div_ceil(PANEL_ROWS) * layout.panel_bytes());
            for (panel, rows) in packed.chunks_exact_mut(layout.panel_bytes()).zip(stored.chunks(PANEL_ROWS)) {
                pack_panel(layout, &rows.iter().map(Vec::as_slice).collect::<Vec<_>>(), panel);
            }
            let weights = stored.iter().map(|row| dequantize(format, row)).collect();
            Self { layout, packed, weights, bias: random.floats(rows) }
        }

        /// The product, and the activations as they were quantized.
        fn run(&self, isa: Isa, x: &[f32], bias: bool) -> (Vec<f32>, Vec<f32>) {
            let (rows, blocks) = (self.weights.len(), self.layout.blocks);
            let count = x.len() / (blocks * BLOCK);
            let (mut values, mut scales) = (vec![0; x.len()], vec![0.0; count * blocks]);
            let (mut sums, mut starts) = (vec![0.0; count * blocks], vec![[0; 2]; count * blocks]);
            let quantized =
                QuantizedMut { values: &mut values, scales: &mut scales, sums: &mut sums, starts: &mut starts };
            quantize_rows(isa, x, quantized);
            let mut out = vec![f32::NAN; count * (rows + 3)];
            let output = Output {
                elements: SharedMut::new(&mut out),
                stride: rows + 3,
                column: 2,
                rows,
                bias: bias.then_some(&self.bias),
            };
            let a = Quantized { values: &values, scales: &scales, sums: &sums, starts: &starts };
            let panels = 0..rows.div_ceil(PANEL_ROWS);
            // SAFETY: one thread, one call.
            unsafe { dot_panels(isa, self.layout, &self.packed, panels, a, 0..count, output) };
            let seen = values.iter().enumerate().map(|(i, &v)| f32::from(v) * scales[i / BLOCK]).collect();
            let out = out.chunks(rows + 3).flat_map(|row| row[2..rows + 2].to_vec()).collect();
            (out, seen)
        }
    }

    #[test]
    fn equals_the_reference() {
        let mut random = Random(11);
        for format in PanelFormat::ALL {
            for (rows, stored_blocks, count) in [(16, 1, 1), (48, 18, 3), (37, 5, 13), (5, 2, 27)] {
                let blocks = stored_blocks * format.block_elements() / BLOCK;
                let case = Case::new(&mut random, format, rows, blocks);
                let x = random.floats(count * blocks * BLOCK);
                for isa in Isa::available() {
                    let (out, seen) = case.run(isa, &x, true);
                    let mut expect = product(&case.weights, &seen, blocks * BLOCK);
                    for row in expect.chunks_mut(rows) {
                        row.iter_mut().zip(&case.bias).for_each(|(out, &bias)| *out += f64::from(bias));
                    }
                    let error = relative_error(&out, &expect);
                    assert!(error < 1e-5, "{} {format:?} {rows}×{blocks}: {error}", isa.name());
                    let exact = product(&case.weights, &x, blocks * BLOCK);
                    let error = relative_error(&case.run(isa, &x, false).0, &exact);
                    assert!(error < 0.01, "{} {format:?}: int8 activations cost {error}", isa.name());
                }
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_the_others() {
        let mut random = Random(12);
        for format in PanelFormat::ALL {
            let case = Case::new(&mut random, format, 50, 8);
            let x = random.floats(31 * 8 * BLOCK);
            for isa in Isa::available() {
                let (whole, _) = case.run(isa, &x, true);
                for count in [1, 2, 3, 5, 9, 30] {
                    for first in [0, 1, 31 - count] {
                        let (part, _) = case.run(isa, &x[first * 8 * BLOCK..(first + count) * 8 * BLOCK], true);
                        assert_eq!(part, whole[first * 50..(first + count) * 50], "{} {count}", isa.name());
                    }
                }
            }
        }
    }
}
