//! The arithmetic. Kernels know rows, spans and panels; they know no tensor, feature or network.
//!
//! All values live in one memory of f32, and a value is a [`Span`] of it. [`Kernels`] is one instruction set: chosen once,
//! by name or by the CPU, and then only called. Its methods check every span against the memory, so that the code below
//! them can use raw pointers.
//!
//! # Bits
//! Every set gives the same bits for the same row. Lanes run across outputs; `k` ascends by fused multiply-add; a sum
//! across a row uses 16 virtual lanes (lane `l` takes elements `l, l + 16, ...` in order) and the tree 8, 4, 2, 1; a sum
//! down rows takes them in order; the functions of [`lanes`] are one list of correctly rounded operations. `scalar` is the
//! readable truth, the others are tested against it.

mod avx2;
mod lanes;
mod list;
mod panels;
mod scalar;
#[cfg(test)]
mod testkit;
mod tile;
mod wide;

pub use list::Kernels;
pub use panels::{Element, Panels};

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
}

/// What `combine` does with two elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combine {
    Add,
    Subtract,
    Multiply,
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

/// `output = activation(addend + (start + input * weights))`, `k` ascending by FMA.
#[derive(Clone, Copy, Debug)]
pub struct Dense<'a> {
    pub input: Span,
    pub weights: &'a Panels,
    pub start: Start,
    pub addend: Option<Span>,
    pub output: Span,
    pub activation: Activation,
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

/// Which rows of an attention matrix are pooled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    Mean,
    Sum,
    /// The last position alone.
    Last,
}

/// `output[j] = pool_i softmax_j(base[i, j] + sum_t queries[i, t] keys[j, t])`: the weight of each position after
/// self-attention, pooled over the positions that ask.
#[derive(Clone, Copy, Debug)]
pub struct Attend {
    /// A row per position.
    pub queries: Span,
    /// A row per position, as wide as the queries.
    pub keys: Span,
    /// A row per position, with a column per position.
    pub base: Option<Span>,
    pub rows: Rows,
    /// `(width of keys + 2) * length` f32, `length` the most positions rounded up to 16.
    pub scratch: Span,
    /// Width 1, a row per position.
    pub output: Span,
}

/// `rows` rows of `width` elements, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    pub bytes: &'a [u8],
    pub element: Element,
    pub rows: usize,
    pub width: usize,
}
