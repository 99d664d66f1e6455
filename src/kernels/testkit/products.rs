//! Products with packed and with computed matrices.

use super::{
    ACTIVATIONS, GUARD, ROWS, WIDTHS, assert_near, assert_same, compare, dense, magnitude, memory, paint, row, span,
    sum_of_products,
};
use crate::kernels::{Activation, Dense, Generated, Kernels, MatMul, NOWHERE, Panels, Span, Start, Weight};

#[test]
fn dense_has_the_bits_of_the_truth() {
    for (case, width) in WIDTHS.into_iter().chain([80, 128, 130]).enumerate() {
        for rows in ROWS {
            let depth = [1, 3, 16, 37, 300][(case + rows) % 5];
            let weight_type = EXACT[(case + rows / 2) % EXACT.len()];
            let activation = ACTIVATIONS[(case + rows) % ACTIVATIONS.len()];
            let bias: Vec<f32> = (0..width).map(|c| paint(c * 7)).collect();
            let weight = |c: usize, k: usize| paint(c * 131 + k * 17) / 4.0;
            let weights = packed(weight_type, depth, width, weight, Some(&bias));
            let input = span(3, if case % 5 == 4 { 0 } else { depth + 2 }, depth);
            let side = span(5, width, width);
            let start = [Start::Zero, Start::Bias, Start::Span(side)][case % 3];
            let addend = [None, Some(side), Some(Span { stride: 0, ..side })][(case + rows) % 3];
            let painted = 5 + rows * (width + depth + 2);
            let output = span(painted + 1, width + 3, width);
            let end = painted + 1 + rows * (width + 3);
            let scratch = span(end, 0, weight_type.scratch(depth, rows));
            let call = dense(input, &weights, start, addend, output, activation, scratch);
            let start = memory(painted, end + scratch.width);
            compare(&(width, rows, depth, weight_type, activation), &start, |set, memory| {
                set.dense(memory, rows, &call);
                memory[end..].fill(GUARD);
            });
        }
    }
}

#[test]
fn gathered_layers_keep_their_weights() {
    let pack = |columns: usize, weight_type: Weight| {
        packed(weight_type, 301, columns, |c, k| paint(c * 131 + k * 17), Some(&vec![0.5; columns]))
    };
    let shapes = [(1600, Weight::F32), (17, Weight::Int16), (0, Weight::F16), (900, Weight::F16), (700, Weight::Int8)];
    let before = shapes.map(|(columns, weight_type)| pack(columns, weight_type));
    let mut after = shapes.map(|(columns, weight_type)| pack(columns, weight_type));
    Panels::gather(&mut after);
    let mut end = after[0].weights();
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after.weights(), end, "{after:?} follows the one before");
        end = end.wrapping_add(before.panel_bytes() * before.columns().div_ceil(16));
        assert_eq!((before.to_bytes(), before.own_bytes()), (after.to_bytes(), after.own_bytes()), "{after:?}");
        for (column, k) in (0..before.columns()).flat_map(|column| [0, 150, 300].map(|k| (column, k))) {
            assert_eq!(before.weight(column, k), after.weight(column, k), "{after:?} {column} {k}");
        }
    }
    let (rows, depth, width) = (17, 301, before[1].columns());
    let scratch = span(rows * (depth + width), 0, Weight::Int16.scratch(depth, rows));
    let (input, output) = (span(0, depth, depth), span(rows * depth, width, width));
    for kernels in Kernels::available() {
        let [first, second] = [&before[1], &after[1]].map(|weights| {
            let mut memory = memory(rows * depth, scratch.offset + scratch.width);
            let call = dense(input, weights, Start::Zero, None, output, Activation::Identity, scratch);
            kernels.dense(&mut memory, rows, &call);
            memory[output.offset..scratch.offset].to_vec()
        });
        assert_eq!(first, second, "{}", kernels.name());
    }
    let mut small = [pack(40, Weight::F32), pack(40, Weight::F32)];
    let places = small.each_ref().map(Panels::weights);
    Panels::gather(&mut small);
    assert_eq!(small.each_ref().map(Panels::weights), places, "less than a huge page");
}

