//! A scorer: one thread's scratch over a shared model.

use crate::error::{Error, ErrorKind, Fault, Subject};
use crate::exec::{Call, Counters, Crew, Scratch};
use crate::model::Inner;
use crate::pool::Pool;
use crate::request::{Column, ITEM_KEY};
use std::sync::Arc;
use std::time::Duration;

/// Scores requests on the caller's thread. One per thread: `Send`, with `&mut` calls.
///
/// `prepare` once per request, then `score` as often as wanted. Neither allocates, locks, or makes a thread. A scorer of
/// [`crate::Model::parallel_scorer`] lets the threads of a pool help its caller's.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use polyscore::{Column, Model, OpenOptions, Values};
///
/// let model = Model::open("ranker.safetensors", &OpenOptions::default())?;
/// let (age, ad) = (model.feature("age").ok_or("no age")?, model.feature("ad_id").ok_or("no ad")?);
/// let mut scorer = model.scorer()?;
/// scorer.prepare(model.scenario("feed"), &[Column { feature: age, values: Values::F32(&[31.0]), row_offsets: None }])?;
/// let mut scores = [0.0; 3];
/// let ads = Column { feature: ad, values: Values::I64(&[7, 8, 9]), row_offsets: None };
/// scorer.score(3, &[ads], Some(&[0]), &mut scores)?;
/// # Ok(())
/// # }
/// ```
pub struct Scorer {
    inner: Arc<Inner>,
    scratch: Scratch,
    /// The threads that share its calls.
    crew: Option<Crew>,
    /// The scenario row of the prepared request.
    prepared: Option<usize>,
}

impl Scorer {
    pub(crate) fn new(inner: Arc<Inner>, pool: Option<&Pool>) -> Result<Self, Error> {
        let sources = inner.sources();
        let scratch = Scratch::new(&sources)?;
        let crew = pool.map(|pool| Crew::new(&sources, pool.clone())).transpose()?;
        Ok(Self { inner, scratch, crew, prepared: None })
    }

