//! Drivers that compare a kernel set with the scalar truth, bit by bit, at sizes around every width; and the truth with
//! f64. A new set is tested by being in the list.

mod functions;
mod positions;
mod products;
mod reductions;
mod rows;
mod selection;

use super::{
    Activation, Attend, Combine, Dense, Element, Generated, Kernels, MatMul, Panels, Places, Rare, Reduce, Rows, Span,
    Start, Weight,
};

/// Widths around the lanes, panels and blocks of panels.
const WIDTHS: [usize; 14] = [1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 48, 63, 64, 65];

/// Rows around the strip of six, those that widen weights once, and the tile.
const ROWS: [usize; 18] = [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 17, 18, 48, 65, 66, 67, 96, 131];

const ELEMENTS: [Element; 5] = [Element::F32, Element::F16, Element::Bf16, Element::Int8, Element::Int4];

const ACTIVATIONS: [Activation; 51] = [
    Activation::Identity,
    Activation::Relu,
    Activation::LeakyRelu(0.01),
    Activation::Sigmoid,
    Activation::ScaledSigmoid(2.0),
    Activation::Tanh,
    Activation::Silu,
    Activation::Affine { scale: 1.7, shift: -0.3 },
    // Above every painted value, below some edges.
    Activation::Threshold(2.1),
    Activation::InverseSqrt(1e-3),
    Activation::Abs,
    Activation::Negate,
    Activation::Exp,
    Activation::Log,
    Activation::Sqrt,
    Activation::Reciprocal,
    Activation::Square,
    Activation::Erf,
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::Elu { alpha: 1.3 },
    Activation::Selu { alpha: 1.673_263_2, gamma: 1.050_701 },
    Activation::Celu { alpha: 0.7 },
    Activation::Softplus,
    Activation::Softsign,
    Activation::Mish,
    Activation::HardSigmoid { scale: 0.2, shift: 0.5 },
    Activation::HardSwish,
    Activation::ThresholdedRelu { alpha: 0.6 },
    Activation::Clip { low: -0.5, high: f32::INFINITY },
    Activation::Clip { low: f32::NEG_INFINITY, high: -2.5 },
    Activation::Floor,
    Activation::Ceil,
    Activation::Round,
    Activation::Truncate,
    Activation::Sign,
    Activation::Not,
    Activation::IsNan,
    Activation::IsInf,
    Activation::Rare(Rare::Power { exponent: 3.0 }),
    Activation::Rare(Rare::Sin),
    Activation::Rare(Rare::Cos),
    Activation::Rare(Rare::Tan),
    Activation::Rare(Rare::Asin),
    Activation::Rare(Rare::Acos),
    Activation::Rare(Rare::Atan),
    Activation::Rare(Rare::Sinh),
    Activation::Rare(Rare::Cosh),
    Activation::Rare(Rare::Asinh),
    Activation::Rare(Rare::Acosh),
    Activation::Rare(Rare::Atanh),
];

const COMBINATIONS: [Combine; 13] = [
    Combine::Add,
    Combine::Subtract,
    Combine::Multiply,
    Combine::Divide,
    Combine::Maximum,
    Combine::Minimum,
    Combine::Power,
    Combine::Modulo,
    Combine::Remainder,
    Combine::Equal,
    Combine::Less,
    Combine::LessEqual,
    Combine::Prelu,
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

/// A memory with `painted` values painted from offset 0 on, and guarded behind.
fn memory(painted: usize, total: usize) -> Vec<f32> {
    (0..total).map(|place| if place < painted { paint(place) } else { GUARD }).collect()
}

fn span(offset: usize, stride: usize, width: usize) -> Span {
    Span { offset, stride, width }
}

/// A layer that quantises its rows itself.
fn dense(
    input: Span,
    weights: &Panels,
    start: Start,
    addend: Option<Span>,
    output: Span,
    activation: Activation,
    scratch: Span,
) -> Dense<'_> {
    let (reach, is_quantized) = (weights.reach(), false);
    Dense { input, weights, start, addend, output, activation, scratch, reach, is_quantized }
}

