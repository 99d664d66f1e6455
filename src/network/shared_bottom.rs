//! Shared-bottom (Caruana, Multitask Learning, Machine Learning 28, 1997): one bottom, a tower per task.
//!
//! ```text
//! h   = MLP_bottom(x)
//! p_k = sigmoid(head_k(MLP_tower_k(h)))
//! ```

use super::builder::{Block, Builder, Nonlinearity, check_sizes, parameters};
use super::graph::Value;
use crate::error::Error;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    bottom: Vec<usize>,
    tower: Vec<usize>,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    check_sizes("network.bottom", &p.bottom)?;
    check_sizes("network.tower", &p.tower)?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };

    let x = b.features()?;
    let h = b.mlp("bottom", x, &p.bottom, block)?;
    b.per_task(|b, task| {
        let tower = b.mlp(&format!("towers.{task}"), h, &p.tower, block)?;
        b.head(task, tower)
    })
}
