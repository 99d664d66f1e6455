//! The arithmetic. Kernels know rows, spans and panels; they know no tensor, feature or network.
//!
//! All values live in one memory of f32, and a value is a [`Span`] of it. [`Kernels`] is one instruction set: chosen once,
//! by name or by the CPU, and then only called. Its methods check every span against the memory, so that the code below
//! them can use raw pointers.
//!
//! # Bits
//! Every set gives the same bits for the same row. Lanes run across outputs; `k` ascends by fused multiply-add; a sum
//! across a row uses 16 virtual lanes (lane `l` takes elements `l, l + 16, ...` in order) and the tree 8, 4, 2, 1; a sum
//! down rows takes them in order; the functions of [`functions`] are one list of correctly rounded operations, those of
//! [`rare`] are one code for all; sums of integers are exact. `scalar` is the readable truth, the others are tested against
//! it. The exception are layers in bf16, which sets sum as their instructions do.

mod amx;
mod attend;
mod avx2;
mod avx512;
mod dots;
mod functions;
mod lanes;
mod list;
pub mod meter;
mod neon;
mod panels;
mod places;
mod rare;
mod reduce;
mod room;
mod scalar;
mod select;
#[cfg(test)]
mod testkit;
mod tile;
mod transposed;
mod wide;

pub use dots::Reach;
pub use lanes::MAX_SHARES;
pub use list::Kernels;
pub use panels::{Element, LINE, Panels, Unfit, Weight};
pub use places::Places;
pub use rare::Rare;
pub use room::{Part, Room};

/// No room.
pub const NOWHERE: Span = Span { offset: 0, stride: 0, width: 0 };

/// A value in memory: `width` f32 per row, rows `stride` apart, the first at `offset`. Stride 0: one row read by all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub offset: usize,
    pub stride: usize,
    pub width: usize,
}

/// A function of one element.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    Identity,
    /// `max(x, 0)`
    Relu,
    /// `x` above 0, else `slope * x`
    LeakyRelu(f32),
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `gamma / (1 + exp(-x))`, as `gamma * sigmoid(x)`
    ScaledSigmoid(f32),
    Tanh,
    /// `x * sigmoid(x)`
    Silu,
    /// `x * scale + shift`, rounded once
    Affine {
        scale: f32,
        shift: f32,
    },
    /// 0 where `|x| <= bound`, else `x`
    Threshold(f32),
    /// `1 / sqrt(x + epsilon)`
    InverseSqrt(f32),
    Abs,
    Negate,
    /// As IEEE: infinite above 88.72284, 0 below -103.9721.
    Exp,
    /// The natural logarithm; -inf at 0, NaN below.
    Log,
    Sqrt,
    /// `1 / x`
    Reciprocal,
    Square,
    Erf,
    /// `x / 2 (1 + erf(x / sqrt(2)))`
    Gelu,
    /// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`
    GeluTanh,
    /// `x` above 0, else `alpha (exp(x) - 1)`
    Elu {
        alpha: f32,
    },
    /// `gamma x` above 0, else `gamma alpha (exp(x) - 1)`
    Selu {
        alpha: f32,
        gamma: f32,
    },
    /// `x` above 0, else `alpha (exp(x / alpha) - 1)`
    Celu {
        alpha: f32,
    },
    /// `ln(1 + exp(x))`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    /// `x tanh(softplus(x))`
    Mish,
    /// `x * scale + shift`, at least 0 and at most 1
    HardSigmoid {
        scale: f32,
        shift: f32,
    },
    /// `x` times `x / 6 + 1 / 2`, at least 0 and at most 1
    HardSwish,
    /// `x` above `alpha`, else 0
    ThresholdedRelu {
        alpha: f32,
    },
    /// `min(max(x, low), high)`; the ends may be infinite, NaN stays.
    Clip {
        low: f32,
        high: f32,
    },
    Floor,
    Ceil,
    /// To the nearest integer, half to even.
    Round,
    /// To the next integer towards 0.
    Truncate,
    /// 1 above 0, -1 below, 0 at 0.
    Sign,
    /// 1 at 0, else 0
    Not,
    /// 1 for NaN, else 0
    IsNan,
    /// 1 for both infinities, else 0
    IsInf,
    /// What no network computes in bulk.
    Rare(Rare),
}

/// What `combine` does with two elements. Comparisons give 1 and 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    Add,
    Subtract,
    Multiply,
    Divide,
    /// NaN if either is NaN.
    Maximum,
    /// NaN if either is NaN.
    Minimum,
    /// `left ^ right`, in f64, rounded to f32.
    Power,
    /// What `left / right` leaves when rounded down: it has the sign of `right`.
    Modulo,
    /// What `left / right` leaves when rounded towards 0: it has the sign of `left`.
    Remainder,
    Equal,
    Less,
    LessEqual,
    /// `left` above 0, else `right * left`
    Prelu,
}

/// How the elements of a part of a row become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    Sum,
    Mean,
    /// NaN if any element is; a zero is positive.
    Max,
    /// NaN if any element is; a zero is positive.
    Min,
    Product,
    /// `m + ln(sum exp(x - m))` with the largest element `m`; `m` if that is infinite.
    LogSumExp,
}

/// How the rows of a bag become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    Sum,
    Mean,
    Max,
}