/// A layer that every set can read.
fn packed(
    weight_type: Weight,
    depth: usize,
    columns: usize,
    weight: impl Fn(usize, usize) -> f32,
    bias: Option<&[f32]>,
) -> Panels {
    let mut panels = Panels::pack(weight_type, depth, columns, weight, bias).expect("memory");
    panels.add_planes().expect("memory");
    panels
}

/// Types of weights with the same bits on every set.
const EXACT: [Weight; 5] = [Weight::F32, Weight::F16, Weight::Int12, Weight::Int16, Weight::Int8];

/// The outputs of a layer without bias on every set, and what they should be. Inputs are `paint` with an offset.
fn multiply(weight_type: Weight, [rows, depth, width]: [usize; 3], shift: f32, each: impl Fn(&str, f32, f64, f64)) {
    let weight = |c: usize, k: usize| paint(c * 3 + k * 5);
    let weights = packed(weight_type, depth, width, weight, None);
    let (input, output) = (span(0, depth, depth), span(rows * depth, width, width));
    let scratch = span(rows * (depth + width), 0, weight_type.scratch(depth, rows));
    let activation = Activation::Identity;
    let call = dense(input, &weights, Start::Bias, None, output, activation, scratch);
    for kernels in Kernels::available() {
        let mut memory = memory(rows * depth, scratch.offset + scratch.width);
        memory[..rows * depth].iter_mut().for_each(|x| *x += shift);
        let inputs: Vec<f64> = memory[..rows * depth].iter().map(|x| f64::from(*x)).collect();
        kernels.dense(&mut memory, rows, &call);
        for (row, column) in (0..rows).flat_map(|row| (0..width).map(move |column| (row, column))) {
            let of: Vec<f64> = (0..depth).map(|k| f64::from(weight(column, k))).collect();
            let row_of = &inputs[row * depth..][..depth];
            let (expected, whole) = (sum_of_products(row_of, &of), magnitude(row_of, &of));
            each(kernels.name(), memory[output.offset + row * width + column], expected, whole);
        }
    }
}

#[test]
fn quantised_layers_are_near_the_formula() {
    // Of the sum of absolute products: half a step of 127 or 16383 of the weights, or of the fewer that int12 has of 515, of 255 or
    // so many of the inputs, and 2^-8 for each factor in bf16.
    for (weight_type, bound) in
        [(Weight::Int8, 8e-3), (Weight::Int12, 2e-4), (Weight::Int16, 1.4e-4), (Weight::Bf16, 8e-3)]
    {
        for shape in [[7, 40, 19], [1, 37, 70], [2, 3, 5], [13, 515, 33]] {
            // Of both signs, of one, of the other.
            for shift in [0.0, 2.5, -2.5] {
                multiply(weight_type, shape, shift, |set, actual, expected, magnitude| {
                    let error = (f64::from(actual) - expected).abs();
                    assert!(error <= bound * magnitude, "{set} {weight_type:?} {shape:?} {shift}: {actual} {expected}");
                });
            }
        }
    }
}

