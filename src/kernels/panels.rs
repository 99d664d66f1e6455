//! Dense weights as kernels read them.
//!
//! A panel is 16 outputs wide: for each `k`, 16 consecutive weights; where several inputs of an output lie together, for each
//! such group 16 consecutive groups, and what the last has too many is zero. Panels follow each other; the outputs that the last
//! one has too many are zero. Each panel begins at a multiple of 64 bytes.
//!
//! This is so on every instruction set, so that a file may hold the panels of a layer: [`Panels::to_bytes`] is all that was computed
//! for them, and [`Panels::of`] reads the weights where they lie.

use super::dots::{self, Reach};
use super::room::{HUGE_PAGE, Room};
use super::tile;
use half::{bf16, f16};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The type of stored tensors and table rows, which are widened to f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F32,
    F16,
    Bf16,
    /// Signed bytes; each row has a scale.
    Int8,
    /// Two's complement, two a byte, the lower half first; each row has a scale and an even width.
    Int4,
}

impl Element {
    /// Bytes of a row.
    pub fn row_bytes(self, width: usize) -> usize {
        match self {
            Element::F32 => width * 4,
            Element::F16 | Element::Bf16 => width * 2,
            Element::Int8 => width,
            Element::Int4 => width / 2,
        }
    }

    /// Whether rows have scales.
    pub fn is_scaled(self) -> bool {
        matches!(self, Element::Int8 | Element::Int4)
    }

    /// Bytes of the scale of a row, an f32.
    pub fn scale_bytes(self) -> usize {
        if self.is_scaled() { size_of::<f32>() } else { 0 }
    }

    pub fn name(self) -> &'static str {
        match self {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::Bf16 => "bf16",
            Element::Int8 => "int8",
            Element::Int4 => "int4",
        }
    }
}

/// Outputs per panel.
pub const PANEL: usize = 16;

/// Bytes of a cache line.
pub const LINE: usize = 64;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; LINE]);

const _: () = assert!(size_of::<Line>() == LINE);

/// The weights could not be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfMemory {
    bytes: usize,
}

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes for packed weights cannot be reserved", self.bytes)
    }
}

/// Why bytes are not the panels of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    OutOfMemory(OutOfMemory),
    /// Not as many as the layer needs.
    Length {
        bytes: usize,
        needed: usize,
    },
    /// A weight, a bias or a scale is not finite, or an integer beyond its type.
    Number,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::OutOfMemory(error) => error.fmt(f),
            Unfit::Length { bytes, needed } => write!(f, "has {bytes} bytes, the packed layer needs {needed}"),
            Unfit::Number => f.write_str("has a number that no packed layer has"),
        }
    }
}

/// Bytes that somebody else holds, at an address that does not change.
pub type SharedBytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// Whole cache lines.
enum Lines {
    Own(Vec<Line>),
    /// Some of the bytes of a file, or of memory that other layers lie in too. They begin at a multiple of 64.
    Shared {
        bytes: SharedBytes,
        lines: Range<usize>,
        is_file: bool,
    },
}

impl Lines {
    /// Zeros.
    fn zeros(count: usize) -> Option<Self> {
        let mut lines = Vec::new();
        reserve(&mut lines, count, Line([0; 64]))?;
        Some(Lines::Own(lines))
    }

    fn len(&self) -> usize {
        match self {
            Lines::Own(lines) => lines.len(),
            Lines::Shared { lines, .. } => lines.len(),
        }
    }

    fn line(&self, number: usize) -> &[u8; 64] {
        match self {
            Lines::Own(lines) => &lines[number].0,
            Lines::Shared { bytes, lines, .. } => &(**bytes).as_ref().as_chunks().0[lines.start + number],
        }
    }

    fn all(&self) -> impl Iterator<Item = &[u8; 64]> {
        let (own, shared) = match self {
            Lines::Own(lines) => (&lines[..], &[][..]),
            Lines::Shared { bytes, lines, .. } => (&[][..], &(**bytes).as_ref().as_chunks().0[lines.clone()]),
        };
        own.iter().map(|line| &line.0).chain(shared)
    }

    fn start(&self) -> *const u8 {
        match self {
            Lines::Own(lines) => lines.as_ptr().cast(),
            Lines::Shared { bytes, lines, .. } => (**bytes).as_ref()[lines.start * LINE..].as_ptr(),
        }
    }

    /// Bytes that are nobody else's.
    fn own_bytes(&self) -> usize {
        match self {
            Lines::Own(lines) => size_of_val(lines.as_slice()),
            Lines::Shared { is_file: true, .. } => 0,
            Lines::Shared { lines, .. } => lines.len() * LINE,
        }
    }
}

