//! NEON, which every 64-bit Arm has.
//!
//! Register budget of the 6x16 dense tile: 24 accumulators, 4 of weights, 1 broadcast input, of 32.

#[cfg(not(target_arch = "aarch64"))]
pub(super) use absent::{FUNCTIONS, is_available};
#[cfg(target_arch = "aarch64")]
pub(super) use present::{FUNCTIONS, is_available};

#[cfg(not(target_arch = "aarch64"))]
mod absent {
    use crate::kernels::list::Functions;
    use crate::kernels::scalar;

    pub const FUNCTIONS: Functions = Functions { name: "neon", ..scalar::FUNCTIONS };

    pub fn is_available() -> bool {
        false
    }
}

#[cfg(target_arch = "aarch64")]
mod present {
    use crate::kernels::dots::{self, Bytes, Dot, Pairs, Words};
    use crate::kernels::lanes::Lanes;
    use crate::kernels::list::kernel_set;
    use crate::kernels::tile;
    use std::arch::aarch64::*;
    use std::arch::asm;
    use std::array::from_fn;

    kernel_set! { "neon", Neon, "neon", ["6x16", "6x16", "4x16", "6x16", "4x16"] }

    pub fn is_available() -> bool {
        std::arch::is_aarch64_feature_detected!("neon")
    }

    /// Lanes 0 to 3, 4 to 7, 8 to 11 and 12 to 15.
    #[derive(Clone, Copy)]
    struct Neon([float32x4_t; 4]);

