//! AVX-512 with VNNI, one level: Intel since Cascade Lake, AMD since Zen 4.
//!
//! Register budget of the 6x64 dense tile: 24 accumulators, 4 of weights, 1 broadcast input, of 32. From 28 accumulators on
//! the compiler spills.

#[cfg(not(target_arch = "x86_64"))]
pub(super) use absent::{FUNCTIONS, WITH_BF16, is_available, is_available_with_bf16};
#[cfg(target_arch = "x86_64")]
pub(super) use present::{Avx512, FUNCTIONS, WITH_BF16, is_available, is_available_with_bf16};

#[cfg(not(target_arch = "x86_64"))]
mod absent {
    use crate::kernels::list::Functions;
    use crate::kernels::scalar;

    pub const FUNCTIONS: Functions = Functions { name: "avx512", ..scalar::FUNCTIONS };
    pub const WITH_BF16: Functions = Functions { name: "avx512bf16", ..scalar::FUNCTIONS };

    pub fn is_available() -> bool {
        false
    }

    pub fn is_available_with_bf16() -> bool {
        false
    }
}

#[cfg(target_arch = "x86_64")]
mod present {
    use crate::kernels::Dense;
    use crate::kernels::avx2::halves;
    use crate::kernels::dots::{self, Bytes, Dot, Few, FusedPairs, Kind, Pairs, Reach, Words};
    use crate::kernels::lanes::Lanes;
    use crate::kernels::list::{Functions, kernel_set};
    use crate::kernels::tile::{self, each_row};
    use std::arch::asm;
    use std::arch::x86_64::*;
    use std::mem::transmute;

    kernel_set! {
        "avx512", Avx512, "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni",
        ["6x64", "6x64", "6x32", "6x64", "6x64"]
    }

    pub fn is_available() -> bool {
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
    }

    /// Made only by functions of this set and of those beyond it: holding one proves the CPU.
    #[derive(Clone, Copy)]
    pub struct Avx512(__m512);

