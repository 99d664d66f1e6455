//! Any other network, as a list of steps: what importers write.
//!
//! `network.steps` lists operations in the order in which they read each other, `network.outputs` names the step of each
//! task that is not composed. A value is a flat vector per row; a step that works on several equal parts of it says how
//! many `groups` there are. README.md beside this file has the table of operations.

use super::builder::{Builder, MAX_COUNT, MAX_WIDTH, check_size, parameters, parse};
use super::graph::{Layer, Matrices, Norm, Op, Value};
use crate::error::{Error, ErrorKind};
use crate::format::FeatureKind;
use crate::ops::{Activation, Combine, Rare, Reduce, Spread};
use serde::Deserialize;
use std::collections::HashMap;

/// The most numbers that the values of a row may have together.
const MAX_TOTAL: usize = 1 << 26;
/// The most rows of a table whose rows are found by computed numbers: those that an f32 tells apart.
const MAX_FOUND_ROWS: usize = 1 << 24;
/// The most inputs of a step.
const MAX_INPUTS: usize = 65_536;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    steps: Vec<serde_json::Value>,
    outputs: HashMap<String, String>,
}

/// A number that is finite as f32.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct Number(f32);

impl TryFrom<f64> for Number {
    type Error = &'static str;

    fn try_from(value: f64) -> Result<Self, Self::Error> {
        let rounded = value as f32;
        if rounded.is_finite() { Ok(Number(rounded)) } else { Err("a number is not finite as f32") }
    }
}

const fn one() -> usize {
    1
}

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Kind {
    Feature {
        feature: String,
    },
    Embedding {
        feature: String,
        table: String,
    },
    Rows {
        feature: String,
    },
    Scenario {
        tensor: String,
    },
    Constant {
        tensor: String,
    },
    Concat {},
    Interleave {
        groups: usize,
        widths: Vec<usize>,
    },
    View {
        start: usize,
        sizes: Vec<usize>,
        strides: Vec<isize>,
    },
    Linear {
        weight: String,
        bias: Option<String>,
        #[serde(default = "one")]
        groups: usize,
        #[serde(default)]
        transposed: bool,
    },
    #[serde(rename = "matmul")]
    MatMul {
        #[serde(default = "one")]
        batch: usize,
        rows: usize,
        inner: usize,
        columns: usize,
        #[serde(default)]
        transposed: bool,
    },
    BatchNorm {
        weight: Option<String>,
        bias: Option<String>,
        mean: String,
        variance: String,
        epsilon: Number,
        #[serde(default = "one")]
        groups: usize,
    },
    LayerNorm {
        weight: Option<String>,
        bias: Option<String>,
        epsilon: Number,
        #[serde(default = "one")]
        groups: usize,
    },
    Normalize {
        #[serde(default = "one")]
        groups: usize,
        epsilon: Option<Number>,
    },
    Softmax {
        #[serde(default = "one")]
        groups: usize,
    },
    Argmax {
        #[serde(default = "one")]
        groups: usize,
    },
    TopK {
        #[serde(default = "one")]
        groups: usize,
        count: usize,
        #[serde(default)]
        smallest: bool,
    },
    Function(Function),
    Combine {
        function: Combination,
        #[serde(default)]
        each: bool,
    },
    Choose {},
    Reduce {
        function: Reduction,
        #[serde(default = "one")]
        groups: usize,
        #[serde(default = "one")]
        inner: usize,
    },
    Lookup {
        table: String,
    },
    Pick {
        #[serde(default = "one")]
        groups: usize,
        #[serde(default = "one")]
        inner: usize,
        count: usize,
    },
    Mixture {},
    Dot {
        #[serde(default = "one")]
        groups: usize,
    },
}

/// Functions of one element.
#[derive(Clone, Copy, Deserialize)]
#[serde(tag = "function", rename_all = "snake_case", deny_unknown_fields)]
enum Function {
    Abs {},
    Negate {},
    Exp {},
    Log {},
    Sqrt {},
    Reciprocal {},
    Square {},
    Erf {},
    Gelu {},
    GeluTanh {},
    Sigmoid {},
    Tanh {},
    Relu {},
    LeakyRelu { slope: Number },
    Elu { alpha: Number },
    Selu { alpha: Number, gamma: Number },
    Celu { alpha: Number },
    Softplus {},
    Softsign {},
    Mish {},
    Silu {},
    HardSigmoid { scale: Number, shift: Number },
    HardSwish {},
    ThresholdedRelu { alpha: Number },
    Affine { scale: Number, shift: Number },
    Clip { low: Option<Number>, high: Option<Number> },
    Power { exponent: Number },
    Floor {},
    Ceil {},
    Round {},
    Truncate {},
    Sign {},
    Not {},
    IsNan {},
    IsInf {},
    Sin {},
    Cos {},
    Tan {},
    Asin {},
    Acos {},
    Atan {},
    Sinh {},
    Cosh {},
    Asinh {},
    Acosh {},
    Atanh {},
}

