//! Every kernel once, over 16 virtual lanes; a set supplies the lanes.
//!
//! Sixteen is the widest register in f32. A set with narrower ones uses several, so that the order of every sum is the
//! same everywhere. Functions here are `#[inline(always)]` and carry no target feature: they become part of the function
//! of the set that calls them, which carries it.
//!
//! # Dense
//! ```text
//! for each panel of 16 outputs                  the panel stays in cache while all rows pass
//!     for each strip of up to 6 rows
//!         acc[row] = start                      6 x 2 registers of 8 lanes, 2 for weights, 1 for the input
//!         for k ascending
//!             w = panel[k]                      widened to f32
//!             acc[row] = fma(x[row][k], w, acc[row])
//!         out[row] = activation(addend + acc[row])
//! ```
//! One or two rows cannot hide the latency of FMA in one panel: they take several panels side by side. Weights are not
//! prefetched: panels are read in order, and a prefetch made one row slower (reference figures: 10 to 45 %).
//!
//! # Functions
//! `exp`: clamp to [-87.33654, 87]; `n = round(x log2 e)`; `r = x - n ln 2` in two steps; degree 5 polynomial (Cephes
//! `expf`), Horner by FMA; `2^n` by the exponent bits. `sigmoid = 1 / (1 + exp(-x))`. `tanh`: Cephes `tanhf` below 0.625,
//! else `1 - 2 / (exp(2 |x|) + 1)`. Largest errors against f64, as the tests measure them over the ranges they name:
//! exp 1 ULP, sigmoid 3 ULP, tanh 2 ULP. Below -87.33654 exp gives the smallest normal number, above 87 it gives exp(87);
//! NaN stays NaN.

use super::panels::{Element, PANEL};
use super::{Activation, Dense, Pooling, Span, Start, Table};

/// Constants of `exp`.
pub mod exp {
    pub const LOW: f32 = -87.336_54;
    pub const HIGH: f32 = 87.0;
    pub const LOG2_E: f32 = std::f32::consts::LOG2_E;
    pub const LN2_HIGH: f32 = 0.693_359_4;
    pub const LN2_LOW: f32 = -2.121_944_4e-4;
    pub const POLYNOMIAL: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
}

/// Constants of `tanh`.
pub mod tanh {
    pub const SMALL: f32 = 0.625;
    #[expect(clippy::excessive_precision, reason = "as published")]
    pub const POLYNOMIAL: [f32; 5] = [-5.704_988_7e-3, 2.063_908_9e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1];
}

