//! Attention over one block of context, and how blocks are put together.
//!
//! A context is cut into blocks of [`CONTEXT_BLOCK`] positions, the first at position 0. For one row of queries a block
//! gives its largest score m, the sum l of `e^(score − m)` and the same sum weighted with the values; blocks are then
//! merged from the first to the last. Positions outside a row's span count nothing. A row's result therefore depends
//! on its query and its context alone: not on the other rows, nor on how the context was chunked or split over threads.
//!
//! Scores are [`dot_rows`] products; weighted sums add position after position, fused.
//! Reference: softmax in f64.

use super::{
    dot_rows::{self, Element, load_elements, with_element},
    exp::exp,
    lanes::{LANES, Lanes},
};

/// Positions of a block. Part of the numerics: another value rounds differently.
pub const CONTEXT_BLOCK: usize = 128;

/// Keys and values of one KV head for the positions of one block.
#[derive(Clone, Copy, Debug)]
pub struct BlockKv<'a> {
    /// All keys of the head: row s is slot s. `[slots, D]`.
    pub keys: &'a [u8],
    /// All values of the head, as `keys`.
    pub values: &'a [u8],
    /// Their element type.
    pub element: Element,
    /// Where the block's positions are, in order; at most [`CONTEXT_BLOCK`].
    pub slots: &'a [u32],
}

/// Results of a block for Q query rows, to be merged.
#[derive(Debug)]
pub struct Partial<'a> {
    /// `[Q]` largest score; negative infinity where the row's span is empty.
    pub maxima: &'a mut [f32],
    /// `[Q]` sums of exponentials.
    pub sums: &'a mut [f32],
    /// `[Q, D]` weighted values.
    pub values: &'a mut [f32],
}

/// Up to four query rows × all keys of the block.
#[inline(always)]
unsafe fn score_rows<S: Lanes, const E: u8, const R: usize, const T: usize>(
    s: S,
    kv: &BlockKv,
    queries: &[f32],
    dim: usize,
    scores: &mut [f32],
) {
    let row_bytes = dim * kv.element.size();
    let mut x = [queries.as_ptr(); T];
    for (t, pointer) in x.iter_mut().enumerate() {
        *pointer = queries[t * dim..][..dim].as_ptr();
    }
    for (group, slots) in kv.slots.chunks(R).enumerate() {
        let mut rows = [kv.keys.as_ptr(); R];
        for (r, row) in rows.iter_mut().enumerate() {
            // A short group repeats its last key and drops the surplus.
            let slot = slots[r.min(slots.len() - 1)] as usize;
            *row = kv.keys[slot * row_bytes..][..row_bytes].as_ptr();
        }
        // SAFETY: all rows were just sliced.
        let sums = unsafe { dot_rows::tile::<S, E, R, T>(s, &rows, &x, dim) };
        for t in 0..T {
            scores[t * CONTEXT_BLOCK + group * R..][..R].copy_from_slice(&sums[t * R..][..R]);
        }
    }
}

/// Scores of one row to exponentials, outside of the span to zero; gives their largest and sum.
#[inline(always)]
fn softmax<S: Lanes>(s: S, scores: &mut [f32; CONTEXT_BLOCK], from: usize, to: usize, scale: f32) -> (f32, f32) {
    if from >= to {
        scores.fill(0.0);
        return (f32::NEG_INFINITY, 0.0);
    }
    scores[..from].fill(f32::NEG_INFINITY);
    scores[to..].fill(f32::NEG_INFINITY);
    let (chunks, _) = scores.as_chunks_mut::<LANES>();
    // What lies past the span adds zeros, which changes no sum: stop there.
    let (chunks, past) = chunks.split_at_mut(to.div_ceil(LANES));
    past.as_flattened_mut().fill(0.0);
    let scale = s.splat(scale);
    let mut max = s.splat(f32::NEG_INFINITY);
    for chunk in chunks.iter_mut() {
        let scaled = s.mul(s.load(chunk), scale);
        s.store(scaled, chunk);
        max = s.max(scaled, max);
    }
    let largest = s.largest(max);
    let shift = s.splat(largest);
    let mut sum = s.splat(0.0);
    for chunk in chunks {
        let e = exp(s, s.sub(s.load(chunk), shift));
        s.store(e, chunk);
        sum = s.add(sum, e);
    }
    (largest, s.sum(sum))
}

