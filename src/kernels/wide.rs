//! The portable set, on `wide`: for CPUs without a set of their own.
//!
//! `wide` chooses registers when it is compiled, and a baseline x86-64 has no FMA. A fused multiply-add is then computed
//! in f64: the product of two f32 is exact there, the sum is rounded to odd (its last bit set where it is inexact, from the
//! error term of Knuth's TwoSum), and rounding that to f32 rounds the exact value once, because f64 has more than twice
//! the digits and two (Boldo and Melquiond, Emulation of FMA and Correctly Rounded Sums, 2008).

use super::dots::{self, Bytes, Dot, Pairs, Words};
use super::lanes::{self, Lanes, Set};
use super::list::Functions;
use super::{attend, reduce, select, tile, transposed};
use half::{bf16, f16};
use wide::f32x8;

pub(super) const FUNCTIONS: Functions = Functions {
    name: "portable",
    dense_names: [
        ["portable-f32-1x64", "portable-f32-6x16"],
        ["portable-f32f16f32-1x64", "portable-f32f16f32-6x16"],
        ["portable-bf16-1x64", "portable-bf16-4x16"],
        ["portable-int12-1x64", "portable-int12-4x16"],
        ["portable-int16-1x64", "portable-int16-4x16"],
        ["portable-int8-1x64", "portable-int8-4x16"],
    ],
    dense: tile::dense::<Portable>,
    pairs: dots::pairs::<Portable>,
    has_planes: false,
    unary: lanes::unary::<Portable>,
    generated: tile::generated::<Portable>,
    combine: lanes::combine::<Portable>,
    affine: lanes::affine::<Portable>,
    softmax: lanes::softmax::<Portable>,
    layer_norm: lanes::layer_norm::<Portable>,
    normalize: lanes::normalize::<Portable>,
    dot: lanes::dot::<Portable>,
    mixture: lanes::mixture::<Portable>,
    copy: lanes::copy::<Portable>,
    gather: lanes::gather::<Portable>,
    unpack: lanes::unpack::<Portable>,
    gather_pooled: lanes::gather_pooled::<Portable>,
    sum_rows: lanes::sum_rows::<Portable>,
    pool: lanes::pool::<Portable>,
    softmax_down: lanes::softmax_down::<Portable>,
    attend: attend::attend::<Portable>,
    choose: lanes::choose::<Portable>,
    reduce: reduce::reduce::<Portable>,
    view: lanes::view::<Portable>,
    top_k: select::top_k::<Portable>,
    matmul_transposed: transposed::matmul_transposed::<Portable>,
    prefetch: lanes::prefetch::<Portable>,
    spin: lanes::spin::<Portable>,
};

/// Lanes 0 to 7 and 8 to 15.
#[derive(Clone, Copy)]
pub struct Portable([f32x8; 2]);

impl Set for Portable {
    #[cfg(debug_assertions)]
    #[inline(never)]
    unsafe fn apart<J: lanes::Job>(job: J) {
        // SAFETY: the caller's promise.
        unsafe { job.run() }
    }
}

impl Portable {
    #[inline(always)]
    fn from_lanes(lanes: [f32; 16]) -> Self {
        let [mut low, mut high] = [[0.0; 8]; 2];
        low.copy_from_slice(&lanes[..8]);
        high.copy_from_slice(&lanes[8..]);
        Self([f32x8::new(low), f32x8::new(high)])
    }

    #[inline(always)]
    fn lanes(self) -> [f32; 16] {
        let mut lanes = [0.0; 16];
        lanes[..8].copy_from_slice(&self.0[0].to_array());
        lanes[8..].copy_from_slice(&self.0[1].to_array());
        lanes
    }

    #[inline(always)]
    fn map(self, f: impl Fn(f32x8) -> f32x8) -> Self {
        Self(self.0.map(f))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32x8, f32x8) -> f32x8) -> Self {
        Self([f(self.0[0], other.0[0]), f(self.0[1], other.0[1])])
    }

    #[inline(always)]
    fn each(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let (a, b) = (self.lanes(), other.lanes());
        Self::from_lanes(std::array::from_fn(|lane| f(a[lane], b[lane])))
    }
}

#[cfg(any(target_feature = "fma", target_arch = "aarch64"))]
#[inline(always)]
fn fused(a: f32x8, b: f32x8, c: f32x8) -> f32x8 {
    a.mul_add(b, c)
}

/// Not inlined: a dense tile would hold it dozens of times.
#[cfg(not(any(target_feature = "fma", target_arch = "aarch64")))]
#[inline(never)]
fn fused(a: f32x8, b: f32x8, c: f32x8) -> f32x8 {
    let (a, b, c) = (a.to_array(), b.to_array(), c.to_array());
    let mut sums = [0.0; 8];
    for first in [0, 4] {
        let four = |x: &[f32; 8]| wide::f64x4::new(std::array::from_fn(|lane| f64::from(x[first + lane])));
        let c = four(&c);
        let product = four(&a) * four(&b);
        let sum = product + c;
        let share = sum - product;
        let error = (product - (sum - share)) + (c - share);
        let (sum, error) = (sum.to_array(), error.to_array());
        for lane in 0..4 {
            sums[first + lane] = round_to_odd(sum[lane], error[lane]) as f32;
        }
    }
    f32x8::new(sums)
}

