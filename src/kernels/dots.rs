//! Dense layers whose weights are integers or bf16: several products of a column in one 32-bit word.
//!
//! | weights | inputs of a row | a word | a sum |
//! |---|---|---|---|
//! | int8, 127 steps to each side of 0 | 256 steps from the least, or 0, to the largest, or 0 | 4 | exact |
//! | int12, integers of a norm of [`BALANCE`] | as many steps to each side of 0 as the row's norm has room for, at most 32767 | 2 | exact |
//! | int16, 16383 steps to each side of 0 | as many as the norms of its parts have room for, at most 32767 | 2 | exact |
//! | bf16 | rounded to bf16 | 2 | f32 |
//!
//! ```text
//! x ~ (q - z) s    per row: s = (largest - least) / 255, z = round(-least / s); int12: s = largest |x| / steps, z = 0
//! y = activation(addend + fma(f32(sum_k q w - z sum_k w), s t, start))             t is the scale of the output
//! ```
//! Sums have 32 bits, and by Cauchy and Schwarz `|sum_k q w| <= |q| |w|`: a row may have words up to the norm that [`Reach`]
//! gives. One that is nowhere negative may have larger ones, because only weights of one sign add up in it. The integers of an
//! output of int12 have half of the bits of a sum, so that both sides are as fine. Sums of int16 are carried after each part of
//! [`PART`] products: what is above their lower 16 bits goes to a sum of its own, and f32(65536 upper + lower) is rounded once.
//! Within a part sums may wrap: what counts is where they end. The shorter the parts, the larger the words of both sides may be.
//!
//! The rows are quantised once per call, into scratch; a row has the same bits wherever it is computed, because its scale is
//! its own. Integer sums have no order; sums of bf16 are those of the set, whose order and rounding differ. A row that holds
//! NaN or infinity has the scale NaN, and so have its outputs.

use super::Dense;
use super::lanes::{Job, Lanes, chunks, read};
use super::panels::{LINE, PANEL, Panels};
use super::tile::{Ahead, Layer, Tiled, all, each_row, finish, starts};
use std::marker::PhantomData;

/// The most inputs of a layer of integers: so that no sum overflows, and inputs keep 8 bits and more.
pub const MAX_DEPTH: usize = 4096;

/// The norm that the weights of an output have in int12: rows then have room for the same.
pub const BALANCE: f64 = 46_340.0;

/// Bits of a sum that are not carried.
pub const CARRIED: u32 = 16;

/// How many products of int16 are summed before the sum is carried.
pub const PART: usize = 64;

/// 32767 / x may be beyond f32 for a smaller x: a row without a larger element is taken for zeros.
const LEAST: f32 = 1e-34;

/// The most that the words of a row may be, by the Euclidean norm of each part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reach {
    /// Words of a part.
    pub part: usize,
    /// Of a row without negative elements.
    pub positive: f32,
    /// Of any other row.
    pub mixed: f32,
}

impl Reach {
    /// For inputs that are not words.
    pub const NONE: Reach = Reach { part: usize::MAX, positive: f32::INFINITY, mixed: f32::INFINITY };

    /// For weights whose norms are at most these in a part: of all integers, and of those of one sign. Rounding adds up to half
    /// to each word; what is computed in f32 is off by less than one in 100,000.
    pub fn of(part: usize, norm: f64, norm_of_sign: f64) -> Reach {
        let room = f64::from(i32::MAX - ((1 << CARRIED) - 1));
        let most = |norm: f64| ((room / norm.max(1.0) - (part as f64).sqrt() / 2.0) * (1.0 - 1e-5)) as f32;
        Reach { part, positive: most(norm_of_sign), mixed: most(norm) }
    }

    /// For layers that share their words.
    pub fn and(self, other: Reach) -> Reach {
        Reach {
            part: self.part.min(other.part),
            positive: self.positive.min(other.positive),
            mixed: self.mixed.min(other.mixed),
        }
    }

    /// In how many steps from 0 to its largest magnitude a row is quantised whose parts have `norm` at most, in units of that
    /// magnitude.
    #[inline(always)]
    pub fn steps(self, norm: f32, is_positive: bool) -> f32 {
        let most = if is_positive { self.positive } else { self.mixed } / norm;
        if most < MOST_STEPS { most } else { MOST_STEPS }
    }

