//! Sums and their like over parts of a row: across consecutive elements by 16 lanes and the tree, or down rows of the part,
//! in order.

use super::functions::{logarithm, unclamped_exponential};
use super::lanes::{Lanes, chunks, maximum, minimum, read, write};
use super::{Reduce, Span, scalar};

/// Parts whose lanes are added side by side.
const FOUR: usize = 4;

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn reduce<L: Lanes>(memory: &mut [f32], rows: usize, how: Reduce, inner: usize, input: Span, output: Span) {
    let memory = memory.as_mut_ptr();
    let (groups, length) = (output.width / inner, input.width / output.width);
    let at = |row: usize, group: usize| {
        (
            input.offset + row * input.stride + group * length * inner,
            output.offset + row * output.stride + group * inner,
        )
    };
    if inner == 1 && matches!(how, Reduce::Sum | Reduce::Mean) {
        let (mut row, mut group) = (0, 0);
        let mut left = rows * groups;
        while left > 0 {
            let count = left.min(FOUR);
            let (mut from, mut to) = ([input.offset; FOUR], [output.offset; FOUR]);
            for part in 0..count {
                (from[part], to[part]) = at(row, group);
                group += 1;
                if group == groups {
                    (row, group) = (row + 1, 0);
                }
            }
            // SAFETY: both rows lie in checked spans, the input's with `length` elements for each of the output's.
            unsafe {
                let sums = sums::<L>(how, from.map(|from| memory.add(from).cast_const()), length);
                for part in 0..count {
                    *memory.add(to[part]) = sums[part];
                }
            }
            left -= count;
        }
        return;
    }
    for row in 0..rows {
        for group in 0..groups {
            let (from, to) = at(row, group);
            // SAFETY: as above.
            unsafe {
                let (from, to) = (memory.add(from), memory.add(to));
                if inner == 1 {
                    *to = across::<L>(how, from, length);
                } else {
                    for (column, count) in chunks(inner) {
                        write(down::<L>(how, from.add(column), inner, length, count), to.add(column), count);
                    }
                }
            }
        }
    }
}

/// The sums or means of four parts of `length` elements side by side, as [`across`] has them.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn sums<L: Lanes>(how: Reduce, from: [*const f32; FOUR], length: usize) -> [f32; FOUR] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut joined = [L::splat(0.0); FOUR];
        for (column, count) in chunks(length) {
            for (joined, from) in joined.iter_mut().zip(from) {
                *joined = joined.add(read::<L>(from.add(column), count));
            }
        }
        let mut sums = [0.0; FOUR];
        L::store_trees(joined, sums.as_mut_ptr());
        if how == Reduce::Mean {
            for sum in &mut sums {
                *sum /= length as f32;
            }
        }
        sums
    }
}

/// What changes no element.
#[inline(always)]
fn neutral(how: Reduce) -> f32 {
    match how {
        Reduce::Sum | Reduce::Mean => 0.0,
        Reduce::Max | Reduce::LogSumExp => f32::NEG_INFINITY,
        Reduce::Min => f32::INFINITY,
        Reduce::Product => 1.0,
    }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn join<L: Lanes>(how: Reduce, x: L, y: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        match how {
            Reduce::Sum | Reduce::Mean => x.add(y),
            Reduce::Max | Reduce::LogSumExp => maximum(x, y),
            Reduce::Min => minimum(x, y),
            Reduce::Product => x.mul(y),
        }
    }
}

/// What is left to do when all elements are joined; not for `LogSumExp`.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn finish<L: Lanes>(how: Reduce, joined: L, length: usize) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        match how {
            Reduce::Mean => joined.div(L::splat(length as f32)),
            Reduce::Max | Reduce::Min => joined.add(L::splat(0.0)),
            Reduce::Sum | Reduce::Product | Reduce::LogSumExp => joined,
        }
    }
}

/// `length` rows of `count` elements, `stride` apart, as one.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn down<L: Lanes>(how: Reduce, from: *const f32, stride: usize, length: usize, count: usize) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let mut joined = L::splat(neutral(how));
        for i in 0..length {
            joined = join(how, joined, read::<L>(from.add(i * stride), count));
        }
        if how != Reduce::LogSumExp {
            return finish(how, joined, length);
        }
        let mut sum = L::splat(0.0);
        for i in 0..length {
            sum = sum.add(unclamped_exponential(read::<L>(from.add(i * stride), count).sub(joined)));
        }
        joined.abs().select_less(L::splat(f32::INFINITY), joined.add(logarithm(sum)), joined)
    }
}

/// `length` elements as one.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn across<L: Lanes>(how: Reduce, from: *const f32, length: usize) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        let mut joined = L::splat(neutral(how));
        for (column, count) in chunks(length) {
            joined = join(how, joined, read_filled::<L>(from.add(column), count, neutral(how)));
        }
        let joined = finish(how, L::splat(fold(how, joined)), length);
        if how != Reduce::LogSumExp {
            return first(joined);
        }
        let mut sums = L::splat(0.0);
        for (column, count) in chunks(length) {
            let x = read_filled::<L>(from.add(column), count, f32::NEG_INFINITY);
            sums = sums.add(unclamped_exponential(x.sub(joined)));
        }
        let sum = joined.add(logarithm(L::splat(sums.tree())));
        first(joined.abs().select_less(L::splat(f32::INFINITY), sum, joined))
    }
}

/// The first `count` lanes; the others are `fill`.
///
/// # Safety
/// As [`Lanes`]; `count` is 1 to 16.
#[inline(always)]
unsafe fn read_filled<L: Lanes>(from: *const f32, count: usize, fill: f32) -> L {
    // SAFETY: the caller's promise; `count` is at most 16.
    unsafe {
        if count == 16 {
            return L::load(from);
        }
        let mut lanes = [fill; 16];
        std::ptr::copy_nonoverlapping(from, lanes.as_mut_ptr(), count);
        L::load(lanes.as_ptr())
    }
}

/// All lanes joined by the tree.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn fold<L: Lanes>(how: Reduce, joined: L) -> f32 {
    // SAFETY: the caller's promise.
    unsafe {
        match how {
            Reduce::Sum | Reduce::Mean => joined.tree(),
            Reduce::Max | Reduce::LogSumExp => tree(joined, scalar::maximum),
            Reduce::Min => tree(joined, scalar::minimum),
            Reduce::Product => tree(joined, |x, y| x * y),
        }
    }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn tree<L: Lanes>(x: L, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0; 16];
    // SAFETY: the caller's promise.
    unsafe { x.store(lanes.as_mut_ptr()) };
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
    }
    lanes[0]
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn first<L: Lanes>(x: L) -> f32 {
    let mut lanes = [0.0; 16];
    // SAFETY: the caller's promise.
    unsafe { x.store(lanes.as_mut_ptr()) };
    lanes[0]
}
