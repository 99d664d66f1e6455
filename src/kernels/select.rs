//! Elements of a row chosen by computed numbers: by their places, or by their rank. All sets share this code.

use super::Span;

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
    let is_larger = |x: f32, y: f32| x > y || (x.is_nan() && !y.is_nan());
    let precedes = |x: f32, y: f32| if is_smallest { is_larger(y, x) } else { is_larger(x, y) };
    for row in 0..rows {
        for group in 0..groups {
            let from = input.offset + row * input.stride + group * length;
            let to = output.offset + row * output.stride + group * count;
            for place in 0..length {
                let value = memory[from + place];
                let mut rank = place.min(count);
                while rank > 0 && precedes(value, memory[to + rank - 1]) {
                    rank -= 1;
                    if rank + 1 < count {
                        memory[to + rank + 1] = memory[to + rank];
                        memory[to + all + rank + 1] = memory[to + all + rank];
                    }
                }
                if rank < count {
                    memory[to + rank] = value;
                    memory[to + all + rank] = place as f32;
                }
            }
        }
    }
}
