//! `out = act(addend + (start + x W))`, k ascending by FMA: a dense layer, or the share of one whose inputs change at one
//! rate; with a stored matrix, or with one that was computed.

use super::parts::Part;
use super::{Activation, Context, Panels, Reach, Span, Start};
use crate::kernels;

/// A packed product with its epilogue.
#[derive(Debug)]
pub struct Dense {
    /// Equal parts of a row that are multiplied by the same weights.
    pub groups: usize,
    pub input: Span,
    pub weights: Box<Panels>,
    /// The name of the tensor that holds them in a file of packed layers.
    pub packed_name: String,
    /// As wide as the output, or as one part of it, and so is the addend.
    pub start: Start,
    pub addend: Option<Span>,
    pub activation: Activation,
    pub output: Span,
    /// Room for the quantised rows of a call, or for widened weights.
    pub scratch: Span,
    /// How far their words may reach.
    pub reach: Reach,
    /// Whether a step before, which runs whenever this one does, has quantised them.
    pub is_quantized: bool,
}

impl Dense {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        // Parts are narrow: what fills no vector of one fills those of the whole row.
        let [during, after] = match self.groups {
            1 => [self.activation, Activation::Identity],
            _ => self.activation.split(),
        };
        for (rows, part) in Part::calls(context.rows, self.groups) {
            let side = |span: Span| if span.width == self.output.width { part.split(span) } else { part.repeat(span) };
            let call = kernels::Dense {
                input: part.split(self.input),
                weights: &self.weights,
                start: match self.start {
                    Start::Span(span) => Start::Span(side(span)),
                    start => start,
                },
                addend: self.addend.map(side),
                output: part.split(self.output),
                activation: during,
                scratch: self.scratch,
                reach: self.reach,
                is_quantized: self.is_quantized,
            };
            context.kernels.dense(context.memory, rows, &call);
        }
        if after != Activation::Identity {
            context.kernels.unary(context.memory, context.rows, after, self.output, self.output);
        }
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