/// `V × 16` elements from `column` of R rows: `out[r] = Σ p[r][i] · values[i]` over `from..to`.
#[inline(always)]
unsafe fn weigh<S: Lanes, const E: u8, const R: usize, const V: usize>(
    s: S,
    kv: &BlockKv,
    probabilities: &[f32],
    span: (usize, usize),
    dim: usize,
    column: usize,
    out: &mut [f32],
) {
    let size = kv.element.size();
    let mut acc = [[s.splat(0.0); V]; R];
    for i in span.0..span.1 {
        let row = &kv.values[kv.slots[i] as usize * dim * size..][..dim * size];
        let mut values = [s.splat(0.0); V];
        for v in 0..V {
            // SAFETY: `column + 16 V <= dim`, by the caller; the row was just sliced.
            values[v] = unsafe { load_elements::<S, E>(s, row.as_ptr().add((column + v * LANES) * size)) };
        }
        for r in 0..R {
            let p = s.splat(probabilities[r * CONTEXT_BLOCK + i]);
            for v in 0..V {
                acc[r][v] = s.fma(p, values[v], acc[r][v]);
            }
        }
    }
    for (r, acc) in acc.iter().enumerate() {
        let (out, _) = out[r * dim + column..][..V * LANES].as_chunks_mut::<LANES>();
        for (out, &acc) in out.iter_mut().zip(acc) {
            s.store(acc, out);
        }
    }
}

/// All columns of R rows.
#[inline(always)]
unsafe fn weigh_rows<S: Lanes, const E: u8, const R: usize>(
    s: S,
    kv: &BlockKv,
    probabilities: &[f32],
    span: (usize, usize),
    dim: usize,
    out: &mut [f32],
) {
    let mut column = 0;
    // SAFETY: `dim` is a multiple of sixteen, checked by `block`; columns stay within it.
    unsafe {
        while column + 4 * LANES <= dim {
            weigh::<S, E, R, 4>(s, kv, probabilities, span, dim, column, out);
            column += 4 * LANES;
        }
        while column < dim {
            weigh::<S, E, R, 1>(s, kv, probabilities, span, dim, column, out);
            column += LANES;
        }
    }
}

#[inline(always)]
fn typed<S: Lanes, const E: u8>(
    s: S,
    kv: &BlockKv,
    queries: &[f32],
    spans: &[(u32, u32)],
    scale: f32,
    scores: &mut [f32],
    out: &mut Partial,
) {
    let count = spans.len();
    let dim = queries.len() / count;
    let mut q = 0;
    while q < count {
        let rows = (count - q).min(4);
        let (queries, spans) = (&queries[q * dim..(q + rows) * dim], &spans[q..q + rows]);
        let scores = &mut scores[..rows * CONTEXT_BLOCK];
        // SAFETY: rows and columns lie within the slices, which are indexed with checks.
        unsafe {
            match rows {
                1 => score_rows::<S, E, 8, 1>(s, kv, queries, dim, scores),
                2 => score_rows::<S, E, 8, 2>(s, kv, queries, dim, scores),
                3 => score_rows::<S, E, 4, 3>(s, kv, queries, dim, scores),
                _ => score_rows::<S, E, 4, 4>(s, kv, queries, dim, scores),
            }
        }
        let mut union = (CONTEXT_BLOCK, 0);
        let (chunks, _) = scores.as_chunks_mut::<CONTEXT_BLOCK>();
        for (row, (scores, &(from, to))) in chunks.iter_mut().zip(spans).enumerate() {
            let (from, to) = (from as usize, to as usize);
            (out.maxima[q + row], out.sums[q + row]) = softmax(s, scores, from, to, scale);
            if from < to {
                union = (union.0.min(from), union.1.max(to));
            }
        }
        let values = &mut out.values[q * dim..(q + rows) * dim];
        // SAFETY: as above.
        unsafe {
            match rows {
                1 => weigh_rows::<S, E, 1>(s, kv, scores, union, dim, values),
                2 => weigh_rows::<S, E, 2>(s, kv, scores, union, dim, values),
                3 => weigh_rows::<S, E, 3>(s, kv, scores, union, dim, values),
                _ => weigh_rows::<S, E, 4>(s, kv, scores, union, dim, values),
            }
        }
        q += rows;
    }
}

