//! PEPNet (Chang et al., PEPNet: Parameter and Embedding Personalized Network, KDD 2023, arXiv 2302.01115, eq. 2-9): gates
//! scale the embeddings by scenario (EPNet) and every tower layer by person (PPNet).
//!
//! ```text
//! GateNU(u) = gamma sigmoid(W' relu(W u + b) + b')
//! O         = GateNU_epnet([e_scenario; x]) * x
//! h_0       = O
//! h_{l+1}   = act(norm(W_l h_l + b_l)) * GateNU_{k,l}([x_personal; O])     for each task k
//! p_k       = sigmoid(head_k(h_L))
//! ```
//!
//! The stop-gradients of the paper matter in training only.

use super::builder::{Block, Builder, MAX_WIDTH, Nonlinearity, check_size, check_sizes, parameters};
use super::graph::Value;
use crate::error::{Error, ErrorKind};
use crate::ops::Activation;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    domain: usize,
    gate: usize,
    personal: Vec<String>,
    tower: Vec<usize>,
    #[serde(default = "two")]
    gamma: f32,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

fn two() -> f32 {
    2.0
}

impl Parameters {
    fn check(&self) -> Result<(), Error> {
        check_size("network.domain", self.domain, MAX_WIDTH)?;
        check_size("network.gate", self.gate, MAX_WIDTH)?;
        check_sizes("network.tower", &self.tower)?;
        if !(self.gamma.is_finite() && self.gamma > 0.0) {
            return Err(Error::new(ErrorKind::Description, "network.gamma", "must be positive and finite"));
        }
        Ok(())
    }
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    p.check()?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };

    let mut personal = Vec::with_capacity(p.personal.len() + 1);
    for (i, name) in p.personal.iter().enumerate() {
        let slot = b.description.features.iter().position(|feature| feature.name == *name).ok_or_else(|| {
            Error::new(ErrorKind::Description, format!("network.personal[{i}]"), format!("no feature `{name}`"))
        })?;
        personal.push(b.feature(slot));
    }

    let x = b.features()?;
    let scenario = b.scenario("scenario_embedding.weight", &[p.domain])?;
    let gate_input = b.concat(&[scenario, x]);
    let gate = gate_nu(b, "epnet", gate_input, p.gate, b.width(x), p.gamma)?;
    let o = b.multiply("epnet", gate, x);

    personal.push(o);
    let personal = b.concat(&personal);
    b.per_task(|b, task| {
        let mut h = o;
        for (l, width) in p.tower.iter().enumerate() {
            let gate = gate_nu(b, &format!("ppnet.{task}.{l}"), personal, p.gate, *width, p.gamma)?;
            let layer = b.layer(&format!("towers.{task}.{l}"), h, *width, block)?;
            h = b.multiply(&format!("ppnet.{task}.{l}"), layer, gate);
        }
        b.head(task, h)
    })
}

fn gate_nu(
    b: &mut Builder<'_>,
    prefix: &str,
    input: Value,
    hidden: usize,
    width: usize,
    gamma: f32,
) -> Result<Value, Error> {
    let reduced = b.linear(&format!("{prefix}.reduce"), input, hidden)?;
    let reduced = b.activation(reduced, Activation::Relu);
    let expanded = b.linear(&format!("{prefix}.expand"), reduced, width)?;
    Ok(b.activation(expanded, Activation::ScaledSigmoid(gamma)))
}
