//! The operations of a plan, one file per operation, formula first.
//!
//! All values of a scorer live in one memory of f32; an operation holds the spans that it reads and writes, and runs on
//! the rows of a tile. Spans were laid out by `plan/arena`; kernels check them against the memory once per call.

mod attend;
mod block;
mod cached;
mod choose;
mod dense;
mod dot;
mod elementwise;
mod find;
mod gather;
mod head;
mod interleave;
mod load;
mod matmul;
mod mixture;
mod norm;
mod parts;
mod pick;
mod pool;
mod reduce;
mod scenario;
mod softmax;
mod tabulated;
#[cfg(test)]
mod testkit;
mod transform;
mod view;

pub use crate::kernels::{
    Activation, Combine, Element, Kernels, LINE, MAX_SHARES, NOWHERE, Panels, Part, Pooling, Rare, Reach, Reduce, Room,
    Rows, Span, Start, Table, Unfit, Unpack, Weight,
};
pub use attend::{Attend, Flat, SoftmaxDown};
pub use block::{Enter, Leave};
pub use cached::Cached;
pub use choose::Choose;
pub use dense::{Dense, Generated, Kept};
pub use dot::{Dots, Scores};
pub use elementwise::{Affine, Combine as Combination, Copy, Spread, Unary};
pub use find::Find;
pub use gather::{FEW, Gather, PerRow, RowNumbers};
pub use head::Head;
pub use interleave::Interleave;
pub use load::Load;
pub use matmul::MatMul;
pub use mixture::Mixture;
pub use norm::{LayerNorm, Normalize};
pub use pick::{Pick, TopK};
pub use pool::Pool;
pub use reduce::Reduce as Reduction;
pub use scenario::{OneHot, Stored};
pub use softmax::{Argmax, Softmax};
pub use tabulated::{Tabulated, TabulatedField};
pub use transform::{FeatureCounters, Lookup, Mapping, Scaling};
pub use view::View;

use crate::request::{Bound, Column};

/// What an operation runs on: the memory, the rows of this tile, and where its inputs come from.
pub struct Context<'a> {
    pub kernels: &'static Kernels,
    pub memory: &'a mut [f32],
    /// Rows to compute: at most the tile of the plan, or the positions of a sequence.
    pub rows: usize,
    /// Which rows of the columns they are.
    pub picked: Picked<'a>,
    /// The row of the tile whose positions are computed.
    pub candidate: usize,
    /// The length of each group of sequences of the request.
    pub positions: &'a [usize],
    /// The row of the scenario tensors.
    pub scenario: usize,
    /// The model's matrices where they are kept; empty: they are in the memory.
    pub model_values: &'a [f32],
    /// The scenario's matrices where they are kept; empty: they are in the memory.
    pub scenario_values: &'a [f32],
    pub columns: &'a [Column<'a>],
    pub bound: &'a Bound,
    /// What the item cache keeps of each row of the tile.
    pub cached: &'a [&'a [u8]],
    /// The bytes of a tensor, by its number in the file.
    pub tables: &'a dyn Fn(usize) -> &'a [u8],
    /// Room for the ids of a tile, or of the longest bag.
    pub ids: &'a mut [u32],
    /// Room for the bag boundaries of a tile.
    pub offsets: &'a mut [u32],
    pub counters: &'a mut [FeatureCounters],
}

/// Which rows of the columns of a call are computed.
#[derive(Clone, Copy, Debug)]
pub enum Picked<'a> {
    /// Consecutive rows from this one.
    From(usize),
    /// These rows.
    These(&'a [u32]),
}

impl Picked<'_> {
    /// The place in the columns of row `row` of the tile.
    pub fn place(self, row: usize) -> usize {
        match self {
            Picked::From(first) => first + row,
            Picked::These(rows) => rows[row] as usize,
        }
    }
}

/// Implements what every operation has: a variant, a name for `inspect`, and `run`.
macro_rules! operations {
    ($($operation:ident => $name:literal),* $(,)?) => {
        /// One operation of a plan.
        #[derive(Debug)]
        pub enum Operation {
            $($operation($operation),)*
        }

        impl Operation {
            /// What `inspect` calls it.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Operation::$operation(_) => $name,)*
                }
            }

            /// Whether it reads what a call brings: its columns, or rows of the item cache.
            pub fn reads_call(&self) -> bool {
                matches!(
                    self,
                    Operation::Gather(_)
                        | Operation::Tabulated(_)
                        | Operation::RowNumbers(_)
                        | Operation::Load(_)
                        | Operation::Cached(_)
                )
            }

            /// Computes the operation for the rows of `context`.
            pub fn run(&self, context: &mut Context<'_>) {
                match self {
                    $(Operation::$operation(op) => op.run(context),)*
                }
            }
        }
    };
}

operations! {
    Gather => "gather",
    Tabulated => "products",
    RowNumbers => "rows",
    Load => "load",
    Cached => "cached",
    Stored => "stored",
    OneHot => "one-hot",
    Dense => "dense",
    Generated => "generated",
    Unary => "unary",
    Combination => "combine",
    Affine => "affine",
    LayerNorm => "layer-norm",
    Normalize => "normalize",
    Copy => "copy",
    Interleave => "interleave",
    Softmax => "softmax",
    Argmax => "argmax",
    Mixture => "mixture",
    Dots => "dots",
    Scores => "scores",
    Pool => "pool",
    SoftmaxDown => "softmax-down",
    Attend => "attend",
    Flat => "flat",
    Enter => "enter",
    Leave => "leave",
    View => "view",
    Choose => "choose",
    Reduction => "reduce",
    Pick => "pick",
    TopK => "top-k",
    Find => "find",
    MatMul => "matmul",
}
