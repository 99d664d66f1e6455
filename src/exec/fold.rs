//! Values of the model and of scenarios, kept where scorers read them.
//!
//! The values of the model are computed at open, and shared. Those of the scenarios too, if all of them fit into the budget of
//! [`crate::OpenOptions::scenario_bytes`]. If not, each scorer computes a scenario's values on first use and keeps as many
//! scenarios as fit into that budget, the most recently used ones: so no scorer waits for another.

use super::run::{Scratch, Sources, reserve};
use crate::error::Error;
use crate::format::Store;
use crate::plan::{Plan, Regions};
use crate::request::Slot;

/// What a model keeps for its scorers.
#[derive(Default)]
pub struct KeptValues {
    model_inputs: Vec<f32>,
    model_rest: Vec<f32>,
    /// One scenario row after the other; empty if they do not fit into the budget.
    scenarios: Vec<f32>,
    /// Scenarios that a scorer may keep, where the model does not.
    room: Option<usize>,
    /// Scenarios that own rows.
    rows: usize,
}

impl KeptValues {
    /// What keeps nothing: a scorer then computes all in its own memory.
    pub fn none() -> Self {
        KeptValues { room: Some(0), ..KeptValues::default() }
    }

    /// Computes the values of the model, and those of `rows` scenarios if they fit into `budget` bytes.
    ///
    /// # Errors
    /// `OutOfMemory` if they cannot be reserved.
    pub fn compute(plan: &Plan, store: &Store, slots: &[Slot], rows: usize, budget: usize) -> Result<Self, Error> {
        let Regions { model_inputs, model_rest, scenario_inputs, scenario_matrices, .. } = &plan.regions;
        let building = KeptValues::none();
        let sources = Sources { plan, store, slots, kept: &building, items: None };
        let mut scratch = Scratch::new(&sources)?;
        scratch.open(&sources);
        let mut kept = KeptValues {
            model_inputs: scratch.values(model_inputs.clone()).to_vec(),
            model_rest: scratch.values(model_rest.clone()).to_vec(),
            rows,
            ..KeptValues::default()
        };
        let per_scenario = plan.regions.per_scenario();
        let fitting = budget / size_of::<f32>() / per_scenario.max(1);
        if fitting < rows && per_scenario > 0 {
            kept.room = Some(fitting);
            return Ok(kept);
        }
        kept.scenarios = reserve(rows * per_scenario, 0.0)?;
        for (row, values) in kept.scenarios.chunks_exact_mut(per_scenario.max(1)).enumerate() {
            scratch.fold(&sources, row);
            let (inputs, matrices) = values.split_at_mut(scenario_inputs.len());
            inputs.copy_from_slice(scratch.values(scenario_inputs.clone()));
            matrices.copy_from_slice(scratch.values(scenario_matrices.clone()));
        }
        Ok(kept)
    }

    /// f32 of memory that a scorer needs.
    pub fn scratch_length(&self, plan: &Plan) -> usize {
        if self.room.is_some() { plan.regions.whole } else { plan.regions.scoring }
    }

    /// Scenarios that each scorer keeps; 0 where the model keeps them all.
    pub fn room(&self) -> usize {
        self.room.unwrap_or(0)
    }

    /// Room for what a scorer keeps.
    ///
    /// # Errors
    /// `OutOfMemory` if it cannot be reserved.
    pub fn folded(&self, plan: &Plan) -> Result<Folded, Error> {
        Folded::new(self.room(), plan.regions.per_scenario(), if self.room() > 0 { self.rows } else { 0 })
    }

    /// Bytes of what a scorer keeps.
    pub fn folded_bytes(&self, plan: &Plan) -> usize {
        match self.room() {
            0 => 0,
            room => {
                let each = plan.regions.per_scenario() * size_of::<f32>() + size_of::<Option<(usize, u64)>>();
                room * each + self.rows * size_of::<Option<usize>>()
            }
        }
    }

    /// Bytes kept for all scenarios together.
    pub fn scenario_bytes(&self) -> usize {
        size_of_val(self.scenarios.as_slice())
    }

    /// Whether the model keeps the values of all scenarios.
    pub fn is_complete(&self) -> bool {
        self.room.is_none()
    }

