//! A network as typed operations over per-row values: the form in which every network, named or imported, reaches the
//! planner.
//!
//! A value is a vector of f32 per row; its width is fixed when it is made. Nodes are listed in topological order: an
//! operation reads only values listed before it. Shapes are checked once, here and in `builder`; the planner trusts them.

use crate::format::TensorId;
use crate::ops::Activation;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::mem::discriminant;

/// A value of the graph, by its place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub usize);

/// Running statistics and affine of a batch norm, each a tensor of the layer's width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Norm {
    pub gamma: TensorId,
    pub beta: TensorId,
    pub mean: TensorId,
    pub variance: TensorId,
    pub epsilon: f64,
}

/// What a linear layer multiplies by: `weight` is `[outputs, inputs]`, as PyTorch stores it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Layer {
    pub weight: TensorId,
    pub bias: Option<TensorId>,
    /// A batch norm folded into the layer by `plan/fold`.
    pub norm: Option<Norm>,
}

/// Where a partial product starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    Zero,
    Bias,
    Value(Value),
}

/// One operation. Networks build the upper ones; `Product` is made by `plan/split` and `plan/fuse` from `Linear`.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The embedding (pooled, for a bag) or the dense values of a feature, by its slot.
    Feature(usize),
    /// The scenario's row of a `[scenarios, width]` tensor.
    Scenario(TensorId),
    /// The inputs side by side.
    Concat(Vec<Value>),
    /// `width` columns of `input` from `start`.
    Slice { input: Value, start: usize },
    /// `y = x W^T + b`
    Linear { input: Value, layer: Layer },
    /// `y = (x - mean) / sqrt(variance + epsilon) * gamma + beta`, the running statistics of training.
    BatchNorm { input: Value, norm: Norm },
    /// An activation, per element.
    Activation { input: Value, activation: Activation },
    /// The product of two values of equal width, per element; a right side of width 1 is repeated.
    Multiply { left: Value, right: Value },
    /// `exp(x) / sum(exp(x))` over the row.
    Softmax { input: Value },
    /// `sum_e gate[e] * experts[e]`
    Mixture { gate: Value, experts: Vec<Value> },
    /// The columns `columns` of a layer applied to `input`, added to `start` by ascending FMA, then to `addend`.
    Product {
        input: Value,
        layer: Layer,
        columns: Vec<(usize, usize)>,
        start: Start,
        addend: Option<Value>,
        activation: Activation,
    },
}

impl Op {
    /// Calls `f` with every value that the operation reads.
    pub fn inputs(&self, mut f: impl FnMut(Value)) {
        match self {
            Op::Feature(_) | Op::Scenario(_) => {}
            Op::Concat(parts) => parts.iter().copied().for_each(f),
            Op::Slice { input, .. }
            | Op::Linear { input, .. }
            | Op::BatchNorm { input, .. }
            | Op::Activation { input, .. }
            | Op::Softmax { input } => f(*input),
            Op::Multiply { left, right } => {
                f(*left);
                f(*right);
            }
            Op::Mixture { gate, experts } => {
                f(*gate);
                experts.iter().copied().for_each(f);
            }
            Op::Product { input, start, addend, .. } => {
                f(*input);
                if let Start::Value(value) = start {
                    f(*value);
                }
                if let Some(value) = addend {
                    f(*value);
                }
            }
        }
    }

    /// The same operation reading `f(value)` wherever it read `value`.
    pub fn map_inputs(&self, f: impl Fn(Value) -> Value) -> Op {
        let mut op = self.clone();
        match &mut op {
            Op::Feature(_) | Op::Scenario(_) => {}
            Op::Concat(parts) => parts.iter_mut().for_each(|part| *part = f(*part)),
            Op::Slice { input, .. }
            | Op::Linear { input, .. }
            | Op::BatchNorm { input, .. }
            | Op::Activation { input, .. }
            | Op::Softmax { input } => *input = f(*input),
            Op::Multiply { left, right } => {
                *left = f(*left);
                *right = f(*right);
            }
            Op::Mixture { gate, experts } => {
                *gate = f(*gate);
                experts.iter_mut().for_each(|expert| *expert = f(*expert));
            }
            Op::Product { input, start, addend, .. } => {
                *input = f(*input);
                if let Start::Value(value) = start {
                    *value = f(*value);
                }
                if let Some(value) = addend {
                    *value = f(*value);
                }
            }
        }
        op
    }
}

/// An operation, the width of its value, and the name that `inspect` prints: the prefix of its tensors, or its feature.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub op: Op,
    pub width: usize,
    pub name: String,
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
        op.inputs(|value| value.hash(&mut hasher));
        let alike = self.seen.entry(hasher.finish()).or_default();
        if let Some(place) =
            alike.iter().find(|place| self.nodes[**place].op == op && self.nodes[**place].width == width)
        {
            return Value(*place);
        }
        alike.push(self.nodes.len());
        self.nodes.push(Node { op, width, name: name.into() });
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

    /// How many operations and outputs read each value.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.nodes.len()];
        for node in &self.nodes {
            node.op.inputs(|value| uses[value.0] += 1);
        }
        self.outputs.iter().flatten().for_each(|value| uses[value.0] += 1);
        uses
    }
}
