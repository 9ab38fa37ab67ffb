//! Float weights as files store them, row by row × f32 activations; also the scores of attention.
//!
//! One product of two rows: element k goes to lane `k % 16`, fused multiply-adds from the first on, a last part of less
//! than sixteen filled with zeros; lanes are summed by halving. Tiles of at most sixteen products at once share loads,
//! not sums. Reference: f64.

use std::ops::Range;

use super::{
    SharedMut,
    lanes::{LANES, Lanes},
};

/// How a row's elements are stored, little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// Brain float.
    BF16,
}

impl Element {
    /// Bytes of one element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

pub(super) const F32: u8 = 0;
pub(super) const F16: u8 = 1;
pub(super) const BF16: u8 = 2;

/// Runs `$body` with `$name` a constant for the element type.
macro_rules! with_element {
    ($element:expr, $name:ident => $body:expr) => {
        match $element {
            Element::F32 => {
                const $name: u8 = $crate::cpu::dot_rows::F32;
                $body
            }
            Element::F16 => {
                const $name: u8 = $crate::cpu::dot_rows::F16;
                $body
            }
            Element::BF16 => {
                const $name: u8 = $crate::cpu::dot_rows::BF16;
                $body
            }
        }
    };
}
pub(super) use with_element;

const fn size_of_element(element: u8) -> usize {
    if element == F32 { 4 } else { 2 }
}

/// Sixteen elements from `p` as floats.
///
/// # Safety
/// They must be readable.
#[inline(always)]
pub(super) unsafe fn load_elements<S: Lanes, const E: u8>(s: S, p: *const u8) -> S::F {
    // SAFETY: arrays of bytes need no alignment; the caller vouches for the memory.
    unsafe {
        match E {
            F32 => s.load(&p.cast::<[f32; LANES]>().read_unaligned()),
            F16 => s.load_f16(&*p.cast()),
            _ => s.load_bf16(&*p.cast()),
        }
    }
}

/// The `count` (less than sixteen) elements from `p`, zeros after them.
///
/// # Safety
/// They must be readable.
#[inline(always)]
unsafe fn load_rest<S: Lanes, const E: u8>(s: S, p: *const u8, count: usize) -> S::F {
    let mut bytes = [0_u8; 4 * LANES];
    // SAFETY: the caller vouches for the source; `count` elements are less than the buffer.
    unsafe {
        std::ptr::copy_nonoverlapping(p, bytes.as_mut_ptr(), count * size_of_element(E));
        load_elements::<S, E>(s, bytes.as_ptr())
    }
}

/// The products of R weight rows and T activation rows of `columns` elements, at most sixteen: number `t · R + r`.
///
/// # Safety
/// Each pointer must be to a readable row of `columns` elements.
#[inline(always)]
pub(super) unsafe fn tile<S: Lanes, const E: u8, const R: usize, const T: usize>(
    s: S,
    w: &[*const u8; R],
    x: &[*const f32; T],
    columns: usize,
) -> [f32; LANES] {
    const { assert!(R * T <= LANES) };
    let mut acc = [s.splat(0.0); LANES];
    let mut k = 0;
    // SAFETY: `k + 16 <= columns` in the loop, and the rest is `columns - k` elements.
    unsafe {
        while k + LANES <= columns {
            let mut weights = [s.splat(0.0); R];
            for r in 0..R {
                weights[r] = load_elements::<S, E>(s, w[r].add(k * size_of_element(E)));
            }
            for t in 0..T {
                let x = s.load(&*x[t].add(k).cast());
                for r in 0..R {
                    acc[t * R + r] = s.fma(weights[r], x, acc[t * R + r]);
                }
            }
            k += LANES;
        }
        if k < columns {
            for t in 0..T {
                let x = load_rest::<S, F32>(s, x[t].add(k).cast(), columns - k);
                for r in 0..R {
                    let weights = load_rest::<S, E>(s, w[r].add(k * size_of_element(E)), columns - k);
                    acc[t * R + r] = s.fma(weights, x, acc[t * R + r]);
                }
            }
        }
    }
    let mut out = [0.0; LANES];
    s.store(s.sums(&acc), &mut out);
    out
}

/// Weight rows that a tile for T rows of activations takes.
const fn tile_weights(t: usize) -> usize {
    if t <= 2 { 8 } else { 4 }
}

/// The products of up to `R` weight rows and T activation rows, stored in `out`.
#[inline(always)]
unsafe fn store_tile<S: Lanes, const E: u8, const R: usize, const T: usize>(
    s: S,
    weights: &[&[u8]],
    x: &[f32],
    columns: usize,
    t: usize,
    out: &RowOutput,
    column: usize,
) {
    // A short tile repeats its last row and drops the surplus.
    let mut w = [weights[weights.len() - 1].as_ptr(); R];
    for (pointer, row) in w.iter_mut().zip(weights) {
        *pointer = row.as_ptr();
    }
    let mut rows = [x.as_ptr(); T];
    for (row, pointer) in rows.iter_mut().enumerate() {
        *pointer = x[(t + row) * columns..][..columns].as_ptr();
    }
    // SAFETY: rows of `columns` elements, checked by `block` and by the slicing above.
    let sums = unsafe { tile::<S, E, R, T>(s, &w, &rows, columns) };
    for row in 0..T {
        let at = (t + row) * out.stride + column;
        // SAFETY: the caller's contract.
        let place = unsafe { out.elements.range(at..at + weights.len()) };
        for (r, place) in place.iter_mut().enumerate() {
            *place = sums[row * R + r];
        }
        if let Some(bias) = out.bias {
            for (r, place) in place.iter_mut().enumerate() {
                *place += bias[column - out.column + r];
            }
        }
    }
}

/// Where the products go: weight row i of the matrix at `column + i` of a row.
#[derive(Clone, Copy, Debug)]
pub struct RowOutput<'a> {
    /// `[T, stride]`.
    pub elements: SharedMut<'a, f32>,
    /// Elements of a row.
    pub stride: usize,
    /// Column of weight row 0.
    pub column: usize,
    /// `[rows]` added at the end.
    pub bias: Option<&'a [f32]>,
}

