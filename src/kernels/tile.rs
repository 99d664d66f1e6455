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
//! Fewer panels than registers hold side by side have strips of 12 rows. One or two rows cannot hide the latency of FMA in one
//! panel: they take several panels side by side. They do not prefetch weights: panels are read in order, and a prefetch made
//! one row slower (reference figures: 10 to 45 %). Of more rows, the strips ask for the next panels; the first to read those
//! would wait for the third-level cache. Of many rows, the first strip leaves weights of f16 widened for the others.
//!
//! Weights in bf16 and integers are multiplied in pairs and quadruples: [`super::dots`], in the same tiles.
//!
//! # Generated
//! The same tiles, over a matrix that lies as it was computed: 16 columns of it are a cache line per row, far apart. Where
//! many strips read them, 256 rows at a time are copied together first, into 16 KiB that stay in the nearest cache; what is
//! summed so far waits in the output, which changes no bit. Where every row has its own matrix, nothing is read twice, and
//! each row takes panels side by side.

use super::dots::{self, Bytes, Dot, Pairs, Words};
use super::functions::activate_cheaply;
use super::lanes::{Job, Lanes, read, write};
use super::panels::{LINE, PANEL, Weight};
use super::{Activation, Dense, Generated, Span, Start};
use std::marker::PhantomData;
use std::mem::MaybeUninit;

/// How weights lie, and become lanes.
pub(super) trait Stored {
    const SIZE: usize = size_of::<f32>();
    /// Whether the last panel has 16 columns too. If not, the elements are f32.
    const IS_PADDED: bool = true;

    /// Bytes from a panel to the next, and from a row of a tile of so many panels to the next; `stride` is that of the matrix.
    #[inline(always)]
    fn steps(stride: usize, _panels: usize) -> [usize; 2] {
        [stride, PANEL * Self::SIZE]
    }

    /// # Safety
    /// As [`Lanes`]; `from` holds 16 elements.
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load(from.cast()) }
    }
}

/// Panels, one behind the other.
struct StoredF32;
struct StoredF16;
/// The panels of a tile side by side.
pub(super) struct Copied;
/// Rows of any width, the panels side by side.
struct Computed;

impl Stored for StoredF32 {}

impl Stored for StoredF16 {
    const SIZE: usize = 2;
    #[inline(always)]
    unsafe fn load<L: Lanes>(from: *const u8) -> L {
        // SAFETY: the caller's promise.
        unsafe { L::load_f16(from.cast()) }
    }
}

impl Stored for Copied {
    #[inline(always)]
    fn steps(_stride: usize, panels: usize) -> [usize; 2] {
        [PANEL * Self::SIZE, panels * PANEL * Self::SIZE]
    }
}

impl Stored for Computed {
    const IS_PADDED: bool = false;
    #[inline(always)]
    fn steps(stride: usize, _panels: usize) -> [usize; 2] {
        [PANEL * Self::SIZE, stride]
    }
}

/// Rows of the tile: 12 of 16 registers are accumulators where a register has 8 lanes, 24 of 32 where it has 16.
pub(super) const ROWS: usize = 6;

/// The rows from which on a strip widens weights for the others.
const MANY: usize = 3 * ROWS;

/// f32 of scratch that a call of `rows` rows of `depth` inputs needs where weights are widened: the panels of a tile.
pub fn scratch(depth: usize, rows: usize) -> usize {
    if rows < MANY { 0 } else { (4 * PANEL).saturating_mul(depth).saturating_add(LINE / size_of::<f32>()) }
}

/// The fewest rows that are computed in strips.
const LOWEST: usize = 3;

/// Rows of a computed matrix that are copied together.
pub(super) const BLOCK: usize = 256;

/// The most rows that read a computed matrix where it lies. Its lines are read ahead as long as they are near each other;
/// farther apart, one strip is all that they serve.
const UNCOPIED: usize = 48;
const NEAR_BYTES: usize = 1024;

/// What a tile multiplies by.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    /// Where panel `first` is.
    from: *const u8,
    first: usize,
    /// Bytes from a panel to the next, or from a row to the next: [`Stored::steps`].
    stride: usize,
}

impl Matrix {
    /// The panels of a tile, of which `panel` is the first, as [`Copied`].
    #[inline(always)]
    pub fn copied(from: *const f32, panel: usize) -> Self {
        Self { from: from.cast(), first: panel, stride: 0 }
    }

