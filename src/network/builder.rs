//! What network files write with: layers by the prefix of their tensors, shapes checked against the file as they are added.

use super::graph::{Graph, Layer, Norm, Op, Value};
use crate::error::{Error, ErrorKind};
use crate::format::{Description, Store, TensorId};
use crate::ops::Activation;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

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
}

impl From<Nonlinearity> for Activation {
    fn from(name: Nonlinearity) -> Activation {
        match name {
            Nonlinearity::Relu => Activation::Relu,
            Nonlinearity::LeakyRelu => Activation::LeakyRelu(0.01),
            Nonlinearity::Sigmoid => Activation::Sigmoid,
            Nonlinearity::Tanh => Activation::Tanh,
            Nonlinearity::Silu => Activation::Silu,
        }
    }
}

/// The block `Linear -> BatchNorm -> activation` that the hidden layers of a network repeat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Block {
    pub activation: Nonlinearity,
    pub batch_norm: bool,
}

/// The epsilon of `torch.nn.BatchNorm1d`.
const NORM_EPSILON: f64 = 1e-5;

/// The widest value, and the most experts, layers or nodes, that a description may ask for.
pub const MAX_WIDTH: usize = 1 << 20;
pub const MAX_COUNT: usize = 4096;

/// A graph under construction over the tensors of one file.
pub struct Builder<'a> {
    pub description: &'a Description,
    store: &'a Store,
    graph: Graph,
    tables: &'a [Option<TensorId>],
    used: Vec<TensorId>,
}

impl<'a> Builder<'a> {
    /// `tables` are the checked tables of the features, by slot.
    pub fn new(description: &'a Description, store: &'a Store, tables: &'a [Option<TensorId>]) -> Self {
        Self { description, store, graph: Graph::default(), tables, used: Vec::new() }
    }

    /// The graph with its outputs, and which tensors it reads.
    pub fn finish(mut self, outputs: Vec<Option<Value>>) -> (Graph, Vec<TensorId>) {
        self.graph.outputs = outputs;
        (self.graph, self.used)
    }

    pub fn width(&self, value: Value) -> usize {
        self.graph.width(value)
    }

    /// A tensor of exactly `shape`, of a type that weights may have, all its values finite.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Result<TensorId, Error> {
        let id = self.store.weight(name, shape)?;
        self.store.tensor(id).check_finite()?;
        self.used.push(id);
        Ok(id)
    }

    /// The value of one feature.
    pub fn feature(&mut self, slot: usize) -> Value {
        let feature = &self.description.features[slot];
        let width = match self.tables[slot] {
            Some(table) => self.store.tensor(table).shape[1],
            None => feature.width(),
        };
        self.graph.add(Op::Feature(slot), width, feature.name.clone())
    }

    /// The features side by side, in listed order: the `x` of every paper.
    pub fn features(&mut self) -> Value {
        let parts: Vec<Value> = (0..self.description.features.len()).map(|slot| self.feature(slot)).collect();
        self.concat(&parts)
    }

    /// The scenario's row of the tensor `name`, `[scenarios, width]`.
    pub fn scenario_row(&mut self, name: &str, width: usize) -> Result<Value, Error> {
        let rows = self.description.scenario_rows;
        if rows == 0 {
            return Err(Error::new(ErrorKind::Description, "scenarios", "is empty, the network needs scenarios"));
        }
        let id = self.tensor(name, &[rows, width])?;
        Ok(self.graph.add(Op::Scenario(id), width, name))
    }

    pub fn concat(&mut self, parts: &[Value]) -> Value {
        if let [single] = parts {
            return *single;
        }
        let width = parts.iter().map(|part| self.width(*part)).sum();
        self.graph.add(Op::Concat(parts.to_vec()), width, "concat")
    }

    /// `prefix.weight` `[outputs, inputs]` and `prefix.bias` `[outputs]`.
    pub fn linear(&mut self, prefix: &str, input: Value, outputs: usize) -> Result<Value, Error> {
        let inputs = self.width(input);
        let weight = self.tensor(&format!("{prefix}.weight"), &[outputs, inputs])?;
        let bias = Some(self.tensor(&format!("{prefix}.bias"), &[outputs])?);
        Ok(self.graph.add(Op::Linear { input, layer: Layer { weight, bias, norm: None } }, outputs, prefix))
    }

    /// `prefix.linear`, then `prefix.norm` and the activation as `block` says.
    pub fn layer(&mut self, prefix: &str, input: Value, outputs: usize, block: Block) -> Result<Value, Error> {
        let mut value = self.linear(&format!("{prefix}.linear"), input, outputs)?;
        if block.batch_norm {
            let mut part = |name: &str| self.tensor(&format!("{prefix}.norm.{name}"), &[outputs]);
            let norm = Norm {
                gamma: part("weight")?,
                beta: part("bias")?,
                mean: part("running_mean")?,
                variance: part("running_var")?,
                epsilon: NORM_EPSILON,
            };
            self.check_variance(norm)?;
            value = self.graph.add(Op::BatchNorm { input: value, norm }, outputs, format!("{prefix}.norm"));
        }
        Ok(self.activation(value, block.activation.into()))
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
        self.graph.add(Op::Softmax { input }, width, name)
    }

    /// `left * right`, per element, of equal widths.
    pub fn multiply(&mut self, name: &str, left: Value, right: Value) -> Value {
        let width = self.width(left);
        self.graph.add(Op::Multiply { left, right }, width, name)
    }

    /// `sum_e gate[e] * experts[e]`; the gate is as wide as there are experts, and the experts are equally wide.
    pub fn mixture(&mut self, name: &str, gate: Value, experts: &[Value]) -> Value {
        let width = self.width(experts[0]);
        self.graph.add(Op::Mixture { gate, experts: experts.to_vec() }, width, name)
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

    fn check_variance(&self, norm: Norm) -> Result<(), Error> {
        let tensor = self.store.tensor(norm.variance);
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
    serde_path_to_error::deserialize(serde_json::Value::Object(description.network.clone())).map_err(|error| {
        let path = error.path().to_string();
        let subject = if path == "." { "network".to_owned() } else { format!("network.{path}") };
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

/// Refuses a number that is zero or above `most`.
pub fn check_size(path: &str, size: usize, most: usize) -> Result<(), Error> {
    if (1..=most).contains(&size) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Description, path, format!("is {size}, must be 1 to {most}")))
}
