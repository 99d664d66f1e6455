//! Attention over the positions of a sequence: a softmax down each column, and the pooled rows of a self-attention matrix
//! `softmax_j(base[i, j] + sum_t queries[t, i] keys[t, j])`, which is never stored.

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

/// The weight of each position, pooled over the positions that ask: a row per candidate.
#[derive(Debug)]
pub struct Attend {
    /// The group of sequences whose positions they are, and how many there are at most.
    pub group: usize,
    pub length: usize,
    pub queries: Span,
    pub keys: Span,
    pub base: Option<Span>,
    pub rows: Rows,
    pub scratch: Span,
    pub output: Span,
}

impl Attend {
    /// The f32 of scratch for queries that are so wide over so many positions.
    pub fn scratch(width: usize, length: usize) -> usize {
        kernels::Attend::scratch(width / length, length)
    }

    pub(super) fn run(&self, context: &mut Context<'_>) {
        let Self { group, length, queries, keys, base, rows, scratch, output } = *self;
        let call =
            kernels::Attend { terms: queries.width / length, length, queries, keys, base, rows, scratch, output };
        context.kernels.attend(context.memory, context.rows, context.positions[group], &call);
    }
}

/// The positions of a sequence side by side, position by position or column by column; 0 behind the last one.
#[derive(Debug)]
pub struct Flat {
    pub input: Span,
    pub length: usize,
    pub is_transposed: bool,
    pub output: Span,
}

impl Flat {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let Self { input, length, is_transposed, output } = *self;
        let width = input.width;
        context.memory[output.offset..output.offset + output.width].fill(0.0);
        for i in 0..context.rows {
            for column in 0..width {
                let place = if is_transposed { column * length + i } else { i * width + column };
                context.memory[output.offset + place] = context.memory[input.offset + i * input.stride + column];
            }
        }
    }
}