    /// # Safety
    /// `panel` is a panel of the matrix.
    #[inline(always)]
    unsafe fn panel<S: Stored>(&self, panel: usize) -> *const u8 {
        let [panel_bytes, _] = S::steps(self.stride, 1);
        // SAFETY: the caller's promise.
        unsafe { self.from.add((panel - self.first) * panel_bytes) }
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

impl<'a> Layer<'a> {
    /// A dense layer without its weights.
    #[inline(always)]
    pub fn of(call: &Dense<'a>) -> Self {
        let Dense { input, weights, start, addend, output, activation, .. } = *call;
        Self { input, start, bias: weights.bias(), addend, output, activation }
    }
}

/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn dense<L: Lanes + Dot<Pairs> + Dot<Words> + Dot<Bytes>>(
    memory: &mut [f32],
    rows: usize,
    call: &Dense<'_>,
) {
    // SAFETY: the caller's promise, handed on.
    unsafe {
        match call.weights.weight_type() {
            Weight::F32 => dense_of::<L, StoredF32>(memory, rows, call),
            Weight::F16 => dense_of::<L, StoredF16>(memory, rows, call),
            Weight::Bf16 => dots::pairs::<L>(memory, rows, call),
            Weight::Int12 => dots::dense::<L, Words, false>(memory, rows, call),
            Weight::Int16 => dots::dense::<L, Words, true>(memory, rows, call),
            Weight::Int8 => dots::dense::<L, Bytes, false>(memory, rows, call),
        }
    }
}

#[inline(always)]
unsafe fn dense_of<L: Lanes, S: Stored>(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
    let (layer, panels) = (Layer::of(call), call.output.width.div_ceil(PANEL));
    let matrix = Matrix { from: call.weights.weights(), first: 0, stride: call.weights.panel_bytes() };
    let memory = memory.as_mut_ptr();
    let stored = Product::<L, S>::new(memory, matrix, &layer);
    // SAFETY: rows and panels are those of the call, whose spans were checked, and scratch has room for a whole line more.
    unsafe {
        if S::SIZE == size_of::<f32>() || rows < MANY {
            all(&stored, rows, panels);
        } else {
            let room = memory.add(call.scratch.offset);
            all(&Widened { stored, copy: room.add(room.align_offset(LINE)) }, rows, panels);
        }
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
            first: 0,
            from: match outside {
                Some(outside) => outside.as_ptr().cast(),
                None => base.add(weight.offset + row * weight.stride).cast_const().cast(),
            },
            stride: output.width * size_of::<f32>(),
        };
        let is_near = output.width * size_of::<f32>() <= NEAR_BYTES;
        let panels = output.width.div_ceil(PANEL);
        if !is_shared {
            for row in 0..rows {
                row_of_panels(&Product::<L, Computed>::new(base, matrix(row), &layer), row, panels);
            }
        } else if rows <= if is_near { UNCOPIED } else { ROWS } {
            all(&Product::<L, Computed>::new(base, matrix(0), &layer), rows, panels);
        } else {
            for panel in 0..panels {
                panel_of_blocks::<L>(base, rows, panel, matrix(0), &layer);
            }
        }
    }
}

/// All rows by a panel of a computed matrix, a block of its rows after the other.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn panel_of_blocks<L: Lanes>(memory: *mut f32, rows: usize, panel: usize, matrix: Matrix, layer: &Layer<'_>) {
    let Layer { input, output, .. } = *layer;
    let count = (output.width - panel * PANEL).min(PANEL);
    let mut copy = MaybeUninit::<[[f32; PANEL]; BLOCK]>::uninit();
    let lines: *mut [f32; PANEL] = copy.as_mut_ptr().cast();
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
            let from = matrix.panel::<Computed>(panel);
            for k in first..end {
                read::<L>(from.add(k * matrix.stride).cast(), count).store(lines.add(k - first).cast());
            }
            let copied = Matrix::copied(lines.cast(), panel);
            strips::<Product<'_, L, Copied>, 1>(&Product::new(memory, copied, &part), rows, panel, panel + 1);
        }
    }
}

/// The lines of weights that a tile asks for while it reads its own: one for `2^shift` of those.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    from: *const u8,
    shift: u32,
    bytes: usize,
}

impl Ahead {
    /// A part of a panel, of `2^shift`.
    ///
    /// # Safety
    /// The product has the panel.
    #[inline(always)]
    unsafe fn new<T: Tiled>(product: &T, panel: usize, part: usize, shift: u32) -> Self {
        let (lines, bytes) = product.lines();
        // SAFETY: the caller's promise.
        let from = unsafe { product.panel(panel) }.wrapping_add(part * lines.div_ceil(1 << shift) * bytes);
        Self { from, shift, bytes }
    }

