//! Running a plan: `prepare` once per request, `score` in tiles of candidates, on the caller's thread, without allocation.

mod run;

pub use run::{Counters, Scratch, Sources, scenario_values};
