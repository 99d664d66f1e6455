//! Dense weights as kernels read them.
//!
//! A panel is 16 outputs wide: for each `k`, 16 consecutive weights. Panels follow each other; the outputs that the last
//! one has too many are zero. Each panel begins at a multiple of 64 bytes.

use half::{bf16, f16};
use std::fmt;

/// The type of stored weights and table rows; arithmetic is f32 in all cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    F32,
    F16,
    Bf16,
}

impl Element {
    pub const ALL: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::F16 | Element::Bf16 => 2,
        }
    }
}

/// Outputs per panel.
pub const PANEL: usize = 16;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

const _: () = assert!(size_of::<Line>() == 64);

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

/// A packed layer: weights in panels, and a bias as long as they are wide.
pub struct Panels {
    element: Element,
    depth: usize,
    columns: usize,
    weights: Vec<Line>,
    bias: Vec<f32>,
}

impl Panels {
    /// Packs `weight(column, k)` for `columns` outputs and `depth` inputs, rounded to `element`. No bias is a zero bias.
    ///
    /// # Errors
    /// If memory cannot be reserved.
    pub fn pack(
        element: Element,
        depth: usize,
        columns: usize,
        weight: impl Fn(usize, usize) -> f32,
        bias: Option<&[f32]>,
    ) -> Result<Self, OutOfMemory> {
        let padded = columns.next_multiple_of(PANEL);
        let lines_per_panel = (depth * PANEL * element.size()).div_ceil(64);
        let lines = lines_per_panel * (padded / PANEL);
        let out_of_memory = OutOfMemory { bytes: lines * 64 + padded * 4 };
        let mut weights: Vec<Line> = Vec::new();
        let mut biases: Vec<f32> = Vec::new();
        weights.try_reserve_exact(lines).map_err(|_| out_of_memory)?;
        biases.try_reserve_exact(padded).map_err(|_| out_of_memory)?;
        weights.resize(lines, Line([0; 64]));
        biases.extend_from_slice(bias.unwrap_or_default());
        biases.resize(padded, 0.0);

        for column in 0..columns {
            let (panel, lane) = (column / PANEL, column % PANEL);
            for k in 0..depth {
                let byte = (k * PANEL + lane) * element.size();
                let line = &mut weights[panel * lines_per_panel + byte / 64].0;
                let value = weight(column, k);
                let place = byte % 64;
                match element {
                    Element::F32 => line[place..place + 4].copy_from_slice(&value.to_ne_bytes()),
                    Element::F16 => line[place..place + 2].copy_from_slice(&f16::from_f32(value).to_ne_bytes()),
                    Element::Bf16 => line[place..place + 2].copy_from_slice(&bf16::from_f32(value).to_ne_bytes()),
                }
            }
        }
        Ok(Self { element, depth, columns, weights, bias: biases })
    }

    pub fn element(&self) -> Element {
        self.element
    }

    /// Inputs.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Outputs.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        size_of_val(self.weights.as_slice()) + size_of_val(self.bias.as_slice())
    }

    /// The bias, padded to whole panels.
    pub fn bias(&self) -> &[f32] {
        &self.bias
    }

    /// The weights; panel `p` begins `p * panel_bytes()` bytes later.
    pub fn weights(&self) -> *const u8 {
        self.weights.as_ptr().cast()
    }

    pub fn panel_bytes(&self) -> usize {
        (self.depth * PANEL * self.element.size()).next_multiple_of(64)
    }

    /// One weight as f32: what `scalar` reads.
    pub fn weight(&self, column: usize, k: usize) -> f32 {
        let byte = (k * PANEL + column % PANEL) * self.element.size();
        let line = &self.weights[(column / PANEL) * (self.panel_bytes() / 64) + byte / 64].0;
        let at = byte % 64;
        match self.element {
            Element::F32 => f32::from_ne_bytes([line[at], line[at + 1], line[at + 2], line[at + 3]]),
            Element::F16 => f16::from_ne_bytes([line[at], line[at + 1]]).to_f32(),
            Element::Bf16 => bf16::from_ne_bytes([line[at], line[at + 1]]).to_f32(),
        }
    }
}

impl fmt::Debug for Panels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Panels({:?} {}x{})", self.element, self.depth, self.columns)
    }
}
