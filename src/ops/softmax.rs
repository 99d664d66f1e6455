//! `out = exp(x - max x) / sum(exp(x - max x))` over a row.

use super::{Context, Span};

/// A softmax per row.
#[derive(Debug)]
pub struct Softmax {
    pub input: Span,
    pub output: Span,
}

impl Softmax {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        context.kernels.softmax(context.memory, context.rows, self.input, self.output);
    }
}