impl From<Function> for Activation {
    fn from(function: Function) -> Activation {
        match function {
            Function::Abs {} => Activation::Abs,
            Function::Negate {} => Activation::Negate,
            Function::Exp {} => Activation::Exp,
            Function::Log {} => Activation::Log,
            Function::Sqrt {} => Activation::Sqrt,
            Function::Reciprocal {} => Activation::Reciprocal,
            Function::Square {} => Activation::Square,
            Function::Erf {} => Activation::Erf,
            Function::Gelu {} => Activation::Gelu,
            Function::GeluTanh {} => Activation::GeluTanh,
            Function::Sigmoid {} => Activation::Sigmoid,
            Function::Tanh {} => Activation::Tanh,
            Function::Relu {} => Activation::Relu,
            Function::LeakyRelu { slope } => Activation::LeakyRelu(slope.0),
            Function::Elu { alpha } => Activation::Elu { alpha: alpha.0 },
            Function::Selu { alpha, gamma } => Activation::Selu { alpha: alpha.0, gamma: gamma.0 },
            Function::Celu { alpha } => Activation::Celu { alpha: alpha.0 },
            Function::Softplus {} => Activation::Softplus,
            Function::Softsign {} => Activation::Softsign,
            Function::Mish {} => Activation::Mish,
            Function::Silu {} => Activation::Silu,
            Function::HardSigmoid { scale, shift } => Activation::HardSigmoid { scale: scale.0, shift: shift.0 },
            Function::HardSwish {} => Activation::HardSwish,
            Function::ThresholdedRelu { alpha } => Activation::ThresholdedRelu { alpha: alpha.0 },
            Function::Affine { scale, shift } => Activation::Affine { scale: scale.0, shift: shift.0 },
            Function::Clip { low, high } => Activation::Clip {
                low: low.map_or(f32::NEG_INFINITY, |low| low.0),
                high: high.map_or(f32::INFINITY, |high| high.0),
            },
            Function::Power { exponent } => Activation::Rare(Rare::Power { exponent: exponent.0 }),
            Function::Floor {} => Activation::Floor,
            Function::Ceil {} => Activation::Ceil,
            Function::Round {} => Activation::Round,
            Function::Truncate {} => Activation::Truncate,
            Function::Sign {} => Activation::Sign,
            Function::Not {} => Activation::Not,
            Function::IsNan {} => Activation::IsNan,
            Function::IsInf {} => Activation::IsInf,
            Function::Sin {} => Activation::Rare(Rare::Sin),
            Function::Cos {} => Activation::Rare(Rare::Cos),
            Function::Tan {} => Activation::Rare(Rare::Tan),
            Function::Asin {} => Activation::Rare(Rare::Asin),
            Function::Acos {} => Activation::Rare(Rare::Acos),
            Function::Atan {} => Activation::Rare(Rare::Atan),
            Function::Sinh {} => Activation::Rare(Rare::Sinh),
            Function::Cosh {} => Activation::Rare(Rare::Cosh),
            Function::Asinh {} => Activation::Rare(Rare::Asinh),
            Function::Acosh {} => Activation::Rare(Rare::Acosh),
            Function::Atanh {} => Activation::Rare(Rare::Atanh),
        }
    }
}

/// Functions of two elements.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Combination {
    Add,
    Subtract,
    Multiply,
    Divide,
    Maximum,
    Minimum,
    Power,
    Modulo,
    Remainder,
    Equal,
    Less,
    LessEqual,
    Prelu,
}

impl From<Combination> for Combine {
    fn from(function: Combination) -> Combine {
        match function {
            Combination::Add => Combine::Add,
            Combination::Subtract => Combine::Subtract,
            Combination::Multiply => Combine::Multiply,
            Combination::Divide => Combine::Divide,
            Combination::Maximum => Combine::Maximum,
            Combination::Minimum => Combine::Minimum,
            Combination::Power => Combine::Power,
            Combination::Modulo => Combine::Modulo,
            Combination::Remainder => Combine::Remainder,
            Combination::Equal => Combine::Equal,
            Combination::Less => Combine::Less,
            Combination::LessEqual => Combine::LessEqual,
            Combination::Prelu => Combine::Prelu,
        }
    }
}

