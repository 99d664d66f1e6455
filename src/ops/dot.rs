//! Inner products: `out[g] = sum_j left[g, j] right[g, j]`, of many pairs of values, and of all positions with all positions.

use super::{Context, Span};

/// For each pair, the inner products of as many equal parts as the output part is wide.
#[derive(Debug)]
pub struct Dots {
    /// Left, right and output.
    pub pairs: Vec<[Span; 3]>,
}

impl Dots {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        for [left, right, output] in &self.pairs {
            context.kernels.dot(context.memory, context.rows, *left, *right, output.width, *output);
        }
    }
}

/// `out[i, j] = queries[i] . keys[j]` over the positions of one sequence.
#[derive(Debug)]
pub struct Scores {
    pub queries: Span,
    pub keys: Span,
    pub output: Span,
}

impl Scores {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        for position in 0..context.rows {
            let key = Span { offset: self.keys.offset + position * self.keys.stride, stride: 0, ..self.keys };
            let output = Span { offset: self.output.offset + position, width: 1, ..self.output };
            context.kernels.dot(context.memory, context.rows, self.queries, key, 1, output);
        }
    }
}
