//! `out = table[scenario]`, one row for the whole request; `out = table[0]` for a weight; `out[scenario] = 1`.

use super::{Context, Element, Span};
use crate::kernels::Table;

/// The scenario's row of a tensor that has one row per scenario, or the one row of a weight.
#[derive(Debug)]
pub struct Stored {
    /// The number of the tensor in the file.
    pub table: usize,
    pub element: Element,
    /// `None` for a weight.
    pub scenarios: Option<usize>,
    pub output: Span,
}

impl Stored {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let bytes = (context.tables)(self.table);
        let (rows, row) = self.scenarios.map_or((1, 0), |scenarios| (scenarios, context.scenario as u32));
        let table = Table { bytes, scales: &[], element: self.element, rows, width: self.output.width };
        context.kernels.gather(context.memory, table, &[row], self.output);
    }
}

/// 1 at the row of the scenario, 0 elsewhere.
#[derive(Debug)]
pub struct OneHot {
    pub output: Span,
}

impl OneHot {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let Span { offset, width, .. } = self.output;
        for (row, out) in context.memory[offset..offset + width].iter_mut().enumerate() {
            *out = f32::from(u8::from(row == context.scenario));
        }
    }
}
