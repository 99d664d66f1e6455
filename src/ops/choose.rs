//! `out = condition != 0 ? then : otherwise`, per element.

use super::{Context, Span};

/// One of two values; inputs of width 1 are repeated.
#[derive(Debug)]
pub struct Choose {
    pub condition: Span,
    pub then: Span,
    pub otherwise: Span,
    pub output: Span,
}

impl Choose {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let Self { condition, then, otherwise, output } = *self;
        context.kernels.choose(context.memory, context.rows, condition, then, otherwise, output);
    }
}
