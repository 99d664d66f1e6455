//! HAMUR (Li et al., HAMUR: Hyper Adapter for Multi-Domain Recommendation, CIKM 2023, arXiv 2309.06217): an MLP for
//! each scenario, with adapters whose core a hyper-network generates for each row.
//!
//! ```text
//! H      = reshape(MLP_hyper(x))                             rank x rank, one for all adapters
//! h_l    = act(norm_d(h_{l-1} W_d,l + b_d,l))                d: the scenario of the request
//! a      = ((h_l U1) H) V1 + b1                              to `bottleneck`
//! a'     = ((sigmoid(a) U2) H) V2 + b2
//! h_l    = BatchNorm(a') + h_l                               where layer l has an adapter
//! p_k    = sigmoid(h_L w_d,k + b_d,k)
//! ```
//!
//! The adapter's norm in the official code takes the moments of the batch that is scored; here they are the running
//! ones, so that a row does not depend on its neighbours. The last layer of the hyper-network is activated like the
//! others.

use super::builder::{Block, Builder, MAX_COUNT, MAX_WIDTH, Nonlinearity, check_size, check_sizes, parameters};
use super::graph::Value;
use crate::error::{Error, ErrorKind};
use crate::ops::Activation;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    hidden: Vec<usize>,
    hyper: Vec<usize>,
    rank: usize,
    #[serde(default = "bottleneck")]
    bottleneck: usize,
    adapters: Option<Vec<usize>>,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

fn bottleneck() -> usize {
    32
}

impl Parameters {
    fn check(&self) -> Result<(), Error> {
        check_sizes("network.hidden", &self.hidden)?;
        check_sizes("network.hyper", &self.hyper)?;
        check_size("network.rank", self.rank, MAX_COUNT)?;
        check_size("network.bottleneck", self.bottleneck, MAX_WIDTH)?;
        if self.hidden.is_empty() {
            return Err(Error::new(
                ErrorKind::Description,
                "network.hidden",
                "is empty, adapters follow hidden layers",
            ));
        }
        let Some(adapters) = &self.adapters else { return Ok(()) };
        if adapters.is_empty() {
            return Err(Error::new(ErrorKind::Description, "network.adapters", "is empty, at least one is needed"));
        }
        for (i, layer) in adapters.iter().enumerate() {
            if *layer >= self.hidden.len() {
                let detail = format!("is {layer}, there are {} hidden layers, counted from 0", self.hidden.len());
                return Err(Error::new(ErrorKind::Description, format!("network.adapters[{i}]"), detail));
            }
        }
        Ok(())
    }
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    p.check()?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };
    let sizes: Vec<usize> = p.hyper.iter().copied().chain([p.rank * p.rank]).collect();

    let mut h = b.features()?;
    let core = b.mlp("hyper", h, &sizes, block)?;
    for (l, width) in p.hidden.iter().enumerate() {
        let prefix = format!("layers.{l}");
        h = match p.batch_norm {
            true => b.scenario_normed_linear(&prefix, h, *width)?,
            false => b.scenario_linear(&format!("{prefix}.linear"), h, *width)?,
        };
        h = b.nonlinearity(&prefix, h, p.activation)?;
        if p.adapters.as_ref().is_none_or(|adapters| adapters.contains(&l)) {
            h = adapter(b, &format!("adapters.{l}"), h, core, &p)?;
        }
    }
    b.per_task(|b, task| {
        let logit = b.scenario_linear(&format!("heads.{task}"), h, 1)?;
        Ok(b.activation(logit, Activation::Sigmoid))
    })
}

fn adapter(b: &mut Builder<'_>, prefix: &str, h: Value, core: Value, p: &Parameters) -> Result<Value, Error> {
    let down = cell(b, &format!("{prefix}.down"), h, core, p.rank, p.bottleneck)?;
    let down = b.activation(down, Activation::Sigmoid);
    let up = cell(b, &format!("{prefix}.up"), down, core, p.rank, b.width(h))?;
    let normed = b.batch_norm(&format!("{prefix}.norm"), up)?;
    Ok(b.add(prefix, normed, h))
}

/// `((h U) H) V + b`, of `prefix.u` `[inputs, rank]`, `prefix.v` `[rank, outputs]` and `prefix.bias`.
fn cell(b: &mut Builder<'_>, prefix: &str, h: Value, core: Value, rank: usize, outputs: usize) -> Result<Value, Error> {
    let u = b.weight(&format!("{prefix}.u"), &[b.width(h), rank])?;
    let v = b.weight(&format!("{prefix}.v"), &[rank, outputs])?;
    let bias = b.weight(&format!("{prefix}.bias"), &[outputs])?;
    let low = b.generated(prefix, h, u, None, rank);
    let low = b.generated(prefix, low, core, None, rank);
    Ok(b.generated(prefix, low, v, Some(bias), outputs))
}