#[inline(always)]
fn block<S: Lanes>(
    s: S,
    kv: BlockKv,
    queries: &[f32],
    spans: &[(u32, u32)],
    scale: f32,
    scores: &mut [f32],
    mut out: Partial,
) {
    let count = spans.len();
    assert!(count > 0 && queries.len().is_multiple_of(count), "a span for each query");
    assert!((queries.len() / count).is_multiple_of(LANES), "heads are padded to sixteen elements");
    assert!(!kv.slots.is_empty() && kv.slots.len() <= CONTEXT_BLOCK && scores.len() >= 4 * CONTEXT_BLOCK);
    assert!(spans.iter().all(|&(_, to)| to as usize <= kv.slots.len()), "spans within the block");
    assert!(out.maxima.len() == count && out.sums.len() == count && out.values.len() == queries.len());
    with_element!(kv.element, E => typed::<S, E>(s, &kv, queries, spans, scale, scores, &mut out));
}

/// `e^x` of one number, by the same steps as sixteen.
#[inline(always)]
fn exp_one<S: Lanes>(s: S, x: f32) -> f32 {
    let mut out = [0.0; LANES];
    s.store(exp(s, s.splat(x)), &mut out);
    out[0]
}

#[inline(always)]
fn merge<S: Lanes>(s: S, into: Partial, from: Partial) {
    let count = into.maxima.len();
    assert!(count > 0 && from.maxima.len() == count && into.sums.len() == count && from.sums.len() == count);
    assert_eq!(into.values.len(), from.values.len(), "rows of one length");
    let dim = into.values.len() / count;
    for q in 0..count {
        // A block outside of the row's span: as if it had not been.
        if from.maxima[q] == f32::NEG_INFINITY {
            continue;
        }
        let (to, add) = (&mut into.values[q * dim..][..dim], &from.values[q * dim..][..dim]);
        if into.maxima[q] == f32::NEG_INFINITY {
            into.maxima[q] = from.maxima[q];
            into.sums[q] = from.sums[q];
            to.copy_from_slice(add);
            continue;
        }
        let max = into.maxima[q].max(from.maxima[q]);
        let (old, new) = (exp_one(s, into.maxima[q] - max), exp_one(s, from.maxima[q] - max));
        into.maxima[q] = max;
        into.sums[q] = into.sums[q] * old + from.sums[q] * new;
        let (old, new) = (s.splat(old), s.splat(new));
        let (to, add) = (to.as_chunks_mut::<LANES>().0, add.as_chunks::<LANES>().0);
        for (to, add) in to.iter_mut().zip(add) {
            s.store(s.fma(s.load(to), old, s.mul(s.load(add), new)), to);
        }
    }
}

dispatched! {
    /// Attends Q query rows to one block: `queries` `[Q, D]`, D a multiple of 16 (padded with zeros), and for each the
    /// span `from..to` of the block's positions that it sees. `scores` is scratch of `4 · CONTEXT_BLOCK` elements.
    ///
    /// # Panics
    /// If lengths do not fit each other, or a slot lies outside the keys.
    pub fn attend_block(
        kv: BlockKv<'_>,
        queries: &[f32],
        spans: &[(u32, u32)],
        scale: f32,
        scores: &mut [f32],
        out: Partial<'_>,
    ) = block
}

