//! From a network to the steps of a scorer.
//!
//! | pass | from | to |
//! |---|---|---|
//! | `fold` | batch norms over linear layers | layers that carry them |
//! | `split` | linear layers over mixed rates | partial products, each at its own rate |
//! | `prune` | all values | those that a task needs, marked with the tasks |
//! | `tabulate` | products of single ids of the request | sums of rows of product tables |
//! | `items` | products of the item that the request is added to | sums that an item cache can keep, and additions |
//! | `fuse` | activations over products, softmax of gates | epilogues, mixtures of logits |
//! | `items` | what candidates read of the item | parts of rows that an item cache keeps |
//! | `schedule` | nodes | their order: free of the scenario first, positions in blocks |
//! | `arena` | values | spans of one memory, with a lifetime each |
//! | `lower`, `pack` | nodes and weights | operations with kernels and panels |
//!
//! A plan is immutable and prints itself: `polyscore inspect` shows what `Display` writes here.

mod arena;
mod fold;
mod fuse;
mod items;
mod lower;
mod pack;
mod prune;
mod rewrite;
mod schedule;
mod split;
mod tabulate;

pub use arena::Regions;
#[cfg(test)]
pub use items::ItemPart;
pub use items::{ItemRow, ItemRows};
pub use pack::Precision;
pub use prune::Tasks;

use crate::error::{Error, ErrorKind};
use crate::format::{Description, Feature, FeatureKind, Store, TensorId};
use crate::network::graph::{Matrix, Node, Op, Start, Value};
use crate::network::{Graph, Rate, complete_rates};
use crate::ops::{Dense, Head, Kernels, Operation, Panels, Span, Weight};
use arena::{Arena, Layout};
use lower::Lowering;
use schedule::{Scheduled, schedule};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use tabulate::{Tables, tabulate};

/// Candidates per tile, where that is chosen. In small tiles the intermediate values stay in the second-level cache, large ones
/// read the weights less often.
pub const TILES: [usize; 7] = [16, 32, 64, 96, 128, 192, 256];

/// The most f32 of a scorer whose tile is chosen, unless the smallest tile needs more: 4 MiB.
const CHOSEN_LENGTH: usize = 1 << 20;

/// The largest tile that can be asked for.
pub const MAX_TILE: usize = 4096;

/// The largest with an item cache: so many of its rows are held at a time.
pub const MAX_CACHED_TILE: usize = 256;

/// The most f32 that the memory of a scorer may have: 4 GiB.
const MAX_LENGTH: usize = 1 << 30;

/// The widest layer whose outputs are taken for logits.
const MOST_LOGITS: usize = 16;

/// When a step runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Once, at open.
    Model,
    /// Once per scenario: at open or on first use.
    Scenario,
    /// Once per request, in `prepare`.
    Request,
    /// For every candidate that the item cache does not know, in `score`; there are no such steps without a cache.
    Item,
    /// For every candidate, in `score`.
    Candidate,
}

const STAGES: [Stage; 5] = [Stage::Model, Stage::Scenario, Stage::Request, Stage::Item, Stage::Candidate];

impl Stage {
    /// Whether its steps compute a row per candidate.
    pub fn is_of_candidates(self) -> bool {
        matches!(self, Stage::Item | Stage::Candidate)
    }
}

/// How to plan.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// The type of dense weights; `None` keeps what is stored.
    pub precision: Option<Precision>,
    /// The types of single weights, by the name of the tensor.
    pub layers: BTreeMap<String, Precision>,
    /// The type of the weights that are multiplied once for all candidates; `None`: as those of candidates.
    pub shares: Option<Precision>,
    /// Whether request-constant work is hoisted out of `score`. The scores have the same bits either way.
    pub split: bool,
    /// Candidates per tile; 0: the largest of [`TILES`] with which a scorer's memory stays small.
    pub tile: usize,
    /// The most bytes of product tables.
    pub product_bytes: usize,
    /// The type of the rows of an item cache; `None`: there is none.
    pub items: Option<ItemRows>,
}

/// Multiply-adds of a layer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Once for all candidates of a request.
    pub request: usize,
    /// For each candidate.
    pub candidate: usize,
}

