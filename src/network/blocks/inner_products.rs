//! The inner products of all pairs of features (Qu et al., Product-Based Neural Networks for User Response Prediction, ICDM
//! 2016, arXiv 1611.00144): `v = [<e_1, e_2>; <e_1, e_3>; ..; <e_{n-1}, e_n>]`. Pairs within the request are computed once for
//! all candidates. With `normalize`, each embedding is first brought to length 1: the products are cosines.

use super::Entry;
use crate::error::{Error, ErrorKind};
use crate::network::builder::Builder;
use crate::network::graph::Value;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    features: Vec<String>,
    #[serde(default)]
    normalize: bool,
}

pub fn build(b: &mut Builder<'_>, entry: &Entry) -> Result<Value, Error> {
    let p: Parameters = entry.parameters()?;
    let path = entry.at("features");
    let mut fields = b.equal_fields(&path, &p.features)?;
    if fields.len() < 2 {
        return Err(Error::new(ErrorKind::Description, path, "names one feature, a pair has two"));
    }
    if p.normalize {
        fields = fields.into_iter().map(|field| b.normalize(&entry.prefix, field)).collect();
    }
    Ok(b.pair_dots(&entry.prefix, &fields))
}
