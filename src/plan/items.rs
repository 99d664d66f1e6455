//! What an item cache keeps: the values that depend on the ad alone, and not on the scenario.
//!
//! `apart` takes the sum of a layer's item columns out of the product that adds it to the request's share. Item steps then end in
//! values of the item alone; those that candidate steps read make up the row that is kept, and `keep` has them read it: where they
//! need a value, so that no other memory holds all of a row, and with what is added to it at once. Scores have the bits of a plan
//! without a cache, as the item's share is a sum of its own in every plan (`split`), unless rows are kept in a shorter type.

use super::rates;
use super::rewrite::rewrite;
use super::schedule::dependents;
use crate::network::Rate;
use crate::network::graph::{Graph, Matrix, Op, Start, Value};
use crate::ops::{Activation, Combine, Element, Span, Spread};
use std::collections::{BTreeMap, BTreeSet};

/// The type of the rows of an item cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ItemRows {
    /// As computed.
    #[default]
    F32,
    /// Halves: numbers beyond their range are held at its ends.
    F16,
    /// Integers from -127 to 127, with a scale for each value of the row that a step computed.
    Int8,
}

/// The row of a candidate: its parts one after the other.
#[derive(Debug)]
pub struct ItemRow {
    pub rows: ItemRows,
    pub parts: Vec<ItemPart>,
    /// Of all parts.
    pub bytes: usize,
}

/// One value of a row.
#[derive(Debug)]
pub struct ItemPart {
    /// Where item steps leave it in memory; candidates are a stride apart.
    pub span: Span,
    /// Where its bytes begin: for int8 the scale, an f32, and then the integers.
    pub start: usize,
}

impl ItemRows {
    /// How an element is stored.
    pub fn element(self) -> Element {
        match self {
            ItemRows::F32 => Element::F32,
            ItemRows::F16 => Element::F16,
            ItemRows::Int8 => Element::Int8,
        }
    }
}

impl ItemRow {
    /// The row of `spans`, in `rows`; `None` if there are none.
    pub fn new(rows: ItemRows, spans: Vec<Span>) -> Option<Self> {
        let (mut bytes, element) = (0, rows.element());
        let place = |span: Span| {
            let start = bytes;
            bytes += element.scale_bytes() + element.row_bytes(span.width);
            ItemPart { span, start }
        };
        let parts: Vec<ItemPart> = spans.into_iter().map(place).collect();
        (!parts.is_empty()).then_some(Self { rows, parts, bytes })
    }
}

/// `graph` with the item's share of every layer as a value of its own.
pub fn apart(graph: &Graph, features: &[Rate]) -> Graph {
    let rates = rates(graph, features);
    let dependents = dependents(graph);
    let is_kept = |value: Value| rates[value.0].join(Rate::Item) == Rate::Item && !dependents[value.0];
    rewrite(graph, |new, node, op| {
        let Op::Product { input, matrix, addend: Some(addend), .. } = &node.op else {
            return new.add(op, node.width, &node.name);
        };
        let reads_kept = is_kept(*input)
            && match matrix {
                Matrix::Layer(..) => true,
                Matrix::Value(matrix) => is_kept(*matrix),
            };
        match op {
            Op::Product {
                input,
                matrix,
                start: start @ (Start::Zero | Start::Bias),
                addend: Some(right),
                activation: Activation::Identity,
                groups,
            } if reads_kept && !is_kept(*addend) && new.width(right) == node.width => {
                let (addend, activation) = (None, Activation::Identity);
                let share = Op::Product { input, matrix, start, addend, activation, groups };
                let left = new.add(share, node.width, &node.name);
                let sum = Op::Combine { how: Combine::Add, left, right, spread: Spread::Cycle, activation };
                new.add(sum, node.width, &node.name)
            }
            op => new.add(op, node.width, &node.name),
        }
    })
}