    /// Takes a request: `scenario` by its index, and the request columns of one row each.
    ///
    /// A scenario that is not given or not known uses the fallback scenario, and is counted.
    ///
    /// # Errors
    /// The first column that breaks a rule. The scorer is then unprepared: no request is scored with another's values.
    pub fn prepare(&mut self, scenario: Option<u32>, columns: &[Column<'_>]) -> Result<(), Fault> {
        self.prepared = None;
        let row = self.inner.scenario_row(scenario);
        self.scratch.prepare(&self.inner.sources(), row, columns)?;
        self.scratch.counters.unknown_scenarios += u64::from(self.inner.is_unknown(scenario));
        self.prepared = Some(row);
        Ok(())
    }

    /// Scores `candidates` candidates for the tasks asked for: by index, `None` for all.
    ///
    /// `out[t * candidates + i]` becomes the probability of candidate `i` for the `t`-th task asked for; more of `out` than
    /// that is not touched. Only what these tasks need is computed.
    ///
    /// # Errors
    /// `NotPrepared`, `UnknownTask`, `DuplicateTask`, `BufferTooSmall`, or the first column that breaks a rule; of a parallel
    /// scorer also `Executor`, if the host's executor broke its contract, `OutOfMemory`, or `Internal`. `out` is not written
    /// then.
    pub fn score(
        &mut self,
        candidates: usize,
        columns: &[Column<'_>],
        tasks: Option<&[u32]>,
        out: &mut [f32],
    ) -> Result<(), Fault> {
        let row = self.prepared.ok_or(Fault::new(ErrorKind::NotPrepared, Subject::Call))?;
        let mut call = self.inner.call(candidates, columns, 1, tasks, out)?;
        let (scratch, sources) = (&mut self.scratch, self.inner.sources());
        match &mut self.crew {
            Some(crew) => crew.score(scratch, &sources, row, &mut call),
            None => scratch.score(&sources, row, &mut call),
        }
    }

    /// Scores `candidates` candidates, each for a scenario of its own: `scenarios[i]`, by index. One that is not known uses the
    /// fallback scenario, and is counted. `out` is as for [`Scorer::score`]; the scenario of the request stays.
    ///
    /// # Errors
    /// As [`Scorer::score`]; `ColumnLength` if there are not as many scenarios as candidates, `InvalidArgument` if there are
    /// more than 2^32 - 1.
    pub fn score_mixed(
        &mut self,
        candidates: usize,
        scenarios: &[u32],
        columns: &[Column<'_>],
        tasks: Option<&[u32]>,
        out: &mut [f32],
    ) -> Result<(), Fault> {
        self.prepared.ok_or(Fault::new(ErrorKind::NotPrepared, Subject::Call))?;
        if scenarios.len() != candidates {
            return Err(Fault::new(ErrorKind::ColumnLength, Subject::Call));
        }
        if u32::try_from(candidates).is_err() {
            return Err(Fault::new(ErrorKind::InvalidArgument, Subject::Call));
        }
        let inner = &self.inner;
        let mut call = inner.call(candidates, columns, 1, tasks, out)?;
        let row = |candidate: usize| inner.scenario_row(Some(scenarios[candidate]));
        match &mut self.crew {
            Some(crew) => crew.score_mixed(&mut self.scratch, &inner.sources(), row, &mut call)?,
            None => self.scratch.score_mixed(&inner.sources(), row, &mut call)?,
        }
        self.count_unknown(scenarios);
        Ok(())
    }

    /// Scores every candidate for every one of `scenarios`, by index: `out[(s * tasks + t) * candidates + i]`. What does not
    /// depend on the scenario is computed once per candidate; the scenario of the request stays.
    ///
    /// A scenario that is not known uses the fallback scenario, and is counted once.
    ///
    /// # Errors
    /// As [`Scorer::score`].
    pub fn score_each(
        &mut self,
        candidates: usize,
        scenarios: &[u32],
        columns: &[Column<'_>],
        tasks: Option<&[u32]>,
        out: &mut [f32],
    ) -> Result<(), Fault> {
        self.prepared.ok_or(Fault::new(ErrorKind::NotPrepared, Subject::Call))?;
        let inner = &self.inner;
        let mut call = inner.call(candidates, columns, scenarios.len(), tasks, out)?;
        let rows = scenarios.iter().map(|scenario| inner.scenario_row(Some(*scenario)));
        match &mut self.crew {
            Some(crew) => crew.score_each(&mut self.scratch, &inner.sources(), rows, &mut call)?,
            None => self.scratch.score_each(&inner.sources(), rows, &mut call)?,
        }
        self.count_unknown(scenarios);
        Ok(())
    }

    fn count_unknown(&mut self, scenarios: &[u32]) {
        let unknown = scenarios.iter().filter(|scenario| self.inner.is_unknown(Some(**scenario))).count();
        self.scratch.counters.unknown_scenarios += unknown as u64;
    }

    /// Forgets the prepared request: `score` then needs another `prepare`.
    #[cfg(feature = "capi")]
    pub(crate) fn forget(&mut self) {
        self.prepared = None;
    }

    /// What the scorer has seen since it was made.
    pub fn counters(&self) -> &Counters {
        &self.scratch.counters
    }

    /// Begins to measure the time of each step, on all threads together, which costs a clock reading per step and tile.
    pub fn start_profile(&mut self) {
        let steps = self.inner.sources().plan.steps().count();
        self.scratch.profile = vec![Duration::ZERO; steps];
        if let Some(crew) = &mut self.crew {
            crew.start_profile(steps);
        }
    }

    /// The time spent in each step of the plan since [`Scorer::start_profile`]; empty before it.
    pub fn profile(&self) -> &[Duration] {
        &self.scratch.profile
    }

    /// The fault of a call of this scorer as a message with names.
    pub fn explain(&self, fault: Fault) -> Error {
        self.inner.explain(fault)
    }
}

impl Inner {
    /// A fault as a message with names.
    pub fn explain(&self, fault: Fault) -> Error {
        let description = &self.description;
        let subject = match fault.subject {
            Subject::Call => "call".to_owned(),
            Subject::Feature(ITEM_KEY) => "item keys".to_owned(),
            Subject::Feature(slot) => {
                let feature = description.features.get(slot as usize);
                feature.map_or_else(|| format!("feature {slot}"), |feature| format!("feature `{}`", feature.name))
            }
            Subject::Task(index) => {
                let task = description.tasks.get(index as usize);
                task.map_or_else(|| format!("task {index}"), |task| format!("task `{}`", task.name))
            }
            Subject::Column(position) => format!("column {position}"),
        };
        Error::new(fault.kind, subject, fault.kind.meaning())
    }

    /// The row of a scenario in the tensors: its own, or that of its fallback, or of the model's.
    pub fn scenario_row(&self, scenario: Option<u32>) -> usize {
        let description = &self.description;
        let find = |index: u32| description.scenarios.get(index as usize);
        let known = scenario.and_then(find).or_else(|| description.fallback_scenario.and_then(find));
        known.map_or(0, |scenario| scenario.row as usize)
    }

    /// Whether a scenario goes to the model's fallback.
    fn is_unknown(&self, scenario: Option<u32>) -> bool {
        let scenarios = &self.description.scenarios;
        !scenarios.is_empty() && scenario.is_none_or(|index| index as usize >= scenarios.len())
    }

    /// A call with as much of `out` as it writes: for each of `repeats`, tasks x candidates.
    fn call<'a>(
        &self,
        candidates: usize,
        columns: &'a [Column<'a>],
        repeats: usize,
        tasks: Option<&'a [u32]>,
        out: &'a mut [f32],
    ) -> Result<Call<'a, impl Iterator<Item = usize> + Clone + use<'a>, &'a mut [f32]>, Fault> {
        let known = self.description.tasks.len();
        let asked = match tasks {
            None => known,
            Some(tasks) => {
                let mut seen = 0u64;
                for task in tasks {
                    if *task as usize >= known {
                        return Err(Fault::new(ErrorKind::UnknownTask, Subject::Task(*task)));
                    }
                    if seen >> task & 1 == 1 {
                        return Err(Fault::new(ErrorKind::DuplicateTask, Subject::Task(*task)));
                    }
                    seen |= 1 << task;
                }
                tasks.len()
            }
        };
        let length = candidates.checked_mul(asked).and_then(|length| length.checked_mul(repeats));
        let out = length
            .and_then(|length| out.get_mut(..length))
            .ok_or(Fault::new(ErrorKind::BufferTooSmall, Subject::Call))?;
        let tasks = (0..asked).map(move |position| tasks.map_or(position, |tasks| tasks[position] as usize));
        Ok(Call { candidates, columns, tasks, out })
    }
}
