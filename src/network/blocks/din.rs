//! The local activation unit of DIN (Zhou et al., Deep Interest Network for Click-Through Rate Prediction, KDD 2018,
//! arXiv 1706.06978, eq. 3).
//!
//! ```text
//! w_i = MLP([t; h_i; t - h_i; t * h_i])          one number per position i
//! v   = sum_i w_i h_i                            `softmax`: sum_i softmax(w)_i h_i
//! ```
//!
//! The paper multiplies out the outer product of `t` and `h`; public code takes the difference and the product per element,
//! and so do we. The weights are not normalised, as in the paper, unless `softmax` is true. The first layer is split: what `h`
//! meets is computed per request, what `t` meets once per candidate.

use super::Entry;
use crate::error::{Error, ErrorKind};
use crate::network::builder::{Block, Builder, Nonlinearity, check_sizes};
use crate::network::graph::{Pool, Value};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    history: Vec<String>,
    target: Vec<String>,
    hidden: Vec<usize>,
    #[serde(default)]
    softmax: bool,
    #[serde(default)]
    activation: Nonlinearity,
    #[serde(default)]
    batch_norm: bool,
}

pub fn build(b: &mut Builder<'_>, entry: &Entry) -> Result<Value, Error> {
    let p: Parameters = entry.parameters()?;
    check_sizes(&entry.at("hidden"), &p.hidden)?;
    let block = Block { activation: p.activation, batch_norm: p.batch_norm };

    let h = b.sequence(&entry.at("history"), &p.history)?;
    let t = b.named(&entry.at("target"), &p.target)?;
    if b.width(t) != b.width(h) {
        let detail = format!("is {} wide, the history is {} wide", b.width(t), b.width(h));
        return Err(Error::new(ErrorKind::Description, entry.at("target"), detail));
    }
    let difference = b.subtract(&entry.prefix, t, h);
    let product = b.multiply(&entry.prefix, t, h);
    let pair = b.concat(&[t, h, difference, product]);
    let hidden = b.mlp(&entry.layer("mlp"), pair, &p.hidden, block)?;
    let mut weights = b.linear(&entry.layer("out"), hidden, 1)?;
    if p.softmax {
        weights = b.softmax_down(&entry.prefix, weights);
    }
    Ok(b.pool(&entry.prefix, h, Pool::Weighted(weights)))
}
