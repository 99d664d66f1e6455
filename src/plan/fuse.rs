//! An activation over a product that nothing else reads is computed in the product's epilogue.

use super::rewrite::rewrite;
use crate::network::graph::{Graph, Op};
use crate::ops::Activation;

pub fn fuse(graph: &Graph) -> Graph {
    let uses = graph.uses();
    rewrite(graph, |fused, node, op| {
        if let (Op::Activation { input: source, .. }, Op::Activation { input, activation: after }) = (&node.op, &op)
            && uses[source.0] == 1
            && let product @ Op::Product { activation: Activation::Identity, .. } = fused.op(*input)
        {
            let mut product = product.clone();
            if let Op::Product { activation, .. } = &mut product {
                *activation = *after;
            }
            return fused.add(product, node.width, &node.name);
        }
        fused.add(op, node.width, &node.name)
    })
}
