//! What no task needs is dropped; what only some tasks need is marked, so that a call computes just what it asks for.

use crate::format::Task;
use crate::network::graph::{Graph, Value};

/// A set of tasks, a bit per task.
pub type Tasks = u64;

/// The tasks whose probabilities each task multiplies, itself for a task that the network predicts.
pub fn factors(tasks: &[Task]) -> Vec<Vec<usize>> {
    let mut factors: Vec<Vec<usize>> = Vec::with_capacity(tasks.len());
    for (index, task) in tasks.iter().enumerate() {
        factors.push(match &task.composition {
            None => vec![index],
            Some(parts) => parts.iter().flat_map(|part| factors[*part as usize].clone()).collect(),
        });
    }
    factors
}

/// The graph without dead nodes, and for each node the tasks that need it.
pub fn prune(graph: &Graph, factors: &[Vec<usize>]) -> (Graph, Vec<Tasks>) {
    let mut needed: Vec<Tasks> = vec![0; graph.nodes.len()];
    for (task, factors) in factors.iter().enumerate() {
        for output in factors.iter().filter_map(|factor| graph.outputs[*factor]) {
            needed[output.0] |= 1 << task;
        }
    }
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        let tasks = needed[index];
        node.op.inputs().into_iter().for_each(|value| needed[value.0] |= tasks);
    }

    let mut names = vec![Value(usize::MAX); graph.nodes.len()];
    let mut kept = Graph::default();
    for (index, node) in graph.nodes.iter().enumerate().filter(|(index, _)| needed[*index] != 0) {
        names[index] = kept.add(node.op.map_inputs(|value| names[value.0]), node.width, &node.name);
    }
    kept.outputs = graph.outputs.iter().map(|output| output.map(|value| names[value.0])).collect();
    needed.retain(|tasks| *tasks != 0);
    (kept, needed)
}
