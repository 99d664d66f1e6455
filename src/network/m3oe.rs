//! M3oE (Zhang et al., M3oE: Multi-Domain Multi-Task Mixture-of-Experts Recommendation Framework, SIGIR 2024, arXiv
//! 2404.18465): experts shared, of the scenarios and of the tasks, balanced by learned scalars.
//!
//! ```text
//! block(h)    = act(LayerNorm(W h + b))                                 blocks of all MLPs below
//! h           = block(x (W * W_d) + b + b_d) + skip_block(x)            d: the scenario of the request
//! S_d,k       = sum_j softmax(W_d,k h + b_d,k)_j MLP_expert_j(h)
//! D_d         = beta_d F_d(h) + (1 - beta_d) / (D - 1) sum_{i != d} F_i(h)      F_i = MLP_scenario_i
//! T_k         = beta_k G_k(h) + (1 - beta_k) / (K - 1) sum_{i != k} G_i(h)      G_i = MLP_task_i
//! p_k         = sigmoid(head_d,k(MLP_tower_d,k(S_d,k + alpha_d D_d + alpha_k T_k)))
//! ```
//!
//! `alpha` and `beta` are sigmoids of scalars; with one scenario or one task there is no `beta`, its only expert counts
//! whole. `alpha_d` belongs to the scenario experts, as in the authors' code; the paper's eq. 7 prints it next to `T`.
//! The skip is a block like the others. In the towers, scale and shift of the scenario follow a LayerNorm of the task.
//! The stop-gradient before the gates matters in training only.

use super::builder::{Builder, MAX_COUNT, MAX_WIDTH, Nonlinearity, check_expert, check_size, check_sizes, parameters};
use super::graph::Value;
use super::star::star_layer;
use crate::error::Error;
use crate::ops::Activation;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    star: usize,
    experts: usize,
    expert: Vec<usize>,
    tower: Vec<usize>,
    #[serde(default)]
    activation: Nonlinearity,
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    check_size("network.star", p.star, MAX_WIDTH)?;
    check_size("network.experts", p.experts, MAX_COUNT)?;
    check_expert(&p.expert)?;
    check_sizes("network.tower", &p.tower)?;

    let x = b.features()?;
    let star = star_layer(b, "star", x, None, p.star)?;
    let star = block(b, "star_block", star, p.star, p.activation)?;
    let skip = block(b, "skip", x, p.star, p.activation)?;
    let h = b.add("star", star, skip);

    let shared = (0..p.experts).map(|e| expert(b, &format!("experts.{e}"), h, &p)).collect::<Result<Vec<_>, _>>()?;
    let by_scenario = of_scenario(b, h, &p)?;

    let tasks = b.description.tasks.iter().filter(|task| task.composition.is_none());
    let names: Vec<&str> = tasks.map(|task| task.name.as_str()).collect();
    let task_experts = names.iter().map(|name| expert(b, &format!("task_experts.{name}"), h, &p));
    let task_experts = task_experts.collect::<Result<Vec<_>, _>>()?;

    b.per_task(|b, task| {
        let logits = b.scenario_linear(&format!("gates.{task}"), h, p.experts)?;
        let gate = b.softmax(logits);
        let shared = b.mixture(&format!("mixture.{task}"), gate, &shared);
        let by_task = of_task(b, task, &names, &task_experts)?;
        let mut mixed = b.sum(&format!("mixture.{task}"), &[shared, by_scenario, by_task]);
        for (i, width) in p.tower.iter().enumerate() {
            mixed = tower_block(b, &format!("towers.{task}.{i}"), mixed, *width, p.activation)?;
        }
        let logit = b.scenario_linear(&format!("heads.{task}"), mixed, 1)?;
        Ok(b.activation(logit, Activation::Sigmoid))
    })
}

/// `alpha_d D_d`
fn of_scenario(b: &mut Builder<'_>, h: Value, p: &Parameters) -> Result<Value, Error> {
    let scenarios = b.scenarios()?;
    let experts = (0..scenarios).map(|row| expert(b, &format!("scenario_experts.{row}"), h, p));
    let experts = experts.collect::<Result<Vec<_>, _>>()?;
    let own = b.scenario_one_hot()?;
    let gate = match scenarios {
        1 => own,
        _ => {
            let beta = b.scenario("scenario_beta", &[1])?;
            let (beta, rest) = balance(b, beta, scenarios);
            let others = b.activation(own, Activation::Affine { scale: -1.0, shift: 1.0 });
            let own = b.multiply("scenario_beta", own, beta);
            let others = b.multiply("scenario_beta", others, rest);
            b.add("scenario_beta", own, others)
        }
    };
    let mixed = b.mixture("scenario_experts", gate, &experts);
    let alpha = b.scenario("scenario_alpha", &[1])?;
    let alpha = b.activation(alpha, Activation::Sigmoid);
    Ok(b.multiply("scenario_alpha", mixed, alpha))
}

/// `alpha_k T_k`; `experts` are those of the tasks `names`.
fn of_task(b: &mut Builder<'_>, task: &str, names: &[&str], experts: &[Value]) -> Result<Value, Error> {
    let mixed = match experts {
        [only] => *only,
        _ => {
            let beta = b.weight(&format!("task_beta.{task}"), &[1])?;
            let (beta, rest) = balance(b, beta, experts.len());
            let gate: Vec<Value> = names.iter().map(|name| if *name == task { beta } else { rest }).collect();
            let gate = b.concat(&gate);
            b.mixture(&format!("task_experts.{task}"), gate, experts)
        }
    };
    let alpha = b.weight(&format!("task_alpha.{task}"), &[1])?;
    let alpha = b.activation(alpha, Activation::Sigmoid);
    Ok(b.multiply(&format!("task_alpha.{task}"), mixed, alpha))
}

/// The weight of the own expert, and that of each of the others, of `count` experts.
fn balance(b: &mut Builder<'_>, beta: Value, count: usize) -> (Value, Value) {
    let beta = b.activation(beta, Activation::Sigmoid);
    let part = 1.0 / (count - 1) as f32;
    (beta, b.activation(beta, Activation::Affine { scale: -part, shift: part }))
}

fn expert(b: &mut Builder<'_>, prefix: &str, h: Value, p: &Parameters) -> Result<Value, Error> {
    let mut layers = p.expert.iter().enumerate();
    layers.try_fold(h, |h, (i, width)| block(b, &format!("{prefix}.{i}"), h, *width, p.activation))
}

fn block(b: &mut Builder<'_>, prefix: &str, h: Value, width: usize, act: Nonlinearity) -> Result<Value, Error> {
    let linear = b.linear(&format!("{prefix}.linear"), h, width)?;
    let normed = b.layer_norm(&format!("{prefix}.norm"), linear)?;
    b.nonlinearity(prefix, normed, act)
}

fn tower_block(b: &mut Builder<'_>, prefix: &str, h: Value, width: usize, act: Nonlinearity) -> Result<Value, Error> {
    let linear = b.scenario_linear(&format!("{prefix}.linear"), h, width)?;
    let normed = b.layer_norm(&format!("{prefix}.norm"), linear)?;
    let scale = b.scenario(&format!("{prefix}.scale"), &[width])?;
    let shift = b.scenario(&format!("{prefix}.shift"), &[width])?;
    let scaled = b.multiply(prefix, normed, scale);
    let shifted = b.add(prefix, scaled, shift);
    b.nonlinearity(prefix, shifted, act)
}
