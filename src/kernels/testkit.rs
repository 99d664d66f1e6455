//! Drivers that compare a kernel set with the scalar truth, bit by bit, at sizes around every width; and the truth with
//! f64. A new set is tested by being in the list.

use super::{Activation, Dense, Element, Kernels, Panels, Pooling, Span, Start, Table, scalar};

/// Widths around the lanes, panels and blocks of panels.
const WIDTHS: [usize; 14] = [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 48, 63, 64, 65];

/// Rows around the strip of six and the tile.
const ROWS: [usize; 16] = [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 48, 65, 66, 67, 96, 131];

const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];

const ACTIVATIONS: [Activation; 7] = [
    Activation::Identity,
    Activation::Relu,
    Activation::LeakyRelu(0.01),
    Activation::Sigmoid,
    Activation::ScaledSigmoid(2.0),
    Activation::Tanh,
    Activation::Silu,
];

/// What guards the memory around outputs.
const GUARD: f32 = -12345.0;

/// Values that do not repeat with any power of two: a cycle of 251, the largest prime below 256.
fn paint(place: usize) -> f32 {
    ((place % 251) as f32 - 125.0) / 61.0
}

/// Values at which functions and formats go wrong.
const EDGES: [f32; 22] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    f32::MIN_POSITIVE,
    -1e-40,
    1e-30,
    0.624_999,
    0.625,
    -0.625,
    17.3,
    -43.6,
    86.99,
    87.01,
    -87.4,
    88.8,
    1e4,
    -1e4,
    3e38,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
];

/// A memory with `inputs` painted from offset 0 on, and guarded behind.
fn memory(painted: usize, total: usize) -> Vec<f32> {
    (0..total).map(|place| if place < painted { paint(place) } else { GUARD }).collect()
}

fn span(offset: usize, stride: usize, width: usize) -> Span {
    Span { offset, stride, width }
}

/// Equal bits, or both NaN: the payload of a NaN is nobody's promise.
fn assert_same(name: &str, what: &dyn std::fmt::Debug, actual: &[f32], expected: &[f32]) {
    for (place, (a, e)) in actual.iter().zip(expected).enumerate() {
        let same = a.to_bits() == e.to_bits() || (a.is_nan() && e.is_nan());
        assert!(same, "{name} {what:?}: at {place} {a:e} ({:#x}), scalar {e:e} ({:#x})", a.to_bits(), e.to_bits());
    }
}

/// Runs `call` on the truth and on every other set, over copies of `start`.
fn compare(what: &dyn std::fmt::Debug, start: &[f32], call: impl Fn(&Kernels, &mut [f32])) {
    let mut sets = Kernels::available();
    let mut expected = start.to_vec();
    call(sets.next().expect("scalar is always there"), &mut expected);
    assert!(expected.iter().zip(start).any(|(a, b)| a.to_bits() != b.to_bits()), "{what:?} computed nothing");
    for kernels in sets {
        let mut actual = start.to_vec();
        call(kernels, &mut actual);
        assert_same(kernels.name(), what, &actual, &expected);
    }
}

#[test]
fn dense_has_the_bits_of_the_truth() {
    for (case, width) in WIDTHS.into_iter().chain([80, 128, 130]).enumerate() {
        for rows in ROWS {
            let depth = [1, 3, 16, 37][(case + rows) % 4];
            let element = ELEMENTS[(case + rows / 2) % 3];
            let activation = ACTIVATIONS[(case + rows) % 7];
            let bias: Vec<f32> = (0..width).map(|c| paint(c * 7)).collect();
            let weight = |c: usize, k: usize| paint(c * 131 + k * 17) / 4.0;
            let weights = Panels::pack(element, depth, width, weight, Some(&bias)).expect("memory");
            let input = span(3, if case % 5 == 4 { 0 } else { depth + 2 }, depth);
            let side = span(5, width, width);
            let start = [Start::Zero, Start::Bias, Start::Span(side)][case % 3];
            let addend = [None, Some(side), Some(Span { stride: 0, ..side })][(case + rows) % 3];
            let painted = 5 + rows * (width + depth + 2);
            let output = span(painted + 1, width + 3, width);
            let call = Dense { input, weights: &weights, start, addend, output, activation };
            let start = memory(painted, painted + 1 + rows * (width + 3));
            compare(&(width, rows, depth, element, activation), &start, |set, memory| set.dense(memory, rows, &call));
        }
    }
}