/// From many elements to one.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reduction {
    Sum,
    Mean,
    Max,
    Min,
    Product,
    LogSumExp,
}

impl From<Reduction> for Reduce {
    fn from(function: Reduction) -> Reduce {
        match function {
            Reduction::Sum => Reduce::Sum,
            Reduction::Mean => Reduce::Mean,
            Reduction::Max => Reduce::Max,
            Reduction::Min => Reduce::Min,
            Reduction::Product => Reduce::Product,
            Reduction::LogSumExp => Reduce::LogSumExp,
        }
    }
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    if b.description.network.contains_key("blocks") {
        return Err(wrong("network.blocks", "does not belong to a graph"));
    }
    let p: Parameters = parameters(b.description)?;
    let mut known: HashMap<String, Value> = HashMap::with_capacity(p.steps.len());
    let mut total = 0;
    for (number, json) in p.steps.into_iter().enumerate() {
        let path = format!("network.steps[{number}]");
        let (name, inputs, json) = head(&path, json, &known)?;
        let step = Step { path: &path, name: &name, inputs };
        let value = step.build(b, parse(&path, json)?)?;
        total += b.width(value);
        if total > MAX_TOTAL {
            let detail = format!("brings the values of a row past {MAX_TOTAL} numbers");
            return Err(Error::new(ErrorKind::Limit, path, detail));
        }
        if known.insert(name, value).is_some() {
            return Err(wrong(format!("{path}.name"), "is the name of an earlier step too"));
        }
    }
    for task in p.outputs.keys() {
        if !b.tasks().contains(&task.as_str()) {
            return Err(wrong(format!("network.outputs.{task}"), "is not a task that the network predicts itself"));
        }
    }
    b.per_task(|b, task| {
        let path = format!("network.outputs.{task}");
        let name = p.outputs.get(task).ok_or_else(|| wrong(&path, "is missing"))?;
        let value = *known.get(name).ok_or_else(|| wrong(&path, format!("`{name}` is not a step")))?;
        match b.width(value) {
            1 => Ok(value),
            width => Err(wrong(&path, format!("`{name}` is {width} wide, a score is one number"))),
        }
    })
}

fn wrong(path: impl Into<String>, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Description, path.into(), detail.into())
}

/// The name and the inputs of a step, and the rest of it.
fn head(
    path: &str,
    json: serde_json::Value,
    known: &HashMap<String, Value>,
) -> Result<(String, Vec<Value>, serde_json::Value), Error> {
    let serde_json::Value::Object(mut step) = json else { return Err(wrong(path, "is not an object")) };
    let name = match step.remove("name") {
        Some(serde_json::Value::String(name)) if !name.is_empty() => name,
        _ => return Err(wrong(format!("{path}.name"), "is not a string of at least one letter")),
    };
    let listed: Vec<String> = match step.remove("inputs") {
        None => Vec::new(),
        Some(inputs) => parse(&format!("{path}.inputs"), inputs)?,
    };
    if listed.len() > MAX_INPUTS {
        let detail = format!("lists {} values, at most {MAX_INPUTS} are allowed", listed.len());
        return Err(Error::new(ErrorKind::Limit, format!("{path}.inputs"), detail));
    }
    let find = |(place, input): (usize, &String)| {
        let missing = || wrong(format!("{path}.inputs[{place}]"), format!("`{input}` is not an earlier step"));
        known.get(input).copied().ok_or_else(missing)
    };
    let inputs = listed.iter().enumerate().map(find).collect::<Result<_, _>>()?;
    Ok((name, inputs, serde_json::Value::Object(step)))
}

/// A step whose operation is being added.
struct Step<'s> {
    path: &'s str,
    name: &'s str,
    inputs: Vec<Value>,
}

