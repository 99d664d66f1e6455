//! Self-attention with its rows pooled: several rows at a time, so that their sums and largest elements do not wait for each
//! other.

use super::functions::share;
use super::lanes::{Lanes, chunks, read, write};
use super::panels::PANEL;
use super::tile::each_row;
use super::{Attend, Rows};

/// Rows at a time.
pub(super) const TOGETHER: usize = 4;

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn attend<L: Lanes>(memory: &mut [f32], positions: usize, call: &Attend) {
    let Attend { keys, rows, scratch, output, .. } = *call;
    let memory = memory.as_mut_ptr();
    let length = positions.next_multiple_of(PANEL);
    // SAFETY: all rows lie in checked spans, and the scratch holds the transposed keys, the rows and their sum.
    unsafe {
        let turned = memory.add(scratch.offset);
        let logits = turned.add(keys.width * length);
        let pooled = logits.add(TOGETHER * length);
        for t in 0..keys.width {
            for j in 0..length {
                let key = if j < positions { *memory.add(keys.offset + j * keys.stride + t) } else { 0.0 };
                *turned.add(t * length + j) = key;
            }
        }
        for (j, _) in chunks(positions) {
            L::splat(0.0).store(pooled.add(j));
            for r in 0..TOGETHER {
                L::splat(f32::NEG_INFINITY).store(logits.add(r * length + j));
            }
        }
        let mut i = if rows == Rows::Last { positions.saturating_sub(1) } else { 0 };
        while i + TOGETHER <= positions {
            add_rows::<L, TOGETHER>(memory, i, positions, call);
            i += TOGETHER;
        }
        while i < positions {
            add_rows::<L, 1>(memory, i, positions, call);
            i += 1;
        }
        for j in 0..positions {
            let sum = *pooled.add(j);
            let mean = if rows == Rows::Mean { sum / positions as f32 } else { sum };
            *memory.add(output.offset + j * output.stride) = mean;
        }
    }
}

/// Adds the softmax of `R` rows from `i` to the pooled row. What is behind the last position of a row in the scratch is minus
/// infinity.
///
/// # Safety
/// As [`attend`].
#[inline(always)]
unsafe fn add_rows<L: Lanes, const R: usize>(memory: *mut f32, i: usize, positions: usize, call: &Attend) {
    let Attend { queries, keys, base, scratch, .. } = *call;
    let length = positions.next_multiple_of(PANEL);
    // SAFETY: the caller's promise.
    unsafe {
        let turned = memory.add(scratch.offset).cast_const();
        let logits = memory.add(scratch.offset + keys.width * length);
        let pooled = logits.add(TOGETHER * length);
        let mut largest = [L::splat(f32::NEG_INFINITY); R];
        for (j, count) in chunks(positions) {
            each_row!(r of R: {
                let mut logit = match base {
                    Some(base) => read::<L>(memory.add(base.offset + (i + r) * base.stride + j), count),
                    None => L::splat(0.0),
                };
                for t in 0..keys.width {
                    let query = L::splat(*memory.add(queries.offset + (i + r) * queries.stride + t));
                    logit = query.fma(L::load(turned.add(t * length + j)), logit);
                }
                let to = logits.add(r * length + j);
                write(logit, to, count);
                largest[r] = if count == PANEL { logit } else { L::load(to) }.max(largest[r]);
            });
        }
        each_row!(r of R: largest[r] = L::splat(largest[r].largest()));
        let mut sums = [L::splat(0.0); R];
        for (j, count) in chunks(positions) {
            each_row!(r of R: {
                let to = logits.add(r * length + j);
                let e = share(L::load(to).sub(largest[r]));
                write(e, to, count);
                sums[r] = sums[r].add(e);
            });
        }
        let mut shares = [L::splat(0.0); R];
        each_row!(r of R: shares[r] = L::splat(1.0 / sums[r].tree()));
        for (j, _) in chunks(positions) {
            let mut sum = L::load(pooled.add(j));
            each_row!(r of R: sum = L::load(logits.add(r * length + j)).fma(shares[r], sum));
            sum.store(pooled.add(j));
        }
    }
}
