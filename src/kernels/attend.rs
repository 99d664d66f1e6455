//! Self-attention with its rows pooled, for many candidates that attend to the same positions.
//!
//! Sixteen candidates at a time lie in the lanes: then nothing is summed across lanes, and no lane is left over. What remains is
//! computed with sixteen positions in the lanes, several rows at a time, so that their sums and largest elements do not wait for
//! each other. Both sum in the same order.

use super::functions::share;
use super::lanes::{Lanes, chunks, read, write};
use super::panels::PANEL;
use super::tile::each_row;
use super::{Attend, Rows};

/// Rows at a time.
const TOGETHER: usize = 4;

/// Rows of candidates at a time, and elements of each, so that no largest element waits for the one before.
const ABREAST: usize = 2;

/// The fewest candidates for whom lanes of candidates are faster than lanes of positions.
const WORTH: usize = 12;

/// The f32 of scratch.
pub(super) fn scratch(terms: usize, length: usize) -> usize {
    let of_positions = (TOGETHER + 1).saturating_mul(length.next_multiple_of(PANEL));
    let of_candidates = (2 * terms + 1 + ABREAST).saturating_mul(length).saturating_mul(PANEL);
    of_positions.max(of_candidates)
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn attend<L: Lanes>(memory: &mut [f32], rows: usize, positions: usize, call: &Attend) {
    let memory = memory.as_mut_ptr();
    let is_shared = call.base.is_none_or(|base| base.stride == 0);
    let mut row = 0;
    // SAFETY: all rows lie in checked spans, and the scratch is as large as `scratch` says.
    unsafe {
        while is_shared && row + WORTH <= rows {
            candidates::<L>(memory, row, PANEL.min(rows - row), positions, call);
            row += PANEL.min(rows - row);
        }
        while row < rows {
            candidate::<L>(memory, row, positions, call);
            row += 1;
        }
    }
}

/// The first position that is pooled.
fn first(rows: Rows, positions: usize) -> usize {
    if rows == Rows::Last { positions.saturating_sub(1) } else { 0 }
}

/// Up to sixteen candidates from `row`, in the lanes.
///
/// # Safety
/// As [`attend`].
#[inline(always)]
unsafe fn candidates<L: Lanes>(memory: *mut f32, row: usize, count: usize, positions: usize, call: &Attend) {
    let Attend { terms, length, queries, keys, rows, output, .. } = *call;
    // SAFETY: the caller's promise.
    unsafe {
        let [turned_queries, turned_keys, pooled, _] = lanes(memory, call);
        for (side, to) in [(queries, turned_queries), (keys, turned_keys)] {
            for t in 0..terms {
                for i in 0..positions {
                    let place = t * length + i;
                    for lane in 0..PANEL {
                        let from = side.offset + (row + lane.min(count - 1)) * side.stride + place;
                        *to.add(place * PANEL + lane) = *memory.add(from);
                    }
                }
            }
        }
        for j in 0..positions {
            L::splat(0.0).store(pooled.add(j * PANEL));
        }
        let mut i = first(rows, positions);
        while i + ABREAST <= positions {
            add_rows_of_candidates::<L, ABREAST>(memory, i, positions, call);
            i += ABREAST;
        }
        while i < positions {
            add_rows_of_candidates::<L, 1>(memory, i, positions, call);
            i += 1;
        }
        for j in positions..length {
            L::splat(0.0).store(pooled.add(j * PANEL));
        }
        if rows == Rows::Mean {
            for j in 0..positions {
                let at = pooled.add(j * PANEL);
                L::load(at).div(L::splat(positions as f32)).store(at);
            }
        }
        for lane in 0..count {
            let to = memory.add(output.offset + (row + lane) * output.stride);
            for j in 0..length {
                *to.add(j) = *pooled.add(j * PANEL + lane);
            }
        }
    }
}

/// Where the scratch holds queries, keys and the pooled row of sixteen candidates, and logits of [`ABREAST`] rows.
///
/// # Safety
/// The scratch is in memory.
#[inline(always)]
unsafe fn lanes(memory: *mut f32, call: &Attend) -> [*mut f32; 4] {
    let side = call.terms * call.length * PANEL;
    // SAFETY: the caller's promise.
    unsafe {
        let queries = memory.add(call.scratch.offset);
        let pooled = queries.add(2 * side);
        [queries, queries.add(side), pooled, pooled.add(call.length * PANEL)]
    }
}

/// Adds the softmax of `R` rows from `i` to the pooled row of sixteen candidates.
///
/// # Safety
/// As [`attend`]; their queries and keys are in the scratch.
#[inline(always)]
unsafe fn add_rows_of_candidates<L: Lanes, const R: usize>(
    memory: *mut f32,
    i: usize,
    positions: usize,
    call: &Attend,
) {
    let Attend { terms, length, base, .. } = *call;
    // SAFETY: the caller's promise.
    unsafe {
        let [queries, keys, pooled, logits] = lanes(memory, call);
        let logits = |r: usize, j: usize| logits.add((r * length + j) * PANEL);
        let mut largest = [[L::splat(f32::NEG_INFINITY); ABREAST]; R];
        for t in 0..terms {
            let mut query = [L::splat(0.0); R];
            each_row!(r of R: query[r] = L::load(queries.add((t * length + i + r) * PANEL)));
            let keys = keys.add(t * length * PANEL);
            largest = [[L::splat(f32::NEG_INFINITY); ABREAST]; R];
            let mut start = 0;
            while start < positions {
                each_row!(step of ABREAST: if start + step < positions {
                    let j = start + step;
                    let key = L::load(keys.add(j * PANEL));
                    each_row!(r of R: {
                        let addend = match base {
                            _ if t > 0 => L::load(logits(r, j)),
                            Some(base) => L::splat(*memory.add(base.offset + (i + r) * length + j)),
                            None => L::splat(0.0),
                        };
                        let logit = query[r].fma(key, addend);
                        logit.store(logits(r, j));
                        largest[r][step] = logit.max(largest[r][step]);
                    });
                });
                start += ABREAST;
            }
        }
        let mut shares = [L::splat(0.0); R];
        each_row!(r of R: {
            let largest = largest[r][0].max(largest[r][1]);
            let mut sums = [L::splat(0.0); PANEL];
            for start in (0..positions).step_by(PANEL) {
                each_row!(lane of PANEL: if start + lane < positions {
                    let at = logits(r, start + lane);
                    let e = share(L::load(at).sub(largest));
                    e.store(at);
                    sums[lane] = sums[lane].add(e);
                });
            }
            for half in [8, 4, 2, 1] {
                each_row!(lane of PANEL: if lane < half {
                    sums[lane] = sums[lane].add(sums[lane + half]);
                });
            }
            shares[r] = L::splat(1.0).div(sums[0]);
        });
        for j in 0..positions {
            let at = pooled.add(j * PANEL);
            let mut sum = L::load(at);
            each_row!(r of R: sum = L::load(logits(r, j)).fma(shares[r], sum));
            sum.store(at);
        }
    }
}

/// One candidate, with positions in the lanes.
///
/// # Safety
/// As [`attend`].
#[inline(always)]
unsafe fn candidate<L: Lanes>(memory: *mut f32, row: usize, positions: usize, call: &Attend) {
    let Attend { length, rows, scratch, output, .. } = *call;
    let padded = length.next_multiple_of(PANEL);
    // SAFETY: the caller's promise.
    unsafe {
        let logits = memory.add(scratch.offset);
        let pooled = logits.add(TOGETHER * padded);
        for (j, _) in chunks(positions) {
            L::splat(0.0).store(pooled.add(j));
            for r in 0..TOGETHER {
                L::splat(f32::NEG_INFINITY).store(logits.add(r * padded + j));
            }
        }
        let mut i = first(rows, positions);
        while i + TOGETHER <= positions {
            add_rows::<L, TOGETHER>(memory, row, i, positions, call);
            i += TOGETHER;
        }
        while i < positions {
            add_rows::<L, 1>(memory, row, i, positions, call);
            i += 1;
        }
        let to = memory.add(output.offset + row * output.stride);
        for j in 0..length {
            let sum = if j < positions { *pooled.add(j) } else { 0.0 };
            *to.add(j) = if rows == Rows::Mean && j < positions { sum / positions as f32 } else { sum };
        }
    }
}

/// Adds the softmax of `R` rows from `i` to the pooled row. What is behind the last position of a row in the scratch is minus
/// infinity.
///
/// # Safety
/// As [`attend`].
#[inline(always)]
unsafe fn add_rows<L: Lanes, const R: usize>(memory: *mut f32, row: usize, i: usize, positions: usize, call: &Attend) {
    let Attend { terms, length, queries, keys, base, scratch, .. } = *call;
    let padded = length.next_multiple_of(PANEL);
    // SAFETY: the caller's promise.
    unsafe {
        let queries = memory.add(queries.offset + row * queries.stride).cast_const();
        let keys = memory.add(keys.offset + row * keys.stride).cast_const();
        let logits = memory.add(scratch.offset);
        let pooled = logits.add(TOGETHER * padded);
        let mut largest = [L::splat(f32::NEG_INFINITY); R];
        for (j, count) in chunks(positions) {
            each_row!(r of R: {
                let mut logit = match base {
                    Some(base) => read::<L>(memory.add(base.offset + row * base.stride + (i + r) * length + j), count),
                    None => L::splat(0.0),
                };
                for t in 0..terms {
                    let query = L::splat(*queries.add(t * length + i + r));
                    logit = query.fma(read::<L>(keys.add(t * length + j), count), logit);
                }
                let to = logits.add(r * padded + j);
                write(logit, to, count);
                largest[r] = if count == PANEL { logit } else { L::load(to) }.max(largest[r]);
            });
        }
        each_row!(r of R: largest[r] = L::splat(largest[r].largest()));
        let mut sums = [L::splat(0.0); R];
        for (j, count) in chunks(positions) {
            each_row!(r of R: {
                let to = logits.add(r * padded + j);
                let e = share(L::load(to).sub(largest[r]));
                write(e, to, count);
                sums[r] = sums[r].add(e);
            });
        }
        let mut shares = [L::splat(0.0); R];
        each_row!(r of R: shares[r] = L::splat(1.0 / sums[r].tree()));
        for (j, _) in chunks(positions) {
            let mut sum = L::load(pooled.add(j));
            each_row!(r of R: sum = L::load(logits.add(r * padded + j)).fma(shares[r], sum));
            sum.store(pooled.add(j));
        }
    }
}
