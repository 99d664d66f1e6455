//! Functions of one element, over lanes.
//!
//! `exp`: `n = round(x log2 e)`; `r = x - n ln 2` in two steps; degree 5 polynomial (Cephes `expf`), Horner by FMA; `2^n` by
//! the exponent bits. Softmax and sigmoid clamp `x` to [-87.33654, 87] first, so that `2^n` is a normal number: below, they
//! see the smallest normal number, above, exp(87). [`Activation::Exp`] multiplies by `2^n` in two steps instead and follows
//! IEEE to both ends. `exp(x) - 1` is `2^n q + (2^n - 1)`, where `q` is the polynomial without its 1.
//!
//! `sigmoid = 1 / (1 + exp(-x))`. `tanh`: Cephes `tanhf` below 0.625, else `1 - 2 / (exp(2 |x|) + 1)`. `log`: the mantissa in
//! [sqrt(1/2), sqrt(2)), degree 8 polynomial (Cephes `logf`). `erf`: an odd polynomial below 0.92, else `1 - exp(p)` with a
//! polynomial `p` of `|x|` for the logarithm of `1 - erf`; both are our own least maximum fits. `softplus = max(x, 0) +
//! ln(1 + e)` with `e = exp(-|x|)` and `ln(1 + e) = e ln(u) / (u - 1)` for the rounded `u = 1 + e` (Kahan).
//!
//! Largest errors against f64 in ULP, as the tests measure them over the ranges they name: exp 1, sigmoid 3, tanh 2, log 1,
//! erf 1.1, elu 2, softplus 3, `1 / sqrt(x + epsilon)` 2. What is made of them (gelu, mish, ...) is within 2^-22 of the
//! larger of `|x|` and the result. NaN stays NaN.

use super::Activation;
use super::lanes::Lanes;

/// Constants of `exp`.
pub mod exp {
    /// Below this a softmax gives 0.
    pub const VANISHING: f32 = -80.0;
    pub const LOW: f32 = -87.336_54;
    pub const HIGH: f32 = 87.0;
    /// Where the result is 0 and infinite.
    pub const ZERO: f32 = -104.0;
    pub const INFINITE: f32 = 89.0;
    pub const LOG2_E: f32 = std::f32::consts::LOG2_E;
    pub const LN2_HIGH: f32 = 0.693_359_4;
    pub const LN2_LOW: f32 = -2.121_944_4e-4;
    pub const POLYNOMIAL: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
}

/// Constants of `tanh`.
pub mod tanh {
    pub const SMALL: f32 = 0.625;
    #[expect(clippy::excessive_precision, reason = "as published")]
    pub const POLYNOMIAL: [f32; 5] = [-5.704_988_7e-3, 2.063_908_9e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1];
}

/// Constants of `log`.
pub mod log {
    /// Takes denormals to normal numbers.
    pub const SCALE: f32 = 8_388_608.0;
    pub const SCALE_EXPONENT: f32 = 23.0;
    #[expect(clippy::excessive_precision, reason = "as published")]
    pub const POLYNOMIAL: [f32; 9] = [
        7.037_683_629_2e-2,
        -1.151_461_031_0e-1,
        1.167_699_874_0e-1,
        -1.242_014_084_6e-1,
        1.424_932_278_7e-1,
        -1.666_805_766_5e-1,
        2.000_071_476_5e-1,
        -2.499_999_399_3e-1,
        3.333_333_117_4e-1,
    ];
}

/// Constants of `erf`.
pub mod erf {
    pub const SMALL: f32 = 0.92;
    /// From here on erf is 1 in f32.
    pub const ONE: f32 = 4.0;
    /// In `x^2`, of `erf(x) / x - 1`.
    pub const NEAR: [f32; 7] =
        [8.382_377e-5, -8.145_594e-4, 5.201_285_7e-3, -2.685_95e-2, 1.128_369_7e-1, -3.761_263_5e-1, 1.283_791_7e-1];
    /// In `|x|`, of `ln(1 - erf(|x|))`.
    pub const FAR: [f32; 7] = [
        1.949_458_8e-4,
        -3.033_684_3e-3,
        2.218_974_8e-2,
        -1.038_563_2e-1,
        -6.372_658e-1,
        -1.127_627_4,
        -2.070_159_7e-4,
    ];
}

/// Constants of `gelu` by tanh.
pub mod gelu {
    pub const CUBE: f32 = 0.044715;
    pub const FACTOR: f32 = 0.797_884_6;
}

/// Below this bound floats have fractions.
pub const WHOLE: f32 = 8_388_608.0;

/// The smallest float above 0: only zeros lie below.
pub const LEAST: f32 = f32::from_bits(1);