impl Step<'_> {
    fn at(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    fn wrong(&self, detail: impl Into<String>) -> Error {
        wrong(format!("{} `{}`", self.path, self.name), detail)
    }

    /// The inputs, of which there have to be `N`.
    fn inputs<const N: usize>(&self) -> Result<[Value; N], Error> {
        let inputs = <[Value; N]>::try_from(self.inputs.as_slice());
        inputs.map_err(|_| self.wrong(format!("has {} inputs, its operation has {N}", self.inputs.len())))
    }

    /// The product of sizes, all at least 1, that a value may have as its width.
    fn width(&self, sizes: &[usize]) -> Result<usize, Error> {
        let product = sizes.iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        match product {
            Some(width) if (1..=MAX_WIDTH).contains(&width) => Ok(width),
            _ => Err(self.wrong(format!("sizes {sizes:?} do not make a width of 1 to {MAX_WIDTH}"))),
        }
    }

    /// The width of one of `groups` equal parts of a value.
    fn part(&self, b: &Builder<'_>, value: Value, groups: usize) -> Result<usize, Error> {
        let width = b.width(value);
        if groups == 0 || !width.is_multiple_of(groups) {
            return Err(self.wrong(format!("an input {width} wide has no {groups} equal parts")));
        }
        Ok(width / groups)
    }

    fn expect(&self, what: &str, width: usize, expected: usize) -> Result<(), Error> {
        if width == expected {
            return Ok(());
        }
        Err(self.wrong(format!("{what} is {width} wide, not {expected}")))
    }

    /// A tensor `[rows, columns]`, taken by `take`.
    fn matrix<T>(
        &self,
        b: &mut Builder<'_>,
        key: &str,
        name: &str,
        take: impl FnOnce(&mut Builder<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        match *b.shape(name)? {
            [rows, columns] if rows > 0 && columns > 0 => take(b),
            ref shape => Err(wrong(self.at(key), format!("tensor `{name}` has shape {shape:?}, not two dimensions"))),
        }
    }

    fn build(&self, b: &mut Builder<'_>, kind: Kind) -> Result<Value, Error> {
        let (op, width) = match kind {
            Kind::Feature { feature } => {
                self.inputs::<0>()?;
                let slot = b.slot(&self.at("feature"), &feature)?;
                if !matches!(b.description.features[slot].kind, FeatureKind::Dense(_)) {
                    return Err(wrong(self.at("feature"), format!("`{feature}` is not of kind dense")));
                }
                (Op::Feature(slot), b.description.features[slot].width())
            }
            Kind::Embedding { feature, table } => {
                self.inputs::<0>()?;
                let slot = self.id_feature(b, &feature)?;
                if b.table(slot).is_some_and(|(name, _)| name == table) {
                    return Ok(b.feature(slot));
                }
                let (id, [rows, dim]) = self.matrix(b, "table", &table, |b| b.other_table(&table))?;
                let own = b.table(slot).map_or(0, |(_, rows)| rows);
                if rows < own {
                    let detail = format!("tensor `{table}` has {rows} rows, the feature's own table {own}");
                    return Err(wrong(self.at("table"), detail));
                }
                let width = self.width(&[b.description.features[slot].width(), dim])?;
                (Op::Embedding { slot, table: id }, width)
            }
            Kind::Rows { feature } => {
                self.inputs::<0>()?;
                let slot = self.id_feature(b, &feature)?;
                (Op::RowNumbers(slot), b.description.features[slot].width())
            }
            Kind::Scenario { tensor } => {
                self.inputs::<0>()?;
                let scenarios = b.scenarios()?;
                let (id, shape) = b.shaped(&tensor)?;
                match shape {
                    [first, rest @ ..] if *first == scenarios => (Op::Scenario(id), self.width(rest)?),
                    _ => {
                        let detail = format!("tensor `{tensor}` has shape {shape:?}, there are {scenarios} scenarios");
                        return Err(wrong(self.at("tensor"), detail));
                    }
                }
            }
            Kind::Constant { tensor } => {
                self.inputs::<0>()?;
                let (id, shape) = b.constant(&tensor)?;
                (Op::Weight(id), self.width(shape)?)
            }
            Kind::Concat {} => {
                let width = self.total(self.inputs.iter().map(|input| b.width(*input)))?;
                if let [single] = self.inputs[..] {
                    return Ok(single);
                }
                (Op::Concat(self.inputs.clone()), width)
            }
            Kind::Interleave { groups, widths } => self.interleave(b, groups, &widths)?,
            Kind::View { start, sizes, strides } => self.view(b, start, &sizes, &strides)?,
            Kind::Linear { weight, bias, groups, transposed } => {
                let [input] = self.inputs()?;
                let part = self.part(b, input, groups)?;
                let axis = usize::from(transposed);
                let (id, [rows, columns]) = self.matrix(b, "weight", &weight, |b| b.layer_weight(&weight, axis))?;
                let (inputs, outputs) = if transposed { (rows, columns) } else { (columns, rows) };
                self.expect("a part of the input", part, inputs)?;
                let bias = bias.map(|bias| b.tensor(&bias, &[outputs])).transpose()?;
                let layer = Layer { weight: id, is_transposed: transposed, bias, norm: None, input_norm: None };
                (Op::Linear { input, layer, groups }, self.width(&[groups, outputs])?)
            }
            Kind::MatMul { batch, rows, inner, columns, transposed } => {
                let [left, right] = self.inputs()?;
                let width = self.width(&[batch, rows, columns])?;
                for (what, value, one) in [("left", left, [rows, inner]), ("right", right, [inner, columns])] {
                    let (one, all) = (self.width(&one)?, self.width(&[batch, one[0], one[1]])?);
                    if b.width(value) != one {
                        self.expect(what, b.width(value), all)?;
                    }
                }
                let shape = Matrices { batch, height: rows, inner, columns, is_transposed: transposed };
                (Op::MatMul { left, right, shape }, width)
            }
            Kind::BatchNorm { weight, bias, mean, variance, epsilon, groups } => {
                let [input] = self.inputs()?;
                let width = self.part(b, input, groups)?;
                let mut part = |name: &str| b.tensor(name, &[width]);
                let norm = Norm {
                    gamma: weight.as_deref().map(&mut part).transpose()?,
                    beta: bias.as_deref().map(&mut part).transpose()?,
                    mean: part(&mean)?,
                    variance: part(&variance)?,
                    epsilon: f64::from(epsilon.0),
                };
                b.check_variance(norm)?;
                (Op::BatchNorm { input, norm, start: 0, groups }, b.width(input))
            }
            Kind::LayerNorm { weight, bias, epsilon, groups } => {
                let [input] = self.inputs()?;
                let part = self.part(b, input, groups)?;
                let gamma = weight.map(|name| b.tensor(&name, &[part])).transpose()?;
                let beta = bias.map(|name| b.tensor(&name, &[part])).transpose()?;
                (Op::LayerNorm { input, gamma, beta, epsilon: f64::from(epsilon.0), groups }, b.width(input))
            }
            Kind::Normalize { groups, epsilon } => {
                let [input] = self.inputs()?;
                self.part(b, input, groups)?;
                let epsilon = epsilon.map_or(super::builder::NORMALIZE_EPSILON, |epsilon| epsilon.0);
                (Op::Normalize { input, epsilon, groups }, b.width(input))
            }
            Kind::Softmax { groups } => {
                let [input] = self.inputs()?;
                self.part(b, input, groups)?;
                (Op::Softmax { input, groups }, b.width(input))
            }
            Kind::Argmax { groups } => {
                let [input] = self.inputs()?;
                self.part(b, input, groups)?;
                (Op::Argmax { input, groups }, b.width(input))
            }
            Kind::TopK { groups, count, smallest } => {
                let [input] = self.inputs()?;
                let part = self.part(b, input, groups)?;
                check_size(&self.at("count"), count, part.min(MAX_COUNT))?;
                (Op::TopK { input, groups, is_smallest: smallest }, self.width(&[2, groups, count])?)
            }
            Kind::Function(function) => {
                let [input] = self.inputs()?;
                (Op::Activation { input, activation: function.into() }, b.width(input))
            }
            Kind::Combine { function, each } => {
                let [left, right] = self.inputs()?;
                let (width, other) = (b.width(left), b.width(right));
                if !width.is_multiple_of(other) {
                    return Err(
                        self.wrong(format!("a right side {other} wide does not divide a left side {width} wide"))
                    );
                }
                let spread = if each && other > 1 && other < width { Spread::Each } else { Spread::Cycle };
                (Op::Combine { how: function.into(), left, right, spread, activation: Activation::Identity }, width)
            }
            Kind::Choose {} => {
                let [condition, then, otherwise] = self.inputs()?;
                let widths = [condition, then, otherwise].map(|value| b.width(value));
                let width = widths.into_iter().max().unwrap_or(1);
                if widths.iter().any(|other| *other != 1 && *other != width) {
                    return Err(self.wrong(format!("inputs of widths {widths:?} are neither 1 wide nor equally wide")));
                }
                (Op::Choose { condition, then, otherwise }, width)
            }
            Kind::Reduce { function, groups, inner } => {
                let [input] = self.inputs()?;
                let width = self.width(&[groups, inner])?;
                self.part(b, input, width)?;
                (Op::Reduce { input, how: function.into(), inner }, width)
            }
            Kind::Lookup { table } => {
                let [index] = self.inputs()?;
                let (id, [rows, dim]) = self.matrix(b, "table", &table, |b| b.other_table(&table))?;
                if rows > MAX_FOUND_ROWS {
                    let detail = format!("tensor `{table}` has {rows} rows, at most {MAX_FOUND_ROWS} can be computed");
                    return Err(Error::new(ErrorKind::Limit, self.at("table"), detail));
                }
                (Op::Find { index, table: id }, self.width(&[b.width(index), dim])?)
            }
            Kind::Pick { groups, inner, count } => {
                let [input, index] = self.inputs()?;
                self.part(b, input, self.width(&[groups, inner])?)?;
                self.expect("the index", b.width(index), self.width(&[groups, count])?)?;
                (Op::Pick { input, index, groups }, self.width(&[groups, count, inner])?)
            }
            Kind::Mixture {} => {
                let [gate, experts @ ..] = &self.inputs[..] else { return Err(self.wrong("has no inputs")) };
                self.expect("the gate", b.width(*gate), experts.len())?;
                let width = b.width(experts[0]);
                experts.iter().try_for_each(|expert| self.expect("an expert", b.width(*expert), width))?;
                (Op::Mixture { gate: *gate, is_softmax: false, experts: experts.to_vec() }, width)
            }
            Kind::Dot { groups } => {
                let [left, right] = self.inputs()?;
                self.part(b, left, groups)?;
                self.expect("the right side", b.width(right), b.width(left))?;
                (Op::Dot { left, right }, groups)
            }
        };
        Ok(b.step(op, width, self.name))
    }

    fn id_feature(&self, b: &Builder<'_>, name: &str) -> Result<usize, Error> {
        let slot = b.slot(&self.at("feature"), name)?;
        match b.description.features[slot].kind {
            FeatureKind::Id { .. } => Ok(slot),
            _ => Err(wrong(self.at("feature"), format!("`{name}` is not of kind id"))),
        }
    }

    /// The sum of widths, which a value may have.
    fn total(&self, mut widths: impl Iterator<Item = usize>) -> Result<usize, Error> {
        let total = widths.try_fold(0usize, |total, width| total.checked_add(width));
        match total {
            Some(width) if (1..=MAX_WIDTH).contains(&width) => Ok(width),
            _ => Err(self.wrong(format!("the inputs together are not 1 to {MAX_WIDTH} wide"))),
        }
    }

    fn interleave(&self, b: &Builder<'_>, groups: usize, widths: &[usize]) -> Result<(Op, usize), Error> {
        if widths.len() != self.inputs.len() {
            let detail = format!("lists {} widths for {} inputs", widths.len(), self.inputs.len());
            return Err(wrong(self.at("widths"), detail));
        }
        let parts: Vec<(Value, usize)> = self.inputs.iter().copied().zip(widths.iter().copied()).collect();
        for (value, width) in &parts {
            let all = self.width(&[groups, *width])?;
            if b.width(*value) != *width {
                self.expect("an input", b.width(*value), all)?;
            }
        }
        let one = self.total(widths.iter().copied())?;
        Ok((Op::Interleave { parts, groups }, self.width(&[groups, one])?))
    }

    fn view(&self, b: &Builder<'_>, start: usize, sizes: &[usize], strides: &[isize]) -> Result<(Op, usize), Error> {
        let [input] = self.inputs()?;
        if sizes.is_empty() || sizes.len() != strides.len() {
            let detail = format!("has {} strides for {} sizes", strides.len(), sizes.len());
            return Err(wrong(self.at("strides"), detail));
        }
        let width = self.width(sizes)?;
        let bounds =
            sizes.iter().zip(strides).try_fold((start as i128, start as i128), |(low, high), (size, stride)| {
                let reach = (*size as i128 - 1).checked_mul(*stride as i128)?;
                Some((low + reach.min(0), high + reach.max(0)))
            });
        match bounds {
            Some((low, high)) if low >= 0 && high < b.width(input) as i128 => {}
            _ => return Err(self.wrong(format!("reads outside of an input {} wide", b.width(input)))),
        }
        let dims = sizes.iter().copied().zip(strides.iter().copied()).filter(|(size, _)| *size > 1).collect();
        Ok((Op::View { input, start, dims }, width))
    }
}