/// The type of the weights of a dense layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    F32,
    F16,
    /// In pairs of inputs, which are rounded to bf16 too.
    Bf16,
    /// In pairs of inputs, as 16-bit integers and a scale per output: as large as sums that are never carried allow.
    Int12,
    /// The same with 15 significant bits.
    Int16,
    /// In quadruples of inputs, with a scale per output.
    Int8,
}

impl Weight {
    pub const ALL: [Weight; 6] = [Weight::F32, Weight::F16, Weight::Bf16, Weight::Int12, Weight::Int16, Weight::Int8];

    /// Weights that lie together for each output, and bytes of each.
    fn layout(self) -> (usize, usize) {
        match self {
            Weight::F32 => (1, 4),
            Weight::F16 => (1, 2),
            Weight::Bf16 | Weight::Int12 | Weight::Int16 => (2, 2),
            Weight::Int8 => (4, 1),
        }
    }

    /// The largest integer; 0 for floats.
    pub fn largest(self) -> i32 {
        match self {
            Weight::F32 | Weight::F16 | Weight::Bf16 => 0,
            Weight::Int12 | Weight::Int16 => 16383,
            Weight::Int8 => 127,
        }
    }

    /// In how many steps from 0 to its largest magnitude a column is held.
    fn steps(self, column: &[f32], largest: f32) -> f64 {
        let most = f64::from(self.largest());
        if self != Weight::Int12 || largest == 0.0 {
            return most;
        }
        let squares: f64 = column.iter().map(|value| (f64::from(*value) / f64::from(largest)).powi(2)).sum();
        most.min(dots::BALANCE / squares.sqrt())
    }

    /// Whether a line may be part of panels: floats are finite, integers within [`Weight::largest`].
    fn holds(self, line: &[u8; 64]) -> bool {
        let largest = self.largest().unsigned_abs();
        match self {
            Weight::F32 => line.as_chunks().0.iter().all(|bytes| f32::from_le_bytes(*bytes).is_finite()),
            Weight::F16 => line.as_chunks().0.iter().all(|bytes| f16::from_le_bytes(*bytes).is_finite()),
            Weight::Bf16 => line.as_chunks().0.iter().all(|bytes| bf16::from_le_bytes(*bytes).is_finite()),
            Weight::Int12 | Weight::Int16 => {
                let words = line.as_chunks().0.iter();
                words.fold(true, |fits, word| fits & (u32::from(i16::from_le_bytes(*word).unsigned_abs()) <= largest))
            }
            Weight::Int8 => line.iter().fold(true, |fits, byte| fits & (*byte != i8::MIN as u8)),
        }
    }

    /// f32 of scratch that a dense layer of `depth` inputs needs for `rows` rows.
    pub fn scratch(self, depth: usize, rows: usize) -> usize {
        match self {
            Weight::F32 => 0,
            Weight::F16 => tile::scratch(depth, rows),
            Weight::Bf16 | Weight::Int12 | Weight::Int16 => dots::scratch(2, depth, rows),
            Weight::Int8 => dots::scratch(1, depth, rows),
        }
    }

    /// The most inputs of a layer.
    pub fn max_depth(self) -> usize {
        match self {
            Weight::Int8 | Weight::Int12 | Weight::Int16 => dots::MAX_DEPTH,
            Weight::F32 | Weight::F16 | Weight::Bf16 => usize::MAX,
        }
    }
}

/// A packed layer: weights in panels, and a bias as long as they are wide.
pub struct Panels {
    weight_type: Weight,
    depth: usize,
    columns: usize,
    weights: Lines,
    planes: Lines,
    bias: Vec<f32>,
    /// Of each output, as long as the bias: what an integer stands for. Ones for floats.
    scales: Vec<f32>,
    /// Of each output: the sum of its integers.
    totals: Vec<i32>,
    reach: Reach,
}

