//! What nothing else reads is computed by what does: an activation over a product or an element-wise operation at the end of
//! that, the softmax of a gate by its mixture.

use super::rates;
use super::rewrite::rewrite;
use crate::network::Rate;
use crate::network::graph::{Graph, Op, Value};
use crate::ops::{Activation, MAX_SHARES};

/// `features` are the rates of the features, by slot: a softmax that changes less often than its experts stays apart.
pub fn fuse(graph: &Graph, features: &[Rate]) -> Graph {
    let (uses, rates) = (graph.uses(), rates(graph, features));
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
        if let (Op::Mixture { gate: source, experts: sources, .. }, Op::Mixture { gate, experts, .. }) = (&node.op, &op)
            && uses[source.0] == 1
            && let Op::Softmax { input, groups: 1 } = *fused.op(*gate)
            && experts.len() <= MAX_SHARES
        {
            let (rate, sequence) = (rates[source.0], graph.sequence(*source));
            let is_alike = |of: &Value| rate.join(rates[of.0]) == rate && graph.sequence(*of) == sequence;
            if sources.iter().all(is_alike) {
                let op = Op::Mixture { gate: input, is_softmax: true, experts: experts.clone() };
                return fused.add(op, node.width, &node.name);
            }
        }
        fused.add(op, node.width, &node.name)
    })
}
