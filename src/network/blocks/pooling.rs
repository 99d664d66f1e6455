//! A history as one row: `v = sum_i h_i` or their mean, over the positions that it has.

use super::Entry;
use crate::error::Error;
use crate::network::builder::Builder;
use crate::network::graph::{Pool, Value};
use serde::Deserialize;

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum How {
    #[default]
    Mean,
    Sum,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    history: Vec<String>,
    #[serde(default)]
    how: How,
}

pub fn build(b: &mut Builder<'_>, entry: &Entry) -> Result<Value, Error> {
    let p: Parameters = entry.parameters()?;
    let h = b.sequence(&entry.at("history"), &p.history)?;
    let how = match p.how {
        How::Mean => Pool::Mean,
        How::Sum => Pool::Sum,
    };
    Ok(b.pool(&entry.prefix, h, how))
}
