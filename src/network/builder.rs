//! What network files write with: layers by the prefix of their tensors, shapes checked against the file as they are added.

use super::graph::{Graph, Layer, Matrices, Norm, Op, Pool, Value};
use super::rate::Rate;
use crate::error::{Error, ErrorKind};
use crate::format::{Description, FeatureKind, Store, TensorId};
use crate::ops::{Activation, Combine, Rows, Spread};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The activations that a description can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Nonlinearity {
    /// `max(x, 0)`
    #[default]
    Relu,
    /// `max(x, 0.01 x)`
    LeakyRelu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `x sigmoid(x)`
    Silu,
    /// `x` above 0, else `a x`; `a` is the tensor `{prefix}.activation.weight`, one number or one per column.
    Prelu,
    /// `p x + a (1 - p) x`, `p = sigmoid((x - mean) / sqrt(variance + 1e-9))` (Zhou et al., DIN, KDD 2018, eq. 4); `a` is
    /// `{prefix}.activation.alpha`, the moments `{prefix}.activation.norm.running_mean` and `running_var`.
    Dice,
    /// The same with `p = sigmoid(norm(x))` for a layer norm `{prefix}.activation.norm` of the row, epsilon 1e-3. That of
    /// torch-rechub is this one with norm weights `1 / sqrt(width)`, norm biases 0 and equal `a`.
    LayerDice,
}

/// The block `Linear -> BatchNorm -> activation` that the hidden layers of a network repeat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    pub activation: Nonlinearity,
    pub batch_norm: bool,
}

/// The epsilon of `torch.nn.BatchNorm1d` and `torch.nn.LayerNorm`.
const NORM_EPSILON: f64 = 1e-5;

/// The epsilon of `torch.nn.functional.normalize`.
pub const NORMALIZE_EPSILON: f32 = 1e-12;

/// The epsilons of the norms of Dice.
const DICE_EPSILON: f64 = 1e-9;
const LAYER_DICE_EPSILON: f64 = 1e-3;

/// The widest value, and the most experts, layers or nodes, that a description may ask for.
pub const MAX_WIDTH: usize = 1 << 20;
pub const MAX_COUNT: usize = 4096;
/// The most features whose pairs are multiplied.
const MAX_FIELDS: usize = 512;

/// How the network reads a tensor that may hold integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// By rows, each with a scale.
    Table,
    /// As the weight of a dense layer, with a scale for each output.
    Layer {
        /// The axis of the outputs: 0, or 1 for `[inputs, outputs]`.
        output_axis: usize,
    },
}

impl Role {
    /// The axis of the scales.
    pub fn axis(self) -> usize {
        match self {
            Role::Table => 0,
            Role::Layer { output_axis } => output_axis,
        }
    }
}

/// A graph with what it reads.
pub struct Network {
    pub graph: Graph,
    /// The tensors that it reads, besides the tables of features.
    pub weights: Vec<TensorId>,
    /// The tensors that may hold integers: what is read in one such way, and in no other.
    pub roles: BTreeMap<TensorId, Role>,
}

/// A graph under construction over the tensors of one file.
pub struct Builder<'a> {
    pub description: &'a Description,
    store: &'a Store,
    graph: Graph,
    tables: &'a [Option<TensorId>],
    used: Vec<TensorId>,
    /// The way in which each tensor is read first, `None` for one that is for floats alone, and whether it is the only one.
    roles: BTreeMap<TensorId, (Option<Role>, bool)>,
}

impl<'a> Builder<'a> {
    /// `tables` are the checked tables of the features, by slot.
    pub fn new(description: &'a Description, store: &'a Store, tables: &'a [Option<TensorId>]) -> Self {
        let roles = tables.iter().flatten().map(|table| (*table, (Some(Role::Table), true))).collect();
        Self { description, store, graph: Graph::default(), tables, used: Vec::new(), roles }
    }

    /// The graph with its outputs, and which tensors it reads.
    pub fn finish(mut self, outputs: Vec<Option<Value>>) -> Network {
        self.graph.outputs = outputs;
        let roles = self.roles.into_iter().filter_map(|(id, (role, is_only))| Some((id, role.filter(|_| is_only)?)));
        let roles = roles.collect();
        Network { graph: self.graph, weights: self.used, roles }
    }

    pub fn width(&self, value: Value) -> usize {
        self.graph.width(value)
    }

    /// A tensor of exactly `shape`, of a type that weights may have, all its values finite.
    pub fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorId, Error> {
        let id = self.store.weight(name, shape)?;
        self.store.tensor(id).check_finite()?;
        self.claim(id, None)?;
        Ok(id)
    }

