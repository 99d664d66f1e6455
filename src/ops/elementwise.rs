//! `out = f(x)`, `out = x + y` and its like, `out = x * scale + shift`, `out = x`, per element.

use super::parts::Part;
use super::{Activation, Context, Span};
use crate::kernels;

/// `out = activation(input)`
#[derive(Debug)]
pub struct Unary {
    pub activation: Activation,
    pub input: Span,
    pub output: Span,
}

impl Unary {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        context.kernels.unary(context.memory, context.rows, self.activation, self.input, self.output);
    }
}

/// How a right side of width `w` meets a left side of width `W`, a multiple of `w`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// `left[j]` meets `right[j % w]`.
    Cycle,
    /// `left[j]` meets `right[j / (W / w)]`.
    Each,
}

/// `out = activation(how(left, right))`, where a narrow right side is spread.
#[derive(Debug)]
pub struct Combine {
    pub how: kernels::Combine,
    pub left: Span,
    pub right: Span,
    pub spread: Spread,
    pub activation: Activation,
    pub output: Span,
    /// Rows where they are not those of the call: for matrices.
    pub rows: Option<usize>,
}

impl Combine {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let Self { how, left, right, spread, activation, output, .. } = *self;
        let rows = self.rows.unwrap_or(context.rows);
        let groups = match spread {
            _ if right.width == left.width || right.width == 1 => 1,
            Spread::Cycle => left.width / right.width,
            Spread::Each => right.width,
        };
        for (rows, part) in Part::calls(rows, groups) {
            let right = if spread == Spread::Each && groups > 1 { part.split(right) } else { part.repeat(right) };
            let (left, output) = (part.split(left), part.split(output));
            context.kernels.combine(context.memory, rows, how, left, right, activation, output);
        }
    }
}

/// `out = input * scale + shift`: a batch norm that no dense layer could take in.
#[derive(Debug)]
pub struct Affine {
    pub input: Span,
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    pub output: Span,
}

impl Affine {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        context.kernels.affine(context.memory, context.rows, self.input, &self.scale, &self.shift, self.output);
    }
}

/// `out = input`: a value that a concatenation needs a second time, or per candidate.
#[derive(Debug)]
pub struct Copy {
    pub input: Span,
    pub output: Span,
}

impl Copy {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        context.kernels.copy(context.memory, context.rows, self.input, self.output);
    }
}
