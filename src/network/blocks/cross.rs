//! The cross layers of DCN-v2 (Wang et al., DCN V2: Improved Deep & Cross Network and Practical Lessons for Web-scale
//! Learning to Rank Systems, WWW 2021, arXiv 2008.13535, eq. 1 and 2).
//!
//! ```text
//! x_{l+1} = x_0 * (W_l x_l + b_l) + x_l          l = 0..layers
//! W_l     = U_l V_l^T                            with a `rank`
//! ```
//!
//! `x_0` is made of the named features, or of all but sequences.

use super::Entry;
use crate::error::Error;
use crate::network::builder::{Builder, MAX_COUNT, MAX_WIDTH, check_size};
use crate::network::graph::Value;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    features: Option<Vec<String>>,
    layers: usize,
    rank: Option<usize>,
}

pub fn build(b: &mut Builder<'_>, entry: &Entry) -> Result<Value, Error> {
    let p: Parameters = entry.parameters()?;
    check_size(&entry.at("layers"), p.layers, MAX_COUNT)?;
    if let Some(rank) = p.rank {
        check_size(&entry.at("rank"), rank, MAX_WIDTH)?;
    }
    let first = match &p.features {
        Some(names) => b.named(&entry.at("features"), names)?,
        None => b.plain_features()?,
    };
    let width = b.width(first);
    (0..p.layers).try_fold(first, |x, l| {
        let name = entry.layer(&format!("layers.{l}"));
        let map = match p.rank {
            None => b.linear(&name, x, width)?,
            Some(rank) => {
                let low = b.linear_without_bias(&format!("{name}.v"), x, rank)?;
                b.linear(&format!("{name}.u"), low, width)?
            }
        };
        let crossed = b.multiply(&name, first, map);
        Ok(b.add(&name, crossed, x))
    })
}
