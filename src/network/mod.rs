//! Networks as graphs: one file per network, each reading like the equations of its paper; `steps` for any other.

mod adasparse;
mod adatt;
mod adl;
mod aitm;
mod apg;
mod blocks;
mod builder;
mod causalint;
mod dbmtl;
mod dffm;
mod escm2;
mod esmm;
pub mod graph;
mod hamur;
mod hmoe;
mod home;
mod m2m;
mod m3oe;
mod mmoe;
mod pepnet;
mod ple;
mod rate;
mod sarnet;
mod shared_bottom;
mod star;
mod stem;
mod steps;
mod taml;

pub use builder::{Network, Role};
pub use graph::Graph;
pub use rate::{Rate, complete_rates};

use crate::error::{Error, ErrorKind};
use crate::format::{Description, Store, TensorId};
use builder::Builder;
use graph::Value;

/// The names that `network.type` can have, and what each builds.
const NETWORKS: [(&str, Build); 24] = [
    ("adasparse", adasparse::build),
    ("adatt", adatt::build),
    ("adl", adl::build),
    ("aitm", aitm::build),
    ("apg", apg::build),
    ("causalint", causalint::build),
    ("dbmtl", dbmtl::build),
    ("dffm", dffm::build),
    ("escm2", escm2::build),
    ("esmm", esmm::build),
    ("graph", steps::build),
    ("hamur", hamur::build),
    ("hmoe", hmoe::build),
    ("home", home::build),
    ("m2m", m2m::build),
    ("m3oe", m3oe::build),
    ("mmoe", mmoe::build),
    ("pepnet", pepnet::build),
    ("ple", ple::build),
    ("sarnet", sarnet::build),
    ("shared_bottom", shared_bottom::build),
    ("star", star::build),
    ("stem", stem::build),
    ("taml", taml::build),
];

/// Adds a network to the graph of a builder; gives the probability of each task that it predicts itself.
type Build = fn(&mut Builder<'_>) -> Result<Vec<Option<Value>>, Error>;

/// The network of a description over the tensors of its file. `tables` are the checked
/// tables of the features, by slot.
///
/// # Errors
/// `Description` with the JSON path of a wrong hyper-parameter; `Tensor` with the name of a tensor that is missing or has
/// another type or shape than the network needs.
pub fn build(description: &Description, store: &Store, tables: &[Option<TensorId>]) -> Result<Network, Error> {
    let name = description.network.get("type").and_then(|name| name.as_str()).unwrap_or_default();
    let Some((_, build)) = NETWORKS.iter().find(|(known, _)| *known == name) else {
        let known = NETWORKS.map(|(known, _)| known).join(", ");
        return Err(Error::new(ErrorKind::Description, "network.type", format!("`{name}` is not one of {known}")));
    };
    let mut builder = Builder::new(description, store, tables);
    let outputs = build(&mut builder)?;
    Ok(builder.finish(outputs))
}
