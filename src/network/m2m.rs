//! M2M (Zhang et al., Leaving No One Behind: A Multi-Scenario Multi-Task Meta Learning Approach for Advertiser
//! Modeling, WSDM 2022, arXiv 2201.06814): attention over experts and towers whose weights are generated from the
//! scenario.
//!
//! ```text
//! s       = MLP_scenario([e_scenario; side features])
//! E_i     = MLP_expert_i(x)                                       i = 1..E
//! Meta(h) : h <- act(h V + v), `depth` times;  V = reshape(W s + b),  v = W' s + b'
//! a_i     = <w_k, Meta_k([E_i; T_k])>                             T_k: the view of task k
//! L_0     = sum_i softmax(a)_i E_i
//! L_{j+1} = act(Meta_k,j(L_j) + L_j)                              `residuals` times
//! p_k     = sigmoid(head_k(MLP_tower_k(L)))
//! ```
//!
//! The transformer over the sequence is not part: blocks that read sequences go before the network. Reconstructed from
//! the abstract and public code: a meta unit keeps its width, each task has its own, and the view of a task, which the
//! paper computes from an embedding of the task alone, is stored as the vector that it is.

use super::builder::{Block, Builder, MAX_COUNT, MAX_WIDTH, Nonlinearity, check_size, check_sizes, parameters};
use super::graph::Value;
use crate::error::{Error, ErrorKind};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    domain: usize,
    #[serde(default)]
    side: Vec<String>,
    scenario: Vec<usize>,
    experts: usize,
    expert: Vec<usize>,
    view: usize,
    #[serde(default = "one")]
    depth: usize,
    #[serde(default = "one")]
    residuals: usize,
    tower: Vec<usize>,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

fn one() -> usize {
    1
}

impl Parameters {
    fn check(&self) -> Result<(), Error> {
        check_size("network.domain", self.domain, MAX_WIDTH)?;
        check_sizes("network.scenario", &self.scenario)?;
        check_size("network.experts", self.experts, MAX_COUNT)?;
        check_sizes("network.expert", &self.expert)?;
        check_size("network.view", self.view, MAX_WIDTH)?;
        check_size("network.depth", self.depth, MAX_COUNT)?;
        check_size("network.residuals", self.residuals, MAX_COUNT)?;
        check_sizes("network.tower", &self.tower)?;
        for (path, sizes) in [("network.scenario", &self.scenario), ("network.expert", &self.expert)] {
            if sizes.is_empty() {
                return Err(Error::new(ErrorKind::Description, path, "is empty, it has at least one layer"));
            }
        }
        Ok(())
    }
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    p.check()?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };

    let mut side = vec![b.scenario("scenario_embedding.weight", &[p.domain])?];
    if !p.side.is_empty() {
        side.push(b.named("network.side", &p.side)?);
    }
    let side = b.concat(&side);
    let s = b.mlp("scenario_mlp", side, &p.scenario, block)?;

    let x = b.features()?;
    let experts =
        (0..p.experts).map(|e| b.mlp(&format!("experts.{e}"), x, &p.expert, block)).collect::<Result<Vec<_>, _>>()?;
    b.per_task(|b, task| {
        let view = b.weight(&format!("views.{task}"), &[p.view])?;
        let mut logits = Vec::with_capacity(p.experts);
        for expert in &experts {
            let pair = b.concat(&[*expert, view]);
            let pair = meta(b, &format!("attention.{task}.meta"), pair, s, &p)?;
            logits.push(b.linear_without_bias(&format!("attention.{task}.vector"), pair, 1)?);
        }
        let logits = b.concat(&logits);
        let attention = b.softmax(logits);
        let mut h = b.mixture(&format!("attention.{task}"), attention, &experts);
        for j in 0..p.residuals {
            let prefix = format!("residuals.{task}.{j}");
            let moved = meta(b, &format!("{prefix}.meta"), h, s, &p)?;
            let sum = b.add(&prefix, moved, h);
            h = b.nonlinearity(&prefix, sum, p.activation)?;
        }
        let tower = b.mlp(&format!("towers.{task}"), h, &p.tower, block)?;
        b.head(task, tower)
    })
}

/// The meta unit, whose layers are as wide as `h` and generated from `s`.
fn meta(b: &mut Builder<'_>, prefix: &str, h: Value, s: Value, p: &Parameters) -> Result<Value, Error> {
    let width = b.width(h);
    (0..p.depth).try_fold(h, |h, l| {
        let prefix = format!("{prefix}.{l}");
        let matrix = b.linear(&format!("{prefix}.matrix"), s, width * width)?;
        let shift = b.linear(&format!("{prefix}.shift"), s, width)?;
        let h = b.generated(&prefix, h, matrix, Some(shift), width);
        b.nonlinearity(&prefix, h, p.activation)
    })
}
