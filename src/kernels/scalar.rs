//! The truth: every kernel in its simplest form, one element at a time. Other sets must give these bits.

use super::dots::{self, Reach};
use super::list::Functions;
use super::panels::{Element, Panels, Weight};
use super::select;
use super::transposed::is_turned;
use super::{
    Activation, Attend, Combine, Dense, Generated, MatMul, Places, Pooling, Reduce, Rows, Span, Start, Table, Unpack,
    functions, rare,
};
use half::{bf16, f16};
use std::hint::black_box;

pub(super) const FUNCTIONS: Functions = Functions {
    name: "scalar",
    dense_names: [
        ["scalar-f32", "scalar-f32"],
        ["scalar-f32f16f32", "scalar-f32f16f32"],
        ["scalar-bf16", "scalar-bf16"],
        ["scalar-int12", "scalar-int12"],
        ["scalar-int16", "scalar-int16"],
        ["scalar-int8", "scalar-int8"],
    ],
    dense,
    pairs: dense,
    has_planes: false,
    unary,
    generated,
    combine,
    affine,
    softmax,
    layer_norm,
    normalize,
    dot,
    mixture,
    copy,
    gather,
    unpack,
    gather_pooled,
    sum_rows,
    pool,
    softmax_down,
    attend,
    choose,
    reduce,
    view,
    top_k: select::sorted,
    matmul_transposed,
    prefetch: |_, _| (),
    spin,
};

fn spin(turns: usize) -> usize {
    let mut sum = black_box(1.0f32);
    for _ in 0..turns {
        sum = sum.mul_add(black_box(0.5), 1.0);
    }
    black_box(sum);
    2 * turns
}

fn at(span: Span, row: usize, column: usize) -> usize {
    span.offset + row * span.stride + column
}

fn dense(memory: &mut [f32], rows: usize, call: &Dense<'_>) {
    let Dense { input, weights, .. } = *call;
    for row in 0..rows {
        let quantized = quantize(&memory[at(input, row, 0)..][..input.width], weights, call.reach);
        for column in 0..call.output.width {
            let start = match call.start {
                Start::Zero => 0.0,
                Start::Bias => weights.bias()[column],
                Start::Span(span) => memory[at(span, row, column)],
            };
            let mut sum = match &quantized {
                Quantized::Not => (0..input.width)
                    .fold(start, |sum, k| memory[at(input, row, k)].mul_add(weights.weight(column, k), sum)),
                Quantized::Floats(inputs) => {
                    let products = inputs.iter().enumerate();
                    products.fold(0.0f32, |sum, (k, x)| x.mul_add(weights.weight(column, k), sum)) + start
                }
                Quantized::Integers { steps, scale, zero } => {
                    let product = |(k, q): (usize, &i32)| i64::from(*q) * weights.weight(column, k) as i64;
                    let sum: i64 = steps.iter().enumerate().map(product).sum();
                    let sum = sum - i64::from(*zero) * i64::from(weights.totals()[column]);
                    let (upper, lower) = (sum >> dots::CARRIED, sum & ((1 << dots::CARRIED) - 1));
                    (upper as f32)
                        .mul_add((1 << dots::CARRIED) as f32, lower as f32)
                        .mul_add(scale * weights.scales()[column], start)
                }
            };
            if let Some(addend) = call.addend {
                sum += memory[at(addend, row, column)];
            }
            memory[at(call.output, row, column)] = activate(call.activation, sum);
        }
    }
}

/// A row as the weights of a layer meet it.
enum Quantized {
    Not,
    Floats(Vec<f32>),
    Integers { steps: Vec<i32>, scale: f32, zero: i32 },
}

