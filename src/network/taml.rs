//! TAML (Task Adaptive Multi-learner Network for Joint CTR and CVR Estimation, WWW 2023 Companion, doi
//! 10.1145/3543873.3584653): experts shared, of a task and of a learner, and several learners for each task, whose
//! predictions are fused.
//!
//! ```text
//! S_j       = MLP_expert_j(x)                                    j = 1..shared_experts
//! T_k,j     = MLP_task_k,j(x)                                    j = 1..task_experts, for each task k
//! U_k,m,j   = MLP_learner_k,m,j(x)                               j = 1..learner_experts, for each learner m = 1..M
//! g_k,m     = softmax(W_k,m MLP_gate_k,m(x) + b_k,m)             over [S; T_k; U_k,m]
//! h_k,m     = sum_e g_k,m,e [S; T_k; U_k,m]_e
//! p_k,m     = sigmoid(head_k,m(MLP_tower_k,m(h_k,m)))
//! p_k       = sum_m a_k,m p_k,m                                  a = 1 / M, or softmax(W_k x + b_k)
//! ```
//!
//! Only the abstract and a talk were available. The three kinds of experts, and learners whose fused score is served, are
//! theirs; the equations are reconstructed. What they leave open are fields: the counts, any of which may be 0, hidden
//! layers of the gates, `fusion` by the `mean` (default) or by a `gated` sum, and `fuse`, which says whether each `p_k,m`
//! is a `probability` (default) or a `logit`, with the sigmoid behind the sum. The self-distillation from the fused score
//! exists in training only.
//!
//! With one learner and no learner experts this is CGC, the `ple` of one level; without task experts as well, it is MMoE.

use super::builder::{Block, Builder, MAX_COUNT, Nonlinearity, check_experts, check_size, check_sizes, parameters};
use super::graph::Value;
use crate::error::Error;
use crate::ops::Activation;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    #[serde(default = "three")]
    learners: usize,
    #[serde(default = "two")]
    shared_experts: usize,
    #[serde(default = "one")]
    task_experts: usize,
    #[serde(default = "one")]
    learner_experts: usize,
    expert: Vec<usize>,
    #[serde(default)]
    gate: Vec<usize>,
    tower: Vec<usize>,
    #[serde(default)]
    fusion: Fusion,
    #[serde(default)]
    fuse: Fuse,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

fn three() -> usize {
    3
}

fn two() -> usize {
    2
}

fn one() -> usize {
    1
}

/// How much each learner counts.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fusion {
    #[default]
    Mean,
    Gated,
}

/// What of the learners is fused.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Fuse {
    #[default]
    Probability,
    Logit,
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    check_size("network.learners", p.learners, MAX_COUNT)?;
    let counts = [
        ("shared_experts", p.shared_experts),
        ("task_experts", p.task_experts),
        ("learner_experts", p.learner_experts),
    ];
    check_experts(&counts, &p.expert)?;
    check_sizes("network.gate", &p.gate)?;
    check_sizes("network.tower", &p.tower)?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };

    let x = b.features()?;
    let shared = b.experts("experts", p.shared_experts, x, &p.expert, block)?;
    b.per_task(|b, task| {
        let of_task = b.experts(&format!("task_experts.{task}"), p.task_experts, x, &p.expert, block)?;
        let mut predictions = Vec::with_capacity(p.learners);
        for m in 0..p.learners {
            let prefix = format!("learner_experts.{task}.{m}");
            let of_learner = b.experts(&prefix, p.learner_experts, x, &p.expert, block)?;
            let experts = [&shared[..], &of_task, &of_learner].concat();
            let mixed = b.gated(&format!("gates.{task}.{m}"), x, &p.gate, &experts, block)?;
            let tower = b.mlp(&format!("towers.{task}.{m}"), mixed, &p.tower, block)?;
            let logit = b.linear(&format!("heads.{task}.{m}"), tower, 1)?;
            predictions.push(match p.fuse {
                Fuse::Probability => b.activation(logit, Activation::Sigmoid),
                Fuse::Logit => logit,
            });
        }
        let fused = fuse(b, &format!("fusion.{task}"), x, p.fusion, &predictions)?;
        Ok(match p.fuse {
            Fuse::Probability => fused,
            Fuse::Logit => b.activation(fused, Activation::Sigmoid),
        })
    })
}

fn fuse(b: &mut Builder<'_>, prefix: &str, x: Value, how: Fusion, predictions: &[Value]) -> Result<Value, Error> {
    match how {
        Fusion::Mean => Ok(b.mean(prefix, predictions)),
        Fusion::Gated => {
            let logits = b.linear(prefix, x, predictions.len())?;
            let weights = b.softmax(logits);
            Ok(b.mixture(prefix, weights, predictions))
        }
    }
}