/// Equal bits, or both NaN: the payload of a NaN is nobody's promise.
fn assert_same(name: &str, what: &dyn std::fmt::Debug, actual: &[f32], expected: &[f32]) {
    for (place, (a, e)) in actual.iter().zip(expected).enumerate() {
        let same = a.to_bits() == e.to_bits() || (a.is_nan() && e.is_nan());
        assert!(same, "{name} {what:?}: at {place} {a:e} ({:#x}), scalar {e:e} ({:#x})", a.to_bits(), e.to_bits());
    }
}

/// Runs `call` on every set: no bit may change.
fn assert_untouched(what: &dyn std::fmt::Debug, start: &[f32], call: impl Fn(&Kernels, &mut [f32])) {
    for kernels in Kernels::available() {
        let mut actual = start.to_vec();
        call(kernels, &mut actual);
        assert_same(kernels.name(), what, &actual, start);
    }
}

/// Fails if `actual` differs from the real value by more than 16 roundings of `magnitude`, the sum of the absolute values of
/// what was added up.
fn assert_near(what: &dyn std::fmt::Debug, actual: f32, expected: f64, magnitude: f64) {
    let bound = 16.0 * f64::from(f32::EPSILON / 2.0) * magnitude;
    let difference = (f64::from(actual) - expected).abs();
    assert!(difference <= bound, "{what:?}: {actual} is {difference:e} away from {expected}, more than {bound:e}");
}

/// A row of a span in f64.
fn row(memory: &[f32], span: Span, row: usize) -> Vec<f64> {
    let start = span.offset + row * span.stride;
    memory[start..start + span.width].iter().map(|x| f64::from(*x)).collect()
}