/// The rows of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepRows {
    /// One, or those of the tile.
    Call,
    /// The positions of a group of sequences; one candidate at a time if it is a step of a block.
    Positions { group: usize, in_block: bool },
}

/// A value of a step in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    pub span: Span,
    /// The group of sequences whose positions are its rows; `None` for a value of one row.
    pub sequence: Option<usize>,
}

/// One operation with what `inspect` says of it.
#[derive(Debug)]
pub struct Step {
    pub(crate) operation: Operation,
    pub(crate) rows: StepRows,
    /// Where the value of the step lies right after it; `None` for a step that only moves a value.
    pub(crate) value: Option<Placed>,
    /// Whether it runs anew for each scenario.
    pub is_scenario_bound: bool,
    pub rate: Rate,
    /// The tasks that need the step.
    pub tasks: Tasks,
    pub name: String,
    /// The weight tensor of a dense layer.
    pub tensor: Option<String>,
    pub shape: String,
    pub kernel: String,
    /// Weights that the step reads: packed panels, or the table that it gathers from.
    pub bytes: usize,
    /// Bytes of its value that are kept: once for a step of the model, for each scenario for a step of the scenario.
    pub kept_bytes: usize,
    /// Multiply-adds per row of the call, for a sequence of full length.
    pub multiply_adds: usize,
    /// The rate at which their sum changes: that of the value, but for what is added to it last.
    pub multiply_rate: Rate,
}

impl Step {
    /// What kind of operation it is, such as `dense`.
    pub fn operation_name(&self) -> &'static str {
        self.operation.name()
    }

    fn is_in_block(&self) -> bool {
        matches!(self.rows, StepRows::Positions { in_block: true, .. })
            || matches!(self.operation, Operation::Enter(_) | Operation::Leave(_))
    }
}

/// The steps of a model, in order, and the memory that they run in.
#[derive(Debug)]
pub struct Plan {
    steps: Vec<Step>,
    stages: Vec<Stage>,
    /// The places of the steps of each stage: of those that are free of the scenario, and of the others.
    ranges: [[Range<usize>; 2]; 5],
    pub(crate) heads: Vec<Head>,
    pub(crate) kernels: &'static Kernels,
    pub(crate) tile: usize,
    pub(crate) regions: Regions,
    /// What an item cache keeps of a candidate; `None` without one, or if nothing depends on the item alone.
    pub(crate) items: Option<ItemRow>,
    /// The slots of each group of sequences.
    pub(crate) sequences: Vec<Vec<usize>>,
    /// The most ids that a step other than one of bags finds for a row.
    pub(crate) longest: usize,
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
        let graph = if cfg!(without = "folding") { graph.clone() } else { fold::fold(graph) };
        let graph = split::split(&graph, &features);
        let (graph, _) = prune::prune(&graph, &factors);
        let model = Tables { description, store, tables, rates: &features };
        let graph = tabulate(&graph, &model, options.product_bytes);
        let graph = if options.items.is_some() { items::apart(&graph, &features) } else { graph };
        let graph = if cfg!(without = "fusion") { graph } else { fuse::fuse(&graph, &features) };
        let graph = if options.items.is_some() { items::keep(&graph, &features) } else { graph };
        let (graph, tasks) = prune::prune(&graph, &factors);

        let rates = rates(&graph, &features);
        let dependents = schedule::dependents(&graph);
        let stages = stages(&graph, &rates, &dependents, options);
        let scheduled = schedule(&graph, &stages, &dependents, &tasks);
        let rates = self::rates(&scheduled.graph, &features);
        let weights = weight_types(&scheduled.graph, &rates, store, options)?;
        let quantized = quantized_by(&scheduled, &weights);
        let arrange = |tile| {
            let layout = Layout {
                graph: &scheduled.graph,
                description,
                stages: &scheduled.stages,
                in_block: &scheduled.in_block,
                dependents: &scheduled.dependents,
                weights: &weights,
                quantized: &quantized,
                tile,
            };
            (layout.arrange(), tile)
        };
        let (arena, tile) = match options.tile {
            0 => {
                let is_small = |(arena, _): &(Arena, usize)| arena.regions.scoring <= CHOSEN_LENGTH;
                TILES.into_iter().rev().map(arrange).find(is_small).unwrap_or_else(|| arrange(TILES[0]))
            }
            tile if options.items.is_some() => arrange(tile.min(MAX_CACHED_TILE)),
            tile => arrange(tile),
        };
        if arena.regions.whole > MAX_LENGTH {
            let detail = format!("a scorer would need {} f32, at most {MAX_LENGTH} are allowed", arena.regions.whole);
            return Err(Error::new(ErrorKind::Limit, "network", detail));
        }

