//! Functions of the positions of a sequence.

use super::{
    EDGES, GUARD, WIDTHS, assert_near, assert_untouched, compare, magnitude, memory, row, span, sum_of_products,
};
use crate::kernels::{Attend, Kernels, Rows, Span};

/// Positions around the lanes, and the length of a long history.
const POSITIONS: [usize; 7] = [0, 1, 2, 15, 16, 17, 50];

fn softmax(x: &[f64]) -> Vec<f64> {
    let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let e: Vec<f64> = x.iter().map(|x| (x - largest).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.iter().map(|e| e / sum).collect()
}

#[test]
fn pool_has_the_bits_of_the_truth() {
    for (width, positions) in WIDTHS.into_iter().flat_map(|width| POSITIONS.map(|positions| (width, positions))) {
        for groups in [1, 3] {
            let whole = groups * width;
            let painted = (positions + 1) * (whole + 1) + (positions + 1) * (groups + 2);
            let (input, output) = (span(1, whole + 1, whole), span(painted + 1, 0, whole));
            let weights = span((positions + 1) * (whole + 1), groups + 2, groups);
            let start = memory(painted, painted + 2 + whole);
            for input in [input, Span { stride: 0, ..input }] {
                for weights in [None, Some(weights), Some(Span { stride: 0, ..weights })] {
                    for is_mean in [false, true] {
                        compare(&(width, positions, input, weights, is_mean), &start, |set, memory| {
                            set.pool(memory, positions, input, weights, is_mean, output);
                        });
                    }
                }
            }
            compare(&(width, positions, "over the input"), &start, |set, memory| {
                set.pool(memory, positions, input, Some(weights), false, Span { stride: 0, ..input });
            });
        }
    }
}

#[test]
fn pool_follows_the_formula() {
    for (kernels, positions) in Kernels::available().flat_map(|kernels| POSITIONS.map(|positions| (kernels, positions)))
    {
        let (groups, width) = (3, 19);
        let whole = groups * width;
        let (input, weights) = (span(0, whole, whole), span(positions * whole, groups, groups));
        let painted = positions * (whole + groups);
        let output = span(painted + 3, 0, whole);
        for (weights, is_mean) in [(None, false), (None, true), (Some(weights), false)] {
            let mut memory = memory(painted, painted + 3 + whole);
            kernels.pool(&mut memory, positions, input, weights, is_mean, output);
            for c in 0..whole {
                let x: Vec<f64> = (0..positions).map(|i| row(&memory, input, i)[c]).collect();
                let share = if is_mean { 1.0 / positions as f64 } else { 1.0 };
                let weight = |i| weights.map_or(share, |weights| row(&memory, weights, i)[c / width]);
                let weights: Vec<f64> = (0..positions).map(weight).collect();
                let (expected, magnitude) = (sum_of_products(&x, &weights), magnitude(&x, &weights));
                let actual = memory[output.offset + c];
                assert_near(&(kernels.name(), positions, is_mean, c), actual, expected, magnitude);
            }
        }
    }
}

#[test]
fn softmax_down_has_the_bits_of_the_truth() {
    for (width, positions) in WIDTHS.into_iter().flat_map(|width| POSITIONS.map(|positions| (width, positions))) {
        let painted = (positions + 1) * (width + 1);
        let (input, output) = (span(1, width + 1, width), span(painted + 1, width + 2, width));
        let start = memory(painted, painted + 1 + (positions + 1) * (width + 2));
        let edges: Vec<f32> = (0..start.len()).map(|place| EDGES[place % 19]).collect();
        for (input, output) in [(input, output), (Span { stride: 0, ..input }, output), (input, input)] {
            for start in [&start, &edges] {
                let what = (width, positions, input, output);
                let call = |set: &Kernels, memory: &mut [f32]| set.softmax_down(memory, positions, input, output);
                if positions == 0 { assert_untouched(&what, start, call) } else { compare(&what, start, call) }
            }
        }
    }
}

#[test]
fn softmax_down_follows_the_formula() {
    for (kernels, positions) in Kernels::available().flat_map(|kernels| POSITIONS.map(|positions| (kernels, positions)))
    {
        let width = 19;
        let (input, output) = (span(0, width, width), span(positions * width, width, width));
        let mut memory = memory(positions * width, 2 * positions * width + width);
        kernels.softmax_down(&mut memory, positions, input, output);
        for c in 0..width {
            let x: Vec<f64> = (0..positions).map(|i| row(&memory, input, i)[c]).collect();
            for (i, expected) in softmax(&x).into_iter().enumerate() {
                let actual = memory[output.offset + i * width + c];
                assert_near(&(kernels.name(), positions, i, c), actual, expected, expected);
            }
        }
    }
}

/// A call over painted queries, keys and base of so many candidates, with the scratch and then the output behind them.
fn attend_case(rows: usize, positions: usize, terms: usize, base: Option<usize>, how: Rows) -> (Vec<f32>, Attend) {
    let length = positions.max(1) + 2;
    let width = terms * length;
    let queries = span(1, width + 1, width);
    let keys = span(2 + rows * (width + 1), width, width);
    let from = keys.offset + rows * width;
    let scratch = span(from + (rows + 1) * length * length + 1, 0, Attend::scratch(terms, length));
    let output = span(scratch.offset + scratch.width + 1, length + 3, length);
    let base = base.map(|stride| span(from, stride * length * length, length * length));
    let start = memory(scratch.offset, output.offset + rows * (length + 3) + 1);
    (start, Attend { terms, length, queries, keys, base, rows: how, scratch, output })
}

/// No base, one for all candidates, or one for each.
const BASES: [Option<usize>; 3] = [None, Some(0), Some(1)];
const POOLED: [Rows; 3] = [Rows::Mean, Rows::Sum, Rows::Last];

/// Runs `call` and guards the scratch again, whose contents are nobody's promise.
fn attend(kernels: &Kernels, memory: &mut [f32], rows: usize, positions: usize, call: &Attend) {
    kernels.attend(memory, rows, positions, call);
    memory[call.scratch.offset..call.scratch.offset + call.scratch.width].fill(GUARD);
}

#[test]
fn attend_has_the_bits_of_the_truth() {
    for (terms, positions) in [1, 3].into_iter().flat_map(|terms| POSITIONS.map(|positions| (terms, positions))) {
        for (how, base) in POOLED.into_iter().flat_map(|how| BASES.map(|base| (how, base))) {
            for rows in [1, 2, 11, 12, 16, 17, 30, 45] {
                let (start, call) = attend_case(rows, positions, terms, base, how);
                let mut edges = start.clone();
                for place in (0..call.scratch.offset).step_by(7) {
                    edges[place] = EDGES[place % 16];
                }
                for start in [&start, &edges] {
                    compare(&(rows, call), start, |set, memory| attend(set, memory, rows, positions, &call));
                }
            }
        }
    }
}

#[test]
fn attend_follows_the_formula() {
    for (kernels, positions) in Kernels::available().flat_map(|kernels| POSITIONS.map(|positions| (kernels, positions)))
    {
        for (how, base) in POOLED.into_iter().flat_map(|how| BASES.map(|base| (how, base))) {
            let (rows, terms) = (18, 5);
            let (start, call) = attend_case(rows, positions, terms, base, how);
            let mut memory = start.clone();
            kernels.attend(&mut memory, rows, positions, &call);
            for candidate in 0..rows {
                let mut pooled = vec![0.0; call.length];
                let [queries, keys] = [call.queries, call.keys].map(|side| row(&start, side, candidate));
                for i in if how == Rows::Last { positions.saturating_sub(1)..positions } else { 0..positions } {
                    let base = call.base.map(|base| row(&start, base, candidate));
                    let logit = |j: usize| {
                        let terms = (0..terms).map(|t| queries[t * call.length + i] * keys[t * call.length + j]);
                        base.as_ref().map_or(0.0, |base| base[i * call.length + j]) + terms.sum::<f64>()
                    };
                    let logits: Vec<f64> = (0..positions).map(logit).collect();
                    pooled.iter_mut().zip(softmax(&logits)).for_each(|(pooled, weight)| *pooled += weight);
                }
                for (j, sum) in pooled.into_iter().enumerate() {
                    let expected = if how == Rows::Mean { sum / positions.max(1) as f64 } else { sum };
                    let actual = memory[call.output.offset + candidate * call.output.stride + j];
                    // A weight is as far off as its logit, the sum of six products of values up to 2.05.
                    let what = (kernels.name(), positions, how, candidate, j);
                    assert_near(&what, actual, expected, expected * 6.0 * 2.05 * 2.05);
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "attend scratch")]
fn a_scratch_that_is_too_small_is_caught() {
    let (mut memory, call) = attend_case(20, 17, 4, None, Rows::Mean);
    let scratch = Span { width: call.scratch.width - 1, ..call.scratch };
    Kernels::select(None).expect("a set").attend(&mut memory, 20, 17, &Attend { scratch, ..call });
}