/// The sums that come nearest to 32 bits: rows that are a column of the weights, or its part above 0 or below.
#[test]
fn no_sum_of_words_overflows() {
    for weight_type in [Weight::Int12, Weight::Int16] {
        for depth in [0, 1, 63, 64, 65, 191, 192, 193, 240, 385, 640, 4096] {
            let width = 5;
            // All at the largest, a column of one sign, paint, one large weight among small ones.
            let weight = |c: usize, k: usize| match c {
                0 => 1.0 - (k % 2) as f32 * 2.0,
                1 => 1.0,
                2 | 3 => paint(c + k * 7),
                _ => paint(k) * 1e-3 + if k == depth / 2 { 1.0 } else { 0.0 },
            };
            let weights = packed(weight_type, depth, width, weight, None);
            // Of magnitudes whose squares are f32, nothing, and infinite.
            let sizes = [1.0, 1e-25, 1e25];
            let rows = 3 * sizes.len() * width;
            let scratch = span(rows * (depth + width), 0, weight_type.scratch(depth, rows));
            let (input, output) = (span(0, depth, depth), span(rows * depth, width, width));
            let call = dense(input, &weights, Start::Zero, None, output, Activation::Identity, scratch);
            let mut start = memory(0, scratch.offset + scratch.width);
            for (row, k) in (0..rows).flat_map(|row| (0..depth).map(move |k| (row, k))) {
                let w = weight(row / 3 % width, k);
                start[row * depth + k] = [w, w.max(0.0), (-w).max(0.0)][row % 3] * sizes[row / (3 * width)];
            }
            for kernels in Kernels::available() {
                let mut memory = start.clone();
                kernels.dense(&mut memory, rows, &call);
                for (row, column) in (0..rows).flat_map(|row| (0..width).map(move |column| (row, column))) {
                    let x: Vec<f64> = start[row * depth..][..depth].iter().map(|x| f64::from(*x)).collect();
                    let w: Vec<f64> = (0..depth).map(|k| f64::from(weight(column, k))).collect();
                    let (actual, expected) = (memory[output.offset + row * width + column], sum_of_products(&x, &w));
                    let norm = |x: &[f64]| sum_of_products(x, x).sqrt();
                    let error = (f64::from(actual) - expected).abs() / (norm(&x) * norm(&w)).max(1e-30);
                    assert!(error < 2e-3, "{} {weight_type:?} {depth} {row} {column}: {error}", kernels.name());
                }
            }
        }
    }
}

#[test]
fn pairs_of_bf16_are_summed_alike() {
    let exact = |x: f32| half::bf16::from_f32(x).to_f32();
    let (rows, depth, width) = (5, 63, 35);
    let weights = packed(Weight::Bf16, depth, width, |c, k| paint(c * 3 + k), None);
    let (input, output) = (span(0, depth, depth), span(rows * depth, width, width));
    let scratch = span(rows * (depth + width), 0, Weight::Bf16.scratch(depth, rows));
    let (start, activation) = (Start::Zero, Activation::Identity);
    let call = dense(input, &weights, start, None, output, activation, scratch);
    for kernels in Kernels::available() {
        let mut memory = memory(rows * depth, scratch.offset + scratch.width);
        kernels.dense(&mut memory, rows, &call);
        for (row, column) in (0..rows).flat_map(|row| (0..width).map(move |column| (row, column))) {
            let (x, w): (Vec<f64>, Vec<f64>) = (0..depth)
                .map(|k| (f64::from(exact(paint(row * depth + k))), f64::from(exact(paint(column * 3 + k)))))
                .unzip();
            let actual = memory[output.offset + row * width + column];
            assert_near(&(kernels.name(), row, column), actual, sum_of_products(&x, &w), magnitude(&x, &w));
        }
    }
}

#[test]
fn rows_that_are_quantised_are_not_again() {
    let (rows, depth, width) = (9, 40, 35);
    for weight_type in [Weight::Int8, Weight::Int12, Weight::Int16, Weight::Bf16] {
        let weights = [3, 7].map(|factor| packed(weight_type, depth, width, |c, k| paint(c * factor + k), None));
        let reach = weights[0].reach().and(weights[1].reach());
        let (input, output) = (span(0, depth, depth), span(rows * depth, width, width));
        let scratch = span(rows * (depth + width), 0, weight_type.scratch(depth, rows));
        let call = |place: usize, is_quantized| Dense {
            reach,
            is_quantized,
            ..dense(input, &weights[place], Start::Zero, None, output, Activation::Relu, scratch)
        };
        // The truth quantises every row anew.
        for kernels in Kernels::available().skip(1) {
            let mut expected = memory(rows * depth, scratch.offset + scratch.width);
            kernels.dense(&mut expected, rows, &call(1, false));
            let mut actual = memory(rows * depth, scratch.offset + scratch.width);
            kernels.dense(&mut actual, rows, &call(0, false));
            actual[..rows * depth].fill(0.0);
            kernels.dense(&mut actual, rows, &call(1, true));
            let outputs = output.offset..scratch.offset;
            assert_same(kernels.name(), &weight_type, &actual[outputs.clone()], &expected[outputs]);
        }
    }
}

