//! The arithmetic. Kernels know rows, spans and panels; they know no tensor, feature or network.
//!
//! All values live in one memory of f32, and a value is a [`Span`] of it. [`Kernels`] is one instruction set: chosen once,
//! by name or by the CPU, and then only called. Its methods check every span against the memory, so that the code below
//! them can use raw pointers.
//!
//! # Bits
//! Every set gives the same bits for the same row. Lanes run across outputs; `k` ascends by fused multiply-add; a sum
//! across a row uses 16 virtual lanes (lane `l` takes elements `l, l + 16, ...` in order) and the tree 8, 4, 2, 1; the
//! functions of [`lanes`] are one list of correctly rounded operations. `scalar` is the readable truth, the others are
//! tested against it.

mod avx2;
mod lanes;
mod list;
mod panels;
mod scalar;
#[cfg(test)]
mod testkit;
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

/// `rows` rows of `width` elements, one after the other.
#[derive(Clone, Copy, Debug)]
pub struct Table<'a> {
    pub bytes: &'a [u8],
    pub element: Element,
    pub rows: usize,
    pub width: usize,
}
