//! HoME (Wang et al., HoME: Hierarchy of Multi-Gate Experts for Multi-Task Learning at Kuaishou, arXiv 2408.05430, eq.
//! 4-11): experts of groups of tasks, then experts of tasks; each set of experts weighs its input for itself.
//!
//! ```text
//! block(u)     = swish(BatchNorm(W u + b))                                 blocks of all MLPs below
//! E_e(u)       = MLP_e(u * F(u))                                           F is one for all experts of a set
//! F(u)         = sum_l softmax(gate_F(u))_l 2 sigmoid(A_l B_l u)           l = 1..loras, rank width / loras
//! mix(u; E..)  = sum_e softmax(gate(u))_e E_e
//! self(u; E..) = the same by another gate; sigmoid(gate(u)) E if there is a single expert
//! z_g = mix(x; E_s(x), E_g(x)) + self(x; E_g(x))                           for each group g of tasks
//! z_s = mix(x; E_s(x), E_g(x) of all groups) + self(x; E_s(x))             s: shared
//! h_k = mix([z_g; z_s]; E'_s(z_s), E'_g(z_g), E_k(z_g))                    g: the group of task k
//! p_k = sigmoid(head_k(MLP_tower_k(h_k)))
//! ```
//!
//! `groups` names the tasks of each group; every task that the network predicts itself is in one. Experts stand in the
//! order above, groups in the order of their names.
//!
//! The paper was read through a translation of its text, without its figures, and these are choices: all sets have
//! `experts` experts, and all layers are such blocks, also those of gates and towers; `activation` and `batch_norm`
//! change them. A rank is rounded down where the paper asks for a divisor of the width. Without `loras` (`task_loras`
//! at the second level), 0, there is no F. The paper writes self-gates of the first level alone; with
//! `task_self_gates`, `self([z_g; z_s]; E_k(z_g))` is added to `h_k`.

use super::builder::{Block, Builder, MAX_COUNT, Nonlinearity, check_experts, check_size, check_sizes, parameters};
use super::graph::Value;
use crate::error::{Error, ErrorKind};
use crate::ops::Activation;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    groups: BTreeMap<String, Vec<String>>,
    experts: usize,
    meta: Vec<usize>,
    expert: Vec<usize>,
    #[serde(default)]
    gate: Vec<usize>,
    #[serde(default = "two")]
    loras: usize,
    #[serde(default = "two")]
    task_loras: usize,
    #[serde(default)]
    task_self_gates: bool,
    tower: Vec<usize>,
    #[serde(default = "swish")]
    activation: Nonlinearity,
    #[serde(default = "yes")]
    batch_norm: bool,
}

fn two() -> usize {
    2
}

fn swish() -> Nonlinearity {
    Nonlinearity::Silu
}

fn yes() -> bool {
    true
}

impl Parameters {
    fn check(&self, tasks: &[&str]) -> Result<(), Error> {
        check_size("network.experts", self.experts, MAX_COUNT)?;
        check_experts(&[("experts", self.experts)], &self.expert)?;
        check_sizes("network.meta", &self.meta)?;
        check_sizes("network.gate", &self.gate)?;
        check_sizes("network.tower", &self.tower)?;
        if self.meta.is_empty() {
            return Err(fault("network.meta", "is empty, an expert has at least one layer"));
        }
        let mut grouped: Vec<&str> = Vec::with_capacity(tasks.len());
        for (group, members) in &self.groups {
            let path = format!("network.groups.{group}");
            if members.is_empty() {
                return Err(fault(&path, "is empty, a group has at least one task"));
            }
            for (i, task) in members.iter().enumerate() {
                let detail = match task.as_str() {
                    task if !tasks.contains(&task) => "is not a task that the network predicts itself",
                    task if grouped.contains(&task) => "is in a group already",
                    task => {
                        grouped.push(task);
                        continue;
                    }
                };
                return Err(fault(&format!("{path}[{i}]"), &format!("`{task}` {detail}")));
            }
        }
        match tasks.iter().find(|task| !grouped.contains(*task)) {
            Some(task) => Err(fault("network.groups", &format!("no group has the task `{task}`"))),
            None => Ok(()),
        }
    }

    fn block(&self) -> Block {
        Block { activation: self.activation, batch_norm: self.batch_norm }
    }
}

