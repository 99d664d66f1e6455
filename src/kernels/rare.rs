//! Functions that no network computes in bulk: in f64 by the standard library, rounded to f32. All sets call these.

/// A function of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rare {
    /// `x ^ exponent`
    Power {
        exponent: f32,
    },
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
}

impl Rare {
    #[inline(never)]
    pub(super) fn of(self, x: f32) -> f32 {
        let x = f64::from(x);
        let y = match self {
            Rare::Power { exponent } => x.powf(f64::from(exponent)),
            Rare::Sin => x.sin(),
            Rare::Cos => x.cos(),
            Rare::Tan => x.tan(),
            Rare::Asin => x.asin(),
            Rare::Acos => x.acos(),
            Rare::Atan => x.atan(),
            Rare::Sinh => x.sinh(),
            Rare::Cosh => x.cosh(),
            Rare::Asinh => x.asinh(),
            Rare::Acosh => x.acosh(),
            Rare::Atanh => x.atanh(),
        };
        y as f32
    }
}

/// `left ^ right`
#[inline(never)]
pub fn power(left: f32, right: f32) -> f32 {
    f64::from(left).powf(f64::from(right)) as f32
}

/// What the division leaves when rounded down: it has the sign of `right`.
#[inline(never)]
pub fn modulo(left: f32, right: f32) -> f32 {
    let rest = left % right;
    if rest == 0.0 {
        rest.copysign(right)
    } else if (rest < 0.0) == (right < 0.0) {
        rest
    } else {
        rest + right
    }
}

/// What the division leaves when rounded towards 0: it has the sign of `left`.
#[inline(never)]
pub fn remainder(left: f32, right: f32) -> f32 {
    left % right
}