/// The neighbour of `sum` with an odd last bit on the side of `error`, if there is an error and `sum` is even. A sum that
/// is not finite has a NaN as error and stays.
#[cfg(not(any(target_feature = "fma", target_arch = "aarch64")))]
#[inline(always)]
fn round_to_odd(sum: f64, error: f64) -> f64 {
    let bits = sum.to_bits();
    let is_away_from_zero = (error > 0.0) == (sum > 0.0);
    if error.abs() > 0.0 && bits & 1 == 0 {
        f64::from_bits(if is_away_from_zero { bits + 1 } else { bits - 1 })
    } else {
        sum
    }
}

// The methods are safe but for their pointers, which the trait's callers answer for.
impl Lanes for Portable {
    const WIDEST: usize = 1;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self([f32x8::splat(value); 2])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Self::from_lanes(unsafe { from.cast::<[f32; 16]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self {
        let mut lanes = [0.0; 16];
        let bytes = count * size_of::<f32>();
        // SAFETY: the caller's promise; `count` is at most 16. As bytes, because table rows may be unaligned.
        unsafe { std::ptr::copy_nonoverlapping(from.cast::<u8>(), lanes.as_mut_ptr().cast(), bytes) };
        Self::from_lanes(lanes)
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u16) -> Self {
        // SAFETY: the caller's promise.
        let stored = unsafe { from.cast::<[u16; 16]>().read_unaligned() };
        Self::from_lanes(stored.map(|bits| f16::from_bits(bits).to_f32()))
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u16) -> Self {
        // SAFETY: the caller's promise.
        let stored = unsafe { from.cast::<[u16; 16]>().read_unaligned() };
        Self::from_lanes(stored.map(|bits| bf16::from_bits(bits).to_f32()))
    }

    #[inline(always)]
    unsafe fn load_int8(from: *const i8) -> Self {
        // SAFETY: the caller's promise.
        let stored = unsafe { from.cast::<[i8; 16]>().read_unaligned() };
        Self::from_lanes(stored.map(f32::from))
    }

    #[inline(always)]
    unsafe fn load_int4(from: *const u8) -> Self {
        // SAFETY: the caller's promise.
        let stored = unsafe { from.cast::<[u8; 8]>().read_unaligned() };
        let half = |lane: usize| ((stored[lane / 2] << (4 - lane % 2 * 4)) as i8) >> 4;
        Self::from_lanes(std::array::from_fn(|lane| f32::from(half(lane))))
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; 16]>().write_unaligned(self.lanes()) }
    }

    #[inline(always)]
    unsafe fn store_part(self, to: *mut f32, count: usize) {
        // SAFETY: the caller's promise; `count` is at most 16.
        unsafe { std::ptr::copy_nonoverlapping(self.lanes().as_ptr(), to, count) }
    }

    #[inline(always)]
    unsafe fn store_bytes(self, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[u8; 16]>().write_unaligned(self.lanes().map(|x| x.round_ties_even() as u8)) }
    }

    #[inline(always)]
    unsafe fn store_words(self, to: *mut i16) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[i16; 16]>().write_unaligned(self.lanes().map(|x| x.round_ties_even() as i16)) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, to: *mut u16) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[u16; 16]>().write_unaligned(self.lanes().map(|x| bf16::from_f32(x).to_bits())) }
    }

    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a - b)
    }

    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| a * b)
    }

    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| a / b)
    }

    #[inline(always)]
    unsafe fn fma(self, factor: Self, addend: Self) -> Self {
        Self([fused(self.0[0], factor.0[0], addend.0[0]), fused(self.0[1], factor.0[1], addend.0[1])])
    }

    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        self.each(other, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        self.each(other, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    unsafe fn round(self) -> Self {
        // Adding and taking away 1.5 * 2^23 rounds by the rounding mode; `exp` needs no more than a few hundred.
        let magic = f32x8::splat(12_582_912.0);
        self.map(|x| (x + magic) - magic)
    }

    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        let lanes = self.lanes().map(|n| f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23));
        Self::from_lanes(lanes)
    }

    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self::from_lanes(self.lanes().map(f32::abs))
    }

    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self::from_lanes(self.lanes().map(f32::sqrt))
    }

    #[inline(always)]
    unsafe fn negate(self) -> Self {
        self.map(|x| -x)
    }

    #[inline(always)]
    unsafe fn copysign(self, sign: Self) -> Self {
        self.each(sign, f32::copysign)
    }

    #[inline(always)]
    unsafe fn select_less(self, bound: Self, then: Self, other: Self) -> Self {
        let (a, b, then, other) = (self.lanes(), bound.lanes(), then.lanes(), other.lanes());
        Self::from_lanes(std::array::from_fn(|lane| if a[lane] < b[lane] { then[lane] } else { other[lane] }))
    }

    #[inline(always)]
    unsafe fn select_equal(self, equal: Self, then: Self, other: Self) -> Self {
        let (a, b, then, other) = (self.lanes(), equal.lanes(), then.lanes(), other.lanes());
        Self::from_lanes(std::array::from_fn(|lane| if a[lane] == b[lane] { then[lane] } else { other[lane] }))
    }

    #[inline(always)]
    unsafe fn floor(self) -> Self {
        Self::from_lanes(self.lanes().map(f32::floor))
    }

    #[inline(always)]
    unsafe fn split(self) -> (Self, Self) {
        let root = std::f32::consts::FRAC_1_SQRT_2.to_bits();
        let above = self.lanes().map(|x| x.to_bits().wrapping_sub(root));
        let mantissa = above.map(|above| f32::from_bits((above & 0x7f_ffff) + root));
        (Self::from_lanes(mantissa), Self::from_lanes(above.map(|above| ((above as i32) >> 23) as f32)))
    }

    #[inline(always)]
    unsafe fn tree(self) -> f32 {
        let mut lanes = (self.0[0] + self.0[1]).to_array();
        for half in [4, 2, 1] {
            for lane in 0..half {
                lanes[lane] += lanes[lane + half];
            }
        }
        lanes[0]
    }

    #[inline(always)]
    unsafe fn store_trees(sums: [Self; 4], to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(sums.map(|sums| sums.tree())) }
    }

    #[inline(always)]
    unsafe fn prefetch(_from: *const u8) {}
}

