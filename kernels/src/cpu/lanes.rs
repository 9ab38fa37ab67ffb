//! Sixteen lanes as every instruction set provides them, and the portable form.
//!
//! A value that implements [`Lanes`] is a token: it exists only where the machine has the instructions, which is why
//! its methods are safe to call. All forms do the same operations in the same order.

use std::ops::Range;

use half::{bf16, f16};

/// Lanes of a vector: what one AVX-512 register holds of 32-bit numbers.
pub(crate) const LANES: usize = 16;

/// The operations that kernels are made of. Methods are `#[inline(always)]`; see `dispatch`.
pub(crate) trait Lanes: Copy {
    /// 16 × f32.
    type F: Copy;
    /// 16 × i32.
    type I: Copy;
    /// One block of a panel: 16 rows × 32 columns, unpacked for the integer product.
    type Block: Copy;
    /// Most rows of activations that share an unpacked block, 8 or 4: more would not be unrolled, and sums would live
    /// in memory.
    const TILE_ROWS: usize;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// Lanes from memory.
    fn load(self, x: &[f32; LANES]) -> Self::F;
    /// Lanes to memory.
    fn store(self, x: Self::F, out: &mut [f32; LANES]);
    /// Lanes from IEEE halves, little-endian.
    fn load_f16(self, x: &[u8; 2 * LANES]) -> Self::F;
    /// Lanes from brain floats, little-endian.
    fn load_bf16(self, x: &[u8; 2 * LANES]) -> Self::F;
    /// Lanes from signed bytes.
    fn load_i8(self, x: &[u8; LANES]) -> Self::F;
    /// Lanes to IEEE halves, little-endian, to nearest even.
    fn store_f16(self, x: Self::F, out: &mut [u8; 2 * LANES]);
    /// `a + b`.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once except in the portable form.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger one; `b` if either is not a number.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller one; `b` if either is not a number.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `|a|`.
    fn abs(self, a: Self::F) -> Self::F;
    /// To the nearest integer, halves to even.
    fn round(self, a: Self::F) -> Self::F;
    /// `2^a` for integral `a` in [-126, 127].
    fn pow2(self, a: Self::F) -> Self::F;
    /// `if a < b { x } else { y }`.
    fn select_less(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F;
    /// Bit i is set where `a[i] >= b[i]`.
    fn at_least(self, a: Self::F, b: Self::F) -> u16;
    /// Sum by halving: lanes i and i + 8, then i + 4, i + 2, i + 1.
    fn sum(self, a: Self::F) -> f32;
    /// Largest lane.
    fn largest(self, a: Self::F) -> f32;
    /// Lane i is `sum(a[i])`.
    fn sums(self, a: &[Self::F; LANES]) -> Self::F;

    /// Integral lanes in [-128, 127] to bytes.
    fn store_i8(self, x: Self::F, out: &mut [i8; LANES]);
    /// To float.
    fn to_float(self, x: Self::I) -> Self::F;
    /// Of each group of four bytes, byte `index` as an integer: 16 rows of one column.
    fn byte_of_group(self, x: &[u8; 4 * LANES], index: usize) -> Self::I;
    /// Of each group of four bytes, `mask` of what is from bit `shift` (below 8) of byte `index` on.
    fn bits_of_group(self, x: &[u8; 4 * LANES], index: usize, shift: usize, mask: u8) -> Self::I;

    /// Unpacks a block of nibbles (256 bytes; see `pack`).
    fn unpack_nibbles(self, x: &[u8; 256]) -> Self::Block;
    /// Unpacks a block of five bits (320 bytes).
    fn unpack_fives(self, x: &[u8; 320]) -> Self::Block;
    /// Unpacks a block of six bits (384 bytes).
    fn unpack_sixes(self, x: &[u8; 384]) -> Self::Block;
    /// Unpacks a block of bytes (512 bytes).
    fn unpack_bytes(self, x: &[u8; 512]) -> Self::Block;
    /// Lane r is `Σ w[r][k] · a[k] + start` for unsigned weights below 16.
    fn dot_nibbles(self, w: &Self::Block, a: &[i8; 32], start: i32) -> Self::I;
    /// Lane r is `Σ w[r][k] · a[k] + 2 · start` for weights below 32.
    fn dot_fives(self, w: &Self::Block, a: &[i8; 32], start: i32) -> Self::I;
    /// Lanes r are `Σ (w[r][k] − 32) · a[k]` of the first and of the last sixteen columns, for weights below 64; `start`
    /// is `−8 · Σ a[k]` of all columns and of the last sixteen.
    fn dot_sixes(self, w: &Self::Block, a: &[i8; 32], start: [i32; 2]) -> [Self::I; 2];
    /// Lane r is `Σ (w[r][k] − 128) · a[k]`; `start` is `−8 · Σ a[k]`, which some forms need.
    fn dot_bytes(self, w: &Self::Block, a: &[i8; 32], start: i32) -> Self::I;

    /// The first `x.len()` (at most 16) lanes from memory, the others `fill`.
    #[inline(always)]
    fn load_part(self, x: &[f32], fill: f32) -> Self::F {
        if let Ok(whole) = x.try_into() {
            return self.load(whole);
        }
        let mut lanes = [fill; LANES];
        lanes[..x.len()].copy_from_slice(x);
        self.load(&lanes)
    }

    /// The first `out.len()` (at most 16) lanes to memory.
    #[inline(always)]
    fn store_part(self, x: Self::F, out: &mut [f32]) {
        let mut lanes = [0.0; LANES];
        self.store(x, &mut lanes);
        out.copy_from_slice(&lanes[..out.len()]);
    }
}

/// The form for every machine: arrays, which the compiler vectorises as far as the target goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Portable;

/// `$body` for each lane.
macro_rules! each {
    ($i:ident => $body:expr) => {{
        let mut out = [Default::default(); LANES];
        for $i in 0..LANES {
            out[$i] = $body;
        }
        out
    }};
}

impl Lanes for Portable {
    type F = [f32; LANES];
    type I = [i32; LANES];
    type Block = [u8; 512];
    const TILE_ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        *x
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32; LANES]) {
        *out = x;
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 2 * LANES]) -> Self::F {
        each!(i => f16::from_le_bytes([x[2 * i], x[2 * i + 1]]).to_f32())
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u8; 2 * LANES]) -> Self::F {
        each!(i => bf16::from_le_bytes([x[2 * i], x[2 * i + 1]]).to_f32())
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> Self::F {
        each!(i => f32::from(x[i] as i8))
    }
    #[inline(always)]
    fn store_f16(self, x: Self::F, out: &mut [u8; 2 * LANES]) {
        for i in 0..LANES {
            out[2 * i..2 * i + 2].copy_from_slice(&f16::from_f32(x[i]).to_le_bytes());
        }
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        // Where the target has no fused instruction, `mul_add` is a call into the C library for each lane.
        if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
            each!(i => a[i].mul_add(b[i], c[i]))
        } else {
            each!(i => a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        each!(i => if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        each!(i => a[i].abs())
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        // Adding and taking away 1.5 · 2²³ rounds to nearest even below 2²²; larger values are integers or are about
        // to be clamped by the caller, and stay as they are.
        const MAGIC: f32 = 12_582_912.0;
        each!(i => if a[i].abs() < 4_194_304.0 { (a[i] + MAGIC) - MAGIC } else { a[i] })
    }
    #[inline(always)]
    fn pow2(self, a: Self::F) -> Self::F {
        each!(i => f32::from_bits(((a[i] as i32 + 127) as u32) << 23))
    }
    #[inline(always)]
    fn select_less(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        each!(i => if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    fn at_least(self, a: Self::F, b: Self::F) -> u16 {
        let mut bits = 0;
        for i in 0..LANES {
            bits |= u16::from(a[i] >= b[i]) << i;
        }
        bits
    }
    #[inline(always)]
    fn sum(self, mut a: Self::F) -> f32 {
        for step in [8, 4, 2, 1] {
            for i in 0..step {
                a[i] += a[i + step];
            }
        }
        a[0]
    }
    #[inline(always)]
    fn largest(self, mut a: Self::F) -> f32 {
        for step in [8, 4, 2, 1] {
            for i in 0..step {
                a[i] = if a[i] > a[i + step] { a[i] } else { a[i + step] };
            }
        }
        a[0]
    }
    #[inline(always)]
    fn sums(self, a: &[Self::F; LANES]) -> Self::F {
        each!(i => self.sum(a[i]))
    }
    #[inline(always)]
    fn store_i8(self, x: Self::F, out: &mut [i8; LANES]) {
        *out = each!(i => x[i] as i8);
    }
    #[inline(always)]
    fn to_float(self, x: Self::I) -> Self::F {
        each!(i => x[i] as f32)
    }
    #[inline(always)]
    fn byte_of_group(self, x: &[u8; 4 * LANES], index: usize) -> Self::I {
        each!(i => i32::from(x[4 * i + index]))
    }
    #[inline(always)]
    fn bits_of_group(self, x: &[u8; 4 * LANES], index: usize, shift: usize, mask: u8) -> Self::I {
        each!(i => i32::from(x[4 * i + index] >> shift & mask))
    }
    #[inline(always)]
    fn unpack_nibbles(self, x: &[u8; 256]) -> Self::Block {
        let mut block = [0; 512];
        for group in 0..4 {
            for i in 0..64 {
                let byte = x[group * 64 + i];
                block[2 * group * 64 + i] = byte & 15;
                block[(2 * group + 1) * 64 + i] = byte >> 4;
            }
        }
        block
    }
    #[inline(always)]
    fn unpack_fives(self, x: &[u8; 320]) -> Self::Block {
        let (nibbles, fifth) = x.split_at(256);
        let mut block = self.unpack_nibbles(nibbles.as_chunks().0.first().unwrap_or(&[0; 256]));
        for (group, quants) in block.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            for i in 0..64 {
                quants[i] |= (fifth[i] >> group & 1) << 4;
            }
        }
        block
    }
    #[inline(always)]
    fn unpack_sixes(self, x: &[u8; 384]) -> Self::Block {
        let (nibbles, high) = x.split_at(256);
        let mut block = self.unpack_nibbles(nibbles.as_chunks().0.first().unwrap_or(&[0; 256]));
        for (group, quants) in block.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            for i in 0..64 {
                quants[i] |= (high[group / 4 * 64 + i] >> (2 * (group % 4)) & 3) << 4;
            }
        }
        block
    }
    #[inline(always)]
    fn unpack_bytes(self, x: &[u8; 512]) -> Self::Block {
        *x
    }
    #[inline(always)]
    fn dot_nibbles(self, w: &Self::Block, a: &[i8; 32], start: i32) -> Self::I {
        dot_groups(w, a, 0..8, start)
    }
    #[inline(always)]
    fn dot_fives(self, w: &Self::Block, a: &[i8; 32], start: i32) -> Self::I {
        dot_groups(w, a, 0..8, 2 * start)
    }
    #[inline(always)]
    fn dot_sixes(self, w: &Self::Block, a: &[i8; 32], start: [i32; 2]) -> [Self::I; 2] {
        [dot_groups(w, a, 0..4, 4 * (start[0] - start[1])), dot_groups(w, a, 4..8, 4 * start[1])]
    }
    #[inline(always)]
    fn dot_bytes(self, w: &Self::Block, a: &[i8; 32], start: i32) -> Self::I {
        // −128 · Σ a: weights are kept as value + 128.
        dot_groups(w, a, 0..8, 16 * start)
    }
}

/// `start + Σ w · a` over some groups of four columns.
///
/// A function of its own, unlike the rest: unrolled into every kernel it would make them minutes to compile.
#[inline(never)]
fn dot_groups(w: &[u8; 512], a: &[i8; 32], groups: Range<usize>, start: i32) -> [i32; LANES] {
    let mut sums = [start; LANES];
    for group in groups {
        for (row, sum) in sums.iter_mut().enumerate() {
            for j in 0..4 {
                *sum += i32::from(w[group * 64 + row * 4 + j]) * i32::from(a[group * 4 + j]);
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]

    use super::*;
    use crate::cpu::{Isa, isa::Set};

    /// Runs the operations whose results must not depend on the form and returns their results.
    fn trace<S: Lanes>(s: S) -> Vec<f32> {
        let mut out = Vec::new();
        let a = std::array::from_fn(|i| (i as f32 - 7.3) * 1.37);
        let b = std::array::from_fn(|i| 0.1 + (i * i) as f32 * 0.013);
        let (va, vb) = (s.load(&a), s.load(&b));
        let mut push = |v: S::F| {
            let mut lanes = [0.0; 16];
            s.store(v, &mut lanes);
            out.extend(lanes);
        };
        push(s.add(va, vb));
        push(s.sub(va, vb));
        push(s.mul(va, vb));
        push(s.div(va, vb));
        push(s.max(va, vb));
        push(s.min(va, vb));
        push(s.abs(va));
        push(s.round(s.mul(va, s.splat(10.0))));
        push(s.round(s.load(&std::array::from_fn(|i| i as f32 - 7.5))));
        push(s.pow2(s.load(&std::array::from_fn(|i| (i as f32 * 17.0).min(253.0) - 126.0))));
        push(s.select_less(va, vb, va, s.splat(9.0)));
        let many: [S::F; 16] = std::array::from_fn(|i| s.mul(va, s.splat(0.3 + i as f32 * 1.7)));
        push(s.sums(&many));
        push(s.splat(s.sum(many[3])));
        push(s.splat(s.largest(many[5])));
        let mut halves = [0; 32];
        s.store_f16(s.mul(va, vb), &mut halves);
        push(s.load_f16(&halves));
        push(s.load_bf16(&halves));
        let bytes: [u8; 64] = std::array::from_fn(|i| (i * 37 + 11) as u8);
        for index in 0..4 {
            push(s.to_float(s.byte_of_group(&bytes, index)));
            push(s.to_float(s.bits_of_group(&bytes, index, 0, 15)));
            push(s.to_float(s.bits_of_group(&bytes, index, 4, 15)));
            push(s.to_float(s.bits_of_group(&bytes, index, 7, 1)));
        }
        push(s.load_i8(&std::array::from_fn(|i| (i * 17 + 120) as u8)));
        let quants: [u8; 512] = std::array::from_fn(|i| (i * 29 + i / 64 + 3) as u8);
        let nibbles: &[u8; 256] = quants[..256].try_into().unwrap();
        let fives: &[u8; 320] = quants[..320].try_into().unwrap();
        let sixes: &[u8; 384] = quants[..384].try_into().unwrap();
        for factor in [1_i32, 127, -127] {
            let a: [i8; 32] =
                std::array::from_fn(|i| if factor == 1 { (i as i32 * 7 - 100) as i8 } else { factor as i8 });
            let starts = [0, 16].map(|at| -8 * a[at..].iter().map(|&x| i32::from(x)).sum::<i32>());
            let start = starts[0];
            push(s.to_float(s.dot_nibbles(&s.unpack_nibbles(nibbles), &a, start)));
            push(s.to_float(s.dot_fives(&s.unpack_fives(fives), &a, start)));
            push(s.to_float(s.dot_fives(&s.unpack_fives(&[255; 320]), &a, start)));
            for block in [sixes, &[255; 384]] {
                let [first, last] = s.dot_sixes(&s.unpack_sixes(block), &a, starts);
                push(s.to_float(first));
                push(s.to_float(last));
            }
            push(s.to_float(s.dot_bytes(&s.unpack_bytes(&quants), &a, start)));
            push(s.to_float(s.dot_bytes(&s.unpack_bytes(&[0; 512]), &a, start)));
            push(s.to_float(s.dot_bytes(&s.unpack_bytes(&[255; 512]), &a, start)));
        }
        let mut narrow = [0_i8; 16];
        s.store_i8(s.load(&std::array::from_fn(|i| i as f32 * 17.0 - 128.0)), &mut narrow);
        push(s.load(&narrow.map(f32::from)));
        push(s.load_part(&a[..5], 2.5));
        out.push(f32::from(s.at_least(va, vb)));
        out
    }

    #[test]
    fn every_form_agrees_with_the_portable_one() {
        let expect = trace(Portable);
        for isa in Isa::available() {
            let got = match isa.0 {
                Set::Portable(token) => trace(token),
                #[cfg(target_arch = "x86_64")]
                Set::Avx2(token) => trace(token),
                #[cfg(target_arch = "x86_64")]
                Set::Avx512(token) => trace(token),
            };
            for (vector, (a, b)) in got.chunks(16).zip(expect.chunks(16)).enumerate() {
                assert_eq!(a, b, "{}: vector {vector}", isa.name());
            }
        }
    }
}