#[test]
fn a_row_that_is_not_finite_has_no_finite_outputs() {
    for (weight_type, bad) in [(Weight::Int8, f32::NAN), (Weight::Int8, f32::INFINITY), (Weight::Int12, f32::NAN)] {
        let (rows, depth, width) = (7, 20, 33);
        let weights = packed(weight_type, depth, width, |c, k| paint(c + k), None);
        let (input, output) = (span(0, depth, depth), span(rows * depth, width, width));
        let scratch = span(rows * (depth + width), 0, weight_type.scratch(depth, rows));
        let (start, activation) = (Start::Zero, Activation::Identity);
        let call = dense(input, &weights, start, None, output, activation, scratch);
        for kernels in Kernels::available() {
            let mut memory = memory(rows * depth, scratch.offset + scratch.width);
            memory[3 * depth + 17] = bad;
            kernels.dense(&mut memory, rows, &call);
            for (row, values) in memory[output.offset..scratch.offset].chunks(width).enumerate() {
                assert_eq!(values.iter().all(|x| x.is_finite()), row != 3, "{} {weight_type:?}", kernels.name());
                assert!(row != 3 || values.iter().all(|x| !x.is_finite()), "{} {weight_type:?}", kernels.name());
            }
        }
    }
}

#[test]
fn the_largest_integers_do_not_overflow() {
    for weight_type in [Weight::Int8, Weight::Int12, Weight::Int16] {
        for depth in [1, 64, 65, weight_type.max_depth()] {
            let sign = |place: usize| if place.is_multiple_of(2) { 1.0 } else { -1.0 };
            // Columns of equal signs, of alternating ones, and of zeros, all weights at the largest step.
            let weight = |c: usize, k: usize| [1.0, sign(k), -1.0, 0.0][c];
            let weights = packed(weight_type, depth, 4, weight, None);
            let (input, output) = (span(0, depth, depth), span(3 * depth, 4, 4));
            let scratch = span(3 * depth + 12, 0, weight_type.scratch(depth, 3));
            let (start, activation) = (Start::Zero, Activation::Identity);
            let call = dense(input, &weights, start, None, output, activation, scratch);
            for kernels in Kernels::available() {
                let mut memory = vec![0.0; scratch.offset + scratch.width];
                for k in 0..depth {
                    (memory[k], memory[depth + k], memory[2 * depth + k]) = (2.0, 2.0 * sign(k), -2.0);
                }
                kernels.dense(&mut memory, 3, &call);
                let (all, half) = (2.0 * depth as f32, 2.0 * (depth % 2) as f32);
                let expected = [[all, half, -all, 0.0], [half, all, -half, 0.0], [-all, -half, all, 0.0]].concat();
                for (actual, expected) in memory[output.offset..scratch.offset].iter().zip(expected) {
                    let error = (actual - expected).abs();
                    assert!(error <= 1e-2 * all, "{} {weight_type:?} {depth}: {actual} {expected}", kernels.name());
                }
            }
        }
    }
}