    /// A tensor of any shape, of a type that weights may have, all its values finite; and its shape.
    pub fn shaped(&mut self, name: &str) -> Result<(TensorId, &'a [usize]), Error> {
        let shape = self.shape(name)?;
        Ok((self.tensor(name, shape)?, shape))
    }

    /// The same for a tensor that may hold infinities, but nothing that is not a number.
    pub fn constant(&mut self, name: &str) -> Result<(TensorId, &'a [usize]), Error> {
        let shape = self.store.tensor(self.store.require(name)?).shape;
        let id = self.store.weight(name, shape)?;
        if let Some(at) = self.store.tensor(id).to_f32()?.iter().position(|value| value.is_nan()) {
            return Err(Error::new(ErrorKind::Tensor, name, format!("element {at} is not a number")));
        }
        self.claim(id, None)?;
        Ok((id, shape))
    }

    /// The shape of a tensor, as it is stored.
    pub fn shape(&self, name: &str) -> Result<&'a [usize], Error> {
        Ok(self.store.tensor(self.store.require(name)?).shape)
    }

    /// A table that is none of a feature's own: floats, int8 or int4; its rows and its width.
    pub fn other_table(&mut self, name: &str) -> Result<(TensorId, [usize; 2]), Error> {
        let id = self.store.require(name)?;
        let shape = self.store.table(id)?;
        self.store.check_numbers(id, usize::MAX)?;
        self.claim(id, Some(Role::Table))?;
        Ok((id, shape))
    }

    /// The weight of a dense layer, whose outputs lie along that axis: floats, int8, int12 or int16.
    pub fn layer_weight(&mut self, name: &str, output_axis: usize) -> Result<(TensorId, [usize; 2]), Error> {
        let (id, shape) = self.store.layer(name, output_axis)?;
        self.claim(id, Some(Role::Layer { output_axis }))?;
        Ok((id, shape))
    }

    /// Takes a tensor, and its companion with it.
    fn claim(&mut self, id: TensorId, role: Option<Role>) -> Result<(), Error> {
        self.used.push(id);
        let (first, is_only) = self.roles.entry(id).or_insert((role, true));
        *is_only &= *first == role;
        if let Some(scale) = self.store.scale(id) {
            self.used.push(scale);
            if first.map(Role::axis) != role.map(Role::axis) {
                let detail = "is read by rows and by columns, but its integers have scales along one axis";
                return Err(Error::new(ErrorKind::Tensor, self.store.tensor(id).name, detail));
            }
        }
        Ok(())
    }

    /// The name and the rows of the table of a feature.
    pub fn table(&self, slot: usize) -> Option<(&'a str, usize)> {
        let tensor = self.store.tensor(self.tables[slot]?);
        Some((tensor.name, tensor.shape[0]))
    }

    /// The value of a step of a graph.
    pub fn step(&mut self, op: Op, width: usize, name: &str) -> Value {
        self.graph.add(op, width, name)
    }

    /// The value of one feature.
    pub fn feature(&mut self, slot: usize) -> Value {
        let feature = &self.description.features[slot];
        let width = match self.tables[slot] {
            Some(table) => self.store.tensor(table).table_width() * feature.width(),
            None => feature.width(),
        };
        self.graph.add(Op::Feature(slot), width, feature.name.clone())
    }

    /// The features side by side, in listed order, and then the blocks: the `x` of every paper. Sequences are read by
    /// blocks alone.
    pub fn features(&mut self) -> Result<Value, Error> {
        let mut parts = self.plain_parts();
        parts.extend(super::blocks::build(self)?);
        match parts.is_empty() {
            true => Err(Error::new(ErrorKind::Description, "features", "has sequences alone, and no block reads them")),
            false => Ok(self.concat(&parts)),
        }
    }

    /// All features but sequences side by side, in listed order.
    pub fn plain_features(&mut self) -> Result<Value, Error> {
        let parts = self.plain_parts();
        match parts.is_empty() {
            true => Err(Error::new(ErrorKind::Description, "features", "has sequences alone")),
            false => Ok(self.concat(&parts)),
        }
    }

    fn plain_parts(&mut self) -> Vec<Value> {
        let slots: Vec<usize> = (0..self.description.features.len()).filter(|slot| !self.is_sequence(*slot)).collect();
        slots.into_iter().map(|slot| self.feature(slot)).collect()
    }

    /// Whether a feature has a row per position, which blocks alone read.
    pub fn is_sequence(&self, slot: usize) -> bool {
        matches!(self.description.features[slot].kind, FeatureKind::Sequence { .. })
    }

    /// The slot of the feature that the description names at `path`.
    pub fn slot(&self, path: &str, name: &str) -> Result<usize, Error> {
        let position = self.description.features.iter().position(|feature| feature.name == name);
        position.ok_or_else(|| Error::new(ErrorKind::Description, path, format!("no feature `{name}`")))
    }

    /// The named features; a sequence may not be among them.
    fn fields(&mut self, path: &str, names: &[String]) -> Result<Vec<Value>, Error> {
        let mut fields = Vec::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            let path = format!("{path}[{i}]");
            let slot = self.slot(&path, name)?;
            if self.is_sequence(slot) {
                return Err(Error::new(ErrorKind::Description, path, format!("`{name}` is a sequence")));
            }
            fields.push(self.feature(slot));
        }
        if fields.is_empty() {
            return Err(Error::new(ErrorKind::Description, path, "is empty"));
        }
        Ok(fields)
    }

    /// The named features side by side.
    pub fn named(&mut self, path: &str, names: &[String]) -> Result<Value, Error> {
        let fields = self.fields(path, names)?;
        Ok(self.concat(&fields))
    }

    /// The named features, which must be of one width.
    pub fn equal_fields(&mut self, path: &str, names: &[String]) -> Result<Vec<Value>, Error> {
        if names.len() > MAX_FIELDS {
            let detail = format!("names {} features, at most {MAX_FIELDS} are allowed", names.len());
            return Err(Error::new(ErrorKind::Limit, path, detail));
        }
        let fields = self.fields(path, names)?;
        let width = self.width(fields[0]);
        match fields.iter().position(|field| self.width(*field) != width) {
            Some(i) => {
                let detail = format!("`{}` is {} wide, `{}` {width}", names[i], self.width(fields[i]), names[0]);
                Err(Error::new(ErrorKind::Description, format!("{path}[{i}]"), detail))
            }
            None => Ok(fields),
        }
    }

    /// The embeddings of the named sequences side by side, a row per position. They must be of one group.
    pub fn sequence(&mut self, path: &str, names: &[String]) -> Result<Value, Error> {
        let mut parts = Vec::with_capacity(names.len());
        let mut first = None;
        for (i, name) in names.iter().enumerate() {
            let path = format!("{path}[{i}]");
            let slot = self.slot(&path, name)?;
            let (FeatureKind::Sequence { group, .. }, Some(table)) =
                (&self.description.features[slot].kind, self.tables[slot])
            else {
                return Err(Error::new(ErrorKind::Description, path, format!("`{name}` is not a sequence")));
            };
            if *first.get_or_insert(*group) != *group {
                let detail = format!("`{name}` is of another `sequence` than `{}`", names[0]);
                return Err(Error::new(ErrorKind::Description, path, detail));
            }
            let width = self.store.tensor(table).table_width();
            parts.push(self.graph.add(Op::Sequence { slot, group: *group }, width, name));
        }
        if parts.is_empty() {
            return Err(Error::new(ErrorKind::Description, path, "is empty"));
        }
        Ok(self.concat(&parts))
    }

    /// The most positions of a sequence value.
    pub fn length(&self, value: Value) -> usize {
        self.graph.sequence(value).map_or(1, |group| self.description.sequence_length(group))
    }

    /// Whether a value is the same for all candidates of a request.
    pub fn is_request_constant(&self, value: Value) -> bool {
        let rates: Vec<Rate> = self.description.features.iter().map(|feature| feature.rate.into()).collect();
        let mut known = Vec::new();
        super::rate::complete_rates(&self.graph, &rates, &mut known);
        known[value.0].is_request_constant()
    }

    /// How many scenarios own rows, for a network that needs scenarios.
    pub fn scenarios(&self) -> Result<usize, Error> {
        match self.description.scenario_rows {
            0 => Err(Error::new(ErrorKind::Description, "scenarios", "is empty, the network needs scenarios")),
            rows => Ok(rows),
        }
    }

    /// The scenario's part of the tensor `name`, `[scenarios, shape...]`, flat.
    pub fn scenario(&mut self, name: &str, shape: &[usize]) -> Result<Value, Error> {
        let whole: Vec<usize> = std::iter::once(self.scenarios()?).chain(shape.iter().copied()).collect();
        let id = self.tensor(name, &whole)?;
        Ok(self.graph.add(Op::Scenario(id), shape.iter().product(), name))
    }

    /// 1 at the row of the scenario, 0 elsewhere.
    pub fn scenario_one_hot(&mut self) -> Result<Value, Error> {
        let rows = self.scenarios()?;
        Ok(self.graph.add(Op::ScenarioOneHot, rows, "scenario"))
    }

    /// The tensor `name` as a value: flat, the same for all requests.
    pub fn weight(&mut self, name: &str, shape: &[usize]) -> Result<Value, Error> {
        let id = self.tensor(name, shape)?;
        Ok(self.graph.add(Op::Weight(id), shape.iter().product(), name))
    }

    pub fn concat(&mut self, parts: &[Value]) -> Value {
        if let [single] = parts {
            return *single;
        }
        let width = parts.iter().map(|part| self.width(*part)).sum();
        self.graph.add(Op::Concat(parts.to_vec()), width, "concat")
    }

    /// `width` columns of `input` from `start`.
    pub fn slice(&mut self, input: Value, start: usize, width: usize) -> Value {
        if start == 0 && width == self.width(input) {
            return input;
        }
        self.graph.add(Op::Slice { input, start }, width, "slice")
    }

    /// `prefix.weight` `[outputs, inputs]` and `prefix.bias` `[outputs]`.
    pub fn linear(&mut self, prefix: &str, input: Value, outputs: usize) -> Result<Value, Error> {
        let bias = Some(self.tensor(&format!("{prefix}.bias"), &[outputs])?);
        self.linear_of(prefix, input, outputs, bias)
    }

    /// `prefix.weight` `[outputs, inputs]` alone.
    pub fn linear_without_bias(&mut self, prefix: &str, input: Value, outputs: usize) -> Result<Value, Error> {
        self.linear_of(prefix, input, outputs, None)
    }

    fn linear_of(
        &mut self,
        prefix: &str,
        input: Value,
        outputs: usize,
        bias: Option<TensorId>,
    ) -> Result<Value, Error> {
        let inputs = self.width(input);
        let name = format!("{prefix}.weight");
        let (weight, _) = self.layer_weight(&name, 0)?;
        self.store.tensor(weight).check_shape(&[outputs, inputs])?;
        let layer = Layer { weight, is_transposed: false, bias, norm: None, input_norm: None };
        Ok(self.graph.add(Op::Linear { input, layer, groups: 1 }, outputs, prefix))
    }

    /// `x W + b` with a computed `weight`, `[inputs, outputs]` row-major.
    pub fn generated(&mut self, name: &str, input: Value, weight: Value, bias: Option<Value>, outputs: usize) -> Value {
        debug_assert_eq!(self.width(weight), self.width(input) * outputs, "{name}");
        self.graph.add(Op::Generated { input, weight, bias }, outputs, name)
    }

    /// The layer that each scenario has for itself: `prefix.weight` `[scenarios, inputs, outputs]`, `prefix.bias`
    /// `[scenarios, outputs]`.
    pub fn scenario_linear(&mut self, prefix: &str, input: Value, outputs: usize) -> Result<Value, Error> {
        let inputs = self.width(input);
        let weight = self.scenario(&format!("{prefix}.weight"), &[inputs, outputs])?;
        let bias = self.scenario(&format!("{prefix}.bias"), &[outputs])?;
        Ok(self.generated(prefix, input, weight, Some(bias), outputs))
    }

    /// `A B` of matrices that change with the scenario at most: `left` has `rows` rows, `right` is flat too.
    pub fn mat_mul(&mut self, name: &str, left: Value, right: Value, rows: usize) -> Value {
        let inner = self.width(left) / rows;
        let columns = self.width(right) / inner;
        let shape = Matrices { batch: 1, height: rows, inner, columns, is_transposed: false };
        self.graph.add(Op::MatMul { left, right, shape }, rows * columns, name)
    }

    /// `A[i, j] s[i]`, both changing with the scenario at most.
    pub fn scale_rows(&mut self, name: &str, matrix: Value, scale: Value) -> Value {
        let width = self.width(matrix);
        self.graph.add(Op::ScaleRows { matrix, scale }, width, name)
    }

    /// A layer with a norm behind it that each scenario has for itself, as one product: the tensors are those of
    /// [`Builder::scenario_linear`] below `prefix.linear` and of [`Builder::scenario_norm`] below `prefix.norm`.
    pub fn scenario_normed_linear(&mut self, prefix: &str, input: Value, outputs: usize) -> Result<Value, Error> {
        let inputs = self.width(input);
        let weight = self.scenario(&format!("{prefix}.linear.weight"), &[inputs, outputs])?;
        let bias = self.scenario(&format!("{prefix}.linear.bias"), &[outputs])?;
        let (scale, shift) = self.scenario_norm(&format!("{prefix}.norm"), outputs)?;
        let weight = self.graph.add(Op::ScaleColumns { matrix: weight, scale }, inputs * outputs, prefix);
        let bias = self.multiply(prefix, bias, scale);
        let bias = self.add(prefix, bias, shift);
        Ok(self.generated(prefix, input, weight, Some(bias), outputs))
    }

    /// `prefix.weight`, `bias`, `running_mean` and `running_var`: the running statistics of training.
    pub fn batch_norm(&mut self, prefix: &str, input: Value) -> Result<Value, Error> {
        let width = self.width(input);
        let mut part = |name: &str| self.tensor(&format!("{prefix}.{name}"), &[width]);
        let norm = Norm {
            gamma: Some(part("weight")?),
            beta: Some(part("bias")?),
            mean: part("running_mean")?,
            variance: part("running_var")?,
            epsilon: NORM_EPSILON,
        };
        self.check_variance(norm)?;
        Ok(self.graph.add(Op::BatchNorm { input, norm, start: 0, groups: 1 }, width, prefix))
    }

    /// `scale` and `shift` of the batch norm that each scenario has for itself: its four tensors are `[scenarios, width]`.
    pub fn scenario_norm(&mut self, prefix: &str, width: usize) -> Result<(Value, Value), Error> {
        let [gamma, beta, mean, variance] = ["weight", "bias", "running_mean", "running_var"]
            .map(|name| self.scenario(&format!("{prefix}.{name}"), &[width]));
        let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
        self.check_positive(&format!("{prefix}.running_var"))?;
        let root = self.activation(variance, Activation::InverseSqrt(NORM_EPSILON as f32));
        let scale = self.multiply(prefix, gamma, root);
        let moved = self.multiply(prefix, mean, scale);
        let shift = self.subtract(prefix, beta, moved);
        Ok((scale, shift))
    }

    /// `prefix.weight` and `prefix.bias`: the moments are those of the row.
    pub fn layer_norm(&mut self, prefix: &str, input: Value) -> Result<Value, Error> {
        self.layer_norm_of(prefix, input, NORM_EPSILON)
    }

    fn layer_norm_of(&mut self, prefix: &str, input: Value, epsilon: f64) -> Result<Value, Error> {
        let width = self.width(input);
        let gamma = Some(self.tensor(&format!("{prefix}.weight"), &[width])?);
        let beta = Some(self.tensor(&format!("{prefix}.bias"), &[width])?);
        Ok(self.graph.add(Op::LayerNorm { input, gamma, beta, epsilon, groups: 1 }, width, prefix))
    }

    /// `x / max(|x|_2, 1e-12)`
    pub fn normalize(&mut self, name: &str, input: Value) -> Value {
        let width = self.width(input);
        self.graph.add(Op::Normalize { input, epsilon: NORMALIZE_EPSILON, groups: 1 }, width, name)
    }

    /// `prefix.linear`, then `prefix.norm` and the activation as `block` says.
    pub fn layer(&mut self, prefix: &str, input: Value, outputs: usize, block: Block) -> Result<Value, Error> {
        let mut value = self.linear(&format!("{prefix}.linear"), input, outputs)?;
        if block.batch_norm {
            value = self.batch_norm(&format!("{prefix}.norm"), value)?;
        }
        self.nonlinearity(prefix, value, block.activation)
    }

    /// A named activation; those with tensors have them below `prefix.activation`.
    pub fn nonlinearity(&mut self, prefix: &str, x: Value, name: Nonlinearity) -> Result<Value, Error> {
        let activation = match name {
            Nonlinearity::Relu => Activation::Relu,
            Nonlinearity::LeakyRelu => Activation::LeakyRelu(0.01),
            Nonlinearity::Sigmoid => Activation::Sigmoid,
            Nonlinearity::Tanh => Activation::Tanh,
            Nonlinearity::Silu => Activation::Silu,
            Nonlinearity::Prelu => return self.prelu(&format!("{prefix}.activation"), x),
            Nonlinearity::Dice => return self.dice(&format!("{prefix}.activation"), x),
            Nonlinearity::LayerDice => {
                let prefix = format!("{prefix}.activation");
                let norm = self.layer_norm_of(&format!("{prefix}.norm"), x, LAYER_DICE_EPSILON)?;
                return self.blend(&prefix, x, norm);
            }
        };
        Ok(self.activation(x, activation))
    }

    fn prelu(&mut self, prefix: &str, x: Value) -> Result<Value, Error> {
        let name = format!("{prefix}.weight");
        let is_single = self.store.find(&name).is_some_and(|id| self.store.tensor(id).shape == [1]);
        let width = if is_single { 1 } else { self.width(x) };
        let slope = self.weight(&name, &[width])?;
        let above = self.activation(x, Activation::Relu);
        let below = self.subtract(prefix, x, above);
        let below = self.multiply(prefix, below, slope);
        Ok(self.add(prefix, above, below))
    }

    fn dice(&mut self, prefix: &str, x: Value) -> Result<Value, Error> {
        let width = self.width(x);
        let mean = self.tensor(&format!("{prefix}.norm.running_mean"), &[width])?;
        let variance = self.tensor(&format!("{prefix}.norm.running_var"), &[width])?;
        let norm = Norm { gamma: None, beta: None, mean, variance, epsilon: DICE_EPSILON };
        self.check_variance(norm)?;
        let norm =
            self.graph.add(Op::BatchNorm { input: x, norm, start: 0, groups: 1 }, width, format!("{prefix}.norm"));
        self.blend(prefix, x, norm)
    }

    /// `p x + a (1 - p) x`, `p = sigmoid(norm)`
    fn blend(&mut self, prefix: &str, x: Value, norm: Value) -> Result<Value, Error> {
        let width = self.width(x);
        let p = self.activation(norm, Activation::Sigmoid);
        let alpha = self.weight(&format!("{prefix}.alpha"), &[width])?;
        let rest = self.activation(alpha, Activation::Affine { scale: -1.0, shift: 1.0 });
        let scaled = self.multiply(prefix, p, rest);
        let factor = self.add(prefix, scaled, alpha);
        Ok(self.multiply(prefix, x, factor))
    }

    /// `prefix.0`, `prefix.1`, ... of the given sizes; no sizes, no layers.
    pub fn mlp(&mut self, prefix: &str, input: Value, sizes: &[usize], block: Block) -> Result<Value, Error> {
        let mut layers = sizes.iter().enumerate();
        layers.try_fold(input, |value, (i, size)| self.layer(&format!("{prefix}.{i}"), value, *size, block))
    }

    /// `heads.{task}`: one logit, then its sigmoid.
    pub fn head(&mut self, task: &str, input: Value) -> Result<Value, Error> {
        let logit = self.linear(&format!("heads.{task}"), input, 1)?;
        Ok(self.activation(logit, Activation::Sigmoid))
    }

    pub fn activation(&mut self, input: Value, activation: Activation) -> Value {
        let (width, name) = (self.width(input), self.graph.name(input).to_owned());
        self.graph.add(Op::Activation { input, activation }, width, name)
    }

    pub fn softmax(&mut self, input: Value) -> Value {
        let (width, name) = (self.width(input), self.graph.name(input).to_owned());
        self.graph.add(Op::Softmax { input, groups: 1 }, width, name)
    }

    /// 1 at the largest element, the first of them, 0 elsewhere.
    pub fn argmax(&mut self, input: Value) -> Value {
        let (width, name) = (self.width(input), self.graph.name(input).to_owned());
        self.graph.add(Op::Argmax { input, groups: 1 }, width, name)
    }

    /// `left * right`, per element; a right side of width 1 is repeated.
    pub fn multiply(&mut self, name: &str, left: Value, right: Value) -> Value {
        self.combine(name, Combine::Multiply, left, right)
    }

    /// `left + right`, per element; a right side of width 1 is repeated.
    pub fn add(&mut self, name: &str, left: Value, right: Value) -> Value {
        self.combine(name, Combine::Add, left, right)
    }

    /// `left - right`, per element; a right side of width 1 is repeated.
    pub fn subtract(&mut self, name: &str, left: Value, right: Value) -> Value {
        self.combine(name, Combine::Subtract, left, right)
    }

    fn combine(&mut self, name: &str, how: Combine, left: Value, right: Value) -> Value {
        let width = self.width(left);
        debug_assert!(self.width(right) == width || self.width(right) == 1, "{name}");
        self.graph.add(
            Op::Combine { how, left, right, spread: Spread::Cycle, activation: Activation::Identity },
            width,
            name,
        )
    }

    /// The sum of values of one width; those that are the same for all candidates come first.
    pub fn sum(&mut self, name: &str, parts: &[Value]) -> Value {
        let mut parts: Vec<(bool, Value)> =
            parts.iter().map(|part| (!self.is_request_constant(*part), *part)).collect();
        parts.sort_by_key(|(varies, _)| *varies);
        let first = parts[0].1;
        parts[1..].iter().fold(first, |sum, (_, part)| self.add(name, sum, *part))
    }

    /// The mean of values of one width.
    pub fn mean(&mut self, name: &str, parts: &[Value]) -> Value {
        let sum = self.sum(name, parts);
        self.activation(sum, Activation::Affine { scale: 1.0 / parts.len() as f32, shift: 0.0 })
    }

    /// `sum_j left[g, j] * right[g, j]` for `groups` equal parts of the rows.
    pub fn dot(&mut self, name: &str, left: Value, right: Value, groups: usize) -> Value {
        self.graph.add(Op::Dot { left, right }, groups, name)
    }

    /// The inner products of all pairs `i < j` of values of one width, in the order (0, 1), (0, 2), ..., (1, 2), ...
    pub fn pair_dots(&mut self, name: &str, fields: &[Value]) -> Value {
        let pairs = (0..fields.len()).flat_map(|i| (i + 1..fields.len()).map(move |j| (fields[i], fields[j])));
        let pairs: Vec<(Value, Value)> = pairs.collect();
        self.dots(name, pairs)
    }

    /// The inner product of each pair.
    pub fn dots(&mut self, name: &str, pairs: Vec<(Value, Value)>) -> Value {
        let width = pairs.len();
        self.graph.add(Op::Dots { pairs }, width, name)
    }

    /// The positions of a sequence as one row.
    pub fn pool(&mut self, name: &str, input: Value, how: Pool) -> Value {
        let width = self.width(input);
        self.graph.add(Op::Pool { input, how }, width, name)
    }

    /// A softmax over the positions of a sequence, per column.
    pub fn softmax_down(&mut self, name: &str, input: Value) -> Value {
        let width = self.width(input);
        self.graph.add(Op::SoftmaxDown { input }, width, name)
    }

    /// The weight of each position of the sequence `over`, side by side, after self-attention with logits
    /// `base + queries^T keys`, pooled over the queries.
    pub fn attend(
        &mut self,
        name: &str,
        over: Value,
        [queries, keys]: [Value; 2],
        base: Option<Value>,
        rows: Rows,
    ) -> Value {
        let (group, length) = (self.graph.sequence(over).unwrap_or_default(), self.length(over));
        self.graph.add(Op::Attend { queries, keys, base, group, rows }, length, name)
    }

    /// The positions of a sequence side by side, `[length, width]`, or `[width, length]` if `is_transposed`.
    pub fn flat(&mut self, name: &str, input: Value, is_transposed: bool) -> Value {
        let width = self.length(input) * self.width(input);
        self.graph.add(Op::Flat { input, is_transposed }, width, name)
    }

    /// `queries keys^T` over the positions of one sequence: a row per position with a column per position.
    pub fn scores(&mut self, name: &str, queries: Value, keys: Value) -> Value {
        let length = self.length(keys);
        self.graph.add(Op::Scores { queries, keys }, length, name)
    }

    /// `sum_e gate[e] * experts[e]`; the gate is as wide as there are experts, and the experts are equally wide.
    pub fn mixture(&mut self, name: &str, gate: Value, experts: &[Value]) -> Value {
        let width = self.width(experts[0]);
        self.graph.add(Op::Mixture { gate, is_softmax: false, experts: experts.to_vec() }, width, name)
    }

    /// The names of the tasks that the network predicts itself, in listed order.
    pub fn tasks(&self) -> Vec<&'a str> {
        let tasks = self.description.tasks.iter().filter(|task| task.composition.is_none());
        tasks.map(|task| task.name.as_str()).collect()
    }

    /// `prefix.0`, `prefix.1`, ...: `count` MLPs of one input.
    pub fn experts(
        &mut self,
        prefix: &str,
        count: usize,
        input: Value,
        sizes: &[usize],
        block: Block,
    ) -> Result<Vec<Value>, Error> {
        (0..count).map(|e| self.mlp(&format!("{prefix}.{e}"), input, sizes, block)).collect()
    }

    /// `sum_e g_e experts[e]`, `g = softmax(W MLP(input) + b)`: the layers are those of `prefix.hidden`, then `prefix.out`.
    pub fn gated(
        &mut self,
        prefix: &str,
        input: Value,
        hidden: &[usize],
        experts: &[Value],
        block: Block,
    ) -> Result<Value, Error> {
        let hidden = self.mlp(&format!("{prefix}.hidden"), input, hidden, block)?;
        let logits = self.linear(&format!("{prefix}.out"), hidden, experts.len())?;
        let gate = self.softmax(logits);
        Ok(self.mixture(prefix, gate, experts))
    }

    /// One value per task that the network predicts itself, by `tower`; `None` for composed tasks.
    pub fn per_task(
        &mut self,
        mut tower: impl FnMut(&mut Self, &str) -> Result<Value, Error>,
    ) -> Result<Vec<Option<Value>>, Error> {
        let description = self.description;
        description
            .tasks
            .iter()
            .map(|task| if task.composition.is_none() { tower(self, &task.name).map(Some) } else { Ok(None) })
            .collect()
    }

    /// `towers.{task}` and `heads.{task}` of each task that the network predicts itself; `hidden` has a value for each, in
    /// listed order.
    pub fn towers(&mut self, hidden: &[Value], sizes: &[usize], block: Block) -> Result<Vec<Option<Value>>, Error> {
        let mut outputs = vec![None; self.description.tasks.len()];
        let predicted = outputs.iter_mut().zip(&self.description.tasks).filter(|(_, task)| task.composition.is_none());
        for ((output, task), hidden) in predicted.zip(hidden) {
            let tower = self.mlp(&format!("towers.{}", task.name), *hidden, sizes, block)?;
            *output = Some(self.head(&task.name, tower)?);
        }
        Ok(outputs)
    }

    pub fn check_variance(&self, norm: Norm) -> Result<(), Error> {
        self.check_positive(self.store.tensor(norm.variance).name)
    }

    /// Refuses a variance below zero.
    fn check_positive(&self, name: &str) -> Result<(), Error> {
        let tensor = self.store.tensor(self.store.require(name)?);
        match tensor.to_f32()?.iter().position(|variance| *variance < 0.0) {
            Some(at) => {
                let detail = format!("value {at} is negative, a variance cannot be");
                Err(Error::new(ErrorKind::Tensor, tensor.name, detail))
            }
            None => Ok(()),
        }
    }
}