/// `graph` with `Cached` wherever what is computed for every candidate reads a value of the item, and after all of those.
pub fn keep(graph: &Graph, features: &[Rate]) -> Graph {
    let (rates, dependents) = (rates(graph, features), dependents(graph));
    let is_item: Vec<bool> =
        rates.iter().zip(&dependents).map(|(rate, is_dependent)| *rate == Rate::Item && !is_dependent).collect();
    let mut is_late: Vec<bool> = Vec::with_capacity(graph.nodes.len());
    let mut read: BTreeSet<Value> = BTreeSet::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let inputs = if is_item[index] { Vec::new() } else { node.op.inputs() };
        is_late.push(inputs.iter().any(|input| is_item[input.0] || is_late[input.0]));
        read.extend(inputs.into_iter().filter(|input| is_item[input.0]));
    }
    read.extend(graph.outputs.iter().flatten().filter(|output| is_item[output.0]));

    let mut pass = Keep { graph, pieces: Pieces::of(graph, &read), new: Graph::default(), names: BTreeMap::new() };
    for (index, node) in graph.nodes.iter().enumerate().filter(|(index, _)| !is_late[*index]) {
        let op = node.op.map_inputs(|value| pass.names[&value]);
        let value = pass.new.add(op, node.width, &node.name);
        pass.names.insert(Value(index), value);
    }
    for (index, node) in graph.nodes.iter().enumerate().filter(|(index, _)| is_late[*index]) {
        let read = node.op.inputs().into_iter().filter(|input| is_item[input.0]);
        let kept: BTreeMap<Value, Value> = read.map(|value| (value, pass.cached(value))).collect();
        let op = node.op.map_inputs(|value| kept.get(&value).copied().unwrap_or_else(|| pass.names[&value]));
        let op = match op {
            Op::Combine { how: Combine::Add, left, right, spread: Spread::Cycle, activation }
                if pass.new.width(right) == node.width && pass.new.sequence(right).is_none() =>
            {
                match *pass.new.op(left) {
                    Op::Cached { input, addend: None, activation: Activation::Identity } => {
                        Op::Cached { input, addend: Some(right), activation }
                    }
                    _ => op,
                }
            }
            op => op,
        };
        let value = pass.new.add(op, node.width, &node.name);
        pass.names.insert(Value(index), value);
    }
    let outputs = graph
        .outputs
        .iter()
        .map(|output| output.map(|value| if is_item[value.0] { pass.cached(value) } else { pass.names[&value] }));
    let outputs = outputs.collect();
    pass.new.outputs = outputs;
    pass.new
}

struct Keep<'a> {
    graph: &'a Graph,
    pieces: Pieces<'a>,
    new: Graph,
    /// Of the values in the new graph: what item steps compute, not what is kept of it.
    names: BTreeMap<Value, Value>,
}

impl Keep<'_> {
    /// A value of the item as the cache gives it.
    fn cached(&mut self, value: Value) -> Value {
        let (whole, column) = self.pieces.place(value);
        let (start, end) = self.pieces.piece(whole, column);
        let (width, name) = (end - start, self.graph.name(whole));
        let input = match self.names[&whole] {
            input if width == self.graph.width(whole) => input,
            input => self.new.add(Op::Slice { input, start }, width, name),
        };
        let cached = Op::Cached { input, addend: None, activation: Activation::Identity };
        let cached = self.new.add(cached, width, name);
        match self.graph.width(value) {
            all if all == width => cached,
            some => self.new.add(Op::Slice { input: cached, start: column - start }, some, name),
        }
    }
}

/// The values that are kept: parts of those that lie in no other, none of them in two.
struct Pieces<'a> {
    graph: &'a Graph,
    /// The concatenation that holds each part, and at which column.
    inside: BTreeMap<Value, (Value, usize)>,
    /// Where pieces begin and end in each whole value, in order.
    pieces: BTreeMap<Value, Vec<(usize, usize)>>,
}

impl<'a> Pieces<'a> {
    /// Those that `read` lie in.
    fn of(graph: &'a Graph, read: &BTreeSet<Value>) -> Self {
        let mut pieces = Self { graph, inside: BTreeMap::new(), pieces: BTreeMap::new() };
        let mut wholes: Vec<Value> = read.iter().map(|value| pieces.place(*value).0).collect();
        while let Some(whole) = wholes.pop() {
            let Op::Concat(parts) = graph.op(whole) else { continue };
            let mut column = 0;
            for part in parts {
                if !matches!(graph.op(*part), Op::Slice { .. }) && !pieces.inside.contains_key(part) {
                    pieces.inside.insert(*part, (whole, column));
                    wholes.push(*part);
                }
                column += graph.width(*part);
            }
        }
        for value in read {
            let (whole, column) = pieces.place(*value);
            pieces.pieces.entry(whole).or_default().push((column, column + graph.width(*value)));
        }
        for ranges in pieces.pieces.values_mut() {
            ranges.sort_unstable();
            ranges.dedup_by(|next, last| {
                let is_inside = next.0 < last.1;
                if is_inside {
                    last.1 = last.1.max(next.1);
                }
                is_inside
            });
        }
        pieces
    }

    /// The value that `value` lies in, and at which column.
    fn place(&self, mut value: Value) -> (Value, usize) {
        let mut column = 0;
        loop {
            (value, column) = match (self.graph.op(value), self.inside.get(&value)) {
                (Op::Slice { input, start }, _) => (*input, column + start),
                (_, Some((whole, at))) => (*whole, column + at),
                _ => return (value, column),
            };
        }
    }