    /// Asks for what belongs to line `line` of the tile.
    ///
    /// # Safety
    /// As [`Lanes`].
    #[inline(always)]
    pub unsafe fn ask<L: Lanes>(self, line: usize) {
        // SAFETY: the caller's promise.
        unsafe { L::prefetch(self.from.wrapping_add((line >> self.shift) * self.bytes)) }
    }
}

/// A product that is computed in tiles.
pub(super) trait Tiled {
    /// Rows of a tile.
    const ROWS: usize;
    /// Panels side by side in a tile of so many rows: 1, 2 or 4.
    const WIDEST: usize;
    /// Whether tiles of several rows ask for the weights of the next ones: with 16 registers, the compiler then spills some.
    const PREFETCHES: bool = Self::WIDEST == 4 && !cfg!(without = "prefetch");

    /// The lines of a panel, and the bytes from one to the next.
    fn lines(&self) -> (usize, usize);

    /// Where a panel begins.
    ///
    /// # Safety
    /// It is a panel of the product.
    unsafe fn panel(&self, panel: usize) -> *const u8;

    /// Computes `R` rows from `row` by `P` panels from `panel`.
    ///
    /// # Safety
    /// The CPU has the set, and rows and panels are of the product, whose spans were checked.
    unsafe fn tile<const R: usize, const P: usize>(&self, row: usize, panel: usize, ahead: Ahead);

    /// [`super::lanes::Set::apart`], of the set whose instructions the tiles need.
    ///
    /// # Safety
    /// As [`Job::run`].
    unsafe fn apart<J: Job>(job: J);

    /// Computes the first rows of `P` panels from `panel` where these differ from others, and says how many they are.
    ///
    /// # Safety
    /// As [`Tiled::tile`].
    #[inline(always)]
    unsafe fn first<const P: usize>(&self, _panel: usize) -> usize {
        0
    }
}

/// A tile to compute.
struct Tile<'a, T, const R: usize, const P: usize> {
    product: &'a T,
    row: usize,
    panel: usize,
    ahead: Ahead,
}

impl<T: Tiled, const R: usize, const P: usize> Job for Tile<'_, T, R, P> {
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: the caller's promise.
        unsafe { self.product.tile::<R, P>(self.row, self.panel, self.ahead) }
    }
}

/// [`Tiled::tile`] as a [`Job`].
///
/// # Safety
/// As that.
#[inline(always)]
unsafe fn tile<T: Tiled, const R: usize, const P: usize>(product: &T, row: usize, panel: usize, ahead: Ahead) {
    // SAFETY: the caller's promise.
    unsafe { T::apart(Tile::<T, R, P> { product, row, panel, ahead }) }
}

/// All rows by all panels.
///
/// # Safety
/// As [`Tiled::tile`].
#[inline(always)]
pub(super) unsafe fn all<T: Tiled>(product: &T, rows: usize, panels: usize) {
    // SAFETY: the caller's promise; no panel is beyond `panels`.
    unsafe {
        if rows < LOWEST {
            for row in 0..rows {
                row_of_panels(product, row, panels);
            }
            return;
        }
        let mut panel = 0;
        if T::WIDEST == 4 {
            while panel + 4 <= panels {
                strips::<T, 4>(product, rows, panel, panels);
                panel += 4;
            }
        }
        if T::WIDEST >= 2 {
            while panel + 2 <= panels {
                strips::<T, 2>(product, rows, panel, panels);
                panel += 2;
            }
        }
        while panel < panels {
            strips::<T, 1>(product, rows, panel, panels);
            panel += 1;
        }
    }
}