        let spans = arena.items.iter().map(|value| arena.spans[value.0]).collect();
        let items = options.items.and_then(|rows| ItemRow::new(rows, spans));
        let lowering = Lowering {
            description,
            store,
            tables,
            kernels,
            tile,
            arena: &arena,
            plan: &scheduled,
            rates: &rates,
            weights: &weights,
            quantized: &quantized,
            items: items.as_ref(),
        };
        let mut steps = lowering.steps()?;
        Panels::gather(steps.iter_mut().filter_map(|(_, step)| match &mut step.operation {
            Operation::Dense(dense) => Some(&mut *dense.weights),
            _ => None,
        }));
        steps.sort_by_key(|(stage, step)| (*stage, step.is_scenario_bound));
        let mut heads = Vec::with_capacity(factors.len());
        for (task, factors) in description.tasks.iter().zip(&factors) {
            let values = factors.iter().filter_map(|factor| scheduled.graph.outputs[*factor]);
            let factors = values.map(|value| arena.spans[value.0]).collect();
            heads.push(Head { factors, fallback: task.fallback });
        }
        let ranges = STAGES.map(|stage| {
            [false, true].map(|is_scenario_bound| {
                let key = |(of, step): &(Stage, Step)| (*of, step.is_scenario_bound);
                let wanted = (stage, is_scenario_bound);
                steps.partition_point(|step| key(step) < wanted)..steps.partition_point(|step| key(step) <= wanted)
            })
        });
        let (stages, steps): (Vec<Stage>, Vec<Step>) = steps.into_iter().unzip();
        let fields = steps.iter().map(|step| match &step.operation {
            Operation::Tabulated(tabulated) => tabulated.fields.len(),
            _ => 0,
        });
        let fields = fields.max().unwrap_or(0);
        let sequences = description.sequences();
        Ok(Plan {
            steps,
            stages,
            ranges,
            heads,
            kernels,
            tile,
            items,
            regions: arena.regions,
            longest: description.features.iter().map(most_ids).max().unwrap_or(0).max(fields + 1),
            sequences,
            has_bags: description.features.iter().any(|feature| matches!(feature.kind, FeatureKind::Ids { .. })),
            task_names: description.tasks.iter().map(|task| task.name.clone()).collect(),
        })
    }

    /// All steps, in the order in which they run.
    pub fn steps(&self) -> impl Iterator<Item = (Stage, &Step)> {
        self.stages.iter().copied().zip(&self.steps)
    }

    /// The places of the steps of one stage that run anew for each scenario, or of those that do not.
    pub(crate) fn range(&self, stage: Stage, is_scenario_bound: bool) -> Range<usize> {
        self.ranges[stage as usize][usize::from(is_scenario_bound)].clone()
    }

    /// Those of all steps of one stage, the ones that are free of the scenario first.
    pub(crate) fn places(&self, stage: Stage) -> Range<usize> {
        self.range(stage, false).start..self.range(stage, true).end
    }

    pub(crate) fn step(&self, place: usize) -> &Step {
        &self.steps[place]
    }

    /// The steps from `place` on, and before `end`, that run once per candidate; empty if the one at `place` does not.
    pub(crate) fn block(&self, place: usize, end: usize) -> Range<usize> {
        let length = self.steps[place..end].iter().take_while(|step| step.is_in_block()).count();
        place..place + length
    }

    /// The dense layers that are held in integers, by the names of their tensors, with their multiply-adds.
    pub fn quantized_layers(&self) -> BTreeMap<String, Work> {
        let mut layers: BTreeMap<String, Work> = BTreeMap::new();
        for (_, step) in self.steps() {
            if let (Some(tensor), Operation::Dense(dense)) = (&step.tensor, &step.operation)
                && dense.weights.weight_type().largest() > 0
            {
                let work = layers.entry(tensor.clone()).or_default();
                let mine = if step.rate.is_of_candidates() { &mut work.candidate } else { &mut work.request };
                *mine += step.multiply_adds;
            }
        }
        layers
    }

    /// Bytes of packed dense weights that are not a file's.
    pub fn packed_bytes(&self) -> usize {
        self.dense().map(|dense| dense.weights.own_bytes()).sum()
    }

    /// The packed layers, by the names of the tensors that hold them in a file.
    pub(crate) fn packed(&self) -> BTreeMap<&str, &Panels> {
        self.dense().map(|dense| (dense.packed_name.as_str(), &*dense.weights)).collect()
    }

    fn dense(&self) -> impl Iterator<Item = &Dense> {
        self.steps().filter_map(|(_, step)| match &step.operation {
            Operation::Dense(dense) => Some(dense),
            _ => None,
        })
    }

    /// Bytes of product tables.
    pub fn product_bytes(&self) -> usize {
        self.steps()
            .filter(|(_, step)| matches!(step.operation, Operation::Tabulated(_)))
            .map(|(_, step)| step.bytes)
            .sum()
    }

    /// Bytes of values that depend on the scenario alone, for each scenario.
    pub fn bytes_per_scenario(&self) -> usize {
        self.regions.per_scenario() * size_of::<f32>()
    }

    /// Bytes of values that depend on the model alone.
    pub fn model_bytes(&self) -> usize {
        (self.regions.model_inputs.len() + self.regions.model_rest.len()) * size_of::<f32>()
    }

    /// Multiply-adds of one row: at open, per scenario, per request, and per candidate that no cache knows.
    pub fn multiply_adds(&self) -> [usize; 4] {
        let of = |stage| self.steps().filter(|(of, _)| *of == stage).map(|(_, step)| step.multiply_adds).sum::<usize>();
        let [model, scenario, request, item, candidate] = STAGES.map(of);
        [model, scenario, request, item + candidate]
    }

    /// Multiply-adds of one row by the rate at which their result changes, slowest first.
    pub fn multiply_adds_by_rate(&self) -> [(Rate, usize); 5] {
        [Rate::Model, Rate::Scenario, Rate::Request, Rate::Item, Rate::Pair].map(|rate| {
            let mine = self.steps().filter(|(_, step)| step.multiply_rate == rate);
            (rate, mine.map(|(_, step)| step.multiply_adds).sum())
        })
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

fn most_ids(feature: &Feature) -> usize {
    match feature.kind {
        FeatureKind::Id { length, .. } | FeatureKind::Sequence { length, .. } => length,
        FeatureKind::Ids { .. } | FeatureKind::Dense(_) => 0,
    }
}

fn rates(graph: &Graph, features: &[Rate]) -> Vec<Rate> {
    let mut rates = Vec::with_capacity(graph.nodes.len());
    complete_rates(graph, features, &mut rates);
    rates
}

/// The types in which the weights of dense layers are held, by node. The last layers of the tasks, whose outputs are logits,
/// are not quantised.
fn weight_types(
    graph: &Graph,
    rates: &[Rate],
    store: &Store,
    options: &PlanOptions,
) -> Result<Vec<Option<Weight>>, Error> {
    let last = last_layers(graph);
    let typed = |(index, node): (usize, &Node)| match &node.op {
        Op::Product { matrix: Matrix::Layer(layer, columns), .. } => {
            let shares = options.shares.filter(|_| !rates[index].is_of_candidates());
            let own = shares.or_else(|| options.layers.get(store.tensor(layer.weight).name).copied());
            pack::weight_type(store, layer, columns, own.or(options.precision), last[index]).map(Some)
        }
        _ => Ok(None),
    };
    graph.nodes.iter().enumerate().map(typed).collect()
}

/// For each dense layer the node that quantises its rows: itself, or one before with the same input and type of weights that
/// runs whenever it does.
fn quantized_by(scheduled: &Scheduled, weights: &[Option<Weight>]) -> Vec<usize> {
    let Scheduled { graph, tasks, stages, in_block, dependents } = scheduled;
    let ends = arena::block_ends(in_block, dependents);
    let input = |index: usize| match graph.nodes[index].op {
        Op::Product { input, groups: 1, .. } if weights[index].is_some_and(|weights| weights.scratch(1, 1) > 0) => {
            Some((input, weights[index], stages[index], in_block[index].then_some(ends[index]), dependents[index]))
        }
        _ => None,
    };
    let mut firsts: Vec<usize> = Vec::with_capacity(graph.nodes.len());
    for index in 0..graph.nodes.len() {
        let serves = |first: &usize| {
            firsts[*first] == *first && tasks[*first] & tasks[index] == tasks[index] && input(*first) == input(index)
        };
        let first = input(index).and_then(|_| (0..index).find(serves));
        firsts.push(first.unwrap_or(index));
    }
    firsts
}

/// Whether each node is a narrow layer that an output is made of without another layer.
fn last_layers(graph: &Graph) -> Vec<bool> {
    let mut reached = vec![false; graph.nodes.len()];
    graph.outputs.iter().flatten().for_each(|output| reached[output.0] = true);
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        if !reached[index] {
            continue;
        }
        let before: Vec<Value> = match &node.op {
            Op::Product { start, addend, .. } => {
                let start = if let Start::Value(start) = start { Some(*start) } else { None };
                start.into_iter().chain(*addend).collect()
            }
            op => op.inputs(),
        };
        before.into_iter().for_each(|value| reached[value.0] = true);
    }
    graph.nodes.iter().zip(reached).map(|(node, reached)| reached && node.width <= MOST_LOGITS).collect()
}