fn fault(path: &str, detail: &str) -> Error {
    Error::new(ErrorKind::Description, path, detail)
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    let tasks = b.tasks();
    p.check(&tasks)?;

    let x = b.features()?;
    let shared = experts(b, "meta.shared", x, &p.meta, p.loras, &p)?;
    let mut all = shared.clone();
    let mut own = Vec::with_capacity(p.groups.len());
    for group in p.groups.keys() {
        let experts = experts(b, &format!("meta.groups.{group}"), x, &p.meta, p.loras, &p)?;
        all.extend(&experts);
        own.push(experts);
    }
    let z_shared = mix(b, "meta.shared", x, &all, &p)?;
    let z_shared = add_self(b, "meta.shared", z_shared, x, &shared, &p)?;
    let task_shared = experts(b, "task.shared", z_shared, &p.expert, p.task_loras, &p)?;

    let mut hidden = BTreeMap::new();
    for ((group, members), own) in p.groups.iter().zip(&own) {
        let prefix = format!("meta.groups.{group}");
        let z = mix(b, &prefix, x, &[&shared[..], own].concat(), &p)?;
        let z = add_self(b, &prefix, z, x, own, &p)?;
        let both = b.concat(&[z, z_shared]);
        let task_group = experts(b, &format!("task.groups.{group}"), z, &p.expert, p.task_loras, &p)?;
        for task in members {
            let prefix = format!("task.own.{task}");
            let own = experts(b, &prefix, z, &p.expert, p.task_loras, &p)?;
            let mut h = mix(b, &prefix, both, &[&task_shared[..], &task_group, &own].concat(), &p)?;
            if p.task_self_gates {
                h = add_self(b, &prefix, h, both, &own, &p)?;
            }
            hidden.insert(task.as_str(), h);
        }
    }
    let hidden: Vec<Value> = tasks.iter().filter_map(|task| hidden.get(task).copied()).collect();
    b.towers(&hidden, &p.tower, p.block())
}

/// A set of experts, and what weighs their common input.
fn experts(
    b: &mut Builder<'_>,
    prefix: &str,
    u: Value,
    sizes: &[usize],
    loras: usize,
    p: &Parameters,
) -> Result<Vec<Value>, Error> {
    let input = match loras {
        0 => u,
        _ => {
            let weights = feature_gate(b, &format!("{prefix}.feature_gate"), u, loras, p)?;
            b.multiply(prefix, u, weights)
        }
    };
    b.experts(&format!("{prefix}.experts"), p.experts, input, sizes, p.block())
}

fn feature_gate(b: &mut Builder<'_>, prefix: &str, u: Value, loras: usize, p: &Parameters) -> Result<Value, Error> {
    let width = b.width(u);
    if loras > width {
        let path = if prefix.starts_with("meta") { "network.loras" } else { "network.task_loras" };
        return Err(fault(path, &format!("is {loras}, more than the {width} columns that they weigh")));
    }
    let mut parts = Vec::with_capacity(loras);
    for l in 0..loras {
        let prefix = format!("{prefix}.loras.{l}");
        let low = b.linear_without_bias(&format!("{prefix}.down"), u, width / loras)?;
        let high = b.linear_without_bias(&format!("{prefix}.up"), low, width)?;
        parts.push(b.activation(high, Activation::ScaledSigmoid(2.0)));
    }
    b.gated(&format!("{prefix}.gate"), u, &p.gate, &parts, p.block())
}

fn mix(b: &mut Builder<'_>, prefix: &str, u: Value, experts: &[Value], p: &Parameters) -> Result<Value, Error> {
    b.gated(&format!("{prefix}.gate"), u, &p.gate, experts, p.block())
}

/// `z + self(u; own)`
fn add_self(
    b: &mut Builder<'_>,
    prefix: &str,
    z: Value,
    u: Value,
    own: &[Value],
    p: &Parameters,
) -> Result<Value, Error> {
    let name = format!("{prefix}.self_gate");
    let own = match own {
        [single] => {
            let hidden = b.mlp(&format!("{name}.hidden"), u, &p.gate, p.block())?;
            let gate = b.linear(&format!("{name}.out"), hidden, 1)?;
            let gate = b.activation(gate, Activation::Sigmoid);
            b.multiply(&name, *single, gate)
        }
        _ => b.gated(&name, u, &p.gate, own, p.block())?,
    };
    Ok(b.add(prefix, z, own))
}