#[test]
fn dense_follows_the_formula() {
    let (rows, depth, width) = (7, 40, 19);
    let weight = |c: usize, k: usize| paint(c * 3 + k * 5);
    let bias: Vec<f32> = (0..width).map(|c| paint(c + 9)).collect();
    let weights = Panels::pack(Element::F32, depth, width, weight, Some(&bias)).expect("memory");
    let (input, output) = (span(0, depth, depth), span(rows * depth, width, width));
    let call =
        Dense { input, weights: &weights, start: Start::Bias, addend: None, output, activation: Activation::Relu };
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
            let weights = Panels::pack(Element::F32, 1, width, |_, _| weight, Some(&bias)).expect("memory");
            let (input, output) = (span(0, 1, 1), span(rows, width, width));
            let activation = Activation::Identity;
            let call = Dense { input, weights: &weights, start: Start::Bias, addend: None, output, activation };
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
fn elementwise_has_the_bits_of_the_truth() {
    for width in WIDTHS {
        for rows in [1, 2, 5] {
            let edges = (0..rows * (width + 1)).map(|place| EDGES[place % EDGES.len()] * [1.0, 0.37][place / 22 % 2]);
            let mut start: Vec<f32> = edges.collect();
            let painted = start.len();
            start.resize(painted + 2 + rows * (width + 2), GUARD);
            let (input, output) = (span(0, width + 1, width), span(painted + 2, width + 2, width));
            for activation in ACTIVATIONS {
                let what = (width, rows, activation);
                compare(&what, &start, |set, memory| set.unary(memory, rows, activation, input, output));
                if activation != Activation::Identity {
                    let start = memory(painted, painted);
                    compare(&what, &start, |set, memory| set.unary(memory, rows, activation, input, input));
                }
            }
            for right in [input, Span { stride: 0, ..input }, span(1, 0, 1)] {
                compare(&(width, rows, "multiply"), &start, |set, memory| {
                    set.multiply(memory, rows, input, right, output)
                });
            }
            let (scale, shift): (Vec<f32>, Vec<f32>) = (0..width).map(|c| (paint(c), paint(c * 5))).unzip();
            compare(&(width, rows, "affine"), &start, |set, memory| {
                set.affine(memory, rows, input, &scale, &shift, output);
            });
            compare(&(width, rows, "copy"), &start, |set, memory| set.copy(memory, rows, input, output));
        }
    }
}

#[test]
fn softmax_and_mixture_have_the_bits_of_the_truth() {
    for width in WIDTHS {
        for rows in [1, 3, 8] {
            let painted = rows * width * 3 + 16;
            let start = memory(painted, painted + rows * width);
            let (input, output) = (span(0, width, width), span(painted, width, width));
            compare(&(width, rows, "softmax"), &start, |set, memory| set.softmax(memory, rows, input, output));
            compare(&(width, rows, "softmax in place"), &start, |set, memory| set.softmax(memory, rows, input, input));
            let experts = [span(1, width, width), span(rows * width, width, width), span(4, 0, width)];
            let gate = span(2, 1, 3);
            compare(&(width, rows, "mixture"), &start, |set, memory| {
                set.mixture(memory, rows, gate, &experts, output);
            });
        }
    }
}

#[test]
fn softmax_sums_to_one_at_every_scale() {
    for kernels in Kernels::available() {
        for scale in [1e-6, 1.0, 30.0, 1e30] {
            let mut memory: Vec<f32> = (0..37).map(|place| paint(place * 11) * scale).collect();
            kernels.softmax(&mut memory, 1, span(0, 37, 37), span(0, 37, 37));
            let sum: f64 = memory.iter().map(|e| f64::from(*e)).sum();
            assert!((sum - 1.0).abs() < 1e-6, "{} {scale}: {sum}", kernels.name());
        }
    }
}

fn table(element: Element, rows: usize, width: usize) -> Vec<u8> {
    let value = |place: usize| EDGES.get(place).copied().unwrap_or_else(|| paint(place));
    match element {
        Element::F32 => (0..rows * width).flat_map(|place| value(place).to_le_bytes()).collect(),
        Element::F16 => (0..rows * width).flat_map(|place| half::f16::from_f32(value(place)).to_le_bytes()).collect(),
        Element::Bf16 => (0..rows * width).flat_map(|place| half::bf16::from_f32(value(place)).to_le_bytes()).collect(),
    }
}

#[test]
fn gathers_have_the_bits_of_the_truth() {
    for element in ELEMENTS {
        for width in WIDTHS {
            let bytes = table(element, 23, width);
            // The first row begins at an odd address: tables are read unaligned.
            let shifted: Vec<u8> = std::iter::once(0).chain(bytes.iter().copied()).collect();
            let table = Table { bytes: &shifted[1..], element, rows: 23, width };
            let ids: Vec<u32> = (0..29).map(|i| (i * 7 + 22) % 23).collect();
            let output = span(1, width + 1, width);
            let start = memory(0, 2 + 29 * (width + 1));
            compare(&(element, width, "gather"), &start, |set, memory| set.gather(memory, table, &ids, output));
            for pooling in [Pooling::Sum, Pooling::Mean, Pooling::Max] {
                let offsets = [0, 1, 1, 4, 20, 29];
                compare(&(element, width, pooling), &start, |set, memory| {
                    set.gather_pooled(memory, table, &ids, &offsets, pooling, output);
                });
            }
        }
    }
}

#[test]
fn what_lies_around_an_output_stays() {
    let width = 21;
    let weights = Panels::pack(Element::F32, 4, width, |c, k| paint(c + k), None).expect("memory");
    let (input, output) = (span(0, 4, 4), span(60, width + 5, width));
    let call =
        Dense { input, weights: &weights, start: Start::Zero, addend: None, output, activation: Activation::Sigmoid };
    for kernels in Kernels::available() {
        let mut memory = memory(50, 400);
        kernels.dense(&mut memory, 11, &call);
        let inside =
            |place: usize| place >= 60 && (place - 60) % (width + 5) < width && (place - 60) / (width + 5) < 11;
        for (place, value) in memory.iter().enumerate().skip(50) {
            assert_eq!(*value == GUARD, !inside(place), "{} at {place}", kernels.name());
        }
    }
}

/// The distance from `actual` to the real value `expected`, in units of the last place of `expected`.
fn ulps(actual: f32, expected: f64) -> f64 {
    let nearest = expected as f32;
    let unit = f64::from(f32::from_bits(nearest.abs().to_bits() + 1)) - f64::from(nearest.abs());
    (f64::from(actual) - expected).abs() / unit
}

#[test]
fn functions_are_within_their_stated_errors() {
    let worst = |low: f32, high: f32, actual: fn(f32) -> f32, expected: fn(f64) -> f64| {
        let samples = 400_000;
        let sample = |i: i32| low + (high - low) * (i as f32 / samples as f32);
        (0..=samples).map(sample).map(|x| ulps(actual(x), expected(f64::from(x)))).fold(0.0, f64::max)
    };
    let exp = worst(-87.0, 87.0, scalar::exp, f64::exp);
    let sigmoid = worst(-86.0, 86.0, scalar::sigmoid, |x| 1.0 / (1.0 + (-x).exp()));
    let tanh = worst(-20.0, 20.0, scalar::tanh, f64::tanh);
    assert!(exp <= 1.0 && sigmoid <= 3.0 && tanh <= 2.0, "exp {exp}, sigmoid {sigmoid}, tanh {tanh}");
    assert!(exp > 0.5 && sigmoid > 0.5 && tanh > 0.5, "the measure is blind: {exp}, {sigmoid}, {tanh}");
}

#[test]
fn functions_saturate_and_keep_nan() {
    assert_eq!(scalar::exp(f32::NEG_INFINITY), scalar::exp(-100.0));
    assert!(scalar::exp(-100.0) < 1.2e-38 && scalar::exp(f32::INFINITY) == scalar::exp(87.0));
    assert_eq!([scalar::sigmoid(f32::INFINITY), scalar::sigmoid(30.0)], [1.0, 1.0]);
    assert!(scalar::sigmoid(f32::NEG_INFINITY) > 0.0 && scalar::sigmoid(f32::NEG_INFINITY) < 1e-37);
    assert_eq!([scalar::tanh(f32::INFINITY), scalar::tanh(-50.0)], [1.0, -1.0]);
    assert_eq!(scalar::tanh(-0.0).to_bits(), (-0.0f32).to_bits());
    assert!(scalar::exp(f32::NAN).is_nan() && scalar::sigmoid(f32::NAN).is_nan() && scalar::tanh(f32::NAN).is_nan());
}

#[test]
fn sets_are_chosen_by_name() {
    assert_eq!(Kernels::select(Some("scalar")).map(Kernels::name), Ok("scalar"));
    assert_eq!(Kernels::select(Some("portable")).map(Kernels::name), Ok("portable"));
    let unknown = Kernels::select(Some("avx9")).map(Kernels::name).unwrap_err();
    assert_eq!(unknown.to_string(), "`avx9` is not one of scalar, portable, avx2");
    let best = Kernels::select(None).map(Kernels::name);
    assert_eq!(best.ok(), Kernels::available().last().map(Kernels::name));
}

#[test]
#[should_panic(expected = "outside a memory")]
fn a_span_outside_the_memory_is_caught() {
    let kernels = Kernels::select(Some("scalar")).expect("scalar");
    kernels.copy(&mut [0.0; 8], 2, span(0, 4, 4), span(4, 4, 4));
}
