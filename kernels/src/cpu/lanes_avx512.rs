//! Sixteen lanes in one AVX-512 register; integer products with `vpdpbusd`.

use std::arch::x86_64::*;

use super::lanes::{LANES, Lanes};

/// Proof that the machine has AVX-512 F, BW, VL, DQ and VNNI (and AVX2, FMA, F16C).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The token, if the machine has the instructions.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c"))
        .then_some(Self(()))
    }
}

/// Intrinsics under the proof that the token is.
macro_rules! simd {
    ($($body:tt)*) => {
        // SAFETY: `self` exists only where the machine has these instructions; pointers come from references to arrays
        // of the size that is read or written.
        unsafe { $($body)* }
    };
}

impl Lanes for Avx512 {
    type F = __m512;
    type I = __m512i;
    type Block = [__m512i; 8];
    const TILE_ROWS: usize = 8;

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F {
        simd!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        simd!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn store(self, x: Self::F, out: &mut [f32; LANES]) {
        simd!(_mm512_storeu_ps(out.as_mut_ptr(), x))
    }
    #[inline(always)]
    fn load_f16(self, x: &[u8; 2 * LANES]) -> Self::F {
        simd!(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn load_bf16(self, x: &[u8; 2 * LANES]) -> Self::F {
        simd!({
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        })
    }
    #[inline(always)]
    fn load_i8(self, x: &[u8; LANES]) -> Self::F {
        simd!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()))))
    }
    #[inline(always)]
    fn store_f16(self, x: Self::F, out: &mut [u8; 2 * LANES]) {
        simd!(_mm256_storeu_si256(out.as_mut_ptr().cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)))
    }
    #[inline(always)]
    fn add(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        simd!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: Self::F, b: Self::F) -> Self::F {
        simd!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        simd!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn round(self, a: Self::F) -> Self::F {
        simd!(_mm512_roundscale_ps::<0>(a))
    }
    #[inline(always)]
    fn pow2(self, a: Self::F) -> Self::F {
        simd!({
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        })
    }
    #[inline(always)]
    fn select_less(self, a: Self::F, b: Self::F, x: Self::F, y: Self::F) -> Self::F {
        simd!(_mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), y, x))
    }
    #[inline(always)]
    fn at_least(self, a: Self::F, b: Self::F) -> u16 {
        simd!(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b))
    }
    #[inline(always)]
    fn sum(self, a: Self::F) -> f32 {
        simd!({
            let a = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let a = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_add_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_add_ss(a, _mm_shuffle_ps::<1>(a, a)))
        })
    }
    #[inline(always)]
    fn largest(self, a: Self::F) -> f32 {
        simd!({
            let a = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let a = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let a = _mm_max_ps(a, _mm_movehl_ps(a, a));
            _mm_cvtss_f32(_mm_max_ss(a, _mm_shuffle_ps::<1>(a, a)))
        })
    }
    #[inline(always)]
    fn sums(self, v: &[Self::F; LANES]) -> Self::F {
        // A transposition that adds at each step: two vectors become one that holds both half-summed.
        simd!({
            let mut a = [_mm512_setzero_ps(); 8];
            for i in 0..8 {
                // 128-bit parts: v[i] twice, v[i + 8] twice.
                let low = _mm512_shuffle_f32x4::<0x44>(v[i], v[i + 8]);
                let high = _mm512_shuffle_f32x4::<0xee>(v[i], v[i + 8]);
                a[i] = _mm512_add_ps(low, high);
            }
            let mut b = [_mm512_setzero_ps(); 4];
            for i in 0..4 {
                // 128-bit parts: v[i], v[i + 8], v[i + 4], v[i + 12].
                let low = _mm512_shuffle_f32x4::<0x88>(a[i], a[i + 4]);
                let high = _mm512_shuffle_f32x4::<0xdd>(a[i], a[i + 4]);
                b[i] = _mm512_add_ps(low, high);
            }
            let mut c = [_mm512_setzero_ps(); 2];
            for i in 0..2 {
                // Pairs of the first part: v[i], v[i + 2].
                let (x, y) = (_mm512_castps_pd(b[i]), _mm512_castps_pd(b[i + 2]));
                let low = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
                let high = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
                c[i] = _mm512_add_ps(low, high);
            }
            // The first part: v[0], v[2], v[1], v[3]; put everything in order.
            let low = _mm512_shuffle_ps::<0x88>(c[0], c[1]);
            let high = _mm512_shuffle_ps::<0xdd>(c[0], c[1]);
            let order = _mm512_setr_epi32(0, 2, 1, 3, 8, 10, 9, 11, 4, 6, 5, 7, 12, 14, 13, 15);
            _mm512_permutexvar_ps(order, _mm512_add_ps(low, high))
        })
    }
    #[inline(always)]
    fn store_i8(self, x: Self::F, out: &mut [i8; LANES]) {
        simd!(_mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x))))
    }
    #[inline(always)]
    fn to_float(self, x: Self::I) -> Self::F {
        simd!(_mm512_cvtepi32_ps(x))
    }
    #[inline(always)]
    fn byte_of_group(self, x: &[u8; 4 * LANES], index: usize) -> Self::I {
        simd!({
            let shifted = _mm512_srlv_epi32(_mm512_loadu_si512(x.as_ptr().cast()), _mm512_set1_epi32(8 * index as i32));
            _mm512_and_si512(shifted, _mm512_set1_epi32(0xff))
        })
    }
    #[inline(always)]
    fn bits_of_group(self, x: &[u8; 4 * LANES], index: usize, shift: usize, mask: u8) -> Self::I {
        simd!({
            let shift = _mm512_set1_epi32((8 * index + shift) as i32);
            let shifted = _mm512_srlv_epi32(_mm512_loadu_si512(x.as_ptr().cast()), shift);
            _mm512_and_si512(shifted, _mm512_set1_epi32(mask.into()))
        })
    }
    #[inline(always)]
    fn unpack_nibbles(self, x: &[u8; 256]) -> Self::Block {
        simd!({
            let mask = _mm512_set1_epi8(15);
            let mut block = [_mm512_setzero_si512(); 8];
            for i in 0..4 {
                let pair = _mm512_loadu_si512(x.as_ptr().add(i * 64).cast());
                block[2 * i] = _mm512_and_si512(pair, mask);
                block[2 * i + 1] = _mm512_and_si512(_mm512_srli_epi16::<4>(pair), mask);
            }
            block
        })
    }
    #[inline(always)]
    fn unpack_fives(self, x: &[u8; 320]) -> Self::Block {
        simd!({
            let high = _mm512_loadu_si512(x.as_ptr().add(256).cast());
            // Bit g of each byte to bit 4 of group g.
            let shifted = [
                _mm512_slli_epi16::<4>(high),
                _mm512_slli_epi16::<3>(high),
                _mm512_slli_epi16::<2>(high),
                _mm512_slli_epi16::<1>(high),
                high,
                _mm512_srli_epi16::<1>(high),
                _mm512_srli_epi16::<2>(high),
                _mm512_srli_epi16::<3>(high),
            ];
            with_high_bits(x.as_ptr(), shifted, 0x10)
        })
    }
    #[inline(always)]
    fn unpack_sixes(self, x: &[u8; 384]) -> Self::Block {
        simd!({
            let low = _mm512_loadu_si512(x.as_ptr().add(256).cast());
            let high = _mm512_loadu_si512(x.as_ptr().add(320).cast());
            let shifted = [
                _mm512_slli_epi16::<4>(low),
                _mm512_slli_epi16::<2>(low),
                low,
                _mm512_srli_epi16::<2>(low),
                _mm512_slli_epi16::<4>(high),
                _mm512_slli_epi16::<2>(high),
                high,
                _mm512_srli_epi16::<2>(high),
            ];
            with_high_bits(x.as_ptr(), shifted, 0x30)
        })
    }
    #[inline(always)]
    fn unpack_bytes(self, x: &[u8; 512]) -> Self::Block {
        simd!({
            let mut block = [_mm512_setzero_si512(); 8];
            for i in 0..8 {
                block[i] = _mm512_loadu_si512(x.as_ptr().add(i * 64).cast());
            }
            block
        })
    }
    #[inline(always)]
    fn dot_nibbles(self, w: &Self::Block, a: &[i8; 32], start: i32) -> Self::I {
        simd!(dot(w, a, _mm512_set1_epi32(start)))
    }
    #[inline(always)]
    fn dot_fives(self, w: &Self::Block, a: &[i8; 32], start: i32) -> Self::I {
        simd!(dot(w, a, _mm512_slli_epi32::<1>(_mm512_set1_epi32(start))))
    }
    #[inline(always)]
    fn dot_sixes(self, w: &Self::Block, a: &[i8; 32], start: [i32; 2]) -> [Self::I; 2] {
        simd!({
            let (all, last) = (_mm512_set1_epi32(start[0]), _mm512_set1_epi32(start[1]));
            let first = _mm512_slli_epi32::<2>(_mm512_sub_epi32(all, last));
            halves(w, a, [first, _mm512_slli_epi32::<2>(last)])
        })
    }
    #[inline(always)]
    fn dot_bytes(self, w: &Self::Block, a: &[i8; 32], start: i32) -> Self::I {
        // Weights are value + 128: take 128 · Σ a away first.
        simd!(dot(w, a, _mm512_slli_epi32::<4>(_mm512_set1_epi32(start))))
    }
}

