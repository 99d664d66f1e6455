//! Products with a matrix, in tiles: rows by panels of 16 outputs.
//!
//! # Dense
//! ```text
//! for each panel of 16 outputs, or 4 of them    they stay in cache while all rows pass
//!     for each strip of up to 6 rows
//!         acc[row] = start                      6 x 2 registers of 8 lanes, or 6 x 4 of 16; some for weights
//!         for k ascending
//!             w = panel[k]                      widened to f32
//!             acc[row] = fma(x[row][k], w, acc[row])
//!         out[row] = activation(addend + acc[row])
//! ```
//! Fewer panels than registers hold side by side have strips of 12 rows. One or two rows cannot hide the latency of FMA in one panel: they take several panels side by side. Weights are not
//! prefetched: panels are read in order, and a prefetch made one row slower (reference figures: 10 to 45 %).
//!
//! # Generated
//! The same tiles, over a matrix that lies as it was computed: 16 columns of it are a cache line per row, far apart. Where
//! many strips read them, 256 rows at a time are copied together first, into 16 KiB that stay in the nearest cache; what is
//! summed so far waits in the output, which changes no bit. Where every row has its own matrix, nothing is read twice, and
//! each row takes panels side by side.

use super::functions::activate_cheaply;
use super::lanes::{Lanes, read, write};
use super::panels::{Element, PANEL};
use super::{Activation, Dense, Generated, Span, Start};
use std::mem::MaybeUninit;

/// How stored weights become lanes.
pub(super) trait Stored {
    const SIZE: usize;
    /// # Safety
    /// As [`Lanes`]; `from` holds 16 elements.
    unsafe fn load<L: Lanes>(from: *const u8) -> L;
}

pub(super) struct StoredF32;
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

/// Rows of the tile: 12 of 16 registers are accumulators where a register has 8 lanes, 24 of 32 where it has 16.
const ROWS: usize = 6;

/// Rows of a computed matrix that are copied together.
pub(super) const BLOCK: usize = 256;

/// The most rows that read a computed matrix where it lies. Its lines are read ahead as long as they are near each other;
/// farther apart, one strip is all that they serve.
const UNCOPIED: usize = 48;
const NEAR_BYTES: usize = 1024;

/// What a tile multiplies by: panels that begin `panel_bytes` apart, their rows `row_bytes` apart.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    /// The first panel of the tile.
    pub from: *const u8,
    pub panel_bytes: usize,
    pub row_bytes: usize,
    /// Whether the last panel has 16 columns too. If not, the elements are f32.
    pub is_padded: bool,
}

impl Matrix {
    /// # Safety
    /// `panel` is a panel of the matrix.
    #[inline(always)]
    unsafe fn skip(self, panel: usize) -> Self {
        // SAFETY: the caller's promise.
        Self { from: unsafe { self.from.add(panel * self.panel_bytes) }, ..self }
    }
}

/// A layer without its matrix.
#[derive(Clone, Copy)]
pub(super) struct Layer<'a> {
    pub input: Span,
    pub start: Start,
    /// Padded to whole panels; read if the start is the bias.
    pub bias: &'a [f32],
    pub addend: Option<Span>,
    pub output: Span,
    /// A cheap one, or none.
    pub activation: Activation,
}

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
    }
}

