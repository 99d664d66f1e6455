//! The second-order term of a factorisation machine (Rendle, Factorization Machines, ICDM 2010, eq. 5): one number.
//!
//! ```text
//! v = sum_{i<j} <e_i, e_j> = (|sum_i e_i|^2 - sum_i |e_i|^2) / 2
//! ```
//!
//! The features that are the same for all candidates and the others have a term of their own, and `<C, V>` of their sums joins
//! them: the first term is computed once per request.

use super::Entry;
use crate::error::Error;
use crate::network::builder::Builder;
use crate::network::graph::Value;
use crate::ops::Activation;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "type")]
    _type: String,
    features: Vec<String>,
}

pub fn build(b: &mut Builder<'_>, entry: &Entry) -> Result<Value, Error> {
    let p: Parameters = entry.parameters()?;
    let fields = b.equal_fields(&entry.at("features"), &p.features)?;
    let (constant, varying): (Vec<Value>, Vec<Value>) =
        fields.into_iter().partition(|field| b.is_request_constant(*field));
    let name = &entry.prefix;
    if constant.is_empty() || varying.is_empty() {
        return Ok(term(b, name, &[constant, varying].concat()));
    }
    let (c, v) = (b.sum(name, &constant), b.sum(name, &varying));
    let terms = [term(b, name, &constant), b.dot(name, c, v, 1), term(b, name, &varying)];
    Ok(b.sum(name, &terms))
}

fn term(b: &mut Builder<'_>, name: &str, fields: &[Value]) -> Value {
    let sum = b.sum(name, fields);
    let squares: Vec<Value> = fields.iter().map(|field| b.dot(name, *field, *field, 1)).collect();
    let (whole, parts) = (b.dot(name, sum, sum, 1), b.sum(name, &squares));
    let difference = b.subtract(name, whole, parts);
    b.activation(difference, Activation::Affine { scale: 0.5, shift: 0.0 })
}
