//! The split of dense layers by rate: `[u; i] W = u W_u + i W_i`, exactly, at any depth.
//!
//! Concatenations of values of several rates are kept apart: an element-wise operation on one becomes the same operation
//! on each run of equal rate. A linear layer over one becomes a chain of partial products, each at its own rate.
//!
//! The chain is the canonical summation order of the engine, the same whether its parts are hoisted or not:
//! ```text
//! s = b                       then ascending FMA over the model, scenario and request columns, in this order
//! t = 0 + item columns        s = s + t      (without request columns: the item columns continue from b)
//! s = s + pair columns        ascending FMA
//! ```
//! The item share is a sum of its own, so that it can be kept across requests without changing a bit.

use super::rewrite::rewrite;
use crate::network::graph::{Graph, Layer, Op, Start, Value};
use crate::network::{Rate, complete_rates};
use crate::ops::Activation;

/// Splits every linear layer of `graph`; `features` are the declared rates, by slot. No `Linear` is left.
pub fn split(graph: &Graph, features: &[Rate]) -> Graph {
    let mut rates = Vec::with_capacity(graph.nodes.len());
    rewrite(graph, |new, node, op| {
        let mut pass = Pass { graph: new, features, rates: &mut rates };
        match op {
            Op::Concat(parts) => pass.concat(&parts),
            Op::Slice { input, start } => pass.slice(input, start, node.width),
            Op::Linear { input, layer } => pass.linear(input, layer, node.width, &node.name),
            Op::Activation { input, activation } => {
                pass.per_run(input, &node.name, |_, part, _| Op::Activation { input: part, activation })
            }
            Op::Multiply { left, right } if pass.runs(left).len() > 1 => {
                let is_wide = pass.graph.width(right) > 1;
                pass.per_run(left, &node.name, |pass, part, at| {
                    let right = if is_wide { pass.slice(right, at, pass.graph.width(part)) } else { right };
                    Op::Multiply { left: part, right }
                })
            }
            Op::Multiply { left, right } if pass.graph.width(right) > 1 => {
                pass.per_run(right, &node.name, |pass, part, at| {
                    let left = pass.slice(left, at, pass.graph.width(part));
                    Op::Multiply { left, right: part }
                })
            }
            op => pass.add(op, node.width, &node.name),
        }
    })
}

/// The inputs of a layer that change at one rate, and the columns (start, length) of its weight that they meet.
#[derive(Default)]
struct Group {
    parts: Vec<Value>,
    columns: Vec<(usize, usize)>,
}

struct Pass<'a> {
    graph: &'a mut Graph,
    features: &'a [Rate],
    rates: &'a mut Vec<Rate>,
}

impl Pass<'_> {
    fn add(&mut self, op: Op, width: usize, name: &str) -> Value {
        let value = self.graph.add(op, width, name);
        complete_rates(self.graph, self.features, self.rates);
        value
    }

    /// The parts of a value that are no concatenations themselves.
    fn leaves(&self, value: Value, leaves: &mut Vec<Value>) {
        match self.graph.op(value) {
            Op::Concat(parts) => parts.clone().into_iter().for_each(|part| self.leaves(part, leaves)),
            _ => leaves.push(value),
        }
    }

    fn join(&mut self, parts: &[Value]) -> Value {
        if let [single] = parts {
            return *single;
        }
        let width = parts.iter().map(|part| self.graph.width(*part)).sum();
        self.add(Op::Concat(parts.to_vec()), width, "concat")
    }

    /// A concatenation of runs, each of one rate.
    fn concat(&mut self, parts: &[Value]) -> Value {
        let mut leaves = Vec::new();
        parts.iter().for_each(|part| self.leaves(*part, &mut leaves));
        let rates = &*self.rates;
        let runs: Vec<Vec<Value>> = leaves.chunk_by(|a, b| rates[a.0] == rates[b.0]).map(<[Value]>::to_vec).collect();
        let runs: Vec<Value> = runs.iter().map(|run| self.join(run)).collect();
        self.join(&runs)
    }

    /// The runs of a value with the column where each begins: one run, unless it is a concatenation of mixed rate.
    fn runs(&self, value: Value) -> Vec<(Value, usize)> {
        let rates = &*self.rates;
        let parts = match self.graph.op(value) {
            Op::Concat(parts) if parts.iter().any(|part| rates[part.0] != rates[parts[0].0]) => parts.clone(),
            _ => vec![value],
        };
        let mut start = 0;
        let place = |part: Value| {
            let at = start;
            start += self.graph.width(part);
            (part, at)
        };
        parts.into_iter().map(place).collect()
    }

    fn slice(&mut self, value: Value, start: usize, width: usize) -> Value {
        if start == 0 && width == self.graph.width(value) {
            return value;
        }
        let op = match self.graph.op(value) {
            Op::Slice { input, start: outer } => Op::Slice { input: *input, start: outer + start },
            Op::Concat(_) => {
                let mut parts = Vec::new();
                for (part, at) in self.runs(value) {
                    let from = start.max(at);
                    let to = (start + width).min(at + self.graph.width(part));
                    if from < to {
                        parts.push((part, from - at, to - from));
                    }
                }
                if let [(part, ..)] = parts[..]
                    && part == value
                {
                    Op::Slice { input: value, start }
                } else {
                    let parts: Vec<Value> =
                        parts.into_iter().map(|(part, from, width)| self.slice(part, from, width)).collect();
                    return self.join(&parts);
                }
            }
            _ => Op::Slice { input: value, start },
        };
        self.add(op, width, "slice")
    }

    /// `make` of each run of `value`, side by side.
    fn per_run(&mut self, value: Value, name: &str, mut make: impl FnMut(&mut Self, Value, usize) -> Op) -> Value {
        let mut parts = Vec::new();
        for (part, at) in self.runs(value) {
            let op = make(self, part, at);
            let width = self.graph.width(part);
            parts.push(self.add(op, width, name));
        }
        self.join(&parts)
    }

    fn linear(&mut self, input: Value, layer: Layer, width: usize, name: &str) -> Value {
        let mut leaves = Vec::new();
        self.leaves(input, &mut leaves);
        let mut groups: [Group; 5] = Default::default();
        let mut column = 0;
        for leaf in leaves {
            let Group { parts, columns } = &mut groups[self.rates[leaf.0] as usize];
            let leaf_width = self.graph.width(leaf);
            parts.push(leaf);
            match columns.last_mut() {
                Some((start, length)) if *start + *length == column => *length += leaf_width,
                _ => columns.push((column, leaf_width)),
            }
            column += leaf_width;
        }

        let mut chain = None;
        for (group, Group { parts, columns }) in groups.into_iter().enumerate() {
            if parts.is_empty() {
                continue;
            }
            let input = self.join(&parts);
            let (start, addend) = match chain {
                None => (Start::Bias, None),
                Some(shared) if group == Rate::Item as usize => (Start::Zero, Some(shared)),
                Some(shared) => (Start::Value(shared), None),
            };
            let activation = Activation::Identity;
            chain = Some(self.add(Op::Product { input, layer, columns, start, addend, activation }, width, name));
        }
        chain.unwrap_or(input)
    }
}
