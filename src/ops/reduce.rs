//! `out[g, c] = sum_i in[g, i, c]` and its like, over a row of `[groups, length, inner]`.

use super::{Context, Span};
use crate::kernels;

/// One element of many; the widths give groups and length.
#[derive(Debug)]
pub struct Reduce {
    pub how: kernels::Reduce,
    pub inner: usize,
    pub input: Span,
    pub output: Span,
}

impl Reduce {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        context.kernels.reduce(context.memory, context.rows, self.how, self.inner, self.input, self.output);
    }
}
