//! `out = exp(x - max x) / sum(exp(x - max x))` over a row or equal parts of it, and its hard form: 1 at the first
//! largest element, 0 elsewhere.

use super::parts::Part;
use super::{Context, Span};

/// A softmax per part of a row.
#[derive(Debug)]
pub struct Softmax {
    /// Equal parts of a row.
    pub groups: usize,
    pub input: Span,
    pub output: Span,
}

impl Softmax {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        for (rows, part) in Part::calls(context.rows, self.groups) {
            context.kernels.softmax(context.memory, rows, part.split(self.input), part.split(self.output));
        }
    }
}

/// 1 at the first largest element of each part of a row; a part of NaN has none.
#[derive(Debug)]
pub struct Argmax {
    /// Equal parts of a row.
    pub groups: usize,
    pub input: Span,
    pub output: Span,
}

impl Argmax {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        for (rows, part) in Part::calls(context.rows, self.groups) {
            let (input, output) = (part.split(self.input), part.split(self.output));
            for row in 0..rows {
                let start = input.offset + row * input.stride;
                let mut best = None;
                for (column, value) in context.memory[start..start + input.width].iter().enumerate() {
                    if best.is_none_or(|(_, largest)| *value > largest) && !value.is_nan() {
                        best = Some((column, *value));
                    }
                }
                let to = output.offset + row * output.stride;
                for (column, out) in context.memory[to..to + output.width].iter_mut().enumerate() {
                    *out = f32::from(u8::from(best.is_some_and(|(largest, _)| largest == column)));
                }
            }
        }
    }
}
