//! DBMTL (Wang et al., Deep Bayesian Multi-Target Learning for Recommender Systems, arXiv 1902.09154): the tasks form a
//! Bayesian network, whose links are layers from the parents of a task to the task.
//!
//! ```text
//! z   = MLP_bottom(x)
//! f_k = MLP_task_k(z)                                        of MMoE's mixture of experts over z, if there are experts
//! r_k = MLP_relation_k([f_k; r_j for each parent j of k])    f_k for a task that `parents` does not name
//! p_k = sigmoid(head_k(r_k))
//! ```
//!
//! The paper's text was not available; this is the network of public code (TorchEasyRec), except for its MaskNet bottom.
//! `parents` maps a task to the tasks listed before it that it depends on, in the order of their concatenation; a task
//! with an empty list has a relation MLP of `f_k` alone. All tasks have the sizes `tower` and `relation`.

use super::builder::{Block, Builder, Nonlinearity, check_optional_experts, check_sizes, parameters};
use super::graph::Value;
use crate::error::{Error, ErrorKind};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    #[serde(default)]
    bottom: Vec<usize>,
    #[serde(default)]
    experts: usize,
    #[serde(default)]
    expert: Vec<usize>,
    #[serde(default)]
    gate: Vec<usize>,
    tower: Vec<usize>,
    relation: Vec<usize>,
    parents: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    check_sizes("network.bottom", &p.bottom)?;
    check_optional_experts(p.experts, &p.expert, &p.gate)?;
    check_sizes("network.tower", &p.tower)?;
    check_sizes("network.relation", &p.relation)?;
    check_parents(&b.tasks(), &p.parents)?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };

    let x = b.features()?;
    let z = b.mlp("bottom", x, &p.bottom, block)?;
    let experts = b.experts("experts", p.experts, z, &p.expert, block)?;
    let mut relations: HashMap<String, Value> = HashMap::new();
    b.per_task(|b, task| {
        let mut h = z;
        if !experts.is_empty() {
            h = b.gated(&format!("gates.{task}"), z, &p.gate, &experts, block)?;
        }
        let mut r = b.mlp(&format!("towers.{task}"), h, &p.tower, block)?;
        if let Some(parents) = p.parents.get(task) {
            let parts: Vec<Value> = [r].into_iter().chain(parents.iter().map(|parent| relations[parent])).collect();
            let parts = b.concat(&parts);
            r = b.mlp(&format!("relations.{task}"), parts, &p.relation, block)?;
        }
        relations.insert(task.to_owned(), r);
        b.head(task, r)
    })
}

/// Refuses names that are not among `tasks`, those that the network predicts, and parents that are not listed earlier.
fn check_parents(tasks: &[&str], parents: &BTreeMap<String, Vec<String>>) -> Result<(), Error> {
    let position = |name: &str| tasks.iter().position(|task| *task == name);
    for (task, names) in parents {
        let path = format!("network.parents.{task}");
        let Some(own) = position(task) else {
            return Err(Error::new(ErrorKind::Description, path, "is not a task that the network predicts itself"));
        };
        for (i, name) in names.iter().enumerate() {
            let detail = match position(name) {
                Some(place) if place < own && !names[..i].contains(name) => continue,
                Some(place) if place < own => "is there twice",
                Some(_) => "is not listed before its child",
                None => "is not a task that the network predicts itself",
            };
            return Err(Error::new(ErrorKind::Description, format!("{path}[{i}]"), format!("`{name}` {detail}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check_parents;
    use std::collections::BTreeMap;

    fn check(task: &str, parents: &[&str]) -> Result<(), String> {
        let parents = parents.iter().map(|parent| (*parent).to_owned()).collect();
        let parents = BTreeMap::from([(task.to_owned(), parents)]);
        check_parents(&["ctr", "cvr", "pay"], &parents).map_err(|error| error.to_string())
    }

    #[test]
    fn parents_are_tasks_listed_before_their_child() {
        assert_eq!(check("pay", &["cvr", "ctr"]), Ok(()));
        assert_eq!(check("ctr", &[]), Ok(()));
        let refused = |task: &str, parents: &[&str], path: &str, detail: &str| {
            let error = check(task, parents).unwrap_err();
            assert!(error.contains(&format!("network.parents.{path}: ")) && error.contains(detail), "{error}");
        };
        refused("ctcvr", &[], "ctcvr", "is not a task that the network predicts itself");
        refused("pay", &["ctr", "ctcvr"], "pay[1]", "`ctcvr` is not a task that the network predicts itself");
        refused("pay", &["ctr", "ctr"], "pay[1]", "`ctr` is there twice");
        refused("cvr", &["pay"], "cvr[0]", "`pay` is not listed before its child");
        refused("cvr", &["cvr"], "cvr[0]", "`cvr` is not listed before its child");
    }
}
