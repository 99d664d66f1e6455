//! The loop over steps, and the memory that a scorer owns.

use crate::error::{Error, ErrorKind, Fault};
use crate::format::Store;
use crate::ops::{Context, FeatureCounters};
use crate::plan::{Plan, Stage, Tasks};
use crate::request::{Bound, Column, MAX_BAG, Slot};
use std::time::{Duration, Instant};

/// Values start at a multiple of this many bytes in memory.
const ALIGNMENT: usize = 64;

/// What a scorer has seen since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests prepared.
    pub requests: u64,
    /// Candidates scored.
    pub candidates: u64,
    /// Requests whose scenario was unknown or not given, and so went to the fallback scenario.
    pub unknown_scenarios: u64,
    /// Scores that were not finite and were replaced by the fallback of their task.
    pub non_finite: u64,
    /// Per feature, by slot.
    pub features: Vec<FeatureCounters>,
}

/// What all scorers of a model share.
pub struct Sources<'a> {
    pub plan: &'a Plan,
    pub store: &'a Store,
    pub slots: &'a [Slot],
    /// The scenario values of every scenario row, one row after the other; empty if they are computed per request.
    pub scenario_values: &'a [f32],
}

/// The memory of one scorer: everything that scoring writes, reserved when the scorer is made.
pub struct Scratch {
    memory: Vec<f32>,
    /// Where the aligned part of `memory` begins.
    base: usize,
    ids: Vec<u32>,
    offsets: Vec<u32>,
    bound: Bound,
    pub counters: Counters,
    /// Time spent per step of the plan; empty unless it is measured.
    pub profile: Vec<Duration>,
}

impl Scratch {
    /// # Errors
    /// `OutOfMemory` if the memory cannot be reserved.
    pub fn new(plan: &Plan, features: usize) -> Result<Self, Error> {
        let padding = ALIGNMENT / size_of::<f32>();
        let memory = reserve(plan.length + padding, 0.0f32)?;
        let base = memory.as_ptr().align_offset(ALIGNMENT).min(padding);
        Ok(Self {
            memory,
            base,
            ids: reserve(ids(plan), 0)?,
            offsets: reserve(plan.tile + 1, 0)?,
            bound: Bound::new(features),
            counters: Counters { features: reserve(features, FeatureCounters::default())?, ..Counters::default() },
            profile: Vec::new(),
        })
    }

    /// Bytes that a scorer of `plan` owns.
    pub fn bytes(plan: &Plan, features: usize) -> usize {
        let words = plan.length + ids(plan) + plan.tile + 1 + features;
        words * size_of::<f32>() + features * size_of::<FeatureCounters>() + ALIGNMENT
    }

    /// Computes what the request decides: its columns (one row each) at scenario row `scenario`.
    ///
    /// # Errors
    /// A column that breaks a rule; nothing was computed then.
    pub fn prepare(&mut self, sources: &Sources<'_>, scenario: usize, columns: &[Column<'_>]) -> Result<(), Fault> {
        self.bound.bind(sources.slots, true, 1, columns)?;
        let length = sources.plan.scenario_length;
        match sources.scenario_values.get(scenario * length..(scenario + 1) * length) {
            Some(values) => self.memory[self.base..self.base + length].copy_from_slice(values),
            None => self.run(sources, Stage::Scenario, Tasks::MAX, scenario, columns, 0, 1),
        }
        self.run(sources, Stage::Request, Tasks::MAX, scenario, columns, 0, 1);
        self.counters.requests += 1;
        Ok(())
    }

    /// Writes `out[t * candidates + i]`, the score of candidate `i` for the `t`-th of `tasks`, which is `candidates` wide.
    ///
    /// # Errors
    /// A column that breaks a rule; nothing was written then.
    pub fn score(
        &mut self,
        sources: &Sources<'_>,
        scenario: usize,
        candidates: usize,
        columns: &[Column<'_>],
        tasks: impl Iterator<Item = usize> + Clone,
        out: &mut [f32],
    ) -> Result<(), Fault> {
        let plan = sources.plan;
        self.bound.bind(sources.slots, false, candidates, columns)?;
        let asked = tasks.clone().fold(0, |asked, task| asked | (1 << task));
        for first in (0..candidates).step_by(plan.tile) {
            let rows = plan.tile.min(candidates - first);
            self.run(sources, Stage::Candidate, asked, scenario, columns, first, rows);
            for (position, task) in tasks.clone().enumerate() {
                let start = position * candidates + first;
                let memory = &self.memory[self.base..];
                self.counters.non_finite += plan.heads[task].run(memory, &mut out[start..start + rows]);
            }
        }
        self.counters.candidates += candidates as u64;
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where everything of a call meets")]
    fn run(
        &mut self,
        sources: &Sources<'_>,
        stage: Stage,
        asked: Tasks,
        scenario: usize,
        columns: &[Column<'_>],
        first: usize,
        rows: usize,
    ) {
        let mut context = Context {
            kernels: sources.plan.kernels,
            memory: &mut self.memory[self.base..],
            rows,
            first,
            scenario,
            columns,
            bound: &self.bound,
            tables: &|number| sources.store.bytes(number),
            ids: &mut self.ids,
            offsets: &mut self.offsets,
            counters: &mut self.counters.features,
        };
        let (base, steps) = sources.plan.stage(stage);
        for (index, step) in steps.iter().enumerate().filter(|(_, step)| step.tasks & asked != 0) {
            match self.profile.get_mut(base + index) {
                None => step.operation.run(&mut context),
                Some(time) => {
                    let start = Instant::now();
                    step.operation.run(&mut context);
                    *time += start.elapsed();
                }
            }
        }
    }
}

/// The scenario values of `rows` scenarios, for [`Sources`]; empty if they would pass `budget` bytes.
///
/// # Errors
/// `OutOfMemory` if they cannot be reserved.
pub fn scenario_values(sources: &Sources<'_>, rows: usize, budget: usize) -> Result<Vec<f32>, Error> {
    let length = sources.plan.scenario_length;
    let total = length.saturating_mul(rows);
    if total.saturating_mul(size_of::<f32>()) > budget {
        return Ok(Vec::new());
    }
    let mut scratch = Scratch::new(sources.plan, sources.slots.len())?;
    let mut values = reserve(total, 0.0)?;
    for scenario in 0..rows {
        scratch.run(sources, Stage::Scenario, Tasks::MAX, scenario, &[], 0, 1);
        values[scenario * length..(scenario + 1) * length]
            .copy_from_slice(&scratch.memory[scratch.base..scratch.base + length]);
    }
    Ok(values)
}

/// Ids of a tile, or of the longest bag.
fn ids(plan: &Plan) -> usize {
    if plan.has_bags { plan.tile.max(MAX_BAG) } else { plan.tile }
}

fn reserve<T: Clone>(length: usize, value: T) -> Result<Vec<T>, Error> {
    let mut values = Vec::new();
    values.try_reserve_exact(length).map_err(|_| {
        let detail = format!("{length} values of {} bytes cannot be reserved", size_of::<T>());
        Error::new(ErrorKind::OutOfMemory, "scorer", detail)
    })?;
    values.resize(length, value);
    Ok(values)
}
