//! The positions of a sequence as one row: `out = sum_i x[i]`, their mean, or `out[g] = sum_i w[i, g] x[i, g]`. No positions
//! give zeros.

use super::{Context, Span};

/// A sum over positions.
#[derive(Debug)]
pub struct Pool {
    pub input: Span,
    pub weights: Option<Span>,
    pub is_mean: bool,
    pub output: Span,
}

impl Pool {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let Self { input, weights, is_mean, output } = self;
        context.kernels.pool(context.memory, context.rows, *input, *weights, *is_mean, *output);
    }
}
