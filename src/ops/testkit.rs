//! One operation alone, on painted memory.

use super::{Context, Kernels, Operation, Picked};
use crate::request::Bound;

/// Values that do not repeat with any power of two.
pub fn memory() -> Vec<f32> {
    (0..16_384).map(|place| ((place * 17 % 251) as f32 - 125.0) / 16.0).collect()
}

/// Runs an operation that reads no feature; every tensor is `table`.
pub fn run(operation: &Operation, rows: usize, memory: &mut [f32], table: &[u8]) {
    operation.run(&mut Context {
        kernels: Kernels::select(None).expect("a set"),
        memory,
        rows,
        picked: Picked::From(0),
        candidate: 0,
        positions: &[],
        scenario: 0,
        model_values: &[],
        scenario_values: &[],
        columns: &[],
        bound: &Bound::new(0),
        cached: &[],
        tables: &|_| table,
        ids: &mut [0; 8],
        offsets: &mut [0; 8],
        counters: &mut [],
    });
}