#[test]
fn dense_follows_the_formula() {
    let (rows, depth, width) = (7, 40, 19);
    let weight = |c: usize, k: usize| paint(c * 3 + k * 5);
    let bias: Vec<f32> = (0..width).map(|c| paint(c + 9)).collect();
    let weights = packed(Weight::F32, depth, width, weight, Some(&bias));
    let (input, output) = (span(0, depth, depth), span(rows * depth, width, width));
    let (start, activation, scratch) = (Start::Bias, Activation::Relu, NOWHERE);
    let call = dense(input, &weights, start, None, output, activation, scratch);
    for kernels in Kernels::available() {
        let mut memory = memory(rows * depth, rows * (depth + width));
        kernels.dense(&mut memory, rows, &call);
        for row in 0..rows {
            for (column, bias) in bias.iter().enumerate() {
                let products = (0..depth).map(|k| f64::from(paint(row * depth + k)) * f64::from(weight(column, k)));
                let expected = (products.sum::<f64>() + f64::from(*bias)).max(0.0);
                let actual = f64::from(memory[output.offset + row * width + column]);
                assert!((actual - expected).abs() < 1e-4, "{}: {actual} {expected}", kernels.name());
            }
        }
    }
}

/// Where the matrix of a `Generated` is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    PerRow,
    Shared,
    Outside,
}

/// A call over a memory of painted inputs, starts, addends and matrices, with the output behind them. `case` chooses start,
/// addend and strides.
struct GeneratedCase {
    memory: Vec<f32>,
    outside: Vec<f32>,
    call: Generated<'static>,
}

impl GeneratedCase {
    fn new(place: Place, rows: usize, depth: usize, width: usize, case: usize) -> Self {
        let input = span(3, if case % 5 == 4 { 0 } else { depth + 2 }, depth);
        let side = span(5, width, width);
        let elements = depth * width;
        let stride = if place == Place::PerRow { elements + 1 } else { 0 };
        let weight = span(7 + rows * (width + depth + 2), stride, elements);
        let painted = weight.offset + elements + stride * (rows - 1);
        let call = Generated {
            input,
            weight: if place == Place::Outside { span(0, 0, 0) } else { weight },
            outside: None,
            start: if case.is_multiple_of(2) { Start::Zero } else { Start::Span(side) },
            addend: [None, Some(side), Some(Span { stride: 0, ..side })][case % 3],
            output: span(painted + 1, width + 3, width),
            activation: ACTIVATIONS[case % ACTIVATIONS.len()],
        };
        let outside = if place == Place::Outside { (0..elements).map(|i| paint(i * 13)).collect() } else { Vec::new() };
        Self { memory: memory(painted, painted + 1 + rows * (width + 3) - 3), outside, call }
    }

    fn call(&self) -> Generated<'_> {
        Generated { outside: (!self.outside.is_empty()).then_some(&self.outside), ..self.call }
    }
}

#[test]
fn generated_has_the_bits_of_the_truth() {
    let compare = |place, rows, depth, width, case| {
        let run = GeneratedCase::new(place, rows, depth, width, case);
        let what = (place, rows, depth, width, run.call.start, run.call.addend, run.call.activation);
        compare(&what, &run.memory, |set, memory| set.generated(memory, rows, &run.call()));
    };
    for (case, width) in WIDTHS.into_iter().chain([80, 130]).enumerate() {
        for (other, rows) in ROWS.into_iter().enumerate() {
            let depth = [1, 3, 16, 37][(case + rows) % 4];
            compare(
                [Place::PerRow, Place::Shared, Place::Outside][(case + other) % 3],
                rows,
                depth,
                width,
                case + rows,
            );
        }
    }
    // Around the copied blocks: of 256 inputs; for more than 48 rows, or more than 6 by more than 256 columns.
    for (case, depth) in [255, 256, 257, 515].into_iter().enumerate() {
        for (rows, width) in [(6, 258), (7, 257), (48, 17), (49, 33), (50, 16)] {
            for place in [Place::Shared, Place::Outside] {
                compare(place, rows, depth, width, case + rows);
            }
        }
    }
}

