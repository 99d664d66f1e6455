//! Products of the matrices of a row with transposed ones: a column of the product reads a row of each.
//!
//! Small ones are multiplied as they lie, each element an inner product, four side by side. Others pay for turning the
//! matrix: 16 of its rows at a time become the panel of a tile, 256 columns after the other, as for a computed matrix
//! that is copied together.

use super::lanes::{Lanes, chunks, read, sum_of_products};
use super::panels::PANEL;
use super::tile::{BLOCK, Copied, Layer, Matrix, Product, strips};
use super::{Activation, MatMul, Span, Start};
use std::mem::MaybeUninit;

/// From as many rows and columns on the matrix is turned.
const TURNED: usize = 12;

/// Whether `k` ascends by FMA; if not, it runs across 16 lanes.
pub fn is_turned(height: usize, columns: usize) -> bool {
    height.min(columns) >= TURNED
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn matmul_transposed<L: Lanes>(memory: &mut [f32], rows: usize, call: &MatMul, steps: [usize; 2]) {
    let MatMul { left, right, output, batch, height, inner, columns, .. } = *call;
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        for place in 0..batch {
            let left = left.offset + row * left.stride + place * steps[0];
            let output = output.offset + row * output.stride + place * height * columns;
            // SAFETY: all matrices lie in checked spans.
            unsafe {
                let right = memory.add(right.offset + row * right.stride + place * steps[1]).cast_const();
                if is_turned(height, columns) {
                    let input = Span { offset: left, stride: inner, width: inner };
                    let output = Span { offset: output, stride: columns, width: columns };
                    for panel in 0..columns.div_ceil(PANEL) {
                        turned_panel::<L>(memory, height, panel, right, input, output);
                    }
                } else {
                    for i in 0..height {
                        let (left, output) = (memory.add(left + i * inner), memory.add(output + i * columns));
                        row_of_products::<L>(left, right, inner, columns, output);
                    }
                }
            }
        }
    }
}

/// The inner products of one row with `columns` rows.
///
/// # Safety
/// As [`Lanes`]; the rows have `inner` elements, the output one for each.
#[inline(always)]
unsafe fn row_of_products<L: Lanes>(
    left: *const f32,
    right: *const f32,
    inner: usize,
    columns: usize,
    output: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for j in (0..columns / 4 * 4).step_by(4) {
            let mut sums = [L::splat(0.0); 4];
            for (k, count) in chunks(inner) {
                let x = read::<L>(left.add(k), count);
                for (t, sum) in sums.iter_mut().enumerate() {
                    *sum = x.fma(read::<L>(right.add((j + t) * inner + k), count), *sum);
                }
            }
            L::store_trees(sums, output.add(j));
        }
        for j in columns / 4 * 4..columns {
            *output.add(j) = sum_of_products::<L>(left, right.add(j * inner), inner);
        }
    }
}

/// All rows of `input` by 16 rows of the matrix `right`, a block of its columns after the other.
///
/// # Safety
/// As [`Lanes`]; the rows lie in memory, and the panel has a row of `right` for each of its columns of the output.
#[inline(always)]
unsafe fn turned_panel<L: Lanes>(
    memory: *mut f32,
    rows: usize,
    panel: usize,
    right: *const f32,
    input: Span,
    output: Span,
) {
    let (inner, first) = (input.width, panel * PANEL);
    let count = (output.width - first).min(PANEL);
    let mut block = MaybeUninit::<[[f32; PANEL]; BLOCK]>::uninit();
    let lines: *mut f32 = block.as_mut_ptr().cast();
    for start in (0..inner).step_by(BLOCK) {
        let length = (inner - start).min(BLOCK);
        // SAFETY: the caller's promise; at most `BLOCK` lines are written, and as many are read.
        unsafe {
            for k in 0..length {
                for column in 0..PANEL {
                    let value = if column < count { *right.add((first + column) * inner + start + k) } else { 0.0 };
                    *lines.add(k * PANEL + column) = value;
                }
            }
            let matrix = Matrix::copied(lines, panel);
            let layer = Layer {
                input: Span { offset: input.offset + start, width: length, ..input },
                start: if start == 0 { Start::Zero } else { Start::Span(output) },
                bias: &[],
                addend: None,
                output,
                activation: Activation::Identity,
            };
            strips::<Product<'_, L, Copied>, 1>(&Product::new(memory, matrix, &layer), rows, panel, panel + 1);
        }
    }
}
