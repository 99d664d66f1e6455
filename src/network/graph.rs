//! A network as typed operations over per-row values: the form in which every network, named or imported, reaches the
//! planner.
//!
//! A value is a vector of f32 per row; its width is fixed when it is made. Nodes are listed in topological order: an
//! operation reads only values listed before it. Shapes are checked once, here and in `builder`; the planner trusts them.

use crate::format::TensorId;
use crate::ops::{Activation, Combine, Reduce, Rows, Spread};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;

/// A value of the graph, by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub usize);

/// Running statistics and affine of a batch norm, each a tensor of the layer's width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    /// `None`: ones.
    pub gamma: Option<TensorId>,
    /// `None`: zeros.
    pub beta: Option<TensorId>,
    pub mean: TensorId,
    pub variance: TensorId,
    pub epsilon: f64,
}

/// What a linear layer multiplies by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer {
    /// `[outputs, inputs]`, as PyTorch stores it.
    pub weight: TensorId,
    /// Whether it is stored as `[inputs, outputs]` instead.
    pub is_transposed: bool,
    pub bias: Option<TensorId>,
    /// A batch norm of the outputs, folded into the layer by `plan/fold`.
    pub norm: Option<Norm>,
    /// A batch norm of the inputs, folded into the layer by `plan/fold`.
    pub input_norm: Option<Norm>,
}

/// Where a partial product starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    Zero,
    Bias,
    Value(Value),
}

/// What a product multiplies by.
#[derive(Clone, Debug, PartialEq)]
pub enum Matrix {
    /// Columns of a stored layer.
    Layer(Layer, Vec<Columns>),
    /// A computed matrix `[inputs, outputs]`, row-major.
    Value(Value),
}

/// `length` consecutive inputs of a product, and the sum of columns of the layer that they meet: where each term begins,
/// and whether it is subtracted.
#[derive(Clone, Debug, PartialEq)]
pub struct Columns {
    pub length: usize,
    pub terms: Vec<(usize, bool)>,
}

/// A single id of the request, and the table of its embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub slot: usize,
    pub table: TensorId,
}

/// A layer with product tables: for each field the columns that it meets.
#[derive(Clone, Debug, PartialEq)]
pub struct TabulatedLayer {
    pub layer: Layer,
    pub columns: Vec<Columns>,
    pub outputs: usize,
    /// Whether the sum begins with the bias, and not with 0.
    pub has_bias: bool,
}

/// Products of matrices, one for each of `batch`: `[height, inner]` by `[inner, columns]`, or by `[columns, inner]` if the
/// right one is transposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrices {
    pub batch: usize,
    pub height: usize,
    pub inner: usize,
    pub columns: usize,
    pub is_transposed: bool,
}

/// How the positions of a sequence become one row. No positions give zeros.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pool {
    Sum,
    Mean,
    /// `sum_i weights[i, g] x[i, g]`, for as many equal parts of the row as there are weights.
    Weighted(Value),
}

