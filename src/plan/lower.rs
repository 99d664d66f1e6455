//! From the graph to steps: each node becomes an operation with its spans, packed weights and kernel.

use super::arena::{Arena, block_ends};
use super::pack::{Folded, affine, element, packed, packed_name};
use super::schedule::Scheduled;
use super::{ItemRow, Placed, Stage, Step, StepRows};
use crate::error::{Error, ErrorKind};
use crate::format::{self, DenseTransform, Description, FeatureKind, RowTransform, Store, TensorId, Vocabulary};
use crate::network::Rate;
use crate::network::graph::{self, Matrices, Matrix, Node, Op, Pool as Pooled, TabulatedLayer, Value};
use crate::ops::{
    Activation, Affine, Argmax, Attend, Cached, Choose, Combination, Combine, Copy, Dense, Dots, Enter, Find, Flat,
    Gather, Generated, Interleave, Kept, Kernels, LayerNorm, Leave, Load, Lookup, Mapping, MatMul, Mixture, NOWHERE,
    Normalize, OneHot, Operation, Panels, PerRow, Pick, Pool, Pooling, Reach, Reduction, RowNumbers, Scaling, Scores,
    Softmax, SoftmaxDown, Span, Spread, Start, Stored, Table, Tabulated, TabulatedField, TopK, Unary, View, Weight,
};

/// What lowering reads.
pub struct Lowering<'a> {
    pub description: &'a Description,
    pub store: &'a Store,
    pub tables: &'a [Option<TensorId>],
    pub kernels: &'static Kernels,
    pub tile: usize,
    pub arena: &'a Arena,
    pub plan: &'a Scheduled,
    pub rates: &'a [Rate],
    /// The types of the weights of dense layers.
    pub weights: &'a [Option<Weight>],
    /// The node that quantises the rows of each dense layer.
    pub quantized: &'a [usize],
    /// The row of an item cache.
    pub items: Option<&'a ItemRow>,
}

/// What a node becomes, before it is a step.
struct Lowered {
    operation: Operation,
    shape: String,
    kernel: String,
    bytes: usize,
    multiply_adds: usize,
}

