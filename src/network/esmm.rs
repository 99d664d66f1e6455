//! ESMM (Ma et al., Entire Space Multi-Task Model, SIGIR 2018, eq. 1): towers over shared embeddings; the later steps of
//! the funnel are products, declared as the `composition` of tasks: `pCTCVR = pCTR * pCVR`.
//!
//! ```text
//! p_k = sigmoid(head_k(MLP_tower_k(x)))
//! ```

use super::builder::{Block, Builder, Nonlinearity, check_sizes, parameters};
use super::graph::Value;
use crate::error::{Error, ErrorKind};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    tower: Vec<usize>,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    check_sizes("network.tower", &p.tower)?;
    check_product(b)?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };

    let x = b.features()?;
    b.per_task(|b, task| {
        let tower = b.mlp(&format!("towers.{task}"), x, &p.tower, block)?;
        b.head(task, tower)
    })
}

/// Refuses tasks without a product among them.
pub fn check_product(b: &Builder<'_>) -> Result<(), Error> {
    match b.description.tasks.iter().any(|task| task.composition.is_some()) {
        true => Ok(()),
        false => {
            Err(Error::new(ErrorKind::Description, "tasks", "none has a `composition`, the network predicts products"))
        }
    }
}
