//! Reductions over a row of logits, in a fixed order.

use super::{
    exp::exp,
    lanes::{LANES, Lanes},
};

/// Elements summed in f32 lanes before they join an f64 sum: keeps the error of a large vocabulary's sum near 1e-7, and
/// lets a draw skip whole runs.
pub const RUN: usize = 1024;

#[inline(always)]
fn largest<S: Lanes>(s: S, x: &[f32]) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut max = s.splat(f32::NEG_INFINITY);
    for x in whole {
        max = s.max(s.load(x), max);
    }
    s.largest(s.max(s.load_part(rest, f32::NEG_INFINITY), max))
}

#[inline(always)]
fn sum_exp<S: Lanes>(s: S, x: &[f32], scale: f32, max: f32, out: &mut [f32], runs: &mut [f64]) -> f64 {
    assert!(x.len() == out.len() && runs.len() == x.len().div_ceil(RUN), "outputs that fit the inputs");
    let (scale, shift, nothing) = (s.splat(scale), s.splat(max), s.splat(f32::NEG_INFINITY));
    // The larger one is `nothing` where the other is not a number.
    let weigh = |x| exp(s, s.max(s.mul(s.sub(x, shift), scale), nothing));
    let mut total = 0.0;
    for ((x, out), run) in x.chunks(RUN).zip(out.chunks_mut(RUN)).zip(runs) {
        let ((whole, rest), (out, out_rest)) = (x.as_chunks::<LANES>(), out.as_chunks_mut::<LANES>());
        let mut sum = s.splat(0.0);
        for (x, out) in whole.iter().zip(out) {
            let e = weigh(s.load(x));
            s.store(e, out);
            sum = s.add(sum, e);
        }
        let e = weigh(s.load_part(rest, f32::NEG_INFINITY));
        s.store_part(e, out_rest);
        sum = s.add(sum, e);
        *run = f64::from(s.sum(sum));
        total += *run;
    }
    total
}

#[inline(always)]
fn find<S: Lanes>(s: S, x: &[f32], from: usize, threshold: f32) -> Option<usize> {
    let limit = s.splat(threshold);
    let (whole, rest) = x.get(from..)?.as_chunks::<LANES>();
    for (i, x) in whole.iter().enumerate() {
        let bits = s.at_least(s.load(x), limit);
        if bits != 0 {
            return Some(from + i * LANES + bits.trailing_zeros() as usize);
        }
    }
    let start = x.len() - rest.len();
    rest.iter().position(|&x| x >= threshold).map(|i| start + i)
}

dispatched! {
    /// The largest element, leaving out what is not a number; negative infinity if there is none.
    pub fn max(x: &[f32]) -> f32 = largest
}

dispatched! {
    /// `out[i] = e^((x[i] − max) · scale)`, 0 where `x[i]` is not a number; `runs` are the sums of each [`RUN`] of them, taken in f32 over lanes; gives
    /// the sum of those, in f64 and in order.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn exp_sum(x: &[f32], scale: f32, max: f32, out: &mut [f32], runs: &mut [f64]) -> f64 = sum_exp
}

dispatched! {
    /// The first index from `from` on whose element is at least `threshold`.
    pub fn find_at_least(x: &[f32], from: usize, threshold: f32) -> Option<usize> = find
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, testing::Random};

    #[test]
    fn what_is_not_a_number_weighs_nothing() {
        for isa in Isa::available() {
            let x: Vec<f32> = (0..37).map(|i| if i % 5 == 0 { f32::NAN } else { 1.0 }).collect();
            let (mut out, mut runs) = ([9.0; 37], [9.0]);
            assert_eq!(exp_sum(isa, &x, 0.7, max(isa, &x), &mut out, &mut runs), 29.0, "{}", isa.name());
            assert!((0..37).all(|i| out[i] == if i % 5 == 0 { 0.0 } else { 1.0 }), "{out:?}");
        }
    }

    #[test]
    fn sums_are_close_to_f64() {
        for count in [1, 15, 1024, 5003, 49_152] {
            let x: Vec<f32> = Random(71).floats(count).iter().map(|x| x * 12.0).collect();
            for isa in Isa::available() {
                let largest = max(isa, &x);
                assert_eq!(largest, x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
                let mut out = vec![0.0; count];
                let mut runs = vec![0.0; count.div_ceil(RUN)];
                let sum = exp_sum(isa, &x, 0.7, largest, &mut out, &mut runs);
                assert_eq!(runs.iter().sum::<f64>(), sum);
                let expect: f64 = x.iter().map(|&x| ((f64::from(x) - f64::from(largest)) * 0.7).exp()).sum();
                assert!((sum / expect - 1.0).abs() < 1e-6, "{} {count}: {sum} {expect}", isa.name());
            }
        }
    }

    #[test]
    fn find_goes_through_all_matches() {
        let x: Vec<f32> = (0..100).map(|i| if i % 7 == 3 { 1.0 } else { 0.0 }).collect();
        for isa in Isa::available() {
            let mut found = Vec::new();
            while let Some(i) = find_at_least(isa, &x, found.last().map_or(0, |&i: &usize| i + 1), 0.5) {
                found.push(i);
            }
            assert_eq!(found, (3..100).step_by(7).collect::<Vec<_>>(), "{}", isa.name());
        }
    }
}
