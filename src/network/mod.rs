//! Networks as graphs: one file per network, each reading like the equations of its paper.

mod builder;
mod esmm;
pub mod graph;
mod mmoe;
mod pepnet;
mod rate;
mod shared_bottom;

pub use graph::Graph;
pub use rate::{Rate, complete_rates};

use crate::error::{Error, ErrorKind};
use crate::format::{Description, Store, TensorId};
use builder::Builder;

/// The names that `network.type` can have.
const NETWORKS: [&str; 4] = ["shared_bottom", "mmoe", "esmm", "pepnet"];

/// The network of a description over the tensors of its file, and the weights that it reads. `tables` are the checked
/// tables of the features, by slot.
///
/// # Errors
/// `Description` with the JSON path of a wrong hyper-parameter; `Tensor` with the name of a tensor that is missing or has
/// another type or shape than the network needs.
pub fn build(
    description: &Description,
    store: &Store,
    tables: &[Option<TensorId>],
) -> Result<(Graph, Vec<TensorId>), Error> {
    let mut builder = Builder::new(description, store, tables);
    let outputs = match description.network.get("type").and_then(|name| name.as_str()).unwrap_or_default() {
        "shared_bottom" => shared_bottom::build(&mut builder),
        "mmoe" => mmoe::build(&mut builder),
        "esmm" => esmm::build(&mut builder),
        "pepnet" => pepnet::build(&mut builder),
        other => {
            let detail = format!("`{other}` is not one of {}", NETWORKS.join(", "));
            return Err(Error::new(ErrorKind::Description, "network.type", detail));
        }
    }?;
    Ok(builder.finish(outputs))
}
