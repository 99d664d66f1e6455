//! Multi-head attention of the target over a history (the attention of Vaswani et al., Attention Is All You Need, NeurIPS
//! 2017, arXiv 1706.03762, with one query).
//!
//! ```text
//! q = t W_q,  K = H W_k,  V = H W_v
//! v = [softmax(q_1 K_1^T / sqrt(d)) V_1; ..; softmax(q_H K_H^T / sqrt(d)) V_H] W_o       d: the width of a head
//! ```
//!
//! No layer has a bias, as in public code for rankers. Keys and values are computed per request.

use super::Entry;
use crate::error::Error;
use crate::network::builder::{Builder, MAX_COUNT, MAX_WIDTH, check_size};
use crate::network::graph::{Pool, Value};
use crate::ops::Activation;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    history: Vec<String>,
    target: Vec<String>,
    heads: usize,
    /// Of one head.
    width: usize,
    /// The width of the block; `None`: that of all heads.
    output: Option<usize>,
}

pub fn build(b: &mut Builder<'_>, entry: &Entry) -> Result<Value, Error> {
    let p: Parameters = entry.parameters()?;
    check_size(&entry.at("heads"), p.heads, MAX_COUNT)?;
    check_size(&entry.at("width"), p.width, MAX_WIDTH / MAX_COUNT)?;
    let all = p.heads * p.width;
    let output = p.output.unwrap_or(all);
    check_size(&entry.at("output"), output, MAX_WIDTH)?;

    let h = b.sequence(&entry.at("history"), &p.history)?;
    let t = b.named(&entry.at("target"), &p.target)?;
    let query = b.linear_without_bias(&entry.layer("query"), t, all)?;
    let query = b.activation(query, Activation::Affine { scale: (p.width as f32).sqrt().recip(), shift: 0.0 });
    let keys = b.linear_without_bias(&entry.layer("key"), h, all)?;
    let values = b.linear_without_bias(&entry.layer("value"), h, all)?;
    let logits = b.dot(&entry.prefix, keys, query, p.heads);
    let weights = b.softmax_down(&entry.prefix, logits);
    let heads = b.pool(&entry.prefix, values, Pool::Weighted(weights));
    b.linear_without_bias(&entry.layer("out"), heads, output)
}
