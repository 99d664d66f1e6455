//! `out[b, i, j] = sum_k left[b, i, k] right[b, k, j]` of matrices that were both computed, for each row.

use super::{Context, Span};
use crate::kernels;

/// Products of the matrices of a row. A side that holds one matrix lends it to the whole batch.
#[derive(Debug)]
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
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let Self { left, right, output, batch, height, inner, columns, is_transposed } = *self;
        let call = kernels::MatMul { left, right, output, batch, height, inner, columns, is_transposed };
        context.kernels.matmul(context.memory, context.rows, &call);
    }
}
