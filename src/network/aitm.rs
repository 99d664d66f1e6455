//! AITM (Xi et al., Modeling the Sequential Dependence among Audience Multi-step Conversions with Multi-task Learning in
//! Targeted Display Advertising, KDD 2021, arXiv 2105.08489): each task receives information from the task before it, as
//! much as an attention lets through.
//!
//! ```text
//! q_k = MLP_bottom_k(x)
//! i_k = MLP_info_k(h_{k-1})
//! h_k = sum_u softmax(a_k)_u v_k,u                           over the slots u = q_k, i_k;  h_1 = q_1
//! p_k = sigmoid(head_k(MLP_tower_k(h_k)))
//!
//! slots:  a_k,u = <Q_k u, K_k u> / sqrt(d)                   v_k,u = V_k u
//! cross:  a_k,u = <Q_k(q_k), K_k,u(u)> / sqrt(d)             v_k,u = V_k,u(u)
//! ```
//!
//! The tasks are a chain in listed order, composed ones left out. `attention` is `slots` (default), that of the paper and
//! its code: a slot scores itself, by matrices that both slots share. Or it is `cross`, that of EasyRec: the query is of
//! the task's own slot, and keys and values are linear layers with biases, others for each slot. `q_k`, `i_k` and all
//! projections have one width, d, where EasyRec may project to another.
//!
//! Open choices: each task has matrices of its own; `info` lists hidden layers of the information's MLP, which has one
//! layer in the code, and `tower` layers before the head, none in the code. The penalty on a later task above an earlier
//! one exists in training only, as does the stop-gradient on `h_{k-1}` that EasyRec's has.

use super::builder::{Block, Builder, Nonlinearity, check_sizes, parameters};
use super::graph::Value;
use crate::error::Error;
use crate::ops::Activation;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    bottom: Vec<usize>,
    #[serde(default)]
    info: Vec<usize>,
    #[serde(default)]
    tower: Vec<usize>,
    #[serde(default)]
    attention: Attention,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Attention {
    #[default]
    Slots,
    Cross,
}

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    check_sizes("network.bottom", &p.bottom)?;
    check_sizes("network.info", &p.info)?;
    check_sizes("network.tower", &p.tower)?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };

    let x = b.features()?;
    let mut before = None;
    b.per_task(|b, task| {
        let q = b.mlp(&format!("bottoms.{task}"), x, &p.bottom, block)?;
        let h = match before {
            None => q,
            Some(before) => {
                let sizes: Vec<usize> = p.info.iter().copied().chain([b.width(q)]).collect();
                let info = b.mlp(&format!("info.{task}"), before, &sizes, block)?;
                transfer(b, &format!("attention.{task}"), p.attention, [q, info])?
            }
        };
        before = Some(h);
        let tower = b.mlp(&format!("towers.{task}"), h, &p.tower, block)?;
        b.head(task, tower)
    })
}

/// `h_k` of the two slots.
fn transfer(b: &mut Builder<'_>, prefix: &str, attention: Attention, slots: [Value; 2]) -> Result<Value, Error> {
    let width = b.width(slots[0]);
    let (mut scores, mut values) = (Vec::with_capacity(2), Vec::with_capacity(2));
    for (u, slot) in slots.into_iter().enumerate() {
        let (query, key, value) = match attention {
            Attention::Slots => (
                b.linear_without_bias(&format!("{prefix}.query"), slot, width)?,
                b.linear_without_bias(&format!("{prefix}.key"), slot, width)?,
                b.linear_without_bias(&format!("{prefix}.value"), slot, width)?,
            ),
            Attention::Cross => (
                b.linear(&format!("{prefix}.query"), slots[0], width)?,
                b.linear(&format!("{prefix}.keys.{u}"), slot, width)?,
                b.linear(&format!("{prefix}.values.{u}"), slot, width)?,
            ),
        };
        scores.push(b.dot(prefix, query, key, 1));
        values.push(value);
    }
    let scores = b.concat(&scores);
    let scores = b.activation(scores, Activation::Affine { scale: (width as f32).sqrt().recip(), shift: 0.0 });
    let gate = b.softmax(scores);
    Ok(b.mixture(prefix, gate, &values))
}
