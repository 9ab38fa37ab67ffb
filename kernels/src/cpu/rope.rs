//! Rotary position embedding of neighbouring halves: pairs `(i, i + head_dim / 2)`.

use super::lanes::{LANES, Lanes};

/// Fills `cosines` and `sines` `[D / 2]` for `position`.
///
/// The angle is the f32 product of position and frequency, as Hugging Face computes it; its cosine and sine are taken
/// in f64 and rounded once.
///
/// # Panics
/// If the lengths differ.
pub fn rope_angles(position: u32, inverse_frequencies: &[f32], cosines: &mut [f32], sines: &mut [f32]) {
    assert!(cosines.len() == inverse_frequencies.len() && sines.len() == inverse_frequencies.len());
    for ((frequency, cosine), sine) in inverse_frequencies.iter().zip(cosines).zip(sines) {
        let (s, c) = f64::from(position as f32 * frequency).sin_cos();
        *cosine = c as f32;
        *sine = s as f32;
    }
}

#[inline(always)]
fn rotate<S: Lanes>(s: S, heads: &mut [f32], cosines: &[f32], sines: &[f32]) {
    let half = cosines.len();
    let ((cos, cos_rest), (sin, sin_rest)) = (cosines.as_chunks::<LANES>(), sines.as_chunks::<LANES>());
    for head in heads.chunks_exact_mut(2 * half) {
        let (low, high) = head.split_at_mut(half);
        let ((low, low_rest), (high, high_rest)) = (low.as_chunks_mut::<LANES>(), high.as_chunks_mut::<LANES>());
        for i in 0..cos.len() {
            let (a, b, c, n) = (s.load(&low[i]), s.load(&high[i]), s.load(&cos[i]), s.load(&sin[i]));
            s.store(s.sub(s.mul(a, c), s.mul(b, n)), &mut low[i]);
            s.store(s.add(s.mul(b, c), s.mul(a, n)), &mut high[i]);
        }
        for i in 0..cos_rest.len() {
            let (a, b) = (low_rest[i], high_rest[i]);
            low_rest[i] = a * cos_rest[i] - b * sin_rest[i];
            high_rest[i] = b * cos_rest[i] + a * sin_rest[i];
        }
    }
}

dispatched! {
    /// Rotates each of `heads` `[H, D]` in place by the angles of one position (`[D / 2]` each).
    pub fn rope_rotate(heads: &mut [f32], cosines: &[f32], sines: &[f32]) = rotate
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{Isa, testing::Random};

    #[test]
    fn equals_the_reference() {
        let mut random = Random(61);
        for (heads, dim) in [(3, 64), (2, 10), (1, 36)] {
            let x = random.floats(heads * dim);
            let frequencies: Vec<f32> = (0..dim / 2).map(|i| 1e4_f32.powf(-2.0 * i as f32 / dim as f32)).collect();
            let (mut cosines, mut sines) = (vec![0.0; dim / 2], vec![0.0; dim / 2]);
            rope_angles(1234, &frequencies, &mut cosines, &mut sines);
            for isa in Isa::available() {
                let mut out = x.clone();
                rope_rotate(isa, &mut out, &cosines, &sines);
                for (head, x) in out.chunks(dim).zip(x.chunks(dim)) {
                    for i in 0..dim / 2 {
                        let (s, c) = f64::from(1234.0 * frequencies[i]).sin_cos();
                        let (a, b) = (f64::from(x[i]), f64::from(x[i + dim / 2]));
                        assert!((f64::from(head[i]) - (a * c - b * s)).abs() < 1e-6, "{}", isa.name());
                        assert!((f64::from(head[i + dim / 2]) - (b * c + a * s)).abs() < 1e-6, "{}", isa.name());
                    }
                }
            }
        }
    }
}
