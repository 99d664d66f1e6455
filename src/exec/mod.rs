//! Running a plan: `prepare` once per request, `score` in tiles of candidates, on the caller's thread, without allocation.

mod fold;
mod run;
mod trace;

pub use fold::KeptValues;
pub use run::{Call, Counters, Scratch, Sources};
pub use trace::{StepValue, TraceCall, trace};
