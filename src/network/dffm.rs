//! DFFM (Guo et al., DFFM: Domain Facilitated Feature Modeling for CTR Prediction, CIKM 2023, doi 10.1145/3583780.3615469,
//! eq. 2-14): the domain's embedding is the weights of the feature interaction, and with the target's those of the attention
//! over the history.
//!
//! ```text
//! D(e)   = h_L;  h_0 = e,  h_l = act(h_{l-1} W_l + b_l)              W_l, b_l: slices of E^d            (3-6)
//! h_DFFI = MLP([<f_i, f_j> for all i < j; E])                        f: D(e^a) and e^t, E: all fields   (2, 7, 8)
//! E      = reshape([E^t; E^d])                                       d x r, by rows                     (11)
//! Q_i    = E^h W_i^Q E^T,  K_i = E^h W_i^K E^T,  V_i = E^h W_i^V E^T                                    (10, 11)
//! head_i = pool over positions of softmax(Q_i K_i^T / sqrt(d)) V_i                                      (9)
//! p_k    = sigmoid(head_k(MLP_tower_k([h_DFFI; [head_1; ..; head_H] W_out])))                           (12-14)
//! ```
//!
//! `E^d` is made of the features that `domain` names, or is the scenario's own embedding. Certain are the equations; open
//! choices, with their defaults: `activation` is relu, also in `D`; only the fields of `agnostic` go `through_d`, as figure 2
//! has it, or the target too, as the text reads; the slices of `D` begin at the first column of `E^d`, a matrix
//! `[inputs, outputs]` by rows, then its bias; fields of an inner product are equally wide, so `E^d` itself enters raw only.
//! `E` takes all of `E^d`, or the `attention_width` columns that follow those of `D`: `shared` by queries, keys and values, or
//! in `separate` slices. Positions are pooled by their mean. Only the inner product is built, of the paper's backbones.
//!
//! Pooling commutes with `V`: with `a` the pooled rows of the softmax, `head[j] = <a E^h W^V, E_j>` for row `j` of `E`. Rows of
//! `E` that the target does not reach change with the request alone, and so does their part of the logits; the other rows, one
//! or a few, add `q_j k_j^T`. `Form` says what is computed per candidate.

use super::builder::{Block, Builder, MAX_WIDTH, Nonlinearity, check_size, check_sizes, parameters};
use super::graph::Value;
use crate::error::{Error, ErrorKind};
use crate::format::FeatureKind;
use crate::ops::{Activation, Rows};
use serde::Deserialize;
use std::ops::Range;

