//! `out[r] = table[row(value[r])]`, several side by side if a row has several ids, or for a bag `out[r] = pool_i table[row(value[r, i])]`; an empty bag gives zeros. A
//! sequence is the bag of a request, unpooled: `out[i] = table[row(value[i])]`.
//!
//! Rows are found first, for the whole tile, so that the kernel can prefetch table rows ahead; they are widened to f32 and
//! written at their final offset. A bag that is absent altogether is a bag of one missing value.

use super::{Context, Element, FeatureCounters, Lookup, Picked, Pooling, Span};
use crate::kernels::Table;
use crate::request::Column;

/// The most rows of a call that asks for all its table rows before the first step: with more, a step hides what it waits for by
/// itself.
pub const FEW: usize = 4;

/// The values of a row of a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PerRow {
    /// So many, side by side.
    Fixed(usize),
    /// Any number, pooled to one vector.
    Bag(Pooling),
    /// The rows of the call are the positions.
    Sequence,
}

/// The embedding of one feature.
#[derive(Debug)]
pub struct Gather {
    pub feature: usize,
    /// The number of the table's tensor in the file.
    pub table: usize,
    /// That of the scales of its rows, if it has integers.
    pub scales: Option<usize>,
    pub element: Element,
    pub lookup: Lookup,
    /// How many values a row has.
    pub values: PerRow,
    /// Whether unusual values are counted: by one of the steps that look the feature up.
    pub is_counted: bool,
    pub output: Span,
}

impl Gather {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let columns = context.columns;
        match (self.values, context.bound.column(columns, self.feature)) {
            (PerRow::Bag(pooling), Some(column)) => self.bags(context, column, pooling),
            (PerRow::Sequence, Some(column)) => self.consecutive(context, column, 0),
            (PerRow::Fixed(count), column) if count > 1 => self.several(context, column, count),
            (PerRow::Fixed(_), Some(column)) => match context.picked {
                Picked::From(first) => self.consecutive(context, column, first),
                Picked::These(picked) => {
                    let ids = context.ids.iter_mut().zip(picked);
                    self.count(context.counters, |counters| {
                        for (id, place) in ids {
                            self.lookup.rows(&column.values, *place as usize, std::slice::from_mut(id), counters);
                        }
                    });
                    self.singles(context);
                }
            },
            (_, None) => {
                let ids = &mut context.ids[..context.rows];
                self.count(context.counters, |counters| self.lookup.absent(ids, counters));
                self.singles(context);
            }
        }
    }

    /// Asks for the table rows of a call of at most [`FEW`] consecutive rows with an id each, without waiting for them.
    pub fn ask(&self, context: &Context<'_>) {
        let column = context.bound.column(context.columns, self.feature);
        let (PerRow::Fixed(1), Picked::From(first), Some(column)) = (self.values, context.picked, column) else {
            return;
        };
        let mut ids = [0; FEW];
        let ids = &mut ids[..context.rows.min(FEW)];
        self.lookup.rows(&column.values, first, ids, &mut FeatureCounters::default());
        context.kernels.ask(self.table(context.tables), ids);
    }

    fn consecutive(&self, context: &mut Context<'_>, column: &Column<'_>, first: usize) {
        let ids = &mut context.ids[..context.rows];
        self.count(context.counters, |counters| self.lookup.rows(&column.values, first, ids, counters));
        self.singles(context);
    }

    /// `count` ids a row.
    fn several(&self, context: &mut Context<'_>, column: Option<&Column<'_>>, count: usize) {
        let width = self.output.width / count;
        let table = Table { width, ..self.table(context.tables) };
        for row in 0..context.rows {
            let ids = &mut context.ids[..count];
            let start = context.picked.place(row) * count;
            self.count(context.counters, |counters| match column {
                Some(column) => self.lookup.rows(&column.values, start, ids, counters),
                None => self.lookup.absent(ids, counters),
            });
            let output = Span { offset: self.output.offset + row * self.output.stride, stride: width, width };
            context.kernels.gather(context.memory, table, ids, output);
        }
    }

    fn count(&self, all: &mut [FeatureCounters], find: impl FnOnce(&mut FeatureCounters)) {
        count(all, self.feature, self.is_counted, find);
    }

    fn table<'a>(&self, tables: &dyn Fn(usize) -> &'a [u8]) -> Table<'a> {
        let scales = self.scales.map_or(&[][..], tables);
        let (rows, width) = (self.lookup.rows, self.output.width);
        Table { bytes: tables(self.table), scales, element: self.element, rows, width }
    }

    fn singles(&self, context: &mut Context<'_>) {
        let table = self.table(context.tables);
        context.kernels.gather(context.memory, table, &context.ids[..context.rows], self.output);
    }

    /// Takes as many rows at a time as their ids fit into the scratch: at least one, by the limit on bags.
    fn bags(&self, context: &mut Context<'_>, column: &Column<'_>, pooling: Pooling) {
        let boundaries = column.row_offsets.unwrap_or_default();
        let bag = |row: usize| {
            let place = context.picked.place(row);
            boundaries[place] as usize..boundaries[place + 1] as usize
        };
        let mut row = 0;
        while row < context.rows {
            let (first, mut filled) = (row, 0);
            context.offsets[0] = 0;
            while row < context.rows && filled + bag(row).len() <= context.ids.len() {
                let values = bag(row);
                let ids = &mut context.ids[filled..filled + values.len()];
                self.count(context.counters, |counters| self.lookup.rows(&column.values, values.start, ids, counters));
                filled += values.len();
                row += 1;
                context.offsets[row - first] = filled as u32;
            }
            let (ids, offsets) = (&context.ids[..filled], &context.offsets[..=row - first]);
            let output = Span { offset: self.output.offset + first * self.output.stride, ..self.output };
            context.kernels.gather_pooled(context.memory, self.table(context.tables), ids, offsets, pooling, output);
        }
    }
}

/// The rows of the ids of a feature as numbers; what is unusual is counted where the feature is looked up.
#[derive(Debug)]
pub struct RowNumbers {
    pub feature: usize,
    pub lookup: Lookup,
    /// How many values a row has.
    pub count: usize,
    pub is_counted: bool,
    pub output: Span,
}

impl RowNumbers {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let column = context.bound.column(context.columns, self.feature);
        for row in 0..context.rows {
            let ids = &mut context.ids[..self.count];
            let start = context.picked.place(row) * self.count;
            self.count(context.counters, |counters| match column {
                Some(column) => self.lookup.rows(&column.values, start, ids, counters),
                None => self.lookup.absent(ids, counters),
            });
            let start = self.output.offset + row * self.output.stride;
            let out = &mut context.memory[start..start + self.count];
            out.iter_mut().zip(ids).for_each(|(out, id)| *out = *id as f32);
        }
    }

    fn count(&self, all: &mut [FeatureCounters], find: impl FnOnce(&mut FeatureCounters)) {
        count(all, self.feature, self.is_counted, find);
    }
}

/// Gives `find` the counters of a feature, or some that nobody reads.
pub(super) fn count(
    all: &mut [FeatureCounters],
    feature: usize,
    is_counted: bool,
    find: impl FnOnce(&mut FeatureCounters),
) {
    match is_counted {
        true => find(&mut all[feature]),
        false => find(&mut FeatureCounters::default()),
    }
}
