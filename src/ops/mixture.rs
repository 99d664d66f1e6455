//! `out = sum_e gate[e] * experts[e]`, e ascending by FMA; the gate may be logits, of which the softmax is taken first.

use super::{Context, Span};

/// Experts weighted by a gate.
#[derive(Debug)]
pub struct Mixture {
    pub gate: Span,
    /// Whether the weights are the softmax of the gate.
    pub is_softmax: bool,
    pub experts: Vec<Span>,
    pub output: Span,
}

impl Mixture {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let Self { gate, is_softmax, experts, output } = self;
        context.kernels.mixture(context.memory, context.rows, *gate, *is_softmax, experts, *output);
    }
}
