//! polyscore scores one request against many candidate ads with a multi-task multi-scenario ranking network, inside the
//! process and on the thread of the caller.
#![warn(missing_docs)]

#[cfg(feature = "capi")]
mod capi;
mod error;
mod exec;
mod format;
#[allow(missing_docs)]
mod kernels;
mod model;
#[allow(missing_docs)]
mod network;
#[allow(missing_docs)]
mod ops;
#[allow(missing_docs)]
mod plan;
mod request;
mod scorer;

/// The types of a [`Description`].
pub mod description {
    pub use crate::format::{
        Dense, DenseTransform, Feature, FeatureKind, Golden, GoldenHead, Lookup, Pooling, Rate, RowTransform, Scenario,
        Task, Texts, ValueKind, Vocabulary,
    };
}

pub use error::{Error, ErrorKind, Fault, Subject};
pub use exec::Counters;
pub use format::{Description, Dtype, Mode, Tensor, encode as encode_model, write as write_model};
pub use model::{Footprint, GoldenReport, Model, OpenOptions};
pub use network::Rate;
pub use ops::FeatureCounters;
pub use plan::{Plan, Precision, Stage, Step};
pub use request::{Column, Values};
pub use scorer::Scorer;
