//! Activations to int8, a scale for each block of 32.

use super::{
    lanes::{LANES, Lanes},
    pack::BLOCK,
};

/// Rows of activations as the integer kernels read them. All slices are row-major, `B = K / 32` blocks a row.
#[derive(Clone, Copy, Debug)]
pub struct Quantized<'a> {
    /// `[T, K]` values in [-127, 127].
    pub values: &'a [i8],
    /// `[T, B]` what one step of a value stands for.
    pub scales: &'a [f32],
    /// `[T, B]` scale times the sum of the block's values: what a weight's minimum is multiplied with.
    pub sums: &'a [f32],
    /// `[T, B]` −8 times the sum of the block's values, and that of its last sixteen alone: where the integer sums of
    /// offset formats start.
    pub starts: &'a [[i32; 2]],
}

/// The output of [`quantize_rows`]; the same shapes as in [`Quantized`].
#[derive(Debug)]
pub struct QuantizedMut<'a> {
    /// See [`Quantized::values`].
    pub values: &'a mut [i8],
    /// See [`Quantized::scales`].
    pub scales: &'a mut [f32],
    /// See [`Quantized::sums`].
    pub sums: &'a mut [f32],
    /// See [`Quantized::starts`].
    pub starts: &'a mut [[i32; 2]],
}

#[inline(always)]
fn quantize<S: Lanes>(s: S, x: &[f32], out: QuantizedMut) {
    let (blocks, rest) = x.as_chunks::<BLOCK>();
    let (values, _) = out.values.as_chunks_mut::<BLOCK>();
    assert!(rest.is_empty() && values.len() == blocks.len(), "whole blocks of 32");
    assert!(out.scales.len() == blocks.len() && out.sums.len() == blocks.len() && out.starts.len() == blocks.len());
    for (b, (block, values)) in blocks.iter().zip(values).enumerate() {
        let (x, _) = block.as_chunks::<LANES>();
        let (values, _) = values.as_chunks_mut::<LANES>();
        let (low, high) = (s.load(&x[0]), s.load(&x[1]));
        let largest = s.largest(s.max(s.abs(low), s.abs(high)));
        let inverse = s.splat(if largest > 0.0 { 127.0 / largest } else { 0.0 });
        let (low, high) = (s.round(s.mul(low, inverse)), s.round(s.mul(high, inverse)));
        s.store_i8(low, &mut values[0]);
        s.store_i8(high, &mut values[1]);
        // At most 16 · 127: exact in a float.
        let sums = [s.sum(low), s.sum(high)];
        let scale = largest / 127.0;
        out.scales[b] = scale;
        out.sums[b] = scale * (sums[0] + sums[1]);
        out.starts[b] = [-8 * (sums[0] + sums[1]) as i32, -8 * sums[1] as i32];
    }
}

dispatched! {
    /// Quantizes `[T, K]` activations, K a multiple of 32: `scale = max |x| / 127` and `value = round(x / scale)` to
    /// nearest even, block by block.
    ///
    /// # Panics
    /// If the slices' lengths do not fit each other.
    pub fn quantize_rows(x: &[f32], out: QuantizedMut<'_>) = quantize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, testing::Random};

    #[test]
    fn values_are_within_half_a_step() {
        let mut x = Random(3).floats(8 * BLOCK);
        x[32..64].fill(0.0);
        for isa in Isa::available() {
            let (mut values, mut scales) = (vec![0; x.len()], vec![0.0; 8]);
            let (mut sums, mut starts) = (vec![0.0; 8], vec![[0; 2]; 8]);
            let out = QuantizedMut { values: &mut values, scales: &mut scales, sums: &mut sums, starts: &mut starts };
            quantize_rows(isa, &x, out);
            for (i, (&x, &value)) in x.iter().zip(&values).enumerate() {
                let scale = scales[i / BLOCK];
                assert!((x - f32::from(value) * scale).abs() <= 0.5001 * scale, "{}: element {i}", isa.name());
            }
            for (b, values) in values.chunks(BLOCK).enumerate() {
                let sum: i32 = values.iter().map(|&v| i32::from(v)).sum();
                let last: i32 = values[16..].iter().map(|&v| i32::from(v)).sum();
                assert_eq!(starts[b], [-8 * sum, -8 * last]);
                assert_eq!(sums[b], scales[b] * sum as f32);
            }
        }
    }
}