    /// The piece of `whole` that has a column.
    fn piece(&self, whole: Value, column: usize) -> (usize, usize) {
        let holds = |(start, end): &&(usize, usize)| (*start..*end).contains(&column);
        self.pieces[&whole].iter().find(holds).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::prune::prune;
    use super::*;

    /// Features of the request (slot 0) and of the item (1 and 2), 4 wide each.
    fn features(graph: &mut Graph) -> [Value; 3] {
        [0, 1, 2].map(|slot| graph.add(Op::Feature(slot), 4, format!("{slot}")))
    }

    fn combine(left: Value, right: Value, how: Combine) -> Op {
        Op::Combine { how, left, right, spread: Spread::Cycle, activation: Activation::Relu }
    }

    fn kept(graph: &Graph) -> Graph {
        let kept = keep(graph, &[Rate::Request, Rate::Item, Rate::Item]);
        let tasks: Vec<Vec<usize>> = (0..graph.outputs.len()).map(|task| vec![task]).collect();
        prune(&kept, &tasks).0
    }

    #[test]
    fn what_lies_in_another_value_is_kept_once() {
        let mut graph = Graph::default();
        let [user, left, right] = features(&mut graph);
        let whole = graph.add(Op::Concat(vec![left, right]), 8, "whole");
        let middle = graph.add(Op::Slice { input: whole, start: 2 }, 4, "middle");
        let users = graph.add(Op::Concat(vec![user, user]), 8, "users");
        let mut last = graph.add(combine(whole, users, Combine::Multiply), 8, "product");
        for (part, start) in [(left, 0), (right, 4), (middle, 2)] {
            let slice = graph.add(Op::Slice { input: last, start: 0 }, 4, "slice");
            let sum = graph.add(combine(part, slice, Combine::Add), 4, format!("sum {start}"));
            last = graph.add(Op::Concat(vec![sum, slice]), 8, "last");
        }
        graph.outputs = vec![Some(last)];
        let kept = kept(&graph);
        let cached: Vec<&Op> =
            kept.nodes.iter().map(|node| &node.op).filter(|op| matches!(op, Op::Cached { .. })).collect();
        let [Op::Cached { input, addend: None, activation: Activation::Identity }] = cached[..] else {
            panic!("{cached:?}");
        };
        assert!(matches!(kept.op(*input), Op::Concat(_)));
        let starts = kept.nodes.iter().filter_map(|node| match node.op {
            Op::Combine { how: Combine::Add, left, .. } => match kept.op(left) {
                Op::Slice { start, .. } => Some(*start),
                _ => None,
            },
            _ => None,
        });
        assert_eq!(starts.collect::<Vec<_>>(), [0, 4, 2]);
    }

    #[test]
    fn what_is_added_to_all_of_a_part_is_added_where_it_is_read() {
        let mut graph = Graph::default();
        let [user, item, other] = features(&mut graph);
        let sum = graph.add(combine(item, user, Combine::Add), 4, "sum");
        let product = graph.add(combine(other, sum, Combine::Multiply), 4, "product");
        graph.outputs = vec![Some(product)];
        let kept = kept(&graph);
        let cached: Vec<(bool, Activation)> = kept
            .nodes
            .iter()
            .filter_map(|node| match node.op {
                Op::Cached { addend, activation, .. } => Some((addend.is_some(), activation)),
                _ => None,
            })
            .collect();
        assert_eq!(cached, [(true, Activation::Relu), (false, Activation::Identity)]);
        assert!(!kept.nodes.iter().any(|node| matches!(node.op, Op::Combine { how: Combine::Add, .. })));
    }

    #[test]
    fn parts_of_a_value_that_do_not_overlap_are_kept_apart() {
        let mut graph = Graph::default();
        let [user, item, _] = features(&mut graph);
        let ends = [0, 3].map(|start| graph.add(Op::Slice { input: item, start }, 1, "end"));
        let user = graph.add(Op::Slice { input: user, start: 0 }, 1, "user");
        let sums = ends.map(|end| graph.add(combine(end, user, Combine::Add), 1, "sum"));
        graph.outputs = sums.map(Some).to_vec();
        let kept = kept(&graph);
        let starts = kept.nodes.iter().filter_map(|node| match node.op {
            Op::Cached { input, addend: Some(_), .. } => match kept.op(input) {
                Op::Slice { start, .. } => Some((*start, node.width)),
                _ => None,
            },
            _ => None,
        });
        assert_eq!(starts.collect::<Vec<_>>(), [(0, 1), (3, 1)]);
    }
}
