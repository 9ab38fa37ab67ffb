//! Sixteen lanes in two AVX2 registers; integer products with `vpmaddubsw`.

use std::arch::x86_64::*;

use super::lanes::{LANES, Lanes};

/// Proof that the machine has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The token, if the machine has the instructions.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c"))
            .then_some(Self(()))
    }
}

/// Lanes 0..8 and 8..16.
#[derive(Clone, Copy)]
pub(crate) struct Pair<T>(T, T);

/// Intrinsics under the proof that the token is.
macro_rules! simd {
    ($($body:tt)*) => {
        // SAFETY: `self` exists only where the machine has these instructions; pointers come from references to arrays
        // of the size that is read or written.
        unsafe { $($body)* }
    };
}

impl Lanes for Avx2 {
    type F = Pair<__m256>;
    type I = Pair<__m256i>;
    type Block = [Pair<__m256i>; 8];
    const TILE_ROWS: usize = 4;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        simd!({
            let x = _mm256_set1_ps(x);
            Pair(x, x)
        })
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        simd!(Pair(_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))))
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32; LANES]) {
        simd!({
            _mm256_storeu_ps(out.as_mut_ptr(), x.0);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), x.1);
        })
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 2 * LANES]) -> Self::F {
        simd!(Pair(
            _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(x.as_ptr().add(16).cast())),
        ))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u8; 2 * LANES]) -> Self::F {
        simd!({
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(x.as_ptr().add(16).cast()));
            Pair(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)), _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)))
        })
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> Self::F {
        simd!({
            let bytes = _mm_loadu_si128(x.as_ptr().cast());
            let (low, high) = (_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128::<8>(bytes)));
            Pair(_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high))
        })
    }
    #[inline(always)]
    fn store_f16(self, x: Self::F, out: &mut [u8; 2 * LANES]) {
        simd!({
            _mm_storeu_si128(out.as_mut_ptr().cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x.0));
            _mm_storeu_si128(out.as_mut_ptr().add(16).cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x.1));
        })
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(Pair(_mm256_add_ps(a.0, b.0), _mm256_add_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(Pair(_mm256_sub_ps(a.0, b.0), _mm256_sub_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(Pair(_mm256_mul_ps(a.0, b.0), _mm256_mul_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(Pair(_mm256_div_ps(a.0, b.0), _mm256_div_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        simd!(Pair(_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(Pair(_mm256_max_ps(a.0, b.0), _mm256_max_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(Pair(_mm256_min_ps(a.0, b.0), _mm256_min_ps(a.1, b.1)))
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        simd!({
            let sign = _mm256_set1_ps(-0.0);
            Pair(_mm256_andnot_ps(sign, a.0), _mm256_andnot_ps(sign, a.1))
        })
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        simd!(Pair(_mm256_round_ps::<0>(a.0), _mm256_round_ps::<0>(a.1)))
    }
    #[inline(always)]
    fn pow2(self, a: Self::F) -> Self::F {
        simd!({
            let bias = _mm256_set1_epi32(127);
            let low = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(a.0), bias));
            let high = _mm256_slli_epi32::<23>(_mm256_add_epi32(_mm256_cvtps_epi32(a.1), bias));
            Pair(_mm256_castsi256_ps(low), _mm256_castsi256_ps(high))
        })
    }
    #[inline(always)]
    fn select_less(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        simd!(Pair(
            _mm256_blendv_ps(y.0, x.0, _mm256_cmp_ps::<_CMP_LT_OQ>(a.0, b.0)),
            _mm256_blendv_ps(y.1, x.1, _mm256_cmp_ps::<_CMP_LT_OQ>(a.1, b.1)),
        ))
    }
    #[inline(always)]
    fn at_least(self, a: Self::F, b: Self::F) -> u16 {
        simd!({
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(a.0, b.0));
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(a.1, b.1));
            (low | high << 8) as u16
        })
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        simd!({
            let a = _mm256_add_ps(a.0, a.1);
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps::<1>(a, a)))
        })
    }
    #[inline(always)]
    fn largest(self, a: Self::F) -> f32 {
        simd!({
            let a = _mm256_max_ps(a.0, a.1);
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps::<1>(a, a)))
        })
    }
    #[inline(always)]
    fn sums(self, v: &[Self::F; LANES]) -> Self::F {
        // A transposition that adds at each step, for eight vectors at a time.
        simd!({
            let mut halves = [_mm256_setzero_ps(); 2];
            for (part, out) in halves.iter_mut().enumerate() {
                let v = &v[part * 8..part * 8 + 8];
                let mut b = [_mm256_setzero_ps(); 4];
                for i in 0..4 {
                    let (x, y) = (_mm256_add_ps(v[i].0, v[i].1), _mm256_add_ps(v[i + 4].0, v[i + 4].1));
                    // 128-bit parts: v[i], v[i + 4].
                    b[i] = _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(x, y), _mm256_permute2f128_ps::<0x31>(x, y));
                }
                let mut c = [_mm256_setzero_ps(); 2];
                for i in 0..2 {
                    let (x, y) = (_mm256_castps_pd(b[i]), _mm256_castps_pd(b[i + 2]));
                    let low = _mm256_castpd_ps(_mm256_unpacklo_pd(x, y));
                    let high = _mm256_castpd_ps(_mm256_unpackhi_pd(x, y));
                    c[i] = _mm256_add_ps(low, high);
                }
                // v[0], v[2], v[1], v[3] of each part.
                let low = _mm256_shuffle_ps::<0x88>(c[0], c[1]);
                let high = _mm256_shuffle_ps::<0xdd>(c[0], c[1]);
                *out = _mm256_permute_ps::<0xd8>(_mm256_add_ps(low, high));
            }
            Pair(halves[0], halves[1])
        })
    }
    #[inline(always)]
    fn store_i8(self, x: Self::F, out: &mut [i8; LANES]) {
        simd!({
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(x.0), _mm256_cvtps_epi32(x.1));
            // Packing works within 128-bit parts: put the parts back in order.
            let words = _mm256_permute4x64_epi64::<0xd8>(words);
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        })
    }
    #[inline(always)]
    fn to_float(self, x: Self::I) -> Self::F {
        simd!(Pair(_mm256_cvtepi32_ps(x.0), _mm256_cvtepi32_ps(x.1)))
    }
    #[inline(always)]
    fn byte_of_group(self, x: &[u8; 4 * LANES], index: usize) -> Self::I {
        simd!(bits(x, 8 * index as i32, 0xff))
    }
    #[inline(always)]
    fn bits_of_group(self, x: &[u8; 4 * LANES], index: usize, shift: usize, mask: u8) -> Self::I {
        simd!(bits(x, (8 * index + shift) as i32, mask.into()))
    }
    #[inline(always)]
    fn unpack_nibbles(self, x: &[u8; 256]) -> Self::Block {
        simd!(nibbles(x.as_ptr()))
    }
    #[inline(always)]
    fn unpack_fives(self, x: &[u8; 320]) -> Self::Block {
        simd!({
            let mut block = nibbles(x.as_ptr());
            let mask = _mm256_set1_epi8(0x10);
            for part in 0..2 {
                let high = _mm256_loadu_si256(x.as_ptr().add(256 + part * 32).cast());
                // Bit g of each byte to bit 4 of group g.
                let shifted = [
                    _mm256_slli_epi16::<4>(high),
                    _mm256_slli_epi16::<3>(high),
                    _mm256_slli_epi16::<2>(high),
                    _mm256_slli_epi16::<1>(high),
                    high,
                    _mm256_srli_epi16::<1>(high),
                    _mm256_srli_epi16::<2>(high),
                    _mm256_srli_epi16::<3>(high),
                ];
                for (w, shifted) in block.iter_mut().zip(shifted) {
                    let w = if part == 0 { &mut w.0 } else { &mut w.1 };
                    *w = _mm256_or_si256(*w, _mm256_and_si256(shifted, mask));
                }
            }
            block
        })
    }
    #[inline(always)]
    fn unpack_sixes(self, x: &[u8; 384]) -> Self::Block {
        simd!({
            let mut block = nibbles(x.as_ptr());
            let mask = _mm256_set1_epi8(0x30);
            for part in 0..2 {
                let low = _mm256_loadu_si256(x.as_ptr().add(256 + part * 64).cast());
                let high = _mm256_loadu_si256(x.as_ptr().add(288 + part * 64).cast());
                let shifted = [
                    Pair(_mm256_slli_epi16::<4>(low), _mm256_slli_epi16::<4>(high)),
                    Pair(_mm256_slli_epi16::<2>(low), _mm256_slli_epi16::<2>(high)),
                    Pair(low, high),
                    Pair(_mm256_srli_epi16::<2>(low), _mm256_srli_epi16::<2>(high)),
                ];
                for i in 0..4 {
                    let w = &mut block[part * 4 + i];
                    w.0 = _mm256_or_si256(w.0, _mm256_and_si256(shifted[i].0, mask));
                    w.1 = _mm256_or_si256(w.1, _mm256_and_si256(shifted[i].1, mask));
                }
            }
            block
        })
    }
    #[inline(always)]
    fn unpack_bytes(self, x: &[u8; 512]) -> Self::Block {
        // Back to signed: here the weight gives its magnitude, and its sign goes to the activation.
        simd!({
            let offset = _mm256_set1_epi8(-128);
            let mut block = [Pair(offset, offset); 8];
            for i in 0..8 {
                block[i] = Pair(
                    _mm256_xor_si256(_mm256_loadu_si256(x.as_ptr().add(i * 64).cast()), offset),
                    _mm256_xor_si256(_mm256_loadu_si256(x.as_ptr().add(i * 64 + 32).cast()), offset),
                );
            }
            block
        })
    }
    #[inline(always)]
    fn dot_nibbles(self, w: &Self::Block, a: &[i8; 32], start: i32) -> Self::I {
        simd!({
            let groups = a.as_ptr().cast::<i32>();
            let mut sums = Pair(_mm256_setzero_si256(), _mm256_setzero_si256());
            // 8 groups × 2 products × 15 · 128 is 30,720: sixteen bits hold the sum of all groups.
            for (i, w) in w.iter().enumerate() {
                let a = _mm256_set1_epi32(groups.add(i).read_unaligned());
                sums.0 = _mm256_add_epi16(sums.0, _mm256_maddubs_epi16(w.0, a));
                sums.1 = _mm256_add_epi16(sums.1, _mm256_maddubs_epi16(w.1, a));
            }
            let (ones, start) = (_mm256_set1_epi16(1), _mm256_set1_epi32(start));
            Pair(
                _mm256_add_epi32(_mm256_madd_epi16(sums.0, ones), start),
                _mm256_add_epi32(_mm256_madd_epi16(sums.1, ones), start),
            )
        })
    }
    #[inline(always)]
    fn dot_fives(self, w: &Self::Block, a: &[i8; 32], start: i32) -> Self::I {
        // 4 groups × 2 products × 31 · 128 is 31,744: sixteen bits hold the sum of four groups.
        simd!({
            let start = _mm256_set1_epi32(2 * start);
            let first = sum_groups::<4>(&w[..4], &a[..16], Pair(start, start));
            sum_groups::<4>(&w[4..], &a[16..], first)
        })
    }
    #[inline(always)]
    fn dot_sixes(self, w: &Self::Block, a: &[i8; 32], start: [i32; 2]) -> [Self::I; 2] {
        // 2 groups × 2 products × 63 · 128 is 32,256: sixteen bits hold the sum of two groups.
        simd!({
            let (first, last) = (_mm256_set1_epi32(4 * (start[0] - start[1])), _mm256_set1_epi32(4 * start[1]));
            [
                sum_groups::<2>(&w[..4], &a[..16], Pair(first, first)),
                sum_groups::<2>(&w[4..], &a[16..], Pair(last, last)),
            ]
        })
    }
    #[inline(always)]
    fn dot_bytes(self, w: &Self::Block, a: &[i8; 32], _start: i32) -> Self::I {
        simd!({
            let groups = a.as_ptr().cast::<i32>();
            let ones = _mm256_set1_epi16(1);
            let mut sums = Pair(_mm256_setzero_si256(), _mm256_setzero_si256());
            // 2 products × 128 · 127 is 32,512: no pair saturates, since activations are at least −127.
            for (i, w) in w.iter().enumerate() {
                let a = _mm256_set1_epi32(groups.add(i).read_unaligned());
                let low = _mm256_maddubs_epi16(_mm256_abs_epi8(w.0), _mm256_sign_epi8(a, w.0));
                let high = _mm256_maddubs_epi16(_mm256_abs_epi8(w.1), _mm256_sign_epi8(a, w.1));
                sums.0 = _mm256_add_epi32(sums.0, _mm256_madd_epi16(low, ones));
                sums.1 = _mm256_add_epi32(sums.1, _mm256_madd_epi16(high, ones));
            }
            sums
        })
    }
}

