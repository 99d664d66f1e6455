//! Work of model rate goes into the weights: a batch norm over a linear layer that nothing else reads becomes part of it.
//!
//! With `s = gamma / sqrt(variance + epsilon)`: `W' = s W` and `b' = (b - mean) s + beta`, computed in f64 at packing.

use super::rewrite::rewrite;
use crate::network::graph::{Graph, Layer, Op};

pub fn fold(graph: &Graph) -> Graph {
    let uses = graph.uses();
    rewrite(graph, |folded, node, op| {
        if let (Op::BatchNorm { input: source, norm }, Op::BatchNorm { input, .. }) = (&node.op, &op)
            && let Op::Linear { input: before, layer: layer @ Layer { norm: None, .. } } = *folded.op(*input)
            && uses[source.0] == 1
        {
            let layer = Layer { norm: Some(*norm), ..layer };
            let name = folded.name(*input).to_owned();
            return folded.add(Op::Linear { input: before, layer }, node.width, name);
        }
        folded.add(op, node.width, &node.name)
    })
}