/// Nibbles (256 bytes from `x` on) with `mask` of `high` above them.
///
/// # Safety
/// The machine must have AVX-512, and the bytes must be there.
#[inline(always)]
unsafe fn with_high_bits(x: *const u8, high: [__m512i; 8], mask: i8) -> [__m512i; 8] {
    // SAFETY: the caller's contract.
    unsafe {
        let (low, mask) = (_mm512_set1_epi8(15), _mm512_set1_epi8(mask));
        let mut block = [_mm512_setzero_si512(); 8];
        for i in 0..4 {
            let pair = _mm512_loadu_si512(x.add(i * 64).cast());
            let (even, odd) = (_mm512_and_si512(pair, low), _mm512_and_si512(_mm512_srli_epi16::<4>(pair), low));
            // high & mask | nibble.
            block[2 * i] = _mm512_ternarylogic_epi32::<0xea>(high[2 * i], mask, even);
            block[2 * i + 1] = _mm512_ternarylogic_epi32::<0xea>(high[2 * i + 1], mask, odd);
        }
        block
    }
}

/// `start + Σ w · a` of the first and of the last sixteen columns.
///
/// # Safety
/// The machine must have AVX-512 VNNI.
#[inline(always)]
unsafe fn halves(w: &[__m512i; 8], a: &[i8; 32], start: [__m512i; 2]) -> [__m512i; 2] {
    // SAFETY: the caller vouches for the instructions; eight groups of four bytes are within `a`.
    unsafe {
        let groups = a.as_ptr().cast::<i32>();
        let [mut first, mut last] = start;
        for i in 0..4 {
            first = _mm512_dpbusd_epi32(first, w[i], _mm512_set1_epi32(groups.add(i).read_unaligned()));
            last = _mm512_dpbusd_epi32(last, w[4 + i], _mm512_set1_epi32(groups.add(4 + i).read_unaligned()));
        }
        [first, last]
    }
}

/// `start + Σ w · a`; integer sums are exact, so that two chains of additions are as good as one.
///
/// # Safety
/// The machine must have AVX-512 VNNI.
#[inline(always)]
unsafe fn dot(w: &[__m512i; 8], a: &[i8; 32], start: __m512i) -> __m512i {
    // SAFETY: the caller's contract.
    unsafe {
        let [first, last] = halves(w, a, [start, _mm512_setzero_si512()]);
        _mm512_add_epi32(first, last)
    }
}