/// The most layers of `D`, the most heads, and the widest head: a node of the graph belongs to each.
const MAX_LAYERS: usize = 16;
const MAX_HEADS: usize = 64;
const MAX_HEAD: usize = 1024;

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ThroughD {
    #[default]
    Agnostic,
    All,
}

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Slices {
    #[default]
    Shared,
    Separate,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Pooling {
    #[default]
    Mean,
    Sum,
    Last,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Attention {
    /// The cheaper form, by the shapes.
    #[default]
    Auto,
    /// `E^h W` per request, and the part of the logits that does not change with the target.
    Factored,
    /// Whole projections `W E^T` per candidate.
    Plain,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    target: Vec<String>,
    /// `None`: all features of kinds `id` and `ids` that are neither of the target nor of the domain.
    agnostic: Option<Vec<String>>,
    #[serde(default)]
    domain: Vec<String>,
    /// The width of the scenario's embedding, if no feature is the domain.
    domain_width: Option<usize>,
    #[serde(default = "one")]
    layers: usize,
    #[serde(default)]
    through_d: ThroughD,
    #[serde(default)]
    interaction: Vec<usize>,
    history: Vec<String>,
    heads: usize,
    /// `d`, the width of a head.
    head: usize,
    attention_width: Option<usize>,
    #[serde(default)]
    slices: Slices,
    /// The outputs of `W_out`; `None`: the width of all heads.
    output: Option<usize>,
    #[serde(default)]
    pooling: Pooling,
    #[serde(default)]
    attention: Attention,
    tower: Vec<usize>,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

fn one() -> usize {
    1
}

fn fault(path: &str, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Description, path, detail.into())
}

impl Parameters {
    fn check(&self) -> Result<(), Error> {
        check_size("network.layers", self.layers, MAX_LAYERS)?;
        check_sizes("network.interaction", &self.interaction)?;
        check_size("network.heads", self.heads, MAX_HEADS)?;
        check_size("network.head", self.head, MAX_HEAD)?;
        check_sizes("network.tower", &self.tower)?;
        let optional = [
            ("network.domain_width", self.domain_width),
            ("network.attention_width", self.attention_width),
            ("network.output", self.output),
        ];
        for (path, width) in optional {
            width.map_or(Ok(()), |width| check_size(path, width, MAX_WIDTH))?;
        }
        match (self.domain.is_empty(), self.domain_width) {
            (true, None) => Err(fault("network.domain", "names no feature, then `domain_width` must be given")),
            (false, Some(_)) => Err(fault("network.domain_width", "is given beside features that are the domain")),
            _ => Ok(()),
        }
    }
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    p.check()?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };

    let mut x = b.features()?;
    let domain = if p.domain.is_empty() {
        let own = b.scenario("scenario_embedding.weight", &[p.domain_width.unwrap_or_default()])?;
        x = b.concat(&[x, own]);
        own
    } else {
        b.named("network.domain", &p.domain)?
    };
    let target = b.equal_fields("network.target", &p.target)?;

    let (pairs, taken) = interaction(b, &p, domain, &target)?;
    let crossed = b.concat(&[pairs, x]);
    let interaction = b.mlp("interaction", crossed, &p.interaction, block)?;
    let behaviour = behaviour(b, &p, domain, &target, taken)?;
    let joined = b.concat(&[interaction, behaviour]);
    b.per_task(|b, task| {
        let tower = b.mlp(&format!("towers.{task}"), joined, &p.tower, block)?;
        b.head(task, tower)
    })
}

/// The inner products of DFFI, and how many columns of the domain the layers of `D` take.
fn interaction(b: &mut Builder<'_>, p: &Parameters, domain: Value, target: &[Value]) -> Result<(Value, usize), Error> {
    let width = b.width(target[0]);
    let path = "network.agnostic";
    let names = match &p.agnostic {
        Some(names) => names.clone(),
        None => others(b, p),
    };
    let agnostic = b.equal_fields(path, &names)?;
    if b.width(agnostic[0]) != width {
        let detail = format!("`{}` is {} wide, the target's fields {width}", names[0], b.width(agnostic[0]));
        return Err(fault(path, detail));
    }
    let taken = p.layers * (width * width + width);
    if taken > b.width(domain) {
        let detail = format!("take {taken} columns of the domain, which has {}", b.width(domain));
        return Err(fault("network.layers", detail));
    }
    let mut fields = Vec::with_capacity(agnostic.len() + target.len());
    for field in agnostic {
        fields.push(through_domain(b, p, domain, field)?);
    }
    for field in target {
        fields.push(match p.through_d {
            ThroughD::Agnostic => *field,
            ThroughD::All => through_domain(b, p, domain, *field)?,
        });
    }
    Ok((b.pair_dots("pairs", &fields), taken))
}

fn others(b: &Builder<'_>, p: &Parameters) -> Vec<String> {
    let is_field = |kind: &FeatureKind| matches!(kind, FeatureKind::Id { length: 1, .. } | FeatureKind::Ids { .. });
    let features = b.description.features.iter().filter(|feature| is_field(&feature.kind));
    let names = features.map(|feature| &feature.name);
    names.filter(|name| !p.target.contains(name) && !p.domain.contains(name)).cloned().collect()
}

/// `D(field)`
fn through_domain(b: &mut Builder<'_>, p: &Parameters, domain: Value, field: Value) -> Result<Value, Error> {
    let width = b.width(field);
    let mut start = 0;
    (0..p.layers).try_fold(field, |h, l| {
        let name = format!("domain.{l}");
        let weight = b.slice(domain, start, width * width);
        let bias = b.slice(domain, start + width * width, width);
        start += width * width + width;
        let h = b.generated(&name, h, weight, Some(bias), width);
        b.nonlinearity(&name, h, p.activation)
    })
}

/// The shapes of one head of the attention.
#[derive(Clone, Copy)]
struct Shape {
    /// The most positions.
    length: usize,
    /// The width of the history.
    inputs: usize,
    /// `d` rows of `E`, and how many of them change with the candidate.
    rows: usize,
    moving: usize,
    /// `r`
    columns: usize,
}

/// What is computed per candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Form {
    /// The projections `W E^T`, applied to the history; otherwise `E^T` alone, applied to `E^h W` of the request.
    is_projected: bool,
    /// The logits of the moving rows, added to those of the others; otherwise the logits of all rows.
    is_split: bool,
}

