//! One request step by step, with the value of every step: what shows where two models begin to differ.
//!
//! A trace computes everything anew, the values of the model and of the scenario too, in a scratch of its own in which nothing
//! is kept from before. Each candidate is a tile of one, and each step is run alone: a row has the same bits in any tile, so
//! what is seen is what scoring computes, and scoring pays nothing for it.

use super::fold::KeptValues;
use super::run::{Scratch, Sources, Tile};
use crate::error::{Error, Fault};
use crate::ops::Span;
use crate::plan::{Placed, Stage, Step, Tasks};
use crate::request::Column;
use std::ops::Range;

/// A request with its candidates, some of which are traced.
#[derive(Clone, Debug)]
pub struct TraceCall<'a> {
    /// The scenario, by its index; one that is not given or not known is the fallback scenario.
    pub scenario: Option<u32>,
    /// The columns of the request, of one row each.
    pub request: &'a [Column<'a>],
    /// How many candidates `columns` has.
    pub candidates: usize,
    /// The columns of the candidates.
    pub columns: &'a [Column<'a>],
    /// The candidates to trace.
    pub traced: Range<usize>,
}

/// The value of a step, right after it was computed.
pub struct StepValue<'a> {
    /// The place of the step in [`crate::Plan::steps`].
    pub place: usize,
    /// When it runs.
    pub stage: Stage,
    /// The step.
    pub step: &'a Step,
    /// The candidate, by its place in the columns; `None` for a step of a slower stage.
    pub candidate: Option<usize>,
    memory: &'a mut [f32],
    span: Span,
    rows: usize,
}

impl StepValue<'_> {
    /// Numbers per row.
    pub fn width(&self) -> usize {
        self.span.width
    }

    /// The rows: one per position of a sequence, one of any other value.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        let Span { offset, width, .. } = self.span;
        self.memory[offset..].chunks(self.stride()).take(self.rows).map(move |row| &row[..width])
    }

    /// The rows, for changing what later steps read.
    pub fn rows_mut(&mut self) -> impl Iterator<Item = &mut [f32]> {
        let (Span { offset, width, .. }, stride) = (self.span, self.stride());
        self.memory[offset..].chunks_mut(stride).take(self.rows).map(move |row| &mut row[..width])
    }

    /// A value of one row has no stride.
    fn stride(&self) -> usize {
        self.span.stride.max(self.span.width).max(1)
    }
}

/// Traces `call`, whose range is of its candidates, at scenario row `scenario`.
///
/// # Errors
/// `OutOfMemory` if the scratch cannot be reserved; inside, a column that breaks a rule.
pub fn trace(
    sources: &Sources<'_>,
    scenario: usize,
    call: &TraceCall<'_>,
    visit: &mut dyn FnMut(StepValue<'_>),
) -> Result<Result<Vec<f32>, Fault>, Error> {
    let kept = KeptValues::none();
    let sources = Sources { kept: &kept, items: None, ..*sources };
    let scratch = Scratch::new(&sources)?;
    Ok(Trace { sources, scratch, call, visit }.run(scenario))
}

struct Trace<'a, 'c> {
    sources: Sources<'a>,
    scratch: Scratch,
    call: &'a TraceCall<'c>,
    visit: &'a mut dyn FnMut(StepValue<'_>),
}

impl Trace<'_, '_> {
    fn run(mut self, scenario: usize) -> Result<Vec<f32>, Fault> {
        let TraceCall { request, candidates, columns, ref traced, .. } = *self.call;
        self.scratch.bound.bind(self.sources.slots, false, candidates, columns)?;
        self.scratch.bind_request(&self.sources, request)?;
        self.steps(Stage::Model, &[], Tile::ONE);
        self.scratch.scenario = Some(scenario);
        self.steps(Stage::Scenario, &[], Tile::ONE);
        self.steps(Stage::Request, request, Tile::ONE);

        self.scratch.bound.bind(self.sources.slots, false, candidates, columns)?;
        let heads = &self.sources.plan.heads;
        let mut scores = vec![0.0; heads.len() * traced.len()];
        for (position, candidate) in traced.clone().enumerate() {
            let tile = Tile::of(candidate, 1);
            self.steps(Stage::Item, columns, tile);
            let mut items = std::mem::take(&mut self.scratch.items);
            self.scratch.encode_items(self.sources.plan, 1, &mut items);
            self.steps(Stage::Candidate, columns, Tile { cached: &[&items], ..tile });
            self.scratch.items = items;
            for (task, head) in heads.iter().enumerate() {
                let memory = &self.scratch.memory[self.scratch.base..];
                head.run(memory, 1, |_, score| scores[task * traced.len() + position] = score);
            }
        }
        Ok(scores)
    }

    /// Runs and shows the steps of a stage, those that are free of the scenario first.
    fn steps(&mut self, stage: Stage, columns: &[Column<'_>], tile: Tile<'_>) {
        let plan = self.sources.plan;
        let candidate = stage.is_of_candidates().then(|| tile.picked.place(0));
        for place in plan.places(stage) {
            self.scratch.run_steps(&self.sources, stage, place..place + 1, Tasks::MAX, columns, tile);
            let step = plan.step(place);
            if let Some(Placed { span, sequence }) = step.value {
                let rows = sequence.map_or(1, |group| self.scratch.positions[group]);
                let memory = &mut self.scratch.memory[self.scratch.base..];
                (self.visit)(StepValue { place, stage, step, candidate, memory, span, rows });
            }
        }
    }
}