    /// The two upper steps of the tree.
    #[inline(always)]
    fn four(sums: Neon) -> float32x4_t {
        let [a, b, c, d] = sums.0;
        // SAFETY: every CPU of this architecture has the set.
        unsafe { vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d)) }
    }

    /// To the nearest integers, ties to even, held within 16 bits.
    #[inline(always)]
    fn words(lanes: Neon) -> [int16x8_t; 2] {
        // SAFETY: every CPU of this architecture has the set.
        let [a, b, c, d] = lanes.0.map(|four| unsafe { vqmovn_s32(vcvtnq_s32_f32(four)) });
        // SAFETY: as above.
        unsafe { [vcombine_s16(a, b), vcombine_s16(c, d)] }
    }

    /// Signed bytes as words.
    #[inline(always)]
    fn extended(bytes: int8x16_t) -> [int16x8_t; 2] {
        // SAFETY: every CPU of this architecture has the set.
        unsafe { [vmovl_s8(vget_low_s8(bytes)), vmovl_high_s8(bytes)] }
    }

    /// Signed bytes as f32.
    #[inline(always)]
    fn widened(bytes: int8x16_t) -> Neon {
        let [low, high] = extended(bytes);
        // SAFETY: every CPU of this architecture has the set.
        unsafe {
            let fours = [
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            ];
            Neon(fours.map(|four| vcvtq_f32_s32(four)))
        }
    }

    /// `sums` plus 16 `weights` times lane `K` of `inputs`.
    #[inline(always)]
    fn multiplied<const K: i32>(sums: [int32x4_t; 4], weights: [int16x8_t; 2], inputs: int16x4_t) -> [int32x4_t; 4] {
        let ([a, b, c, d], [low, high]) = (sums, weights);
        // SAFETY: every CPU of this architecture has the set.
        unsafe {
            [
                vmlal_lane_s16::<K>(a, vget_low_s16(low), inputs),
                vmlal_high_lane_s16::<K>(b, low, inputs),
                vmlal_lane_s16::<K>(c, vget_low_s16(high), inputs),
                vmlal_high_lane_s16::<K>(d, high, inputs),
            ]
        }
    }

    // SAFETY of every block below: every CPU of this architecture has the set, and pointers are good for the lanes that the
    // trait names.
    impl Lanes for Neon {
        const WIDEST: usize = 1;

        #[inline(always)]
        unsafe fn splat(value: f32) -> Self {
            // SAFETY: as said above.
            unsafe { Self([vdupq_n_f32(value); 4]) }
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as said above.
            unsafe { Self(from_fn(|four| vld1q_f32(from.add(4 * four)))) }
        }

        #[inline(always)]
        unsafe fn load_part(from: *const f32, count: usize) -> Self {
            let mut part = [0.0; 16];
            // SAFETY: as said above; no more than `count` lanes are read.
            unsafe {
                std::ptr::copy_nonoverlapping(from.cast::<u8>(), part.as_mut_ptr().cast(), count * size_of::<f32>());
                Self::load(part.as_ptr())
            }
        }

        #[inline(always)]
        unsafe fn load_f16(from: *const u16) -> Self {
            // SAFETY: as said above.
            unsafe { Self(from_fn(|four| vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.add(4 * four)))))) }
        }

        #[inline(always)]
        unsafe fn load_bf16(from: *const u16) -> Self {
            // SAFETY: as said above.
            unsafe { Self(from_fn(|four| vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.add(4 * four)))))) }
        }

        #[inline(always)]
        unsafe fn load_int8(from: *const i8) -> Self {
            // SAFETY: as said above.
            unsafe { widened(vld1q_s8(from)) }
        }

        #[inline(always)]
        unsafe fn load_int4(from: *const u8) -> Self {
            // SAFETY: as said above.
            unsafe {
                let bytes = vld1_u8(from);
                let [low, high] = [vand_u8(bytes, vdup_n_u8(15)), vshr_n_u8::<4>(bytes)];
                let halves = vreinterpretq_s8_u8(vcombine_u8(vzip1_u8(low, high), vzip2_u8(low, high)));
                let sign = vdupq_n_s8(8);
                widened(vsubq_s8(veorq_s8(halves, sign), sign))
            }
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            for (four, lanes) in self.0.into_iter().enumerate() {
                // SAFETY: as said above.
                unsafe { vst1q_f32(to.add(4 * four), lanes) }
            }
        }

        #[inline(always)]
        unsafe fn store_part(self, to: *mut f32, count: usize) {
            let mut part = [0.0; 16];
            // SAFETY: as said above; no more than `count` lanes are written.
            unsafe {
                self.store(part.as_mut_ptr());
                std::ptr::copy_nonoverlapping(part.as_ptr(), to, count);
            }
        }

        #[inline(always)]
        unsafe fn store_bytes(self, to: *mut u8) {
            let [low, high] = words(self);
            // SAFETY: as said above.
            unsafe { vst1q_u8(to, vcombine_u8(vqmovun_s16(low), vqmovun_s16(high))) }
        }

        #[inline(always)]
        unsafe fn store_words(self, to: *mut i16) {
            let [low, high] = words(self);
            // SAFETY: as said above.
            unsafe {
                vst1q_s16(to, low);
                vst1q_s16(to.add(8), high);
            }
        }

        #[inline(always)]
        unsafe fn store_bf16(self, to: *mut u16) {
            for (four, lanes) in self.0.into_iter().enumerate() {
                // SAFETY: as said above.
                unsafe {
                    let bits = vreinterpretq_u32_f32(lanes);
                    let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
                    let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
                    let rounded = vbslq_u32(vceqq_f32(lanes, lanes), rounded, vdupq_n_u32(0x7fc0_0000));
                    vst1_u16(to.add(4 * four), vshrn_n_u32::<16>(rounded));
                }
            }
        }

        #[inline(always)]
        unsafe fn add(self, other: Self) -> Self {
            // SAFETY: as said above.
            Self(from_fn(|four| unsafe { vaddq_f32(self.0[four], other.0[four]) }))
        }

        #[inline(always)]
        unsafe fn sub(self, other: Self) -> Self {
            // SAFETY: as said above.
            Self(from_fn(|four| unsafe { vsubq_f32(self.0[four], other.0[four]) }))
        }

        #[inline(always)]
        unsafe fn mul(self, other: Self) -> Self {
            // SAFETY: as said above.
            Self(from_fn(|four| unsafe { vmulq_f32(self.0[four], other.0[four]) }))
        }

        #[inline(always)]
        unsafe fn div(self, other: Self) -> Self {
            // SAFETY: as said above.
            Self(from_fn(|four| unsafe { vdivq_f32(self.0[four], other.0[four]) }))
        }

        #[inline(always)]
        unsafe fn fma(self, factor: Self, addend: Self) -> Self {
            // SAFETY: as said above.
            Self(from_fn(|four| unsafe { vfmaq_f32(addend.0[four], self.0[four], factor.0[four]) }))
        }

        #[inline(always)]
        unsafe fn max(self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe { other.select_less(self, self, other) }
        }

        #[inline(always)]
        unsafe fn min(self, other: Self) -> Self {
            // SAFETY: as said above.
            unsafe { self.select_less(other, self, other) }
        }

        #[inline(always)]
        unsafe fn round(self) -> Self {
            // SAFETY: as said above.
            Self(self.0.map(|four| unsafe { vrndnq_f32(four) }))
        }

        #[inline(always)]
        unsafe fn power_of_two(self) -> Self {
            // SAFETY: as said above.
            Self(self.0.map(|four| unsafe {
                let exponent = vaddq_s32(vcvtnq_s32_f32(four), vdupq_n_s32(127));
                vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
            }))
        }

        #[inline(always)]
        unsafe fn abs(self) -> Self {
            // SAFETY: as said above.
            Self(self.0.map(|four| unsafe { vabsq_f32(four) }))
        }

        #[inline(always)]
        unsafe fn sqrt(self) -> Self {
            // SAFETY: as said above.
            Self(self.0.map(|four| unsafe { vsqrtq_f32(four) }))
        }

        #[inline(always)]
        unsafe fn negate(self) -> Self {
            // SAFETY: as said above.
            Self(self.0.map(|four| unsafe { vnegq_f32(four) }))
        }

        #[inline(always)]
        unsafe fn copysign(self, sign: Self) -> Self {
            // SAFETY: as said above.
            Self(from_fn(|four| unsafe { vbslq_f32(vdupq_n_u32(1 << 31), sign.0[four], self.0[four]) }))
        }

        #[inline(always)]
        unsafe fn select_less(self, bound: Self, then: Self, other: Self) -> Self {
            // SAFETY: as said above.
            Self(from_fn(|four| unsafe {
                vbslq_f32(vcltq_f32(self.0[four], bound.0[four]), then.0[four], other.0[four])
            }))
        }

        #[inline(always)]
        unsafe fn select_equal(self, equal: Self, then: Self, other: Self) -> Self {
            // SAFETY: as said above.
            Self(from_fn(|four| unsafe {
                vbslq_f32(vceqq_f32(self.0[four], equal.0[four]), then.0[four], other.0[four])
            }))
        }

        #[inline(always)]
        unsafe fn floor(self) -> Self {
            // SAFETY: as said above.
            Self(self.0.map(|four| unsafe { vrndmq_f32(four) }))
        }

        #[inline(always)]
        unsafe fn split(self) -> (Self, Self) {
            // SAFETY: as said above.
            unsafe {
                let root = vdupq_n_s32(std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32);
                let above = self.0.map(|four| vsubq_s32(vreinterpretq_s32_f32(four), root));
                let rest = above.map(|above| vandq_s32(above, vdupq_n_s32(0x7f_ffff)));
                let mantissa = rest.map(|rest| vreinterpretq_f32_s32(vaddq_s32(rest, root)));
                (Self(mantissa), Self(above.map(|above| vcvtq_f32_s32(vshrq_n_s32::<23>(above)))))
            }
        }

        #[inline(always)]
        unsafe fn tree(self) -> f32 {
            let four = four(self);
            // SAFETY: as said above.
            unsafe { vpadds_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four))) }
        }

        #[inline(always)]
        unsafe fn store_trees(sums: [Self; 4], to: *mut f32) {
            // SAFETY: as said above.
            unsafe {
                let twos = sums.map(|sums| {
                    let four = four(sums);
                    vadd_f32(vget_low_f32(four), vget_high_f32(four))
                });
                vst1q_f32(to, vpaddq_f32(vcombine_f32(twos[0], twos[1]), vcombine_f32(twos[2], twos[3])));
            }
        }

        #[inline(always)]
        unsafe fn prefetch(from: *const u8) {
            // SAFETY: a prefetch cannot fault.
            unsafe {
                asm!("prfm pldl1keep, [{from}]", from = in(reg) from, options(nostack, preserves_flags, readonly))
            }
        }
    }

    impl Dot<Bytes> for Neon {
        type Sums = [int32x4_t; 4];
        /// The first, second, third and fourth weights of the 16 outputs.
        type Line = [[int16x8_t; 2]; 4];
        const ROWS: usize = 4;
        const WIDEST: usize = 1;

        #[inline(always)]
        unsafe fn none() -> Self::Sums {
            // SAFETY: as said above.
            unsafe { [vdupq_n_s32(0); 4] }
        }

        #[inline(always)]
        unsafe fn line(from: *const u8) -> Self::Line {
            // SAFETY: as said above.
            let int8x16x4_t(a, b, c, d) = unsafe { vld4q_s8(from.cast()) };
            [extended(a), extended(b), extended(c), extended(d)]
        }

        #[inline(always)]
        unsafe fn dot(sums: Self::Sums, line: &Self::Line, word: *const u8) -> Self::Sums {
            // SAFETY: as said above.
            let inputs = unsafe {
                let bytes = vreinterpret_u8_u32(vdup_n_u32(word.cast::<u32>().read_unaligned()));
                vreinterpret_s16_u16(vget_low_u16(vmovl_u8(bytes)))
            };
            let sums = multiplied::<0>(sums, line[0], inputs);
            let sums = multiplied::<1>(sums, line[1], inputs);
            let sums = multiplied::<2>(sums, line[2], inputs);
            multiplied::<3>(sums, line[3], inputs)
        }

        #[inline(always)]
        unsafe fn floats(sums: Self::Sums, _uppers: Option<Self::Sums>, zero: i32, totals: *const i32) -> Self {
            // SAFETY: as said above.
            Self(from_fn(|four| unsafe {
                vcvtq_f32_s32(vmlsq_s32(sums[four], vld1q_s32(totals.add(4 * four)), vdupq_n_s32(zero)))
            }))
        }
    }

    impl Dot<Words> for Neon {
        type Sums = [int32x4_t; 4];
        /// The first and the second weights of the 16 outputs.
        type Line = [[int16x8_t; 2]; 2];
        const ROWS: usize = tile::ROWS;
        const WIDEST: usize = 1;

        #[inline(always)]
        unsafe fn none() -> Self::Sums {
            // SAFETY: as said above.
            unsafe { [vdupq_n_s32(0); 4] }
        }

        #[inline(always)]
        unsafe fn line(from: *const u8) -> Self::Line {
            // SAFETY: as said above.
            unsafe {
                let [low, high] = [vld2q_s16(from.cast()), vld2q_s16(from.add(32).cast())];
                [[low.0, high.0], [low.1, high.1]]
            }
        }

        #[inline(always)]
        unsafe fn dot(sums: Self::Sums, line: &Self::Line, word: *const u8) -> Self::Sums {
            // SAFETY: as said above.
            let inputs = unsafe { vreinterpret_s16_u32(vdup_n_u32(word.cast::<u32>().read_unaligned())) };
            multiplied::<1>(multiplied::<0>(sums, line[0], inputs), line[1], inputs)
        }

        #[inline(always)]
        unsafe fn carry(sums: Self::Sums, uppers: Self::Sums) -> [Self::Sums; 2] {
            const ABOVE: i32 = dots::CARRIED as i32;
            // SAFETY: as said above.
            unsafe {
                let lower = sums.map(|sums| vandq_s32(sums, vdupq_n_s32((1 << ABOVE) - 1)));
                [lower, from_fn(|four| vsraq_n_s32::<ABOVE>(uppers[four], sums[four]))]
            }
        }

        #[inline(always)]
        unsafe fn floats(sums: Self::Sums, uppers: Option<Self::Sums>, _zero: i32, _totals: *const i32) -> Self {
            // SAFETY: as said above.
            unsafe {
                let Some(uppers) = uppers else { return Self(sums.map(|sums| vcvtq_f32_s32(sums))) };
                let [lower, upper] = <Self as Dot<Words>>::carry(sums, uppers);
                let [lower, upper] = [lower, upper].map(|sums| Self(sums.map(|sums| vcvtq_f32_s32(sums))));
                upper.fma(Self::splat((1 << dots::CARRIED) as f32), lower)
            }
        }
    }

    impl Dot<Pairs> for Neon {
        type Sums = Self;
        type Line = [Self; 2];
        const ROWS: usize = 4;
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
                let pairs: [uint32x4_t; 4] = from_fn(|four| vld1q_u32(from.cast::<u32>().add(4 * four)));
                let first = pairs.map(|pairs| vreinterpretq_f32_u32(vshlq_n_u32::<16>(pairs)));
                let second = vdupq_n_u32(0xffff_0000);
                [Self(first), Self(pairs.map(|pairs| vreinterpretq_f32_u32(vandq_u32(pairs, second))))]
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
