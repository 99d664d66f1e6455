//! From a network to the steps of a scorer.
//!
//! | pass | from | to |
//! |---|---|---|
//! | `fold` | batch norms over linear layers | layers that carry them |
//! | `split` | linear layers over mixed rates | partial products, each at its own rate |
//! | `prune` | all values | those that a task needs, marked with the tasks |
//! | `fuse` | activations over products | epilogues |
//! | `arena` | values | spans of one memory, with a lifetime each |
//! | `lower`, `pack` | nodes and weights | operations with kernels and panels |
//!
//! A plan is immutable and prints itself: `polyscore inspect` shows what `Display` writes here.

mod arena;
mod fold;
mod fuse;
mod lower;
mod pack;
mod prune;
mod rewrite;
mod split;

pub use pack::Precision;
pub use prune::Tasks;

use crate::error::{Error, ErrorKind};
use crate::format::{Description, FeatureKind, Store, TensorId};
use crate::network::graph::Op;
use crate::network::{Graph, Rate, complete_rates};
use crate::ops::{Head, Kernels, Operation};
use arena::arrange;
use lower::Lowering;
use std::fmt;

/// Candidates per tile: the intermediate values of a tile stay in the second-level cache.
pub const DEFAULT_TILE: usize = 96;

/// The largest tile that can be asked for.
pub const MAX_TILE: usize = 4096;

/// The most f32 that the memory of a scorer may have: 4 GiB.
const MAX_LENGTH: usize = 1 << 30;

/// When a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Once per scenario, at open.
    Scenario,
    /// Once per request, in `prepare`.
    Request,
    /// For every candidate, in `score`.
    Candidate,
}

/// How to plan.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// The type of dense weights; `None` keeps what is stored.
    pub precision: Option<Precision>,
    /// Whether request-constant work is hoisted out of `score`. The scores have the same bits either way.
    pub split: bool,
    /// Candidates per tile.
    pub tile: usize,
}

/// One operation with what `inspect` says of it.
#[derive(Debug)]
pub struct Step {
    pub(crate) operation: Operation,
    pub rate: Rate,
    /// The tasks that need the step.
    pub tasks: Tasks,
    pub name: String,
    pub shape: String,
    pub kernel: String,
    /// Weights that the step reads: packed panels, or the table that it gathers from.
    pub bytes: usize,
}

impl Step {
    /// What kind of operation it is, such as `dense`.
    pub fn operation_name(&self) -> &'static str {
        self.operation.name()
    }
}

/// The steps of a model, in order, and the memory that they run in.
#[derive(Debug)]
pub struct Plan {
    steps: Vec<Step>,
    /// Where the steps of each stage end.
    ends: [usize; 3],
    pub(crate) heads: Vec<Head>,
    pub(crate) kernels: &'static Kernels,
    pub(crate) tile: usize,
    /// f32 of a scorer's memory; the first `scenario_length` of them are of the scenario.
    pub(crate) length: usize,
    pub(crate) scenario_length: usize,
    pub(crate) has_bags: bool,
    task_names: Vec<String>,
}

impl Plan {
    /// Plans `graph`. `tables` are the checked tables of the features, by slot.
    ///
    /// # Errors
    /// `Limit` if a scorer's memory would pass 4 GiB, `OutOfMemory` or `Tensor` from packing.
    pub(crate) fn new(
        description: &Description,
        store: &Store,
        tables: &[Option<TensorId>],
        graph: &Graph,
        kernels: &'static Kernels,
        options: &PlanOptions,
    ) -> Result<Plan, Error> {
        let features: Vec<Rate> = description.features.iter().map(|feature| feature.rate.into()).collect();
        let factors = prune::factors(&description.tasks);
        let graph = split::split(&fold::fold(graph), &features);
        let (graph, _) = prune::prune(&graph, &factors);
        let (graph, tasks) = prune::prune(&fuse::fuse(&graph), &factors);

        let mut rates = Vec::with_capacity(graph.nodes.len());
        complete_rates(&graph, &features, &mut rates);
        let stages: Vec<Stage> =
            graph.nodes.iter().zip(&rates).map(|(node, rate)| stage(&node.op, *rate, options)).collect();
        let arena = arrange(&graph, &stages, options.tile);
        if arena.length > MAX_LENGTH {
            let detail = format!("a scorer would need {} f32, at most {MAX_LENGTH} are allowed", arena.length);
            return Err(Error::new(ErrorKind::Limit, "network", detail));
        }

        let lowering = Lowering {
            description,
            store,
            tables,
            kernels,
            options,
            arena: &arena,
            stages: &stages,
            rates: &rates,
            tasks: &tasks,
        };
        let mut plan = Plan {
            steps: Vec::new(),
            ends: [0; 3],
            heads: Vec::with_capacity(factors.len()),
            kernels,
            tile: options.tile,
            length: arena.length,
            scenario_length: arena.scenario_length,
            has_bags: description.features.iter().any(|feature| matches!(feature.kind, FeatureKind::Ids { .. })),
            task_names: description.tasks.iter().map(|task| task.name.clone()).collect(),
        };
        let mut steps = lowering.steps(&graph)?;
        steps.sort_by_key(|(stage, _)| *stage);
        plan.ends = [Stage::Scenario, Stage::Request, Stage::Candidate]
            .map(|last| steps.partition_point(|(stage, _)| *stage <= last));
        plan.steps = steps.into_iter().map(|(_, step)| step).collect();
        for (task, factors) in description.tasks.iter().zip(&factors) {
            let values = factors.iter().filter_map(|factor| graph.outputs[*factor]);
            let factors = values.map(|value| lowering.read(value, Stage::Candidate)).collect();
            plan.heads.push(Head { factors, fallback: task.fallback });
        }
        Ok(plan)
    }