impl Activation {
    /// What a product applies to its accumulators, and what is left to do then: most would be inlined into every tile.
    pub fn split(self) -> [Activation; 2] {
        match self {
            Activation::Identity | Activation::Relu | Activation::LeakyRelu(_) => [self, Activation::Identity],
            _ => [Activation::Identity, self],
        }
    }
}

/// A cheap activation.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn activate_cheaply<L: Lanes>(activation: Activation, x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let zero = L::splat(0.0);
        match activation {
            Activation::Relu => zero.max(x),
            Activation::LeakyRelu(slope) => zero.select_less(x, x, L::splat(slope).mul(x)),
            _ => x,
        }
    }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn activate<L: Lanes>(activation: Activation, x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let (zero, half, one) = (L::splat(0.0), L::splat(0.5), L::splat(1.0));
        match activation {
            Activation::Identity | Activation::Relu | Activation::LeakyRelu(_) => activate_cheaply(activation, x),
            Activation::Sigmoid => logistic(x),
            Activation::ScaledSigmoid(gamma) => L::splat(gamma).mul(logistic(x)),
            Activation::Tanh => hyperbolic_tangent(x),
            Activation::Silu => x.mul(logistic(x)),
            Activation::Affine { scale, shift } => x.fma(L::splat(scale), L::splat(shift)),
            Activation::Threshold(bound) => {
                let zero_or_nan = zero.max(x.abs().negate()).abs();
                L::splat(bound).select_less(x.abs(), x, zero_or_nan)
            }
            Activation::InverseSqrt(epsilon) => one.div(x.add(L::splat(epsilon)).sqrt()),
            Activation::Abs => x.abs(),
            Activation::Negate => x.negate(),
            Activation::Exp => unclamped_exponential(x),
            Activation::Log => logarithm(x),
            Activation::Sqrt => x.sqrt(),
            Activation::Reciprocal => one.div(x),
            Activation::Square => x.mul(x),
            Activation::Erf => error_function(x),
            Activation::Gelu => {
                let y = error_function(x.mul(L::splat(std::f32::consts::FRAC_1_SQRT_2)));
                x.mul(half).fma(y, x.mul(half))
            }
            Activation::GeluTanh => {
                let cube = x.mul(x).mul(x);
                let y = hyperbolic_tangent(cube.fma(L::splat(gelu::CUBE), x).mul(L::splat(gelu::FACTOR)));
                x.mul(half).fma(y, x.mul(half))
            }
            Activation::Elu { alpha } => zero.select_less(x, x, L::splat(alpha).mul(exponential_less_one(x))),
            Activation::Selu { alpha, gamma } => {
                L::splat(gamma).mul(zero.select_less(x, x, L::splat(alpha).mul(exponential_less_one(x))))
            }
            Activation::Celu { alpha } => {
                let y = exponential_less_one(x.div(L::splat(alpha)));
                zero.select_less(x, x, L::splat(alpha).mul(y))
            }
            Activation::Softplus => softplus(x),
            Activation::Softsign => x.div(one.add(x.abs())),
            Activation::Mish => x.mul(hyperbolic_tangent(softplus(x))),
            Activation::HardSigmoid { scale, shift } => one.min(zero.max(x.fma(L::splat(scale), L::splat(shift)))),
            Activation::HardSwish => x.mul(one.min(zero.max(x.fma(L::splat(1.0 / 6.0), half)))),
            Activation::ThresholdedRelu { alpha } => L::splat(alpha).select_less(x, x, zero),
            Activation::Clip { low, high } => L::splat(high).min(L::splat(low).max(x)),
            Activation::Floor => x.floor(),
            Activation::Ceil => x.negate().floor().negate(),
            Activation::Round => nearest(x),
            Activation::Truncate => x.abs().floor().copysign(x),
            Activation::Sign => zero.select_less(x, one, x.select_less(zero, L::splat(-1.0), x.abs())),
            Activation::Not => x.abs().select_less(L::splat(LEAST), one, zero),
            Activation::IsNan => x.select_equal(x, zero, one),
            Activation::IsInf => x.abs().select_equal(L::splat(f32::INFINITY), one, zero),
            Activation::Rare(function) => {
                let mut lanes = [0.0; 16];
                x.store(lanes.as_mut_ptr());
                for lane in &mut lanes {
                    *lane = function.of(*lane);
                }
                L::load(lanes.as_ptr())
            }
        }
    }
}

