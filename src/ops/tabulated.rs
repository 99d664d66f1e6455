//! `out = c + sum_f T_f[row_f]`: the shares of dense layers that the single ids of a request have, from tables of products.

use super::gather::count;
use super::{Activation, Context, Kernels, Lookup, NOWHERE, Panels, Span, Start, Table};
use crate::kernels::{Dense, Element};

/// Rows of a table that are multiplied together.
const BLOCK: usize = 64;

/// The product tables of a group of layers.
#[derive(Debug)]
pub struct Tabulated {
    pub fields: Vec<TabulatedField>,
    /// f32 in rows as wide as the output: those of each field, one field after the other, and a last one that is always added.
    pub table: Vec<u8>,
    /// One row: that of the request.
    pub output: Span,
}

/// One field of product tables.
#[derive(Debug)]
pub struct TabulatedField {
    pub feature: usize,
    pub lookup: Lookup,
    /// Where its rows begin.
    pub first: u32,
    /// Whether unusual values are counted: by one of the steps that look the feature up.
    pub is_counted: bool,
}

impl Tabulated {
    /// The table for `factors`: for each field its rows, and the f32 weights of its columns in each layer, which say how wide a
    /// product is. `constant` is the last row. `None` if there is no memory for it.
    pub fn table<'a>(
        kernels: &Kernels,
        factors: impl Iterator<Item = (Table<'a>, Vec<Panels>)>,
        rows: usize,
        constant: &[f32],
    ) -> Option<Vec<u8>> {
        let width = constant.len();
        let mut table = Vec::new();
        table.try_reserve_exact(rows.checked_add(1)?.checked_mul(size_of_val(constant))?).ok()?;
        for (field, layers) in factors {
            let input = Span { offset: BLOCK * width, stride: field.width, width: field.width };
            let mut memory = vec![0.0; BLOCK * (width + field.width)];
            for first in (0..field.rows).step_by(BLOCK) {
                let ids: Vec<u32> = (first..field.rows).take(BLOCK).map(|row| row as u32).collect();
                kernels.gather(&mut memory, field, &ids, input);
                let mut offset = 0;
                for weights in &layers {
                    let call = Dense {
                        input,
                        weights,
                        start: Start::Zero,
                        addend: None,
                        output: Span { offset, stride: width, width: weights.columns() },
                        activation: Activation::Identity,
                        scratch: NOWHERE,
                        reach: weights.reach(),
                        is_quantized: false,
                    };
                    kernels.dense(&mut memory, ids.len(), &call);
                    offset += weights.columns();
                }
                append(&mut table, &memory[..ids.len() * width]);
            }
        }
        append(&mut table, constant);
        Some(table)
    }

    /// Rows of the table.
    fn rows(&self) -> usize {
        self.table.len() / Element::F32.row_bytes(self.output.width)
    }

    pub(super) fn run(&self, context: &mut Context<'_>) {
        let fields = self.fields.len();
        for (place, field) in self.fields.iter().enumerate() {
            let id = &mut context.ids[place..=place];
            let column = context.bound.column(context.columns, field.feature);
            count(context.counters, field.feature, field.is_counted, |counters| match column {
                Some(column) => field.lookup.rows(&column.values, context.picked.place(0), id, counters),
                None => field.lookup.absent(id, counters),
            });
            id[0] += field.first;
        }
        let rows = self.rows();
        context.ids[fields] = rows as u32 - 1;
        let table = Table { bytes: &self.table, scales: &[], element: Element::F32, rows, width: self.output.width };
        context.kernels.sum_rows(context.memory, table, &context.ids[..=fields], self.output);
    }
}

fn append(table: &mut Vec<u8>, values: &[f32]) {
    values.iter().for_each(|value| table.extend_from_slice(&value.to_le_bytes()));
}
