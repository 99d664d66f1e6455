//! polyscore scores one request (user, context, scenario) against many candidate ads with a multi-task multi-scenario
//! ranking network, inside the process and on the thread of the caller.
//!
//! # Mental model
//! A [`Model`] is one version of a network: a file that was checked whole, its plan, and its packed weights. It is immutable
//! and shared by cloning. A [`Scorer`] is one thread's scratch over a model. [`Scorer::prepare`] takes a request and computes
//! all that depends on it alone; [`Scorer::score`] takes candidates and computes the rest, in tiles, for the tasks asked for.
//! [`Scorer::score_mixed`] and [`Scorer::score_each`] do so for several scenarios at once.
//! [`Model::trace`] shows the value of every step of a request.
//! All of them read [`Column`]s: views of the host's arrays, found by slot, checked once per call.
//!
//! What is computed when is decided by *rates* ([`Rate`]): the host says only which features belong to the request, to the ad
//! or to the pair of them; the planner finds the rate of every other value, and splits dense layers by it. [`Plan`] prints
//! the result.
//!
//! # Promises
//! - No thread is made, no lock is taken and, once a scorer is warm, nothing is allocated. A host may ask for threads: it
//!   makes a [`Pool`], and of that a [`Model::parallel_scorer`], whose calls share the work of many candidates.
//! - The same row has the same bits, whatever the batch, the order, the tile, the tasks asked for, the split or the
//!   instruction set.
//! - No file and no argument makes it panic or read out of bounds. Failures name the guilty thing: [`Error`] for opening,
//!   [`Fault`] for calls. Outputs are written on success only.
//! - A file whose golden scores this machine does not reproduce is refused.
//!
//! # Non-promises
//! - Scores of another version of this crate may differ in the last bits.
//! - A file that is mapped and then truncated in place ends the process: see [`Mode`].
//! - The floating-point environment of the thread is the host's.
//!
//! # Example
//! ```
//! use polyscore::{Column, Model, OpenOptions, Values};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let model = Model::open("tests/models/hillstrom.safetensors", &OpenOptions::default())?;
//! let mens = model.feature("mens").ok_or("no such feature")?;
//! let email = model.feature("email").ok_or("no such feature")?;
//!
//! let mut scorer = model.scorer()?;
//! scorer.prepare(model.scenario("Web"), &[Column { feature: mens, values: Values::I64(&[1]), row_offsets: None }])?;
//! let emails = Values::Text { bytes: b"No E-MailMens E-Mail", offsets: &[0, 9, 20] };
//! let mut scores = [0.0; 6];
//! scorer.score(2, &[Column { feature: email, values: emails, row_offsets: None }], None, &mut scores)?;
//! let [visit, _, conversion] = [&scores[..2], &scores[2..4], &scores[4..]];
//! assert!(conversion[0] < visit[0]);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//! `capi` (default): the C ABI of `include/polyscore.h`. `cli`: the command line, with its dependencies.
#![warn(missing_docs)]

#[cfg(feature = "capi")]
mod capi;
mod error;
mod exec;
mod format;
#[allow(missing_docs)]
mod kernels;
mod model;
mod narrowing;
#[allow(missing_docs)]
mod network;
#[allow(missing_docs)]
mod ops;
#[allow(missing_docs)]
mod plan;
mod pool;
mod quant;
mod request;
mod scorer;
mod tuning;

/// The types of a [`Description`].
pub mod description {
    pub use crate::format::{
        Dense, DenseTransform, Feature, FeatureKind, Golden, GoldenColumn, GoldenHead, GoldenRequest, GoldenValues,
        Lookup, Pooling, Rate, RowTransform, Scenario, Task, Texts, ValueKind, Vocabulary,
    };
}

pub use error::{Error, ErrorKind, Fault, Subject};
pub use exec::{Counters, ItemTimes, StepValue, TraceCall};
pub use format::{
    Description, Dtype, Integer, Mode, Replacement, Tensor, encode as encode_model, write as write_model,
};
pub use model::{Footprint, GoldenReport, KeptScenarios, Model, OpenOptions};
pub use narrowing::{Narrow, Narrowing, Wanted};
pub use network::{Rate, Role};
pub use ops::FeatureCounters;
pub use plan::{ItemRows, Plan, Precision, Stage, Step, StepRows, Work};
pub use pool::{Executor, MAX_THREADS, Pool};
pub use quant::{halve, quantize};
pub use request::{Column, ITEM_KEY, NO_KEY, Values};
pub use scorer::Scorer;
pub use tuning::{Measured, Tuning};

/// What `polyscore kernels` prints.
#[doc(hidden)]
pub mod meter {
    pub use crate::kernels::meter::{Measured, measure};
    pub use crate::kernels::{Kernels, Weight};
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
