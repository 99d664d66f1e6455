//! The order of the steps: what slower stages and the item cache need before the rest of the candidates, what does not depend on
//! the scenario before what does, and what is computed over the positions of a sequence for each candidate in blocks.
//!
//! A block runs once per candidate, so its values do not outlive it, but for those that pool them to a row. A value over
//! positions that two blocks read is computed in both. Blocks are numbered by depth: one that reads the pooled result of
//! another comes later.

use super::Stage;
use super::prune::Tasks;
use crate::network::graph::{Graph, Node, Op, Value};
use std::collections::{BTreeSet, HashMap};

/// A graph whose nodes are in the order in which they run.
pub struct Scheduled {
    pub graph: Graph,
    /// The tasks that need each node.
    pub tasks: Vec<Tasks>,
    /// When each node runs.
    pub stages: Vec<Stage>,
    /// Whether each node is computed in a block: once per candidate, over positions.
    pub in_block: Vec<bool>,
    /// Whether each node runs anew for each scenario.
    pub dependents: Vec<bool>,
}

/// Where a node runs, first by the order of the fields.
type Place = (bool, bool, usize, bool);

/// Puts `graph` in order; `dependents` are those of [`dependents`].
pub fn schedule(graph: &Graph, stages: &[Stage], dependents: &[bool], tasks: &[Tasks]) -> Scheduled {
    let in_block = blocks(graph, stages);
    let is_position = |value: usize| in_block[value] && graph.nodes[value].sequence.is_some();
    let mut depths = vec![0usize; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        let from = |value: Value| depths[value.0] + usize::from(in_block[value.0] && !is_position(value.0));
        depths[index] = node.op.inputs().into_iter().map(from).max().unwrap_or(0);
    }

    let mut runs: BTreeSet<(Place, usize)> = BTreeSet::new();
    for index in (0..graph.nodes.len()).filter(|index| !is_position(*index)) {
        let place = (stages[index] == Stage::Candidate, dependents[index], depths[index], in_block[index]);
        let mut pending = vec![index];
        while let Some(index) = pending.pop() {
            if runs.insert((place, index)) && in_block[index] {
                let inputs = graph.nodes[index].op.inputs().into_iter().map(|value| value.0);
                pending.extend(inputs.filter(|value| is_position(*value)));
            }
        }
    }

    let mut scheduled = Scheduled {
        graph: Graph::default(),
        tasks: Vec::with_capacity(runs.len()),
        stages: Vec::with_capacity(runs.len()),
        in_block: Vec::with_capacity(runs.len()),
        dependents: Vec::with_capacity(runs.len()),
    };
    let mut names: HashMap<(Option<Place>, usize), Value> = HashMap::new();
    let key = |value: usize, place: Place| (is_position(value).then_some(place), value);
    for (place, index) in runs {
        let node = &graph.nodes[index];
        let op = node.op.map_inputs(|value| names[&key(value.0, place)]);
        names.insert(key(index, place), scheduled.graph.push(op, node.width, &node.name));
        scheduled.tasks.push(tasks[index]);
        scheduled.stages.push(stages[index]);
        scheduled.in_block.push(in_block[index]);
        scheduled.dependents.push(place.1);
    }
    let outputs = graph.outputs.iter();
    scheduled.graph.outputs = outputs.map(|output| output.map(|value| names[&(None, value.0)])).collect();
    scheduled
}

/// Whether each value is computed in a block.
fn blocks(graph: &Graph, stages: &[Stage]) -> Vec<bool> {
    let reads_positions = |op: &Op| op.inputs().into_iter().any(|value| graph.sequence(value).is_some());
    let in_block = |(node, stage): (&Node, &Stage)| {
        *stage == Stage::Candidate && (node.sequence.is_some() || reads_positions(&node.op))
    };
    graph.nodes.iter().zip(stages).map(in_block).collect()
}

/// Whether each value depends on the scenario.
pub fn dependents(graph: &Graph) -> Vec<bool> {
    let mut dependent: Vec<bool> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        let is_source = matches!(node.op, Op::Scenario(_) | Op::ScenarioOneHot);
        dependent.push(is_source || node.op.inputs().into_iter().any(|value| dependent[value.0]));
    }
    dependent
}
