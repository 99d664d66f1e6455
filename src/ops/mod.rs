//! The operations of a plan, one file per operation, formula first.
//!
//! All values of a scorer live in one memory of f32; an operation holds the spans that it reads and writes, and runs on
//! the rows of a tile. Spans were laid out by `plan/arena`; kernels check them against the memory once per call.

mod dense;
mod elementwise;
mod gather;
mod head;
mod load;
mod mixture;
mod scenario;
mod softmax;
mod transform;

pub use crate::kernels::{Activation, Element, Kernels, Panels, Pooling, Span, Start};
pub use dense::Dense;
pub use elementwise::{Affine, Copy, Multiply, Unary};
pub use gather::Gather;
pub use head::Head;
pub use load::Load;
pub use mixture::Mixture;
pub use scenario::ScenarioRow;
pub use softmax::Softmax;
pub use transform::{FeatureCounters, Lookup, Mapping, Scaling};

use crate::request::{Bound, Column};

/// What an operation runs on: the memory, the rows of this tile, and where its inputs come from.
pub struct Context<'a> {
    pub kernels: &'static Kernels,
    pub memory: &'a mut [f32],
    /// Rows to compute: at most the tile of the plan.
    pub rows: usize,
    /// The first of them in the columns of the call.
    pub first: usize,
    /// The row of the scenario tensors.
    pub scenario: usize,
    pub columns: &'a [Column<'a>],
    pub bound: &'a Bound,
    /// The bytes of a tensor, by its number in the file.
    pub tables: &'a dyn Fn(usize) -> &'a [u8],
    /// Room for the ids of a tile, or of the longest bag.
    pub ids: &'a mut [u32],
    /// Room for the bag boundaries of a tile.
    pub offsets: &'a mut [u32],
    pub counters: &'a mut [FeatureCounters],
}

/// One operation of a plan.
#[derive(Debug)]
pub enum Operation {
    Gather(Gather),
    Load(Load),
    ScenarioRow(ScenarioRow),
    Dense(Dense),
    Unary(Unary),
    Multiply(Multiply),
    Affine(Affine),
    Copy(Copy),
    Softmax(Softmax),
    Mixture(Mixture),
}

impl Operation {
    /// What `inspect` calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Gather(op) if op.pooling.is_some() => "pool",
            Operation::Gather(_) => "gather",
            Operation::Load(_) => "load",
            Operation::ScenarioRow(_) => "scenario",
            Operation::Dense(_) => "dense",
            Operation::Unary(_) => "unary",
            Operation::Multiply(_) => "multiply",
            Operation::Affine(_) => "affine",
            Operation::Copy(_) => "copy",
            Operation::Softmax(_) => "softmax",
            Operation::Mixture(_) => "mixture",
        }
    }

    /// Computes the operation for the rows of `context`.
    pub fn run(&self, context: &mut Context<'_>) {
        match self {
            Operation::Gather(op) => op.run(context),
            Operation::Load(op) => op.run(context),
            Operation::ScenarioRow(op) => op.run(context),
            Operation::Dense(op) => op.run(context),
            Operation::Unary(op) => op.run(context),
            Operation::Multiply(op) => op.run(context),
            Operation::Affine(op) => op.run(context),
            Operation::Copy(op) => op.run(context),
            Operation::Softmax(op) => op.run(context),
            Operation::Mixture(op) => op.run(context),
        }
    }
}
