//! The split of dense layers by rate: `[u; i] W = u W_u + i W_i`, exactly, at any depth.
//!
//! Concatenations of values of several rates are kept apart: an element-wise operation on one becomes the same operation
//! on each run of equal rate. A linear layer over one becomes a chain of partial products, each at its own rate; so does a
//! layer with a computed matrix, if the matrix is the same for all candidates. A difference in front of a layer goes into
//! its weights: `[t; h; t - h] W = t (W_1 + W_3) + h (W_2 - W_3)`.
//!
//! The chain is the canonical summation order of the engine, the same whether its parts are hoisted or not:
//! ```text
//! s = b                       then ascending FMA over the model, scenario and request columns, in this order
//! t = 0 + item columns        s = s + t      (without request columns: the item columns continue from b)
//! s = s + pair columns        ascending FMA
//! ```
//! The item share is a sum of its own, so that it can be kept across requests without changing a bit. Inputs that have a row
//! per position of a sequence make a second chain from 0, request before pair; the two are added last. A layer over several
//! equal parts of a row does the same with an interleaving of values: those that are repeated for every part make the first
//! chain, which then runs once, and the others the second.

use super::rewrite::rewrite;
use crate::network::graph::{Columns, Graph, Layer, Matrix, Op, Start, Value};
use crate::network::{Rate, complete_rates};
use crate::ops::{Activation, Combine, Spread};

/// Splits every linear layer of `graph`; `features` are the declared rates, by slot. No `Linear` and no `Generated` is left.
pub fn split(graph: &Graph, features: &[Rate]) -> Graph {
    let mut rates = Vec::with_capacity(graph.nodes.len());
    rewrite(graph, |new, node, op| {
        let mut pass = Pass { graph: new, features, rates: &mut rates };
        match op {
            Op::Concat(parts) => pass.concat(&parts),
            Op::Slice { input, start } => pass.slice(input, start, node.width),
            Op::Linear { input, layer, groups } => pass.linear(input, layer, groups, node.width, &node.name),
            Op::Generated { input, weight, bias } => pass.generated(input, weight, bias, node.width, &node.name),
            Op::Activation { input, activation } => {
                pass.per_run(input, &node.name, |_, part, _| Op::Activation { input: part, activation })
            }
            Op::BatchNorm { input, norm, groups: 1, .. } => {
                pass.per_run(input, &node.name, |_, part, start| Op::BatchNorm { input: part, norm, start, groups: 1 })
            }
            Op::Combine { how, left, right, spread, activation }
                if pass.graph.width(right) == node.width && node.width > 1 && pass.is_divided(left, right) =>
            {
                let mixed = if pass.runs(left).len() > 1 { left } else { right };
                pass.per_run(mixed, &node.name, |pass, part, at| {
                    let [left, right] = [left, right].map(|side| pass.slice(side, at, pass.graph.width(part)));
                    Op::Combine { how, left, right, spread, activation }
                })
            }
            Op::Combine { how, left, right, spread, activation } if pass.graph.width(right) == 1 => {
                pass.per_run(left, &node.name, |_, part, _| Op::Combine { how, left: part, right, spread, activation })
            }
            Op::Dots { pairs } => pass.dots(&pairs, &node.name),
            op => pass.add(op, node.width, &node.name),
        }
    })
}

/// An input of a layer.
struct Term {
    value: Value,
    /// Whether it has another part for each of the groups of the layer.
    is_grouped: bool,
    columns: Columns,
}

/// The inputs of a layer that change at one rate, and the columns of its weight that they meet.
#[derive(Default)]
struct Group {
    parts: Vec<Value>,
    columns: Vec<Columns>,
}

impl Group {
    fn push(&mut self, part: Value, columns: Columns) {
        self.parts.push(part);
        match self.columns.last_mut() {
            Some(Columns { length, terms })
                if terms.len() == columns.terms.len()
                    && terms.iter().zip(&columns.terms).all(|(a, b)| (a.0 + *length, a.1) == *b) =>
            {
                *length += columns.length;
            }
            _ => self.columns.push(columns),
        }
    }
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

    /// Values of `groups` equal parts, part by part side by side.
    fn interleave(&mut self, parts: &[Value], groups: usize) -> Value {
        if groups == 1 || parts.len() == 1 {
            return self.join(parts);
        }
        let parts: Vec<(Value, usize)> = parts.iter().map(|part| (*part, self.graph.width(*part) / groups)).collect();
        let width = parts.iter().map(|(_, width)| width * groups).sum();
        self.add(Op::Interleave { parts, groups }, width, "interleave")
    }

