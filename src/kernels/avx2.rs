//! AVX2 with FMA and F16C, one level: Intel since Haswell, AMD since Zen.
//!
//! Register budget of the 6x16 dense tile: 12 accumulators, 2 of weights, 1 broadcast input, of 16.

#[cfg(not(target_arch = "x86_64"))]
pub(super) use absent::{FUNCTIONS, is_available};
#[cfg(target_arch = "x86_64")]
pub(super) use present::{FUNCTIONS, is_available};

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
    use crate::kernels::lanes::Lanes;
    use crate::kernels::list::kernel_set;
    use std::arch::x86_64::*;

    kernel_set! { "avx2", Avx2, "avx2,fma,f16c", "6x16" }

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
}
