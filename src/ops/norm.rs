//! `out = (x - mean) / sqrt(variance + epsilon) * gamma + beta` with the moments of the row (Ba et al., Layer Normalization,
//! 2016), and `out = x / max(|x|_2, epsilon)`; or of equal parts of the row, each for itself.

use super::parts::Part;
use super::{Context, Span};

/// A layer norm per part of a row.
#[derive(Debug)]
pub struct LayerNorm {
    /// Equal parts of a row.
    pub groups: usize,
    pub input: Span,
    /// As wide as a part, and so is `beta`.
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
    pub epsilon: f32,
    pub output: Span,
}

impl LayerNorm {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        for (rows, part) in Part::calls(context.rows, self.groups) {
            let (input, output) = (part.split(self.input), part.split(self.output));
            let Self { gamma, beta, epsilon, .. } = self;
            context.kernels.layer_norm(context.memory, rows, input, gamma, beta, *epsilon, output);
        }
    }
}

/// Parts of length 1.
#[derive(Debug)]
pub struct Normalize {
    /// Equal parts of a row.
    pub groups: usize,
    pub input: Span,
    /// The smallest norm that a part is divided by.
    pub epsilon: f32,
    pub output: Span,
}

impl Normalize {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        for (rows, part) in Part::calls(context.rows, self.groups) {
            let (input, output) = (part.split(self.input), part.split(self.output));
            context.kernels.normalize(context.memory, rows, input, self.epsilon, output);
        }
    }
}