/// The polynomial of `exp` without its 1, and `n`.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn reduced<L: Lanes>(x: L) -> (L, L) {
    use exp::*;
    // SAFETY: the caller's promise.
    unsafe {
        let n = x.mul(L::splat(LOG2_E)).round();
        let r = n.fma(L::splat(-LN2_LOW), n.fma(L::splat(-LN2_HIGH), x));
        (horner(&POLYNOMIAL, r).fma(r.mul(r), r), n)
    }
}

/// The exponential between the clamps.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn exponential<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let (q, n) = reduced(L::splat(exp::HIGH).min(L::splat(exp::LOW).max(x)));
        q.add(L::splat(1.0)).scaled(n)
    }
}

/// The exponential of a number that is not above 0, for the shares of a softmax: 0 below -80. Shares that small would be
/// denormal, which the CPU computes with slowly.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn share<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let (q, n) = reduced(x);
        x.select_less(L::splat(exp::VANISHING), L::splat(0.0), q.add(L::splat(1.0)).scaled(n))
    }
}

/// The exponential to both ends of f32.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn unclamped_exponential<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let (q, n) = reduced(L::splat(exp::INFINITE).min(L::splat(exp::ZERO).max(x)));
        let half = n.mul(L::splat(0.5)).round();
        q.add(L::splat(1.0)).mul(half.power_of_two()).mul(n.sub(half).power_of_two())
    }
}

/// `exp(x) - 1` for `x` up to 0.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn exponential_less_one<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let (q, n) = reduced(L::splat(exp::HIGH).min(L::splat(exp::LOW).max(x)));
        let scale = n.power_of_two();
        q.fma(scale, scale.sub(L::splat(1.0)))
    }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn logistic<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe { L::splat(1.0).div(L::splat(1.0).add(exponential(x.negate()))) }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn hyperbolic_tangent<L: Lanes>(x: L) -> L {
    use tanh::*;
    // SAFETY: the caller's promise.
    unsafe {
        let a = x.abs();
        let z = a.mul(a);
        let small = horner(&POLYNOMIAL, z).mul(z).fma(a, a);
        let e = exponential(a.add(a)).add(L::splat(1.0));
        let large = L::splat(1.0).sub(L::splat(2.0).div(e));
        a.select_less(L::splat(SMALL), small, large).copysign(x)
    }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
pub unsafe fn logarithm<L: Lanes>(x: L) -> L {
    use log::*;
    // SAFETY: the caller's promise.
    unsafe {
        let normal = L::splat(f32::MIN_POSITIVE);
        let (mantissa, exponent) = x.select_less(normal, x.mul(L::splat(SCALE)), x).split();
        let exponent = exponent.sub(x.select_less(normal, L::splat(SCALE_EXPONENT), L::splat(0.0)));
        let f = mantissa.sub(L::splat(1.0));
        let z = f.mul(f);
        let y = exponent.fma(L::splat(exp::LN2_LOW), horner(&POLYNOMIAL, f).mul(f).mul(z));
        let y = exponent.fma(L::splat(exp::LN2_HIGH), f.add(z.fma(L::splat(-0.5), y)));
        let y = x.select_less(L::splat(f32::INFINITY), y, x);
        let y = x.select_equal(L::splat(0.0), L::splat(f32::NEG_INFINITY), y);
        x.select_less(L::splat(0.0), L::splat(f32::NAN), y)
    }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn error_function<L: Lanes>(x: L) -> L {
    use erf::*;
    // SAFETY: the caller's promise.
    unsafe {
        let a = L::splat(ONE).min(x.abs());
        let small = horner(&NEAR, a.mul(a)).fma(a, a);
        let large = L::splat(1.0).sub(exponential(horner(&FAR, a)));
        a.select_less(L::splat(SMALL), small, large).copysign(x)
    }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn softplus<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let e = unclamped_exponential(x.abs().negate());
        let u = L::splat(1.0).add(e);
        let d = u.sub(L::splat(1.0));
        let rest = L::splat(0.0).select_less(d, logarithm(u).mul(e.div(d)), e);
        L::splat(0.0).max(x).add(rest)
    }
}

/// The nearest integer, half to even.
///
/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn nearest<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let a = x.abs();
        let (half, one) = (L::splat(0.5), L::splat(1.0));
        let below = a.floor();
        let rest = a.sub(below);
        let pair = below.mul(half).floor();
        let even = below.add(below.sub(pair.add(pair)));
        let whole = rest.select_less(half, below, rest.select_equal(half, even, below.add(one)));
        a.select_less(L::splat(WHOLE), whole, a).copysign(x)
    }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn horner<L: Lanes>(polynomial: &[f32], x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        let mut y = L::splat(polynomial[0]);
        for coefficient in &polynomial[1..] {
            y = y.fma(x, L::splat(*coefficient));
        }
        y
    }
}