dispatched! {
    /// Adds the results of a block to those of the blocks before it, row by row. Start with maxima of negative infinity.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn merge_partials(into: Partial<'_>, from: Partial<'_>) = merge
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, testing::Random};

    const DIM: usize = 80;

    struct Kv {
        element: Element,
        keys: Vec<u8>,
        values: Vec<u8>,
        slots: Vec<u32>,
    }

    impl Kv {
        fn new(random: &mut Random, element: Element, context: usize) -> Self {
            let plane = |random: &mut Random| {
                let mut bytes = vec![0; 2 * context * DIM * element.size()];
                dot_rows::narrow_row(Isa::portable(), &random.floats(2 * context * DIM), element, &mut bytes);
                bytes
            };
            let (keys, values) = (plane(random), plane(random));
            let mut slots: Vec<u32> = (0..2 * context as u32).collect();
            for i in 0..context {
                slots.swap(i, i + random.next() as usize % (2 * context - i));
            }
            slots.truncate(context);
            Self { element, keys, values, slots }
        }

        fn row(&self, plane: &[u8], position: usize) -> Vec<f32> {
            let (mut out, bytes) = (vec![0.0; DIM], DIM * self.element.size());
            let row = &plane[self.slots[position] as usize * bytes..][..bytes];
            dot_rows::widen_row(Isa::portable(), self.element, row, &mut out);
            out
        }

        /// Each row's attention to its span of the whole context, block by block.
        fn attend(&self, isa: Isa, queries: &[f32], spans: &[(usize, usize)]) -> Vec<f32> {
            let count = spans.len();
            let mut whole = (vec![f32::NEG_INFINITY; count], vec![0.0; count], vec![0.0; count * DIM]);
            let mut part = whole.clone();
            let mut scores = vec![0.0; 4 * CONTEXT_BLOCK];
            for (b, slots) in self.slots.chunks(CONTEXT_BLOCK).enumerate() {
                let within = |p: usize| p.saturating_sub(b * CONTEXT_BLOCK).min(slots.len()) as u32;
                let spans: Vec<_> = spans.iter().map(|&(from, to)| (within(from), within(to))).collect();
                let kv = BlockKv { keys: &self.keys, values: &self.values, element: self.element, slots };
                let out = Partial { maxima: &mut part.0, sums: &mut part.1, values: &mut part.2 };
                attend_block(isa, kv, queries, &spans, 0.3, &mut scores, out);
                let into = Partial { maxima: &mut whole.0, sums: &mut whole.1, values: &mut whole.2 };
                merge_partials(isa, into, Partial { maxima: &mut part.0, sums: &mut part.1, values: &mut part.2 });
            }
            whole.2.chunks(DIM).zip(&whole.1).flat_map(|(row, sum)| row.iter().map(move |x| x / sum)).collect()
        }

        fn reference(&self, query: &[f32], span: (usize, usize)) -> Vec<f64> {
            let scores: Vec<f64> = (span.0..span.1)
                .map(|i| {
                    let key = self.row(&self.keys, i);
                    0.3 * query.iter().zip(key).map(|(&q, k)| f64::from(q) * f64::from(k)).sum::<f64>()
                })
                .collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|s| (s - max).exp()).sum();
            let mut out = vec![0.0; DIM];
            for (i, score) in scores.iter().enumerate() {
                for (out, v) in out.iter_mut().zip(self.row(&self.values, span.0 + i)) {
                    *out += (score - max).exp() / total * f64::from(v);
                }
            }
            out
        }
    }

    #[test]
    fn equals_the_reference_whatever_rows_share_a_call() {
        let mut random = Random(81);
        for element in [Element::F32, Element::F16] {
            for context in [1, 17, 128, 300] {
                let kv = Kv::new(&mut random, element, context);
                let spans: Vec<(usize, usize)> = (0..7)
                    .map(|_| {
                        let to = 1 + random.next() as usize % context;
                        (if random.next().is_multiple_of(2) { 0 } else { random.next() as usize % to }, to)
                    })
                    .collect();
                let queries = random.floats(spans.len() * DIM);
                for isa in Isa::available() {
                    let out = kv.attend(isa, &queries, &spans);
                    for (q, &span) in spans.iter().enumerate() {
                        let (query, out) = (&queries[q * DIM..][..DIM], &out[q * DIM..][..DIM]);
                        for (x, expect) in out.iter().zip(kv.reference(query, span)) {
                            assert!((f64::from(*x) - expect).abs() < 2e-6, "{} {element:?} {span:?}", isa.name());
                        }
                        assert_eq!(kv.attend(isa, query, &[span]), out, "{} {element:?} {span:?}", isa.name());
                    }
                }
            }
        }
    }
}
