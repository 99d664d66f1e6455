//! CausalInt (Wang et al., CausalInt: Causal Inspired Intervention for Multi-Scenario Recommendation, KDD 2022, doi
//! 10.1145/3534678.3539221): an invariant and a scenario representation of the features; experts of all scenarios
//! generate the matrix that transfers the invariant one.
//!
//! ```text
//! block(h) = BatchNorm(W leaky(h) + b)                         blocks of all MLPs below, leaky(h) = max(h, slope h)
//! IR = MLP_invariant(x),  SR = MLP_scenario(x)
//! c  = softmax(W_c SR + b_c)                                   in R^P
//! T  = sum_p c_p leaky(MLP_p(SR))                              side x side
//! z  = MLP_value(IR)^T T                                       in R^side
//! p  = sigmoid(MLP_tower_s(z))                                 s: the scenario of the request
//! ```
//!
//! The forward pass is that of a public reproduction; the paper's text was not available. Only the tower knows which
//! scenario is asked. Several tasks have towers of their own over `z`. The extra heads, the gradient terms and the
//! inner step of its loss, and the dropout, exist in training only.

use super::builder::{Builder, MAX_COUNT, check_size, check_sizes, parameters};
use super::graph::Value;
use crate::error::{Error, ErrorKind};
use crate::ops::Activation;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    #[serde(default = "extractor")]
    extractor: Vec<usize>,
    #[serde(default)]
    expert: Vec<usize>,
    #[serde(default)]
    value: Vec<usize>,
    #[serde(default)]
    tower: Vec<usize>,
    #[serde(default = "side")]
    side: usize,
    #[serde(default = "slope")]
    slope: f32,
}

fn extractor() -> Vec<usize> {
    vec![256, 128, 64]
}

fn side() -> usize {
    16
}

fn slope() -> f32 {
    0.2
}

impl Parameters {
    fn check(&self) -> Result<(), Error> {
        check_sizes("network.extractor", &self.extractor)?;
        check_sizes("network.expert", &self.expert)?;
        check_sizes("network.value", &self.value)?;
        check_sizes("network.tower", &self.tower)?;
        check_size("network.side", self.side, MAX_COUNT)?;
        if self.extractor.is_empty() {
            let detail = "is empty, an extractor has at least one layer";
            return Err(Error::new(ErrorKind::Description, "network.extractor", detail));
        }
        if !(0.0..=1.0).contains(&self.slope) {
            return Err(Error::new(ErrorKind::Description, "network.slope", "must be 0 to 1"));
        }
        Ok(())
    }
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    p.check()?;
    let leaky = Activation::LeakyRelu(p.slope);
    let matrix: Vec<usize> = p.expert.iter().copied().chain([p.side * p.side]).collect();
    let vector: Vec<usize> = p.value.iter().copied().chain([p.side]).collect();

    let x = b.features()?;
    let invariant = mlp(b, "invariant", x, &p.extractor, leaky)?;
    let scenario = mlp(b, "scenario", x, &p.extractor, leaky)?;

    let scenarios = b.scenarios()?;
    let logits = b.linear("classifier", scenario, scenarios)?;
    let posterior = b.softmax(logits);
    let mut experts = Vec::with_capacity(scenarios);
    for row in 0..scenarios {
        let expert = mlp(b, &format!("experts.{row}"), scenario, &matrix, leaky)?;
        experts.push(b.activation(expert, leaky));
    }
    let transfer = b.mixture("transfer", posterior, &experts);
    let value = mlp(b, "value", invariant, &vector, leaky)?;
    let z = b.generated("transfer", value, transfer, None, p.side);

    b.per_task(|b, task| {
        let mut h = z;
        for (i, width) in p.tower.iter().enumerate() {
            h = tower_block(b, &format!("towers.{task}.{i}"), h, *width, leaky)?;
        }
        let logit = tower_block(b, &format!("heads.{task}"), h, 1, leaky)?;
        Ok(b.activation(logit, Activation::Sigmoid))
    })
}

fn mlp(b: &mut Builder<'_>, prefix: &str, x: Value, sizes: &[usize], leaky: Activation) -> Result<Value, Error> {
    sizes.iter().enumerate().try_fold(x, |h, (i, width)| {
        let h = b.activation(h, leaky);
        let h = b.linear(&format!("{prefix}.{i}.linear"), h, *width)?;
        b.batch_norm(&format!("{prefix}.{i}.norm"), h)
    })
}

/// A block that each scenario has for itself.
fn tower_block(b: &mut Builder<'_>, prefix: &str, h: Value, width: usize, leaky: Activation) -> Result<Value, Error> {
    let h = b.activation(h, leaky);
    b.scenario_normed_linear(prefix, h, width)
}