    /// Whether the squares of a row with this largest magnitude are added up as they are: those of a larger one may be infinite, and
    /// those of a smaller one nothing. All others are of numbers in units of the magnitude.
    #[inline(always)]
    pub fn is_plain(largest: f32) -> bool {
        largest <= LEAST || (1e-12..=1e12).contains(&largest)
    }

    /// 1 / `largest`, or 0 if that is next to nothing.
    #[inline(always)]
    pub fn unit(largest: f32) -> f32 {
        if largest > LEAST { 1.0 / largest } else { 0.0 }
    }
}

/// The largest word.
const MOST_STEPS: f32 = 32767.0;

/// Steps of a row of bytes.
pub const BYTE_STEPS: f32 = 255.0;

/// Four unsigned inputs by four signed weights.
pub struct Bytes;
/// Two signed inputs by two signed weights.
pub struct Words;
/// The words of a row as bytes: the lower halves of all, and behind them the upper halves.
#[cfg(target_arch = "x86_64")]
pub struct Planes;
/// Two inputs by two weights in bf16, one after the other.
pub struct Pairs;
/// The same in one instruction, which rounds as it likes.
#[cfg(target_arch = "x86_64")]
pub struct FusedPairs;

/// What a word holds.
pub trait Kind {
    /// Bytes of an input.
    const SIZE: usize;

    /// Quantises rows, and writes the scale and the zero of each.
    ///
    /// # Safety
    /// As [`Lanes`]; what `rows` says is there, `R` times.
    unsafe fn quantize<L: Lanes, const R: usize>(rows: Few, reach: Reach, scales: *mut f32, zeros: *mut i32);
}

/// The most rows that are quantised together, each step for all of them, so that none waits for the end of another; two where there
/// are not registers for more.
const TOGETHER: usize = 4;

/// Rows of inputs, and where their words go, which has room for a multiple of 64 of each.
#[derive(Clone, Copy)]
pub struct Few {
    pub width: usize,
    from: *const f32,
    stride: usize,
    to: *mut u8,
    /// Bytes from a row to the next.
    row_step: usize,
    /// Bytes from a line of a row to its next.
    line_step: usize,
}

impl Few {
    /// # Safety
    /// It is one of the rows, and the column one of theirs.
    #[inline(always)]
    pub unsafe fn input(self, row: usize, column: usize) -> *const f32 {
        // SAFETY: the caller's promise.
        unsafe { self.from.add(row * self.stride + column) }
    }

    /// Where byte `at` of a row is, and those up to the end of its line.
    ///
    /// # Safety
    /// It is one of the rows, and the byte one of its words.
    #[inline(always)]
    pub unsafe fn word(self, row: usize, at: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.to.add(row * self.row_step + at / LINE * self.line_step + at % LINE) }
    }
}

/// Rows to quantise.
struct Quantize<L, K, const R: usize> {
    rows: Few,
    reach: Reach,
    scales: *mut f32,
    zeros: *mut i32,
    types: PhantomData<(L, K)>,
}

impl<L: Lanes, K: Kind, const R: usize> Job for Quantize<L, K, R> {
    #[inline(always)]
    unsafe fn run(self) {
        // SAFETY: the caller's promise.
        unsafe { K::quantize::<L, R>(self.rows, self.reach, self.scales, self.zeros) }
    }
}

/// [`Kind::quantize`] as a [`Job`].
///
/// # Safety
/// As that.
#[inline(always)]
unsafe fn quantize<L: Lanes, K: Kind, const R: usize>(rows: Few, reach: Reach, scales: *mut f32, zeros: *mut i32) {
    // SAFETY: the caller's promise.
    unsafe { L::apart(Quantize::<L, K, R> { rows, reach, scales, zeros, types: PhantomData }) }
}

/// Elements of rows, 16 at a time: those of a column and the 15 behind it for all rows, then the next ones.
macro_rules! each_chunk {
    ($L:ident, $r:ident of $R:ident, $column:ident from $start:expr, $end:expr, $x:ident of $rows:ident: $body:expr) => {{
        let (mut $column, end) = ($start, $end);
        while $column + 16 <= end {
            each_row!($r of $R: {
                let $x = $L::load($rows.input($r, $column));
                $body
            });
            $column += 16;
        }
        if $column < end {
            each_row!($r of $R: {
                let $x = $L::load_part($rows.input($r, $column), end - $column);
                $body
            });
        }
    }};
}