/// One operation. Networks build the upper ones; `Product` is made by `plan/split` and `plan/fuse` from `Linear` and
/// `Generated`, `Cached` by `plan/items`.
///
/// A value has one row, or a row per position of a sequence; an operation on both repeats the row.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The embedding (pooled, for a bag; side by side, for several ids) or the dense values of a feature, by its slot.
    Feature(usize),
    /// The embedding of an id feature in another table than its own, which has at least as many rows.
    Embedding { slot: usize, table: TensorId },
    /// The sum of the products of `fields` in each layer, layer by layer: made by `plan/tabulate`.
    Tabulated { fields: Vec<Field>, layers: Vec<TabulatedLayer> },
    /// The rows of an id feature as numbers.
    RowNumbers(usize),
    /// The embeddings of a feature of kind `sequence`, a row per position of its group of equally long sequences.
    Sequence { slot: usize, group: usize },
    /// The scenario's part of a `[scenarios, ...]` tensor, flat.
    Scenario(TensorId),
    /// 1 at the scenario's row, 0 elsewhere.
    ScenarioOneHot,
    /// A whole tensor, flat.
    Weight(TensorId),
    /// The inputs side by side.
    Concat(Vec<Value>),
    /// For each of `groups`, its part of every input side by side. With each input the width of a part: an input that is
    /// no wider is repeated for every group.
    Interleave { parts: Vec<(Value, usize)>, groups: usize },
    /// `out[i_1, i_2, ..] = input[start + sum_k i_k stride_k]`, by sizes and strides.
    View { input: Value, start: usize, dims: Vec<(usize, isize)> },
    /// `width` columns of `input` from `start`.
    Slice { input: Value, start: usize },
    /// `y = x W^T + b` for each of `groups` equal parts of the row.
    Linear { input: Value, layer: Layer, groups: usize },
    /// `y = x W + b` with a computed `W`, `[inputs, outputs]` row-major.
    Generated { input: Value, weight: Value, bias: Option<Value> },
    /// `A B` of the matrices that `shape` says. An input no wider than one matrix is shared by all.
    MatMul { left: Value, right: Value, shape: Matrices },
    /// `A[i, j] s[i]`: a matrix with scaled rows, both changing with the scenario at most.
    ScaleRows { matrix: Value, scale: Value },
    /// `A[i, j] s[j]`: the same with scaled columns.
    ScaleColumns { matrix: Value, scale: Value },
    /// `y = (x - mean) / sqrt(variance + epsilon) * gamma + beta`, the running statistics of training from column `start`.
    /// For several groups, each of as many equal parts of the row has the same norm, from column 0.
    BatchNorm { input: Value, norm: Norm, start: usize, groups: usize },
    /// The same with the moments of each of `groups` equal parts of the row; without tensors, ones and zeros.
    LayerNorm { input: Value, gamma: Option<TensorId>, beta: Option<TensorId>, epsilon: f64, groups: usize },
    /// `x / max(|x|_2, epsilon)` for each of `groups` equal parts of the row.
    Normalize { input: Value, epsilon: f32, groups: usize },
    /// An activation, per element.
    Activation { input: Value, activation: Activation },
    /// The sum, difference, product and so on of two values, per element; a narrower right side is repeated as `spread` says. The
    /// activation is put there by `plan/fuse`.
    Combine { how: Combine, left: Value, right: Value, spread: Spread, activation: Activation },
    /// `then` where the condition is not 0, else `otherwise`, per element; an input of width 1 is repeated.
    Choose { condition: Value, then: Value, otherwise: Value },
    /// `exp(x) / sum(exp(x))` over each of `groups` equal parts of the row.
    Softmax { input: Value, groups: usize },
    /// 1 at the largest element of each of `groups` equal parts of the row, the first of them, 0 elsewhere.
    Argmax { input: Value, groups: usize },
    /// The largest or smallest elements of each of `groups` equal parts, in order, and then their places.
    TopK { input: Value, groups: usize, is_smallest: bool },
    /// `[groups, length, inner]` to `[groups, inner]`.
    Reduce { input: Value, how: Reduce, inner: usize },
    /// Rows of a table at computed places.
    Find { index: Value, table: TensorId },
    /// Of an input `[groups, length, inner]` the elements at computed places, `[groups, count]`.
    Pick { input: Value, index: Value, groups: usize },
    /// `sum_e gate[e] * experts[e]`, or with the softmax of the gate, which is put there by `plan/fuse`.
    Mixture { gate: Value, is_softmax: bool, experts: Vec<Value> },
    /// `sum_j left[g, j] * right[g, j]` for each of `width` equal parts.
    Dot { left: Value, right: Value },
    /// The inner product of each pair.
    Dots { pairs: Vec<(Value, Value)> },
    /// The positions of a sequence as one row.
    Pool { input: Value, how: Pool },
    /// A softmax over the positions, per column.
    SoftmaxDown { input: Value },
    /// The weight of each position of a group of sequences, side by side, after self-attention with softmax rows
    /// `base + queries^T keys`, pooled over the positions that ask. Queries and keys are `[terms, length]`, the base
    /// `[length, length]`.
    Attend { queries: Value, keys: Value, base: Option<Value>, group: usize, rows: Rows },
    /// The positions of a sequence side by side, `[length, width]` or transposed; 0 behind the last one.
    Flat { input: Value, is_transposed: bool },
    /// `queries keys^T`, a row per position with a column per position.
    Scores { queries: Value, keys: Value },
    /// `input` times a matrix, added to `start` by ascending FMA, then to `addend`, for each of `groups` equal parts of the
    /// row; a start or addend no wider than one part is shared by all.
    Product { input: Value, matrix: Matrix, start: Start, addend: Option<Value>, activation: Activation, groups: usize },
    /// `activation(input + addend)`, with an input that the item cache keeps: made by `plan/items`.
    Cached { input: Value, addend: Option<Value>, activation: Activation },
}