/// What the accumulators of a dense layer start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Zero,
    /// The bias of the panels.
    Bias,
    Span(Span),
}

/// `output = activation(addend + (start + input * weights))`, `k` ascending by FMA; with weights in bf16 and integers as said
/// in `dots`.
#[derive(Clone, Copy, Debug)]
pub struct Dense<'a> {
    pub input: Span,
    pub weights: &'a Panels,
    pub start: Start,
    pub addend: Option<Span>,
    pub output: Span,
    pub activation: Activation,
    /// Room for the quantised rows or widened weights: [`Weight::scratch`] f32.
    pub scratch: Span,
    /// How far the words of quantised rows may reach: at most as far as the weights allow.
    pub reach: Reach,
    /// Whether the scratch holds the rows already: from a call with the same input, rows, type of weights, and reach.
    pub is_quantized: bool,
}

/// `output = activation(addend + (start + input * weight))`, `k` ascending by FMA, where a row of `weight` is the matrix
/// `[inputs, outputs]`, row-major: a weight that was itself computed.
#[derive(Clone, Copy, Debug)]
pub struct Generated<'a> {
    pub input: Span,
    /// In memory, one matrix per row; stride 0: one for all rows.
    pub weight: Span,
    /// Where the matrix is instead, if it is not in memory: one for all rows.
    pub outside: Option<&'a [f32]>,
    /// `Zero` or a span.
    pub start: Start,
    pub addend: Option<Span>,
    pub output: Span,
    pub activation: Activation,
}

/// For each of `batch` pairs of matrices in a row of the call, `output[i, j] = sum_k left[i, k] right[k, j]`: `k` ascending
/// by FMA; across 16 lanes where `right` is transposed and the product has few rows or columns. A side that holds one matrix
/// lends it to the whole batch.
#[derive(Clone, Copy, Debug)]
pub struct MatMul {
    /// `[batch, height, inner]` or `[height, inner]`
    pub left: Span,
    /// `[batch, inner, columns]` or `[inner, columns]`; transposed, `[batch, columns, inner]` or `[columns, inner]`.
    pub right: Span,
    /// `[batch, height, columns]`
    pub output: Span,
    pub batch: usize,
    pub height: usize,
    pub inner: usize,
    pub columns: usize,
    pub is_transposed: bool,
}

impl MatMul {
    /// How far apart the matrices of the batch lie, left and right: 0 for a shared one. `None` if a width fits neither.
    fn steps(&self) -> Option<[usize; 2]> {
        let step = |width: usize, matrix: usize| {
            if Some(width) == matrix.checked_mul(self.batch) { Some(matrix) } else { (width == matrix).then_some(0) }
        };
        let left = step(self.left.width, self.height.checked_mul(self.inner)?)?;
        Some([left, step(self.right.width, self.inner.checked_mul(self.columns)?)?])
    }
}

/// Which rows of an attention matrix are pooled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    Mean,
    Sum,
    /// The last position alone.
    Last,
}

/// `output[j] = pool_i softmax_j(base[i, j] + sum_t queries[t, i] keys[t, j])`: the weight of each position after
/// self-attention, pooled over the positions that ask; 0 behind the last position.
#[derive(Clone, Copy, Debug)]
pub struct Attend {
    /// Elements of a query and of a key.
    pub terms: usize,
    /// The most positions.
    pub length: usize,
    /// A row per candidate: for each term, `length` columns.
    pub queries: Span,
    /// As the queries.
    pub keys: Span,
    /// A row of `[length, length]`: one per candidate, or one for all, with a stride of 0.
    pub base: Option<Span>,
    pub rows: Rows,
    /// Of [`Attend::scratch`] f32.
    pub scratch: Span,
    /// A row of `length` per candidate.
    pub output: Span,
}

impl Attend {
    /// The f32 of scratch for so many terms and positions.
    pub fn scratch(terms: usize, length: usize) -> usize {
        attend::scratch(terms, length)
    }
}

/// `output[r] = activation(part of rows[r] + addend[r])`: a part of packed rows, widened to f32. It has as many elements as the
/// output is wide.
#[derive(Clone, Copy, Debug)]
pub struct Unpack<'a> {
    pub rows: &'a [&'a [u8]],
    pub element: Element,
    /// Where the part begins in each row: with the scale of integers, an f32, and then the elements.
    pub start: usize,
    pub addend: Option<Span>,
    pub activation: Activation,
    pub output: Span,
}

/// `rows` rows of `width` elements, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    pub bytes: &'a [u8],
    /// What the integers of each row are multiplied by: an f32 per row, in any alignment; empty for floats.
    pub scales: &'a [u8],
    pub element: Element,
    pub rows: usize,
    pub width: usize,
}

impl<'a> Table<'a> {
    /// The elements of a row; empty where there is none.
    fn row(&self, id: u32) -> &'a [u8] {
        let bytes = self.element.row_bytes(self.width);
        self.bytes.get(id as usize * bytes..).and_then(|rest| rest.get(..bytes)).unwrap_or_default()
    }

    /// The scale of a row; empty where there is none.
    fn scale(&self, id: u32) -> &'a [u8] {
        self.scales.as_chunks::<4>().0.get(id as usize).map_or(&[], |scale| scale)
    }
}
