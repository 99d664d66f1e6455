//! AVX2 with FMA and F16C, one level: Intel since Haswell, AMD since Zen.
//!
//! Register budget of the 6x16 dense tile: 12 accumulators, 2 of weights, 1 broadcast input, of 16.

#[cfg(not(target_arch = "x86_64"))]
pub(super) use absent::{FUNCTIONS, is_available};
#[cfg(target_arch = "x86_64")]
pub(super) use present::{FUNCTIONS, halves, is_available};

#[cfg(not(target_arch = "x86_64"))]
mod absent {
    use crate::kernels::list::Functions;
    use crate::kernels::scalar;

    pub const FUNCTIONS: Functions = Functions { name: "avx2", ..scalar::FUNCTIONS };

    pub fn is_available() -> bool {
        false
    }
}

#[cfg(target_arch = "x86_64")]
mod present {
    use crate::kernels::dots::{self, Bytes, Dot, Pairs, Words};
    use crate::kernels::lanes::Lanes;
    use crate::kernels::list::kernel_set;
    use crate::kernels::tile;
    use std::arch::x86_64::*;

    kernel_set! { "avx2", Avx2, "avx2,fma,f16c", ["6x16", "6x16", "3x16", "6x16", "4x16"] }

    pub fn is_available() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
    }

    /// Lanes 0 to 7 and 8 to 15. Private, so that only the functions above make it: holding one proves the CPU.
    #[derive(Clone, Copy)]
    struct Avx2([__m256; 2]);

    /// Sixteen ones and sixteen zeros: the sixteen from `16 - count` on are the mask of the first `count` lanes.
    static MASK: [i32; 32] = {
        let mut mask = [0; 32];
        let mut lane = 0;
        while lane < 16 {
            mask[lane] = -1;
            lane += 1;
        }
        mask
    };

    /// The masks of lanes 0 to 7 and 8 to 15 for the first `count` lanes.
    #[inline(always)]
    unsafe fn masks(count: usize) -> [__m256i; 2] {
        // SAFETY: `count` is 1 to 16, so both loads lie in the 32 words of the mask.
        unsafe {
            let from = MASK.as_ptr().add(16 - count);
            [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(8).cast())]
        }
    }

    /// The two upper steps of the tree.
    #[inline(always)]
    unsafe fn four(sums: Avx2) -> __m128 {
        // SAFETY: the holder of lanes has the CPU.
        unsafe {
            let eight = _mm256_add_ps(sums.0[0], sums.0[1]);
            _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight))
        }
    }

    /// Integers from -32768 to 32767, in order.
    #[inline(always)]
    unsafe fn words(lanes: Avx2) -> __m256i {
        // SAFETY: the holder of lanes has the CPU.
        unsafe {
            let packed = _mm256_packs_epi32(_mm256_cvtps_epi32(lanes.0[0]), _mm256_cvtps_epi32(lanes.0[1]));
            _mm256_permute4x64_epi64::<0b11_01_10_00>(packed)
        }
    }

    /// The halves of 8 bytes as 16 signed ones, the lower half of each byte first.
    ///
    /// # Safety
    /// The CPU has the set.
    #[inline(always)]
    pub unsafe fn halves(bytes: __m128i) -> __m128i {
        // SAFETY: the caller's promise.
        unsafe {
            let words = _mm_cvtepu8_epi16(bytes);
            let both = _mm_and_si128(_mm_or_si128(words, _mm_slli_epi16::<4>(words)), _mm_set1_epi8(15));
            let sign = _mm_set1_epi8(8);
            _mm_sub_epi8(_mm_xor_si128(both, sign), sign)
        }
    }

    /// Signed bytes as f32.
    #[inline(always)]
    unsafe fn widened(bytes: __m128i) -> Avx2 {
        // SAFETY: the caller has the CPU.
        unsafe {
            let low = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
            Avx2([low, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(bytes, bytes)))])
        }
    }

    // SAFETY of every block below: the CPU has the set, and pointers are good for the lanes that the trait names.
    impl Lanes for Avx2 {
        const WIDEST: usize = 1;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: as said above.
            unsafe { Self([_mm256_set1_ps(value); 2]) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as said above.
            unsafe { Self([_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))]) }
        }

        #[inline(always)]
        unsafe fn load_part(from: *const f32, count: usize) -> Self {
            // SAFETY: as said above; masked lanes are not read.
            unsafe {
                let [low, high] = masks(count);
                Self([_mm256_maskload_ps(from, low), _mm256_maskload_ps(from.wrapping_add(8), high)])
            }
        }

        #[inline(always)]
        unsafe fn load_f16(from: *const u16) -> Self {
            // SAFETY: as said above.
            unsafe {
                let low = _mm256_cvtph_ps(_mm_loadu_si128(from.cast()));
                Self([low, _mm256_cvtph_ps(_mm_loadu_si128(from.add(8).cast()))])
            }
        }

        #[inline(always)]
        unsafe fn load_bf16(from: *const u16) -> Self {
            // SAFETY: as said above.
            unsafe {
                let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
                let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(8).cast()));
                let widen = |half| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(half));
                Self([widen(low), widen(high)])
            }
        }

        #[inline(always)]
        unsafe fn load_int8(from: *const i8) -> Self {
            // SAFETY: as said above.
            unsafe { widened(_mm_loadu_si128(from.cast())) }
        }

        #[inline(always)]
        unsafe fn load_int4(from: *const u8) -> Self {
            // SAFETY: as said above.
            unsafe { widened(halves(_mm_loadl_epi64(from.cast()))) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as said above.
            unsafe {
                _mm256_storeu_ps(to, self.0[0]);
                _mm256_storeu_ps(to.add(8), self.0[1]);
            }
        }

        #[inline(always)]
        unsafe fn store_part(self, to: *mut f32, count: usize) {
            // SAFETY: as said above; masked lanes are not written.
            unsafe {
                let [low, high] = masks(count);
                _mm256_maskstore_ps(to, low, self.0[0]);
                _mm256_maskstore_ps(to.wrapping_add(8), high, self.0[1]);
            }
        }

        #[inline(always)]
        unsafe fn store_bytes(self, to: *mut u8) {
            // SAFETY: as said above.
            unsafe {
                let words = words(self);
                let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
                _mm_storeu_si128(to.cast(), bytes);
            }
        }

        #[inline(always)]
        unsafe fn store_words(self, to: *mut i16) {
            // SAFETY: as said above.
            unsafe { _mm256_storeu_si256(to.cast(), words(self)) }
        }

        #[inline(always)]
        unsafe fn store_bf16(self, to: *mut u16) {
            // SAFETY: as said above.
            unsafe {
                let mut halves = [_mm256_setzero_si256(); 2];
                for (half, lanes) in halves.iter_mut().zip(self.0) {
                    let bits = _mm256_castps_si256(lanes);
                    let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                    let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
                    let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(lanes, lanes));
                    let rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0_0000), is_nan);
                    *half = _mm256_srli_epi32::<16>(rounded);
                }
                let packed = _mm256_packus_epi32(halves[0], halves[1]);
                _mm256_storeu_si256(to.cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(packed));
            }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe { Self([_mm256_add_ps(self.0[0], other.0[0]), _mm256_add_ps(self.0[1], other.0[1])]) }
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe { Self([_mm256_sub_ps(self.0[0], other.0[0]), _mm256_sub_ps(self.0[1], other.0[1])]) }
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe { Self([_mm256_mul_ps(self.0[0], other.0[0]), _mm256_mul_ps(self.0[1], other.0[1])]) }
        }

        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe { Self([_mm256_div_ps(self.0[0], other.0[0]), _mm256_div_ps(self.0[1], other.0[1])]) }
        }

        #[inline(always)]
        unsafe fn fma(self, factor: Self, addend: Self) -> Self {
            // SAFETY: as said above.
            unsafe {
                let low = _mm256_fmadd_ps(self.0[0], factor.0[0], addend.0[0]);
                Self([low, _mm256_fmadd_ps(self.0[1], factor.0[1], addend.0[1])])
            }
        }

        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe { Self([_mm256_max_ps(self.0[0], other.0[0]), _mm256_max_ps(self.0[1], other.0[1])]) }
        }

        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe { Self([_mm256_min_ps(self.0[0], other.0[0]), _mm256_min_ps(self.0[1], other.0[1])]) }
        }

        #[inline(always)]
        unsafe fn round(self) -> Self {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            // SAFETY: as said above.
            unsafe { Self([_mm256_round_ps::<NEAREST>(self.0[0]), _mm256_round_ps::<NEAREST>(self.0[1])]) }
        }

        #[inline(always)]
        unsafe fn power_of_two(self) -> Self {
            // SAFETY: as said above.
            unsafe {
                let mut powers = self.0;
                for power in &mut powers {
                    let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(*power), _mm256_set1_epi32(127));
                    *power = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent));
                }
                Self(powers)
            }
        }

        #[inline(always)]
        unsafe fn sqrt(self) -> Self {
            // SAFETY: as said above.
            unsafe { Self([_mm256_sqrt_ps(self.0[0]), _mm256_sqrt_ps(self.0[1])]) }
        }

        #[inline(always)]
        unsafe fn abs(self) -> Self {
            // SAFETY: as said above.
            unsafe {
                let sign = _mm256_set1_ps(-0.0);
                Self([_mm256_andnot_ps(sign, self.0[0]), _mm256_andnot_ps(sign, self.0[1])])
            }
        }

        #[inline(always)]
        unsafe fn negate(self) -> Self {
            // SAFETY: as said above.
            unsafe {
                let sign = _mm256_set1_ps(-0.0);
                Self([_mm256_xor_ps(sign, self.0[0]), _mm256_xor_ps(sign, self.0[1])])
            }
        }

        #[inline(always)]
        unsafe fn copysign(self, sign: Self) -> Self {
            // SAFETY: as said above.
            unsafe {
                let bit = _mm256_set1_ps(-0.0);
                let low = _mm256_or_ps(_mm256_andnot_ps(bit, self.0[0]), _mm256_and_ps(bit, sign.0[0]));
                let high = _mm256_or_ps(_mm256_andnot_ps(bit, self.0[1]), _mm256_and_ps(bit, sign.0[1]));
                Self([low, high])
            }
        }

        #[inline(always)]
        unsafe fn select_less(self, bound: Self, then: Self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe {
                let low = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0[0], bound.0[0]);
                let high = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0[1], bound.0[1]);
                let low = _mm256_blendv_ps(other.0[0], then.0[0], low);
                Self([low, _mm256_blendv_ps(other.0[1], then.0[1], high)])
            }
        }

        #[inline(always)]
        unsafe fn select_equal(self, equal: Self, then: Self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe {
                let low = _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0[0], equal.0[0]);
                let high = _mm256_cmp_ps::<_CMP_EQ_OQ>(self.0[1], equal.0[1]);
                let low = _mm256_blendv_ps(other.0[0], then.0[0], low);
                Self([low, _mm256_blendv_ps(other.0[1], then.0[1], high)])
            }
        }

        #[inline(always)]
        unsafe fn floor(self) -> Self {
            // SAFETY: as said above.
            unsafe { Self([_mm256_floor_ps(self.0[0]), _mm256_floor_ps(self.0[1])]) }
        }

        #[inline(always)]
        unsafe fn split(self) -> (Self, Self) {
            // SAFETY: as said above.
            unsafe {
                let [mut mantissas, mut exponents] = [self.0; 2];
                let root = _mm256_set1_epi32(std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32);
                for (mantissa, exponent) in mantissas.iter_mut().zip(&mut exponents) {
                    let above = _mm256_sub_epi32(_mm256_castps_si256(*mantissa), root);
                    let rest = _mm256_and_si256(above, _mm256_set1_epi32(0x7f_ffff));
                    *mantissa = _mm256_castsi256_ps(_mm256_add_epi32(rest, root));
                    *exponent = _mm256_cvtepi32_ps(_mm256_srai_epi32::<23>(above));
                }
                (Self(mantissas), Self(exponents))
            }
        }

        #[inline(always)]
        unsafe fn tree(self) -> f32 {
            // SAFETY: as said above.
            unsafe {
                let four = four(self);
                let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
                _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
            }
        }

        #[inline(always)]
        unsafe fn store_trees(sums: [Self; 4], to: *mut f32) {
            // SAFETY: as said above.
            unsafe {
                let [a, b, c, d] = [four(sums[0]), four(sums[1]), four(sums[2]), four(sums[3])];
                let left = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
                let right = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));
                let even = _mm_shuffle_ps::<0b10_00_10_00>(left, right);
                _mm_storeu_ps(to, _mm_add_ps(even, _mm_shuffle_ps::<0b11_01_11_01>(left, right)));
            }
        }

        #[inline(always)]
        unsafe fn prefetch(from: *const u8) {
            // SAFETY: a prefetch cannot fault.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
        }
    }

    /// Quadruples are multiplied as two pairs of 16-bit integers, the even ones and the odd ones, whose products no sum of two
    /// overflows.
    impl Dot<Bytes> for Avx2 {
        type Sums = [__m256i; 2];
        type Line = [[__m256i; 2]; 2];
        const ROWS: usize = 4;
        const WIDEST: usize = 1;

        #[inline(always)]
        unsafe fn none() -> [__m256i; 2] {
            // SAFETY: as said above.
            unsafe { [_mm256_setzero_si256(); 2] }
        }

        #[inline(always)]
        unsafe fn line(from: *const u8) -> [[__m256i; 2]; 2] {
            // SAFETY: as said above.
            unsafe {
                let [low, high] = [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())];
                let even = [_mm256_slli_epi16::<8>(low), _mm256_slli_epi16::<8>(high)];
                [
                    [_mm256_srai_epi16::<8>(even[0]), _mm256_srai_epi16::<8>(even[1])],
                    [_mm256_srai_epi16::<8>(low), _mm256_srai_epi16::<8>(high)],
                ]
            }
        }

        #[inline(always)]
        unsafe fn dot(sums: [__m256i; 2], line: &[[__m256i; 2]; 2], word: *const u8) -> [__m256i; 2] {
            // SAFETY: as said above.
            unsafe {
                let inputs = _mm256_set1_epi32(word.cast::<i32>().read_unaligned());
                let even = _mm256_and_si256(inputs, _mm256_set1_epi16(0xff));
                let odd = _mm256_srli_epi16::<8>(inputs);
                let low = _mm256_add_epi32(_mm256_madd_epi16(even, line[0][0]), _mm256_madd_epi16(odd, line[1][0]));
                let high = _mm256_add_epi32(_mm256_madd_epi16(even, line[0][1]), _mm256_madd_epi16(odd, line[1][1]));
                [_mm256_add_epi32(sums[0], low), _mm256_add_epi32(sums[1], high)]
            }
        }

        #[inline(always)]
        unsafe fn floats(sums: [__m256i; 2], _uppers: Option<[__m256i; 2]>, zero: i32, totals: *const i32) -> Self {
            // SAFETY: as said above.
            unsafe {
                let zero = _mm256_set1_epi32(zero);
                let low = _mm256_mullo_epi32(zero, _mm256_loadu_si256(totals.cast()));
                let high = _mm256_mullo_epi32(zero, _mm256_loadu_si256(totals.add(8).cast()));
                Self([
                    _mm256_cvtepi32_ps(_mm256_sub_epi32(sums[0], low)),
                    _mm256_cvtepi32_ps(_mm256_sub_epi32(sums[1], high)),
                ])
            }
        }
    }

    impl Dot<Words> for Avx2 {
        type Sums = [__m256i; 2];
        type Line = [__m256i; 2];
        const ROWS: usize = tile::ROWS;
        const WIDEST: usize = 1;

        #[inline(always)]
        unsafe fn none() -> [__m256i; 2] {
            // SAFETY: as said above.
            unsafe { [_mm256_setzero_si256(); 2] }
        }

        #[inline(always)]
        unsafe fn line(from: *const u8) -> [__m256i; 2] {
            // SAFETY: as said above.
            unsafe { [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())] }
        }

        #[inline(always)]
        unsafe fn dot(sums: [__m256i; 2], line: &[__m256i; 2], word: *const u8) -> [__m256i; 2] {
            // SAFETY: as said above.
            unsafe {
                let inputs = _mm256_set1_epi32(word.cast::<i32>().read_unaligned());
                let low = _mm256_add_epi32(sums[0], _mm256_madd_epi16(inputs, line[0]));
                [low, _mm256_add_epi32(sums[1], _mm256_madd_epi16(inputs, line[1]))]
            }
        }

        #[inline(always)]
        unsafe fn carry(sums: [__m256i; 2], uppers: [__m256i; 2]) -> [[__m256i; 2]; 2] {
            // SAFETY: as said above.
            unsafe {
                let kept = _mm256_set1_epi32((1 << dots::CARRIED) - 1);
                let lower = [_mm256_and_si256(sums[0], kept), _mm256_and_si256(sums[1], kept)];
                let above = _mm256_srai_epi32::<{ dots::CARRIED as i32 }>;
                let first = _mm256_add_epi32(uppers[0], above(sums[0]));
                [lower, [first, _mm256_add_epi32(uppers[1], above(sums[1]))]]
            }
        }

        #[inline(always)]
        unsafe fn floats(sums: [__m256i; 2], uppers: Option<[__m256i; 2]>, _zero: i32, _totals: *const i32) -> Self {
            // SAFETY: as said above.
            unsafe {
                let Some(uppers) = uppers else {
                    return Self([_mm256_cvtepi32_ps(sums[0]), _mm256_cvtepi32_ps(sums[1])]);
                };
                let [lower, upper] = <Self as Dot<Words>>::carry(sums, uppers);
                let lower = Self([_mm256_cvtepi32_ps(lower[0]), _mm256_cvtepi32_ps(lower[1])]);
                let upper = Self([_mm256_cvtepi32_ps(upper[0]), _mm256_cvtepi32_ps(upper[1])]);
                upper.fma(Self::splat((1 << dots::CARRIED) as f32), lower)
            }
        }
    }

    impl Dot<Pairs> for Avx2 {
        type Sums = Self;
        type Line = [Self; 2];
        const ROWS: usize = 3;
        const WIDEST: usize = 1;

        #[inline(always)]
        unsafe fn none() -> Self {
            // SAFETY: as said above.
            unsafe { Self::splat(0.0) }
        }

        #[inline(always)]
        unsafe fn line(from: *const u8) -> [Self; 2] {
            // SAFETY: as said above.
            unsafe {
                let second = _mm256_set1_epi32(0xffff_0000_u32 as i32);
                let [low, high] = [_mm256_loadu_si256(from.cast()), _mm256_loadu_si256(from.add(32).cast())];
                let lanes = |low, high| Self([_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)]);
                let first = lanes(_mm256_slli_epi32::<16>(low), _mm256_slli_epi32::<16>(high));
                [first, lanes(_mm256_and_si256(low, second), _mm256_and_si256(high, second))]
            }
        }

        #[inline(always)]
        unsafe fn dot(sums: Self, line: &[Self; 2], word: *const u8) -> Self {
            // SAFETY: as said above.
            unsafe {
                let [first, second] = dots::pair(word);
                Self::splat(second).fma(line[1], Self::splat(first).fma(line[0], sums))
            }
        }

        #[inline(always)]
        unsafe fn floats(sums: Self, _uppers: Option<Self>, _zero: i32, _totals: *const i32) -> Self {
            sums
        }
    }
}
