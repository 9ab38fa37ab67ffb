//! The gate of a feed-forward layer.

use super::{
    exp::exp,
    lanes::{LANES, Lanes},
};

#[inline(always)]
fn gate<S: Lanes>(s: S, gate: S::F, up: S::F) -> S::F {
    let one = s.splat(1.0);
    let denominator = s.add(one, exp(s, s.sub(s.splat(0.0), gate)));
    s.mul(s.div(gate, denominator), up)
}

#[inline(always)]
fn rows<S: Lanes>(s: S, gate_up: &[f32], width: usize, out: &mut [f32]) {
    assert_eq!(gate_up.len(), 2 * out.len(), "two inputs for each output");
    for (row, out) in gate_up.chunks_exact(2 * width).zip(out.chunks_exact_mut(width)) {
        let (gates, ups) = row.split_at(width);
        let ((gates, gate_rest), (ups, up_rest)) = (gates.as_chunks::<LANES>(), ups.as_chunks::<LANES>());
        let (out, out_rest) = out.as_chunks_mut::<LANES>();
        for ((g, u), out) in gates.iter().zip(ups).zip(out) {
            s.store(gate(s, s.load(g), s.load(u)), out);
        }
        s.store_part(gate(s, s.load_part(gate_rest, 0.0), s.load_part(up_rest, 0.0)), out_rest);
    }
}

dispatched! {
    /// `out[t, i] = silu(gate_up[t, i]) · gate_up[t, width + i]`, `silu(x) = x / (1 + e^-x)`: `[T, width]` from
    /// `[T, 2 · width]`. Relative error below 5e-7 where `|x| < 87`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn silu_mul(gate_up: &[f32], width: usize, out: &mut [f32]) = rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, testing::Random};

    #[test]
    fn equals_the_reference() {
        let mut random = Random(51);
        for (width, rows) in [(1536, 2), (5, 3), (33, 1)] {
            let x: Vec<f32> = random.floats(2 * width * rows).iter().map(|x| x * 20.0).collect();
            for isa in Isa::available() {
                let mut out = vec![0.0; width * rows];
                silu_mul(isa, &x, width, &mut out);
                for (t, out) in out.chunks(width).enumerate() {
                    for (i, &y) in out.iter().enumerate() {
                        let (g, u) = (f64::from(x[t * 2 * width + i]), f64::from(x[t * 2 * width + width + i]));
                        let expect = g / (1.0 + (-g).exp()) * u;
                        assert!((f64::from(y) - expect).abs() <= 5e-7 * expect.abs(), "{}: {y} {expect}", isa.name());
                    }
                }
            }
        }
    }
}
