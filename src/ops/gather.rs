//! `out[r] = table[row(value[r])]`, or for a bag `out[r] = pool_i table[row(value[r, i])]`; an empty bag gives zeros.
//!
//! Rows are found first, for the whole tile, so that the kernel can prefetch table rows ahead; they are widened to f32 and
//! written at their final offset. A bag that is absent altogether is a bag of one missing value.

use super::{Context, Element, Lookup, Pooling, Span};
use crate::kernels::Table;
use crate::request::Column;

/// The embedding of one feature.
#[derive(Debug)]
pub struct Gather {
    pub feature: usize,
    /// The number of the table's tensor in the file.
    pub table: usize,
    pub element: Element,
    pub lookup: Lookup,
    /// How the bag is pooled; `None` for a feature of one value per row.
    pub pooling: Option<Pooling>,
    pub output: Span,
}

impl Gather {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let columns = context.columns;
        match (self.pooling, context.bound.column(columns, self.feature)) {
            (Some(pooling), Some(column)) => self.bags(context, column, pooling),
            (None, Some(column)) => {
                let ids = &mut context.ids[..context.rows];
                self.lookup.rows(&column.values, context.first, ids, &mut context.counters[self.feature]);
                self.singles(context);
            }
            (_, None) => {
                self.lookup.absent(&mut context.ids[..context.rows], &mut context.counters[self.feature]);
                self.singles(context);
            }
        }
    }

    fn table<'a>(&self, tables: &dyn Fn(usize) -> &'a [u8]) -> Table<'a> {
        Table { bytes: tables(self.table), element: self.element, rows: self.lookup.rows, width: self.output.width }
    }

    fn singles(&self, context: &mut Context<'_>) {
        let table = self.table(context.tables);
        context.kernels.gather(context.memory, table, &context.ids[..context.rows], self.output);
    }

    /// Takes as many rows at a time as their ids fit into the scratch: at least one, by the limit on bags.
    fn bags(&self, context: &mut Context<'_>, column: &Column<'_>, pooling: Pooling) {
        let boundaries = column.row_offsets.unwrap_or_default();
        let boundary = |row: usize| boundaries[context.first + row] as usize;
        let mut row = 0;
        while row < context.rows {
            let start = boundary(row);
            let mut end = row + 1;
            while end < context.rows && boundary(end + 1) - start <= context.ids.len() {
                end += 1;
            }
            let ids = &mut context.ids[..boundary(end) - start];
            self.lookup.rows(&column.values, start, ids, &mut context.counters[self.feature]);
            let offsets = &mut context.offsets[..=end - row];
            for (i, offset) in offsets.iter_mut().enumerate() {
                *offset = (boundary(row + i) - start) as u32;
            }
            let output = Span { offset: self.output.offset + row * self.output.stride, ..self.output };
            context.kernels.gather_pooled(context.memory, self.table(context.tables), ids, offsets, pooling, output);
            row = end;
        }
    }
}