impl Kind for Bytes {
    const SIZE: usize = 1;

    #[inline(always)]
    unsafe fn quantize<L: Lanes, const R: usize>(rows: Few, _reach: Reach, scales: *mut f32, zeros: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe {
            let [mut least, mut largest, mut taint] = [[L::splat(0.0); R]; 3];
            each_chunk!(L, r of R, column from 0, rows.width, x of rows: {
                (least[r], largest[r]) = (x.min(least[r]), x.max(largest[r]));
                taint[r] = x.fma(L::splat(0.0), taint[r]);
            });
            let [mut factors, mut shifts] = [[L::splat(0.0); R]; 2];
            each_row!(r of R: {
                let (least, largest) = (-least[r].negate().largest(), largest[r].largest());
                let range = largest - least;
                let per_step = if range > 0.0 { BYTE_STEPS / range } else { 0.0 };
                let zero = (-least * per_step).round_ties_even();
                (factors[r], shifts[r]) = (L::splat(per_step), L::splat(zero));
                *scales.add(r) = range / BYTE_STEPS + taint[r].tree();
                *zeros.add(r) = zero as i32;
            });
            each_chunk!(L, r of R, column from 0, rows.width, x of rows: {
                x.fma(factors[r], shifts[r]).store_bytes(rows.word(r, column));
            });
        }
    }
}

impl Kind for Words {
    const SIZE: usize = 2;

    #[inline(always)]
    unsafe fn quantize<L: Lanes, const R: usize>(rows: Few, reach: Reach, scales: *mut f32, zeros: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe {
            let factors = factors_of_words::<L, R>(rows, reach, scales, zeros);
            each_chunk!(L, r of R, column from 0, rows.width, x of rows: {
                x.mul(factors[r]).store_words(rows.word(r, 2 * column).cast());
            });
        }
    }
}

/// What the inputs of each row are multiplied by to be words. Writes what a word stands for.
///
/// # Safety
/// As [`Kind::quantize`].
#[inline(always)]
unsafe fn factors_of_words<L: Lanes, const R: usize>(
    rows: Few,
    reach: Reach,
    scales: *mut f32,
    zeros: *mut i32,
) -> [L; R] {
    // SAFETY: the caller's promise.
    unsafe {
        let [mut least, mut most] = [[L::splat(0.0); R]; 2];
        let [mut longest, mut taint] = [[0.0f32; R]; 2];
        let mut first = 0;
        while first < rows.width {
            let end = first.saturating_add(reach.part).min(rows.width);
            let mut squares = [L::splat(0.0); R];
            each_chunk!(L, r of R, column from first, end, x of rows: {
                (least[r], most[r]) = (x.min(least[r]), x.max(most[r]));
                squares[r] = x.fma(x, squares[r]);
            });
            each_row!(r of R: {
                let square = squares[r].tree();
                longest[r] = if square > longest[r] { square } else { longest[r] };
                taint[r] += square * 0.0;
            });
            first = end;
        }
        let mut factors = [L::splat(0.0); R];
        each_row!(r of R: {
            let (below, above) = (least[r].negate().largest(), most[r].largest());
            let largest = if below > above { below } else { above };
            let unit = Reach::unit(largest);
            let mut norm = longest[r].sqrt() * unit;
            if !Reach::is_plain(largest) {
                [norm, taint[r]] = norm_of_units::<L>(rows, r, reach.part, unit);
            }
            let steps = reach.steps(norm, below <= 0.0);
            factors[r] = L::splat(steps * unit);
            *scales.add(r) = largest / steps + taint[r];
            *zeros.add(r) = 0;
        });
        factors
    }
}

