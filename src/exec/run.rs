//! The loop over steps, and the memory that a scorer owns.

use super::fold::{Folded, KeptValues};
use super::items::{Found, ItemCache};
use crate::error::{Error, ErrorKind, Fault};
use crate::format::Store;
use crate::ops::{Context, FEW, FeatureCounters, Operation, Picked};
use crate::plan::{ItemRow, MAX_CACHED_TILE, Plan, Stage, StepRows, Tasks};
use crate::request::{Bound, Column, MAX_BAG, NO_KEY, Slot};
use std::ops::Range;
use std::time::{Duration, Instant};

/// Values start at a multiple of this many bytes in memory.
const ALIGNMENT: usize = 64;

/// Candidates whose sets of the item cache are on their way into the caches.
const SETS_AHEAD: usize = 6;

/// Bytes of a row of the item cache that need one look into the page table. Where the pages of a virtual machine are huge, those
/// of its host may be small.
const PAGE: usize = 4096;

/// What a scorer has seen since it was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests prepared.
    pub requests: u64,
    /// Candidates scored, once per scenario that they were scored for.
    pub candidates: u64,
    /// Requests, and candidates and scenarios of calls that name scenarios themselves, whose scenario was unknown or not given,
    /// and so went to the fallback scenario.
    pub unknown_scenarios: u64,
    /// Scores that were not finite and were replaced by the fallback of their task.
    pub non_finite: u64,
    /// How often the values of a scenario were computed: not at all where the model keeps those of all scenarios.
    pub scenarios_folded: u64,
    /// Candidates with an item key whose row the item cache had.
    pub item_hits: u64,
    /// Candidates with an item key whose row it did not have.
    pub item_misses: u64,
    /// Per feature, by slot. Item features of candidates whose row the item cache had were not looked at.
    pub features: Vec<FeatureCounters>,
}

/// What all scorers of a model share.
pub struct Sources<'a> {
    pub plan: &'a Plan,
    pub store: &'a Store,
    pub slots: &'a [Slot],
    pub kept: &'a KeptValues,
    pub items: Option<&'a ItemCache>,
}

/// The columns of a call and where its scores go: `out[t * candidates + i]` for the `t`-th of `tasks`.
pub struct Call<'a, T, O> {
    pub candidates: usize,
    pub columns: &'a [Column<'a>],
    pub tasks: T,
    pub out: O,
}

/// Where scores go.
pub trait Scores {
    /// Puts a score at a place of the output.
    fn write(&mut self, place: usize, score: f32);
}

impl Scores for &mut [f32] {
    fn write(&mut self, place: usize, score: f32) {
        self[place] = score;
    }
}

impl Counters {
    /// Adds what `others` counted, and sets it to zero there.
    pub fn add(&mut self, others: &mut Counters) {
        let Counters {
            requests,
            candidates,
            unknown_scenarios,
            non_finite,
            scenarios_folded,
            item_hits,
            item_misses,
            features,
        } = others;
        self.requests += std::mem::take(requests);
        self.candidates += std::mem::take(candidates);
        self.unknown_scenarios += std::mem::take(unknown_scenarios);
        self.non_finite += std::mem::take(non_finite);
        self.scenarios_folded += std::mem::take(scenarios_folded);
        self.item_hits += std::mem::take(item_hits);
        self.item_misses += std::mem::take(item_misses);
        for (sum, feature) in self.features.iter_mut().zip(features) {
            let FeatureCounters { values, oov, missing } = std::mem::take(feature);
            sum.values += values;
            sum.oov += oov;
            sum.missing += missing;
        }
    }
}

/// The candidates, or the one row, that steps compute together.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    /// Which rows of the columns they are.
    pub picked: Picked<'a>,
    pub rows: usize,
    /// What the item cache keeps of each.
    pub cached: &'a [&'a [u8]],
}

impl Tile<'_> {
    /// The row of a request, or of a slower stage.
    pub(super) const ONE: Tile<'static> = Tile::of(0, 1);

    /// `rows` consecutive rows, of which nothing is kept.
    pub(super) const fn of(first: usize, rows: usize) -> Self {
        Tile { picked: Picked::From(first), rows, cached: &[] }
    }
}