/// When each node runs: what reads a value of candidates, with those.
fn stages(graph: &Graph, rates: &[Rate], dependents: &[bool], options: &PlanOptions) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::with_capacity(graph.nodes.len());
    for (index, node) in graph.nodes.iter().enumerate() {
        let is_of_candidates = matches!(node.op, Op::Cached { .. })
            || node.op.inputs().iter().any(|input| stages[input.0] == Stage::Candidate);
        let own = stage(&node.op, rates[index], dependents[index], options);
        stages.push(if is_of_candidates { Stage::Candidate } else { own });
    }
    stages
}

/// Features are read at their own stage; without the split, everything else that changes with a request runs per candidate.
fn stage(op: &Op, rate: Rate, is_dependent: bool, options: &PlanOptions) -> Stage {
    let is_input = matches!(
        op,
        Op::Feature(_) | Op::Embedding { .. } | Op::Tabulated { .. } | Op::RowNumbers(_) | Op::Sequence { .. }
    );
    match rate {
        Rate::Model => Stage::Model,
        Rate::Scenario => Stage::Scenario,
        Rate::Request if options.split || is_input => Stage::Request,
        Rate::Item if options.items.is_some() && !is_dependent => Stage::Item,
        Rate::Request | Rate::Item | Rate::Pair => Stage::Candidate,
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "isa {}, tile {}", self.isa(), self.tile)?;
        writeln!(
            f,
            "{:>4}  {:9} {:9} {:12} {:40} {:14} {:24} {:>12} {:>10}  tasks",
            "step", "stage", "rate", "op", "name", "shape", "kernel", "bytes", "kept"
        )?;
        for (index, (stage, step)) in self.steps().enumerate() {
            writeln!(
                f,
                "{index:>4}  {:9} {:9} {:12} {:40} {:14} {:24} {:>12} {:>10}  {}",
                stage,
                step.rate,
                step.operation_name(),
                step.name,
                step.shape,
                step.kernel,
                step.bytes,
                step.kept_bytes,
                self.tasks_of(step.tasks)
            )?;
        }
        let [model, scenario, request, candidate] = self.multiply_adds();
        writeln!(
            f,
            "kept: {} bytes for the model, {} for each scenario",
            self.model_bytes(),
            self.bytes_per_scenario()
        )?;
        writeln!(
            f,
            "multiply-adds: {model} at open, {scenario} per scenario, {request} per request, {candidate} per candidate"
        )?;
        let total = self.multiply_adds_by_rate().iter().map(|(_, count)| count).sum::<usize>().max(1);
        let share = |(rate, count)| format!("{rate} {:.1} %", 100.0 * count as f64 / total as f64);
        write!(f, "multiply-adds by rate: {}", self.multiply_adds_by_rate().map(share).join(", "))
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
            Stage::Model => "model",
            Stage::Scenario => "scenario",
            Stage::Request => "request",
            Stage::Item => "item",
            Stage::Candidate => "candidate",
        })
    }
}