#[test]
fn generated_follows_the_formula() {
    for (place, rows, depth, width) in [
        (Place::PerRow, 5, 40, 19),
        (Place::PerRow, 3, 16, 70),
        (Place::Shared, 1, 37, 130),
        (Place::Shared, 13, 40, 19),
        (Place::Outside, 50, 300, 33),
        (Place::Outside, 7, 40, 270),
    ] {
        for case in [1, 4, 2 * ACTIVATIONS.len()] {
            let mut run = GeneratedCase::new(place, rows, depth, width, case);
            run.call.activation = Activation::Identity;
            let (call, start) = (run.call(), &run.memory);
            for kernels in Kernels::available() {
                let mut memory = start.clone();
                kernels.generated(&mut memory, rows, &call);
                for r in 0..rows {
                    let input = row(start, call.input, r);
                    let matrix = match call.outside {
                        Some(outside) => outside.iter().map(|x| f64::from(*x)).collect(),
                        None => row(start, call.weight, r),
                    };
                    let first = if let Start::Span(span) = call.start { row(start, span, r) } else { vec![0.0; width] };
                    let addend = call.addend.map_or(vec![0.0; width], |span| row(start, span, r));
                    for c in 0..width {
                        let column: Vec<f64> = matrix.iter().skip(c).step_by(width).copied().collect();
                        let expected = addend[c] + first[c] + sum_of_products(&input, &column);
                        let magnitude = addend[c].abs() + first[c].abs() + magnitude(&input, &column);
                        let actual = memory[call.output.offset + r * call.output.stride + c];
                        assert_near(&(kernels.name(), place, r, c), actual, expected, magnitude);
                    }
                }
            }
        }
    }
}

#[test]
fn a_layer_without_inputs_is_its_start() {
    for (rows, width) in [(1, 70), (5, 17), (60, 17), (9, 300)] {
        let (start, output) = (span(0, width, width), span(rows * width, width, width));
        let (input, weight) = (span(0, 0, 0), span(0, 0, 0));
        let activation = Activation::Identity;
        let call =
            Generated { input, weight, outside: None, start: Start::Span(start), addend: None, output, activation };
        for kernels in Kernels::available() {
            let mut memory = memory(rows * width, 2 * rows * width);
            kernels.generated(&mut memory, rows, &call);
            assert_eq!(memory[..rows * width], memory[rows * width..], "{} {rows} {width}", kernels.name());
        }
    }
}