/// All rows by `P` panels: in strips of twice the rows, if the registers hold so many, and in such of nearly equal height. What
/// the former leave is no row or [`LOWEST`] at least, so that the latter have heights of which there are tiles.
///
/// # Safety
/// As [`Tiled::tile`]; there are [`LOWEST`] rows at least.
#[inline(always)]
pub(super) unsafe fn strips<T: Tiled, const P: usize>(product: &T, rows: usize, panel: usize, panels: usize) {
    let is_tall = 2 * P <= T::WIDEST && T::ROWS == ROWS;
    // Each strip asks for a part of one of the next panels; all of them for nearly all parts, a power of two of each.
    let shift = (rows / if is_tall { 2 * ROWS } else { T::ROWS } / P).max(1).ilog2();
    let mut asked = 0;
    let mut ahead = || {
        let (next, part) = (panel + P + (asked >> shift), asked & ((1 << shift) - 1));
        asked += 1;
        // SAFETY: the caller's promise: a panel is below `panels`.
        unsafe { Ahead::new(product, if next < panels.min(panel + 2 * P) { next } else { panel }, part, shift) }
    };
    // SAFETY: the caller's promise.
    let mut row = unsafe { product.first::<P>(panel) };
    if is_tall {
        while row + 2 * ROWS == rows || row + 2 * ROWS + LOWEST <= rows {
            // SAFETY: the caller's promise.
            unsafe { tile::<T, 12, P>(product, row, panel, ahead()) };
            row += 2 * ROWS;
        }
    }
    let (done, rest) = (row, rows - row);
    let strips = rest.div_ceil(T::ROWS);
    for strip in 0..strips {
        let (first, end) = (done + rest * strip / strips, done + rest * (strip + 1) / strips);
        let ahead = ahead();
        // SAFETY: the caller's promise.
        unsafe {
            match end - first {
                6 if T::ROWS >= 6 => tile::<T, 6, P>(product, first, panel, ahead),
                5 if T::ROWS >= 5 => tile::<T, 5, P>(product, first, panel, ahead),
                4 if T::ROWS >= 4 => tile::<T, 4, P>(product, first, panel, ahead),
                2 if T::ROWS < 5 => tile::<T, 2, P>(product, first, panel, ahead),
                _ => tile::<T, 3, P>(product, first, panel, ahead),
            }
        }
    }
}

/// One row by all panels, four side by side.
///
/// # Safety
/// As [`Tiled::tile`].
#[inline(always)]
pub(super) unsafe fn row_of_panels<T: Tiled>(product: &T, row: usize, panels: usize) {
    let mut panel = 0;
    // SAFETY: the caller's promise; no panel is beyond `panels`.
    unsafe {
        while panel + 4 <= panels {
            tile::<T, 1, 4>(product, row, panel, Ahead::new(product, panel, 0, 0));
            panel += 4;
        }
        match panels - panel {
            1 => tile::<T, 1, 1>(product, row, panel, Ahead::new(product, panel, 0, 0)),
            2 => tile::<T, 1, 2>(product, row, panel, Ahead::new(product, panel, 0, 0)),
            3 => tile::<T, 1, 3>(product, row, panel, Ahead::new(product, panel, 0, 0)),
            _ => {}
        }
    }
}

/// `body` for each row of up to 16. A loop is unrolled by the compiler too late for large tiles: their sums would be kept on
/// the stack.
macro_rules! each_row {
    ($r:ident of $R:ident: $body:expr) => {
        each_row!(@ $r $R $body; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    (@ $r:ident $R:ident $body:expr; $($row:literal)*) => {
        {$(if $row < $R {
            let $r = $row;
            $body
        })*}
    };
}
pub(super) use each_row;

/// A product of f32 with weights that are widened to f32.
pub(super) struct Product<'a, L, S> {
    memory: *mut f32,
    matrix: Matrix,
    layer: &'a Layer<'a>,
    types: PhantomData<(L, S)>,
}

impl<'a, L, S> Product<'a, L, S> {
    #[inline(always)]
    pub fn new(memory: *mut f32, matrix: Matrix, layer: &'a Layer<'a>) -> Self {
        Self { memory, matrix, layer, types: PhantomData }
    }
}

impl<L: Lanes, S: Stored> Tiled for Product<'_, L, S> {
    const ROWS: usize = ROWS;
    const WIDEST: usize = L::WIDEST;

    #[inline(always)]
    fn lines(&self) -> (usize, usize) {
        (self.layer.input.width, S::steps(self.matrix.stride, 1)[1])
    }

    #[inline(always)]
    unsafe fn panel(&self, panel: usize) -> *const u8 {
        // SAFETY: the caller's promise.
        unsafe { self.matrix.panel::<S>(panel) }
    }

    #[inline(always)]
    unsafe fn tile<const R: usize, const P: usize>(&self, row: usize, panel: usize, ahead: Ahead) {
        // SAFETY: the caller's promise.
        unsafe { self.multiply::<R, P>(row, panel, ahead, None) }
    }

    #[inline(always)]
    unsafe fn apart<J: Job>(job: J) {
        // SAFETY: the caller's promise.
        unsafe { L::apart(job) }
    }
}

