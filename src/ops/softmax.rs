//! `out = exp(x - max x) / sum(exp(x - max x))` over a row, and its hard form: 1 at the first largest element, 0 elsewhere.

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

/// 1 at the first largest element of a row; a row of NaN has none.
#[derive(Debug)]
pub struct Argmax {
    pub input: Span,
    pub output: Span,
}

impl Argmax {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let Span { offset, stride, width } = self.input;
        for row in 0..context.rows {
            let start = offset + row * stride;
            let mut best = None;
            for (column, value) in context.memory[start..start + width].iter().enumerate() {
                if best.is_none_or(|(_, largest)| *value > largest) && !value.is_nan() {
                    best = Some((column, *value));
                }
            }
            let to = self.output.offset + row * self.output.stride;
            for (column, out) in context.memory[to..to + width].iter_mut().enumerate() {
                *out = f32::from(u8::from(best.is_some_and(|(largest, _)| largest == column)));
            }
        }
    }
}
