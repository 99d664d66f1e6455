//! Elements that are chosen: by a condition, by listed or computed places, by rank.

use super::{EDGES, GUARD, WIDTHS, assert_same, compare, memory, paint, span};
use crate::kernels::{Kernels, Places, Span};

#[test]
fn choose_has_the_bits_of_the_truth() {
    for width in WIDTHS {
        for rows in [1, 3] {
            let inputs = rows * (width + 1) + 2;
            let mut start: Vec<f32> = (0..inputs).map(|place| [0.0, 1.0, -0.0, f32::NAN, -3.5][place % 5]).collect();
            start.extend((0..2 * inputs).map(|place| paint(place + 1)));
            start.resize(3 * inputs + 2 + rows * (width + 2), GUARD);
            let [condition, then, otherwise] = [0, 1, 2].map(|i| span(i * inputs + 1, width + 1, width));
            let output = span(3 * inputs + 2, width + 2, width);
            let narrow = |span: Span| Span { width: 1, ..span };
            for (condition, then, otherwise) in [
                (condition, then, otherwise),
                (narrow(condition), then, otherwise),
                (condition, narrow(then), otherwise),
                (condition, then, narrow(otherwise)),
                (Span { stride: 0, ..condition }, narrow(then), Span { stride: 0, ..otherwise }),
            ] {
                compare(&(width, rows, condition, then, otherwise), &start, |set, memory| {
                    set.choose(memory, rows, condition, then, otherwise, output);
                });
            }
            if width > 1 {
                compare(&(width, rows, "in place"), &start, |set, memory| {
                    set.choose(memory, rows, condition, then, otherwise, then);
                });
            }
        }
    }
}

#[test]
fn any_condition_but_zero_holds() {
    for kernels in Kernels::available() {
        let mut memory = vec![0.0, -0.0, 1e-45, -1.0, f32::NAN, 7.0, 8.0];
        memory.resize(12, GUARD);
        kernels.choose(&mut memory, 1, span(0, 5, 5), span(5, 1, 1), span(6, 1, 1), span(7, 5, 5));
        assert_eq!(memory[7..], [8.0, 8.0, 7.0, 7.0, 7.0], "{}", kernels.name());
    }
}