/// Sixteen f32.
///
/// # Safety
/// All methods: the CPU has the instructions of the set. Pointers: valid for the lanes that are read or written.
pub trait Lanes: Copy {
    unsafe fn splat(value: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    /// The first `count` (1 to 16) lanes; the others are zero.
    unsafe fn load_part(from: *const f32, count: usize) -> Self;
    unsafe fn load_f16(from: *const u16) -> Self;
    unsafe fn load_bf16(from: *const u16) -> Self;
    unsafe fn store(self, to: *mut f32);
    unsafe fn store_part(self, to: *mut f32, count: usize);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * factor + addend`, rounded once.
    unsafe fn fma(self, factor: Self, addend: Self) -> Self;
    /// `self` where it is larger, else `other`: with a NaN, `other`.
    unsafe fn max(self, other: Self) -> Self;
    /// `self` where it is smaller, else `other`.
    unsafe fn min(self, other: Self) -> Self;
    /// To the nearest integer, ties to even.
    unsafe fn round(self) -> Self;
    /// `2^n` of integers -126 to 127; anything for NaN.
    unsafe fn power_of_two(self) -> Self;
    unsafe fn abs(self) -> Self;
    unsafe fn negate(self) -> Self;
    unsafe fn copysign(self, sign: Self) -> Self;
    /// `then` where `self < bound`, else `other`.
    unsafe fn select_less(self, bound: Self, then: Self, other: Self) -> Self;
    /// Lanes added by the tree 8, 4, 2, 1.
    unsafe fn tree(self) -> f32;
    /// Asks for the cache line at `from`.
    unsafe fn prefetch(from: *const u8);
}

/// How weights and table rows become lanes.
trait Stored {
    const SIZE: usize;
    /// # Safety
    /// As [`Lanes`]; `from` holds 16 elements.
    unsafe fn load<L: Lanes>(from: *const u8) -> L;
}

struct StoredF32;
struct StoredF16;
struct StoredBf16;

impl Stored for StoredF32 {
    const SIZE: usize = 4;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load(from.cast()) }
    }
}

impl Stored for StoredF16 {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load_f16(from.cast()) }
    }
}

impl Stored for StoredBf16 {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load_bf16(from.cast()) }
    }
}

/// Rows of the dense tile: 12 of 16 registers are accumulators where a register has 8 lanes.
const ROWS: usize = 6;

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn dense<L: Lanes>(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
    // SAFETY: the caller's promise, handed on.
    unsafe {
        match call.weights.element() {
            Element::F32 => dense_of::<L, StoredF32>(memory, rows, call),
            Element::F16 => dense_of::<L, StoredF16>(memory, rows, call),
            Element::Bf16 => dense_of::<L, StoredBf16>(memory, rows, call),
        }
        if !matches!(call.activation, Activation::Identity | Activation::Relu | Activation::LeakyRelu(_)) {
            unary::<L>(memory, rows, call.activation, call.output, call.output);
        }
    }
}

#[inline(always)]
unsafe fn dense_of<L: Lanes, S: Stored>(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
    let memory = memory.as_mut_ptr();
    let panels = call.output.width.div_ceil(PANEL);
    // SAFETY: rows and panels below are those of the call, whose spans were checked.
    unsafe {
        if rows <= 2 {
            for row in 0..rows {
                let mut panel = 0;
                while panel + 4 <= panels {
                    tile::<L, S, 1, 4>(memory, row, panel, call);
                    panel += 4;
                }
                match panels - panel {
                    1 => tile::<L, S, 1, 1>(memory, row, panel, call),
                    2 => tile::<L, S, 1, 2>(memory, row, panel, call),
                    3 => tile::<L, S, 1, 3>(memory, row, panel, call),
                    _ => {}
                }
            }
            return;
        }
        let strips = rows.div_ceil(ROWS);
        for panel in 0..panels {
            for strip in 0..strips {
                let (first, end) = (rows * strip / strips, rows * (strip + 1) / strips);
                match end - first {
                    6 => tile::<L, S, 6, 1>(memory, first, panel, call),
                    5 => tile::<L, S, 5, 1>(memory, first, panel, call),
                    4 => tile::<L, S, 4, 1>(memory, first, panel, call),
                    3 => tile::<L, S, 3, 1>(memory, first, panel, call),
                    2 => tile::<L, S, 2, 1>(memory, first, panel, call),
                    _ => tile::<L, S, 1, 1>(memory, first, panel, call),
                }
            }
        }
    }
}

/// `R` rows from `row` by `P` panels from `panel`.
#[inline(always)]
unsafe fn tile<L: Lanes, S: Stored, const R: usize, const P: usize>(
    memory: *mut f32,
    row: usize,
    panel: usize,
    call: &Dense<'_>,
) {
    let Dense { input, weights, output, .. } = call;
    let depth = weights.depth();
    // SAFETY: the rows lie in the checked spans, the panels in the packed weights and bias.
    unsafe {
        let cell =
            |span: Span, r: usize, p: usize| memory.add(span.offset + (row + r) * span.stride + (panel + p) * PANEL);
        let count = |p: usize| (output.width - (panel + p) * PANEL).min(PANEL);

        let mut sums = [[L::splat(0.0); P]; R];
        match call.start {
            Start::Zero => {}
            Start::Bias => {
                for p in 0..P {
                    let bias = L::load(weights.bias().as_ptr().add((panel + p) * PANEL));
                    for sums in &mut sums {
                        sums[p] = bias;
                    }
                }
            }
            Start::Span(span) => {
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (p, sum) in sums.iter_mut().enumerate() {
                        *sum = read(cell(span, r, p), count(p));
                    }
                }
            }
        }

        let mut from = [weights.weights(); P];
        for (p, from) in from.iter_mut().enumerate() {
            *from = from.add((panel + p) * weights.panel_bytes());
        }
        let inputs = memory.add(input.offset + row * input.stride).cast_const();
        for k in 0..depth {
            let mut w = [L::splat(0.0); P];
            for p in 0..P {
                w[p] = S::load::<L>(from[p].add(k * PANEL * S::SIZE));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = L::splat(*inputs.add(r * input.stride + k));
                for p in 0..P {
                    sums[p] = x.fma(w[p], sums[p]);
                }
            }
        }

        for (r, sums) in sums.iter().enumerate() {
            for (p, sum) in sums.iter().enumerate() {
                let mut value = *sum;
                if let Some(addend) = call.addend {
                    value = read::<L>(cell(addend, r, p), count(p)).add(value);
                }
                let value = match call.activation {
                    Activation::Relu | Activation::LeakyRelu(_) => activate(call.activation, value),
                    _ => value,
                };
                write(value, cell(*output, r, p), count(p));
            }
        }
    }
}

/// The first column and the count of each chunk of up to 16 columns. An iterator, and not a function that takes one:
/// a closure would be compiled without the features of the set.
#[inline(always)]
fn chunks(width: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..width).step_by(16).map(move |column| (column, (width - column).min(16)))
}

/// # Safety
/// As [`Lanes`]; `count` is 1 to 16.
#[inline(always)]
unsafe fn read<L: Lanes>(from: *const f32, count: usize) -> L {
    // SAFETY: the caller's promise.
    unsafe { if count == 16 { L::load(from) } else { L::load_part(from, count) } }
}

/// # Safety
/// As [`Lanes`]; `count` is 1 to 16.
#[inline(always)]
unsafe fn write<L: Lanes>(value: L, to: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe { if count == 16 { value.store(to) } else { value.store_part(to, count) } }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn unary<L: Lanes>(memory: &mut [f32], rows: usize, activation: Activation, input: Span, output: Span) {
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        for (column, count) in chunks(output.width) {
            // SAFETY: both rows lie in checked spans.
            unsafe {
                let x = read::<L>(memory.add(input.offset + row * input.stride + column), count);
                write(activate(activation, x), memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn multiply<L: Lanes>(memory: &mut [f32], rows: usize, left: Span, right: Span, output: Span) {
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        for (column, count) in chunks(output.width) {
            // SAFETY: the three rows lie in checked spans.
            unsafe {
                let x = read::<L>(memory.add(left.offset + row * left.stride + column), count);
                let from = memory.add(right.offset + row * right.stride);
                let y = if right.width == 1 { L::splat(*from) } else { read::<L>(from.add(column), count) };
                write(x.mul(y), memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn affine<L: Lanes>(
    memory: &mut [f32],
    rows: usize,
    input: Span,
    scale: &[f32],
    shift: &[f32],
    output: Span,
) {
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        for (column, count) in chunks(output.width) {
            // SAFETY: both rows lie in checked spans, and the constants are as wide.
            unsafe {
                let x = read::<L>(memory.add(input.offset + row * input.stride + column), count);
                let scale = read::<L>(scale.as_ptr().add(column), count);
                let shift = read::<L>(shift.as_ptr().add(column), count);
                write(x.fma(scale, shift), memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn softmax<L: Lanes>(memory: &mut [f32], rows: usize, input: Span, output: Span) {
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        // SAFETY: both rows lie in checked spans.
        unsafe {
            let from = memory.add(input.offset + row * input.stride);
            let to = memory.add(output.offset + row * output.stride);
            let mut largest = f32::NEG_INFINITY;
            for column in 0..input.width {
                let x = *from.add(column);
                largest = if largest > x { largest } else { x };
            }
            let largest = L::splat(largest);
            let mut sums = L::splat(0.0);
            for (column, count) in chunks(input.width) {
                let e = exponential(read::<L>(from.add(column), count).sub(largest));
                write(e, to.add(column), count);
                sums = sums.add(read::<L>(to.add(column), count));
            }
            let sum = L::splat(sums.tree());
            for (column, count) in chunks(input.width) {
                write(read::<L>(to.add(column), count).div(sum), to.add(column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn mixture<L: Lanes>(memory: &mut [f32], rows: usize, gate: Span, experts: &[Span], output: Span) {
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        for (column, count) in chunks(output.width) {
            // SAFETY: all rows lie in checked spans; the gate has a weight per expert.
            unsafe {
                let weights = memory.add(gate.offset + row * gate.stride);
                let mut sum = L::splat(0.0);
                for (e, expert) in experts.iter().enumerate() {
                    let x = read::<L>(memory.add(expert.offset + row * expert.stride + column), count);
                    sum = L::splat(*weights.add(e)).fma(x, sum);
                }
                write(sum, memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn copy<L: Lanes>(memory: &mut [f32], rows: usize, input: Span, output: Span) {
    let memory = memory.as_mut_ptr();
    for row in 0..rows {
        for (column, count) in chunks(output.width) {
            // SAFETY: both rows lie in checked spans.
            unsafe {
                let x = read::<L>(memory.add(input.offset + row * input.stride + column), count);
                write(x, memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// How many rows ahead a table row is asked for.
const AHEAD: usize = 8;

/// # Safety
/// As [`Lanes`]; `id` is a row of the table.
#[inline(always)]
unsafe fn prefetch_row<L: Lanes>(table: Table<'_>, id: u32) {
    let bytes = table.width * table.element.size();
    let mut at = 0;
    while at < bytes {
        // SAFETY: the caller's promise: the row lies in the table.
        unsafe { L::prefetch(table.bytes.as_ptr().add(id as usize * bytes + at)) };
        at += 64;
    }
}

/// Up to 16 elements of a table row, widened.
///
/// # Safety
/// As [`Lanes`]; the elements lie in the table.
#[inline(always)]
unsafe fn read_table<L: Lanes>(table: Table<'_>, id: u32, column: usize, count: usize) -> L {
    // SAFETY: the caller's promise; a part is copied out before it is widened, so nothing behind it is read.
    unsafe {
        let from = table.bytes.as_ptr().add((id as usize * table.width + column) * table.element.size());
        match table.element {
            Element::F32 => read::<L>(from.cast(), count),
            Element::F16 | Element::Bf16 => {
                let mut part = [0u16; 16];
                let from = if count == 16 {
                    from.cast()
                } else {
                    std::ptr::copy_nonoverlapping(from, part.as_mut_ptr().cast::<u8>(), count * 2);
                    part.as_ptr()
                };
                if table.element == Element::F16 { L::load_f16(from) } else { L::load_bf16(from) }
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn gather<L: Lanes>(memory: &mut [f32], table: Table<'_>, ids: &[u32], output: Span) {
    let memory = memory.as_mut_ptr();
    // SAFETY: ids are rows of the table and output rows lie in a checked span.
    unsafe {
        for id in ids.iter().take(AHEAD) {
            prefetch_row::<L>(table, *id);
        }
        for (row, id) in ids.iter().enumerate() {
            if let Some(next) = ids.get(row + AHEAD) {
                prefetch_row::<L>(table, *next);
            }
            for (column, count) in chunks(output.width) {
                let x = read_table::<L>(table, *id, column, count);
                write(x, memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn gather_pooled<L: Lanes>(
    memory: &mut [f32],
    table: Table<'_>,
    ids: &[u32],
    row_offsets: &[u32],
    pooling: Pooling,
    output: Span,
) {
    let memory = memory.as_mut_ptr();
    for (row, ends) in row_offsets.windows(2).enumerate() {
        let (start, end) = (ends[0] as usize, ends[1] as usize);
        // SAFETY: ids are rows of the table and output rows lie in a checked span.
        unsafe {
            for id in ids[start..].iter().take(AHEAD) {
                prefetch_row::<L>(table, *id);
            }
            for (column, count) in chunks(output.width) {
                let mut pooled = L::splat(0.0);
                for (place, id) in ids[start..end].iter().enumerate() {
                    if let Some(next) = ids.get(start + place + AHEAD) {
                        prefetch_row::<L>(table, *next);
                    }
                    let x = read_table::<L>(table, *id, column, count);
                    pooled = match pooling {
                        Pooling::Max if place == 0 => x,
                        Pooling::Max => pooled.max(x),
                        Pooling::Sum | Pooling::Mean => pooled.add(x),
                    };
                }
                if pooling == Pooling::Mean && end > start {
                    pooled = pooled.div(L::splat((end - start) as f32));
                }
                write(pooled, memory.add(output.offset + row * output.stride + column), count);
            }
        }
    }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn activate<L: Lanes>(activation: Activation, x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe {
        match activation {
            Activation::Identity => x,
            Activation::Relu => L::splat(0.0).max(x),
            Activation::LeakyRelu(slope) => L::splat(0.0).select_less(x, x, L::splat(slope).mul(x)),
            Activation::Sigmoid => logistic(x),
            Activation::ScaledSigmoid(gamma) => L::splat(gamma).mul(logistic(x)),
            Activation::Tanh => hyperbolic_tangent(x),
            Activation::Silu => x.mul(logistic(x)),
        }
    }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn exponential<L: Lanes>(x: L) -> L {
    use exp::*;
    // SAFETY: the caller's promise.
    unsafe {
        let x = L::splat(HIGH).min(L::splat(LOW).max(x));
        let n = x.mul(L::splat(LOG2_E)).round();
        let r = n.fma(L::splat(-LN2_LOW), n.fma(L::splat(-LN2_HIGH), x));
        let mut p = L::splat(POLYNOMIAL[0]);
        for c in &POLYNOMIAL[1..] {
            p = p.fma(r, L::splat(*c));
        }
        let y = p.fma(r.mul(r), r).add(L::splat(1.0));
        y.mul(n.power_of_two())
    }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn logistic<L: Lanes>(x: L) -> L {
    // SAFETY: the caller's promise.
    unsafe { L::splat(1.0).div(L::splat(1.0).add(exponential(x.negate()))) }
}

/// # Safety
/// As [`Lanes`].
#[inline(always)]
unsafe fn hyperbolic_tangent<L: Lanes>(x: L) -> L {
    use tanh::*;
    // SAFETY: the caller's promise.
    unsafe {
        let a = x.abs();
        let z = a.mul(a);
        let mut p = L::splat(POLYNOMIAL[0]);
        for c in &POLYNOMIAL[1..] {
            p = p.fma(z, L::splat(*c));
        }
        let small = p.mul(z).fma(a, a);
        let e = exponential(a.add(a)).add(L::splat(1.0));
        let large = L::splat(1.0).sub(L::splat(2.0).div(e));
        a.select_less(L::splat(SMALL), small, large).copysign(x)
    }
}