impl Shape {
    /// Multiply-adds of one head per candidate.
    ///
    /// Logits: a product of length `moving` or `rows` for each pair of positions. Queries and keys of a moving row: `columns`
    /// for each position, or the two projections and then `inputs` for each position. The head: the pooled `E^h W` or `E^h`,
    /// then a product with each row of `E` or of its projection.
    fn multiply_adds(self, form: Form) -> usize {
        let Shape { length, inputs, rows, moving, columns } = self;
        let logits = length * length * if form.is_split { moving } else { rows };
        if form.is_projected {
            3 * moving * columns * inputs + 2 * length * moving * inputs + logits + (length + rows) * inputs
        } else {
            2 * length * moving * columns + logits + (length + rows) * columns
        }
    }

    /// The form that the description asks for.
    fn form(self, attention: Attention) -> Form {
        let factored = Form { is_projected: false, is_split: self.moving < self.rows };
        let projected = Form { is_projected: true, ..factored };
        match attention {
            Attention::Factored => factored,
            Attention::Plain => Form { is_projected: true, is_split: false },
            Attention::Auto if self.multiply_adds(projected) < self.multiply_adds(factored) => projected,
            Attention::Auto => factored,
        }
    }
}

/// DFUB: the history after attention, pooled. `taken` columns of the domain belong to `D`.
fn behaviour(
    b: &mut Builder<'_>,
    p: &Parameters,
    domain: Value,
    target: &[Value],
    taken: usize,
) -> Result<Value, Error> {
    let h = b.sequence("network.history", &p.history)?;
    let target = b.concat(target);
    let generators = generators(b, p, domain, target, taken)?;
    let whole = b.width(generators[0]);
    if !whole.is_multiple_of(p.head) {
        let detail = format!("is {}, the target and the domain are {whole} wide, which it does not divide", p.head);
        return Err(fault("network.head", detail));
    }
    let columns = whole / p.head;
    let moving = match (b.is_request_constant(domain), b.is_request_constant(target)) {
        (false, _) => p.head,
        (true, false) => b.width(target).div_ceil(columns),
        (true, true) => 0,
    };
    let shape = Shape { length: b.length(h), inputs: b.width(h), rows: p.head, moving, columns };
    let form = shape.form(p.attention);
    let side = |b: &mut Builder<'_>, name: &'static str, generator: Value, scale: f32| {
        Projection::new(b, name, (h, generator), scale, p.heads, shape, form)
    };
    let queries = side(b, "query", generators[0], (p.head as f32).sqrt().recip())?;
    let keys = side(b, "key", generators[1], 1.0)?;
    let values = side(b, "value", generators[2], 1.0)?;

    let rows = match p.pooling {
        Pooling::Mean => Rows::Mean,
        Pooling::Sum => Rows::Sum,
        Pooling::Last => Rows::Last,
    };
    let split = if form.is_split && moving > 0 { moving } else { p.head };
    let mut heads = Vec::with_capacity(p.heads);
    for head in 0..p.heads {
        let name = format!("behaviour.{head}");
        let base = (split < p.head).then(|| {
            let (q, k) = (queries.columns(b, head, split..p.head), keys.columns(b, head, split..p.head));
            let scores = b.scores(&name, q, k);
            b.flat(&name, scores, false)
        });
        let sides = [&queries, &keys].map(|side| side.rows(b, head, 0..split));
        let weights = b.attend(&name, h, sides, base, rows);
        heads.push(values.pooled(b, head, weights));
    }
    let heads = b.concat(&heads);
    b.linear_without_bias("behaviour.out", heads, p.output.unwrap_or(p.heads * p.head))
}

/// `[E^t; E^d]` of queries, keys and values.
fn generators(
    b: &mut Builder<'_>,
    p: &Parameters,
    domain: Value,
    target: Value,
    taken: usize,
) -> Result<[Value; 3], Error> {
    let (slices, width) = match (p.attention_width, p.slices) {
        (None, Slices::Shared) => return Ok([b.concat(&[target, domain]); 3]),
        (None, Slices::Separate) => {
            return Err(fault("network.attention_width", "is missing, `separate` slices have a width"));
        }
        (Some(width), Slices::Shared) => ([taken; 3], width),
        (Some(width), Slices::Separate) => ([taken, taken + width, taken + 2 * width], width),
    };
    if slices[2] + width > b.width(domain) {
        let detail = format!("needs {} columns of the domain, which has {}", slices[2] + width, b.width(domain));
        return Err(fault("network.attention_width", detail));
    }
    Ok(slices.map(|start| {
        let slice = b.slice(domain, start, width);
        b.concat(&[target, slice])
    }))
}

