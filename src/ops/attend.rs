//! Attention over the positions of a sequence: a softmax down each column, and the pooled rows of a self-attention matrix
//! `softmax_j(base[i, j] + sum_t queries[i, t] keys[j, t])`, which is never stored.

use super::{Context, Rows, Span};
use crate::kernels;

/// `out[i] = exp(x[i] - max x) / sum_i exp(x[i] - max x)` over positions, per column.
#[derive(Debug)]
pub struct SoftmaxDown {
    pub input: Span,
    pub output: Span,
}

impl SoftmaxDown {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        context.kernels.softmax_down(context.memory, context.rows, self.input, self.output);
    }
}

/// The weight of each position, pooled over the positions that ask.
#[derive(Debug)]
pub struct Attend {
    pub queries: Span,
    pub keys: Span,
    pub base: Option<Span>,
    pub rows: Rows,
    pub scratch: Span,
    pub output: Span,
}

impl Attend {
    /// The f32 of scratch for keys of a width and so many positions.
    pub fn scratch(width: usize, positions: usize) -> usize {
        kernels::Attend::scratch(width, positions)
    }

    pub(super) fn run(&self, context: &mut Context<'_>) {
        let Self { queries, keys, base, rows, scratch, output } = *self;
        let call = kernels::Attend { queries, keys, base, rows, scratch, output };
        context.kernels.attend(context.memory, context.rows, &call);
    }
}