impl<L: Lanes, S: Stored> Product<'_, L, S> {
    /// Computes a tile, and leaves its weights as f32 at `copy`, the panels side by side.
    ///
    /// # Safety
    /// As [`Tiled::tile`]; `copy` has room for the panels.
    #[inline(always)]
    unsafe fn multiply<const R: usize, const P: usize>(
        &self,
        row: usize,
        panel: usize,
        ahead: Ahead,
        copy: Option<*mut f32>,
    ) {
        let Self { memory, layer, .. } = *self;
        let Layer { input, output, .. } = *layer;
        let count = |p: usize| (output.width - (panel + p) * PANEL).min(PANEL);
        let [panel_bytes, row_bytes] = S::steps(self.matrix.stride, P);
        // SAFETY: the caller's promise; the matrix has a row for each input.
        unsafe {
            let matrix = self.matrix.panel::<S>(panel);
            let mut ends = starts::<L, R, P>(memory, row, panel, layer);
            let mut sums = [[L::splat(0.0); P]; R];
            each_row!(r of R: for p in 0..P { sums[r][p] = ends[r][p]; });

            let last = if S::IS_PADDED { PANEL } else { count(P - 1) };
            let inputs = memory.add(input.offset + row * input.stride).cast_const();
            for k in 0..input.width {
                let from = matrix.add(k * row_bytes);
                if Self::PREFETCHES && R > 2 && copy.is_none() {
                    ahead.ask::<L>(k);
                }
                let mut w = [L::splat(0.0); P];
                for (p, w) in w.iter_mut().enumerate() {
                    let from = from.add(p * panel_bytes);
                    *w = if p + 1 < P || last == PANEL { S::load(from) } else { L::load_part(from.cast(), last) };
                    if let Some(copy) = copy {
                        w.store(copy.add((k * P + p) * PANEL));
                    }
                }
                each_row!(r of R: {
                    let x = L::splat(*inputs.add(r * input.stride + k));
                    for p in 0..P {
                        sums[r][p] = x.fma(w[p], sums[r][p]);
                    }
                });
            }

            each_row!(r of R: for p in 0..P { ends[r][p] = sums[r][p]; });
            finish(memory, row, panel, layer, &ends);
        }
    }
}

/// A product whose first strips leave what they widen for the others.
struct Widened<'a, L, S> {
    stored: Product<'a, L, S>,
    /// The panels of a tile side by side, in whole cache lines.
    copy: *mut f32,
}

impl<L: Lanes, S: Stored> Tiled for Widened<'_, L, S> {
    const ROWS: usize = ROWS;
    const WIDEST: usize = L::WIDEST;

    #[inline(always)]
    fn lines(&self) -> (usize, usize) {
        self.stored.lines()
    }

    #[inline(always)]
    unsafe fn panel(&self, panel: usize) -> *const u8 {
        // SAFETY: the caller's promise.
        unsafe { self.stored.panel(panel) }
    }

    #[inline(always)]
    unsafe fn first<const P: usize>(&self, panel: usize) -> usize {
        // SAFETY: the caller's promise; there are `MANY` rows at least, and the copy has room for the widest tile.
        unsafe {
            if 2 * P <= Self::WIDEST {
                L::apart(Widen::<L, S, 12, P> { widened: self, panel });
                12
            } else {
                L::apart(Widen::<L, S, 6, P> { widened: self, panel });
                6
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<const R: usize, const P: usize>(&self, row: usize, panel: usize, ahead: Ahead) {
        let Product { memory, layer, .. } = self.stored;
        let matrix = Matrix::copied(self.copy, panel);
        // SAFETY: the caller's promise; `first` has left the panels in the copy.
        unsafe { Product::<L, Copied>::new(memory, matrix, layer).tile::<R, P>(row, panel, ahead) }
    }

    #[inline(always)]
    unsafe fn apart<J: Job>(job: J) {
        // SAFETY: the caller's promise.
        unsafe { L::apart(job) }
    }
}

/// The first rows of a few panels, whose weights are left for the others.
struct Widen<'a, L, S, const R: usize, const P: usize> {
    widened: &'a Widened<'a, L, S>,
    panel: usize,
}

impl<L: Lanes, S: Stored, const R: usize, const P: usize> Job for Widen<'_, L, S, R, P> {
    #[inline(always)]
    unsafe fn run(self) {
        let Self { widened, panel } = self;
        // SAFETY: the caller's promise.
        unsafe {
            let ahead = Ahead::new(widened, panel, 0, 0);
            widened.stored.multiply::<R, P>(0, panel, ahead, Some(widened.copy));
        }
    }
}

