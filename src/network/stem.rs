//! STEM (Su et al., STEM: Unleashing the Power of Embeddings for Multi-task Recommendation, AAAI 2024, arXiv
//! 2308.13537): embeddings of each task beside shared ones, and gates over the experts of all tasks.
//!
//! ```text
//! h_k   = the features with the embeddings of task k              k = 1..K, and s: the shared ones
//! S_j   = MLP_expert_j(h_s)                                       j = 1..shared_experts
//! T_k,j = MLP_task_k,j(h_k)                                       j = 1..task_experts, for each task k
//! h_k'  = sum_e g_k,e [S; T_1; ...; T_K]_e                        g_k = softmax(W_k MLP_gate_k(h_k + h_s) + b_k)
//! h_s'  = sum_e g_s,e [S; T_1; ...; T_K]_e                        g_s = softmax(W_s MLP_gate_s(h_s) + b_s)
//! p_k   = sigmoid(head_k(MLP_tower_k(h_k)))                       behind the last level, which has no h_s'
//! ```
//!
//! The description is that of any other network. Its tables hold the K + 1 embeddings of an id side by side, as in the
//! authors' code: a row is `[task 1; ...; task K; shared]`, in equal parts, the tasks being those that the network
//! predicts itself, in listed order. So one look-up serves all tasks, and a bag is pooled once. Dense features and
//! blocks have no parts: they are in every `h`, and twice in the sum that a gate reads.
//!
//! One level is the paper's; several, of the same counts and sizes, are in the authors' code. The stop-gradient on the
//! experts of other tasks matters in training only.

use super::builder::{Block, Builder, MAX_COUNT, Nonlinearity, check_experts, check_size, check_sizes, parameters};
use super::graph::Value;
use crate::error::{Error, ErrorKind};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    #[serde(default = "one")]
    levels: usize,
    #[serde(default = "one")]
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
    check_experts(&[("shared_experts", p.shared_experts), ("task_experts", p.task_experts)], &p.expert)?;
    check_sizes("network.gate", &p.gate)?;
    check_sizes("network.tower", &p.tower)?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };

    let tasks = b.tasks();
    let parts = tasks.len() + 1;
    let x = b.features()?;
    let mut h = (0..tasks.len()).map(|k| part(b, x, k, parts)).collect::<Result<Vec<_>, _>>()?;
    let mut h_shared = part(b, x, tasks.len(), parts)?;
    for level in 0..p.levels {
        let prefix = format!("levels.{level}");
        let mut experts = b.experts(&format!("{prefix}.experts"), p.shared_experts, h_shared, &p.expert, block)?;
        for (task, h) in tasks.iter().zip(&h) {
            let own = format!("{prefix}.task_experts.{task}");
            experts.extend(b.experts(&own, p.task_experts, *h, &p.expert, block)?);
        }
        for (task, h) in tasks.iter().zip(&mut h) {
            let gate = format!("{prefix}.gates.{task}");
            let both = b.add(&gate, *h, h_shared);
            *h = b.gated(&gate, both, &p.gate, &experts, block)?;
        }
        if level + 1 < p.levels {
            h_shared = b.gated(&format!("{prefix}.shared_gate"), h_shared, &p.gate, &experts, block)?;
        }
    }
    b.towers(&h, &p.tower, block)
}

/// `x` with part `k` alone, of `parts` equal ones, of every table row.
fn part(b: &mut Builder<'_>, x: Value, k: usize, parts: usize) -> Result<Value, Error> {
    let description = b.description;
    let mut start = 0;
    let mut pieces = Vec::new();
    for (slot, feature) in description.features.iter().enumerate() {
        if b.is_sequence(slot) {
            continue;
        }
        let value = b.feature(slot);
        let width = b.width(value);
        start += width;
        let Some(lookup) = feature.lookup() else {
            pieces.push(value);
            continue;
        };
        if !width.is_multiple_of(parts) {
            let detail = format!("has rows of {width}, which are not {parts} equal parts: one per task, one shared");
            return Err(Error::new(ErrorKind::Tensor, &lookup.table, detail));
        }
        pieces.push(b.slice(value, k * (width / parts), width / parts));
    }
    let blocks = b.width(x) - start;
    if blocks > 0 {
        pieces.push(b.slice(x, start, blocks));
    }
    Ok(b.concat(&pieces))
}
