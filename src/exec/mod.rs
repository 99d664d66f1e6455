//! Running a plan: `prepare` once per request, `score` in tiles of candidates, on the caller's thread, without allocation; or
//! by a crew of threads, if the scorer was made with one.

mod calibrate;
mod crew;
mod fold;
mod items;
mod run;
mod trace;

pub use calibrate::{ItemTimes, item_times, tile};
pub use crew::Crew;
pub use fold::KeptValues;
pub use items::ItemCache;
pub use run::{Call, Counters, Scratch, Sources};
pub use trace::{StepValue, TraceCall, trace};
