//! Elements of a row chosen by computed numbers: by their places, or by their rank. All sets share this code.

use super::Span;
use std::cmp::Ordering;

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

pub fn top_k(memory: &mut [f32], rows: usize, input: Span, groups: usize, is_smallest: bool, output: Span) {
    let (length, all) = (input.width / groups, output.width / 2);
    let count = all / groups;
    let order = |x: (usize, f32), y: (usize, f32)| {
        let larger_first = y.1.partial_cmp(&x.1).unwrap_or(x.1.is_nan().cmp(&y.1.is_nan()).reverse());
        let by_value = if is_smallest { larger_first.reverse() } else { larger_first };
        by_value.then(x.0.cmp(&y.0))
    };
    for row in 0..rows {
        for group in 0..groups {
            let from = input.offset + row * input.stride + group * length;
            let to = output.offset + row * output.stride + group * count;
            let mut last = None;
            for t in 0..count {
                let elements = memory[from..from + length].iter().copied().enumerate();
                let rest = elements.filter(|x| last.is_none_or(|last| order(last, *x) == Ordering::Less));
                last = rest.min_by(|x, y| order(*x, *y));
                let Some((place, value)) = last else { break };
                memory[to + t] = value;
                memory[to + all + t] = place as f32;
            }
        }
    }
}
