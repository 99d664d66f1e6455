//! AdaSparse (Yang et al., AdaSparse: Learning Adaptively Sparse Structures for Multi-Domain Click-Through Rate
//! Prediction, CIKM 2022, arXiv 2206.13108): every layer weighs its neurons by scenario and input, and drops the light
//! ones.
//!
//! ```text
//! pi      = beta sigmoid(alpha (W_p [h_l; e_scenario] + b_p)),  0 where |pi| <= epsilon
//! h_{l+1} = act(norm((W_l h_l + b_l) * pi))
//! p_k     = sigmoid(head_k(h_L))
//! ```
//!
//! `alpha` is the value that training ended with: the paper raises it as training goes on. The norm of the paper is
//! there with `batch_norm`; the pruner's bias is a choice of public code.

use super::builder::{Builder, MAX_WIDTH, Nonlinearity, check_size, check_sizes, parameters};
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
    hidden: Vec<usize>,
    #[serde(default = "one")]
    alpha: f32,
    #[serde(default = "two")]
    beta: f32,
    #[serde(default = "quarter")]
    epsilon: f32,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

fn one() -> f32 {
    1.0
}

fn two() -> f32 {
    2.0
}

fn quarter() -> f32 {
    0.25
}

impl Parameters {
    fn check(&self) -> Result<(), Error> {
        check_size("network.domain", self.domain, MAX_WIDTH)?;
        check_sizes("network.hidden", &self.hidden)?;
        if self.hidden.is_empty() {
            return Err(Error::new(ErrorKind::Description, "network.hidden", "is empty, no layer would be pruned"));
        }
        for (path, value) in [("network.alpha", self.alpha), ("network.beta", self.beta)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(Error::new(ErrorKind::Description, path, "must be positive and finite"));
            }
        }
        if !(self.epsilon.is_finite() && self.epsilon >= 0.0) {
            return Err(Error::new(ErrorKind::Description, "network.epsilon", "must be finite and not negative"));
        }
        Ok(())
    }
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    p.check()?;

    let scenario = b.scenario("scenario_embedding.weight", &[p.domain])?;
    let mut h = b.features()?;
    for (l, width) in p.hidden.iter().enumerate() {
        let prefix = format!("layers.{l}");
        let input = b.concat(&[scenario, h]);
        let logits = b.linear(&format!("{prefix}.pruner"), input, *width)?;
        let logits = b.activation(logits, Activation::Affine { scale: p.alpha, shift: 0.0 });
        let weights = b.activation(logits, Activation::ScaledSigmoid(p.beta));
        let weights = b.activation(weights, Activation::Threshold(p.epsilon));
        let linear = b.linear(&format!("{prefix}.linear"), h, *width)?;
        h = b.multiply(&prefix, linear, weights);
        if p.batch_norm {
            h = b.batch_norm(&format!("{prefix}.norm"), h)?;
        }
        h = b.nonlinearity(&prefix, h, p.activation)?;
    }
    b.per_task(|b, task| b.head(task, h))
}