fn quantize(row: &[f32], weights: &Panels, reach: Reach) -> Quantized {
    let largest_of = |values: &mut dyn Iterator<Item = f32>| values.fold(0.0, |a, b| if b > a { b } else { a });
    let taint: f32 = if row.iter().all(|x| x.is_finite()) { 0.0 } else { f32::NAN };
    match weights.weight_type() {
        Weight::F32 | Weight::F16 => Quantized::Not,
        Weight::Bf16 => Quantized::Floats(row.iter().map(|x| bf16::from_f32(*x).to_f32()).collect()),
        Weight::Int12 | Weight::Int16 => {
            let largest = largest_of(&mut row.iter().map(|x| x.abs()));
            let unit = Reach::unit(largest);
            let is_plain = Reach::is_plain(largest);
            let by = if is_plain { 1.0 } else { unit };
            let square = |part: &[f32]| sum_products(part.len(), |k| (part[k] * by, part[k] * by));
            let norm = largest_of(&mut row.chunks(reach.part).map(square)).sqrt();
            let norm = if is_plain { norm * unit } else { norm };
            let steps = reach.steps(norm, row.iter().all(|x| *x >= 0.0));
            let per_step = steps * unit;
            let step = |x: &f32| i32::from((x * per_step).round_ties_even() as i16);
            Quantized::Integers { steps: row.iter().map(step).collect(), scale: largest / steps + taint, zero: 0 }
        }
        Weight::Int8 => {
            let largest = largest_of(&mut row.iter().copied());
            let least = -largest_of(&mut row.iter().map(|x| -x));
            let range = largest - least;
            let per_step = if range > 0.0 { dots::BYTE_STEPS / range } else { 0.0 };
            let zero = (-least * per_step).round_ties_even();
            let step = |x: &f32| i32::from(x.mul_add(per_step, zero).round_ties_even() as u8);
            let (steps, scale) = (row.iter().map(step).collect(), range / dots::BYTE_STEPS + taint);
            Quantized::Integers { steps, scale, zero: zero as i32 }
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

fn generated(memory: &mut [f32], rows: usize, call: &Generated<'_>) {
    let width = call.output.width;
    for row in 0..rows {
        for column in 0..width {
            let mut sum = match call.start {
                Start::Span(span) => memory[at(span, row, column)],
                Start::Zero | Start::Bias => 0.0,
            };
            for k in 0..call.input.width {
                let weight = match call.outside {
                    Some(outside) => outside[k * width + column],
                    None => memory[at(call.weight, row, k * width + column)],
                };
                sum = memory[at(call.input, row, k)].mul_add(weight, sum);
            }
            if let Some(addend) = call.addend {
                sum += memory[at(addend, row, column)];
            }
            memory[at(call.output, row, column)] = activate(call.activation, sum);
        }
    }
}

fn combine(
    memory: &mut [f32],
    rows: usize,
    how: Combine,
    left: Span,
    right: Span,
    activation: Activation,
    output: Span,
) {
    for row in 0..rows {
        for column in 0..output.width {
            let x = memory[at(left, row, column)];
            let y = memory[at(right, row, if right.width == 1 { 0 } else { column })];
            memory[at(output, row, column)] = activate(activation, combined(how, x, y));
        }
    }
}

fn combined(how: Combine, x: f32, y: f32) -> f32 {
    let truth = |holds| if holds { 1.0 } else { 0.0 };
    match how {
        Combine::Add => x + y,
        Combine::Subtract => x - y,
        Combine::Multiply => x * y,
        Combine::Divide => x / y,
        Combine::Maximum => maximum(x, y),
        Combine::Minimum => minimum(x, y),
        Combine::Power => rare::power(x, y),
        Combine::Modulo => rare::modulo(x, y),
        Combine::Remainder => rare::remainder(x, y),
        Combine::Equal => truth(x == y),
        Combine::Less => truth(x < y),
        Combine::LessEqual => truth(x <= y),
        Combine::Prelu => {
            if x > 0.0 {
                x
            } else {
                y * x
            }
        }
    }
}

fn choose(memory: &mut [f32], rows: usize, condition: Span, then: Span, otherwise: Span, output: Span) {
    for row in 0..rows {
        for column in 0..output.width {
            let value = |span: Span| memory[at(span, row, if span.width == 1 { 0 } else { column })];
            let chosen = if value(condition) == 0.0 { otherwise } else { then };
            memory[at(output, row, column)] = value(chosen);
        }
    }
}

fn reduce(memory: &mut [f32], rows: usize, how: Reduce, inner: usize, input: Span, output: Span) {
    let length = input.width / output.width;
    for row in 0..rows {
        for column in 0..output.width {
            let first = at(input, row, column / inner * length * inner + column % inner);
            let elements = || (0..length).map(|i| memory[first + i * inner]);
            let joined = |neutral: f32, join: fn(f32, f32) -> f32| {
                if inner > 1 {
                    return elements().fold(neutral, join);
                }
                let mut lanes = [neutral; 16];
                elements().enumerate().for_each(|(i, x)| lanes[i % 16] = join(lanes[i % 16], x));
                tree_of(lanes, join)
            };
            let add = |x: f32, y: f32| x + y;
            // A zero may have either sign, by the order: adding 0 makes it positive.
            let largest = joined(f32::NEG_INFINITY, maximum) + 0.0;
            let value = match how {
                Reduce::Sum => joined(0.0, add),
                Reduce::Mean => joined(0.0, add) / length as f32,
                Reduce::Max => largest,
                Reduce::Min => joined(f32::INFINITY, minimum) + 0.0,
                Reduce::Product => joined(1.0, |x, y| x * y),
                Reduce::LogSumExp if !largest.is_finite() => largest,
                Reduce::LogSumExp => {
                    let exponentials = elements().map(|x| unclamped_exp(x - largest));
                    let mut lanes = [0.0; 16];
                    exponentials.enumerate().for_each(|(i, e)| lanes[if inner > 1 { 0 } else { i % 16 }] += e);
                    largest + log(tree(lanes))
                }
            };
            memory[at(output, row, column)] = value;
        }
    }
}

fn view(memory: &mut [f32], rows: usize, input: Span, places: &Places, output: Span) {
    for row in 0..rows {
        let mut column = 0;
        for run in places.runs() {
            for place in run.from..run.from + run.length {
                memory[at(output, row, column)] = memory[at(input, row, place as usize)];
                column += 1;
            }
        }
    }
}

fn matmul_transposed(memory: &mut [f32], rows: usize, call: &MatMul, steps: [usize; 2]) {
    let MatMul { left, right, output, batch, height, inner, columns, .. } = *call;
    for row in 0..rows {
        for place in 0..batch {
            for (i, j) in (0..height).flat_map(|i| (0..columns).map(move |j| (i, j))) {
                let left = at(left, row, place * steps[0] + i * inner);
                let right = at(right, row, place * steps[1] + j * inner);
                let sum = if is_turned(height, columns) {
                    (0..inner).fold(0.0, |sum, k| memory[left + k].mul_add(memory[right + k], sum))
                } else {
                    sum_products(inner, |k| (memory[left + k], memory[right + k]))
                };
                memory[at(output, row, (place * height + i) * columns + j)] = sum;
            }
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
        let sum = exponentials(memory, row, input, output);
        for column in 0..input.width {
            memory[at(output, row, column)] /= sum;
        }
    }
}

/// Writes the exponentials of a row, less its largest element; returns their sum.
fn exponentials(memory: &mut [f32], row: usize, input: Span, output: Span) -> f32 {
    let mut largest = f32::NEG_INFINITY;
    for column in 0..input.width {
        largest = max(largest, memory[at(input, row, column)]);
    }
    let mut lanes = [0.0; 16];
    for column in 0..input.width {
        let e = share(memory[at(input, row, column)] - largest);
        memory[at(output, row, column)] = e;
        lanes[column % 16] += e;
    }
    tree(lanes)
}

/// As [`super::functions::share`].
fn share(x: f32) -> f32 {
    if x < functions::exp::VANISHING { 0.0 } else { exp(x) }
}

/// The sum of `term(column)` by the lanes and the tree; columns beyond `width` add `0 * 0`.
fn sum_products(width: usize, term: impl Fn(usize) -> (f32, f32)) -> f32 {
    let mut lanes = [0.0f32; 16];
    for column in 0..width.next_multiple_of(16) {
        let (x, y) = if column < width { term(column) } else { (0.0, 0.0) };
        lanes[column % 16] = x.mul_add(y, lanes[column % 16]);
    }
    tree(lanes)
}

fn layer_norm(memory: &mut [f32], rows: usize, input: Span, scale: &[f32], shift: &[f32], epsilon: f32, output: Span) {
    let width = input.width;
    for row in 0..rows {
        let mean = sum_products(width, |column| (memory[at(input, row, column)], 1.0)) / width as f32;
        for column in 0..width {
            memory[at(output, row, column)] = memory[at(input, row, column)] - mean;
        }
        let square = |column: usize| (memory[at(output, row, column)], memory[at(output, row, column)]);
        let factor = 1.0 / (sum_products(width, square) / width as f32 + epsilon).sqrt();
        for column in 0..width {
            let place = at(output, row, column);
            memory[place] = (memory[place] * factor).mul_add(scale[column], shift[column]);
        }
    }
}

fn normalize(memory: &mut [f32], rows: usize, input: Span, epsilon: f32, output: Span) {
    for row in 0..rows {
        let square = |column: usize| (memory[at(input, row, column)], memory[at(input, row, column)]);
        let norm = max(epsilon, sum_products(input.width, square).sqrt());
        for column in 0..output.width {
            memory[at(output, row, column)] = memory[at(input, row, column)] / norm;
        }
    }
}

fn dot(memory: &mut [f32], rows: usize, left: Span, right: Span, groups: usize, output: Span) {
    let width = left.width / groups;
    for row in 0..rows {
        for group in 0..groups {
            let first = group * width;
            let term = |j: usize| (memory[at(left, row, first + j)], memory[at(right, row, first + j)]);
            memory[at(output, row, group)] = sum_products(width, term);
        }
    }
}

fn mixture(memory: &mut [f32], rows: usize, gate: Span, is_softmax: bool, experts: &[Span], output: Span) {
    for row in 0..rows {
        let mut weights: Vec<f32> = (0..gate.width).map(|e| memory[at(gate, row, e)]).collect();
        if is_softmax {
            let whole = Span { offset: 0, stride: 0, width: gate.width };
            softmax(&mut weights, 1, whole, whole);
        }
        for column in 0..output.width {
            let mut sum = 0.0;
            for (weight, expert) in weights.iter().zip(experts) {
                sum = weight.mul_add(memory[at(*expert, row, column)], sum);
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

fn unpack(memory: &mut [f32], call: &Unpack<'_>) {
    let Unpack { rows, element, start, addend, activation, output } = *call;
    for (row, bytes) in rows.iter().enumerate() {
        let (scales, bytes) = bytes[start..].split_at(element.scale_bytes());
        let table = Table { bytes, scales, element, rows: 1, width: output.width };
        for column in 0..output.width {
            let x = self::element(table, 0, column);
            let sum = addend.map_or(x, |addend| x + memory[at(addend, row, column)]);
            memory[at(output, row, column)] = activate(activation, sum);
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

fn sum_rows(memory: &mut [f32], table: Table<'_>, ids: &[u32], output: Span) {
    gather_pooled(memory, table, ids, &[0, ids.len() as u32], Pooling::Sum, output);
}

fn pool(
    memory: &mut [f32],
    positions: usize,
    input: Span,
    weights: Option<Span>,
    groups: usize,
    is_mean: bool,
    output: Span,
) {
    let width = output.width / groups;
    for column in 0..output.width {
        let mut sum = 0.0;
        for position in 0..positions {
            let value = memory[at(input, position, column)];
            sum = match weights {
                Some(weights) => memory[at(weights, position, column / width)].mul_add(value, sum),
                None => sum + value,
            };
        }
        memory[output.offset + column] = if is_mean && positions > 0 { sum / positions as f32 } else { sum };
    }
}

fn softmax_down(memory: &mut [f32], positions: usize, input: Span, output: Span) {
    for column in 0..output.width {
        let largest = (0..positions).fold(f32::NEG_INFINITY, |m, i| max(m, memory[at(input, i, column)]));
        let mut sum = 0.0;
        for i in 0..positions {
            let e = share(memory[at(input, i, column)] - largest);
            memory[at(output, i, column)] = e;
            sum += e;
        }
        for i in 0..positions {
            memory[at(output, i, column)] /= sum;
        }
    }
}

fn attend(memory: &mut [f32], candidates: usize, positions: usize, call: &Attend) {
    let Attend { terms, length, queries, keys, base, rows, scratch, output } = *call;
    let weights = Span { offset: scratch.offset, stride: 0, width: positions };
    for candidate in 0..candidates {
        let pooled = weights.offset + positions;
        memory[pooled..pooled + positions].fill(0.0);
        let first = if rows == Rows::Last { positions.saturating_sub(1) } else { 0 };
        for i in first..positions {
            for j in 0..positions {
                let mut sum = base.map_or(0.0, |base| memory[at(base, candidate, i * length + j)]);
                for t in 0..terms {
                    let (query, key) = (at(queries, candidate, t * length + i), at(keys, candidate, t * length + j));
                    sum = memory[query].mul_add(memory[key], sum);
                }
                memory[at(weights, 0, j)] = sum;
            }
            let share = 1.0 / exponentials(memory, 0, weights, weights);
            for j in 0..positions {
                memory[pooled + j] = memory[at(weights, 0, j)].mul_add(share, memory[pooled + j]);
            }
        }
        for j in 0..length {
            let sum = if j < positions { memory[pooled + j] } else { 0.0 };
            let is_mean = rows == Rows::Mean && j < positions;
            memory[at(output, candidate, j)] = if is_mean { sum / positions as f32 } else { sum };
        }
    }
}

fn element(table: Table<'_>, id: u32, column: usize) -> f32 {
    let (row, place) = (table.row(id), table.element.row_bytes(column));
    let byte = |i: usize| row[place + i];
    let scale = || f32::from_le_bytes(std::array::from_fn(|i| table.scale(id)[i]));
    match table.element {
        Element::F32 => f32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)]),
        Element::F16 => f16::from_le_bytes([byte(0), byte(1)]).to_f32(),
        Element::Bf16 => bf16::from_le_bytes([byte(0), byte(1)]).to_f32(),
        Element::Int8 => f32::from(byte(0) as i8) * scale(),
        Element::Int4 => {
            let half = if column.is_multiple_of(2) { byte(0) & 15 } else { byte(0) >> 4 };
            let integer = if half < 8 { f32::from(half) } else { f32::from(half) - 16.0 };
            integer * scale()
        }
    }
}

/// The sum of 16 lanes: halves added to halves.
fn tree(lanes: [f32; 16]) -> f32 {
    tree_of(lanes, |x, y| x + y)
}

fn tree_of(mut lanes: [f32; 16], join: impl Fn(f32, f32) -> f32) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
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

/// The larger; NaN if either is.
#[inline(always)]
pub(super) fn maximum(a: f32, b: f32) -> f32 {
    if a.is_nan() { a } else { max(a, b) }
}

/// The smaller; NaN if either is.
#[inline(always)]
pub(super) fn minimum(a: f32, b: f32) -> f32 {
    if a.is_nan() { a } else { min(a, b) }
}

pub(super) fn activate(activation: Activation, x: f32) -> f32 {
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
        Activation::Affine { scale, shift } => x.mul_add(scale, shift),
        Activation::Threshold(bound) => {
            if bound < x.abs() || x.is_nan() {
                x
            } else {
                0.0
            }
        }
        Activation::InverseSqrt(epsilon) => 1.0 / (x + epsilon).sqrt(),
        Activation::Abs => x.abs(),
        Activation::Negate => -x,
        Activation::Exp => unclamped_exp(x),
        Activation::Log => log(x),
        Activation::Sqrt => x.sqrt(),
        Activation::Reciprocal => 1.0 / x,
        Activation::Square => x * x,
        Activation::Erf => erf(x),
        Activation::Gelu => (x * 0.5).mul_add(erf(x * std::f32::consts::FRAC_1_SQRT_2), x * 0.5),
        Activation::GeluTanh => {
            use functions::gelu::*;
            (x * 0.5).mul_add(tanh((x * x * x).mul_add(CUBE, x) * FACTOR), x * 0.5)
        }
        Activation::Elu { alpha } => elu(x, alpha),
        Activation::Selu { alpha, gamma } => gamma * elu(x, alpha),
        Activation::Celu { alpha } => {
            if x > 0.0 {
                x
            } else {
                alpha * exp_less_one(x / alpha)
            }
        }
        Activation::Softplus => softplus(x),
        Activation::Softsign => x / (1.0 + x.abs()),
        Activation::Mish => x * tanh(softplus(x)),
        Activation::HardSigmoid { scale, shift } => min(1.0, max(0.0, x.mul_add(scale, shift))),
        Activation::HardSwish => x * min(1.0, max(0.0, x.mul_add(1.0 / 6.0, 0.5))),
        Activation::ThresholdedRelu { alpha } => {
            if x > alpha {
                x
            } else {
                0.0
            }
        }
        Activation::Clip { low, high } => min(high, max(low, x)),
        Activation::Floor => x.floor(),
        Activation::Ceil => x.ceil(),
        Activation::Round => x.round_ties_even(),
        Activation::Truncate => x.trunc(),
        Activation::Sign => {
            if x == 0.0 {
                0.0
            } else if x.is_nan() {
                x
            } else {
                x.signum()
            }
        }
        Activation::Not => f32::from(u8::from(x == 0.0)),
        Activation::IsNan => f32::from(u8::from(x.is_nan())),
        Activation::IsInf => f32::from(u8::from(x.is_infinite())),
        Activation::Rare(function) => function.of(x),
    }
}

fn elu(x: f32, alpha: f32) -> f32 {
    if x > 0.0 { x } else { alpha * exp_less_one(x) }
}

fn horner(polynomial: &[f32], x: f32) -> f32 {
    polynomial[1..].iter().fold(polynomial[0], |y, coefficient| y.mul_add(x, *coefficient))
}

/// `2^n` of an integer from -126 to 127.
fn power_of_two(n: f32) -> f32 {
    f32::from_bits(((n as i32).wrapping_add(127) as u32) << 23)
}

/// The polynomial of `exp` without its 1, and `n`.
fn reduced(x: f32) -> (f32, f32) {
    use functions::exp::*;
    let n = (x * LOG2_E).round_ties_even();
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    (horner(&POLYNOMIAL, r).mul_add(r * r, r), n)
}

/// The list of operations that `functions` documents, on one element.
pub(super) fn exp(x: f32) -> f32 {
    let (q, n) = reduced(min(functions::exp::HIGH, max(functions::exp::LOW, x)));
    (q + 1.0) * power_of_two(n)
}

fn unclamped_exp(x: f32) -> f32 {
    let (q, n) = reduced(min(functions::exp::INFINITE, max(functions::exp::ZERO, x)));
    let half = (n * 0.5).round_ties_even();
    (q + 1.0) * power_of_two(half) * power_of_two(n - half)
}

/// `exp(x) - 1` for `x` up to 0.
fn exp_less_one(x: f32) -> f32 {
    let (q, n) = reduced(min(functions::exp::HIGH, max(functions::exp::LOW, x)));
    q.mul_add(power_of_two(n), power_of_two(n) - 1.0)
}

pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

pub(super) fn tanh(x: f32) -> f32 {
    use functions::tanh::*;
    let a = x.abs();
    let z = a * a;
    let small = (horner(&POLYNOMIAL, z) * z).mul_add(a, a);
    let large = 1.0 - 2.0 / (exp(a + a) + 1.0);
    let y = if a < SMALL { small } else { large };
    y.copysign(x)
}

fn log(x: f32) -> f32 {
    use functions::exp::{LN2_HIGH, LN2_LOW};
    use functions::log::*;
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    if x < 0.0 {
        return f32::NAN;
    }
    if x.is_nan() || x.is_infinite() {
        return x;
    }
    let (x, scale) = if x < f32::MIN_POSITIVE { (x * SCALE, SCALE_EXPONENT) } else { (x, 0.0) };
    let root = std::f32::consts::FRAC_1_SQRT_2.to_bits();
    let above = x.to_bits().wrapping_sub(root);
    let exponent = (above.cast_signed() >> 23) as f32 - scale;
    let f = f32::from_bits((above & 0x7f_ffff) + root) - 1.0;
    let z = f * f;
    let y = exponent.mul_add(LN2_LOW, horner(&POLYNOMIAL, f) * f * z);
    exponent.mul_add(LN2_HIGH, f + z.mul_add(-0.5, y))
}

fn erf(x: f32) -> f32 {
    use functions::erf::*;
    let a = min(ONE, x.abs());
    let y = if a < SMALL { horner(&NEAR, a * a).mul_add(a, a) } else { 1.0 - exp(horner(&FAR, a)) };
    y.copysign(x)
}

fn softplus(x: f32) -> f32 {
    let e = unclamped_exp(-x.abs());
    let u = 1.0 + e;
    let d = u - 1.0;
    max(0.0, x) + if d > 0.0 { log(u) * (e / d) } else { e }
}
