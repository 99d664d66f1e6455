//! ESCM2 (Wang et al., ESCM2: Entire Space Counterfactual Multi-Task Model for Post-Click Conversion Rate Estimation,
//! SIGIR 2022, arXiv 2204.05125): at inference ESMM, here with MMoE bottoms and two-class heads if asked for; the later
//! steps of the funnel are products, declared as the `composition` of tasks.
//!
//! ```text
//! h_k = x                                                    MMoE's mixture of experts over x, if there are experts
//! p_k = sigmoid(head_k(MLP_tower_k(h_k)))                    `head`: `sigmoid`, one logit
//! p_k = softmax(head_k(MLP_tower_k(h_k)))_1                  `head`: `softmax`, two logits
//! ```
//!
//! The counterfactual risks, inverse propensity and doubly robust, and the imputation tower of the second exist in
//! training only. Experts and two-class heads are those of public code (PaddleRec), which also keeps probabilities 1e-15
//! away from 0 and 1 for its logarithms; that is left out.

use super::builder::{Block, Builder, Nonlinearity, check_optional_experts, check_sizes, parameters};
use super::esmm::check_product;
use super::graph::Value;
use crate::error::Error;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    #[serde(default)]
    experts: usize,
    #[serde(default)]
    expert: Vec<usize>,
    #[serde(default)]
    gate: Vec<usize>,
    tower: Vec<usize>,
    #[serde(default)]
    head: Head,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Head {
    #[default]
    Sigmoid,
    Softmax,
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    check_optional_experts(p.experts, &p.expert, &p.gate)?;
    check_sizes("network.tower", &p.tower)?;
    check_product(b)?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };

    let x = b.features()?;
    let experts = b.experts("experts", p.experts, x, &p.expert, block)?;
    b.per_task(|b, task| {
        let mut h = x;
        if !experts.is_empty() {
            h = b.gated(&format!("gates.{task}"), x, &p.gate, &experts, block)?;
        }
        let tower = b.mlp(&format!("towers.{task}"), h, &p.tower, block)?;
        match p.head {
            Head::Sigmoid => b.head(task, tower),
            Head::Softmax => {
                let logits = b.linear(&format!("heads.{task}"), tower, 2)?;
                let classes = b.softmax(logits);
                Ok(b.slice(classes, 1, 1))
            }
        }
    })
}