#[inline(always)]
unsafe fn dense_of<L: Lanes, S: Stored>(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
    let memory = memory.as_mut_ptr();
    let Dense { input, weights, start, addend, output, activation } = *call;
    let layer = Layer { input, start, bias: weights.bias(), addend, output, activation };
    let panel_bytes = weights.panel_bytes();
    let matrix = Matrix { from: weights.weights(), panel_bytes, row_bytes: PANEL * S::SIZE, is_padded: true };
    // SAFETY: rows and panels below are those of the call, whose spans were checked.
    unsafe {
        if rows <= 2 {
            for row in 0..rows {
                row_of_panels::<L, S>(memory, row, matrix, &layer);
            }
            return;
        }
        rows_of_panels::<L, S>(memory, rows, matrix, &layer);
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn generated<L: Lanes>(memory: &mut [f32], rows: usize, call: &Generated<'_>) {
    let Generated { input, weight, outside, start, addend, output, activation } = *call;
    let is_shared = outside.is_some() || weight.stride == 0;
    let base = memory.as_mut_ptr();
    let layer = Layer { input, start, bias: &[], addend, output, activation };
    // SAFETY: the rows are those of the call, whose spans were checked.
    unsafe {
        let matrix = |row: usize| Matrix {
            from: match outside {
                Some(outside) => outside.as_ptr().cast(),
                None => base.add(weight.offset + row * weight.stride).cast_const().cast(),
            },
            panel_bytes: PANEL * size_of::<f32>(),
            row_bytes: output.width * size_of::<f32>(),
            is_padded: false,
        };
        let is_near = output.width * size_of::<f32>() <= NEAR_BYTES;
        if !is_shared || rows <= 2 {
            for row in 0..rows {
                row_of_panels::<L, StoredF32>(base, row, matrix(row), &layer);
            }
        } else if rows <= if is_near { UNCOPIED } else { ROWS } {
            rows_of_panels::<L, StoredF32>(base, rows, matrix(0), &layer);
        } else {
            for panel in 0..output.width.div_ceil(PANEL) {
                panel_of_blocks::<L>(base, rows, panel, matrix(0).skip(panel), &layer);
            }
        }
    }
}

/// All rows by the first panel of a computed matrix, a block of its rows after the other.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn panel_of_blocks<L: Lanes>(memory: *mut f32, rows: usize, panel: usize, matrix: Matrix, layer: &Layer<'_>) {
    let Layer { input, output, .. } = *layer;
    let count = (output.width - panel * PANEL).min(PANEL);
    let mut copy = MaybeUninit::<[[f32; PANEL]; BLOCK]>::uninit();
    let lines: *mut [f32; PANEL] = copy.as_mut_ptr().cast();
    let row_bytes = PANEL * size_of::<f32>();
    // Without inputs there is one block, and it is empty.
    let blocks = input.width.div_ceil(BLOCK).max(1);
    for block in 0..blocks {
        let (first, end) = (input.width * block / blocks, input.width * (block + 1) / blocks);
        let mut part = Layer { input: Span { offset: input.offset + first, width: end - first, ..input }, ..*layer };
        if block > 0 {
            part.start = Start::Span(output);
        }
        if block + 1 < blocks {
            (part.addend, part.activation) = (None, Activation::Identity);
        }
        // SAFETY: the caller's promise; at most `BLOCK` lines are written, and as many are read.
        unsafe {
            for k in first..end {
                read::<L>(matrix.from.add(k * matrix.row_bytes).cast(), count).store(lines.add(k - first).cast());
            }
            let copied = Matrix { from: lines.cast_const().cast(), panel_bytes: row_bytes, row_bytes, is_padded: true };
            panel_of_rows::<L, StoredF32>(memory, rows, panel, copied, &part);
        }
    }
}

/// All rows by all panels, as many side by side as the registers hold 6 rows of.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn rows_of_panels<L: Lanes, S: Stored>(memory: *mut f32, rows: usize, matrix: Matrix, layer: &Layer<'_>) {
    let panels = layer.output.width.div_ceil(PANEL);
    let mut panel = 0;
    // SAFETY: the caller's promise; no panel is beyond `panels`.
    unsafe {
        if L::WIDEST == 4 {
            while panel + 4 <= panels {
                strips::<L, S, 4>(memory, rows, panel, matrix.skip(panel), layer);
                panel += 4;
            }
            if panel + 2 <= panels {
                strips::<L, S, 2>(memory, rows, panel, matrix.skip(panel), layer);
                panel += 2;
            }
        }
        while panel < panels {
            strips::<L, S, 1>(memory, rows, panel, matrix.skip(panel), layer);
            panel += 1;
        }
    }
}

/// All rows by the first panel of `matrix`.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
pub(super) unsafe fn panel_of_rows<L: Lanes, S: Stored>(
    memory: *mut f32,
    rows: usize,
    panel: usize,
    matrix: Matrix,
    layer: &Layer<'_>,
) {
    // SAFETY: the caller's promise.
    unsafe { strips::<L, S, 1>(memory, rows, panel, matrix, layer) }
}

/// All rows by the first `P` panels of `matrix`: in strips of 12 rows, if the registers hold so many, and in such of nearly
/// equal height up to 6.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn strips<L: Lanes, S: Stored, const P: usize>(
    memory: *mut f32,
    rows: usize,
    panel: usize,
    matrix: Matrix,
    layer: &Layer<'_>,
) {
    let mut row = 0;
    if 2 * P <= L::WIDEST {
        while row + 2 * ROWS <= rows {
            // SAFETY: the caller's promise.
            unsafe { tile::<L, S, 12, P>(memory, row, panel, matrix, layer) };
            row += 2 * ROWS;
        }
    }
    let (done, rest) = (row, rows - row);
    let strips = rest.div_ceil(ROWS);
    for strip in 0..strips {
        let (first, end) = (done + rest * strip / strips, done + rest * (strip + 1) / strips);
        // SAFETY: the caller's promise.
        unsafe {
            match end - first {
                6 => tile::<L, S, 6, P>(memory, first, panel, matrix, layer),
                5 => tile::<L, S, 5, P>(memory, first, panel, matrix, layer),
                4 => tile::<L, S, 4, P>(memory, first, panel, matrix, layer),
                3 => tile::<L, S, 3, P>(memory, first, panel, matrix, layer),
                2 => tile::<L, S, 2, P>(memory, first, panel, matrix, layer),
                _ => tile::<L, S, 1, P>(memory, first, panel, matrix, layer),
            }
        }
    }
}

