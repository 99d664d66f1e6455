//! An activation over a product or an element-wise operation that nothing else reads is computed at the end of that.

use super::rewrite::rewrite;
use crate::network::graph::{Graph, Op};
use crate::ops::Activation;

pub fn fuse(graph: &Graph) -> Graph {
    let uses = graph.uses();
    rewrite(graph, |fused, node, op| {
        if let (Op::Activation { input: source, .. }, Op::Activation { input, activation: after }) = (&node.op, &op)
            && uses[source.0] == 1
            && let Op::Product { activation: Activation::Identity, .. }
            | Op::Combine { activation: Activation::Identity, .. } = fused.op(*input)
        {
            let mut before = fused.op(*input).clone();
            if let Op::Product { activation, .. } | Op::Combine { activation, .. } = &mut before {
                *activation = *after;
            }
            return fused.add(before, node.width, &node.name);
        }
        fused.add(op, node.width, &node.name)
    })
}
