//! MMoE (Ma et al., Modeling Task Relationships in Multi-task Learning with Multi-gate Mixture-of-Experts, KDD 2018,
//! eq. 6-8): experts shared by all tasks, mixed by a gate per task.
//!
//! ```text
//! E_e = MLP_expert_e(x)                                e = 1..E
//! g_k = softmax(W_k MLP_gate_k(x) + b_k)               in R^E
//! h_k = sum_e g_k,e E_e
//! p_k = sigmoid(head_k(MLP_tower_k(h_k)))
//! ```

use super::builder::{Block, Builder, MAX_COUNT, Nonlinearity, check_expert, check_size, check_sizes, parameters};
use super::graph::Value;
use crate::error::Error;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    experts: usize,
    expert: Vec<usize>,
    #[serde(default)]
    gate: Vec<usize>,
    tower: Vec<usize>,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    check_size("network.experts", p.experts, MAX_COUNT)?;
    check_expert(&p.expert)?;
    check_sizes("network.gate", &p.gate)?;
    check_sizes("network.tower", &p.tower)?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };

    let x = b.features()?;
    let experts = b.experts("experts", p.experts, x, &p.expert, block)?;
    b.per_task(|b, task| {
        let mixed = b.gated(&format!("gates.{task}"), x, &p.gate, &experts, block)?;
        let tower = b.mlp(&format!("towers.{task}"), mixed, &p.tower, block)?;
        b.head(task, tower)
    })
}
