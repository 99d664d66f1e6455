//! `out = activation(x + addend)`, with an `x` that the item cache keeps.

use super::{Activation, Context, Element, Span, Unpack};

/// A value of the item, from the row that is kept of each candidate.
#[derive(Debug)]
pub struct Cached {
    pub element: Element,
    /// Where its part of a row begins.
    pub start: usize,
    pub addend: Option<Span>,
    pub activation: Activation,
    pub output: Span,
}

impl Cached {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let Self { element, start, addend, activation, output } = *self;
        let unpack = Unpack { rows: context.cached, element, start, addend, activation, output };
        context.kernels.unpack(context.memory, &unpack);
    }
}
