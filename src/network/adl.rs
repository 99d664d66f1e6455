//! ADL (Li et al., ADL: Adaptive Distribution Learning Framework for Multi-Scenario CTR Prediction, SIGIR 2023, doi
//! 10.1145/3539618.3591944; earlier AdaptDHM, arXiv 2211.12105): rows are routed to the nearest of learned clusters,
//! whose weights scale shared ones.
//!
//! ```text
//! c   = argmax_c <r / |r|, m_c / |m_c|>            r: the features of `route_by`, m_c: the centre of cluster c
//! h_0 = x,  h_{l+1} = act(h_l (W_l * W_c,l) + b_l + b_c,l)
//! p_k = sigmoid(h_L (W_k * W_c,k) + b_k + b_c,k)
//! ```
//!
//! Reconstructed from public code: which features route is open there (`route_by`, default all), and so are the biases.
//! Centres move in training only. All clusters are computed, and the one of the row is picked at the end.

use super::builder::{Builder, MAX_COUNT, Nonlinearity, check_size, check_sizes, parameters};
use super::graph::Value;
use super::star::star_weights;
use crate::error::Error;
use crate::ops::Activation;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    clusters: usize,
    hidden: Vec<usize>,
    route_by: Option<Vec<String>>,
    #[serde(default)]
    activation: Nonlinearity,
}

/// Added to the squared length of a centre, which the inverse root then bounds.
const LENGTH_EPSILON: f32 = 1e-24;

pub fn build(b: &mut Builder<'_>) -> Result<Vec<Option<Value>>, Error> {
    let p: Parameters = parameters(b.description)?;
    check_size("network.clusters", p.clusters, MAX_COUNT)?;
    check_sizes("network.hidden", &p.hidden)?;

    let x = b.features()?;
    let routing = match &p.route_by {
        Some(names) => b.named("network.route_by", names)?,
        None => x,
    };
    let cluster = nearest(b, routing, p.clusters)?;

    let mut members = vec![x; p.clusters];
    for (l, width) in p.hidden.iter().enumerate() {
        let prefix = format!("layers.{l}");
        for (c, h) in members.iter_mut().enumerate() {
            let product = cluster_layer(b, &prefix, *h, (c, p.clusters), *width)?;
            *h = b.nonlinearity(&prefix, product, p.activation)?;
        }
    }
    b.per_task(|b, task| {
        let prefix = format!("heads.{task}");
        let mut logits = Vec::with_capacity(p.clusters);
        for (c, h) in members.iter().enumerate() {
            logits.push(cluster_layer(b, &prefix, *h, (c, p.clusters), 1)?);
        }
        let logits = b.concat(&logits);
        let logit = b.dot(&prefix, logits, cluster, 1);
        Ok(b.activation(logit, Activation::Sigmoid))
    })
}

/// 1 at the cluster whose centre has the largest cosine with `x`; the length of `x` has no part in that.
fn nearest(b: &mut Builder<'_>, x: Value, clusters: usize) -> Result<Value, Error> {
    let centers = b.weight("centers.weight", &[clusters, b.width(x)])?;
    let lengths = b.dot("centers", centers, centers, clusters);
    let inverse = b.activation(lengths, Activation::InverseSqrt(LENGTH_EPSILON));
    let products = b.linear_without_bias("centers", x, clusters)?;
    let cosines = b.multiply("centers", products, inverse);
    Ok(b.argmax(cosines))
}

/// `x (W * W_c) + b + b_c`, of `prefix.own.weight` `[clusters, inputs, outputs]` and `bias`, and the shared ones.
fn cluster_layer(
    b: &mut Builder<'_>,
    prefix: &str,
    x: Value,
    (c, clusters): (usize, usize),
    outputs: usize,
) -> Result<Value, Error> {
    let inputs = b.width(x);
    let weights = b.weight(&format!("{prefix}.own.weight"), &[clusters, inputs, outputs])?;
    let biases = b.weight(&format!("{prefix}.own.bias"), &[clusters, outputs])?;
    let weight = b.slice(weights, c * inputs * outputs, inputs * outputs);
    let bias = b.slice(biases, c * outputs, outputs);
    let (weight, bias) = star_weights(b, prefix, weight, bias, outputs)?;
    Ok(b.generated(prefix, x, weight, Some(bias), outputs))
}
