//! APG (Yan et al., APG: Adaptive Parameter Generation Network for Click-Through Rate Prediction, NeurIPS 2022, arXiv
//! 2203.16218): layers of low rank whose core is generated from a condition.
//!
//! ```text
//! z       = h_l                `self`: the input of the layer
//!         = e_scenario         `group`
//!         = [e_scenario; h_l]  `mix`
//! S(z)    = reshape(W MLP_generator(z) + b)                      rank x rank
//! h_{l+1} = act(norm(((h_l U) S(z)) V + b_l))                    b_l stored, or W' MLP_generator(z) + b'
//! p_k     = sigmoid(head_k(h_L))
//! ```
//!
//! `U = U_l U_r` and `V = V_l V_r` of the over-parametrised paper are multiplied out by the exporter. Open choices: a
//! generated bias comes from the same hidden layers as the core, and the heads are ordinary layers.

use super::builder::{Block, Builder, MAX_COUNT, MAX_WIDTH, Nonlinearity, check_size, check_sizes, parameters};
use super::graph::Value;
use crate::error::{Error, ErrorKind};
use serde::Deserialize;

#[derive(Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Condition {
    #[default]
    #[serde(rename = "self")]
    Input,
    Group,
    Mix,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    hidden: Vec<usize>,
    rank: usize,
    #[serde(default)]
    condition: Condition,
    domain: Option<usize>,
    #[serde(default)]
    generator: Vec<usize>,
    #[serde(default)]
    generated_bias: bool,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    check_sizes("network.hidden", &p.hidden)?;
    check_size("network.rank", p.rank, MAX_COUNT)?;
    check_sizes("network.generator", &p.generator)?;
    if p.hidden.is_empty() {
        return Err(Error::new(ErrorKind::Description, "network.hidden", "is empty, no layer would be generated"));
    }
    let scenario = match (p.condition, p.domain) {
        (Condition::Input, None) => None,
        (Condition::Input, Some(_)) => {
            let detail = "is the width of a scenario embedding, which condition `self` does not read";
            return Err(Error::new(ErrorKind::Description, "network.domain", detail));
        }
        (_, None) => {
            let detail = "is missing, conditions `group` and `mix` read a scenario embedding";
            return Err(Error::new(ErrorKind::Description, "network.domain", detail));
        }
        (_, Some(width)) => {
            check_size("network.domain", width, MAX_WIDTH)?;
            Some(b.scenario("scenario_embedding.weight", &[width])?)
        }
    };

    let mut h = b.features()?;
    for (l, width) in p.hidden.iter().enumerate() {
        let condition = match (p.condition, scenario) {
            (Condition::Group, Some(scenario)) => scenario,
            (_, Some(scenario)) => b.concat(&[scenario, h]),
            (_, None) => h,
        };
        h = layer(b, &format!("layers.{l}"), h, condition, *width, &p)?;
    }
    b.per_task(|b, task| b.head(task, h))
}

fn layer(
    b: &mut Builder<'_>,
    prefix: &str,
    h: Value,
    condition: Value,
    outputs: usize,
    p: &Parameters,
) -> Result<Value, Error> {
    let (inputs, rank) = (b.width(h), p.rank);
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };
    let hidden = b.mlp(&format!("{prefix}.generator"), condition, &p.generator, block)?;
    let core = b.linear(&format!("{prefix}.core"), hidden, rank * rank)?;
    let bias = match p.generated_bias {
        true => b.linear(&format!("{prefix}.shift"), hidden, outputs)?,
        false => b.weight(&format!("{prefix}.bias"), &[outputs])?,
    };
    let u = b.weight(&format!("{prefix}.u"), &[inputs, rank])?;
    let v = b.weight(&format!("{prefix}.v"), &[rank, outputs])?;

    // A core of the scenario makes `U S V` one matrix of the scenario: worth it where that is the cheaper product.
    let is_cheaper_dense = inputs * outputs <= inputs * rank + rank * rank + rank * outputs;
    let mut y = if p.condition == Condition::Group && is_cheaper_dense {
        let left = b.mat_mul(prefix, u, core, inputs);
        let dense = b.mat_mul(prefix, left, v, inputs);
        b.generated(prefix, h, dense, Some(bias), outputs)
    } else {
        let low = b.generated(prefix, h, u, None, rank);
        let low = b.generated(prefix, low, core, None, rank);
        b.generated(prefix, low, v, Some(bias), outputs)
    };
    if p.batch_norm {
        y = b.batch_norm(&format!("{prefix}.norm"), y)?;
    }
    b.nonlinearity(prefix, y, p.activation)
}
