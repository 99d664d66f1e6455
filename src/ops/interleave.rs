//! For each of several groups, its part of every input side by side: `out[g] = [a[g]; b[g]; ..]`.

use super::{Context, Span};

/// Values of equal parts, interleaved.
#[derive(Debug)]
pub struct Interleave {
    /// Each input with the width of a part: one no wider is repeated for every group.
    pub parts: Vec<(Span, usize)>,
    pub groups: usize,
    pub output: Span,
}

impl Interleave {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let part = self.output.width / self.groups;
        let mut column = 0;
        for (input, width) in &self.parts {
            let step = if input.width == *width { 0 } else { *width };
            for group in 0..self.groups {
                let from = Span { offset: input.offset + group * step, width: *width, ..*input };
                let to = Span { offset: self.output.offset + group * part + column, width: *width, ..self.output };
                context.kernels.copy(context.memory, context.rows, from, to);
            }
            column += width;
        }
    }
}
