//! `out = act(addend + (start + x W))`, k ascending by FMA: a dense layer, or the share of one whose inputs change at one
//! rate; with a stored matrix, or with one that was computed.

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

/// Where a matrix is kept that is not in the memory of the scorer, and at which offset there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// With the values of the model.
    Model(usize),
    /// With the values of the scenario.
    Scenario(usize),
}

/// `out = act(addend + (start + x W))` with a matrix `[inputs, outputs]` that was itself computed.
#[derive(Debug)]
pub struct Generated {
    pub input: Span,
    pub weight: Span,
    /// `None`: in the memory.
    pub kept: Option<Kept>,
    pub start: Start,
    pub addend: Option<Span>,
    pub activation: Activation,
    pub output: Span,
    /// Rows where they are not those of the call: for matrices.
    pub rows: Option<usize>,
}

impl Generated {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let kept = match self.kept {
            None => None,
            Some(Kept::Model(offset)) => context.model_values.get(offset..offset + self.weight.width),
            Some(Kept::Scenario(offset)) => context.scenario_values.get(offset..offset + self.weight.width),
        };
        let call = kernels::Generated {
            input: self.input,
            weight: self.weight,
            outside: kept,
            start: self.start,
            addend: self.addend,
            output: self.output,
            activation: self.activation,
        };
        context.kernels.generated(context.memory, self.rows.unwrap_or(context.rows), &call);
    }
}