    /// A concatenation of runs, each of one rate.
    fn concat(&mut self, parts: &[Value]) -> Value {
        let mut leaves = Vec::new();
        parts.iter().for_each(|part| self.leaves(*part, &mut leaves));
        let rates = &*self.rates;
        let kind = |value: &Value| (rates[value.0], self.graph.sequence(*value));
        let runs: Vec<Vec<Value>> = leaves.chunk_by(|a, b| kind(a) == kind(b)).map(<[Value]>::to_vec).collect();
        let runs: Vec<Value> = runs.iter().map(|run| self.join(run)).collect();
        self.join(&runs)
    }

    /// The runs of a value with the column where each begins: one run, unless it is a concatenation of mixed rate.
    fn runs(&self, value: Value) -> Vec<(Value, usize)> {
        let kind = |value: &Value| (self.rates[value.0], self.graph.sequence(*value));
        let parts = match self.graph.op(value) {
            Op::Concat(parts) if parts.iter().any(|part| kind(part) != kind(&parts[0])) => parts.clone(),
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

    /// Whether what combines two values changes at another rate in some columns than in others.
    fn is_divided(&self, left: Value, right: Value) -> bool {
        let runs = [left, right].map(|value| self.runs(value));
        if runs.iter().flatten().any(|(part, _)| self.graph.sequence(*part).is_some()) {
            return true;
        }
        let [left, right] = runs.map(|runs| runs.iter().map(|(part, _)| self.rates[part.0]).collect::<Vec<Rate>>());
        let (some, other) = if left.len() > 1 { (left, right) } else { (right, left) };
        match other[..] {
            [other] => some.iter().any(|rate| rate.join(other) != some[0].join(other)),
            _ => true,
        }
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

    /// The inputs of a layer over `groups` equal parts of a row, with the columns that each meets; what a difference reads,
    /// in its place.
    fn terms(&self, input: Value, groups: usize) -> Vec<Term> {
        let mut terms: Vec<Term> = Vec::new();
        let mut start = 0;
        for (leaf, length) in self.parts(input, groups) {
            let parts = match *self.graph.op(leaf) {
                Op::Combine { how: Combine::Subtract, left, right, spread, activation: Activation::Identity }
                    if self.graph.width(right) == self.graph.width(leaf)
                        || (self.graph.width(right) == length && spread == Spread::Cycle) =>
                {
                    vec![(left, false), (right, true)]
                }
                _ => vec![(leaf, false)],
            };
            for (part, is_negative) in parts {
                let part = self.repeated(part, length);
                let is_grouped = groups > 1 && self.graph.width(part) != length;
                let is_same = |known: &&mut Term| known.value == part && known.columns.length == length;
                match terms.iter_mut().find(is_same) {
                    Some(term) => term.columns.terms.push((start, is_negative)),
                    None => {
                        let columns = Columns { length, terms: vec![(start, is_negative)] };
                        terms.push(Term { value: part, is_grouped, columns });
                    }
                }
            }
            start += length;
        }
        terms
    }

    /// What is interleaved in a value, with the width that each has in one of `groups` equal parts.
    fn parts(&self, value: Value, groups: usize) -> Vec<(Value, usize)> {
        let whole = self.graph.width(value);
        match self.graph.op(value) {
            Op::Concat(_) if groups == 1 => {
                let mut leaves = Vec::new();
                self.leaves(value, &mut leaves);
                leaves.into_iter().map(|leaf| (leaf, self.graph.width(leaf))).collect()
            }
            Op::Interleave { parts, groups: of } if *of == groups => {
                let nested = |(part, width): &(Value, usize)| match self.graph.width(*part) == *width {
                    true => self.parts(*part, 1),
                    false => self.parts(*part, groups),
                };
                parts.iter().flat_map(nested).collect()
            }
            _ => vec![(value, whole / groups)],
        }
    }

    /// The value that is repeated, if `value` is nothing but `width` columns over and over.
    fn repeated(&self, value: Value, width: usize) -> Value {
        match self.graph.op(value) {
            Op::View { input, start: 0, dims } if self.graph.width(*input) == width => match dims[..] {
                [(_, 0), (size, 1)] if size == width => *input,
                [(_, 0)] if width == 1 => *input,
                _ => value,
            },
            _ => value,
        }
    }

    fn linear(&mut self, input: Value, layer: Layer, groups: usize, width: usize, name: &str) -> Value {
        let terms = self.terms(input, groups);
        self.chain(terms, Start::Bias, groups, width, name, |_, columns| Matrix::Layer(layer, columns))
    }

    fn generated(&mut self, input: Value, weight: Value, bias: Option<Value>, width: usize, name: &str) -> Value {
        let start = bias.map_or(Start::Zero, Start::Value);
        if !self.rates[weight.0].is_request_constant() {
            let (addend, activation) = (None, Activation::Identity);
            let matrix = Matrix::Value(weight);
            return self.add(Op::Product { input, matrix, start, addend, activation, groups: 1 }, width, name);
        }
        let mut leaves = Vec::new();
        self.leaves(input, &mut leaves);
        let mut column = 0;
        let place = |leaf: Value| {
            let length = self.graph.width(leaf);
            column += length;
            let columns = Columns { length, terms: vec![(column - length, false)] };
            Term { value: leaf, is_grouped: false, columns }
        };
        let terms: Vec<Term> = leaves.into_iter().map(place).collect();
        self.chain(terms, start, 1, width, name, |pass, columns| {
            let rows = columns.iter().map(|run| pass.slice(weight, run.terms[0].0 * width, run.length * width));
            let rows: Vec<Value> = rows.collect();
            Matrix::Value(pass.join(&rows))
        })
    }

    /// The products of a layer whose inputs are `terms`, as the head of this file says.
    fn chain(
        &mut self,
        terms: Vec<Term>,
        bias: Start,
        of: usize,
        width: usize,
        name: &str,
        mut matrix: impl FnMut(&mut Self, Vec<Columns>) -> Matrix,
    ) -> Value {
        let mut groups: [[Group; 5]; 2] = Default::default();
        for Term { value, is_grouped, columns } in terms {
            let is_many = is_grouped || self.graph.sequence(value).is_some();
            groups[usize::from(is_many)][self.rates[value.0] as usize].push(value, columns);
        }
        let [rows, positions] = groups;
        let activation = Activation::Identity;
        let part = width / of;

        let mut row = None;
        for (rate, Group { parts, columns }) in
            rows.into_iter().enumerate().filter(|(_, group)| !group.parts.is_empty())
        {
            let (start, addend) = match row {
                None => (bias, None),
                Some(shared) if rate == Rate::Item as usize => (Start::Zero, Some(shared)),
                Some(shared) => (Start::Value(shared), None),
            };
            let (input, matrix) = (self.join(&parts), matrix(self, columns));
            row = Some(self.add(Op::Product { input, matrix, start, addend, activation, groups: 1 }, part, name));
        }

        let mut position = None;
        let groups: Vec<Group> = positions.into_iter().filter(|group| !group.parts.is_empty()).collect();
        let count = groups.len();
        for (i, Group { parts, columns }) in groups.into_iter().enumerate() {
            let start = match (position, row) {
                (Some(shared), _) => Start::Value(shared),
                (None, None) => bias,
                (None, Some(_)) => Start::Zero,
            };
            let input = self.interleave(&parts, of);
            // The row goes into the last product only if that runs as often as the row changes.
            let is_last = i + 1 == count;
            let addend =
                row.filter(|row| is_last && self.rates[row.0].join(self.rates[input.0]) == self.rates[input.0]);
            let matrix = matrix(self, columns);
            position =
                Some(self.add(Op::Product { input, matrix, start, addend, activation, groups: of }, width, name));
            if addend.is_some() {
                row = None;
            }
        }
        match (position, row) {
            (Some(left), Some(right)) => {
                let (how, spread) = (Combine::Add, Spread::Cycle);
                self.add(Op::Combine { how, left, right, spread, activation }, width, name)
            }
            (Some(value), None) => value,
            (None, Some(value)) if of == 1 => value,
            (None, Some(value)) => {
                let dims = vec![(of, 0), (part, 1)];
                self.add(Op::View { input: value, start: 0, dims }, width, name)
            }
            (None, None) => unreachable!("a layer has inputs"),
        }
    }

    /// One operation for the pairs of each rate.
    fn dots(&mut self, pairs: &[(Value, Value)], name: &str) -> Value {
        let rate = |(left, right): &(Value, Value)| self.rates[left.0].join(self.rates[right.0]) as usize;
        let rates: Vec<usize> = pairs.iter().map(rate).collect();
        let mut wholes: [Vec<(Value, Value)>; 5] = Default::default();
        pairs.iter().zip(&rates).for_each(|(pair, rate)| wholes[*rate].push(*pair));
        let wholes = wholes.map(|pairs| {
            let width = pairs.len();
            (width > 0).then(|| self.add(Op::Dots { pairs }, width, name))
        });
        let mut columns = [0; 5];
        let mut parts = Vec::new();
        for run in rates.chunk_by(|a, b| a == b) {
            let (column, width) = (&mut columns[run[0]], run.len());
            if let Some(whole) = wholes[run[0]] {
                parts.push(self.slice(whole, *column, width));
            }
            *column += width;
        }
        self.concat(&parts)
    }
}