    /// Model values that are not in the memory of every scorer.
    pub fn model_rest(&self) -> &[f32] {
        &self.model_rest
    }

    /// The values of a scenario row, inputs first; `None` if the model does not keep them.
    pub fn scenario(&self, regions: &Regions, row: usize) -> Option<&[f32]> {
        let length = regions.per_scenario();
        if self.room.is_some() { None } else { self.scenarios.get(row * length..(row + 1) * length) }
    }

    /// Writes the model values to the memory of a scorer.
    pub fn copy_model(&self, plan: &Plan, memory: &mut [f32]) {
        let Regions { model_inputs, model_rest, .. } = &plan.regions;
        if !self.model_inputs.is_empty() {
            memory[model_inputs.clone()].copy_from_slice(&self.model_inputs);
        }
        if self.room.is_some() && !self.model_rest.is_empty() {
            memory[model_rest.clone()].copy_from_slice(&self.model_rest);
        }
    }
}

/// The values of the scenarios that one scorer used last.
pub struct Folded {
    values: Vec<f32>,
    /// The scenario row of each place, and when it was last used; `None`: unused.
    places: Vec<Option<(usize, u64)>>,
    /// The place of each scenario row: a look-up on the way of every call.
    place_of: Vec<Option<usize>>,
    per_scenario: usize,
    clock: u64,
}

impl Folded {
    /// Room for `places` scenarios of `per_scenario` f32, out of `rows`.
    ///
    /// # Errors
    /// `OutOfMemory` if it cannot be reserved.
    fn new(places: usize, per_scenario: usize, rows: usize) -> Result<Self, Error> {
        let values = reserve(places * per_scenario, 0.0)?;
        let (places, place_of) = (reserve(places, None)?, reserve(rows, None)?);
        Ok(Self { values, places, place_of, per_scenario, clock: 0 })
    }

    /// The values of a scenario, if they are kept; they count as used.
    pub fn find(&mut self, scenario: usize) -> Option<&[f32]> {
        self.clock += 1;
        let place = (*self.place_of.get(scenario)?)?;
        self.places[place] = Some((scenario, self.clock));
        self.known(scenario)
    }

    /// The values of a scenario, if they are kept.
    pub fn known(&self, scenario: usize) -> Option<&[f32]> {
        let place = (*self.place_of.get(scenario)?)?;
        Some(&self.values[place * self.per_scenario..(place + 1) * self.per_scenario])
    }

    /// Keeps the values of a scenario, in the place of the one that was used longest ago.
    pub fn store(&mut self, scenario: usize, inputs: &[f32], matrices: &[f32]) {
        self.clock += 1;
        let oldest = |place: &(usize, &mut Option<(usize, u64)>)| place.1.map_or(0, |(_, used)| used);
        let Some((place, entry)) = self.places.iter_mut().enumerate().min_by_key(oldest) else { return };
        if let Some((evicted, _)) = entry.replace((scenario, self.clock)) {
            self.place_of[evicted] = None;
        }
        self.place_of[scenario] = Some(place);
        let values = &mut self.values[place * self.per_scenario..(place + 1) * self.per_scenario];
        values[..inputs.len()].copy_from_slice(inputs);
        values[inputs.len()..].copy_from_slice(matrices);
    }
}

#[cfg(test)]
mod tests {
    use super::Folded;

    #[test]
    fn the_scenario_used_longest_ago_makes_room() {
        let mut folded = Folded::new(2, 2, 10).expect("memory");
        folded.store(7, &[7.0], &[0.7]);
        folded.store(8, &[8.0], &[0.8]);
        assert_eq!(folded.find(7), Some(&[7.0, 0.7][..]));
        folded.store(9, &[9.0], &[0.9]);
        assert_eq!(folded.find(8), None);
        assert_eq!(folded.find(7), Some(&[7.0, 0.7][..]));
        assert_eq!(folded.find(9), Some(&[9.0, 0.9][..]));
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let mut folded = Folded::new(0, 3, 10).expect("memory");
        folded.store(1, &[1.0], &[2.0, 3.0]);
        assert_eq!(folded.find(1), None);
    }
}
