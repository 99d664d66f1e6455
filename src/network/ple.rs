//! PLE (Tang et al., Progressive Layered Extraction (PLE): A Novel Multi-Task Learning (MTL) Model for Personalized
//! Recommendations, RecSys 2020, doi 10.1145/3383313.3412236): levels of shared experts and experts of each task, each
//! mixed by gates of its own. One level is CGC.
//!
//! ```text
//! h_k = h_s = x                                              at the first of L levels
//! S_j   = MLP_expert_j(h_s)                                  j = 1..shared_experts
//! T_k,j = MLP_task_k,j(h_k)                                  j = 1..task_experts, for each task k
//! h_k'  = sum_e g_k,e [S; T_k]_e                             g_k = softmax(W_k MLP_gate_k(h_k) + b_k)
//! h_s'  = sum_e g_s,e [S; T_1; ...; T_K]_e                   g_s = softmax(W_s MLP_gate_s(h_s) + b_s)
//! p_k   = sigmoid(head_k(MLP_tower_k(h_k)))                  behind the last level, which has no h_s'
//! ```
//!
//! All levels have the same counts and sizes. Either count may be 0; without shared experts there is no `h_s`. The gates of
//! the paper have no hidden layers.

use super::builder::{Block, Builder, MAX_COUNT, Nonlinearity, check_experts, check_size, check_sizes, parameters};
use super::graph::Value;
use crate::error::Error;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    #[serde(default = "one")]
    levels: usize,
    shared_experts: usize,
    task_experts: usize,
    expert: Vec<usize>,
    #[serde(default)]
    gate: Vec<usize>,
    tower: Vec<usize>,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

fn one() -> usize {
    1
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    check_size("network.levels", p.levels, MAX_COUNT)?;
    check_experts(&[("shared_experts", p.shared_experts), ("task_experts", p.task_experts)], &p.expert)?;
    check_sizes("network.gate", &p.gate)?;
    check_sizes("network.tower", &p.tower)?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };

    let x = b.features()?;
    let tasks = b.tasks();
    let (mut h, mut h_shared) = (vec![x; tasks.len()], x);
    for level in 0..p.levels {
        let prefix = format!("levels.{level}");
        let shared = b.experts(&format!("{prefix}.experts"), p.shared_experts, h_shared, &p.expert, block)?;
        let mut all = shared.clone();
        for (task, h) in tasks.iter().zip(&mut h) {
            let own = format!("{prefix}.task_experts.{task}");
            let own = b.experts(&own, p.task_experts, *h, &p.expert, block)?;
            all.extend(&own);
            let experts = [&shared[..], &own].concat();
            *h = b.gated(&format!("{prefix}.gates.{task}"), *h, &p.gate, &experts, block)?;
        }
        if level + 1 < p.levels && p.shared_experts > 0 {
            h_shared = b.gated(&format!("{prefix}.shared_gate"), h_shared, &p.gate, &all, block)?;
        }
    }
    b.towers(&h, &p.tower, block)
}
