//! `out[t] = table[index[t]]` with computed indices.

use super::parts::Part;
use super::{Context, Element, Span};
use crate::kernels::Table;

/// Rows of a table by computed numbers: whole ones; below 0 they count from the end; what lies outside, or is NaN, finds
/// row 0.
#[derive(Debug)]
pub struct Find {
    /// The number of the table's tensor in the file.
    pub table: usize,
    /// That of the scales of its rows, if it has integers.
    pub scales: Option<usize>,
    pub element: Element,
    /// Of the table.
    pub rows: usize,
    pub index: Span,
    /// As many rows of the table as the index is wide.
    pub output: Span,
}

impl Find {
    pub(super) fn run(&self, context: &mut Context<'_>) {
        let count = self.index.width;
        let width = self.output.width / count;
        let scales = self.scales.map_or(&[][..], context.tables);
        let bytes = (context.tables)(self.table);
        let table = Table { bytes, scales, element: self.element, rows: self.rows, width };
        for (rows, part) in Part::calls(context.rows, count) {
            let (index, output) = (part.split(self.index), part.split(self.output));
            for first in (0..rows).step_by(context.ids.len()) {
                let length = (rows - first).min(context.ids.len());
                let ids = &mut context.ids[..length];
                for (row, id) in ids.iter_mut().enumerate() {
                    *id = self.row(context.memory[index.offset + (first + row) * index.stride]);
                }
                let output = Span { offset: output.offset + first * output.stride, ..output };
                context.kernels.gather(context.memory, table, ids, output);
            }
        }
    }

    fn row(&self, index: f32) -> u32 {
        let index = index as i64;
        let row = if index < 0 { index + self.rows as i64 } else { index };
        if (0..self.rows as i64).contains(&row) { row as u32 } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testkit::{memory, run};
    use super::super::{Element, Find, Operation, Span};

    #[test]
    fn rows_are_found_from_both_ends_and_what_lies_outside_is_row_0() {
        let (table_rows, width) = (5, 3);
        let table: Vec<u8> = (0..table_rows * width).flat_map(|place| (place as f32).to_le_bytes()).collect();
        let known = [
            (0.0, 0),
            (4.0, 4),
            (-1.0, 4),
            (-5.0, 0),
            (5.0, 0),
            (-6.0, 0),
            (f32::NAN, 0),
            (3.0, 3),
            (1e30, 0),
            (f32::NEG_INFINITY, 0),
            (2.0, 2),
        ];
        for (rows, count) in [(1, 1), (1, 11), (2, 5), (11, 1), (8, 3)] {
            let case = |row: usize, t: usize| known[(row * 3 + t) % known.len()];
            let index = Span { offset: 2, stride: count + 1, width: count };
            let output = Span { offset: 1000, stride: count * width + 1, width: count * width };
            let mut memory = memory();
            for (row, t) in (0..rows).flat_map(|row| (0..count).map(move |t| (row, t))) {
                memory[index.offset + row * index.stride + t] = case(row, t).0;
            }
            let find = Find { table: 0, scales: None, element: Element::F32, rows: table_rows, index, output };
            run(&Operation::Find(find), rows, &mut memory, &table);
            for (row, t) in (0..rows).flat_map(|row| (0..count).map(move |t| (row, t))) {
                let first = (case(row, t).1 * width) as f32;
                let actual = &memory[output.offset + row * output.stride + t * width..][..width];
                assert_eq!(actual, [first, first + 1.0, first + 2.0], "{rows} {count} {row} {t}");
            }
        }
    }
}