impl Lowering<'_> {
    /// The steps of the graph in its order, each with its stage.
    pub fn steps(&self) -> Result<Vec<(Stage, Step)>, Error> {
        let Scheduled { graph, in_block, dependents, .. } = self.plan;
        let ends = block_ends(in_block, dependents);
        let mut steps = Vec::with_capacity(graph.nodes.len());
        let mut layers = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            if in_block[index] && ends[index].0 == index {
                self.enter(ends[index], &mut steps);
            }
            if let Op::Concat(_) = node.op {
                for transfer in &self.arena.transfers[index] {
                    let (input, output) = (self.read(transfer.part, index), transfer.to);
                    let copy = self.plain(Operation::Copy(Copy { input, output }), format!("{}", input.width));
                    let mut step = self.step(index, copy);
                    step.value = Some(Placed { span: transfer.to, sequence: node.sequence });
                    steps.push((self.plan.stages[index], step));
                }
            } else if !matches!(node.op, Op::Slice { .. }) {
                let lowered = self.node(node, index)?;
                if let Operation::Dense(dense) = &lowered.operation {
                    layers.push((self.quantized[index], steps.len(), dense.reach));
                }
                steps.push((self.plan.stages[index], self.step(index, lowered)));
            }
            if in_block[index] && node.sequence.is_none() {
                let leave = Leave { inside: self.output(index), outside: self.arena.spans[index] };
                let lowered = self.plain(Operation::Leave(leave), format!("{}", node.width));
                steps.push((self.plan.stages[index], Step { value: None, ..self.step(index, lowered) }));
            }
        }
        for (first, place, _) in &layers {
            let alike = layers.iter().filter(|(of, ..)| of == first).map(|(.., reach)| *reach);
            if let Operation::Dense(dense) = &mut steps[*place].1.operation {
                dense.reach = alike.fold(dense.reach, Reach::and);
            }
        }
        Ok(steps)
    }

    /// Brings in the rows that the block from `start` to `end` reads and does not compute.
    fn enter(&self, (start, end): (usize, usize), steps: &mut Vec<(Stage, Step)>) {
        let graph = &self.plan.graph;
        let mut entered: Vec<(Value, usize)> = Vec::new();
        for index in start..=end {
            for value in graph.nodes[index].op.inputs() {
                let is_inside = (start..=end).contains(&value.0);
                let is_row = self.plan.stages[value.0].is_of_candidates() && graph.sequence(value).is_none();
                match entered.iter_mut().find(|(known, _)| *known == value) {
                    Some((_, reader)) => *reader = index,
                    None if is_row && !is_inside => entered.push((value, index)),
                    None => {}
                }
            }
        }
        for (value, _) in entered {
            if let Some(inside) = self.arena.staged[value.0] {
                let enter = Enter { outside: self.arena.spans[value.0], inside };
                let lowered = self.plain(Operation::Enter(enter), format!("{}", inside.width));
                let mut step = self.step(start, lowered);
                step.value = None;
                step.tasks = self.plan.tasks[start..=end].iter().fold(0, |all, tasks| all | tasks);
                graph.name(value).clone_into(&mut step.name);
                steps.push((Stage::Candidate, step));
            }
        }
    }

    fn node(&self, node: &Node, index: usize) -> Result<Lowered, Error> {
        let output = self.output(index);
        let span = |value: Value| self.read(value, index);
        let width = node.width;
        let shape = format!("{width}");
        let positions = node.sequence.map_or(1, |group| self.description.sequence_length(group));
        let count =
            |lowered: Lowered, multiply_adds: usize| Lowered { multiply_adds: multiply_adds * positions, ..lowered };
        Ok(match &node.op {
            Op::Slice { .. } | Op::Concat(_) | Op::Linear { .. } | Op::Generated { .. } => {
                return Err(Error::new(ErrorKind::Internal, &node.name, "was not lowered by the passes before"));
            }
            Op::Feature(slot) | Op::Sequence { slot, .. } => self.feature(*slot, index, output)?,
            Op::Embedding { slot, table } => self.embedding(*slot, *table, index, output)?,
            Op::Tabulated { fields, layers } => self.tabulated(fields, layers, index, output)?,
            Op::RowNumbers(slot) => {
                let (_, lookup) = self.table(*slot)?;
                let (feature, is_counted) = (*slot, self.is_first(*slot, index));
                let numbers = RowNumbers { feature, lookup, count: width, is_counted, output };
                self.plain(Operation::RowNumbers(numbers), shape)
            }
            Op::Interleave { parts, groups } => {
                let parts = parts.iter().map(|(part, width)| (span(*part), *width)).collect();
                let interleave = Interleave { parts, groups: *groups, output };
                self.plain(Operation::Interleave(interleave), format!("{groups}x{}", width / groups))
            }
            Op::View { input, start, dims } => {
                let outside = || Error::new(ErrorKind::Internal, &node.name, "reads outside of its input");
                let view = View::new(span(*input), &places(*start, dims), output).ok_or_else(outside)?;
                self.plain(Operation::View(view), shape)
            }
            Op::Find { index, table } => {
                let tensor = self.store.tensor(*table);
                let (element, rows) = (element(&tensor)?, tensor.shape[0]);
                let scales = self.store.scale(*table).map(TensorId::index);
                let find = Find { table: table.index(), scales, element, rows, index: span(*index), output };
                Lowered { bytes: self.table_bytes(*table), ..self.plain(Operation::Find(find), shape) }
            }
            Op::Choose { condition, then, otherwise } => {
                let [condition, then, otherwise] = [condition, then, otherwise].map(|value| span(*value));
                self.plain(Operation::Choose(Choose { condition, then, otherwise, output }), shape)
            }
            Op::Reduce { input, how, inner } => {
                let input = span(*input);
                let shape = format!("{}x{}x{inner}", width / inner, input.width / width);
                self.plain(Operation::Reduction(Reduction { how: *how, inner: *inner, input, output }), shape)
            }
            Op::Pick { input, index, groups } => {
                let (input, index) = (span(*input), span(*index));
                self.plain(Operation::Pick(Pick { input, index, groups: *groups, output }), shape)
            }
            Op::TopK { input, groups, is_smallest } => {
                let top = TopK { input: span(*input), groups: *groups, is_smallest: *is_smallest, output };
                self.plain(Operation::TopK(top), shape)
            }
            Op::Scenario(table) => self.stored(*table, Some(self.description.scenario_rows), output)?,
            Op::Weight(table) => self.stored(*table, None, output)?,
            Op::ScenarioOneHot => self.plain(Operation::OneHot(OneHot { output }), shape),
            Op::BatchNorm { input, norm, start, groups } => {
                let (scale, shift) = affine(self.store, norm)?;
                let part = |values: Vec<f64>| {
                    let part = values[*start..start + width / groups].iter().map(|value| *value as f32);
                    part.collect::<Vec<f32>>().repeat(*groups)
                };
                let affine = Affine { input: span(*input), scale: part(scale), shift: part(shift), output };
                self.plain(Operation::Affine(affine), shape)
            }
            Op::LayerNorm { input, gamma, beta, epsilon, groups } => {
                let constants = |id: &Option<TensorId>, otherwise: f32| match id {
                    Some(id) => self.store.tensor(*id).to_f32(),
                    None => Ok(vec![otherwise; width / groups]),
                };
                let (gamma, beta) = (constants(gamma, 1.0)?, constants(beta, 0.0)?);
                let (input, epsilon, groups) = (span(*input), *epsilon as f32, *groups);
                self.plain(Operation::LayerNorm(LayerNorm { groups, input, gamma, beta, epsilon, output }), shape)
            }
            Op::Normalize { input, epsilon, groups } => {
                let normalize = Normalize { groups: *groups, input: span(*input), epsilon: *epsilon, output };
                self.plain(Operation::Normalize(normalize), shape)
            }
            Op::Activation { input, activation } => {
                let unary = Unary { activation: *activation, input: span(*input), output };
                self.plain(Operation::Unary(unary), shape)
            }
            Op::Combine { how, left, right, spread, activation } => {
                let (how, left, right, spread) = (*how, span(*left), span(*right), *spread);
                let combination = Combination { how, left, right, spread, activation: *activation, output, rows: None };
                self.plain(Operation::Combination(combination), shape)
            }
            Op::Cached { input, addend, activation } => {
                let missing = || Error::new(ErrorKind::Internal, &node.name, "is not kept by the item cache");
                let row = self.items.ok_or_else(missing)?;
                let place = self.arena.items.binary_search(input).map_err(|_| missing())?;
                let (element, start) = (row.rows.element(), row.parts[place].start);
                let cached = Cached { element, start, addend: addend.map(span), activation: *activation, output };
                self.plain(Operation::Cached(cached), shape)
            }
            Op::ScaleRows { matrix, scale } | Op::ScaleColumns { matrix, scale } => {
                let is_by_row = matches!(node.op, Op::ScaleRows { .. });
                let (matrix, scale) = (span(*matrix), span(*scale));
                let other = width / scale.width;
                let (rows, columns) = if is_by_row { (scale.width, other) } else { (other, scale.width) };
                let combination = Combination {
                    how: Combine::Multiply,
                    left: rows_of(matrix, columns),
                    right: if is_by_row { rows_of(scale, 1) } else { Span { stride: 0, ..scale } },
                    spread: Spread::Cycle,
                    activation: Activation::Identity,
                    output: rows_of(output, columns),
                    rows: Some(rows),
                };
                self.plain(Operation::Combination(combination), format!("{rows}x{columns}"))
            }
            Op::MatMul { left, right, shape } if self.is_wide(shape, index) => {
                let (left, right) = (span(*left), span(*right));
                let Matrices { height: rows, inner, columns, .. } = *shape;
                let generated = Generated {
                    input: rows_of(left, inner),
                    weight: right,
                    kept: None,
                    start: Start::Zero,
                    addend: None,
                    activation: Activation::Identity,
                    output: rows_of(output, columns),
                    rows: Some(rows),
                };
                let shape = format!("{rows}x{inner}x{columns}");
                count(self.plain(Operation::Generated(generated), shape), rows * inner * columns)
            }
            Op::MatMul { left, right, shape } => {
                let Matrices { batch, height, inner, columns, is_transposed } = *shape;
                let (left, right) = (span(*left), span(*right));
                let product = MatMul { left, right, output, batch, height, inner, columns, is_transposed };
                let shape = format!("{batch}x{height}x{inner}x{columns}");
                count(self.plain(Operation::MatMul(product), shape), batch * height * inner * columns)
            }
            Op::Softmax { input, groups } => {
                self.plain(Operation::Softmax(Softmax { groups: *groups, input: span(*input), output }), shape)
            }
            Op::Argmax { input, groups } => {
                self.plain(Operation::Argmax(Argmax { groups: *groups, input: span(*input), output }), shape)
            }
            Op::SoftmaxDown { input } => {
                self.plain(Operation::SoftmaxDown(SoftmaxDown { input: span(*input), output }), shape)
            }
            Op::Mixture { gate, is_softmax, experts } => {
                let shape = format!("{}{}x{width}", if *is_softmax { "softmax " } else { "" }, experts.len());
                let (gate, is_softmax) = (span(*gate), *is_softmax);
                let spans = experts.iter().map(|expert| span(*expert)).collect();
                let mixture = Operation::Mixture(Mixture { gate, is_softmax, experts: spans, output });
                count(self.plain(mixture, shape), experts.len() * width)
            }
            Op::Dot { left, right } => {
                let (left, right) = (span(*left), span(*right));
                let dots = Operation::Dots(Dots { pairs: vec![[left, right, output]] });
                count(self.plain(dots, format!("{}x{width}", left.width / width)), left.width)
            }
            Op::Dots { pairs } => {
                let spans = |(column, (left, right)): (usize, &(Value, Value))| {
                    let output = Span { offset: output.offset + column, width: 1, ..output };
                    [span(*left), span(*right), output]
                };
                let pairs: Vec<[Span; 3]> = pairs.iter().enumerate().map(spans).collect();
                let multiply_adds = pairs.iter().map(|[left, ..]| left.width).sum();
                count(self.plain(Operation::Dots(Dots { pairs }), shape), multiply_adds)
            }
            Op::Scores { queries, keys } => {
                let (queries, keys) = (span(*queries), span(*keys));
                let scores = Operation::Scores(Scores { queries, keys, output });
                count(self.plain(scores, format!("{}x{width}", keys.width)), keys.width * width)
            }
            Op::Attend { queries, keys, base, group, rows } => {
                let (queries, keys, base) = (span(*queries), span(*keys), base.map(span));
                let (group, length, rows) = (*group, width, *rows);
                let no_scratch = || Error::new(ErrorKind::Internal, &node.name, "has no scratch");
                let scratch = self.arena.scratch[index].ok_or_else(no_scratch)?;
                let attend = Attend { group, length, queries, keys, base, rows, scratch, output };
                let shape = format!("{}x{length}", queries.width / length);
                count(self.plain(Operation::Attend(attend), shape), queries.width * length)
            }
            Op::Flat { input, is_transposed } => {
                let (length, is_transposed) = (self.length(*input), *is_transposed);
                self.plain(Operation::Flat(Flat { input: span(*input), length, is_transposed, output }), shape)
            }
            Op::Pool { input, how } => {
                let (weights, is_mean) = match how {
                    Pooled::Sum => (None, false),
                    Pooled::Mean => (None, true),
                    Pooled::Weighted(weights) => (Some(span(*weights)), false),
                };
                let length = self.length(*input);
                let pool = Operation::Pool(Pool { input: span(*input), weights, is_mean, output });
                count(self.plain(pool, format!("{length}x{width}")), if weights.is_some() { length * width } else { 0 })
            }
            Op::Product { input, matrix, start, addend, activation, groups } => {
                let (groups, outputs) = (*groups, width / groups);
                let depth = self.plan.graph.width(*input) / groups;
                let shape =
                    if groups == 1 { format!("{depth}x{width}") } else { format!("{groups}x{depth}x{outputs}") };
                let (input, addend, activation) = (span(*input), addend.map(span), *activation);
                let start = match start {
                    graph::Start::Zero => Start::Zero,
                    graph::Start::Bias => Start::Bias,
                    graph::Start::Value(value) => Start::Span(span(*value)),
                };
                let lowered = match matrix {
                    Matrix::Layer(layer, columns) => {
                        let typed = || Error::new(ErrorKind::Internal, &node.name, "has no type of weights");
                        let weight_type = self.weights[index].ok_or_else(typed)?;
                        let packed_name = packed_name(self.store, layer, columns, weight_type);
                        let weights =
                            match packed(self.store, &packed_name, weight_type, [depth, outputs], self.kernels)? {
                                Some(weights) => weights,
                                None => Folded::read(self.store, layer, outputs)?.pack(
                                    columns,
                                    weight_type,
                                    self.kernels,
                                )?,
                            };
                        let rows = if self.plan.stages[index].is_of_candidates() { self.tile } else { groups };
                        let kernel = self.kernels.dense_name(weights.weight_type(), rows).to_owned();
                        let bytes = weights.bytes();
                        let scratch = self.arena.scratch[index].unwrap_or(NOWHERE);
                        let (reach, is_quantized) = (weights.reach(), self.quantized[index] != index);
                        let operation = Operation::Dense(Dense {
                            groups,
                            input,
                            weights: Box::new(weights),
                            packed_name,
                            start,
                            addend,
                            activation,
                            output,
                            scratch,
                            reach,
                            is_quantized,
                        });
                        Lowered { operation, shape, kernel, bytes, multiply_adds: 0 }
                    }
                    Matrix::Value(value) => {
                        let (weight, kept) = (span(*value), self.kept(*value, index));
                        let generated =
                            Generated { input, weight, kept, start, addend, activation, output, rows: None };
                        self.plain(Operation::Generated(generated), shape)
                    }
                };
                count(lowered, depth * width)
            }
        })
    }

    /// The lookup or the numbers of a feature.
    fn feature(&self, slot: usize, index: usize, output: Span) -> Result<Lowered, Error> {
        let feature = &self.description.features[slot];
        if let FeatureKind::Dense(dense) = &feature.kind {
            return Ok(self.plain(Operation::Load(load(slot, dense, output)), format!("{}", output.width)));
        }
        let (table, _) = self.table(slot)?;
        self.embedding(slot, table, index, output)
    }

    /// The table of a feature, and how its values find their rows there.
    fn table(&self, slot: usize) -> Result<(TensorId, Lookup), Error> {
        let feature = &self.description.features[slot];
        let (Some(table), Some(described)) = (self.tables[slot], feature.lookup()) else {
            return Err(Error::new(ErrorKind::Internal, &feature.name, "has no table"));
        };
        let lookup = lookup(described, self.store.tensor(table).shape[0]);
        Ok((table, lookup))
    }

    /// The rows of `table` that the values of a feature find.
    fn embedding(&self, slot: usize, table: TensorId, index: usize, output: Span) -> Result<Lowered, Error> {
        let tensor = self.store.tensor(table);
        let element = element(&tensor)?;
        let gather = Gather {
            feature: slot,
            table: table.index(),
            scales: self.store.scale(table).map(TensorId::index),
            element,
            lookup: self.table(slot)?.1,
            values: per_row(&self.description.features[slot].kind),
            is_counted: self.is_first(slot, index),
            output,
        };
        Ok(Lowered {
            shape: format!("{}x{}", tensor.shape[0], tensor.table_width()),
            kernel: format!("{}-{}", self.kernels.name(), element.name()),
            bytes: self.table_bytes(table),
            operation: Operation::Gather(gather),
            multiply_adds: 0,
        })
    }

    /// The product tables of `fields` in `layers`.
    fn tabulated(
        &self,
        fields: &[graph::Field],
        layers: &[TabulatedLayer],
        index: usize,
        output: Span,
    ) -> Result<Lowered, Error> {
        let folded = layers.iter().map(|of| Folded::read(self.store, &of.layer, of.outputs));
        let folded = folded.collect::<Result<Vec<Folded<'_>>, Error>>()?;
        let mut rows = 0;
        let mut looked_up = Vec::with_capacity(fields.len());
        let mut factors = Vec::with_capacity(fields.len());
        for (place, field) in fields.iter().enumerate() {
            let (_, lookup) = self.table(field.slot)?;
            let pack = |(of, folded): (&TabulatedLayer, &Folded<'_>)| {
                folded.pack(std::slice::from_ref(&of.columns[place]), Weight::F32, self.kernels)
            };
            let panels = layers.iter().zip(&folded).map(pack).collect::<Result<Vec<Panels>, Error>>()?;
            let tensor = self.store.tensor(field.table);
            let scales = self.store.scale(field.table).map_or(&[][..], |scale| self.store.tensor(scale).bytes);
            let (element, width) = (element(&tensor)?, tensor.table_width());
            factors.push((Table { bytes: tensor.bytes, scales, element, rows: lookup.rows, width }, panels));
            let (feature, first, is_counted) = (field.slot, rows as u32, self.is_first(field.slot, index));
            rows += lookup.rows;
            looked_up.push(TabulatedField { feature, lookup, first, is_counted });
        }
        let biases = layers.iter().zip(folded).map(|(of, folded)| match of.has_bias {
            true => folded.bias,
            false => vec![0.0; of.outputs],
        });
        let constant = biases.collect::<Vec<Vec<f32>>>().concat();
        let shape = format!("{rows}x{}", output.width);
        let Some(table) = Tabulated::table(self.kernels, factors.into_iter(), rows, &constant) else {
            let detail = format!("the product tables, {shape} f32, cannot be reserved");
            return Err(Error::new(ErrorKind::OutOfMemory, "product_bytes", detail));
        };
        let bytes = table.len();
        let operation = Operation::Tabulated(Tabulated { fields: looked_up, table, output });
        Ok(Lowered { bytes, ..self.plain(operation, shape) })
    }

    /// The bytes of a table and of the scales of its rows.
    fn table_bytes(&self, table: TensorId) -> usize {
        let scales = self.store.scale(table).map_or(0, |scale| self.store.tensor(scale).bytes.len());
        self.store.tensor(table).bytes.len() + scales
    }

    /// Whether a product of matrices is a dense layer over rows that are kept: one that changes with the scenario at most.
    fn is_wide(&self, shape: &Matrices, index: usize) -> bool {
        let is_kept = matches!(self.plan.stages[index], Stage::Model | Stage::Scenario);
        is_kept && shape.batch == 1 && !shape.is_transposed
    }

    /// Whether no node before reads the same feature: unusual values are counted once.
    fn is_first(&self, slot: usize, index: usize) -> bool {
        let reads = |node: &Node| match &node.op {
            Op::Feature(of) | Op::RowNumbers(of) | Op::Embedding { slot: of, .. } | Op::Sequence { slot: of, .. } => {
                *of == slot
            }
            Op::Tabulated { fields, .. } => fields.iter().any(|field| field.slot == slot),
            _ => false,
        };
        !self.plan.graph.nodes[..index].iter().any(reads)
    }

    /// A weight, or the scenario's part of one.
    fn stored(&self, table: TensorId, scenarios: Option<usize>, output: Span) -> Result<Lowered, Error> {
        let tensor = self.store.tensor(table);
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        let element = element(&tensor)?;
        let operation = Operation::Stored(Stored { table: table.index(), element, scenarios, output });
        Ok(Lowered { bytes: tensor.bytes.len(), ..self.plain(operation, shape.join("x")) })
    }

    fn plain(&self, operation: Operation, shape: String) -> Lowered {
        Lowered { operation, shape, kernel: self.kernels.name().to_owned(), bytes: 0, multiply_adds: 0 }
    }

    fn step(&self, index: usize, lowered: Lowered) -> Step {
        let Lowered { operation, shape, kernel, bytes, multiply_adds } = lowered;
        let node = &self.plan.graph.nodes[index];
        let inputs = || node.op.inputs().into_iter().find_map(|value| self.plan.graph.sequence(value));
        let rows = match node.sequence.or_else(inputs) {
            None => StepRows::Call,
            Some(group) => StepRows::Positions { group, in_block: self.plan.in_block[index] },
        };
        Step {
            operation,
            rows,
            value: Some(Placed { span: self.output(index), sequence: node.sequence }),
            is_scenario_bound: self.plan.dependents[index],
            rate: self.rates[index],
            tasks: self.plan.tasks[index],
            name: node.name.clone(),
            tensor: match &node.op {
                Op::Product { matrix: Matrix::Layer(layer, _), .. } => {
                    Some(self.store.tensor(layer.weight).name.to_owned())
                }
                _ => None,
            },
            shape,
            kernel,
            bytes,
            kept_bytes: if self.is_kept(index) { node.width * size_of::<f32>() } else { 0 },
            multiply_adds,
            multiply_rate: self.multiply_rate(index),
        }
    }

    fn multiply_rate(&self, index: usize) -> Rate {
        match &self.plan.graph.nodes[index].op {
            Op::Product { addend: Some(addend), .. } => {
                let inputs = self.plan.graph.nodes[index].op.inputs().into_iter();
                inputs.filter(|value| value != addend).map(|value| self.rates[value.0]).fold(Rate::Model, Rate::join)
            }
            _ => self.rates[index],
        }
    }

    /// Whether a value is kept outside the memory of scorers.
    fn is_kept(&self, index: usize) -> bool {
        let regions = &self.arena.regions;
        let offset = self.arena.spans[index].offset;
        [&regions.model_inputs, &regions.model_rest, &regions.scenario_inputs, &regions.scenario_matrices]
            .into_iter()
            .any(|region| region.contains(&offset))
    }

    /// Where the matrix `value` of a product is kept, if not in the memory of the step at `index`.
    fn kept(&self, value: Value, index: usize) -> Option<Kept> {
        let regions = &self.arena.regions;
        let offset = self.arena.spans[value.0].offset;
        if matches!(self.plan.stages[index], Stage::Model | Stage::Scenario) {
            None
        } else if regions.scenario_matrices.contains(&offset) {
            Some(Kept::Scenario(offset - regions.scenario_matrices.start))
        } else if regions.model_rest.contains(&offset) {
            Some(Kept::Model(offset - regions.model_rest.start))
        } else {
            None
        }
    }

    /// Where the node at `index` writes.
    fn output(&self, index: usize) -> Span {
        let is_row = self.plan.graph.nodes[index].sequence.is_none();
        match self.arena.staged[index] {
            Some(staged) if self.plan.in_block[index] && is_row => staged,
            _ => self.arena.spans[index],
        }
    }

    /// The span of a value as the node at `index` reads it.
    fn read(&self, value: Value, index: usize) -> Span {
        let is_row = self.plan.graph.sequence(value).is_none();
        match self.arena.staged[value.0] {
            Some(staged) if self.plan.in_block[index] && is_row => staged,
            _ => self.arena.spans[value.0],
        }
    }

    /// The most positions of a value.
    fn length(&self, value: Value) -> usize {
        self.plan.graph.sequence(value).map_or(1, |group| self.description.sequence_length(group))
    }
}

/// The columns that a view reads, in order.
fn places(start: usize, dims: &[(usize, isize)]) -> Vec<u32> {
    let mut places = vec![start as isize];
    for (size, stride) in dims {
        places = places.iter().flat_map(|place| (0..*size as isize).map(move |i| place + i * stride)).collect();
    }
    places.into_iter().map(|place| place as u32).collect()
}

/// A flat value as a matrix with that many columns.
fn rows_of(span: Span, columns: usize) -> Span {
    Span { stride: columns, width: columns, ..span }
}

/// The values of a row of a feature.
fn per_row(kind: &FeatureKind) -> PerRow {
    use crate::format::Pooling as Described;
    match kind {
        FeatureKind::Ids { pooling: Described::Sum, .. } => PerRow::Bag(Pooling::Sum),
        FeatureKind::Ids { pooling: Described::Mean, .. } => PerRow::Bag(Pooling::Mean),
        FeatureKind::Ids { pooling: Described::Max, .. } => PerRow::Bag(Pooling::Max),
        FeatureKind::Sequence { .. } => PerRow::Sequence,
        FeatureKind::Id { length, .. } => PerRow::Fixed(*length),
        FeatureKind::Dense(_) => PerRow::Fixed(1),
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