/// The memory of one scorer: everything that scoring writes, reserved when the scorer is made.
pub struct Scratch {
    pub(super) memory: Vec<f32>,
    /// Where the aligned part of `memory` begins.
    pub(super) base: usize,
    ids: Vec<u32>,
    offsets: Vec<u32>,
    /// Candidates of a tile of one scenario.
    picked: Vec<u32>,
    /// Candidates of a tile, those first whose rows the item cache does not have.
    ordered: Vec<u32>,
    /// The rows of the candidates of a tile that the item cache does not have, as it would keep them.
    pub(super) items: Vec<u8>,
    pub(super) bound: Bound,
    /// The length of each group of sequences of the request.
    pub(super) positions: Vec<usize>,
    /// The scenario whose values, and those of the request that depend on it, are in memory.
    pub(super) scenario: Option<usize>,
    /// Changes whenever the values of the request or the scenario in memory do.
    epoch: u64,
    /// The epoch of the scratch that these values were copied from, as long as they are those.
    adopted: Option<u64>,
    folded: Folded,
    pub counters: Counters,
    /// Time spent per step of the plan; empty unless it is measured.
    pub profile: Vec<Duration>,
}

impl Scratch {
    /// # Errors
    /// `OutOfMemory` if the memory cannot be reserved.
    pub fn new(sources: &Sources<'_>) -> Result<Self, Error> {
        let Sources { plan, slots, kept, .. } = *sources;
        let padding = ALIGNMENT / size_of::<f32>();
        let memory = reserve(kept.scratch_length(plan) + padding, 0.0f32)?;
        let base = memory.as_ptr().align_offset(ALIGNMENT).min(padding);
        let features = reserve(slots.len(), FeatureCounters::default())?;
        let mut scratch = Self {
            memory,
            base,
            ids: reserve(ids(plan), 0)?,
            offsets: reserve(plan.tile + 1, 0)?,
            picked: reserve(plan.tile, 0)?,
            ordered: reserve(if plan.items.is_some() { plan.tile } else { 0 }, 0)?,
            items: reserve(plan.items.as_ref().map_or(0, |row| plan.tile * row.bytes), 0)?,
            bound: Bound::new(slots.len()),
            positions: reserve(plan.sequences.len(), 0)?,
            scenario: None,
            epoch: 0,
            adopted: None,
            folded: kept.folded(plan)?,
            counters: Counters { features, ..Counters::default() },
            profile: Vec::new(),
        };
        kept.copy_model(plan, &mut scratch.memory[base..]);
        Ok(scratch)
    }

    /// Bytes that a scorer owns.
    pub fn bytes(sources: &Sources<'_>) -> usize {
        let Sources { plan, slots, kept, .. } = *sources;
        let items = plan.items.as_ref().map_or(0, |row| plan.tile * (size_of::<u32>() + row.bytes));
        let words = kept.scratch_length(plan) + ids(plan) + 2 * plan.tile + 1 + slots.len();
        words * size_of::<f32>()
            + items
            + kept.folded_bytes(plan)
            + slots.len() * size_of::<FeatureCounters>()
            + ALIGNMENT
    }