/// What the sums of a tile start from.
///
/// # Safety
/// As [`Tiled::tile`].
#[inline(always)]
pub(super) unsafe fn starts<L: Lanes, const R: usize, const P: usize>(
    memory: *const f32,
    row: usize,
    panel: usize,
    layer: &Layer<'_>,
) -> [[L; P]; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut starts = [[L::splat(0.0); P]; R];
        match layer.start {
            Start::Zero => {}
            Start::Bias => {
                let mut bias = [L::splat(0.0); P];
                for (p, bias) in bias.iter_mut().enumerate() {
                    *bias = L::load(layer.bias.as_ptr().add((panel + p) * PANEL));
                }
                each_row!(r of R: starts[r] = bias);
            }
            Start::Span(span) if (panel + P) * PANEL <= span.width => {
                let from = memory.add(span.offset + row * span.stride + panel * PANEL);
                each_row!(r of R: for (p, start) in starts[r].iter_mut().enumerate() {
                    *start = L::load(from.add(r * span.stride + p * PANEL));
                });
            }
            Start::Span(span) => {
                let mut parts = starts;
                for (r, parts) in parts.iter_mut().enumerate() {
                    for (p, part) in parts.iter_mut().enumerate() {
                        let column = (panel + p) * PANEL;
                        let from = memory.add(span.offset + (row + r) * span.stride + column);
                        *part = read(from, (span.width - column).min(PANEL));
                    }
                }
                starts = parts;
            }
        }
        starts
    }
}

/// Writes `activation(addend + sums)` of a tile.
///
/// # Safety
/// As [`Tiled::tile`].
#[inline(always)]
pub(super) unsafe fn finish<L: Lanes, const R: usize, const P: usize>(
    memory: *mut f32,
    row: usize,
    panel: usize,
    layer: &Layer<'_>,
    sums: &[[L; P]; R],
) {
    let Layer { addend, output, activation, .. } = *layer;
    let is_whole = (panel + P) * PANEL <= output.width;
    // SAFETY: the caller's promise.
    unsafe {
        let to = memory.add(output.offset + row * output.stride + panel * PANEL);
        match (activation, addend) {
            (Activation::Relu, None) if is_whole => store::<L, R, P>(to, output.stride, Activation::Relu, sums),
            (Activation::Relu, Some(addend)) if is_whole && L::WIDEST == 4 => {
                let from = memory.add(addend.offset + row * addend.stride + panel * PANEL);
                each_row!(r of R: for (p, sum) in sums[r].iter().enumerate() {
                    let value = L::load(from.add(r * addend.stride + p * PANEL)).add(*sum);
                    activate_cheaply(Activation::Relu, value).store(to.add(r * output.stride + p * PANEL));
                });
            }
            (Activation::Identity, None) if is_whole => {
                store::<L, R, P>(to, output.stride, Activation::Identity, sums);
            }
            _ => {
                // A copy, so that the sums of the other cases need no memory.
                let sums = *sums;
                for (r, sums) in sums.iter().enumerate() {
                    for (p, sum) in sums.iter().enumerate() {
                        let column = (panel + p) * PANEL;
                        let count = (output.width - column).min(PANEL);
                        let cell = |span: Span| memory.add(span.offset + (row + r) * span.stride + column);
                        let mut value = *sum;
                        if let Some(addend) = addend {
                            value = read::<L>(cell(addend), count).add(value);
                        }
                        write(activate_cheaply(activation, value), cell(output), count);
                    }
                }
            }
        }
    }
}

/// Writes `activation(sums)` of whole panels. The caller names the activation, so that no vector is tested for its own.
///
/// # Safety
/// As [`Tiled::tile`]; `to` is where the tile begins.
#[inline(always)]
unsafe fn store<L: Lanes, const R: usize, const P: usize>(
    to: *mut f32,
    stride: usize,
    activation: Activation,
    sums: &[[L; P]; R],
) {
    // SAFETY: the caller's promise.
    unsafe {
        each_row!(r of R: for (p, sum) in sums[r].iter().enumerate() {
            activate_cheaply(activation, *sum).store(to.add(r * stride + p * PANEL));
        });
    }
}
