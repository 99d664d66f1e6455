//! One call on several threads: the candidates in pieces, each computed in the scratch of the thread that takes it.
//!
//! The scorer's own scratch holds what the request decided. It is only read during a call; a thread copies from it, once per
//! request and scenario, what candidate steps read. Steps, kernels and their order are those of a serial call, and a row has
//! the same bits in any piece, so the scores have too.
//!
//! Scores go to a buffer of the crew's and from there to the caller's when all pieces are done: nothing is written if one
//! fails. That buffer grows with the largest call, which is all that is allocated here.

use super::run::{Call, Scores, Scratch, Sources};
use crate::error::{Error, ErrorKind, Fault, Subject};
use crate::pool::Pool;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// The least work of a piece in multiply-adds, so that it is worth waking a thread for.
const LEAST_WORK: usize = 1 << 20;

/// The fewest candidates of a piece: with fewer, the weights are read too often.
const FEWEST: usize = 32;

/// The threads of a scorer, with the scratch of each.
pub struct Crew {
    pool: Pool,
    members: Vec<Mutex<Scratch>>,
    scores: Vec<AtomicU32>,
    /// The fewest candidates of a piece for this model.
    fewest: usize,
}

impl Scores for &[AtomicU32] {
    fn write(&mut self, place: usize, score: f32) {
        self[place].store(score.to_bits(), Ordering::Relaxed);
    }
}

impl Crew {
    /// # Errors
    /// `OutOfMemory` if the scratch of its threads cannot be reserved.
    pub fn new(sources: &Sources<'_>, pool: Pool) -> Result<Self, Error> {
        let member = |_| Scratch::new(sources).map(Mutex::new);
        let members = (0..pool.threads()).map(member).collect::<Result<_, Error>>()?;
        let [.., per_candidate] = sources.plan.multiply_adds();
        let fewest = LEAST_WORK.div_ceil(per_candidate.max(1)).max(FEWEST);
        Ok(Self { pool, members, scores: Vec::new(), fewest })
    }

    /// As [`Scratch::score`], in pieces.
    pub fn score<T: Iterator<Item = usize> + Clone + Sync>(
        &mut self,
        main: &mut Scratch,
        sources: &Sources<'_>,
        scenario: usize,
        call: &mut Call<'_, T, &mut [f32]>,
    ) -> Result<(), Fault> {
        let Some(piece) = self.piece(call.candidates, self.fewest, sources.plan.tile()) else {
            return main.score(sources, scenario, call);
        };
        main.begin(sources, call)?;
        if call.out.is_empty() {
            return Ok(());
        }
        main.change(sources, scenario);
        self.run(main, sources, call, piece, |scratch, call, range| scratch.tiles(sources, call, range))?;
        main.counters.candidates += call.candidates as u64;
        Ok(())
    }

    /// As [`Scratch::score_mixed`], in one piece for each thread: in a smaller one, a scenario would have few candidates.
    pub fn score_mixed<T: Iterator<Item = usize> + Clone + Sync>(
        &mut self,
        main: &mut Scratch,
        sources: &Sources<'_>,
        scenario: impl Fn(usize) -> usize + Sync,
        call: &mut Call<'_, T, &mut [f32]>,
    ) -> Result<(), Fault> {
        let Some(piece) = self.piece(call.candidates, self.fewest, usize::MAX) else {
            return main.score_mixed(sources, scenario, call);
        };
        main.begin(sources, call)?;
        if call.out.is_empty() {
            return Ok(());
        }
        let scenario = &scenario;
        self.run(main, sources, call, piece, |scratch, call, range| {
            scratch.tiles_mixed(sources, scenario, call, range);
        })?;
        main.counters.candidates += call.candidates as u64;
        Ok(())
    }

    /// As [`Scratch::score_each`], in pieces.
    pub fn score_each<T: Iterator<Item = usize> + Clone + Sync>(
        &mut self,
        main: &mut Scratch,
        sources: &Sources<'_>,
        scenarios: impl ExactSizeIterator<Item = usize> + Clone + Sync,
        call: &mut Call<'_, T, &mut [f32]>,
    ) -> Result<(), Fault> {
        let fewest = self.fewest.div_ceil(scenarios.len().max(1)).max(FEWEST);
        let Some(piece) = self.piece(call.candidates, fewest, sources.plan.tile()) else {
            return main.score_each(sources, scenarios, call);
        };
        main.begin(sources, call)?;
        if call.out.is_empty() {
            return Ok(());
        }
        let each = scenarios.clone();
        self.run(main, sources, call, piece, |scratch, call, range| {
            scratch.tiles_each(sources, each.clone(), call, range);
        })?;
        main.counters.candidates += (call.candidates * scenarios.len()) as u64;
        Ok(())
    }

    /// Begins to measure the time of each step on every thread.
    pub fn start_profile(&mut self, steps: usize) {
        for member in &mut self.members {
            let scratch = member.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
            scratch.profile = vec![Duration::ZERO; steps];
        }
    }

    /// Candidates of a piece: at most `most`, but at least `fewest`, and all threads get as many, so that none is left alone
    /// with the last. `None` if there are not enough for two pieces.
    fn piece(&self, candidates: usize, fewest: usize, most: usize) -> Option<usize> {
        let threads = self.members.len();
        if threads == 1 || candidates < 2 * fewest {
            return None;
        }
        let pieces = candidates.div_ceil(most).checked_next_multiple_of(threads)?;
        Some(candidates.div_ceil(pieces).max(fewest))
    }

    fn run<T: Iterator<Item = usize> + Clone + Sync>(
        &mut self,
        main: &mut Scratch,
        sources: &Sources<'_>,
        call: &mut Call<'_, T, &mut [f32]>,
        piece: usize,
        work: impl Fn(&mut Scratch, &mut Call<'_, T, &[AtomicU32]>, Range<usize>) + Sync,
    ) -> Result<(), Fault> {
        let Call { candidates, columns, ref tasks, .. } = *call;
        let missing = call.out.len().saturating_sub(self.scores.len());
        self.scores.try_reserve(missing).map_err(|_| Fault::new(ErrorKind::OutOfMemory, Subject::Call))?;
        self.scores.extend((0..missing).map(|_| AtomicU32::new(0)));
        let scores = &self.scores[..call.out.len()];
        let (members, from) = (&self.members, &*main);
        let done = self.pool.divide(candidates.div_ceil(piece), &|worker, number| {
            let mut scratch = scratch(&members[worker], sources);
            scratch.adopt(from, sources);
            let range = number * piece..candidates.min((number + 1) * piece);
            work(&mut scratch, &mut Call { candidates, columns, tasks: tasks.clone(), out: scores }, range);
        });
        for member in members {
            let mut member = scratch(member, sources);
            main.counters.add(&mut member.counters);
            for (sum, time) in main.profile.iter_mut().zip(&mut member.profile) {
                *sum += std::mem::take(time);
            }
        }
        done?;
        for (out, score) in call.out.iter_mut().zip(scores) {
            *out = f32::from_bits(score.load(Ordering::Relaxed));
        }
        Ok(())
    }
}

/// The scratch of a thread: a new one after a panic, if there is memory for it.
fn scratch<'a>(member: &'a Mutex<Scratch>, sources: &Sources<'_>) -> MutexGuard<'a, Scratch> {
    member.lock().unwrap_or_else(|poisoned| {
        let mut scratch = poisoned.into_inner();
        if let Ok(new) = Scratch::new(sources) {
            *scratch = new;
            member.clear_poison();
        }
        scratch
    })
}