/// 16 integers from a line of weights and a word of inputs, `N` products each.
macro_rules! integer_dots {
    ($kind:ty, $count:literal, $input:ty, $weight:ty) => {
        impl Dot<$kind> for Portable {
            type Sums = [i32; 16];
            type Line = [[$weight; $count]; 16];
            const ROWS: usize = 4;
            const WIDEST: usize = 1;

            #[inline(always)]
            unsafe fn none() -> [i32; 16] {
                [0; 16]
            }

            #[inline(always)]
            unsafe fn line(from: *const u8) -> Self::Line {
                // SAFETY: the caller's promise.
                unsafe { from.cast::<Self::Line>().read_unaligned() }
            }

            // Inlined into tiles apart, the compiler takes minutes more; called, a layer takes up to 1.7 times as long.
            #[cfg_attr(debug_assertions, inline(never))]
            #[cfg_attr(not(debug_assertions), inline(always))]
            unsafe fn dot(mut sums: [i32; 16], line: &Self::Line, word: *const u8) -> [i32; 16] {
                // SAFETY: the caller's promise.
                let inputs = unsafe { word.cast::<[$input; $count]>().read_unaligned() };
                for (sum, weights) in sums.iter_mut().zip(line) {
                    for (input, weight) in inputs.iter().zip(weights) {
                        *sum = sum.wrapping_add(i32::from(*input) * i32::from(*weight));
                    }
                }
                sums
            }

            #[inline(always)]
            unsafe fn carry(sums: [i32; 16], mut uppers: [i32; 16]) -> [[i32; 16]; 2] {
                for (upper, sum) in uppers.iter_mut().zip(sums) {
                    *upper = upper.wrapping_add(sum >> dots::CARRIED);
                }
                [sums.map(|sum| sum & ((1 << dots::CARRIED) - 1)), uppers]
            }

            #[inline(always)]
            unsafe fn floats(sums: [i32; 16], uppers: Option<[i32; 16]>, zero: i32, totals: *const i32) -> Self {
                // SAFETY: the caller's promise.
                let totals = unsafe { totals.cast::<[i32; 16]>().read_unaligned() };
                let sums = std::array::from_fn(|lane| sums[lane].wrapping_sub(zero.wrapping_mul(totals[lane])));
                let Some(uppers) = uppers else { return Self::from_lanes(sums.map(|sum| sum as f32)) };
                // SAFETY: as above.
                let [lower, upper] = unsafe { <Self as Dot<$kind>>::carry(sums, uppers) };
                let float = |lane: usize| (upper[lane] as f32).mul_add((1 << dots::CARRIED) as f32, lower[lane] as f32);
                Self::from_lanes(std::array::from_fn(float))
            }
        }
    };
}

integer_dots! { Bytes, 4, u8, i8 }
integer_dots! { Words, 2, i16, i16 }

impl Dot<Pairs> for Portable {
    type Sums = Self;
    type Line = [Self; 2];
    const ROWS: usize = 4;
    const WIDEST: usize = 1;

    #[inline(always)]
    unsafe fn none() -> Self {
        Self::from_lanes([0.0; 16])
    }

    #[inline(always)]
    unsafe fn line(from: *const u8) -> [Self; 2] {
        // SAFETY: the caller's promise.
        let line = unsafe { from.cast::<[[u16; 2]; 16]>().read_unaligned() };
        [0, 1].map(|of| Self::from_lanes(line.map(|pair| bf16::from_bits(pair[of]).to_f32())))
    }

    #[inline(always)]
    unsafe fn dot(sums: Self, line: &[Self; 2], word: *const u8) -> Self {
        // SAFETY: the caller's promise.
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
