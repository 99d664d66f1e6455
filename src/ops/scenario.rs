//! `out = table[scenario]`, one row for the whole request.

use super::{Context, Element, Span};
use crate::kernels::Table;

/// The scenario's row of a tensor that has one row per scenario.
#[derive(Debug)]
pub struct ScenarioRow {
    /// The number of the tensor in the file.
    pub table: usize,
    pub element: Element,
    pub scenarios: usize,
    pub output: Span,
}

impl ScenarioRow {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let bytes = (context.tables)(self.table);
        let table = Table { bytes, element: self.element, rows: self.scenarios, width: self.output.width };
        context.kernels.gather(context.memory, table, &[context.scenario as u32], self.output);
    }
}