/// One row by all panels, four side by side.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
pub(super) unsafe fn row_of_panels<L: Lanes, S: Stored>(
    memory: *mut f32,
    row: usize,
    matrix: Matrix,
    layer: &Layer<'_>,
) {
    let panels = layer.output.width.div_ceil(PANEL);
    let mut panel = 0;
    // SAFETY: the caller's promise; no panel is beyond `panels`.
    unsafe {
        while panel + 4 <= panels {
            tile::<L, S, 1, 4>(memory, row, panel, matrix.skip(panel), layer);
            panel += 4;
        }
        match panels - panel {
            1 => tile::<L, S, 1, 1>(memory, row, panel, matrix.skip(panel), layer),
            2 => tile::<L, S, 1, 2>(memory, row, panel, matrix.skip(panel), layer),
            3 => tile::<L, S, 1, 3>(memory, row, panel, matrix.skip(panel), layer),
            _ => {}
        }
    }
}

/// `body` for each row of up to 12. A loop is unrolled by the compiler too late for large tiles: their sums would be kept on
/// the stack.
macro_rules! each_row {
    ($r:ident of $R:ident: $body:expr) => {
        each_row!(@ $r $R $body; 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    (@ $r:ident $R:ident $body:expr; $($row:literal)*) => {
        {$(if $row < $R {
            let $r = $row;
            $body
        })*}
    };
}

/// `R` rows from `row` by `P` panels from `panel`, which `matrix` begins with.
///
/// # Safety
/// As [`Lanes`]; rows and panels are of the layer, whose spans were checked; the matrix has a row for each input.
#[inline(always)]
unsafe fn tile<L: Lanes, S: Stored, const R: usize, const P: usize>(
    memory: *mut f32,
    row: usize,
    panel: usize,
    matrix: Matrix,
    layer: &Layer<'_>,
) {
    let Layer { input, output, .. } = *layer;
    // SAFETY: the caller's promise.
    unsafe {
        let cell =
            |span: Span, r: usize, p: usize| memory.add(span.offset + (row + r) * span.stride + (panel + p) * PANEL);
        let count = |p: usize| (output.width - (panel + p) * PANEL).min(PANEL);

        // Where sums begin and end. Loops that are not unrolled read it by index and so keep it on the stack, where the sums
        // themselves must not be: hidden from the compiler, the two stay apart.
        let mut ends = [[L::splat(0.0); P]; R];
        match layer.start {
            Start::Zero => {}
            Start::Bias => {
                for p in 0..P {
                    let bias = L::load(layer.bias.as_ptr().add((panel + p) * PANEL));
                    for ends in &mut ends {
                        ends[p] = bias;
                    }
                }
            }
            Start::Span(span) => {
                for (r, ends) in ends.iter_mut().enumerate() {
                    for (p, end) in ends.iter_mut().enumerate() {
                        *end = read(cell(span, r, p), count(p));
                    }
                }
            }
        }
        let mut sums = [[L::splat(0.0); P]; R];
        each_row!(r of R: for p in 0..P { sums[r][p] = ends[r][p]; });

        let last = if matrix.is_padded { PANEL } else { count(P - 1) };
        let inputs = memory.add(input.offset + row * input.stride).cast_const();
        for k in 0..input.width {
            let from = matrix.from.add(k * matrix.row_bytes);
            let mut w = [L::splat(0.0); P];
            for (p, w) in w.iter_mut().enumerate() {
                let from = from.add(p * matrix.panel_bytes);
                *w = if p + 1 < P || last == PANEL { S::load(from) } else { L::load_part(from.cast(), last) };
            }
            each_row!(r of R: {
                let x = L::splat(*inputs.add(r * input.stride + k));
                for p in 0..P {
                    sums[r][p] = x.fma(w[p], sums[r][p]);
                }
            });
        }

        each_row!(r of R: for p in 0..P { ends[r][p] = sums[r][p]; });
        for (r, ends) in ends.iter().enumerate() {
            for (p, end) in ends.iter().enumerate() {
                let mut value = *end;
                if let Some(addend) = layer.addend {
                    value = read::<L>(cell(addend, r, p), count(p)).add(value);
                }
                let value = activate_cheaply(layer.activation, value);
                write(value, cell(output, r, p), count(p));
            }
        }
    }
}