#[test]
fn view_reads_every_place() {
    let reversed = |width: u32| (0..width).rev().collect::<Vec<_>>();
    let turned = |rows: u32, columns: u32| (0..rows * columns).map(|i| i % rows * columns + i / rows).collect();
    let cases: [(usize, Vec<u32>); 9] = [
        (1, vec![0]),
        (5, vec![4, 4, 4]),
        (40, (0..40).collect()),
        (40, (3..37).collect()),
        (40, reversed(40)),
        (40, turned(5, 8)),
        (33, (1..33).step_by(3).collect()),
        (36, [0, 18].into_iter().flat_map(|first| first + 1..first + 18).collect()),
        (7, (0..7).chain(0..7).chain(2..4).collect()),
    ];
    for (width, places) in cases {
        let count = places.len();
        let listed = Places::new(&places);
        assert_eq!(listed.width(), count);
        for (rows, stride) in [(1, width), (4, width + 1), (3, 0)] {
            let painted = rows * (width + 1) + 1;
            let (input, output) = (span(1, stride, width), span(painted + 1, count + 2, count));
            let start = memory(painted, painted + 1 + rows * (count + 2));
            compare(&(width, &places, rows), &start, |set, memory| set.view(memory, rows, input, &listed, output));
            for kernels in Kernels::available() {
                let mut memory = start.clone();
                kernels.view(&mut memory, rows, input, &listed, output);
                for (row, (j, place)) in (0..rows).flat_map(|row| places.iter().enumerate().map(move |j| (row, j))) {
                    let actual = memory[output.offset + row * output.stride + j];
                    assert_eq!(actual, paint(1 + row * stride + *place as usize), "{} {row} {j}", kernels.name());
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "view")]
fn a_place_outside_the_input_is_caught() {
    let places = Places::new(&[0, 4]);
    Kernels::select(None).expect("a set").view(&mut [0.0; 16], 1, span(0, 4, 4), &places, span(8, 2, 2));
}

#[test]
fn pick_counts_from_the_end_and_stays_inside() {
    // Two groups of four rows of three elements.
    let input: Vec<f32> = (0..24).map(|place| place as f32).collect();
    let index = [0.0, 3.0, -1.0, -4.0, 9.0, -9.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2.0];
    let expected = [[0, 3, 3, 0, 3], [0, 0, 3, 0, 2]];
    for (kernels, rows) in Kernels::available().flat_map(|kernels| [(kernels, 1), (kernels, 3)]) {
        let mut memory = input.clone();
        memory.extend(index);
        memory.resize(40 + rows * 31, GUARD);
        kernels.pick(&mut memory, rows, span(0, 0, 24), span(24, 0, 10), 2, span(40, 31, 30));
        let places = expected.iter().enumerate().flat_map(|(group, rows)| rows.map(|row| (group * 4 + row) * 3));
        let expected: Vec<f32> = places.flat_map(|place| [place, place + 1, place + 2].map(|x| x as f32)).collect();
        for row in 0..rows {
            assert_eq!(memory[40 + row * 31..][..30], expected, "{} {row}", kernels.name());
        }
    }
}

#[test]
fn top_k_sorts_with_ties_by_place() {
    const NAN: f32 = f32::NAN;
    let x = [1.0, 3.0, -2.0, 3.0, 0.0, 1.0];
    let y = [-0.0, NAN, 0.0, f32::INFINITY, f32::NEG_INFINITY, NAN];
    let largest = ([3.0, 3.0, 1.0, 1.0, 0.0, -2.0], [1, 3, 0, 5, 4, 2]);
    let smallest = ([-2.0, 0.0, 1.0, 1.0, 3.0, 3.0], [2, 4, 0, 5, 1, 3]);
    let unusual_largest = ([NAN, NAN, f32::INFINITY, -0.0, 0.0, f32::NEG_INFINITY], [1, 5, 3, 0, 2, 4]);
    let unusual_smallest = ([f32::NEG_INFINITY, -0.0, 0.0, f32::INFINITY, NAN, NAN], [4, 0, 2, 3, 1, 5]);
    for (is_smallest, [first, second]) in [(false, [largest, unusual_largest]), (true, [smallest, unusual_smallest])] {
        for (kernels, count) in Kernels::available().flat_map(|kernels| [(kernels, 1), (kernels, 4), (kernels, 6)]) {
            let mut memory = [x, y].concat();
            memory.resize(13 + 2 * (4 * count + 1), GUARD);
            let output = span(13, 4 * count + 1, 4 * count);
            kernels.top_k(&mut memory, 2, span(0, 0, 12), 2, is_smallest, output);
            let places = |places: [i32; 6]| places.map(|place| place as f32)[..count].to_vec();
            let values = [&first.0[..count], &second.0[..count]].concat();
            let expected = [values, places(first.1), places(second.1)].concat();
            for row in 0..2 {
                let actual = &memory[output.offset + row * output.stride..][..4 * count];
                assert_same(kernels.name(), &(is_smallest, count, row), actual, &expected);
            }
        }
    }
}

#[test]
fn top_k_has_the_bits_of_the_truth() {
    for (length, groups) in [1, 2, 5, 9, 15, 16, 17].into_iter().flat_map(|length| [(length, 1), (length, 3)]) {
        let (rows, width) = (3, length * groups);
        let value = |place: usize| match place / width {
            0 => paint(place * 7),
            1 => [1.0, -0.0, 0.0, f32::INFINITY, 1.0, f32::NEG_INFINITY][place * 5 % 6],
            _ => EDGES[place * 7 % EDGES.len()],
        };
        for (count, is_smallest) in [1, length.div_ceil(2), length].into_iter().flat_map(|n| [(n, false), (n, true)]) {
            let mut start: Vec<f32> = (0..rows * width).map(value).collect();
            let output = span(start.len(), 2 * groups * count + 1, 2 * groups * count);
            start.resize(output.offset + rows * output.stride, GUARD);
            compare(&(length, groups, count, is_smallest), &start, |set, memory| {
                set.top_k(memory, rows, span(0, width, width), groups, is_smallest, output);
            });
        }
    }
}

#[test]
fn top_k_sorts_any_row() {
    for length in [1, 2, 17, 40] {
        let x: Vec<f32> = (0..length).map(|place| EDGES[place * 7 % 19] * [1.0, 0.5][place % 2]).collect();
        let mut sorted: Vec<usize> = (0..length).collect();
        sorted.sort_by(|i, j| x[*j].partial_cmp(&x[*i]).expect("no NaN"));
        let mut memory = x.clone();
        memory.resize(3 * length, GUARD);
        let output = span(length, 0, 2 * length);
        Kernels::select(None).expect("a set").top_k(&mut memory, 1, span(0, 0, length), 1, false, output);
        for (t, place) in sorted.into_iter().enumerate() {
            assert_eq!((memory[length + t], memory[2 * length + t]), (x[place], place as f32), "{length} {t}");
        }
    }
}