impl Panels {
    /// Packs `weight(column, k)` for `columns` outputs and `depth` inputs, rounded to `weight_type`. No bias is a zero bias.
    ///
    /// # Errors
    /// If memory cannot be reserved.
    pub fn pack(
        weight_type: Weight,
        depth: usize,
        columns: usize,
        weight: impl Fn(usize, usize) -> f32,
        bias: Option<&[f32]>,
    ) -> Result<Self, OutOfMemory> {
        let mut panels = Self::zeros(weight_type, depth, columns, bias)?;
        for column in 0..columns {
            if weight_type.largest() > 0 {
                let values: Vec<f32> = (0..depth).map(|k| weight(column, k)).collect();
                let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
                let steps = weight_type.steps(&values, largest);
                let per_step = if largest > 0.0 { steps / f64::from(largest) } else { 0.0 };
                let integer = |k: usize| (f64::from(values[k]) * per_step).round_ties_even() as i32;
                panels.set_integers(column, integer, (f64::from(largest) / steps) as f32);
                continue;
            }
            for k in 0..depth {
                let value = weight(column, k);
                match weight_type {
                    Weight::F16 => panels.set(column, k, f16::from_f32(value).to_ne_bytes()),
                    Weight::Bf16 => panels.set(column, k, bf16::from_f32(value).to_ne_bytes()),
                    _ => panels.set(column, k, value.to_ne_bytes()),
                }
            }
        }
        panels.measure();
        Ok(panels)
    }

    /// Packs a layer of integers as they are: `integer(column, k)`, at most [`Weight::largest`] of a type that has one, stands
    /// for itself times the scale of its column. No bias is a zero bias.
    ///
    /// # Errors
    /// If memory cannot be reserved.
    pub fn pack_integers(
        weight_type: Weight,
        depth: usize,
        columns: usize,
        integer: impl Fn(usize, usize) -> i32,
        scales: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self, OutOfMemory> {
        let mut panels = Self::zeros(weight_type, depth, columns, bias)?;
        for (column, scale) in (0..columns).zip(scales) {
            panels.set_integers(column, |k| integer(column, k), *scale);
        }
        panels.measure();
        Ok(panels)
    }

    /// The panels that [`Panels::to_bytes`] gave, read where they are if that is a multiple of 64 bytes, else from a copy.
    ///
    /// # Errors
    /// See [`Unfit`].
    pub fn of(weight_type: Weight, depth: usize, columns: usize, bytes: SharedBytes) -> Result<Self, Unfit> {
        let mut panels = Self::empty(weight_type, depth, columns).map_err(Unfit::OutOfMemory)?;
        let (count, padded) = (panels.lines(), panels.bias.len());
        let given = (*bytes).as_ref();
        let needed = count * 64 + panels.numbers() * padded * size_of::<f32>();
        if given.len() != needed {
            return Err(Unfit::Length { bytes: given.len(), needed });
        }
        let (lines, numbers) = given.split_at(count * 64);
        let numbers = numbers.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        for (to, number) in panels.bias.iter_mut().chain(&mut panels.scales).zip(numbers) {
            *to = number;
        }
        panels.weights = if lines.as_ptr().addr().is_multiple_of(size_of::<Line>()) {
            Lines::Shared { bytes, lines: 0..count, is_file: true }
        } else {
            let mut copy = Vec::new();
            let out_of_memory = OutOfMemory { bytes: count * 64 };
            reserve(&mut copy, count, Line([0; 64])).ok_or(Unfit::OutOfMemory(out_of_memory))?;
            for (to, line) in copy.iter_mut().zip(lines.as_chunks().0) {
                to.0 = *line;
            }
            Lines::Own(copy)
        };
        let is_finite = panels.bias.iter().chain(&panels.scales).all(|number| number.is_finite());
        if is_finite && panels.weights.all().all(|line| weight_type.holds(line)) {
            panels.measure();
            Ok(panels)
        } else {
            Err(Unfit::Number)
        }
    }

    /// Moves the weights and planes of layers that no file holds next to each other, into memory whose pages may be huge: a request
    /// with few candidates reads them once, and would wait for an entry of the page table at every 4 KiB. Less than a huge page
    /// stays where it is, and so does all where memory lacks.
    pub fn gather<'a>(layers: impl IntoIterator<Item = &'a mut Panels>) {
        let (weights, planes): (Vec<_>, Vec<_>) =
            layers.into_iter().map(|layer| (&mut layer.weights, &mut layer.planes)).unzip();
        let own: Vec<_> = weights.into_iter().chain(planes).filter(|lines| matches!(lines, Lines::Own(_))).collect();
        let total: usize = own.iter().map(|lines| lines.len()).sum();
        if total * LINE < HUGE_PAGE {
            return;
        }
        let Some(mut room) = Room::new(total * LINE) else { return };
        for (to, line) in room.bytes_mut().as_chunks_mut().0.iter_mut().zip(own.iter().flat_map(|lines| lines.all())) {
            *to = *line;
        }
        let bytes: SharedBytes = Arc::new(room);
        let mut at = 0;
        for lines in own {
            let end = at + lines.len();
            *lines = Lines::Shared { bytes: bytes.clone(), lines: at..end, is_file: false };
            at = end;
        }
    }