impl Op {
    /// Calls `f` with a reference to every value that the operation reads.
    fn visit(&mut self, f: &mut dyn FnMut(&mut Value)) {
        match self {
            Op::Feature(_)
            | Op::Embedding { .. }
            | Op::Tabulated { .. }
            | Op::RowNumbers(_)
            | Op::Sequence { .. }
            | Op::Scenario(_)
            | Op::ScenarioOneHot
            | Op::Weight(_) => {}
            Op::Concat(parts) => parts.iter_mut().for_each(f),
            Op::Interleave { parts, .. } => parts.iter_mut().for_each(|(part, _)| f(part)),
            Op::Slice { input, .. }
            | Op::View { input, .. }
            | Op::Linear { input, .. }
            | Op::BatchNorm { input, .. }
            | Op::LayerNorm { input, .. }
            | Op::Normalize { input, .. }
            | Op::Activation { input, .. }
            | Op::Softmax { input, .. }
            | Op::Argmax { input, .. }
            | Op::TopK { input, .. }
            | Op::Reduce { input, .. }
            | Op::Find { index: input, .. }
            | Op::SoftmaxDown { input }
            | Op::Flat { input, .. } => f(input),
            Op::Choose { condition, then, otherwise } => {
                f(condition);
                f(then);
                f(otherwise);
            }
            Op::Pick { input, index, .. } => {
                f(input);
                f(index);
            }
            Op::Generated { input, weight, bias } => {
                f(input);
                f(weight);
                bias.iter_mut().for_each(f);
            }
            Op::MatMul { left, right, .. } | Op::Combine { left, right, .. } | Op::Dot { left, right } => {
                f(left);
                f(right);
            }
            Op::ScaleRows { matrix, scale } | Op::ScaleColumns { matrix, scale } => {
                f(matrix);
                f(scale);
            }
            Op::Mixture { gate, experts, .. } => {
                f(gate);
                experts.iter_mut().for_each(f);
            }
            Op::Dots { pairs } => pairs.iter_mut().for_each(|(left, right)| {
                f(left);
                f(right);
            }),
            Op::Pool { input, how } => {
                f(input);
                if let Pool::Weighted(weights) = how {
                    f(weights);
                }
            }
            Op::Attend { queries, keys, base, .. } => {
                f(queries);
                f(keys);
                base.iter_mut().for_each(f);
            }
            Op::Scores { queries, keys } => {
                f(queries);
                f(keys);
            }
            Op::Product { input, matrix, start, addend, .. } => {
                f(input);
                if let Matrix::Value(value) = matrix {
                    f(value);
                }
                if let Start::Value(value) = start {
                    f(value);
                }
                addend.iter_mut().for_each(f);
            }
            Op::Cached { input, addend, .. } => {
                f(input);
                addend.iter_mut().for_each(f);
            }
        }
    }

    /// Every value that the operation reads.
    pub fn inputs(&self) -> Vec<Value> {
        let mut inputs = Vec::new();
        self.clone().visit(&mut |value| inputs.push(*value));
        inputs
    }

    /// The same operation reading `f(value)` wherever it read `value`.
    pub fn map_inputs(&self, f: impl Fn(Value) -> Value) -> Op {
        let mut op = self.clone();
        op.visit(&mut |value| *value = f(*value));
        op
    }
}

/// An operation, the width of its value, and the name that `inspect` prints: the prefix of its tensors, or its feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub op: Op,
    pub width: usize,
    pub name: String,
    /// The group of sequences whose positions are its rows; `None` for a value of one row.
    pub sequence: Option<usize>,
}

/// A network: its operations, and for each task the value that is its probability (`None` for a composed task).
#[derive(Clone, Debug, Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    pub outputs: Vec<Option<Value>>,
    /// Nodes by the hash of their kind and inputs, to find equal ones.
    seen: HashMap<u64, Vec<usize>>,
}

impl Graph {
    /// Adds an operation, or returns the value of an equal one that is there.
    pub fn add(&mut self, op: Op, width: usize, name: impl Into<String>) -> Value {
        let mut hasher = DefaultHasher::new();
        discriminant(&op).hash(&mut hasher);
        op.inputs().hash(&mut hasher);
        let alike = self.seen.entry(hasher.finish()).or_default();
        if let Some(place) =
            alike.iter().find(|place| self.nodes[**place].op == op && self.nodes[**place].width == width)
        {
            return Value(*place);
        }
        alike.push(self.nodes.len());
        self.push(op, width, name)
    }

    /// Adds an operation, also if an equal one is there.
    pub fn push(&mut self, op: Op, width: usize, name: impl Into<String>) -> Value {
        let sequence = match &op {
            Op::Sequence { group, .. } => Some(*group),
            Op::Pool { .. } | Op::Flat { .. } => None,
            op => op.inputs().into_iter().find_map(|value| self.sequence(value)),
        };
        self.nodes.push(Node { op, width, name: name.into(), sequence });
        Value(self.nodes.len() - 1)
    }

    pub fn width(&self, value: Value) -> usize {
        self.nodes[value.0].width
    }

    pub fn op(&self, value: Value) -> &Op {
        &self.nodes[value.0].op
    }

    pub fn name(&self, value: Value) -> &str {
        &self.nodes[value.0].name
    }

    /// The group of sequences whose positions are the rows of a value.
    pub fn sequence(&self, value: Value) -> Option<usize> {
        self.nodes[value.0].sequence
    }

    /// How many operations and outputs read each value.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        for node in &self.nodes {
            node.op.inputs().into_iter().for_each(|value| uses[value.0] += 1);
        }
        self.outputs.iter().flatten().for_each(|value| uses[value.0] += 1);
        uses
    }
}