    /// All steps, in the order in which they run.
    pub fn steps(&self) -> impl Iterator<Item = (Stage, &Step)> {
        [Stage::Scenario, Stage::Request, Stage::Candidate]
            .into_iter()
            .flat_map(|stage| self.stage(stage).1.iter().map(move |step| (stage, step)))
    }

    /// The steps of one stage, and the place of the first of them among all.
    pub(crate) fn stage(&self, stage: Stage) -> (usize, &[Step]) {
        let start = if stage == Stage::Scenario { 0 } else { self.ends[stage as usize - 1] };
        (start, &self.steps[start..self.ends[stage as usize]])
    }

    /// Bytes of packed dense weights.
    pub fn packed_bytes(&self) -> usize {
        self.steps().filter(|(_, step)| matches!(step.operation, Operation::Dense(_))).map(|(_, step)| step.bytes).sum()
    }

    /// Multiply-adds of dense layers: per scenario, per request and per candidate.
    pub fn multiply_adds(&self) -> [usize; 3] {
        let mut sums = [0; 3];
        for (stage, step) in self.steps() {
            if let Operation::Dense(dense) = &step.operation {
                sums[stage as usize] += dense.weights.depth() * dense.weights.columns();
            }
        }
        sums
    }

    /// Candidates per tile.
    pub fn tile(&self) -> usize {
        self.tile
    }

    /// The name of the kernel set.
    pub fn isa(&self) -> &'static str {
        self.kernels.name()
    }
}

/// Features are read at their own stage; without the split, everything else that changes with a request runs per candidate.
fn stage(op: &Op, rate: Rate, options: &PlanOptions) -> Stage {
    match rate {
        Rate::Model | Rate::Scenario => Stage::Scenario,
        Rate::Request if options.split || matches!(op, Op::Feature(_)) => Stage::Request,
        Rate::Request | Rate::Item | Rate::Pair => Stage::Candidate,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "isa {}, tile {}, scratch {} bytes", self.isa(), self.tile, self.length * 4)?;
        writeln!(
            f,
            "{:>4}  {:9} {:9} {:9} {:40} {:14} {:24} {:>12}  tasks",
            "step", "stage", "rate", "op", "name", "shape", "kernel", "bytes"
        )?;
        for (index, (stage, step)) in self.steps().enumerate() {
            writeln!(
                f,
                "{index:>4}  {:9} {:9} {:9} {:40} {:14} {:24} {:>12}  {}",
                stage,
                step.rate,
                step.operation_name(),
                step.name,
                step.shape,
                step.kernel,
                step.bytes,
                self.tasks_of(step.tasks)
            )?;
        }
        let [scenario, request, candidate] = self.multiply_adds();
        write!(f, "multiply-adds: {scenario} per scenario, {request} per request, {candidate} per candidate")
    }
}

impl Plan {
    fn tasks_of(&self, tasks: Tasks) -> String {
        let asked = (0..self.task_names.len()).filter(|task| tasks >> task & 1 == 1);
        let names: Vec<&str> = asked.map(|task| self.task_names[task].as_str()).collect();
        if names.len() == self.task_names.len() { "all".to_owned() } else { names.join(",") }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Stage::Scenario => "scenario",
            Stage::Request => "request",
            Stage::Candidate => "candidate",
        })
    }
}
