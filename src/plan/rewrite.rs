//! The walk that every pass over a graph is made of.

use crate::network::graph::{Graph, Node, Op, Value};

/// A new graph, made by giving `visit` each node of `graph` in order, with its inputs already renamed to the values that
/// `visit` returned for them.
pub fn rewrite(graph: &Graph, mut visit: impl FnMut(&mut Graph, &Node, Op) -> Value) -> Graph {
    let mut new = Graph::default();
    let mut names: Vec<Value> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let op = node.op.map_inputs(|value| names[value.0]);
        names.push(visit(&mut new, node, op));
    }
    new.outputs = graph.outputs.iter().map(|output| output.map(|value| names[value.0])).collect();
    new
}