/// `E^h W_i E^T` for all heads `i`, in parts: `left` times the transposed rows `right`.
struct Projection {
    name: String,
    /// Per head, a row per position: `E^h W_i`, or `E^h`.
    left: Vec<Value>,
    /// Per head, the rows of `E`, or of `E W_i^T`.
    right: Vec<Vec<Value>>,
}

impl Projection {
    /// The tensor `behaviour.{name}.weight` is `[heads * r, inputs]`: for each head, `W_i` transposed.
    fn new(
        b: &mut Builder<'_>,
        name: &str,
        (h, generator): (Value, Value),
        scale: f32,
        heads: usize,
        shape: Shape,
        form: Form,
    ) -> Result<Self, Error> {
        let Shape { inputs, rows, columns, .. } = shape;
        let name = format!("behaviour.{name}");
        let e: Vec<Value> = (0..rows).map(|row| b.slice(generator, row * columns, columns)).collect();
        let scaled = |b: &mut Builder<'_>, value: Value| match scale {
            1.0 => value,
            scale => b.activation(value, Activation::Affine { scale, shift: 0.0 }),
        };
        let (mut left, mut right) = (Vec::with_capacity(heads), Vec::with_capacity(heads));
        if form.is_projected {
            let weight = b.weight(&format!("{name}.weight"), &[heads * columns, inputs])?;
            let weight = scaled(b, weight);
            for head in 0..heads {
                let weight = b.slice(weight, head * columns * inputs, columns * inputs);
                left.push(h);
                right.push(e.iter().map(|row| b.generated(&name, *row, weight, None, inputs)).collect());
            }
        } else {
            let all = b.linear_without_bias(&name, h, heads * columns)?;
            let all = scaled(b, all);
            for head in 0..heads {
                left.push(b.slice(all, head * columns, columns));
                right.push(e.clone());
            }
        }
        Ok(Self { name, left, right })
    }

    /// Columns of `E^h W_i E^T`: those of some rows of `E`, a row per position.
    fn columns(&self, b: &mut Builder<'_>, head: usize, rows: Range<usize>) -> Value {
        let pairs = self.right[head][rows].iter().map(|row| (self.left[head], *row)).collect();
        b.dots(&self.name, pairs)
    }

    /// Rows of `E (E^h W_i)^T`, side by side: a column per position.
    fn rows(&self, b: &mut Builder<'_>, head: usize, rows: Range<usize>) -> Value {
        let left = b.flat(&self.name, self.left[head], true);
        let length = b.length(self.left[head]);
        let rows = self.right[head][rows].iter().map(|row| b.generated(&self.name, *row, left, None, length));
        let rows: Vec<Value> = rows.collect();
        b.concat(&rows)
    }

    /// `a E^h W_i E^T` for weights `a` of the positions.
    fn pooled(&self, b: &mut Builder<'_>, head: usize, weights: Value) -> Value {
        let left = b.flat(&self.name, self.left[head], false);
        let width = b.width(self.left[head]);
        let pooled = b.generated(&self.name, weights, left, None, width);
        let pairs = self.right[head].iter().map(|row| (pooled, *row)).collect();
        b.dots(&self.name, pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_cheaper_one() {
        let shape = Shape { length: 50, inputs: 16, rows: 16, moving: 1, columns: 18 };
        let factored = Form { is_projected: false, is_split: true };
        assert_eq!(shape.form(Attention::Auto), factored);
        assert_eq!(shape.multiply_adds(factored), 2 * 50 * 18 + 50 * 50 + 50 * 18 + 16 * 18);
        let wide = Shape { rows: 8, moving: 2, columns: 36, ..shape };
        assert_eq!(wide.form(Attention::Auto), Form { is_projected: true, is_split: true });
        let fixed = Shape { moving: 0, ..shape };
        assert_eq!(fixed.form(Attention::Factored), factored);
        assert_eq!(shape.form(Attention::Plain), Form { is_projected: true, is_split: false });
    }
}