/// The norm of the longest part of a row in units of its largest element, and NaN if the row holds NaN or infinity, else 0.
///
/// # Safety
/// As [`Kind::quantize`]; it is one of the rows.
#[inline(always)]
unsafe fn norm_of_units<L: Lanes>(rows: Few, row: usize, part: usize, unit: f32) -> [f32; 2] {
    let [mut longest, mut taint] = [0.0f32; 2];
    for first in (0..rows.width).step_by(part) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut squares = L::splat(0.0);
            for (column, count) in chunks((rows.width - first).min(part)) {
                let x = read::<L>(rows.input(row, first + column), count).mul(L::splat(unit));
                squares = x.fma(x, squares);
            }
            let square = squares.tree();
            longest = if square > longest { square } else { longest };
            taint += square * 0.0;
        }
    }
    [longest.sqrt(), taint]
}

impl Kind for Pairs {
    const SIZE: usize = 2;

    #[inline(always)]
    unsafe fn quantize<L: Lanes, const R: usize>(rows: Few, _reach: Reach, scales: *mut f32, zeros: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe {
            each_chunk!(L, r of R, column from 0, rows.width, x of rows: {
                x.store_bf16(rows.word(r, 2 * column).cast());
            });
            each_row!(r of R: {
                for column in (rows.width.next_multiple_of(16)..rows.width.next_multiple_of(64)).step_by(16) {
                    L::splat(0.0).store_bf16(rows.word(r, 2 * column).cast());
                }
                *scales.add(r) = 1.0;
                *zeros.add(r) = 0;
            });
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl Kind for Planes {
    const SIZE: usize = Words::SIZE;

    #[inline(always)]
    unsafe fn quantize<L: Lanes, const R: usize>(rows: Few, reach: Reach, scales: *mut f32, zeros: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe {
            let factors = factors_of_words::<L, R>(rows, reach, scales, zeros);
            let apart = rows.width.next_multiple_of(64);
            each_chunk!(L, r of R, column from 0, rows.width, x of rows: {
                x.mul(factors[r]).store_planes(rows.word(r, column), rows.word(r, apart + column));
            });
        }
    }
}

/// The two bf16 of a word.
///
/// # Safety
/// Four bytes can be read.
#[inline(always)]
pub unsafe fn pair(word: *const u8) -> [f32; 2] {
    // SAFETY: the caller's promise.
    let bits = unsafe { word.cast::<u32>().read_unaligned() };
    [f32::from_bits(bits << 16), f32::from_bits(bits & 0xffff_0000)]
}

/// Sums of products of one kind, 16 outputs at a time.
///
/// # Safety
/// All methods: as [`Lanes`].
pub trait Dot<K>: Lanes {
    /// The sums of 16 outputs.
    type Sums: Copy;
    /// A word of weights of 16 outputs, as the products want it.
    type Line: Copy;
    /// Rows of a tile.
    const ROWS: usize;
    /// Panels side by side in a tile of so many rows.
    const WIDEST: usize;

    unsafe fn none() -> Self::Sums;
    /// The 64 bytes at `from`.
    unsafe fn line(from: *const u8) -> Self::Line;
    /// Adds the products of the line with the word of inputs at `word`.
    unsafe fn dot(sums: Self::Sums, line: &Self::Line, word: *const u8) -> Self::Sums;
    /// The lower [`CARRIED`] bits of the sums, and `uppers` plus what is above them.
    unsafe fn carry(sums: Self::Sums, uppers: Self::Sums) -> [Self::Sums; 2] {
        [sums, uppers]
    }

    /// [`super::lanes::Set::apart`], with what the products need beyond the set.
    #[inline(always)]
    unsafe fn apart_of<J: Job>(job: J) {
        // SAFETY: the caller's promise.
        unsafe { Self::apart(job) }
    }

    /// The sums less `zero` times the 16 `totals`, as f32; with their upper parts, if they were carried.
    unsafe fn floats(sums: Self::Sums, uppers: Option<Self::Sums>, zero: i32, totals: *const i32) -> Self;
}

/// f32 of scratch that a call of `rows` rows of `depth` inputs needs, for inputs of `size` bytes.
pub fn scratch(size: usize, depth: usize, rows: usize) -> usize {
    rows.next_multiple_of(BLOCK).saturating_mul(row_words(size, depth) + 2)
}

/// Rows that a tile register reads together.
pub const BLOCK: usize = 16;

/// 32-bit words of a quantised row: whole cache lines.
fn row_words(size: usize, depth: usize) -> usize {
    depth.next_multiple_of(64) * size / 4
}

/// The layers of bf16.
///
/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn pairs<L: Dot<Pairs>>(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
    // SAFETY: the caller's promise, handed on.
    unsafe { dense::<L, Pairs, false>(memory, rows, call) }
}

/// `CARRIES`: sums are carried after each part.
///
/// # Safety
/// As [`super::list::Functions`].
#[inline(always)]
pub unsafe fn dense<L: Dot<K>, K: Kind, const CARRIES: bool>(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
    let memory = memory.as_mut_ptr();
    // SAFETY: rows and panels are those of the call, whose spans and scratch were checked.
    unsafe {
        let inputs = Rows::quantize::<L, K, false>(memory, rows, call);
        let words = (call.input.width * K::SIZE).div_ceil(4);
        let (layer, weights) = (Layer::of(call), call.weights);
        let product = Product::<L, K, CARRIES> {
            memory,
            layer,
            inputs,
            words,
            weights,
            from: weights.weights(),
            types: PhantomData,
        };
        all(&product, rows, call.output.width.div_ceil(PANEL));
    }
}

/// Sums of the rows and panels of a tile.
type Tile<S, const R: usize, const P: usize> = [[S; P]; R];

/// The quantised rows of a call: one behind the other, or, for tile registers, in blocks of [`BLOCK`], of which the first lines of
/// all rows lie together, then the second ones, and so on.
#[derive(Clone, Copy)]
pub struct Rows {
    from: *const u8,
    /// Bytes of a row.
    pub row_bytes: usize,
    scales: *const f32,
    zeros: *const i32,
    /// 1, or 0 if all read one row.
    next: usize,
}

impl Rows {
    /// Quantises the rows of a call into its scratch, in blocks or not.
    ///
    /// # Safety
    /// As [`super::list::Functions`].
    #[inline(always)]
    pub unsafe fn quantize<L: Lanes, K: Kind, const IN_BLOCKS: bool>(
        memory: *mut f32,
        rows: usize,
        call: &Dense<'_>,
    ) -> Rows {
        let Dense { input, scratch, reach, is_quantized, .. } = *call;
        let stride = row_words(K::SIZE, input.width);
        let different = if input.stride == 0 { rows.min(1) } else { rows };
        let blocks = different.next_multiple_of(BLOCK);
        // SAFETY: the caller's promise.
        unsafe {
            let words = memory.add(scratch.offset);
            let (scales, zeros) = (words.add(stride * blocks), words.add((stride + 1) * blocks).cast::<i32>());
            let few = |first: usize| Few {
                width: input.width,
                from: memory.add(input.offset + first * input.stride),
                stride: input.stride,
                to: if IN_BLOCKS {
                    words.add(first / BLOCK * BLOCK * stride + first % BLOCK * (LINE / 4)).cast()
                } else {
                    words.add(first * stride).cast()
                },
                row_step: if IN_BLOCKS { LINE } else { stride * 4 },
                line_step: if IN_BLOCKS { BLOCK * LINE } else { LINE },
            };
            let mut first = if is_quantized { different } else { 0 };
            while L::WIDEST >= TOGETHER && first + TOGETHER <= different {
                quantize::<L, K, TOGETHER>(few(first), reach, scales.add(first), zeros.add(first));
                first += TOGETHER;
            }
            while first + 2 <= different {
                quantize::<L, K, 2>(few(first), reach, scales.add(first), zeros.add(first));
                first += 2;
            }
            if first < different {
                quantize::<L, K, 1>(few(first), reach, scales.add(first), zeros.add(first));
            }
            let next = usize::from(input.stride != 0);
            Rows { from: words.cast_const().cast(), row_bytes: stride * 4, scales, zeros, next }
        }
    }

    /// Where a row begins, or the block of which it is the first one.
    ///
    /// # Safety
    /// It is a row of the call, the first one of its block if they lie in such.
    #[inline(always)]
    pub unsafe fn row(&self, row: usize) -> *const u8 {
        // SAFETY: the caller's promise.
        unsafe { self.from.add(row * self.next * self.row_bytes) }
    }

    /// Writes the outputs of a tile with these sums and, if they were carried, their upper parts.
    ///
    /// # Safety
    /// As [`Tiled::tile`].
    #[inline(always)]
    pub unsafe fn finish<L: Dot<K>, K, const R: usize, const P: usize>(
        &self,
        memory: *mut f32,
        row: usize,
        panel: usize,
        layer: &Layer<'_>,
        weights: &Panels,
        (sums, uppers): (Tile<L::Sums, R, P>, Option<Tile<L::Sums, R, P>>),
    ) {
        // SAFETY: the caller's promise; scales and totals are as long as the panels are wide.
        unsafe {
            let mut ends = starts::<L, R, P>(memory, row, panel, layer);
            each_row!(r of R: {
                let place = (row + r) * self.next;
                let (scale, zero) = (L::splat(*self.scales.add(place)), *self.zeros.add(place));
                for p in 0..P {
                    let column = (panel + p) * PANEL;
                    let factor = scale.mul(L::load(weights.scales().as_ptr().add(column)));
                    let totals = weights.totals().as_ptr().add(column);
                    let sum = match &uppers {
                        Some(uppers) => L::floats(sums[r][p], Some(uppers[r][p]), zero, totals),
                        None => L::floats(sums[r][p], None, zero, totals),
                    };
                    ends[r][p] = sum.fma(factor, ends[r][p]);
                }
            });
            finish(memory, row, panel, layer, &ends);
        }
    }
}

/// A layer over quantised rows, each of so many words.
struct Product<'a, L, K, const CARRIES: bool> {
    memory: *mut f32,
    layer: Layer<'a>,
    inputs: Rows,
    words: usize,
    weights: &'a Panels,
    /// Where the first panel begins.
    from: *const u8,
    types: PhantomData<(L, K)>,
}

impl<L: Dot<K>, K: Kind, const CARRIES: bool> Tiled for Product<'_, L, K, CARRIES> {
    const ROWS: usize = <L as Dot<K>>::ROWS;
    const WIDEST: usize = <L as Dot<K>>::WIDEST;

    #[inline(always)]
    fn lines(&self) -> (usize, usize) {
        (self.words, 64)
    }

    #[inline(always)]
    unsafe fn panel(&self, panel: usize) -> *const u8 {
        // SAFETY: the caller's promise.
        unsafe { self.from.add(panel * self.weights.panel_bytes()) }
    }

    #[inline(always)]
    unsafe fn tile<const R: usize, const P: usize>(&self, row: usize, panel: usize, ahead: Ahead) {
        // SAFETY: the caller's promise; weights and rows have as many words.
        unsafe {
            let panel_bytes = self.weights.panel_bytes();
            let from = self.panel(panel);
            let (inputs, row_bytes) = (self.inputs.row(row), self.inputs.row_bytes * self.inputs.next);
            let (mut sums, mut uppers) = ([[L::none(); P]; R], [[L::none(); P]; R]);
            let part = if CARRIES { self.weights.part() * K::SIZE / 4 } else { self.words };
            let (mut word, mut end) = (0, part.min(self.words));
            loop {
                while word < end {
                    if Self::PREFETCHES && R > 2 {
                        ahead.ask::<L>(word);
                    }
                    let mut lines = [L::line(from.add(word * 64)); P];
                    for (p, line) in lines.iter_mut().enumerate().skip(1) {
                        *line = L::line(from.add(p * panel_bytes + word * 64));
                    }
                    each_row!(r of R: {
                        let input = inputs.add(r * row_bytes + word * 4);
                        for p in 0..P {
                            sums[r][p] = L::dot(sums[r][p], &lines[p], input);
                        }
                    });
                    word += 1;
                }
                if end == self.words {
                    break;
                }
                each_row!(r of R: for p in 0..P { [sums[r][p], uppers[r][p]] = L::carry(sums[r][p], uppers[r][p]); });
                end = (end + part).min(self.words);
            }
            let uppers = if CARRIES { Some(uppers) } else { None };
            self.inputs.finish::<L, K, R, P>(self.memory, row, panel, &self.layer, self.weights, (sums, uppers));
        }
    }

    #[inline(always)]
    unsafe fn apart<J: Job>(job: J) {
        // SAFETY: the caller's promise.
        unsafe { L::apart_of(job) }
    }
}
