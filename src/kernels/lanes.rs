//! Every kernel once, over 16 virtual lanes; a set supplies the lanes. Products with a matrix are in [`super::tile`],
//! functions of one element in [`super::functions`], reductions in [`super::reduce`].
//!
//! Sixteen is the widest register in f32. A set with narrower ones uses several, so that the order of every sum is the
//! same everywhere. Functions here are `#[inline(always)]` and carry no target feature: they become part of the function
//! of the set that calls them, which carries it. Where that would hold hundreds of tiles, each is a [`Job`].

use super::functions::{activate, activate_cheaply, share};
use super::panels::Element;
use super::{Activation, Combine, Places, Pooling, Span, Table, Unpack, rare};
use std::hint::black_box;

/// What is a function of its own in a debug build.
pub trait Job {
    /// # Safety
    /// As [`Lanes`], and what the job says.
    unsafe fn run(self);
}

/// A set of instructions.
pub trait Set {
    /// Runs a job: in a debug build in a function of its own, which has the features of the set. All tiles in one function take
    /// 9 MiB of the stack there, where each has a place of its own. Optimized, one function is faster: apart, the compiler spills
    /// registers of some tiles of f32 (mmoe of 500 candidates 2 to 6 % slower).
    ///
    /// # Safety
    /// As [`Job::run`].
    #[inline(always)]
    unsafe fn apart<J: Job>(job: J) {
        // SAFETY: the caller's promise.
        unsafe { job.run() }
    }
}

/// Sixteen f32.
///
/// # Safety
/// All methods: the CPU has the instructions of the set. Pointers: valid for the lanes that are read or written.
pub trait Lanes: Set + Copy {
    /// Panels side by side in a tile of several rows: as many as the registers hold 6 rows of.
    const WIDEST: usize;

    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count` (1 to 16) lanes; the others are zero.
    unsafe fn load_part(from: *const f32, count: usize) -> Self;
    unsafe fn load_f16(from: *const u16) -> Self;
    unsafe fn load_bf16(from: *const u16) -> Self;
    /// Of 16 bytes.
    unsafe fn load_int8(from: *const i8) -> Self;
    /// Of 8 bytes: two's complement, the lower half of each byte first.
    unsafe fn load_int4(from: *const u8) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_part(self, to: *mut f32, count: usize);
    /// Rounded to integers, ties to even, and held within 0 and 255; anything for NaN and beyond 2^31.
    unsafe fn store_bytes(self, to: *mut u8);
    /// Rounded to integers, ties to even, of 16 bits; anything for NaN and beyond.
    unsafe fn store_words(self, to: *mut i16);
    /// The same as bytes: the lower halves to `low`, the upper ones to `high`.
    #[cfg(target_arch = "x86_64")]
    unsafe fn store_planes(self, low: *mut u8, high: *mut u8) {
        let mut words = [0i16; 16];
        // SAFETY: the caller's promise; there are 16 words.
        unsafe {
            self.store_words(words.as_mut_ptr());
            low.cast::<[u8; 16]>().write_unaligned(words.map(|word| word as u8));
            high.cast::<[u8; 16]>().write_unaligned(words.map(|word| (word >> 8) as u8));
        }
    }
    /// Rounded to bf16, ties to even.
    unsafe fn store_bf16(self, to: *mut u16);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * factor + addend`, rounded once.
    unsafe fn fma(self, factor: Self, addend: Self) -> Self;
    /// `self` where it is larger, else `other`: with a NaN, `other`.
    unsafe fn max(self, other: Self) -> Self;
    /// `self` where it is smaller, else `other`.
    unsafe fn min(self, other: Self) -> Self;
    /// To the nearest integer, ties to even.
    unsafe fn round(self) -> Self;
    /// `2^n` of integers -126 to 127; anything for NaN.
    unsafe fn power_of_two(self) -> Self;
    /// `self * 2^n` for integers `n`, where the product is a normal number.
    unsafe fn scaled(self, n: Self) -> Self {
        // SAFETY: the caller's promise.
        unsafe { self.mul(n.power_of_two()) }
    }
    unsafe fn abs(self) -> Self;
    unsafe fn sqrt(self) -> Self;
    unsafe fn negate(self) -> Self;
    unsafe fn copysign(self, sign: Self) -> Self;
    /// `then` where `self < bound`, else `other`.
    unsafe fn select_less(self, bound: Self, then: Self, other: Self) -> Self;
    /// `then` where the two are equal, else `other`.
    unsafe fn select_equal(self, equal: Self, then: Self, other: Self) -> Self;
    /// To the next integer below.
    unsafe fn floor(self) -> Self;
    /// `m` in [sqrt(1/2), sqrt(2)) and `e` so that the lane is `m 2^e`; anything if it is not a normal number above 0.
    unsafe fn split(self) -> (Self, Self);
    /// Lanes added by the tree 8, 4, 2, 1.
    unsafe fn tree(self) -> f32;
    /// The largest lane; anything if one is NaN.
    unsafe fn largest(self) -> f32 {
        let mut lanes = [0.0f32; 16];
        // SAFETY: the caller's promise; there are 16 lanes.
        unsafe { self.store(lanes.as_mut_ptr()) };
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                lanes[lane] = if lanes[lane] > lanes[lane + half] { lanes[lane] } else { lanes[lane + half] };
            }
        }
        lanes[0]
    }
    /// The four trees, one after the other.
    unsafe fn store_trees(sums: [Self; 4], to: *mut f32);
    /// Asks for the cache line at `from`.
    unsafe fn prefetch(from: *const u8);
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn prefetch_line<L: Lanes>(from: *const u8) {
    if !cfg!(without = "prefetch") {
        // SAFETY: the caller's promise.
        unsafe { L::prefetch(from) }
    }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn prefetch<L: Lanes>(from: *const u8, bytes: usize) {
    for at in (0..bytes).step_by(64) {
        // SAFETY: the caller's promise.
        unsafe { prefetch_line::<L>(from.wrapping_add(at)) }
    }
}

/// Multiplies and adds in registers alone, `turns` times; returns how many operations that were. What a kernel can reach.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn spin<L: Lanes>(turns: usize) -> usize {
    const SUMS: usize = 12;
    // SAFETY: the caller's promise.
    unsafe {
        let (factor, addend) = (L::splat(black_box(0.5)), L::splat(black_box(1.0)));
        let mut sums = [L::splat(black_box(1.0)); SUMS];
        for _ in 0..turns {
            for sum in &mut sums {
                *sum = sum.fma(factor, addend);
            }
        }
        black_box(sums.into_iter().fold(0.0, |all, sum| all + sum.tree()));
    }
    2 * 16 * SUMS * turns
}

