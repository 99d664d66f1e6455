//! `out[r, c] = scale(value[r, c])` for a dense feature; missing values give the declared input, and are counted.

use super::{Context, Scaling, Span};
use crate::request::Values;

/// The inputs of one dense feature.
#[derive(Debug)]
pub struct Load {
    pub feature: usize,
    pub scaling: Scaling,
    /// The input for a missing value: scaled already.
    pub missing: f32,
    pub output: Span,
}

impl Load {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let width = self.output.width;
        let counters = &mut context.counters[self.feature];
        counters.values += (context.rows * width) as u64;
        let values = match context.bound.column(context.columns, self.feature).map(|column| column.values) {
            Some(Values::F32(values)) => Some(values),
            _ => None,
        };
        for row in 0..context.rows {
            let start = self.output.offset + row * self.output.stride;
            let out = &mut context.memory[start..start + width];
            let Some(values) = values else {
                counters.missing += width as u64;
                out.fill(self.missing);
                continue;
            };
            let from = context.picked.place(row) * width;
            for (column, (out, value)) in out.iter_mut().zip(&values[from..from + width]).enumerate() {
                *out = if value.is_finite() {
                    self.scaling.apply(column, *value)
                } else {
                    counters.missing += 1;
                    self.missing
                };
            }
        }
    }
}