    /// Computes what the request decides: its columns (one row each) at scenario row `scenario`.
    ///
    /// # Errors
    /// A column that breaks a rule; nothing was computed then.
    pub fn prepare(&mut self, sources: &Sources<'_>, scenario: usize, columns: &[Column<'_>]) -> Result<(), Fault> {
        self.bind_request(sources, columns)?;
        self.epoch += 1;
        self.run(sources, Stage::Request, false, Tasks::MAX, columns, Tile::ONE);
        self.load(sources, scenario);
        self.run(sources, Stage::Request, true, Tasks::MAX, columns, Tile::ONE);
        self.counters.requests += 1;
        Ok(())
    }

    /// Checks the columns of a request, and finds the length of its sequences.
    ///
    /// # Errors
    /// A column that breaks a rule.
    pub(super) fn bind_request(&mut self, sources: &Sources<'_>, columns: &[Column<'_>]) -> Result<(), Fault> {
        self.bound.bind(sources.slots, true, 1, columns)?;
        for (group, slots) in sources.plan.sequences.iter().enumerate() {
            self.positions[group] = self.bound.positions(columns, slots)?;
        }
        Ok(())
    }

    /// Scores all candidates for the scenario row of the request.
    ///
    /// # Errors
    /// A column that breaks a rule; nothing was written then.
    pub fn score<T: Iterator<Item = usize> + Clone>(
        &mut self,
        sources: &Sources<'_>,
        scenario: usize,
        call: &mut Call<'_, T, &mut [f32]>,
    ) -> Result<(), Fault> {
        self.begin(sources, call)?;
        if call.out.is_empty() {
            return Ok(());
        }
        self.change(sources, scenario);
        self.tiles(sources, call, 0..call.candidates);
        self.counters.candidates += call.candidates as u64;
        Ok(())
    }

    /// Scores every candidate for a scenario row of its own.
    ///
    /// # Errors
    /// A column that breaks a rule; nothing was written then.
    pub fn score_mixed<T: Iterator<Item = usize> + Clone>(
        &mut self,
        sources: &Sources<'_>,
        scenario: impl Fn(usize) -> usize,
        call: &mut Call<'_, T, &mut [f32]>,
    ) -> Result<(), Fault> {
        self.begin(sources, call)?;
        if call.out.is_empty() {
            return Ok(());
        }
        self.tiles_mixed(sources, scenario, call, 0..call.candidates);
        self.counters.candidates += call.candidates as u64;
        Ok(())
    }

    /// Scores every candidate for every one of `scenarios`: `out[(s * tasks + t) * candidates + i]`. What does not depend on
    /// the scenario is computed once per candidate.
    ///
    /// # Errors
    /// A column that breaks a rule; nothing was written then.
    pub fn score_each<T: Iterator<Item = usize> + Clone>(
        &mut self,
        sources: &Sources<'_>,
        scenarios: impl ExactSizeIterator<Item = usize> + Clone,
        call: &mut Call<'_, T, &mut [f32]>,
    ) -> Result<(), Fault> {
        self.begin(sources, call)?;
        if call.out.is_empty() || scenarios.len() == 0 {
            return Ok(());
        }
        self.tiles_each(sources, scenarios.clone(), call, 0..call.candidates);
        self.counters.candidates += (call.candidates * scenarios.len()) as u64;
        Ok(())
    }

    /// Checks the columns of a call, and remembers where each feature is.
    ///
    /// # Errors
    /// A column that breaks a rule.
    pub fn begin<T, O>(&mut self, sources: &Sources<'_>, call: &Call<'_, T, O>) -> Result<(), Fault> {
        self.bound.bind(sources.slots, false, call.candidates, call.columns)
    }

    /// Scores the candidates of `range` for the scenario in memory.
    pub fn tiles<T: Iterator<Item = usize> + Clone, O: Scores>(
        &mut self,
        sources: &Sources<'_>,
        call: &mut Call<'_, T, O>,
        range: Range<usize>,
    ) {
        for first in range.clone().step_by(sources.plan.tile) {
            self.tile(sources, call, Tile::of(first, sources.plan.tile.min(range.end - first)));
        }
    }

    /// Scores a tile for the scenario in memory.
    fn tile<T: Iterator<Item = usize> + Clone, O: Scores>(
        &mut self,
        sources: &Sources<'_>,
        call: &mut Call<'_, T, O>,
        tile: Tile<'_>,
    ) {
        let known = sources.items.zip(self.bound.item_keys(call.columns));
        self.with_items(sources, known, call.columns, tile, |scratch, tile| {
            scratch.candidates(sources, false, call, tile);
            scratch.candidates(sources, true, call, tile);
            scratch.heads(sources.plan, call, tile, 0);
        });
    }

    /// Scores every candidate of `range` for a scenario row of its own.
    pub fn tiles_mixed<T: Iterator<Item = usize> + Clone, O: Scores>(
        &mut self,
        sources: &Sources<'_>,
        scenario: impl Fn(usize) -> usize,
        call: &mut Call<'_, T, O>,
        range: Range<usize>,
    ) {
        let mut next = range.clone().map(&scenario).min();
        while let Some(row) = next {
            self.change(sources, row);
            next = range.clone().map(&scenario).filter(|other| *other > row).min();
            let mut mine = range.clone().filter(|candidate| scenario(*candidate) == row).peekable();
            while mine.peek().is_some() {
                let mut picked = std::mem::take(&mut self.picked);
                let rows =
                    picked.iter_mut().zip(mine.by_ref()).map(|(place, candidate)| *place = candidate as u32).count();
                self.tile(sources, call, Tile { picked: Picked::These(&picked[..rows]), rows, cached: &[] });
                self.picked = picked;
            }
        }
    }

    /// Scores every candidate of `range` for every one of `scenarios`.
    pub fn tiles_each<T: Iterator<Item = usize> + Clone, O: Scores>(
        &mut self,
        sources: &Sources<'_>,
        scenarios: impl Iterator<Item = usize> + Clone,
        call: &mut Call<'_, T, O>,
        range: Range<usize>,
    ) {
        let scores = call.tasks.clone().count() * call.candidates;
        let known = sources.items.zip(self.bound.item_keys(call.columns));
        for first in range.clone().step_by(sources.plan.tile) {
            let tile = Tile::of(first, sources.plan.tile.min(range.end - first));
            self.with_items(sources, known, call.columns, tile, |scratch, tile| {
                scratch.candidates(sources, false, call, tile);
                for (position, scenario) in scenarios.clone().enumerate() {
                    scratch.change(sources, scenario);
                    scratch.candidates(sources, true, call, tile);
                    scratch.heads(sources.plan, call, tile, position * scores);
                }
            });
        }
    }

    /// Takes over what candidate steps read of a request that `from` prepared: the columns of the call, and the values of
    /// the request and its scenario, unless they are here already.
    pub fn adopt(&mut self, from: &Scratch, sources: &Sources<'_>) {
        self.bound.copy(&from.bound);
        if self.adopted == Some(from.epoch) {
            return;
        }
        let regions = &sources.plan.regions;
        self.copy_values(from, regions.scenario_inputs.start..regions.request.end);
        self.positions.copy_from_slice(&from.positions);
        self.scenario = from.scenario;
        if let Some(scenario) = from.scenario.filter(|_| !sources.kept.is_complete()) {
            match from.folded.known(scenario) {
                Some(values) if self.folded.find(scenario).is_none() => {
                    let (inputs, matrices) = values.split_at(regions.scenario_inputs.len());
                    self.folded.store(scenario, inputs, matrices);
                }
                Some(_) => {}
                None => self.copy_values(from, regions.scenario_matrices.clone()),
            }
        }
        self.adopted = Some(from.epoch);
    }

    fn copy_values(&mut self, from: &Scratch, place: Range<usize>) {
        self.memory[self.base..][place.clone()].copy_from_slice(from.values(place));
    }

    /// Brings the request to another scenario.
    pub fn change(&mut self, sources: &Sources<'_>, scenario: usize) {
        if self.scenario != Some(scenario) {
            self.load(sources, scenario);
            self.run(sources, Stage::Request, true, Tasks::MAX, &[], Tile::ONE);
        }
    }

    /// Brings the values of a scenario into memory, or where they are kept.
    fn load(&mut self, sources: &Sources<'_>, scenario: usize) {
        if self.scenario == Some(scenario) {
            return;
        }
        self.scenario = Some(scenario);
        self.epoch += 1;
        self.adopted = None;
        let regions = &sources.plan.regions;
        let inputs = regions.scenario_inputs.clone();
        if let Some(values) = sources.kept.scenario(regions, scenario) {
            self.memory[self.base..][inputs.clone()].copy_from_slice(&values[..inputs.len()]);
        } else if let Some(values) = self.folded.find(scenario) {
            self.memory[self.base..][inputs.clone()].copy_from_slice(&values[..inputs.len()]);
        } else {
            self.fold(sources, scenario);
            let memory = &self.memory[self.base..];
            self.folded.store(scenario, &memory[inputs], &memory[regions.scenario_matrices.clone()]);
        }
    }

    /// Computes the values of a scenario in memory.
    pub fn fold(&mut self, sources: &Sources<'_>, scenario: usize) {
        self.scenario = Some(scenario);
        for is_scenario_bound in [false, true] {
            self.run(sources, Stage::Scenario, is_scenario_bound, Tasks::MAX, &[], Tile::ONE);
        }
        self.counters.scenarios_folded += 1;
    }

    /// Computes the values of the model in memory, which must be whole.
    pub fn open(&mut self, sources: &Sources<'_>) {
        self.run(sources, Stage::Model, false, Tasks::MAX, &[], Tile::ONE);
    }

    /// Computes `rows` candidates of what is in memory: the steps that read nothing of a call, for all tasks.
    pub fn compute(&mut self, sources: &Sources<'_>, rows: usize) {
        for (stage, is_scenario_bound) in [(Stage::Item, false), (Stage::Candidate, false), (Stage::Candidate, true)] {
            self.compute_stage(sources, stage, is_scenario_bound, rows);
        }
    }

    /// Those of one stage.
    pub(super) fn compute_stage(&mut self, sources: &Sources<'_>, stage: Stage, is_scenario_bound: bool, rows: usize) {
        let mut place = sources.plan.range(stage, is_scenario_bound);
        while !place.is_empty() {
            let reads = |place: &usize| sources.plan.step(*place).operation.reads_call();
            let end = place.clone().find(reads).unwrap_or(place.end);
            let steps = place.start..end;
            self.run_steps(sources, stage, steps, Tasks::MAX, &[], Tile::of(0, rows));
            place.start = place.end.min(end + 1);
        }
    }

    /// The values in memory.
    pub fn values(&self, place: Range<usize>) -> &[f32] {
        &self.memory[self.base..][place]
    }

    /// Runs `then` on a tile with the rows of its items: from a cache, given with the keys of all candidates, for those that it
    /// knows, and by the item steps for the others, which it then knows. They come first in its order.
    pub(super) fn with_items(
        &mut self,
        sources: &Sources<'_>,
        known: Option<(&ItemCache, &[i64])>,
        columns: &[Column<'_>],
        tile: Tile<'_>,
        then: impl FnOnce(&mut Self, Tile<'_>),
    ) {
        let Some(item) = &sources.plan.items else { return then(self, tile) };
        let (mut ordered, mut items) = (std::mem::take(&mut self.ordered), std::mem::take(&mut self.items));
        let now = known.map_or(0, |(cache, _)| cache.tick());
        let mut found = [const { None }; MAX_CACHED_TILE];
        let found = &mut found[..tile.rows];
        if let Some((cache, keys)) = known {
            find(sources.plan, cache, keys, now, tile.picked, &mut ordered, found);
        }
        let unknown = found.iter().take_while(|found| found.is_none()).count();
        let picked = if unknown < tile.rows { Picked::These(&ordered[..tile.rows]) } else { tile.picked };
        if unknown > 0 {
            self.run(sources, Stage::Item, false, Tasks::MAX, columns, Tile { picked, rows: unknown, cached: &[] });
            self.encode_items(sources.plan, unknown, &mut items);
        }
        if let Some((cache, keys)) = known {
            for (row, bytes) in items.chunks(item.bytes).take(unknown).enumerate() {
                let key = keys[picked.place(row)];
                if key != NO_KEY {
                    self.counters.item_misses += 1;
                    cache.keep(key, now, bytes);
                }
            }
        }
        self.counters.item_hits += (tile.rows - unknown) as u64;
        let mut cached = [&[][..]; MAX_CACHED_TILE];
        then(self, Tile { picked, rows: tile.rows, cached: rows_of(item, &items, found, &mut cached) });
        (self.ordered, self.items) = (ordered, items);
    }

    /// Makes rows of the item cache of what the item steps computed, one after the other in `items`.
    pub(super) fn encode_items(&self, plan: &Plan, rows: usize, items: &mut [u8]) {
        if let Some(item) = &plan.items {
            for (row, bytes) in items.chunks_mut(item.bytes).take(rows).enumerate() {
                item.encode(&self.memory[self.base..], row, bytes);
            }
        }
    }

    /// The candidate steps of a tile that depend on the scenario, or those that do not.
    fn candidates<T: Iterator<Item = usize> + Clone, O>(
        &mut self,
        sources: &Sources<'_>,
        is_scenario_bound: bool,
        call: &Call<'_, T, O>,
        tile: Tile<'_>,
    ) {
        let asked = call.tasks.clone().fold(0, |asked, task| asked | (1 << task));
        self.run(sources, Stage::Candidate, is_scenario_bound, asked, call.columns, tile);
    }

    fn heads<T: Iterator<Item = usize> + Clone, O: Scores>(
        &mut self,
        plan: &Plan,
        call: &mut Call<'_, T, O>,
        tile: Tile<'_>,
        start: usize,
    ) {
        let memory = &self.memory[self.base..];
        for (position, task) in call.tasks.clone().enumerate() {
            let first = start + position * call.candidates;
            let write = |row, score| call.out.write(first + tile.picked.place(row), score);
            self.counters.non_finite += plan.heads[task].run(memory, tile.rows, write);
        }
    }

    fn run(
        &mut self,
        sources: &Sources<'_>,
        stage: Stage,
        is_scenario_bound: bool,
        asked: Tasks,
        columns: &[Column<'_>],
        tile: Tile<'_>,
    ) {
        self.run_steps(sources, stage, sources.plan.range(stage, is_scenario_bound), asked, columns, tile);
    }

    /// Runs the steps at the places `range`, which are of one stage.
    pub(super) fn run_steps(
        &mut self,
        sources: &Sources<'_>,
        stage: Stage,
        range: Range<usize>,
        asked: Tasks,
        columns: &[Column<'_>],
        Tile { picked, rows, cached }: Tile<'_>,
    ) {
        let Self { memory, base, ids, offsets, bound, positions, scenario, folded, counters, profile, .. } = self;
        let Sources { plan, store, kept, .. } = *sources;
        let scenario = scenario.unwrap_or(0);
        let scenario_values = match stage {
            Stage::Model | Stage::Scenario => &[],
            Stage::Request | Stage::Item | Stage::Candidate => kept
                .scenario(&plan.regions, scenario)
                .or_else(|| folded.known(scenario))
                .map_or(&[][..], |values| &values[plan.regions.scenario_inputs.len()..]),
        };
        let mut context = Context {
            kernels: plan.kernels,
            memory: &mut memory[*base..],
            rows,
            picked,
            candidate: 0,
            positions,
            scenario,
            model_values: kept.model_rest(),
            scenario_values,
            columns,
            bound,
            cached,
            tables: &|number| store.bytes(number),
            ids,
            offsets,
            counters: &mut counters.features,
        };
        let mut one = |context: &mut Context<'_>, place: usize| {
            let step = plan.step(place);
            if step.tasks & asked == 0 {
                return;
            }
            context.rows = match step.rows {
                StepRows::Call => rows,
                StepRows::Positions { group, .. } => positions[group],
            };
            match profile.get_mut(place) {
                None => step.operation.run(context),
                Some(time) => {
                    let start = Instant::now();
                    step.operation.run(context);
                    *time += start.elapsed();
                }
            }
        };
        for step in range.clone().filter(|_| rows <= FEW).map(|place| plan.step(place)) {
            if let (StepRows::Call, Operation::Gather(gather)) = (step.rows, &step.operation)
                && step.tasks & asked != 0
            {
                context.rows = rows;
                gather.ask(&context);
            }
        }
        let mut place = range.start;
        while place < range.end {
            let block = plan.block(place, range.end);
            if block.is_empty() {
                one(&mut context, place);
                place += 1;
                continue;
            }
            for candidate in 0..rows {
                context.candidate = candidate;
                block.clone().for_each(|place| one(&mut context, place));
            }
            place = block.end;
        }
    }
}

/// Looks in the cache for the rows of the candidates of a tile. `ordered` gets the candidates, those first that it does not have,
/// and `found` the rows of the others, as long as they are held.
fn find<'a>(
    plan: &Plan,
    cache: &'a ItemCache,
    keys: &[i64],
    now: u64,
    picked: Picked<'_>,
    ordered: &mut [u32],
    found: &mut [Option<Found<'a>>],
) {
    let rows = found.len();
    for row in 0..rows.min(SETS_AHEAD) {
        cache.prefetch(plan.kernels, keys[picked.place(row)]);
    }
    let (mut unknown, mut end) = (0, rows);
    for row in 0..rows {
        if row + SETS_AHEAD < rows {
            cache.prefetch(plan.kernels, keys[picked.place(row + SETS_AHEAD)]);
        }
        let candidate = picked.place(row);
        let place = match Some(keys[candidate]).filter(|key| *key != NO_KEY).and_then(|key| cache.find(key, now)) {
            Some(row) => {
                end -= 1;
                row.bytes().chunks(PAGE).for_each(|page| plan.kernels.prefetch(&page[..1]));
                found[end] = Some(row);
                end
            }
            None => {
                unknown += 1;
                unknown - 1
            }
        };
        ordered[place] = candidate as u32;
    }
}

/// The rows of a tile: those that were found, and of `items` the others.
fn rows_of<'a, 'b>(
    item: &ItemRow,
    items: &'a [u8],
    found: &'a [Option<Found<'_>>],
    rows: &'b mut [&'a [u8]],
) -> &'b [&'a [u8]] {
    for ((row, computed), found) in rows.iter_mut().zip(items.chunks(item.bytes)).zip(found) {
        *row = found.as_ref().map_or(computed, Found::bytes);
    }
    &rows[..found.len()]
}

/// Ids of a tile, of the longest row, or of the longest bag.
fn ids(plan: &Plan) -> usize {
    let longest = if plan.has_bags { MAX_BAG } else { plan.longest };
    plan.tile.max(longest)
}

pub fn reserve<T: Clone>(length: usize, value: T) -> Result<Vec<T>, Error> {
    let mut values = Vec::new();
    values.try_reserve_exact(length).map_err(|_| {
        let detail = format!("{length} values of {} bytes cannot be reserved", size_of::<T>());
        Error::new(ErrorKind::OutOfMemory, "scorer", detail)
    })?;
    values.resize(length, value);
    Ok(values)
}
