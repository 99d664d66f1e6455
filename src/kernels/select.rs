//! Elements of a row chosen by computed numbers: by their places, or by their rank.

use super::Span;
use super::lanes::{Lanes, read, write};
use std::ops::Range;

pub fn pick(memory: &mut [f32], rows: usize, input: Span, index: Span, groups: usize, output: Span) {
    let (count, inner) = (index.width / groups, output.width / index.width);
    let length = input.width / (groups * inner);
    for row in 0..rows {
        for group in 0..groups {
            for t in group * count..(group + 1) * count {
                let place = memory[index.offset + row * index.stride + t] as i64;
                let place = if place < 0 { place + length as i64 } else { place };
                let place = place.clamp(0, length as i64 - 1) as usize;
                let from = input.offset + row * input.stride + (group * length + place) * inner;
                memory.copy_within(from..from + inner, output.offset + row * output.stride + t * inner);
            }
        }
    }
}

/// The parts of the rows, each with where it begins, where its elements go, and where their places go.
fn parts(rows: usize, input: Span, groups: usize, output: Span) -> impl Iterator<Item = (usize, usize, usize)> {
    let (length, all) = (input.width / groups, output.width / 2);
    let each = move |row: usize| (0..groups).map(move |group| (row, group));
    (0..rows).flat_map(each).map(move |(row, group)| {
        let to = output.offset + row * output.stride + group * (all / groups);
        (input.offset + row * input.stride + group * length, to, to + all)
    })
}

/// The formula: every element goes before those that it precedes.
pub fn sorted(memory: &mut [f32], rows: usize, input: Span, groups: usize, is_smallest: bool, output: Span) {
    let count = output.width / 2 / groups;
    for (from, to, places) in parts(rows, input, groups, output) {
        insert(memory, from..from + input.width / groups, is_smallest, to..to + count, places);
    }
}

fn insert(memory: &mut [f32], from: Range<usize>, is_smallest: bool, to: Range<usize>, places: usize) {
    let is_larger = |x: f32, y: f32| x > y || (x.is_nan() && !y.is_nan());
    let precedes = |x: f32, y: f32| if is_smallest { is_larger(y, x) } else { is_larger(x, y) };
    let (to, count) = (to.start, to.len());
    for (place, at) in from.enumerate() {
        let value = memory[at];
        let mut rank = place.min(count);
        while rank > 0 && precedes(value, memory[to + rank - 1]) {
            rank -= 1;
            if rank + 1 < count {
                memory[to + rank + 1] = memory[to + rank];
                memory[places + rank + 1] = memory[places + rank];
            }
        }
        if rank < count {
            memory[to + rank] = value;
            memory[places + rank] = place as f32;
        }
    }
}

/// Zeros, and behind them ones: 16 elements from `15 - i` on say which lanes come after lane `i`.
static AFTER: [f32; 32] = {
    let mut after = [0.0; 32];
    let mut lane = 16;
    while lane < 32 {
        after[lane] = 1.0;
        lane += 1;
    }
    after
};

/// The same for parts of up to 16 elements without a branch: the rank of each is how many precede it.
///
/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn top_k<L: Lanes>(
    memory: &mut [f32],
    rows: usize,
    input: Span,
    groups: usize,
    is_smallest: bool,
    output: Span,
) {
    let (length, count) = (input.width / groups, output.width / 2 / groups);
    if length > 16 {
        return sorted(memory, rows, input, groups, is_smallest, output);
    }
    for (from, to, places) in parts(rows, input, groups, output) {
        let base = memory.as_mut_ptr();
        let (mut part, mut ranks) = ([0.0f32; 16], [0u8; 16]);
        // SAFETY: the CPU has the set, and the part lies in a checked span; whatever else is read and written has 16 elements.
        let is_number = unsafe {
            let (zero, one) = (L::splat(0.0), L::splat(1.0));
            let own = read::<L>(base.add(from), length);
            let x = if is_smallest { own.negate() } else { own };
            x.store(part.as_mut_ptr());
            let mut rank = zero;
            for (place, value) in part[..length].iter().enumerate() {
                let (other, after) = (L::splat(*value), L::load(AFTER.as_ptr().add(15 - place)));
                rank = rank.add(x.select_less(other, one, x.select_equal(other, after, zero)));
            }
            rank.store_bytes(ranks.as_mut_ptr());
            own.store(part.as_mut_ptr());
            own.select_equal(own, one, zero).tree() == 16.0
        };
        if !is_number {
            insert(memory, from..from + length, is_smallest, to..to + count, places);
            continue;
        }
        let (mut elements, mut numbers) = ([0.0f32; 16], [0.0f32; 16]);
        for (place, (value, rank)) in part[..length].iter().zip(ranks).enumerate() {
            elements[usize::from(rank & 15)] = *value;
            numbers[usize::from(rank & 15)] = place as f32;
        }
        // SAFETY: as above; both outputs lie in a checked span.
        unsafe {
            write(L::load(elements.as_ptr()), base.add(to), count);
            write(L::load(numbers.as_ptr()), base.add(places), count);
        }
    }
}