#[inline(always)]
unsafe fn typed<S: Lanes, const E: u8>(
    s: S,
    weights: &[&[u8]],
    first: usize,
    x: &[f32],
    columns: usize,
    rows: Range<usize>,
    out: &RowOutput,
) {
    let mut t = rows.start;
    while t < rows.end {
        let count = (rows.end - t).min(4);
        let mut r = 0;
        while r < weights.len() {
            let part = &weights[r..(r + tile_weights(count)).min(weights.len())];
            let column = out.column + first + r;
            // SAFETY: the caller's contract, passed on.
            unsafe {
                match count {
                    1 => store_tile::<S, E, { tile_weights(1) }, 1>(s, part, x, columns, t, out, column),
                    2 => store_tile::<S, E, { tile_weights(2) }, 2>(s, part, x, columns, t, out, column),
                    3 => store_tile::<S, E, { tile_weights(3) }, 3>(s, part, x, columns, t, out, column),
                    _ => store_tile::<S, E, { tile_weights(4) }, 4>(s, part, x, columns, t, out, column),
                }
            }
            r += part.len();
        }
        t += count;
    }
}

#[inline(always)]
unsafe fn any_element<S: Lanes>(
    s: S,
    element: Element,
    weights: &[&[u8]],
    first: usize,
    x: &[f32],
    columns: usize,
    rows: Range<usize>,
    out: RowOutput,
) {
    assert!(weights.iter().all(|row| row.len() == columns * element.size()), "weight rows of the given columns");
    // SAFETY: the caller's contract, passed on.
    with_element!(element, E => unsafe { typed::<S, E>(s, weights, first, x, columns, rows, &out) });
}

dispatched! {
    /// Multiplies `weights`, which are rows `first..` of the matrix, of `columns` elements each, with the rows `rows`
    /// of `x` `[T, columns]`.
    ///
    /// The caller blocks: a few dozen weight rows and activation rows at a time stay in the inner caches.
    ///
    /// # Safety
    /// While this runs nobody else may touch the elements of `out` that belong to these weights and rows.
    ///
    /// # Panics
    /// If a row has another length, or rows lie outside the slices.
    pub unsafe fn dot_rows(
        element: Element,
        weights: &[&[u8]],
        first: usize,
        x: &[f32],
        columns: usize,
        rows: Range<usize>,
        out: RowOutput<'_>,
    ) = any_element
}

#[inline(always)]
fn widen_typed<S: Lanes, const E: u8>(s: S, row: &[u8], out: &mut [f32]) {
    let count = out.len();
    let (chunks, rest) = out.as_chunks_mut::<LANES>();
    for (i, chunk) in chunks.iter_mut().enumerate() {
        // SAFETY: the row is as long as `out`, checked by `widen`.
        s.store(unsafe { load_elements::<S, E>(s, row.as_ptr().add(i * LANES * size_of_element(E))) }, chunk);
    }
    let done = count - rest.len();
    if !rest.is_empty() {
        // SAFETY: as above.
        let last = unsafe { load_rest::<S, E>(s, row.as_ptr().add(done * size_of_element(E)), rest.len()) };
        s.store_part(last, rest);
    }
}

