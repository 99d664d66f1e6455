//! From the graph to steps: each node becomes an operation with its spans, packed weights and kernel.

use super::arena::Arena;
use super::pack::{affine, element, pack};
use super::prune::Tasks;
use super::{PlanOptions, Stage, Step};
use crate::error::{Error, ErrorKind};
use crate::format::{self, DenseTransform, Description, FeatureKind, RowTransform, Store, TensorId, Vocabulary};
use crate::network::Rate;
use crate::network::graph::{self, Graph, Op, Value};
use crate::ops::{
    Affine, Copy, Dense, Gather, Kernels, Load, Lookup, Mapping, Mixture, Multiply, Operation, Pooling, Scaling,
    ScenarioRow, Softmax, Span, Start, Unary,
};

/// What lowering reads.
pub struct Lowering<'a> {
    pub description: &'a Description,
    pub store: &'a Store,
    pub tables: &'a [Option<TensorId>],
    pub kernels: &'static Kernels,
    pub options: &'a PlanOptions,
    pub arena: &'a Arena,
    pub stages: &'a [Stage],
    pub rates: &'a [Rate],
    pub tasks: &'a [Tasks],
}

impl Lowering<'_> {
    /// The steps of `graph` in its order, each with its stage.
    pub fn steps(&self, graph: &Graph) -> Result<Vec<(Stage, Step)>, Error> {
        let mut steps = Vec::with_capacity(graph.nodes.len());
        for index in 0..graph.nodes.len() {
            self.node(graph, index, |stage, step| steps.push((stage, step)))?;
        }
        Ok(steps)
    }

    fn node(&self, graph: &Graph, index: usize, mut push: impl FnMut(Stage, Step)) -> Result<(), Error> {
        let node = &graph.nodes[index];
        let stage = self.stages[index];
        let output = self.arena.spans[index];
        let span = |value: Value| self.read(value, stage);
        let mut kernel = self.kernels.name().to_owned();
        let mut bytes = 0;
        let mut shape = format!("{}", node.width);
        let operation = match &node.op {
            Op::Slice { .. } | Op::Linear { .. } => return Ok(()),
            Op::Concat(_) => {
                for transfer in &self.arena.transfers[index] {
                    let input = span(transfer.part);
                    let operation = Operation::Copy(Copy { input, output: transfer.to });
                    let (shape, kernel) = (format!("{}", input.width), kernel.clone());
                    push(stage, self.step(index, operation, node.name.clone(), shape, kernel, 0));
                }
                return Ok(());
            }
            Op::Feature(slot) => {
                let feature = &self.description.features[*slot];
                match (&feature.kind, self.tables[*slot]) {
                    (FeatureKind::Id(described) | FeatureKind::Ids { lookup: described, .. }, Some(table)) => {
                        let tensor = self.store.tensor(table);
                        bytes = tensor.bytes.len();
                        shape = format!("{}x{}", tensor.shape[0], tensor.shape[1]);
                        kernel = format!("{kernel}-{}", tensor.dtype.name().to_lowercase());
                        Operation::Gather(Gather {
                            feature: *slot,
                            table: table.index(),
                            element: element(&tensor)?,
                            lookup: lookup(described, tensor.shape[0]),
                            pooling: pooling(&feature.kind),
                            output,
                        })
                    }
                    (FeatureKind::Dense(dense), _) => Operation::Load(load(*slot, dense, output)),
                    _ => return Err(Error::new(ErrorKind::Internal, &feature.name, "has no table")),
                }
            }
            Op::Scenario(table) => {
                let tensor = self.store.tensor(*table);
                bytes = tensor.bytes.len();
                shape = format!("{}x{}", tensor.shape[0], tensor.shape[1]);
                let element = element(&tensor)?;
                let scenarios = tensor.shape[0];
                Operation::ScenarioRow(ScenarioRow { table: table.index(), element, scenarios, output })
            }
            Op::BatchNorm { input, norm } => {
                let (scale, shift) = affine(self.store, norm)?;
                let round = |values: Vec<f64>| values.into_iter().map(|value| value as f32).collect();
                Operation::Affine(Affine { input: span(*input), scale: round(scale), shift: round(shift), output })
            }
            Op::Activation { input, activation } => {
                Operation::Unary(Unary { activation: *activation, input: span(*input), output })
            }
            Op::Multiply { left, right } => {
                Operation::Multiply(Multiply { left: span(*left), right: span(*right), output })
            }
            Op::Softmax { input } => Operation::Softmax(Softmax { input: span(*input), output }),
            Op::Mixture { gate, experts } => {
                shape = format!("{}x{}", experts.len(), node.width);
                let experts = experts.iter().map(|expert| span(*expert)).collect();
                Operation::Mixture(Mixture { gate: span(*gate), experts, output })
            }
            Op::Product { input, layer, columns, start, addend, activation } => {
                let weights = pack(self.store, layer, columns, node.width, self.options.precision)?;
                let rows = if stage == Stage::Candidate { self.options.tile } else { 1 };
                kernel = self.kernels.dense_name(weights.element(), rows).to_owned();
                bytes = weights.bytes();
                shape = format!("{}x{}", weights.depth(), weights.columns());
                let start = match start {
                    graph::Start::Zero => Start::Zero,
                    graph::Start::Bias => Start::Bias,
                    graph::Start::Value(value) => Start::Span(span(*value)),
                };
                let addend = addend.map(span);
                let (input, activation) = (span(*input), *activation);
                Operation::Dense(Dense { input, weights, start, addend, activation, output })
            }
        };
        push(stage, self.step(index, operation, node.name.clone(), shape, kernel, bytes));
        Ok(())
    }

    fn step(
        &self,
        index: usize,
        operation: Operation,
        name: String,
        shape: String,
        kernel: String,
        bytes: usize,
    ) -> Step {
        Step { operation, rate: self.rates[index], tasks: self.tasks[index], name, shape, kernel, bytes }
    }

    /// The span of a value as a step of `stage` reads it: one row for all, if the value is of a slower stage.
    pub fn read(&self, value: Value, stage: Stage) -> Span {
        let span = self.arena.spans[value.0];
        if self.stages[value.0] == stage { span } else { Span { stride: 0, ..span } }
    }
}

