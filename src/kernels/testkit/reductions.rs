//! Parts of a row that become one element.

use super::{EDGES, assert_near, assert_same, compare, memory, row, span};
use crate::kernels::{Kernels, Reduce, Span};

const REDUCTIONS: [Reduce; 6] =
    [Reduce::Sum, Reduce::Mean, Reduce::Max, Reduce::Min, Reduce::Product, Reduce::LogSumExp];

/// Groups, length and inner, around the lanes.
const SHAPES: [[usize; 3]; 16] = [
    [1, 1, 1],
    [1, 5, 1],
    [3, 15, 1],
    [2, 16, 1],
    [2, 17, 1],
    [1, 40, 1],
    [7, 2, 1],
    [1, 1, 5],
    [3, 4, 2],
    [2, 7, 3],
    [1, 50, 8],
    [2, 3, 15],
    [1, 17, 16],
    [2, 2, 17],
    [1, 6, 33],
    [3, 1, 40],
];

fn reduced(how: Reduce, x: &[f64]) -> f64 {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    match how {
        Reduce::Sum => x.iter().sum(),
        Reduce::Mean => x.iter().sum::<f64>() / x.len() as f64,
        Reduce::Max => largest,
        Reduce::Min => x.iter().copied().fold(f64::INFINITY, f64::min),
        Reduce::Product => x.iter().product(),
        Reduce::LogSumExp => largest + x.iter().map(|x| (x - largest).exp()).sum::<f64>().ln(),
    }
}

#[test]
fn reduce_has_the_bits_of_the_truth() {
    for ([groups, length, inner], how) in SHAPES.into_iter().flat_map(|shape| REDUCTIONS.map(|how| (shape, how))) {
        for rows in [1, 3] {
            let (whole, part) = (groups * length * inner, groups * inner);
            let painted = rows * (whole + 1);
            let (input, output) = (span(1, whole + 1, whole), span(painted + 2, part + 2, part));
            let start = memory(painted + 1, painted + 2 + rows * (part + 2));
            let edges: Vec<f32> = (0..start.len()).map(|place| EDGES[place * 5 % EDGES.len()]).collect();
            let finite: Vec<f32> = (0..start.len()).map(|place| EDGES[place * 5 % 16]).collect();
            for (input, start) in [input, Span { stride: 0, ..input }].into_iter().zip([&start, &start]) {
                compare(&(groups, length, inner, how, rows), start, |set, memory| {
                    set.reduce(memory, rows, how, inner, input, output);
                });
            }
            for start in [&edges, &finite] {
                let mut start = start.clone();
                start[output.offset..].fill(super::GUARD);
                compare(&(groups, length, inner, how, rows, "edges"), &start, |set, memory| {
                    set.reduce(memory, rows, how, inner, input, output);
                });
            }
        }
    }
}

#[test]
fn reduce_follows_the_formula() {
    for (kernels, [groups, length, inner]) in Kernels::available().flat_map(|k| SHAPES.map(|shape| (k, shape))) {
        for how in REDUCTIONS {
            let (rows, whole, part) = (2, groups * length * inner, groups * inner);
            let (input, output) = (span(0, whole, whole), span(rows * whole, part, part));
            let mut memory = memory(rows * whole, rows * (whole + part));
            kernels.reduce(&mut memory, rows, how, inner, input, output);
            for (r, column) in (0..rows).flat_map(|r| (0..part).map(move |column| (r, column))) {
                let x = row(&memory, input, r);
                let first = column / inner * length * inner + column % inner;
                let x: Vec<f64> = (0..length).map(|i| x[first + i * inner]).collect();
                let expected = reduced(how, &x);
                let magnitude = match how {
                    Reduce::Product => expected.abs() * length as f64,
                    Reduce::Max | Reduce::Min => 0.0,
                    Reduce::Sum | Reduce::Mean | Reduce::LogSumExp => x.iter().map(|x| x.abs()).sum::<f64>() + 1.0,
                };
                let actual = memory[output.offset + r * part + column];
                assert_near(&(kernels.name(), groups, length, inner, how, r, column), actual, expected, magnitude);
            }
        }
    }
}

#[test]
fn reductions_of_unusual_elements() {
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    let cases: [(Reduce, [f32; 3], f32); 15] = [
        (Reduce::Max, [1.0, NAN, 2.0], NAN),
        (Reduce::Max, [NAN, 1.0, 2.0], NAN),
        (Reduce::Max, [1.0, 2.0, NAN], NAN),
        (Reduce::Min, [1.0, NAN, 2.0], NAN),
        (Reduce::Min, [NAN, 1.0, -INF], NAN),
        (Reduce::Max, [-INF, -INF, -INF], -INF),
        (Reduce::Min, [INF, INF, INF], INF),
        (Reduce::Max, [-0.0, 0.0, -1.0], 0.0),
        (Reduce::Min, [0.0, -0.0, 1.0], 0.0),
        (Reduce::LogSumExp, [-INF, -INF, -INF], -INF),
        (Reduce::LogSumExp, [1.0, INF, -INF], INF),
        (Reduce::LogSumExp, [1.0, NAN, -INF], NAN),
        (Reduce::LogSumExp, [-INF, 3.0, -INF], 3.0),
        (Reduce::LogSumExp, [1000.0, -1000.0, 0.0], 1000.0),
        (Reduce::Product, [-2.0, 3.0, 0.5], -3.0),
    ];
    for (kernels, (how, elements, expected)) in Kernels::available().flat_map(|k| cases.map(|case| (k, case))) {
        for inner in [1, 4] {
            let mut memory: Vec<f32> = elements.iter().flat_map(|x| std::iter::repeat_n(*x, inner)).collect();
            memory.resize(4 * inner, 0.0);
            kernels.reduce(&mut memory, 1, how, inner, span(0, 0, 3 * inner), span(3 * inner, 0, inner));
            assert_same(kernels.name(), &(how, elements), &memory[3 * inner..], &vec![expected; inner]);
        }
    }
}
