//! Functions of one element and of two, against f64 and at the values where they go wrong.

use super::{ACTIVATIONS, EDGES, GUARD, assert_same, span, ulps};
use crate::kernels::{Activation, Combine, Kernels, Rare, scalar};

/// By the series whose terms are all positive.
fn erf(x: f64) -> f64 {
    let mut term = x.abs() * 2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp();
    let mut sum = 0.0;
    for n in 1..200 {
        sum += term;
        term *= 2.0 * x * x / f64::from(2 * n + 1);
    }
    sum.copysign(x)
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// Evenly over a range.
fn between(low: f32, high: f32) -> impl Iterator<Item = f32> {
    let samples = 400_000;
    (0..=samples).map(move |i| low + (high - low) * (i as f32 / samples as f32))
}

#[test]
fn functions_are_within_their_stated_errors() {
    let worst = |samples: &mut dyn Iterator<Item = f32>, actual: &dyn Fn(f32) -> f32, expected: fn(f64) -> f64| {
        samples.map(|x| ulps(actual(x), expected(f64::from(x)))).fold(0.0, f64::max)
    };
    let by = |activation: Activation| move |x| scalar::activate(activation, x);
    let positive = || (1..0x7f80_0000).step_by(5000).map(f32::from_bits);
    let affine = Activation::Affine { scale: 1.7, shift: -0.3 };
    let elu = |x: f64| if x > 0.0 { x } else { f64::from(1.3f32) * x.exp_m1() };
    let measured = [
        ("exp", 1.0, worst(&mut between(-87.0, 87.0), &scalar::exp, f64::exp)),
        ("Exp", 1.0, worst(&mut between(-104.0, 88.72), &by(Activation::Exp), f64::exp)),
        ("sigmoid", 3.0, worst(&mut between(-86.0, 86.0), &scalar::sigmoid, |x| 1.0 / (1.0 + (-x).exp()))),
        ("tanh", 2.0, worst(&mut between(-20.0, 20.0), &scalar::tanh, f64::tanh)),
        (
            "inverse root",
            2.0,
            worst(&mut between(0.0, 50.0), &by(Activation::InverseSqrt(1e-5)), |x| {
                1.0 / (x + f64::from(1e-5f32)).sqrt()
            }),
        ),
        (
            "affine",
            0.500_001,
            worst(&mut between(-3.0, 3.0), &by(affine), |x| x * f64::from(1.7f32) + f64::from(-0.3f32)),
        ),
        ("log", 1.0, worst(&mut positive(), &by(Activation::Log), f64::ln)),
        ("log near 1", 1.0, worst(&mut between(0.5, 2.0), &by(Activation::Log), f64::ln)),
        ("erf", 1.1, worst(&mut between(-4.5, 4.5), &by(Activation::Erf), erf)),
        ("elu", 2.0, worst(&mut between(-30.0, 1.0), &by(Activation::Elu { alpha: 1.3 }), elu)),
        ("softplus", 3.0, worst(&mut between(-103.0, 50.0), &by(Activation::Softplus), softplus)),
        ("sin", 0.500_001, worst(&mut between(-9.0, 9.0), &by(Activation::Rare(Rare::Sin)), f64::sin)),
    ];
    for (name, stated, worst) in measured {
        assert!(worst <= stated && worst > 0.45, "{name}: {worst} ULP, stated {stated}");
    }
}

#[test]
fn functions_made_of_others_are_near() {
    type Case = (Activation, fn(f64) -> f64);
    let cases: [Case; 9] = [
        (Activation::Gelu, |x| x / 2.0 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))),
        (Activation::GeluTanh, |x| {
            x / 2.0 * (1.0 + (std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044715 * x.powi(3))).tanh())
        }),
        (Activation::Mish, |x| x * softplus(x).tanh()),
        (Activation::Silu, |x| x / (1.0 + (-x).exp())),
        (Activation::Softsign, |x| x / (1.0 + x.abs())),
        (Activation::HardSwish, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        (Activation::Elu { alpha: 1.0 }, |x| if x > 0.0 { x } else { x.exp_m1() }),
        (Activation::Celu { alpha: 2.0 }, |x| if x > 0.0 { x } else { 2.0 * (x / 2.0).exp_m1() }),
        (Activation::Selu { alpha: 1.5, gamma: 1.25 }, |x| 1.25 * if x > 0.0 { x } else { 1.5 * x.exp_m1() }),
    ];
    for (activation, expected) in cases {
        for x in between(-12.0, 12.0) {
            let (actual, expected) = (f64::from(scalar::activate(activation, x)), expected(f64::from(x)));
            let bound = 2f64.powi(-22) * expected.abs().max(f64::from(x.abs())) + 1e-30;
            assert!((actual - expected).abs() <= bound, "{activation:?} of {x}: {actual}, not {expected}");
        }
    }
}

