//! Root-mean-square normalisation of rows.
//!
//! The sum of squares: element k goes to lane `k % 16`, lanes are summed by halving. `out = (x · r) · weight` with
//! `r = 1 / sqrt(mean + epsilon)`, as Hugging Face rounds it.

use super::lanes::{LANES, Lanes};

/// `1 / rms(x)`.
#[inline(always)]
fn inverse_rms<S: Lanes>(s: S, x: &[f32], epsilon: f32) -> f32 {
    let (whole, rest) = x.as_chunks::<LANES>();
    let mut squares = s.splat(0.0);
    for x in whole {
        let x = s.load(x);
        squares = s.fma(x, x, squares);
    }
    let last = s.load_part(rest, 0.0);
    squares = s.fma(last, last, squares);
    let mean = s.sum(squares) / x.len() as f32;
    1.0 / (mean + epsilon).sqrt()
}

#[inline(always)]
fn norm_row<S: Lanes>(s: S, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let inverse = s.splat(inverse_rms(s, x, epsilon));
    let (whole, rest) = x.as_chunks::<LANES>();
    let last = s.load_part(rest, 0.0);
    let (weights, weight_rest) = weight.as_chunks::<LANES>();
    let (out, out_rest) = out.as_chunks_mut::<LANES>();
    for ((x, weight), out) in whole.iter().zip(weights).zip(out) {
        s.store(s.mul(s.mul(s.load(x), inverse), s.load(weight)), out);
    }
    s.store_part(s.mul(s.mul(last, inverse), s.load_part(weight_rest, 0.0)), out_rest);
}

#[inline(always)]
fn norm<S: Lanes>(s: S, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert_eq!(x.len(), out.len(), "as many outputs as inputs");
    for (x, out) in x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
        norm_row(s, x, weight, epsilon, out);
    }
}

#[inline(always)]
fn norm_in_place<S: Lanes>(s: S, x: &mut [f32], weight: &[f32], epsilon: f32) {
    for row in x.chunks_exact_mut(weight.len()) {
        let inverse = inverse_rms(s, row, epsilon);
        for (x, weight) in row.iter_mut().zip(weight) {
            *x = *x * inverse * weight;
        }
    }
}

#[inline(always)]
fn add_norm<S: Lanes>(s: S, residual: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert!(residual.len() == out.len() && x.len() == out.len(), "as many outputs as inputs");
    let width = weight.len();
    let rows = residual.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(out.chunks_exact_mut(width));
    for ((residual, x), out) in rows {
        for (residual, x) in residual.iter_mut().zip(x) {
            *residual += x;
        }
        norm_row(s, residual, weight, epsilon, out);
    }
}

dispatched! {
    /// `out[t] = x[t] / rms(x[t]) · weight` for rows `[T, W]`, W the length of `weight`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) = norm
}

dispatched! {
    /// As [`rms_norm`], the results where the rows were.
    pub fn rms_norm_in_place(x: &mut [f32], weight: &[f32], epsilon: f32) = norm_in_place
}

dispatched! {
    /// `residual += x`, then `out[t] = residual[t] / rms(residual[t]) · weight`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add_rms_norm(residual: &mut [f32], x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) = add_norm
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{
        Isa,
        testing::{Random, relative_error},
    };

    #[test]
    fn equals_the_reference() {
        let mut random = Random(41);
        for (width, rows) in [(576, 3), (7, 2), (33, 1), (16, 5)] {
            let (x, y, weight) = (random.floats(width * rows), random.floats(width * rows), random.floats(width));
            let reference = |x: &[f32]| -> Vec<f64> {
                x.chunks(width)
                    .flat_map(|x| {
                        let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / width as f64;
                        let inverse = 1.0 / (mean + 1e-5).sqrt();
                        x.iter().zip(&weight).map(move |(&x, &w)| f64::from(x) * inverse * f64::from(w))
                    })
                    .collect()
            };
            for isa in Isa::available() {
                let mut out = vec![0.0; width * rows];
                rms_norm(isa, &x, &weight, 1e-5, &mut out);
                assert!(relative_error(&out, &reference(&x)) < 1e-6, "{} {width}", isa.name());
                let mut in_place = x.clone();
                rms_norm_in_place(isa, &mut in_place, &weight, 1e-5);
                assert_eq!(in_place, out, "{} {width}", isa.name());
                let mut residual = x.clone();
                add_rms_norm(isa, &mut residual, &y, &weight, 1e-5, &mut out);
                let sum: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
                assert_eq!(residual, sum);
                assert!(relative_error(&out, &reference(&sum)) < 1e-6, "{} {width}", isa.name());
            }
        }
    }
}
