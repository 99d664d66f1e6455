//! The truth: every kernel in its simplest form, one element at a time. Other sets must give these bits.

use super::list::Functions;
use super::panels::Element;
use super::{Activation, Dense, Pooling, Span, Start, Table};
use half::{bf16, f16};

pub(super) const FUNCTIONS: Functions = Functions {
    name: "scalar",
    dense_names: [
        ["scalar-f32", "scalar-f32"],
        ["scalar-f32f16f32", "scalar-f32f16f32"],
        ["scalar-f32bf16f32", "scalar-f32bf16f32"],
    ],
    dense,
    unary,
    multiply,
    affine,
    softmax,
    mixture,
    copy,
    gather,
    gather_pooled,
};

fn at(span: Span, row: usize, column: usize) -> usize {
    span.offset + row * span.stride + column
}

fn dense(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
    for row in 0..rows {
        for column in 0..call.output.width {
            let mut sum = match call.start {
                Start::Zero => 0.0,
                Start::Bias => call.weights.bias()[column],
                Start::Span(span) => memory[at(span, row, column)],
            };
            for k in 0..call.input.width {
                sum = memory[at(call.input, row, k)].mul_add(call.weights.weight(column, k), sum);
            }
            if let Some(addend) = call.addend {
                sum += memory[at(addend, row, column)];
            }
            memory[at(call.output, row, column)] = activate(call.activation, sum);
        }
    }
}

fn unary(memory: &mut [f32], rows: usize, activation: Activation, input: Span, output: Span) {
    for row in 0..rows {
        for column in 0..output.width {
            memory[at(output, row, column)] = activate(activation, memory[at(input, row, column)]);
        }
    }
}

fn multiply(memory: &mut [f32], rows: usize, left: Span, right: Span, output: Span) {
    for row in 0..rows {
        for column in 0..output.width {
            let x = memory[at(left, row, column)];
            let y = memory[at(right, row, if right.width == 1 { 0 } else { column })];
            memory[at(output, row, column)] = x * y;
        }
    }
}

fn affine(memory: &mut [f32], rows: usize, input: Span, scale: &[f32], shift: &[f32], output: Span) {
    for row in 0..rows {
        for column in 0..output.width {
            memory[at(output, row, column)] = memory[at(input, row, column)].mul_add(scale[column], shift[column]);
        }
    }
}

fn softmax(memory: &mut [f32], rows: usize, input: Span, output: Span) {
    for row in 0..rows {
        let mut largest = f32::NEG_INFINITY;
        for column in 0..input.width {
            largest = max(largest, memory[at(input, row, column)]);
        }
        let mut lanes = [0.0; 16];
        for column in 0..input.width {
            let e = exp(memory[at(input, row, column)] - largest);
            memory[at(output, row, column)] = e;
            lanes[column % 16] += e;
        }
        let sum = tree(lanes);
        for column in 0..input.width {
            memory[at(output, row, column)] /= sum;
        }
    }
}

fn mixture(memory: &mut [f32], rows: usize, gate: Span, experts: &[Span], output: Span) {
    for row in 0..rows {
        for column in 0..output.width {
            let mut sum = 0.0;
            for (e, expert) in experts.iter().enumerate() {
                sum = memory[at(gate, row, e)].mul_add(memory[at(*expert, row, column)], sum);
            }
            memory[at(output, row, column)] = sum;
        }
    }
}

fn copy(memory: &mut [f32], rows: usize, input: Span, output: Span) {
    for row in 0..rows {
        for column in 0..output.width {
            memory[at(output, row, column)] = memory[at(input, row, column)];
        }
    }
}

fn gather(memory: &mut [f32], table: Table<'_>, ids: &[u32], output: Span) {
    for (row, id) in ids.iter().enumerate() {
        for column in 0..output.width {
            memory[at(output, row, column)] = element(table, *id, column);
        }
    }
}

fn gather_pooled(
    memory: &mut [f32],
    table: Table<'_>,
    ids: &[u32],
    row_offsets: &[u32],
    pooling: Pooling,
    output: Span,
) {
    for (row, ends) in row_offsets.windows(2).enumerate() {
        let ids = &ids[ends[0] as usize..ends[1] as usize];
        for column in 0..output.width {
            let values = ids.iter().map(|id| element(table, *id, column));
            memory[at(output, row, column)] = match pooling {
                Pooling::Max => values.reduce(max).unwrap_or(0.0),
                Pooling::Sum => values.fold(0.0, |sum, value| sum + value),
                Pooling::Mean if ids.is_empty() => 0.0,
                Pooling::Mean => values.fold(0.0, |sum, value| sum + value) / ids.len() as f32,
            };
        }
    }
}

fn element(table: Table<'_>, id: u32, column: usize) -> f32 {
    let place = (id as usize * table.width + column) * table.element.size();
    let byte = |i: usize| table.bytes[place + i];
    match table.element {
        Element::F32 => f32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)]),
        Element::F16 => f16::from_le_bytes([byte(0), byte(1)]).to_f32(),
        Element::Bf16 => bf16::from_le_bytes([byte(0), byte(1)]).to_f32(),
    }
}

/// The sum of 16 lanes: halves added to halves.
fn tree(mut lanes: [f32; 16]) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// `a` if it is larger, else `b`: with a NaN, `b`. What x86's `maxps` does.
fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Identity => x,
        Activation::Relu => max(0.0, x),
        Activation::LeakyRelu(slope) => {
            if x > 0.0 {
                x
            } else {
                slope * x
            }
        }
        Activation::Sigmoid => sigmoid(x),
        Activation::ScaledSigmoid(gamma) => gamma * sigmoid(x),
        Activation::Tanh => tanh(x),
        Activation::Silu => x * sigmoid(x),
    }
}

/// The list of operations that `lanes` documents, on one element.
pub(super) fn exp(x: f32) -> f32 {
    use super::lanes::exp::*;
    let x = min(HIGH, max(LOW, x));
    let n = (x * LOG2_E).round_ties_even();
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let p = POLYNOMIAL[1..].iter().fold(POLYNOMIAL[0], |p, c| p.mul_add(r, *c));
    let y = p.mul_add(r * r, r) + 1.0;
    y * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

pub(super) fn tanh(x: f32) -> f32 {
    use super::lanes::tanh::*;
    let a = x.abs();
    let small = {
        let z = a * a;
        let p = POLYNOMIAL[1..].iter().fold(POLYNOMIAL[0], |p, c| p.mul_add(z, *c));
        (p * z).mul_add(a, a)
    };
    let large = 1.0 - 2.0 / (exp(a + a) + 1.0);
    let y = if a < SMALL { small } else { large };
    y.copysign(x)
}