/// The groups of a block whose nibbles are the 256 bytes from `x` on.
///
/// # Safety
/// The machine must have AVX2, and the bytes must be there.
#[inline(always)]
unsafe fn nibbles(x: *const u8) -> [Pair<__m256i>; 8] {
    // SAFETY: the caller's contract.
    unsafe {
        let mask = _mm256_set1_epi8(15);
        let mut block = [Pair(mask, mask); 8];
        for i in 0..4 {
            let low = _mm256_loadu_si256(x.add(i * 64).cast());
            let high = _mm256_loadu_si256(x.add(i * 64 + 32).cast());
            block[2 * i] = Pair(_mm256_and_si256(low, mask), _mm256_and_si256(high, mask));
            block[2 * i + 1] = Pair(
                _mm256_and_si256(_mm256_srli_epi16::<4>(low), mask),
                _mm256_and_si256(_mm256_srli_epi16::<4>(high), mask),
            );
        }
        block
    }
}

/// `start + Σ w · a` of four groups of columns, `TOGETHER` groups summed in sixteen bits.
///
/// # Safety
/// The machine must have AVX2, `w` four groups and `a` sixteen values.
#[inline(always)]
unsafe fn sum_groups<const TOGETHER: usize>(w: &[Pair<__m256i>], a: &[i8], start: Pair<__m256i>) -> Pair<__m256i> {
    // SAFETY: the caller's contract.
    unsafe {
        let (groups, ones) = (a.as_ptr().cast::<i32>(), _mm256_set1_epi16(1));
        let mut sums = start;
        for from in (0..4).step_by(TOGETHER) {
            let mut narrow = Pair(_mm256_setzero_si256(), _mm256_setzero_si256());
            for i in from..from + TOGETHER {
                let a = _mm256_set1_epi32(groups.add(i).read_unaligned());
                narrow.0 = _mm256_add_epi16(narrow.0, _mm256_maddubs_epi16(w[i].0, a));
                narrow.1 = _mm256_add_epi16(narrow.1, _mm256_maddubs_epi16(w[i].1, a));
            }
            sums.0 = _mm256_add_epi32(sums.0, _mm256_madd_epi16(narrow.0, ones));
            sums.1 = _mm256_add_epi32(sums.1, _mm256_madd_epi16(narrow.1, ones));
        }
        sums
    }
}

/// `(x >> shift) & mask` of each group of four bytes.
///
/// # Safety
/// The machine must have AVX2.
#[inline(always)]
unsafe fn bits(x: &[u8; 4 * LANES], shift: i32, mask: i32) -> Pair<__m256i> {
    // SAFETY: the caller vouches for the instructions; both loads are within `x`.
    unsafe {
        let (shift, mask) = (_mm256_set1_epi32(shift), _mm256_set1_epi32(mask));
        let low = _mm256_srlv_epi32(_mm256_loadu_si256(x.as_ptr().cast()), shift);
        let high = _mm256_srlv_epi32(_mm256_loadu_si256(x.as_ptr().add(32).cast()), shift);
        Pair(_mm256_and_si256(low, mask), _mm256_and_si256(high, mask))
    }
}
