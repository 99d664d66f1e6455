//! `out = (x - mean) / sqrt(variance + epsilon) * gamma + beta` with the moments of the row (Ba et al., Layer Normalization,
//! 2016), and `out = x / max(|x|_2, epsilon)`.

use super::{Context, Span};

/// A layer norm per row.
#[derive(Debug)]
pub struct LayerNorm {
    pub input: Span,
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
    pub epsilon: f32,
    pub output: Span,
}

impl LayerNorm {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let Self { input, gamma, beta, epsilon, output } = self;
        context.kernels.layer_norm(context.memory, context.rows, *input, gamma, beta, *epsilon, *output);
    }
}

/// The smallest norm that [`Normalize`] divides by: that of PyTorch.
const SMALLEST: f32 = 1e-12;

/// Rows of length 1.
#[derive(Debug)]
pub struct Normalize {
    pub input: Span,
    pub output: Span,
}

impl Normalize {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        context.kernels.normalize(context.memory, context.rows, self.input, SMALLEST, self.output);
    }
}
