//! `out[g, t] = x[g, index[g, t]]` with computed indices, and the largest elements of a row with theirs.

use super::{Context, Span};

/// Elements by their places: a row of the input is `[groups, length, inner]`, of the index `[groups, count]`.
#[derive(Debug)]
pub struct Pick {
    pub input: Span,
    pub index: Span,
    pub groups: usize,
    /// `[groups, count, inner]`
    pub output: Span,
}

impl Pick {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        context.kernels.pick(context.memory, context.rows, self.input, self.index, self.groups, self.output);
    }
}

/// The largest (smallest) elements of each part of a row, in order, and then their places.
#[derive(Debug)]
pub struct TopK {
    pub input: Span,
    pub groups: usize,
    pub is_smallest: bool,
    /// `[2, groups, count]`
    pub output: Span,
}

impl TopK {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        context.kernels.top_k(context.memory, context.rows, self.input, self.groups, self.is_smallest, self.output);
    }
}