/// The hyper-parameters of a named network; every error names its JSON path.
pub fn parameters<T: DeserializeOwned>(description: &Description) -> Result<T, Error> {
    let mut network = description.network.clone();
    network.remove("blocks");
    parse("network", serde_json::Value::Object(network))
}

/// A value of the description, by the types that read it; every error names its JSON path, which begins with `path`.
pub fn parse<T: DeserializeOwned>(path: &str, value: serde_json::Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let inner = error.path().to_string();
        let subject = if inner == "." { path.to_owned() } else { format!("{path}.{inner}") };
        Error::new(ErrorKind::Description, subject, error.into_inner().to_string())
    })
}

/// Refuses sizes of zero, or beyond what memory arithmetic allows.
pub fn check_sizes(path: &str, sizes: &[usize]) -> Result<(), Error> {
    if sizes.len() > MAX_COUNT {
        let detail = format!("has {} layers, at most {MAX_COUNT} are allowed", sizes.len());
        return Err(Error::new(ErrorKind::Limit, path, detail));
    }
    sizes.iter().enumerate().try_for_each(|(i, size)| check_size(&format!("{path}[{i}]"), *size, MAX_WIDTH))
}

/// Refuses counts of experts, by the names of their fields, that are too large or all zero, and experts without layers.
pub fn check_experts(counts: &[(&str, usize)], expert: &[usize]) -> Result<(), Error> {
    for (name, count) in counts {
        if *count > MAX_COUNT {
            let detail = format!("is {count}, at most {MAX_COUNT} are allowed");
            return Err(Error::new(ErrorKind::Description, format!("network.{name}"), detail));
        }
    }
    if counts.iter().all(|(_, count)| *count == 0) {
        let names: Vec<&str> = counts.iter().map(|(name, _)| *name).collect();
        let detail = format!("has no experts: {} are 0", names.join(", "));
        return Err(Error::new(ErrorKind::Description, "network", detail));
    }
    check_expert(expert)
}

/// Refuses experts without layers, and layers of wrong sizes.
pub fn check_expert(expert: &[usize]) -> Result<(), Error> {
    check_sizes("network.expert", expert)?;
    if expert.is_empty() {
        return Err(Error::new(ErrorKind::Description, "network.expert", "is empty, an expert has at least one layer"));
    }
    Ok(())
}

/// The same for a network that may have no experts; then it has no sizes of experts and gates either.
pub fn check_optional_experts(count: usize, expert: &[usize], gate: &[usize]) -> Result<(), Error> {
    check_sizes("network.gate", gate)?;
    if count > 0 {
        return check_experts(&[("experts", count)], expert);
    }
    for (path, sizes) in [("network.expert", expert), ("network.gate", gate)] {
        if !sizes.is_empty() {
            let detail = "has sizes, but `experts` is 0: there are none";
            return Err(Error::new(ErrorKind::Description, path, detail));
        }
    }
    Ok(())
}

/// Refuses a number that is zero or above `most`.
pub fn check_size(path: &str, size: usize, most: usize) -> Result<(), Error> {
    if (1..=most).contains(&size) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Description, path, format!("is {size}, must be 1 to {most}")))
}