#[inline(always)]
fn widen<S: Lanes>(s: S, element: Element, row: &[u8], out: &mut [f32]) {
    assert_eq!(row.len(), out.len() * element.size(), "as many elements as the output");
    with_element!(element, E => widen_typed::<S, E>(s, row, out));
}

#[inline(always)]
fn narrow<S: Lanes>(s: S, x: &[f32], element: Element, out: &mut [u8]) {
    assert_eq!(out.len(), x.len() * element.size(), "as many elements as the input");
    match element {
        Element::F32 => {
            for (out, x) in out.chunks_exact_mut(4).zip(x) {
                out.copy_from_slice(&x.to_le_bytes());
            }
        }
        Element::F16 => {
            let (whole, rest) = x.as_chunks::<LANES>();
            let (out, out_rest) = out.as_chunks_mut::<{ 2 * LANES }>();
            for (out, x) in out.iter_mut().zip(whole) {
                s.store_f16(s.load(x), out);
            }
            let mut last = [0; 2 * LANES];
            s.store_f16(s.load_part(rest, 0.0), &mut last);
            out_rest.copy_from_slice(&last[..out_rest.len()]);
        }
        Element::BF16 => {
            for (out, x) in out.chunks_exact_mut(2).zip(x) {
                out.copy_from_slice(&half::bf16::from_f32(*x).to_le_bytes());
            }
        }
    }
}

dispatched! {
    /// Reads a stored row as floats.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn widen_row(element: Element, row: &[u8], out: &mut [f32]) = widen
}

dispatched! {
    /// Stores floats as elements, rounded to nearest even.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn narrow_row(x: &[f32], element: Element, out: &mut [u8]) = narrow
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{
        Isa,
        testing::{Random, product, relative_error},
    };

    fn run(isa: Isa, element: Element, weights: &[&[u8]], x: &[f32], columns: usize, bias: Option<&[f32]>) -> Vec<f32> {
        let count = x.len() / columns;
        let mut out = vec![0.0; count * weights.len()];
        let output = RowOutput { elements: SharedMut::new(&mut out), stride: weights.len(), column: 0, bias };
        // SAFETY: one thread, one call.
        unsafe { dot_rows(isa, element, weights, 0, x, columns, 0..count, output) };
        out
    }

    #[test]
    fn equals_the_reference_row_by_row() {
        let mut random = Random(31);
        for element in [Element::F32, Element::F16, Element::BF16] {
            for (rows, columns, count) in [(4, 64, 4), (13, 70, 7), (1, 5, 1), (33, 576, 9)] {
                let stored: Vec<Vec<u8>> = (0..rows)
                    .map(|_| {
                        let mut row = vec![0; columns * element.size()];
                        narrow_row(Isa::portable(), &random.floats(columns), element, &mut row);
                        row
                    })
                    .collect();
                let stored: Vec<&[u8]> = stored.iter().map(Vec::as_slice).collect();
                let x = random.floats(count * columns);
                let bias = random.floats(rows);
                for isa in Isa::available() {
                    let weights: Vec<Vec<f32>> = stored
                        .iter()
                        .map(|row| {
                            let mut out = vec![0.0; columns];
                            widen_row(isa, element, row, &mut out);
                            out
                        })
                        .collect();
                    let mut expect = product(&weights, &x, columns);
                    for row in expect.chunks_mut(rows) {
                        row.iter_mut().zip(&bias).for_each(|(out, &bias)| *out += f64::from(bias));
                    }
                    let out = run(isa, element, &stored, &x, columns, Some(&bias));
                    let error = relative_error(&out, &expect);
                    assert!(error < 1e-6, "{} {element:?} {rows}×{columns}: {error}", isa.name());
                    for (t, x) in x.chunks(columns).enumerate() {
                        let alone = run(isa, element, &stored, x, columns, Some(&bias));
                        assert_eq!(alone, out[t * rows..(t + 1) * rows], "{} row {t}", isa.name());
                    }
                }
            }
        }
    }

    #[test]
    fn elements_come_back() {
        let x = [0.0, -1.5, 65504.0, 1.0 / 3.0, 6e-8, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0];
        for isa in Isa::available() {
            for (element, error) in [(Element::F32, 0.0), (Element::F16, 1e-3), (Element::BF16, 1e-2)] {
                let (mut bytes, mut back) = (vec![0; x.len() * element.size()], vec![0.0; x.len()]);
                narrow_row(isa, &x, element, &mut bytes);
                widen_row(isa, element, &bytes, &mut back);
                for (&x, &y) in x.iter().zip(&back) {
                    assert!((x - y).abs() <= error * x.abs() + 3e-8 * error.signum(), "{x} became {y}");
                }
            }
        }
    }
}
