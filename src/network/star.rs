//! STAR (Sheng et al., One Model to Serve All: Star Topology Adaptive Recommender for Multi-Domain CTR Prediction, CIKM
//! 2021, arXiv 2101.11427, eq. 3-7): a network whose weights are those of all scenarios times those of the scenario.
//!
//! ```text
//! z    = (g * g_p) (x - mean_p) / sqrt(var_p + eps) + (beta + beta_p)      p: the scenario of the request
//! h_0  = z,  h_{l+1} = act(h_l (W_l * W_p,l) + b_l + b_p,l)
//! s_k  = h_L (W_k * W_p,k) + b_k + b_p,k                                   a logit for each task k
//! a_k  = head_k(MLP_auxiliary([e_p; x]))
//! p_k  = sigmoid(s_k + a_k)
//! ```
//!
//! The moments of a scenario are its running ones. The auxiliary network reads the features as they are, before the
//! norm; the paper's has one hidden layer. All tasks share the hidden layers.

use super::builder::{Block, Builder, MAX_WIDTH, Nonlinearity, check_size, check_sizes, parameters};
use super::graph::Value;
use crate::error::Error;
use crate::ops::Activation;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    domain: usize,
    hidden: Vec<usize>,
    auxiliary: Vec<usize>,
    #[serde(default)]
    activation: Nonlinearity,
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    check_size("network.domain", p.domain, MAX_WIDTH)?;
    check_sizes("network.hidden", &p.hidden)?;
    check_sizes("network.auxiliary", &p.auxiliary)?;

    let x = b.features()?;
    let mut norm = Some(partitioned_norm(b, "norm", b.width(x))?);
    let mut h = x;
    for (l, width) in p.hidden.iter().enumerate() {
        let prefix = format!("layers.{l}");
        let product = star_layer(b, &prefix, h, norm.take(), *width)?;
        h = b.nonlinearity(&prefix, product, p.activation)?;
    }

    let scenario = b.scenario("scenario_embedding.weight", &[p.domain])?;
    let input = b.concat(&[scenario, x]);
    let block = Block { activation: p.activation, batch_norm: false };
    let auxiliary = b.mlp("auxiliary", input, &p.auxiliary, block)?;
    b.per_task(|b, task| {
        let main = star_layer(b, &format!("heads.{task}"), h, norm, 1)?;
        let auxiliary = b.linear(&format!("auxiliary_heads.{task}"), auxiliary, 1)?;
        let logit = b.add(&format!("heads.{task}"), main, auxiliary);
        Ok(b.activation(logit, Activation::Sigmoid))
    })
}

/// Scale and shift of the norm of the scenario: `prefix.weight` and `bias` `[width]`, and `prefix.own.weight`, `bias`,
/// `running_mean` and `running_var` `[scenarios, width]`.
fn partitioned_norm(b: &mut Builder<'_>, prefix: &str, width: usize) -> Result<(Value, Value), Error> {
    let gamma = b.weight(&format!("{prefix}.weight"), &[width])?;
    let beta = b.weight(&format!("{prefix}.bias"), &[width])?;
    let (own_scale, _) = b.scenario_norm(&format!("{prefix}.own"), width)?;
    let own_beta = b.scenario(&format!("{prefix}.own.bias"), &[width])?;
    let mean = b.scenario(&format!("{prefix}.own.running_mean"), &[width])?;
    let scale = b.multiply(prefix, own_scale, gamma);
    let moved = b.multiply(prefix, mean, scale);
    let beta = b.add(prefix, own_beta, beta);
    let shift = b.subtract(prefix, beta, moved);
    Ok((scale, shift))
}

/// `x (W * W_p) + b + b_p`, of `prefix.shared.weight` `[inputs, outputs]` and `bias`, and `prefix.own.weight`
/// `[scenarios, inputs, outputs]` and `bias`; `x` is scaled and shifted before it by `norm`.
pub(super) fn star_layer(
    b: &mut Builder<'_>,
    prefix: &str,
    x: Value,
    norm: Option<(Value, Value)>,
    outputs: usize,
) -> Result<Value, Error> {
    let own_weight = b.scenario(&format!("{prefix}.own.weight"), &[b.width(x), outputs])?;
    let own_bias = b.scenario(&format!("{prefix}.own.bias"), &[outputs])?;
    let (weight, bias) = star_weights(b, prefix, own_weight, own_bias, outputs)?;
    Ok(match norm {
        Some(norm) => normed_layer(b, prefix, x, norm, (weight, bias), outputs),
        None => b.generated(prefix, x, weight, Some(bias), outputs),
    })
}

/// `W * W_own` and `b + b_own`, of `prefix.shared.weight` `[inputs, outputs]` and `bias`.
pub(super) fn star_weights(
    b: &mut Builder<'_>,
    prefix: &str,
    own_weight: Value,
    own_bias: Value,
    outputs: usize,
) -> Result<(Value, Value), Error> {
    let inputs = b.width(own_weight) / outputs;
    let weight = b.weight(&format!("{prefix}.shared.weight"), &[inputs, outputs])?;
    let bias = b.weight(&format!("{prefix}.shared.bias"), &[outputs])?;
    Ok((b.multiply(prefix, own_weight, weight), b.add(prefix, own_bias, bias)))
}

/// `(x * scale + shift) W + b` as one product: the scale goes into the rows of `W`, the shift into `b`. All but `x`
/// change with the scenario at most.
pub(super) fn normed_layer(
    b: &mut Builder<'_>,
    name: &str,
    x: Value,
    (scale, shift): (Value, Value),
    (weight, bias): (Value, Value),
    outputs: usize,
) -> Value {
    let bias = b.generated(name, shift, weight, Some(bias), outputs);
    let weight = b.scale_rows(name, weight, scale);
    b.generated(name, x, weight, Some(bias), outputs)
}
