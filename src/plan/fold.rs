//! Work of model rate goes into the weights: a batch norm before or after a linear layer becomes part of it.
//!
//! After, with `s = gamma / sqrt(variance + epsilon)`: `W' = s W` and `b' = (b - mean) s + beta`, if nothing else reads the
//! layer. Before: `W' = W s` and `b' = b + W (beta - mean s)`. Both are computed in f64 at packing.

use super::rewrite::rewrite;
use crate::network::graph::{Graph, Layer, Op};

pub fn fold(graph: &Graph) -> Graph {
    let uses = graph.uses();
    rewrite(graph, |folded, node, op| match (&node.op, &op) {
        (Op::BatchNorm { input: source, norm, .. }, Op::BatchNorm { input, .. }) if uses[source.0] == 1 => {
            let Op::Linear { input: before, layer: layer @ Layer { norm: None, .. }, groups: 1 } = *folded.op(*input)
            else {
                return folded.add(op, node.width, &node.name);
            };
            let layer = Layer { norm: Some(*norm), ..layer };
            let name = folded.name(*input).to_owned();
            folded.add(Op::Linear { input: before, layer, groups: 1 }, node.width, name)
        }
        (_, Op::Linear { input, layer, groups: 1 }) => {
            let Op::BatchNorm { input: before, norm, .. } = *folded.op(*input) else {
                return folded.add(op, node.width, &node.name);
            };
            let layer = Layer { input_norm: Some(norm), ..*layer };
            folded.add(Op::Linear { input: before, layer, groups: 1 }, node.width, &node.name)
        }
        _ => folded.add(op, node.width, &node.name),
    })
}