fn sum_of_products(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn magnitude(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| (x * y).abs()).sum()
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
fn what_lies_around_an_output_stays() {
    let (rows, width) = (11, 21);
    let weights = Panels::pack(Weight::Int8, 4, width, |c, k| paint(c + k), None).expect("memory");
    let (scale, shift): (Vec<f32>, Vec<f32>) = (0..width).map(|c| (paint(c), paint(c * 5))).unzip();
    let (input, narrow) = (span(0, width + 1, width), span(0, 4, 4));
    let (wide, matrix) = (span(0, width, width * 3), span(0, 4, 4 * width));
    let output = span(420, width + 5, width);
    let (start, activation) = (Start::Zero, Activation::Sigmoid);
    let scratch = span(800, 0, 400);
    let dense = dense(narrow, &weights, start, None, output, activation, scratch);
    let generated = Generated { input: narrow, weight: matrix, outside: None, start, addend: None, output, activation };
    let shared = Generated { weight: Span { stride: 0, ..matrix }, ..generated };
    let (queries, keys, pooled) = (span(0, 7, 6), span(9, 5, 6), Span { width: 3, ..output });
    let attend = Attend { terms: 2, length: 3, queries, keys, base: None, rows: Rows::Mean, scratch, output: pooled };
    let matmul = MatMul {
        left: span(0, 7, 6),
        right: span(9, 3, 24),
        output: Span { width: 8, ..output },
        batch: 2,
        height: 1,
        inner: 3,
        columns: 4,
        is_transposed: false,
    };
    let turned = MatMul { is_transposed: true, ..matmul };
    let places = Places::new(&(0..width as u32).map(|place| (place * 4) % 19).collect::<Vec<_>>());
    type Call<'a> = &'a dyn Fn(&Kernels, &mut [f32]);
    let calls: [(&str, Span, usize, Call<'_>); 25] = [
        ("dense", output, rows, &|set, memory| set.dense(memory, rows, &dense)),
        ("unary", output, rows, &|set, memory| set.unary(memory, rows, activation, input, output)),
        ("generated", output, rows, &|set, memory| set.generated(memory, rows, &generated)),
        ("shared", output, rows, &|set, memory| set.generated(memory, rows, &shared)),
        ("combine", output, rows, &|set, memory| {
            set.combine(memory, rows, Combine::Add, input, span(0, 1, 1), activation, output);
        }),
        ("affine", output, rows, &|set, memory| set.affine(memory, rows, input, &scale, &shift, output)),
        ("softmax", output, rows, &|set, memory| set.softmax(memory, rows, input, output)),
        ("layer norm", output, rows, &|set, memory| {
            set.layer_norm(memory, rows, input, &scale, &shift, 1e-5, output);
        }),
        ("normalize", output, rows, &|set, memory| set.normalize(memory, rows, input, 1e-12, output)),
        ("dot", Span { width: 3, ..output }, rows, &|set, memory| {
            set.dot(memory, rows, wide, wide, 3, Span { width: 3, ..output });
        }),
        ("mixture", output, rows, &|set, memory| {
            set.mixture(memory, rows, span(1, 1, 2), true, &[input, input], output)
        }),
        ("copy", output, rows, &|set, memory| set.copy(memory, rows, input, output)),
        ("pool", output, 1, &|set, memory| set.pool(memory, rows, input, None, true, output)),
        ("weighted pool", output, 1, &|set, memory| set.pool(memory, rows, input, Some(span(9, 5, 3)), false, output)),
        ("softmax down", output, rows, &|set, memory| set.softmax_down(memory, rows, input, output)),
        ("attend", pooled, rows, &|set, memory| set.attend(memory, rows, 2, &attend)),
        ("choose", output, rows, &|set, memory| set.choose(memory, rows, input, input, span(0, 1, 1), output)),
        ("reduce across", Span { width: 3, ..output }, rows, &|set, memory| {
            set.reduce(memory, rows, Reduce::Sum, 1, wide, Span { width: 3, ..output });
        }),
        ("reduce down", output, rows, &|set, memory| set.reduce(memory, rows, Reduce::Max, width, wide, output)),
        ("view", output, rows, &|set, memory| set.view(memory, rows, input, &places, output)),
        ("pick", output, rows, &|set, memory| set.pick(memory, rows, wide, span(5, 3, 3), 1, output)),
        ("top k", Span { width: 8, ..output }, rows, &|set, memory| {
            set.top_k(memory, rows, Span { width: 14, ..input }, 2, false, Span { width: 8, ..output });
        }),
        ("matmul", matmul.output, rows, &|set, memory| set.matmul(memory, rows, &matmul)),
        ("matmul transposed", matmul.output, rows, &|set, memory| set.matmul(memory, rows, &turned)),
        ("matmul of one row", Span { width: 4, ..output }, rows, &|set, memory| {
            let (left, right, output) = (span(0, 3, 3), span(9, 3, 12), Span { width: 4, ..output });
            set.matmul(memory, rows, &MatMul { left, right, output, batch: 1, ..matmul });
        }),
    ];
    for kernels in Kernels::available() {
        for (name, output, rows, call) in &calls {
            let mut memory = memory(300, 1200);
            call(kernels, &mut memory);
            for (place, value) in memory.iter().enumerate().take(800).skip(300) {
                let from = place.wrapping_sub(output.offset);
                let is_inside = from / output.stride < *rows && from % output.stride < output.width;
                assert_eq!(*value != GUARD, is_inside, "{} {name} at {place}", kernels.name());
            }
            let is_kept = memory[..300].iter().enumerate().all(|(place, value)| *value == paint(place));
            assert!(is_kept, "{} {name} wrote into its input", kernels.name());
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
fn sets_are_chosen_by_name() {
    assert_eq!(Kernels::select(Some("scalar")).map(Kernels::name), Ok("scalar"));
    assert_eq!(Kernels::select(Some("portable")).map(Kernels::name), Ok("portable"));
    let unknown = Kernels::select(Some("avx9")).map(Kernels::name).unwrap_err();
    assert_eq!(unknown.to_string(), "`avx9` is not one of scalar, portable, avx2, avx512, avx512bf16, amx, neon");
    let best = Kernels::select(None).map(Kernels::name);
    assert_eq!(best.ok(), Kernels::available().last().map(Kernels::name));
}

#[test]
#[should_panic(expected = "outside a memory")]
fn a_span_outside_the_memory_is_caught() {
    let kernels = Kernels::select(Some("scalar")).expect("scalar");
    kernels.copy(&mut [0.0; 8], 2, span(0, 4, 4), span(4, 4, 4));
}
