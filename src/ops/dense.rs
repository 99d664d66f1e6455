//! `out = act(addend + (start + x W))`, k ascending by FMA: a dense layer, or the share of one whose inputs change at one
//! rate.

use super::{Activation, Context, Panels, Span, Start};
use crate::kernels;

/// A packed product with its epilogue.
#[derive(Debug)]
pub struct Dense {
    pub input: Span,
    pub weights: Panels,
    pub start: Start,
    pub addend: Option<Span>,
    pub activation: Activation,
    pub output: Span,
}

impl Dense {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let call = kernels::Dense {
            input: self.input,
            weights: &self.weights,
            start: self.start,
            addend: self.addend,
            output: self.output,
            activation: self.activation,
        };
        context.kernels.dense(context.memory, context.rows, &call);
    }
}
