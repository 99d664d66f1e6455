//! AdaTT (Li et al., AdaTT: Adaptive Task-to-Task Fusion Network for Multitask Learning in Recommendations, KDD 2023,
//! arXiv 2304.04959): at each level a task fuses the experts of all tasks, and its own once more.
//!
//! ```text
//! h_t = h_s = x                                              at the first of L levels
//! S_j   = MLP_expert_j(h_s)                                  j = 1..shared_experts
//! T_t,j = MLP_task_t,j(h_t)                                  j = 1..task_experts, for each task t
//! h_t'  = sum_e g_t,e [S; T_1; ...]_e + sum_j w_t,j T_t,j    g_t = softmax(W_t MLP_gate_t(h_t) + b_t)
//! h_s'  = sum_e g_s,e [S; T_1; ...]_e + sum_j w_s,j S_j      g_s = softmax(W_s MLP_gate_s(h_s) + b_s)
//! p_t   = sigmoid(head_t(MLP_tower_t(h_t)))                  behind the last level, which has no h_s'
//! ```
//!
//! Without shared experts (the default) this is AdaTT-sp, with them the general AdaTT. `w` is learned; it is 1, and has
//! no tensors, where no sum over `j` has more than one term. The authors' code adds `w` to the gate in the general
//! version, which gives the same sums; its gates have no hidden layers. All levels have the same counts and sizes.

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
    #[serde(default)]
    shared_experts: usize,
    #[serde(default = "one")]
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
    check_size("network.task_experts", p.task_experts, MAX_COUNT)?;
    check_experts(&[("shared_experts", p.shared_experts), ("task_experts", p.task_experts)], &p.expert)?;
    check_sizes("network.gate", &p.gate)?;
    check_sizes("network.tower", &p.tower)?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };

    let tasks = b.tasks();
    let x = b.features()?;
    let mut h_shared = x;
    let mut h = vec![x; tasks.len()];
    for level in 0..p.levels {
        let prefix = format!("levels.{level}");
        let shared = b.experts(&format!("{prefix}.experts"), p.shared_experts, h_shared, &p.expert, block)?;
        let mut all = shared.clone();
        let mut of_tasks = Vec::with_capacity(tasks.len());
        for (task, h) in tasks.iter().zip(&h) {
            let own = format!("{prefix}.task_experts.{task}");
            let own = b.experts(&own, p.task_experts, *h, &p.expert, block)?;
            all.extend(&own);
            of_tasks.push(own);
        }
        for ((task, h), own) in tasks.iter().zip(&mut h).zip(&of_tasks) {
            let fused = b.gated(&format!("{prefix}.gates.{task}"), *h, &p.gate, &all, block)?;
            *h = add_own(b, &format!("{prefix}.weights.{task}"), fused, own, &p)?;
        }
        if level + 1 < p.levels && p.shared_experts > 0 {
            let fused = b.gated(&format!("{prefix}.shared_gate"), h_shared, &p.gate, &all, block)?;
            h_shared = add_own(b, &format!("{prefix}.shared_weights"), fused, &shared, &p)?;
        }
    }
    b.towers(&h, &p.tower, block)
}

/// `fused + sum_j w[j] own[j]`
fn add_own(b: &mut Builder<'_>, name: &str, fused: Value, own: &[Value], p: &Parameters) -> Result<Value, Error> {
    let own = match own {
        [single] if p.task_experts == 1 && p.shared_experts <= 1 => *single,
        _ => {
            let weights = b.weight(name, &[own.len()])?;
            b.mixture(name, weights, own)
        }
    };
    Ok(b.add(name, fused, own))
}
