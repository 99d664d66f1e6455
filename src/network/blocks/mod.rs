//! Blocks before a network: what sequences and crossed features add to its input `x`.
//!
//! `network.blocks` lists them, whatever the network. What a block gives follows the features, in listed order; block `i`
//! has its tensors below `blocks.{i}`. A sequence has its valid positions only; an empty one pools to zeros.

mod cross;
mod din;
mod fm;
mod inner_products;
mod pooling;
mod target_attention;

use super::builder::{Builder, parse};
use super::graph::Value;
use crate::error::{Error, ErrorKind};
use serde::de::DeserializeOwned;

/// The most blocks of a network.
const MAX_BLOCKS: usize = 64;

/// The names that the `type` of a block can have, and what each builds.
const BLOCKS: [(&str, Build); 6] = [
    ("cross", cross::build),
    ("din", din::build),
    ("fm", fm::build),
    ("inner_products", inner_products::build),
    ("pooling", pooling::build),
    ("target_attention", target_attention::build),
];

/// Adds a block to the graph of a builder; gives its value.
type Build = fn(&mut Builder<'_>, &Entry) -> Result<Value, Error>;

/// A block as the description has it.
struct Entry {
    json: serde_json::Value,
    path: String,
    /// The prefix of its tensors.
    prefix: String,
}

impl Entry {
    /// The hyper-parameters; every error names its JSON path.
    fn parameters<T: DeserializeOwned>(&self) -> Result<T, Error> {
        parse(&self.path, self.json.clone())
    }

    /// The JSON path of a hyper-parameter.
    fn at(&self, key: &str) -> String {
        format!("{}.{key}", self.path)
    }

    /// The name of a layer.
    fn layer(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }
}

/// The values of the blocks of the description.
///
/// # Errors
/// `Description` with the JSON path of a wrong hyper-parameter, `Tensor` with the name of a tensor that does not fit.
pub fn build(b: &mut Builder<'_>) -> Result<Vec<Value>, Error> {
    let Some(listed) = b.description.network.get("blocks") else { return Ok(Vec::new()) };
    let Some(listed) = listed.as_array() else {
        return Err(Error::new(ErrorKind::Description, "network.blocks", "is not a list"));
    };
    if listed.len() > MAX_BLOCKS {
        let detail = format!("lists {} blocks, at most {MAX_BLOCKS} are allowed", listed.len());
        return Err(Error::new(ErrorKind::Limit, "network.blocks", detail));
    }
    let mut values = Vec::with_capacity(listed.len());
    for (i, json) in listed.iter().enumerate() {
        let path = format!("network.blocks[{i}]");
        let name = json.get("type").and_then(|name| name.as_str()).unwrap_or_default();
        let Some((_, build)) = BLOCKS.iter().find(|(known, _)| *known == name) else {
            let known = BLOCKS.map(|(known, _)| known).join(", ");
            let detail = format!("`{name}` is not one of {known}");
            return Err(Error::new(ErrorKind::Description, format!("{path}.type"), detail));
        };
        values.push(build(b, &Entry { json: json.clone(), path, prefix: format!("blocks.{i}") })?);
    }
    Ok(values)
}