    /// Weights, bias and, of integers, scales: all that is not made of them at open.
    pub fn to_bytes(&self) -> Vec<u8> {
        let scales = if self.numbers() > 1 { &self.scales[..] } else { &[] };
        let numbers = self.bias.iter().chain(scales).flat_map(|number| number.to_le_bytes());
        self.weights.all().flatten().copied().chain(numbers).collect()
    }

    /// How many f32 go with each output.
    fn numbers(&self) -> usize {
        if self.weight_type.largest() > 0 { 2 } else { 1 }
    }

    fn lines(&self) -> usize {
        self.panel_bytes() / 64 * (self.bias.len() / PANEL)
    }

    /// Zeros.
    fn zeros(weight_type: Weight, depth: usize, columns: usize, bias: Option<&[f32]>) -> Result<Self, OutOfMemory> {
        let mut panels = Self::empty(weight_type, depth, columns)?;
        let lines = panels.lines();
        panels.weights = Lines::zeros(lines).ok_or(OutOfMemory { bytes: lines * 64 })?;
        for (bias, given) in panels.bias.iter_mut().zip(bias.unwrap_or_default()) {
            *bias = *given;
        }
        Ok(panels)
    }

    /// Without weights.
    fn empty(weight_type: Weight, depth: usize, columns: usize) -> Result<Self, OutOfMemory> {
        let padded = columns.next_multiple_of(PANEL);
        let mut panels = Self {
            weight_type,
            depth,
            columns,
            weights: Lines::Own(Vec::new()),
            planes: Lines::Own(Vec::new()),
            bias: Vec::new(),
            scales: Vec::new(),
            totals: Vec::new(),
            reach: Reach::NONE,
        };
        let out_of_memory = OutOfMemory { bytes: padded * 12 };
        reserve(&mut panels.bias, padded, 0.0).ok_or(out_of_memory)?;
        reserve(&mut panels.scales, padded, 1.0).ok_or(out_of_memory)?;
        reserve(&mut panels.totals, padded, 0).ok_or(out_of_memory)?;
        Ok(panels)
    }

    fn set_integers(&mut self, column: usize, integer: impl Fn(usize) -> i32, scale: f32) {
        for k in 0..self.depth {
            match self.weight_type {
                Weight::Int8 => self.set(column, k, (integer(k) as i8).to_ne_bytes()),
                _ => self.set(column, k, (integer(k) as i16).to_ne_bytes()),
            }
        }
        self.scales[column] = scale;
    }

