//! What an item cache keeps: the values that depend on the ad alone, and not on the scenario.
//!
//! `apart` takes the sum of a layer's item columns out of the product that adds it to the request's share. Item steps then end in
//! values of the item alone; those that candidate steps read make up the row that is kept. Scores have the bits of a plan without
//! a cache, as the item's share is a sum of its own in every plan (`split`), unless rows are kept in a shorter type.

use super::rewrite::rewrite;
use super::schedule::dependents;
use crate::network::graph::{Graph, Matrix, Op, Start, Value};
use crate::network::{Rate, complete_rates};
use crate::ops::{Activation, Combine, Element, Span, Spread};

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
    /// Where it is in memory; candidates are a stride apart.
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

    /// Bytes of the scale of a part.
    pub fn scale_bytes(self) -> usize {
        if self == ItemRows::Int8 { size_of::<f32>() } else { 0 }
    }
}

impl ItemRow {
    /// The row of `spans`, in `rows`; `None` if there are none.
    pub fn new(rows: ItemRows, spans: Vec<Span>) -> Option<Self> {
        let mut bytes = 0;
        let place = |span: Span| {
            let start = bytes;
            bytes += rows.scale_bytes() + rows.element().row_bytes(span.width);
            ItemPart { span, start }
        };
        let parts: Vec<ItemPart> = spans.into_iter().map(place).collect();
        (!parts.is_empty()).then_some(Self { rows, parts, bytes })
    }
}

/// `graph` with the item's share of every layer as a value of its own.
pub fn apart(graph: &Graph, features: &[Rate]) -> Graph {
    let mut rates = Vec::with_capacity(graph.nodes.len());
    complete_rates(graph, features, &mut rates);
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
