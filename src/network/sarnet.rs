//! SAR-Net (Shen et al., SAR-Net: A Scenario-Aware Ranking Network for Personalized Fair Recommendation in Hundreds of
//! Travel Scenarios, CIKM 2021, arXiv 2110.06475): features scaled and shifted by scenario, experts shared and of the
//! scenario, mixed by one gate.
//!
//! ```text
//! u   = w_d * x + b_d                                        d: the scenario of the request
//! S_j = W_j BatchNorm_j(u) + b_j                             j = 1..shared
//! O_j = W_d,j BatchNorm_d,j(u) + b_d,j                       j = 1..own, those of the scenario alone
//! h   = MLP_tower(sum_e softmax(W_g u + b_g)_e [S; O]_e)
//! p_k = sigmoid(head_k(h))
//! ```
//!
//! Reconstructed from public code: experts are linear behind their norm, and the gate is shared by the scenarios. The
//! two attentions over the behaviour sequence are not part; blocks that read sequences go before the network. The
//! fairness weights of samples exist in training only.

use super::builder::{Block, Builder, MAX_COUNT, MAX_WIDTH, Nonlinearity, check_size, check_sizes, parameters};
use super::graph::Value;
use super::star::normed_layer;
use crate::error::Error;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    #[serde(default = "shared")]
    shared: usize,
    #[serde(default = "own")]
    own: usize,
    #[serde(default = "width")]
    width: usize,
    #[serde(default = "tower")]
    tower: Vec<usize>,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

fn shared() -> usize {
    8
}

fn own() -> usize {
    2
}

fn width() -> usize {
    16
}

fn tower() -> Vec<usize> {
    vec![32, 32]
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    check_size("network.shared", p.shared, MAX_COUNT)?;
    check_size("network.own", p.own, MAX_COUNT)?;
    check_size("network.width", p.width, MAX_WIDTH)?;
    check_sizes("network.tower", &p.tower)?;

    let x = b.features()?;
    let inputs = b.width(x);
    let scale = b.scenario("transform.weight", &[inputs])?;
    let shift = b.scenario("transform.bias", &[inputs])?;
    let u = b.multiply("transform", x, scale);
    let u = b.add("transform", u, shift);

    let mut experts = Vec::with_capacity(p.shared + p.own);
    for j in 0..p.shared {
        let normed = b.batch_norm(&format!("experts.{j}.norm"), u)?;
        experts.push(b.linear(&format!("experts.{j}.linear"), normed, p.width)?);
    }
    for j in 0..p.own {
        let prefix = format!("own.{j}");
        let norm = b.scenario_norm(&format!("{prefix}.norm"), inputs)?;
        let weight = b.scenario(&format!("{prefix}.linear.weight"), &[inputs, p.width])?;
        let bias = b.scenario(&format!("{prefix}.linear.bias"), &[p.width])?;
        experts.push(normed_layer(b, &prefix, u, norm, (weight, bias), p.width));
    }

    let logits = b.linear("gate", u, p.shared + p.own)?;
    let gate = b.softmax(logits);
    let mixed = b.mixture("mixture", gate, &experts);
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };
    let tower = b.mlp("tower", mixed, &p.tower, block)?;
    b.per_task(|b, task| b.head(task, tower))
}