    /// The totals of the integers, and how far their inputs may reach so that no sum passes 32 bits before it is carried.
    fn measure(&mut self) {
        if self.weight_type.largest() == 0 {
            return;
        }
        let (part, panel_lines) = (self.part(), self.panel_bytes() / 64);
        let (together, _) = self.weight_type.layout();
        // The most squares of a part, and of those of one sign.
        let [mut most, mut most_of_sign] = [0u64; 2];
        for (panel, totals) in self.totals.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            let [mut below, mut above] = [[0u64; PANEL]; 2];
            let lines = self.weights.all().skip(panel * panel_lines).take(panel_lines);
            for (group, line) in lines.enumerate() {
                if (group * together).is_multiple_of(part) {
                    [below, above] = [[0; PANEL]; 2];
                }
                if together == 4 {
                    for (total, bytes) in totals.iter_mut().zip(line.as_chunks::<4>().0) {
                        *total += bytes.iter().map(|byte| i32::from(*byte as i8)).sum::<i32>();
                    }
                    continue;
                }
                for (lane, bytes) in line.as_chunks::<4>().0.iter().enumerate() {
                    for word in bytes.as_chunks().0 {
                        let word = i32::from(i16::from_le_bytes(*word));
                        totals[lane] += word;
                        below[lane] += word.min(0).pow(2) as u64;
                        above[lane] += word.max(0).pow(2) as u64;
                    }
                    most = most.max(below[lane] + above[lane]);
                    most_of_sign = most_of_sign.max(below[lane]).max(above[lane]);
                }
            }
        }
        if together == 2 {
            self.reach = Reach::of(part, (most as f64).sqrt(), (most_of_sign as f64).sqrt());
        }
    }

    fn set<const N: usize>(&mut self, column: usize, k: usize, bytes: [u8; N]) {
        let (number, at) = self.place(column, k);
        if let Lines::Own(lines) = &mut self.weights {
            lines[number].0[at..at + N].copy_from_slice(&bytes);
        }
    }

    pub fn weight_type(&self) -> Weight {
        self.weight_type
    }

    /// How many products of integers are summed before the sum is carried.
    pub fn part(&self) -> usize {
        match self.weight_type {
            Weight::Int16 => dots::PART,
            _ => dots::MAX_DEPTH,
        }
    }

    /// Inputs.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Outputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes of the layer as it is read.
    pub fn bytes(&self) -> usize {
        self.own_bytes() + self.weights.len() * 64 - self.weights.own_bytes()
    }

    /// Those of them that are held here.
    pub fn own_bytes(&self) -> usize {
        let integers = if self.weight_type.largest() > 0 { 3 } else { 1 };
        let weights = self.weights.own_bytes() + self.planes.own_bytes();
        weights + integers * size_of_val(self.bias.as_slice())
    }

    /// The bias, padded to whole panels.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// What an integer of each output stands for, padded to whole panels.
    pub fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// The sum of the integers of each output, padded to whole panels.
    pub fn totals(&self) -> &[i32] {
        &self.totals
    }

    /// How far the words of the inputs may reach.
    pub fn reach(&self) -> Reach {
        self.reach
    }

    /// The weights; panel `p` begins `p * panel_bytes()` bytes later.
    pub fn weights(&self) -> *const u8 {
        self.weights.start()
    }

    pub fn panel_bytes(&self) -> usize {
        let (together, size) = self.weight_type.layout();
        let bytes = self.depth.next_multiple_of(together) * PANEL * size;
        // A tile register holds 16 lines.
        if together == 1 { bytes.next_multiple_of(64) } else { bytes.next_multiple_of(1024) }
    }

    /// Of int12 and int16, where it was asked for: for each panel the lower bytes of all weights, in quadruples of inputs, and then the
    /// upper ones, `plane_bytes()` later.
    pub fn planes(&self) -> *const u8 {
        self.planes.start()
    }

    /// Whether no planes are missing.
    pub fn has_planes(&self) -> bool {
        !matches!(self.weight_type, Weight::Int12 | Weight::Int16) || self.planes.len() == self.lines_of_planes()
    }

    pub fn plane_bytes(&self) -> usize {
        self.depth.next_multiple_of(64) * PANEL
    }

    fn lines_of_planes(&self) -> usize {
        2 * self.plane_bytes() / LINE * (self.bias.len() / PANEL)
    }

    /// Adds what [`Panels::planes`] returns.
    ///
    /// # Errors
    /// If memory cannot be reserved.
    pub fn add_planes(&mut self) -> Result<(), OutOfMemory> {
        let (plane_lines, lines) = (self.plane_bytes() / LINE, self.lines_of_planes());
        let mut planes = Vec::new();
        reserve(&mut planes, lines, Line([0; 64])).ok_or(OutOfMemory { bytes: lines * 64 })?;
        for (column, k) in (0..self.columns).flat_map(|column| (0..self.depth).map(move |k| (column, k))) {
            let (line, at) = (column / PANEL * 2 * plane_lines + k / 4, column % PANEL * 4 + k % 4);
            let [low, high] = (self.weight(column, k) as i16).to_le_bytes();
            planes[line].0[at] = low;
            planes[line + plane_lines].0[at] = high;
        }
        self.planes = Lines::Own(planes);
        Ok(())
    }

    /// The line and the byte in it where a weight is.
    fn place(&self, column: usize, k: usize) -> (usize, usize) {
        let (together, size) = self.weight_type.layout();
        let lane = column % PANEL * together + k % together;
        let byte = (k / together * together * PANEL + lane) * size;
        ((column / PANEL) * (self.panel_bytes() / 64) + byte / 64, byte % 64)
    }

    /// One weight as f32, an integer as that: what `scalar` reads.
    pub fn weight(&self, column: usize, k: usize) -> f32 {
        let (line, at) = self.place(column, k);
        let line = self.weights.line(line);
        let pair = || [line[at], line[at + 1]];
        match self.weight_type {
            Weight::F32 => f32::from_ne_bytes([line[at], line[at + 1], line[at + 2], line[at + 3]]),
            Weight::F16 => f16::from_ne_bytes(pair()).to_f32(),
            Weight::Bf16 => bf16::from_ne_bytes(pair()).to_f32(),
            Weight::Int12 | Weight::Int16 => f32::from(i16::from_ne_bytes(pair())),
            Weight::Int8 => f32::from(line[at] as i8),
        }
    }
}

fn reserve<T: Clone>(values: &mut Vec<T>, count: usize, value: T) -> Option<()> {
    values.try_reserve_exact(count).ok()?;
    values.resize(count, value);
    Some(())
}

impl fmt::Debug for Panels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Panels({:?} {}x{})", self.weight_type, self.depth, self.columns)
    }
}