#[test]
fn functions_saturate_and_keep_nan() {
    assert_eq!(scalar::exp(f32::NEG_INFINITY), scalar::exp(-100.0));
    assert!(scalar::exp(-100.0) < 1.2e-38 && scalar::exp(f32::INFINITY) == scalar::exp(87.0));
    assert_eq!([scalar::sigmoid(f32::INFINITY), scalar::sigmoid(30.0)], [1.0, 1.0]);
    assert!(scalar::sigmoid(f32::NEG_INFINITY) > 0.0 && scalar::sigmoid(f32::NEG_INFINITY) < 1e-37);
    assert_eq!([scalar::tanh(f32::INFINITY), scalar::tanh(-50.0)], [1.0, -1.0]);
    assert_eq!(scalar::tanh(-0.0).to_bits(), (-0.0f32).to_bits());
    let threshold = |x| scalar::activate(Activation::Threshold(0.5), x);
    assert_eq!(
        [-0.6, -0.5, -0.0, 0.5, 0.6].map(threshold).map(f32::to_bits),
        [-0.6, 0.0, 0.0, 0.0, 0.6].map(f32::to_bits)
    );
    let forgets = |activation: &Activation| {
        let is_test = matches!(activation, Activation::Not | Activation::IsNan | Activation::IsInf);
        is_test || matches!(activation, Activation::ThresholdedRelu { .. })
    };
    for activation in ACTIVATIONS.iter().filter(|activation| !forgets(activation)) {
        assert!(scalar::activate(*activation, f32::NAN).is_nan(), "{activation:?}");
    }
    assert!(scalar::exp(f32::NAN).is_nan() && scalar::sigmoid(f32::NAN).is_nan() && scalar::tanh(f32::NAN).is_nan());
}

/// `function` of each value, on every set.
fn assert_values(activation: Activation, cases: &[(f32, f32)]) {
    let (inputs, expected): (Vec<f32>, Vec<f32>) = cases.iter().copied().unzip();
    let width = inputs.len();
    for kernels in Kernels::available() {
        let mut memory = inputs.clone();
        memory.resize(2 * width, GUARD);
        kernels.unary(&mut memory, 1, activation, span(0, width, width), span(width, width, width));
        assert_same(kernels.name(), &activation, &memory[width..], &expected);
    }
}

#[test]
fn the_ends_follow_ieee() {
    const INF: f32 = f32::INFINITY;
    const NAN: f32 = f32::NAN;
    // The last float with a finite exponential, and the next.
    assert_values(Activation::Exp, &[(INF, INF), (-INF, 0.0), (-104.0, 0.0), (88.722_84, INF), (0.0, 1.0), (NAN, NAN)]);
    assert!(scalar::activate(Activation::Exp, 88.722_83).is_finite());
    assert_values(Activation::Exp, &[(-103.9, f32::from_bits(1)), (-0.0, 1.0), (1e30, INF), (-1e30, 0.0)]);
    assert_values(Activation::Log, &[(0.0, -INF), (-0.0, -INF), (-1.0, NAN), (-INF, NAN), (INF, INF), (1.0, 0.0)]);
    assert_values(Activation::Sqrt, &[(-1.0, NAN), (-0.0, -0.0), (4.0, 2.0), (INF, INF), (NAN, NAN)]);
    assert_values(Activation::Reciprocal, &[(0.0, INF), (-0.0, -INF), (INF, 0.0), (-INF, -0.0), (4.0, 0.25)]);
    assert_values(Activation::Erf, &[(INF, 1.0), (-INF, -1.0), (4.5, 1.0), (-0.0, -0.0), (0.0, 0.0)]);
    assert_values(Activation::Gelu, &[(INF, INF), (20.0, 20.0), (0.0, 0.0), (NAN, NAN), (-20.0, 0.0)]);
    assert_values(Activation::Elu { alpha: 2.0 }, &[(-INF, -2.0), (-200.0, -2.0), (INF, INF), (0.0, 0.0)]);
    assert_values(Activation::Softplus, &[(INF, INF), (-INF, 0.0), (100.0, 100.0), (-200.0, 0.0), (NAN, NAN)]);
    assert_values(Activation::HardSigmoid { scale: 0.2, shift: 0.5 }, &[(INF, 1.0), (-INF, 0.0), (0.0, 0.5)]);
    assert_values(Activation::Clip { low: -1.0, high: INF }, &[(INF, INF), (-INF, -1.0), (NAN, NAN), (0.5, 0.5)]);
    assert_values(Activation::Clip { low: 2.0, high: 1.0 }, &[(0.0, 1.0), (5.0, 1.0)]);
    assert_values(Activation::Sign, &[(-0.0, 0.0), (0.0, 0.0), (1e-45, 1.0), (-INF, -1.0), (3.0, 1.0), (NAN, NAN)]);
    assert_values(Activation::Not, &[(-0.0, 1.0), (0.0, 1.0), (1e-45, 0.0), (-1e-45, 0.0), (NAN, 0.0), (INF, 0.0)]);
    assert_values(Activation::IsNan, &[(NAN, 1.0), (INF, 0.0), (0.0, 0.0), (-3e38, 0.0)]);
    assert_values(Activation::IsInf, &[(NAN, 0.0), (INF, 1.0), (-INF, 1.0), (f32::MAX, 0.0)]);
    assert_values(Activation::ThresholdedRelu { alpha: 1.0 }, &[(1.0, 0.0), (1.5, 1.5), (-9.0, 0.0), (NAN, 0.0)]);
    assert_values(Activation::Rare(Rare::Power { exponent: 0.5 }), &[(4.0, 2.0), (-4.0, NAN), (0.0, 0.0)]);
}