/// The first column and the count of each chunk of up to 16 columns. An iterator, and not a function that takes one:
/// a closure would be compiled without the features of the set.
#[inline(always)]
pub fn chunks(width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..width).step_by(16).map(move |column| (column, (width - column).min(16)))
}

/// # Safety
/// As [`Lanes`]; `count` is 1 to 16.
#[inline(always)]
pub unsafe fn read<L: Lanes>(from: *const f32, count: usize) -> L {
    // SAFETY: the caller's promise.
    unsafe { if count == 16 { L::load(from) } else { L::load_part(from, count) } }
}

/// # Safety
/// As [`Lanes`]; `count` is 1 to 16.
#[inline(always)]
pub unsafe fn write<L: Lanes>(value: L, to: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe { if count == 16 { value.store(to) } else { value.store_part(to, count) } }
}

/// Columns of a row of `span`, or its one element for all of them.
///
/// # Safety
/// As [`Lanes`]; the row lies in memory.
#[inline(always)]
unsafe fn read_or_repeat<L: Lanes>(memory: *const f32, row: usize, span: Span, column: usize, count: usize) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let from = memory.add(span.offset + row * span.stride);
        if span.width == 1 { L::splat(*from) } else { read::<L>(from.add(column), count) }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn unary<L: Lanes>(memory: &mut [f32], rows: usize, activation: Activation, input: Span, output: Span) {
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        for (column, count) in chunks(output.width) {
            // SAFETY: both rows lie in checked spans.
            unsafe {
                let x = read::<L>(memory.add(input.offset + row * input.stride + column), count);
                write(activate(activation, x), memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn combine<L: Lanes>(
    memory: &mut [f32],
    rows: usize,
    how: Combine,
    left: Span,
    right: Span,
    activation: Activation,
    output: Span,
) {
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        for (column, count) in chunks(output.width) {
            // SAFETY: the three rows lie in checked spans.
            unsafe {
                let x = read::<L>(memory.add(left.offset + row * left.stride + column), count);
                let y = read_or_repeat::<L>(memory, row, right, column, count);
                let value = activate_cheaply(activation, combined(how, x, y));
                write(value, memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn combined<L: Lanes>(how: Combine, x: L, y: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let (zero, one) = (L::splat(0.0), L::splat(1.0));
        match how {
            Combine::Add => x.add(y),
            Combine::Subtract => x.sub(y),
            Combine::Multiply => x.mul(y),
            Combine::Divide => x.div(y),
            Combine::Maximum => maximum(x, y),
            Combine::Minimum => minimum(x, y),
            Combine::Power => each(x, y, rare::power),
            Combine::Modulo => each(x, y, rare::modulo),
            Combine::Remainder => each(x, y, rare::remainder),
            Combine::Equal => x.select_equal(y, one, zero),
            Combine::Less => x.select_less(y, one, zero),
            Combine::LessEqual => x.select_less(y, one, x.select_equal(y, one, zero)),
            Combine::Prelu => zero.select_less(x, x, y.mul(x)),
        }
    }
}

/// The larger; NaN if either is.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn maximum<L: Lanes>(x: L, y: L) -> L {
    // SAFETY: the caller's promise.
    unsafe { x.select_equal(x, x.max(y), x) }
}

/// The smaller; NaN if either is.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn minimum<L: Lanes>(x: L, y: L) -> L {
    // SAFETY: the caller's promise.
    unsafe { x.select_equal(x, x.min(y), x) }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn each<L: Lanes>(x: L, y: L, function: fn(f32, f32) -> f32) -> L {
    let [mut left, mut right] = [[0.0; 16]; 2];
    // SAFETY: the caller's promise; both arrays have 16 elements.
    unsafe {
        x.store(left.as_mut_ptr());
        y.store(right.as_mut_ptr());
        for (left, right) in left.iter_mut().zip(right) {
            *left = function(*left, right);
        }
        L::load(left.as_ptr())
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn choose<L: Lanes>(
    memory: &mut [f32],
    rows: usize,
    condition: Span,
    then: Span,
    otherwise: Span,
    output: Span,
) {
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        for (column, count) in chunks(output.width) {
            // SAFETY: the four rows lie in checked spans.
            unsafe {
                let condition = read_or_repeat::<L>(memory, row, condition, column, count);
                let then = read_or_repeat::<L>(memory, row, then, column, count);
                let otherwise = read_or_repeat::<L>(memory, row, otherwise, column, count);
                let value = condition.select_equal(L::splat(0.0), otherwise, then);
                write(value, memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn view<L: Lanes>(memory: &mut [f32], rows: usize, input: Span, places: &Places, output: Span) {
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        // SAFETY: both rows lie in checked spans; the runs end within the input and fill the output.
        unsafe {
            let from = memory.add(input.offset + row * input.stride).cast_const();
            let mut to = memory.add(output.offset + row * output.stride);
            for run in places.runs() {
                let (from, length) = (from.add(run.from as usize), run.length as usize);
                match length {
                    1 => *to = *from,
                    2..4 => copy_by::<2>(from, to, length),
                    4..8 => copy_by::<4>(from, to, length),
                    8..16 => copy_by::<8>(from, to, length),
                    _ => copy_by::<16>(from, to, length),
                }
                to = to.add(length);
            }
        }
    }
}

/// Copies `length` elements, `N` at a time; the last `N` may overlap with the ones before.
///
/// # Safety
/// Both sides have `length` elements, at least `N`, and do not overlap.
#[inline(always)]
unsafe fn copy_by<const N: usize>(from: *const f32, to: *mut f32, length: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        for first in (0..length - N).step_by(N) {
            to.add(first).cast::<[f32; N]>().write_unaligned(from.add(first).cast::<[f32; N]>().read_unaligned());
        }
        let last = length - N;
        to.add(last).cast::<[f32; N]>().write_unaligned(from.add(last).cast::<[f32; N]>().read_unaligned());
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn affine<L: Lanes>(
    memory: &mut [f32],
    rows: usize,
    input: Span,
    scale: &[f32],
    shift: &[f32],
    output: Span,
) {
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        for (column, count) in chunks(output.width) {
            // SAFETY: both rows lie in checked spans, and the constants are as wide.
            unsafe {
                let x = read::<L>(memory.add(input.offset + row * input.stride + column), count);
                let scale = read::<L>(scale.as_ptr().add(column), count);
                let shift = read::<L>(shift.as_ptr().add(column), count);
                write(x.fma(scale, shift), memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn softmax<L: Lanes>(memory: &mut [f32], rows: usize, input: Span, output: Span) {
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        // SAFETY: both rows lie in checked spans.
        unsafe {
            let from = memory.add(input.offset + row * input.stride);
            softmax_row::<L>(from, memory.add(output.offset + row * output.stride), input.width);
        }
    }
}

/// # Safety
/// As [`Lanes`]; both rows have `width` elements.
#[inline(always)]
unsafe fn softmax_row<L: Lanes>(from: *const f32, to: *mut f32, width: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let sum = L::splat(exponentials::<L>(from, to, width));
        for (column, count) in chunks(width) {
            write(read::<L>(to.add(column), count).div(sum), to.add(column), count);
        }
    }
}

/// `to = exp(from - max)`, and its sum.
///
/// # Safety
/// As [`Lanes`]; both rows have `width` elements.
#[inline(always)]
unsafe fn exponentials<L: Lanes>(from: *const f32, to: *mut f32, width: usize) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let largest = L::splat(largest::<L>(from, width));
        let mut sums = L::splat(0.0);
        for (column, count) in chunks(width) {
            let e = share(read::<L>(from.add(column), count).sub(largest));
            write(e, to.add(column), count);
            sums = sums.add(read::<L>(to.add(column), count));
        }
        sums.tree()
    }
}

/// The largest element of a row. Its order decides no bit of a softmax: two zeros have one exponential, and a NaN reaches
/// the sum.
///
/// # Safety
/// As [`Lanes`]; the row has `width` elements.
#[inline(always)]
unsafe fn largest<L: Lanes>(from: *const f32, width: usize) -> f32 {
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    // SAFETY: the caller's promise; the last chunk of a row of 16 or more ends where the row does.
    unsafe {
        if width < 16 {
            return (0..width).fold(f32::NEG_INFINITY, |largest, column| larger(largest, *from.add(column)));
        }
        let mut largest = L::load(from.add(width - 16));
        for column in (0..width - 16).step_by(16) {
            largest = largest.max(L::load(from.add(column)));
        }
        let mut lanes = [0.0; 16];
        largest.store(lanes.as_mut_ptr());
        for half in [8, 4, 2, 1] {
            for lane in 0..half {
                lanes[lane] = larger(lanes[lane], lanes[lane + half]);
            }
        }
        lanes[0]
    }
}

/// The inner product of two rows.
///
/// # Safety
/// As [`Lanes`]; the row has `width` elements.
#[inline(always)]
pub unsafe fn sum_of_products<L: Lanes>(left: *const f32, right: *const f32, width: usize) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = L::splat(0.0);
        for (column, count) in chunks(width) {
            sums = read::<L>(left.add(column), count).fma(read::<L>(right.add(column), count), sums);
        }
        sums.tree()
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn layer_norm<L: Lanes>(
    memory: &mut [f32],
    rows: usize,
    input: Span,
    scale: &[f32],
    shift: &[f32],
    epsilon: f32,
    output: Span,
) {
    let memory = memory.as_mut_ptr();
    let width = input.width;
    for row in 0..rows {
        // SAFETY: both rows lie in checked spans, and the constants are as wide.
        unsafe {
            let from = memory.add(input.offset + row * input.stride);
            let to = memory.add(output.offset + row * output.stride);
            let mut sums = L::splat(0.0);
            for (column, count) in chunks(width) {
                sums = sums.add(read::<L>(from.add(column), count));
            }
            let mean = L::splat(sums.tree() / width as f32);
            for (column, count) in chunks(width) {
                write(read::<L>(from.add(column), count).sub(mean), to.add(column), count);
            }
            let variance = sum_of_products::<L>(to, to, width) / width as f32;
            let factor = L::splat(1.0 / (variance + epsilon).sqrt());
            for (column, count) in chunks(width) {
                let scale = read::<L>(scale.as_ptr().add(column), count);
                let shift = read::<L>(shift.as_ptr().add(column), count);
                let x = read::<L>(to.add(column), count);
                write(x.mul(factor).fma(scale, shift), to.add(column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn normalize<L: Lanes>(memory: &mut [f32], rows: usize, input: Span, epsilon: f32, output: Span) {
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        // SAFETY: both rows lie in checked spans.
        unsafe {
            let from = memory.add(input.offset + row * input.stride);
            let to = memory.add(output.offset + row * output.stride);
            let norm = sum_of_products::<L>(from, from, input.width).sqrt();
            let norm = L::splat(if epsilon > norm { epsilon } else { norm });
            for (column, count) in chunks(input.width) {
                write(read::<L>(from.add(column), count).div(norm), to.add(column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn dot<L: Lanes>(memory: &mut [f32], rows: usize, left: Span, right: Span, groups: usize, output: Span) {
    let memory = memory.as_mut_ptr();
    let width = left.width / groups;
    for row in 0..rows {
        for group in 0..groups {
            // SAFETY: the three rows lie in checked spans.
            unsafe {
                let x = memory.add(left.offset + row * left.stride + group * width);
                let y = memory.add(right.offset + row * right.stride + group * width);
                *memory.add(output.offset + row * output.stride + group) = sum_of_products::<L>(x, y, width);
            }
        }
    }
}

/// The most experts of a mixture that computes the softmax of its gate.
pub const MAX_SHARES: usize = 64;

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn mixture<L: Lanes>(
    memory: &mut [f32],
    rows: usize,
    gate: Span,
    is_softmax: bool,
    experts: &[Span],
    output: Span,
) {
    let memory = memory.as_mut_ptr();
    let mut shares = [0.0; MAX_SHARES];
    for row in 0..rows {
        // SAFETY: the gate has checked rows, no longer than `shares` if they are of logits.
        let weights = unsafe {
            let gate_row = memory.add(gate.offset + row * gate.stride).cast_const();
            if is_softmax {
                softmax_row::<L>(gate_row, shares.as_mut_ptr(), gate.width);
                shares.as_ptr()
            } else {
                gate_row
            }
        };
        for (column, count) in chunks(output.width) {
            // SAFETY: all rows lie in checked spans; there is a weight per expert.
            unsafe {
                let mut sum = L::splat(0.0);
                for (e, expert) in experts.iter().enumerate() {
                    let x = read::<L>(memory.add(expert.offset + row * expert.stride + column), count);
                    sum = L::splat(*weights.add(e)).fma(x, sum);
                }
                write(sum, memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn copy<L: Lanes>(memory: &mut [f32], rows: usize, input: Span, output: Span) {
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        for (column, count) in chunks(output.width) {
            // SAFETY: both rows lie in checked spans.
            unsafe {
                let x = read::<L>(memory.add(input.offset + row * input.stride + column), count);
                write(x, memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// How many rows ahead a table row is asked for.
const AHEAD: usize = 24;

/// # Safety
/// As [`Lanes`]; `id` is a row of the table.
#[inline(always)]
unsafe fn prefetch_row<L: Lanes>(table: Table<'_>, id: u32) {
    if table.element.is_scaled() {
        // SAFETY: the caller's promise: the row has a scale.
        unsafe { prefetch_line::<L>(table.scales.as_ptr().add(id as usize * size_of::<f32>())) };
    }
    let bytes = table.element.row_bytes(table.width);
    // SAFETY: the caller's promise: the row lies in the table.
    unsafe { prefetch::<L>(table.bytes.as_ptr().add(id as usize * bytes), bytes) };
}

/// Up to 16 elements of a table row, widened.
///
/// # Safety
/// As [`Lanes`]; the elements lie in the table.
#[inline(always)]
unsafe fn read_table<L: Lanes>(table: Table<'_>, id: u32, column: usize, count: usize) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let row = id as usize * table.element.row_bytes(table.width);
        let from = table.bytes.as_ptr().add(row + table.element.row_bytes(column));
        widen(table.element, from, table.scales.as_ptr().wrapping_add(id as usize * size_of::<f32>()), count)
    }
}

/// Up to 16 elements as f32; `scale` is read if integers have one.
///
/// # Safety
/// As [`Lanes`]; elements and scale are there.
#[inline(always)]
unsafe fn widen<L: Lanes>(element: Element, from: *const u8, scale: *const u8, count: usize) -> L {
    // SAFETY: the caller's promise; a part is copied out before it is widened, so nothing behind it is read.
    unsafe {
        match element {
            Element::F32 => read::<L>(from.cast(), count),
            Element::F16 | Element::Bf16 => {
                let mut part: [u16; 16];
                let from = if count == 16 {
                    from.cast()
                } else {
                    part = [0; 16];
                    std::ptr::copy_nonoverlapping(from, part.as_mut_ptr().cast::<u8>(), count * 2);
                    part.as_ptr()
                };
                if element == Element::F16 { L::load_f16(from) } else { L::load_bf16(from) }
            }
            Element::Int8 | Element::Int4 => {
                let mut part: [u8; 16];
                let from = if count == 16 {
                    from
                } else {
                    part = [0; 16];
                    std::ptr::copy_nonoverlapping(from, part.as_mut_ptr(), element.row_bytes(count));
                    part.as_ptr()
                };
                let scale = L::splat(scale.cast::<f32>().read_unaligned());
                let integers = if element == Element::Int8 { L::load_int8(from.cast()) } else { L::load_int4(from) };
                integers.mul(scale)
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn gather<L: Lanes>(memory: &mut [f32], table: Table<'_>, ids: &[u32], output: Span) {
    let memory = memory.as_mut_ptr();
    // SAFETY: ids are rows of the table and output rows lie in a checked span.
    unsafe {
        for id in ids.iter().take(AHEAD) {
            prefetch_row::<L>(table, *id);
        }
        for (row, id) in ids.iter().enumerate() {
            if let Some(next) = ids.get(row + AHEAD) {
                prefetch_row::<L>(table, *next);
            }
            for (column, count) in chunks(output.width) {
                let x = read_table::<L>(table, *id, column, count);
                write(x, memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// How many bytes of packed rows are asked for ahead.
const PACKED_AHEAD: usize = 4096;

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn unpack<L: Lanes>(memory: &mut [f32], call: &Unpack<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match call.element {
            Element::F32 => unpack_from::<L>(memory, call, Element::F32),
            Element::F16 => unpack_from::<L>(memory, call, Element::F16),
            Element::Bf16 => unpack_from::<L>(memory, call, Element::Bf16),
            Element::Int8 => unpack_from::<L>(memory, call, Element::Int8),
            Element::Int4 => unpack_from::<L>(memory, call, Element::Int4),
        }
    }
}

/// `element` is that of the call, for a loop of its own.
///
/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
unsafe fn unpack_from<L: Lanes>(memory: &mut [f32], call: &Unpack<'_>, element: Element) {
    let Unpack { rows, start, addend, activation, output, .. } = *call;
    let memory = memory.as_mut_ptr();
    let part = element.scale_bytes() + element.row_bytes(output.width);
    let ahead = (PACKED_AHEAD / part.max(1)).clamp(2, AHEAD);
    // SAFETY: every row has the part, and those of the spans were checked.
    unsafe {
        for row in rows.iter().take(ahead) {
            prefetch::<L>(row.as_ptr().add(start), part);
        }
        for (place, row) in rows.iter().enumerate() {
            if let Some(next) = rows.get(place + ahead) {
                prefetch::<L>(next.as_ptr().add(start), part);
            }
            let scale = row.as_ptr().add(start);
            let from = scale.add(element.scale_bytes());
            for (column, count) in chunks(output.width) {
                let mut x = widen::<L>(element, from.add(element.row_bytes(column)), scale, count);
                if let Some(addend) = addend {
                    x = x.add(read::<L>(memory.add(addend.offset + place * addend.stride + column), count));
                }
                x = activate_cheaply(activation, x);
                write(x, memory.add(output.offset + place * output.stride + column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn gather_pooled<L: Lanes>(
    memory: &mut [f32],
    table: Table<'_>,
    ids: &[u32],
    row_offsets: &[u32],
    pooling: Pooling,
    output: Span,
) {
    let memory = memory.as_mut_ptr();
    for (row, ends) in row_offsets.windows(2).enumerate() {
        let (start, end) = (ends[0] as usize, ends[1] as usize);
        // SAFETY: ids are rows of the table and output rows lie in a checked span.
        unsafe {
            for id in ids[start..].iter().take(AHEAD) {
                prefetch_row::<L>(table, *id);
            }
            for (column, count) in chunks(output.width) {
                let mut pooled = L::splat(0.0);
                for (place, id) in ids[start..end].iter().enumerate() {
                    if let Some(next) = ids.get(start + place + AHEAD).filter(|_| column == 0) {
                        prefetch_row::<L>(table, *next);
                    }
                    let x = read_table::<L>(table, *id, column, count);
                    pooled = match pooling {
                        Pooling::Max if place == 0 => x,
                        Pooling::Max => pooled.max(x),
                        Pooling::Sum | Pooling::Mean => pooled.add(x),
                    };
                }
                if pooling == Pooling::Mean && end > start {
                    pooled = pooled.div(L::splat((end - start) as f32));
                }
                write(pooled, memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn sum_rows<L: Lanes>(memory: &mut [f32], table: Table<'_>, ids: &[u32], output: Span) {
    // SAFETY: ids are rows of the table and the output row lies in a checked span.
    unsafe {
        let out = memory.as_mut_ptr().add(output.offset);
        for (column, count) in chunks(output.width) {
            write(L::splat(0.0), out.add(column), count);
        }
        for (place, id) in ids.iter().enumerate() {
            let next = *ids.get(place + 1).unwrap_or(id) as usize;
            let next = table.bytes.as_ptr().add(next * table.element.row_bytes(table.width));
            for (column, count) in chunks(output.width) {
                prefetch_line::<L>(next.add(table.element.row_bytes(column)));
                let sum = read::<L>(out.add(column), count).add(read_table::<L>(table, *id, column, count));
                write(sum, out.add(column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn pool<L: Lanes>(
    memory: &mut [f32],
    positions: usize,
    input: Span,
    weights: Option<Span>,
    groups: usize,
    is_mean: bool,
    output: Span,
) {
    let memory = memory.as_mut_ptr();
    let width = output.width / groups;
    for group in 0..groups {
        for (column, count) in chunks(width) {
            // SAFETY: all rows lie in checked spans.
            unsafe {
                let column = group * width + column;
                let mut sum = L::splat(0.0);
                for position in 0..positions {
                    let x = read::<L>(memory.add(input.offset + position * input.stride + column), count);
                    sum = match weights {
                        Some(weights) => {
                            let weight = *memory.add(weights.offset + position * weights.stride + group);
                            L::splat(weight).fma(x, sum)
                        }
                        None => sum.add(x),
                    };
                }
                if is_mean && positions > 0 {
                    sum = sum.div(L::splat(positions as f32));
                }
                write(sum, memory.add(output.offset + column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn softmax_down<L: Lanes>(memory: &mut [f32], positions: usize, input: Span, output: Span) {
    let memory = memory.as_mut_ptr();
    for (column, count) in chunks(output.width) {
        // SAFETY: all rows lie in checked spans.
        unsafe {
            let from = |i: usize| memory.add(input.offset + i * input.stride + column);
            let to = |i: usize| memory.add(output.offset + i * output.stride + column);
            let mut largest = L::splat(f32::NEG_INFINITY);
            for i in 0..positions {
                largest = largest.max(read::<L>(from(i), count));
            }
            let mut sum = L::splat(0.0);
            for i in 0..positions {
                let e = share(read::<L>(from(i), count).sub(largest));
                write(e, to(i), count);
                sum = sum.add(e);
            }
            for i in 0..positions {
                write(read::<L>(to(i), count).div(sum), to(i), count);
            }
        }
    }
}