/// The exact sum `(1 + 2^-23)(1 - 2^-23) 2^-24 + (1 + 2^-23)` lies 2^-70 below the middle of two floats: rounded to f64
/// first, it becomes that middle, and then goes up to the even one.
#[test]
fn a_product_and_a_sum_are_rounded_once() {
    let unit = f32::EPSILON;
    let (factor, weight, bias) = (1.0 + unit, (1.0 - unit) * (unit / 2.0), 1.0 + unit);
    for (sign, scale) in [(1.0, 1.0), (-1.0, 1.0), (1.0, 1e-19), (-1.0, 1e18)] {
        let scale = f32::from_bits(f32::to_bits(scale) & 0x7f80_0000);
        for (rows, width) in [(1, 70), (6, 16), (8, 21)] {
            let (weight, bias) = (sign * weight * scale, vec![sign * bias * scale; width]);
            let weights = packed(Weight::F32, 1, width, |_, _| weight, Some(&bias));
            let (input, output) = (span(0, 1, 1), span(rows, width, width));
            let (start, activation, scratch) = (Start::Bias, Activation::Identity, NOWHERE);
            let call = dense(input, &weights, start, None, output, activation, scratch);
            for kernels in Kernels::available() {
                let mut memory = vec![factor; rows * (width + 1)];
                kernels.dense(&mut memory, rows, &call);
                for value in &memory[rows..] {
                    assert_eq!(value.to_bits(), bias[0].to_bits(), "{} {rows} {width} {scale:e}", kernels.name());
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "outside a memory")]
fn a_matrix_outside_the_memory_is_caught() {
    let mut run = GeneratedCase::new(Place::PerRow, 3, 4, 5, 0);
    run.call.weight.stride = run.memory.len();
    Kernels::select(None).expect("a set").generated(&mut run.memory.clone(), 3, &run.call());
}

/// Batch, height, inner and columns, around the strips and the lanes.
const MATRICES: [[usize; 4]; 12] = [
    [1, 1, 5, 7],
    [1, 1, 16, 1],
    [2, 1, 17, 33],
    [4, 1, 50, 8],
    [3, 2, 1, 4],
    [1, 3, 40, 16],
    [2, 5, 8, 3],
    [2, 7, 16, 20],
    [3, 8, 33, 5],
    [1, 13, 7, 40],
    [2, 50, 8, 50],
    [1, 64, 300, 17],
];

/// A call over painted matrices, each side shared by the batch or not, with the output behind them.
fn matmul_case(
    [batch, height, inner, columns]: [usize; 4],
    rows: usize,
    is_transposed: bool,
    is_shared: [bool; 2],
) -> (Vec<f32>, MatMul) {
    let matrices = |is_shared: bool| if is_shared { 1 } else { batch };
    let left = matrices(is_shared[0]) * height * inner;
    let right = matrices(is_shared[1]) * inner * columns;
    let left = span(1, left + 1, left);
    let right = span(2 + rows * left.stride, right, right);
    let painted = right.offset + rows * right.stride;
    let output = span(painted + 1, batch * height * columns + 2, batch * height * columns);
    let call = MatMul { left, right, output, batch, height, inner, columns, is_transposed };
    (memory(painted, output.offset + rows * output.stride), call)
}

fn matmul_cases() -> impl Iterator<Item = (usize, Vec<f32>, MatMul)> {
    let flags = [false, true];
    let shared = flags.into_iter().flat_map(move |left| flags.map(|right| [left, right]));
    let options = shared.flat_map(move |shared| flags.map(|is_transposed| (shared, is_transposed)));
    let cases = MATRICES.into_iter().flat_map(move |shape| options.clone().map(move |option| (shape, option)));
    cases.flat_map(|(shape, (is_shared, is_transposed))| {
        [1, 3].map(|rows| {
            let (memory, call) = matmul_case(shape, rows, is_transposed, is_shared);
            (rows, memory, call)
        })
    })
}

#[test]
fn matmul_has_the_bits_of_the_truth() {
    for (rows, start, call) in matmul_cases() {
        for right in [call.right, Span { stride: 0, ..call.right }] {
            let call = MatMul { right, ..call };
            compare(&(rows, call), &start, |set, memory| set.matmul(memory, rows, &call));
        }
    }
}

#[test]
fn matmul_follows_the_formula() {
    for (rows, start, call) in matmul_cases() {
        let MatMul { left, right, output, batch, height, inner, columns, is_transposed } = call;
        let kernels = Kernels::select(None).expect("a set");
        let mut memory = start;
        kernels.matmul(&mut memory, rows, &call);
        for r in 0..rows {
            let (x, y, z) = (row(&memory, left, r), row(&memory, right, r), row(&memory, output, r));
            for (b, i, j) in (0..z.len()).map(|at| (at / columns / height, at / columns % height, at % columns)) {
                let [x_first, y_first] = [(x.len(), height * inner), (y.len(), inner * columns)]
                    .map(|(width, matrix)| if width == batch * matrix { b * matrix } else { 0 });
                let x = &x[x_first + i * inner..][..inner];
                let y: Vec<f64> = (0..inner)
                    .map(|k| y[y_first + if is_transposed { j * inner + k } else { k * columns + j }])
                    .collect();
                let actual = memory[output.offset + r * output.stride + (b * height + i) * columns + j];
                // As many roundings as there are products, at most.
                let magnitude = magnitude(x, &y) * (1.0 + inner as f64 / 16.0);
                assert_near(&(r, b, i, j, call), actual, sum_of_products(x, &y), magnitude);
            }
        }
    }
}

#[test]
#[should_panic(expected = "matmul inputs")]
fn matrices_that_do_not_fit_are_caught() {
    let (mut memory, call) = matmul_case([2, 3, 4, 5], 1, false, [false, false]);
    let right = Span { width: call.right.width - 1, ..call.right };
    Kernels::select(None).expect("a set").matmul(&mut memory, 1, &MatMul { right, ..call });
}