fn pooling(kind: &FeatureKind) -> Option<Pooling> {
    use crate::format::Pooling as Described;
    match kind {
        FeatureKind::Ids { pooling: Described::Sum, .. } => Some(Pooling::Sum),
        FeatureKind::Ids { pooling: Described::Mean, .. } => Some(Pooling::Mean),
        FeatureKind::Ids { pooling: Described::Max, .. } => Some(Pooling::Max),
        FeatureKind::Id(_) | FeatureKind::Dense(_) => None,
    }
}

fn lookup(described: &format::Lookup, rows: usize) -> Lookup {
    let mapping = match &described.transform {
        RowTransform::Identity => Mapping::Identity,
        RowTransform::Hash { seed, buckets, offset } => {
            Mapping::Hash { seed: *seed, buckets: u64::from(*buckets), offset: *offset }
        }
        RowTransform::Vocabulary { values: Vocabulary::Integers(values), offset } => {
            Mapping::Integers(values.iter().copied().zip(*offset..).collect())
        }
        RowTransform::Vocabulary { values: Vocabulary::Texts(values), offset } => {
            Mapping::Texts(values.iter().map(|text| text.as_bytes().into()).zip(*offset..).collect())
        }
        RowTransform::Bucketize { boundaries, offset } => {
            Mapping::Bucketize { boundaries: boundaries.clone(), offset: *offset }
        }
    };
    Lookup { mapping, rows, oov: described.oov, missing: described.missing_row() }
}

fn load(feature: usize, described: &format::Dense, output: Span) -> Load {
    let scaling = match &described.transform {
        DenseTransform::None => Scaling::None,
        DenseTransform::Standardize { mean, scale } => {
            Scaling::Standardize { mean: mean.clone(), reciprocal: scale.clone() }
        }
        DenseTransform::Log1p => Scaling::Log1p,
        DenseTransform::Minmax { min, scale } => Scaling::MinMax { min: min.clone(), reciprocal: scale.clone() },
    };
    Load { feature, scaling, missing: described.missing.unwrap_or(0.0), output }
}
