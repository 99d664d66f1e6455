//! HMoE (Li et al., Improving Multi-Scenario Learning to Rank in E-commerce by Exploiting Task Relationships in the
//! Label Space, CIKM 2020): the outputs of all scenarios' towers, mixed by weights of the scenario asked.
//!
//! ```text
//! E_e   = MLP_expert_e(x)                                    e = 1..E, shared
//! g_j   = softmax(W_j MLP_gate_j(x) + b_j)                   j = 1..S, a gate for each scenario
//! t_j   = MLP_tower_j(sum_e g_j,e E_e)
//! o_k,j = head_k,j(t_j)                                      a logit for each task k
//! p_k   = sigmoid(sum_j softmax(W_i x + b_i)_j o_k,j)        i: the scenario of the request
//! ```
//!
//! The equations are reconstructed from public code and descriptions. The mixing weights are linear in `x` and the same
//! for all tasks; the stop-gradient on the outputs of other scenarios matters in training only.

use super::builder::{Block, Builder, MAX_COUNT, Nonlinearity, check_expert, check_size, check_sizes, parameters};
use super::graph::Value;
use crate::error::Error;
use crate::ops::Activation;
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
    let scenarios = b.scenarios()?;
    let mut towers = Vec::with_capacity(scenarios);
    for j in 0..scenarios {
        let mixed = b.gated(&format!("gates.{j}"), x, &p.gate, &experts, block)?;
        towers.push(b.mlp(&format!("towers.{j}"), mixed, &p.tower, block)?);
    }

    let weights = b.scenario_linear("weights", x, scenarios)?;
    let weights = b.softmax(weights);
    b.per_task(|b, task| {
        let mut outputs = Vec::with_capacity(scenarios);
        for (j, tower) in towers.iter().enumerate() {
            outputs.push(b.linear(&format!("heads.{task}.{j}"), *tower, 1)?);
        }
        let outputs = b.concat(&outputs);
        let logit = b.dot(&format!("heads.{task}"), outputs, weights, 1);
        Ok(b.activation(logit, Activation::Sigmoid))
    })
}
