//! Work of model rate goes into the weights: a batch norm before or after a linear layer becomes part of it.
//!
//! After, with `s = gamma / sqrt(variance + epsilon)`: `W' = s W` and `b' = (b - mean) s + beta`, if nothing else reads the
//! layer, with as many groups. Before: `W' = W s` and `b' = b + W (beta - mean s)`. Both are computed in f64 at packing.

use super::rewrite::rewrite;
use crate::network::graph::{Graph, Layer, Op};

pub fn fold(graph: &Graph) -> Graph {
    let uses = graph.uses();
    rewrite(graph, |folded, node, op| match (&node.op, &op) {
        (Op::BatchNorm { input: source, norm, groups, .. }, Op::BatchNorm { input, .. }) if uses[source.0] == 1 => {
            let groups = *groups;
            match *folded.op(*input) {
                Op::Linear { input: before, layer: layer @ Layer { norm: None, .. }, groups: of } if of == groups => {
                    let layer = Layer { norm: Some(*norm), ..layer };
                    let name = folded.name(*input).to_owned();
                    folded.add(Op::Linear { input: before, layer, groups }, node.width, name)
                }
                _ => folded.add(op, node.width, &node.name),
            }
        }
        (_, Op::Linear { input, layer, groups }) => match *folded.op(*input) {
            Op::BatchNorm { input: before, norm, groups: of, .. } if of == *groups => {
                let layer = Layer { input_norm: Some(norm), ..*layer };
                folded.add(Op::Linear { input: before, layer, groups: of }, node.width, &node.name)
            }
            _ => folded.add(op, node.width, &node.name),
        },
        _ => folded.add(op, node.width, &node.name),
    })
}