#[test]
fn rounding_is_that_of_the_standard_library() {
    let halves = (0..40).map(|i| i as f32 / 2.0 - 10.0);
    let near = halves.clone().flat_map(|x| [x.next_up(), x.next_down()]);
    let large =
        [4_194_303.5, 4_194_304.5, 8_388_607.5, 8_388_608.0, 8_388_609.0, 16_777_217.0, 1e10, 3e38, 1e-40, -0.0];
    let large = large.iter().flat_map(|x| [*x, -x]);
    let values: Vec<f32> = halves.chain(near).chain(large).chain(EDGES).collect();
    let cases = |f: fn(f32) -> f32| values.iter().map(|x| (*x, f(*x))).collect::<Vec<_>>();
    assert_values(Activation::Floor, &cases(f32::floor));
    assert_values(Activation::Ceil, &cases(f32::ceil));
    assert_values(Activation::Round, &cases(f32::round_ties_even));
    assert_values(Activation::Truncate, &cases(f32::trunc));
}

#[test]
fn combine_takes_the_right_side_and_keeps_nan() {
    const NAN: f32 = f32::NAN;
    let cases = [
        (Combine::Add, 2.0, 0.25, 2.25),
        (Combine::Subtract, 2.0, 0.25, 1.75),
        (Combine::Multiply, 2.0, 0.25, 0.5),
        (Combine::Divide, 2.0, 0.25, 8.0),
        (Combine::Divide, -1.0, 0.0, f32::NEG_INFINITY),
        (Combine::Divide, 0.0, 0.0, NAN),
        (Combine::Maximum, 2.0, 3.0, 3.0),
        (Combine::Maximum, NAN, 3.0, NAN),
        (Combine::Maximum, 3.0, NAN, NAN),
        (Combine::Minimum, 2.0, 3.0, 2.0),
        (Combine::Minimum, NAN, 3.0, NAN),
        (Combine::Minimum, 3.0, NAN, NAN),
        (Combine::Power, 2.0, -2.0, 0.25),
        (Combine::Power, -2.0, 3.0, -8.0),
        (Combine::Power, -2.0, 0.5, NAN),
        (Combine::Modulo, -7.0, 3.0, 2.0),
        (Combine::Modulo, 7.0, -3.0, -2.0),
        (Combine::Modulo, -6.0, 3.0, 0.0),
        (Combine::Modulo, 1.0, 0.0, NAN),
        (Combine::Remainder, -7.0, 3.0, -1.0),
        (Combine::Remainder, 7.0, -3.0, 1.0),
        (Combine::Equal, 2.0, 2.0, 1.0),
        (Combine::Equal, 0.0, -0.0, 1.0),
        (Combine::Equal, NAN, NAN, 0.0),
        (Combine::Less, 2.0, 3.0, 1.0),
        (Combine::Less, 3.0, 3.0, 0.0),
        (Combine::Less, NAN, 3.0, 0.0),
        (Combine::LessEqual, 3.0, 3.0, 1.0),
        (Combine::LessEqual, 4.0, 3.0, 0.0),
        (Combine::LessEqual, 3.0, NAN, 0.0),
        (Combine::Prelu, 2.0, 0.25, 2.0),
        (Combine::Prelu, -2.0, 0.25, -0.5),
    ];
    for (kernels, (how, left, right, expected)) in Kernels::available().flat_map(|k| cases.map(|case| (k, case))) {
        let mut memory = [left, left, right, GUARD, GUARD];
        let output = span(3, 2, 2);
        kernels.combine(&mut memory, 1, how, span(0, 2, 2), span(2, 1, 1), Activation::Identity, output);
        assert_same(kernels.name(), &(how, left, right), &memory[3..], &[expected; 2]);
    }
}