    /// The two upper steps of the tree.
    #[inline(always)]
    unsafe fn four(sums: Avx512) -> __m128 {
        // SAFETY: the holder of lanes has the CPU.
        unsafe {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(sums.0), _mm512_extractf32x8_ps::<1>(sums.0));
            _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight))
        }
    }

    /// The first `count` lanes.
    #[inline(always)]
    fn mask(count: usize) -> __mmask16 {
        ((1u32 << count) - 1) as __mmask16
    }

    // SAFETY of every block below: the CPU has the set, and pointers are good for the lanes that the trait names.
    impl Lanes for Avx512 {
        const WIDEST: usize = 4;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_set1_ps(value)) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_loadu_ps(from)) }
        }

        #[inline(always)]
        unsafe fn load_part(from: *const f32, count: usize) -> Self {
            // SAFETY: as said above; masked lanes are not read.
            unsafe { Self(_mm512_maskz_loadu_ps(mask(count), from)) }
        }

        #[inline(always)]
        unsafe fn load_f16(from: *const u16) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
        }

        #[inline(always)]
        unsafe fn load_bf16(from: *const u16) -> Self {
            // SAFETY: as said above.
            unsafe {
                let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)))
            }
        }

        #[inline(always)]
        unsafe fn load_int8(from: *const i8) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())))) }
        }

        #[inline(always)]
        unsafe fn load_int4(from: *const u8) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(halves(_mm_loadl_epi64(from.cast()))))) }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as said above.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn store_part(self, to: *mut f32, count: usize) {
            // SAFETY: as said above; masked lanes are not written.
            unsafe { _mm512_mask_storeu_ps(to, mask(count), self.0) }
        }

        #[inline(always)]
        unsafe fn store_bytes(self, to: *mut u8) {
            // SAFETY: as said above.
            unsafe {
                let integers = _mm512_max_epi32(_mm512_cvtps_epi32(self.0), _mm512_setzero_si512());
                _mm_storeu_si128(to.cast(), _mm512_cvtusepi32_epi8(integers));
            }
        }

        #[inline(always)]
        unsafe fn store_words(self, to: *mut i16) {
            // SAFETY: as said above.
            unsafe { _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(self.0))) }
        }

        #[inline(always)]
        unsafe fn store_planes(self, low: *mut u8, high: *mut u8) {
            // SAFETY: as said above.
            unsafe {
                let words = _mm512_cvtps_epi32(self.0);
                _mm_storeu_si128(low.cast(), _mm512_cvtepi32_epi8(words));
                _mm_storeu_si128(high.cast(), _mm512_cvtepi32_epi8(_mm512_srai_epi32::<8>(words)));
            }
        }

        #[inline(always)]
        unsafe fn store_bf16(self, to: *mut u16) {
            // SAFETY: as said above.
            unsafe {
                let bits = _mm512_castps_si512(self.0);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
                let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
                let rounded = _mm512_mask_mov_epi32(rounded, is_nan, _mm512_set1_epi32(0x7fc0_0000));
                _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded)));
            }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_add_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_sub_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_mul_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_div_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn fma(self, factor: Self, addend: Self) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_fmadd_ps(self.0, factor.0, addend.0)) }
        }

        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_max_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_min_ps(self.0, other.0)) }
        }

        #[inline(always)]
        unsafe fn round(self) -> Self {
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            // SAFETY: as said above.
            unsafe { Self(_mm512_roundscale_ps::<NEAREST>(self.0)) }
        }

        #[inline(always)]
        unsafe fn power_of_two(self) -> Self {
            // SAFETY: as said above.
            unsafe {
                let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent)))
            }
        }

        #[inline(always)]
        unsafe fn scaled(self, n: Self) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_scalef_ps(self.0, n.0)) }
        }

        #[inline(always)]
        unsafe fn sqrt(self) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_sqrt_ps(self.0)) }
        }

        #[inline(always)]
        unsafe fn abs(self) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_andnot_ps(_mm512_set1_ps(-0.0), self.0)) }
        }

        #[inline(always)]
        unsafe fn negate(self) -> Self {
            // SAFETY: as said above.
            unsafe { Self(_mm512_xor_ps(_mm512_set1_ps(-0.0), self.0)) }
        }

        #[inline(always)]
        unsafe fn copysign(self, sign: Self) -> Self {
            // SAFETY: as said above.
            unsafe {
                let bit = _mm512_set1_ps(-0.0);
                Self(_mm512_or_ps(_mm512_andnot_ps(bit, self.0), _mm512_and_ps(bit, sign.0)))
            }
        }

        #[inline(always)]
        unsafe fn select_less(self, bound: Self, then: Self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe {
                // The mask of what is kept: where the others are zero, it masks the instruction that made it.
                let is_other = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(self.0, bound.0);
                Self(_mm512_mask_blend_ps(is_other, then.0, other.0))
            }
        }

        #[inline(always)]
        unsafe fn select_equal(self, equal: Self, then: Self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe {
                let is_equal = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, equal.0);
                Self(_mm512_mask_blend_ps(is_equal, other.0, then.0))
            }
        }

        #[inline(always)]
        unsafe fn floor(self) -> Self {
            const DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
            // SAFETY: as said above.
            unsafe { Self(_mm512_roundscale_ps::<DOWN>(self.0)) }
        }

        #[inline(always)]
        unsafe fn split(self) -> (Self, Self) {
            // SAFETY: as said above.
            unsafe {
                let root = _mm512_set1_epi32(std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32);
                let above = _mm512_sub_epi32(_mm512_castps_si512(self.0), root);
                let rest = _mm512_and_si512(above, _mm512_set1_epi32(0x7f_ffff));
                let mantissa = _mm512_castsi512_ps(_mm512_add_epi32(rest, root));
                (Self(mantissa), Self(_mm512_cvtepi32_ps(_mm512_srai_epi32::<23>(above))))
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
        unsafe fn largest(self) -> f32 {
            // SAFETY: as said above.
            unsafe { _mm512_reduce_max_ps(self.0) }
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

    /// Sixteen words of inputs, all the same.
    #[inline(always)]
    unsafe fn repeat(word: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_set1_epi32(word.cast::<i32>().read_unaligned()) }
    }

    impl Dot<Bytes> for Avx512 {
        type Sums = __m512i;
        type Line = __m512i;
        const ROWS: usize = tile::ROWS;
        const WIDEST: usize = 4;

        #[inline(always)]
        unsafe fn none() -> __m512i {
            // SAFETY: as said above.
            unsafe { _mm512_setzero_si512() }
        }

        #[inline(always)]
        unsafe fn line(from: *const u8) -> __m512i {
            // SAFETY: as said above.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }

        #[inline(always)]
        unsafe fn dot(sums: __m512i, line: &__m512i, word: *const u8) -> __m512i {
            // SAFETY: as said above.
            unsafe { _mm512_dpbusd_epi32(sums, repeat(word), *line) }
        }

        #[inline(always)]
        unsafe fn floats(sums: __m512i, _uppers: Option<__m512i>, zero: i32, totals: *const i32) -> Self {
            // SAFETY: as said above.
            unsafe {
                if zero == 0 {
                    return Self(_mm512_cvtepi32_ps(sums));
                }
                let shift = _mm512_mullo_epi32(_mm512_set1_epi32(zero), _mm512_loadu_si512(totals.cast()));
                Self(_mm512_cvtepi32_ps(_mm512_sub_epi32(sums, shift)))
            }
        }
    }

    /// `vpdpwssd`, which the compiler takes apart into a product and a sum if it is told what it is.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn dot_of_words(mut sums: __m512i, line: __m512i, inputs: __m512i) -> __m512i {
        // SAFETY: the instruction reads and writes these registers alone.
        unsafe {
            asm!("vpdpwssd {0}, {1}, {2}", inout(zmm_reg) sums, in(zmm_reg) line, in(zmm_reg) inputs,
                options(pure, nomem, nostack, preserves_flags));
        }
        sums
    }

    impl Dot<Words> for Avx512 {
        type Sums = __m512i;
        type Line = __m512i;
        const ROWS: usize = tile::ROWS;
        const WIDEST: usize = 4;

        #[inline(always)]
        unsafe fn none() -> __m512i {
            // SAFETY: as said above.
            unsafe { _mm512_setzero_si512() }
        }

        #[inline(always)]
        unsafe fn line(from: *const u8) -> __m512i {
            // SAFETY: as said above.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }

        #[inline(always)]
        unsafe fn dot(sums: __m512i, line: &__m512i, word: *const u8) -> __m512i {
            // SAFETY: as said above.
            unsafe { dot_of_words(sums, *line, repeat(word)) }
        }

        #[inline(always)]
        unsafe fn carry(sums: __m512i, uppers: __m512i) -> [__m512i; 2] {
            // SAFETY: as said above.
            unsafe {
                // A product of the upper half by 1 and of the lower one by 0.
                let above = _mm512_set1_epi32(1 << dots::CARRIED);
                let kept = _mm512_set1_epi32((1 << dots::CARRIED) - 1);
                [_mm512_and_si512(sums, kept), dot_of_words(uppers, sums, above)]
            }
        }

        #[inline(always)]
        unsafe fn floats(sums: __m512i, uppers: Option<__m512i>, _zero: i32, _totals: *const i32) -> Self {
            // SAFETY: as said above.
            unsafe {
                let Some(uppers) = uppers else { return Self(_mm512_cvtepi32_ps(sums)) };
                let [lower, upper] = <Self as Dot<Words>>::carry(sums, uppers);
                let carried = Self::splat((1 << dots::CARRIED) as f32);
                Self(_mm512_cvtepi32_ps(upper)).fma(carried, Self(_mm512_cvtepi32_ps(lower)))
            }
        }
    }

    impl Dot<Pairs> for Avx512 {
        type Sums = Self;
        type Line = [Self; 2];
        // One more, and registers are spilled.
        const ROWS: usize = 5;
        const WIDEST: usize = 2;

        #[inline(always)]
        unsafe fn none() -> Self {
            // SAFETY: as said above.
            unsafe { Self::splat(0.0) }
        }

        #[inline(always)]
        unsafe fn line(from: *const u8) -> [Self; 2] {
            // SAFETY: as said above.
            unsafe {
                let line = _mm512_loadu_si512(from.cast());
                let second = _mm512_and_si512(line, _mm512_set1_epi32(0xffff_0000_u32 as i32));
                let first = _mm512_slli_epi32::<16>(line);
                [Self(_mm512_castsi512_ps(first)), Self(_mm512_castsi512_ps(second))]
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

    impl Kind for FusedPairs {
        const SIZE: usize = Pairs::SIZE;

        #[inline(always)]
        unsafe fn quantize<L: Lanes, const R: usize>(rows: Few, _reach: Reach, scales: *mut f32, zeros: *mut i32) {
            // SAFETY: only `dense` of fused pairs comes here, and its CPU has the instruction; masked lanes are not read, and 512
            // bits are 512 bits.
            unsafe {
                let mut column = 0;
                while column < rows.width.next_multiple_of(64) {
                    let count = rows.width.saturating_sub(column);
                    let (first, second) = (mask(count.min(16)), mask(count.saturating_sub(16).min(16)));
                    each_row!(r of R: {
                        let from = rows.input(r, 0).wrapping_add(column);
                        let first = _mm512_maskz_loadu_ps(first, from);
                        let second = _mm512_maskz_loadu_ps(second, from.wrapping_add(16));
                        let words = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
                        _mm512_storeu_si512(rows.word(r, 2 * column).cast(), words);
                    });
                    column += 32;
                }
                each_row!(r of R: {
                    *scales.add(r) = 1.0;
                    *zeros.add(r) = 0;
                });
            }
        }
    }

    impl Dot<FusedPairs> for Avx512 {
        type Sums = Self;
        type Line = __m512i;
        const ROWS: usize = tile::ROWS;
        const WIDEST: usize = 4;

        #[inline(always)]
        unsafe fn none() -> Self {
            // SAFETY: as said above.
            unsafe { Self::splat(0.0) }
        }

        #[inline(always)]
        unsafe fn line(from: *const u8) -> __m512i {
            // SAFETY: as said above.
            unsafe { _mm512_loadu_si512(from.cast()) }
        }

        #[cfg(debug_assertions)]
        #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
        #[inline(never)]
        unsafe fn apart_of<J: crate::kernels::lanes::Job>(job: J) {
            // SAFETY: the caller's promise.
            unsafe { job.run() }
        }

        #[inline(always)]
        unsafe fn dot(sums: Self, line: &__m512i, word: *const u8) -> Self {
            // SAFETY: only `fused_pairs` comes here, and its CPU has the instruction; 512 bits are 512 bits.
            unsafe {
                let inputs = transmute::<__m512i, __m512bh>(repeat(word));
                Self(_mm512_dpbf16_ps(sums.0, inputs, transmute::<__m512i, __m512bh>(*line)))
            }
        }

        #[inline(always)]
        unsafe fn floats(sums: Self, _uppers: Option<Self>, _zero: i32, _totals: *const i32) -> Self {
            sums
        }
    }

    #[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512bf16")]
    fn fused_pairs(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
        // SAFETY: this function is called through `Functions`, whose callers checked the CPU and the arguments.
        unsafe { dots::dense::<Avx512, FusedPairs, false>(memory, rows, call) }
    }

    /// The set where the CPU multiplies pairs of bf16 too.
    pub const WITH_BF16: Functions = Functions { name: "avx512bf16", pairs: fused_pairs, ..FUNCTIONS };

    pub fn is_available_with_bf16() -> bool {
        is_available() && is_x86_feature_detected!("avx512bf16")
    }
}
