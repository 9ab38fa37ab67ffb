//! The exponential function of sixteen lanes.

use super::lanes::{LANES, Lanes};

/// Below this the result is 0: the smallest `x` whose exponential is a normal number.
const LOWEST: f32 = -87.336_54;
/// Above this the result is that of this value, about 1.65e38.
const HIGHEST: f32 = 88.0;

/// `e^x` with a relative error below 2e-7; 0 below -87.34, capped above 88.
///
/// Cephes' `expf`: `x = n ln 2 + r`, `|r| ≤ ln 2 / 2`, a polynomial of degree 7 for `e^r`, and the exponent set to n.
#[inline(always)]
pub(crate) fn exp<S: Lanes>(s: S, x: S::F) -> S::F {
    let lowest = s.splat(LOWEST);
    // In this order both pass on what is not a number.
    let clamped = s.max(lowest, s.min(s.splat(HIGHEST), x));
    let n = s.round(s.mul(clamped, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, the first with so few bits that its product with n is exact.
    let r = s.fma(n, s.splat(-0.693_359_4), clamped);
    let r = s.fma(n, s.splat(2.121_944_4e-4), r);
    let mut p = s.splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = s.fma(p, r, s.splat(coefficient));
    }
    let p = s.add(s.fma(s.mul(r, r), p, r), s.splat(1.0));
    s.select_less(x, lowest, s.splat(0.0), s.mul(p, s.pow2(n)))
}

#[inline(always)]
fn exp_in_place<S: Lanes>(s: S, x: &mut [f32]) {
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    for chunk in chunks {
        s.store(exp(s, s.load(chunk)), chunk);
    }
    s.store_part(exp(s, s.load_part(rest, 0.0)), rest);
}

dispatched! {
    /// `x[i] = e^x[i]`; relative error below 2e-7.
    pub fn exp_slice(x: &mut [f32]) = exp_in_place
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    #[test]
    fn is_within_its_error() {
        for isa in Isa::available() {
            let inputs: Vec<f32> = (0..40_001).map(|i| -87.3 + i as f32 * (175.3 / 40_000.0)).collect();
            let mut outputs = inputs.clone();
            exp_slice(isa, &mut outputs);
            for (&x, &y) in inputs.iter().zip(&outputs) {
                let expect = f64::from(x).exp();
                assert!((f64::from(y) / expect - 1.0).abs() < 2e-7, "{}: exp({x}) = {y}", isa.name());
            }
        }
    }

    #[test]
    fn ends_are_as_documented() {
        for isa in Isa::available() {
            let mut x = [f32::NEG_INFINITY, -1e9, -88.0, 0.0, 1e9];
            exp_slice(isa, &mut x);
            assert_eq!(x[..4], [0.0, 0.0, 0.0, 1.0]);
            assert!(x[4].is_finite() && x[4] > 1e38);
        }
    }
}
