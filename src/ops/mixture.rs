//! `out = sum_e gate[e] * experts[e]`, e ascending by FMA.

use super::{Context, Span};

/// Experts weighted by a gate.
#[derive(Debug)]
pub struct Mixture {
    pub gate: Span,
    pub experts: Vec<Span>,
    pub output: Span,
}

impl Mixture {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        context.kernels.mixture(context.memory, context.rows, self.gate, &self.experts, self.output);
    }
}
