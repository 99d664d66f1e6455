//! The precision of every dense layer by its measured error: the fastest with which the scores stay within a bound.
//!
//! The errors of parts add up like those of independent sources, so that a choice is a packing problem: each part has one of
//! several types, each saves time and adds a squared error, and the bound is the room. Where the coarsest type does not fit for all,
//! each part is measured alone; parts are made coarser in the order of what a step saves for the squared error that it adds
//! (the greedy method of the multiple-choice knapsack; Sinha and Zoltners, The Multiple-Choice Knapsack Problem, 1979), as far as
//! the bound allows with all of them together, and then whatever else still fits.
//!
//! A part is a layer, or what all layers compute once for all candidates of a request: its error is in all scores and its time
//! counts once, so that it is best left in a finer type than the rest of these layers.

use crate::error::Error;
use crate::model::{Model, OpenOptions, Source};
use crate::ops::Kernels;
use crate::plan::Precision;
use std::collections::BTreeMap;
use std::path::Path;

/// A choice of precisions, and what was measured for it.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// The precision of each dense layer, by the name of its weight tensor. Layers that are not here stay as they are
    /// stored: those whose outputs are logits, and those too deep for integers.
    pub layers: BTreeMap<String, Precision>,
    /// The precision of what layers compute once for all candidates of a request.
    pub shares: Precision,
    /// What each part does alone, in each precision that had to be looked at, all others being in f32.
    pub measured: Vec<Measured>,
    /// The figure of the choice: at most 1.
    pub figure: f64,
    /// How many plans were made and run.
    pub tried: usize,
}

/// One part alone.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The name of the weight tensor; `None` for what all layers compute once for all candidates.
    pub layer: Option<String>,
    /// The precision that it had.
    pub precision: Precision,
    /// Its figure: 1 is the bound.
    pub figure: f64,
    /// Multiply-adds of the part, of one request with 64 candidates.
    pub multiply_adds: usize,
}

/// How many candidates a request is taken to have, where what is done for each is weighed against what is done once.
pub(crate) const CANDIDATES: usize = 64;

impl Tuning {
    /// Chooses precisions for the model at `path`. `run` scores the same sample with every model that it is given, each of
    /// them without the golden check; `figure` compares scores with those of f32, 1 being the bound. Both are called about
    /// four times per layer. `options` opens the models; what it says of precisions is not used.
    ///
    /// # Errors
    /// Those of [`Model::open`] and of `run`.
    pub fn choose(
        path: impl AsRef<Path>,
        options: &OpenOptions,
        run: &mut dyn FnMut(&Model) -> Result<Vec<f32>, Error>,
        figure: &mut dyn FnMut(&[f32], &[f32]) -> f64,
    ) -> Result<Tuning, Error> {
        Self::of(&Source::open(path, options)?, options, run, figure)
    }

    pub(crate) fn of(
        source: &Source,
        options: &OpenOptions,
        run: &mut dyn FnMut(&Model) -> Result<Vec<f32>, Error>,
        figure: &mut dyn FnMut(&[f32], &[f32]) -> f64,
    ) -> Result<Tuning, Error> {
        // What the rows of an item cache round counts; room for rows is not needed.
        let options = &OpenOptions { item_bytes: options.item_bytes.min(1), ..options.clone() };
        let all = OpenOptions { precision: Some(Precision::Int8), shares: None, ..options.clone() };
        let layers = source.model(&all)?.plan().quantized_layers();
        let shared: usize = layers.values().map(|work| work.request).sum();
        let mut parts: Vec<(Option<String>, usize)> =
            layers.into_iter().map(|(name, work)| (Some(name), work.candidate * CANDIDATES)).collect();
        if shared > 0 {
            parts.push((None, shared));
        }
        let types = types(source.kernels);
        let mut search = Search { source, options, run, figure, parts, types, reference: Vec::new(), tried: 0 };
        let finest = vec![0; search.parts.len()];
        search.reference = search.scores(&finest)?;
        let mut coarsest = types.len();
        let is_hopeless = |figure: f64| figure.is_nan() || figure > HOPELESS;
        while coarsest > 1 && is_hopeless(search.figure(&vec![coarsest; finest.len()])?) {
            coarsest -= 1;
        }
        let filled = fill(&mut search, finest, coarsest, 1.0)?;
        let measured = filled.alone.iter().map(|alone| {
            let (layer, multiply_adds) = search.parts[alone.part].clone();
            Measured { layer, precision: search.precision(alone.level), figure: alone.figure, multiply_adds }
        });
        let measured = measured.collect();
        let (layers, shares) = search.named(&filled.levels);
        Ok(Tuning { layers, shares, measured, figure: filled.figure.unwrap_or(0.0), tried: search.tried })
    }
}

/// The types of quantised layers that are worth trying, the finest first. bf16 has ten times the error of int12, and is faster only
/// where int12 takes four products of bytes; there int12 is no faster than int16.
fn types(kernels: &Kernels) -> [Precision; 3] {
    let between = if kernels.has_planes() { Precision::Bf16 } else { Precision::Int12 };
    [Precision::Int16, between, Precision::Int8]
}

/// What share of the time of f32 a layer takes, as it is on AVX-512.
pub(crate) fn time(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 1.0,
        Precision::F16 => 0.98,
        Precision::Int16 => 0.60,
        Precision::Int12 => 0.56,
        Precision::Bf16 => 0.55,
        Precision::Int8 => 0.31,
    }
}

/// How many bounds the error of all parts in one type may be, so that it is worth to look for parts that can have the type: beyond
/// that, only those with a hundredth of the squared error could.
const HOPELESS: f64 = 10.0;

struct Search<'a> {
    source: &'a Source,
    options: &'a OpenOptions,
    run: &'a mut dyn FnMut(&Model) -> Result<Vec<f32>, Error>,
    figure: &'a mut dyn FnMut(&[f32], &[f32]) -> f64,
    /// The names of the layers, and none for the shares, with their multiply-adds.
    parts: Vec<(Option<String>, usize)>,
    types: [Precision; 3],
    reference: Vec<f32>,
    tried: usize,
}

impl Search<'_> {
    fn precision(&self, level: usize) -> Precision {
        if level == 0 { Precision::F32 } else { self.types[level - 1] }
    }

    fn named(&self, levels: &[usize]) -> (BTreeMap<String, Precision>, Precision) {
        let (mut layers, mut shares) = (BTreeMap::new(), Precision::F32);
        for ((layer, _), level) in self.parts.iter().zip(levels) {
            match layer {
                Some(layer) => _ = layers.insert(layer.clone(), self.precision(*level)),
                None => shares = self.precision(*level),
            }
        }
        (layers, shares)
    }

    fn scores(&mut self, levels: &[usize]) -> Result<Vec<f32>, Error> {
        self.tried += 1;
        let (layers, shares) = self.named(levels);
        let options = OpenOptions { precision: None, layers, shares: Some(shares), ..self.options.clone() };
        (self.run)(&self.source.model(&options)?)
    }
}

impl Parts<Error> for Search<'_> {
    fn saving(&self, part: usize, level: usize) -> Option<f64> {
        let saved = time(self.precision(level - 1)) - time(self.precision(level));
        Some(self.parts[part].1 as f64 * saved)
    }

    fn alone(&mut self, part: usize, level: usize, others: usize) -> Result<f64, Error> {
        let mut levels = vec![others; self.parts.len()];
        levels[part] = level;
        self.figure(&levels)
    }

    fn figure(&mut self, levels: &[usize]) -> Result<f64, Error> {
        let scores = self.scores(levels)?;
        Ok((self.figure)(&self.reference, &scores))
    }
}

/// Of how many scores one may have a larger error than [`rare_error`] says.
const ONE_OF: f64 = 1e6;

/// How many times further the tail is followed, because the errors of a request's candidates go together, so that a sample says
/// less than as many independent ones: without it, one score in 200,000 was beyond the bound.
const FURTHER: f64 = 10.0;

/// The error that one score in a million is expected to exceed at most: what a sample shows, and what its tail says of those that
/// it lacks. The `k` largest of `n` errors, `k` being the root of `n`, exceed the next one by `m` on average; tails of that mean
/// fall exponentially (peaks over a threshold; Pickands, Statistical Inference Using Extreme Order Statistics, 1975). The mean of
/// `k` such has a deviation of `m` by the root of `k`, and may be two of those too small:
///
/// ```text
/// threshold + m (1 + 2 / sqrt(k)) ln(10 10^6 k / n)
/// ```
///
/// and no less than the largest. 0 without scores; infinite where a score is not finite.
pub fn rare_error(expected: &[f32], scores: &[f32]) -> f64 {
    let mut errors: Vec<f64> =
        expected.iter().zip(scores).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).collect();
    if errors.iter().any(|error| !error.is_finite()) {
        return f64::INFINITY;
    }
    errors.sort_by(|a, b| b.total_cmp(a));
    let count = errors.len() as f64;
    let above = count.sqrt() as usize;
    let (Some(largest), Some(threshold)) = (errors.first(), errors.get(above)) else {
        return errors.first().copied().unwrap_or(0.0);
    };
    let mean = errors[..above].iter().map(|error| error - threshold).sum::<f64>() / above as f64;
    let mean = mean * (1.0 + 2.0 / (above as f64).sqrt());
    largest.max(threshold + mean * (FURTHER * ONE_OF * above as f64 / count).max(1.0).ln())
}

/// What is to be coarse: each part has a level, 0 being the finest.
pub(crate) trait Parts<E> {
    /// What a level saves over the one before; `None` if they are the same.
    fn saving(&self, part: usize, level: usize) -> Option<f64>;

    /// The figure with one part at a level and all others at one of theirs.
    fn alone(&mut self, part: usize, level: usize, others: usize) -> Result<f64, E>;

    /// The figure with a level for each part.
    fn figure(&mut self, levels: &[usize]) -> Result<f64, E>;
}

/// What [`fill`] found.
pub(crate) struct Filled {
    pub levels: Vec<usize>,
    /// The figure of these levels; `None` if none is above where it started.
    pub figure: Option<f64>,
    /// What was measured alone.
    pub alone: Vec<Alone>,
}

pub(crate) struct Alone {
    pub part: usize,
    pub level: usize,
    pub figure: f64,
}

/// A level of a part after another, which is at the end of the one before.
struct Move {
    part: usize,
    level: usize,
    saving: f64,
    /// What it adds to the squared figure.
    cost: f64,
}

impl Move {
    fn worth(&self) -> f64 {
        self.saving / self.cost.max(f64::MIN_POSITIVE)
    }
}

/// Up to which share of the bound the figure of a level is split among the parts by what they save, not measured alone, and all
/// others may be at that level while one is.
const NEGLIGIBLE: f64 = 0.1;

/// Makes parts coarser, from `levels` up to `coarsest`, so that much is saved while the figure is at most `bound`, which it is
/// taken to be at `levels`.
pub(crate) fn fill<E>(parts: &mut dyn Parts<E>, levels: Vec<usize>, coarsest: usize, bound: f64) -> Result<Filled, E> {
    let mut filled = Filled { levels: levels.clone(), figure: None, alone: Vec::new() };
    let gains = |parts: &dyn Parts<E>, to: &[usize]| -> f64 {
        levels.iter().zip(to).enumerate().map(|(part, (from, to))| saved(parts, part, *from, *to)).sum()
    };
    let all = |level: usize| -> Vec<usize> { levels.iter().map(|start| level.max(*start)).collect() };
    // The figures of all parts at one level.
    let mut together = vec![0.0; coarsest + 1];
    for level in (1..=coarsest).rev() {
        if gains(parts, &all(level)) == 0.0 {
            continue;
        }
        together[level] = parts.figure(&all(level))?;
        if together[level] <= bound && filled.figure.is_none() {
            (filled.levels, filled.figure) = (all(level), Some(together[level]));
            if level == coarsest {
                return Ok(filled);
            }
        }
    }
    let is_negligible = |level: usize| together[level] <= NEGLIGIBLE * bound;
    let others = (1..=coarsest).rev().find(|level| is_negligible(*level)).unwrap_or(0);
    let mut moves = Vec::new();
    for (part, start) in levels.iter().enumerate() {
        let mut squares = vec![f64::INFINITY; coarsest + 1];
        for level in *start..=coarsest {
            squares[level] = if level == 0 {
                0.0
            } else if level > *start && parts.saving(part, level).is_none() {
                squares[level - 1]
            } else if level > *start && is_negligible(level) {
                together[level].powi(2) * saved(parts, part, *start, level) / gains(parts, &all(level))
            } else if level > *start + 1 && squares[level - 1] > bound.powi(2) {
                f64::INFINITY
            } else {
                let figure = parts.alone(part, level, others)?;
                filled.alone.push(Alone { part, level, figure });
                if figure.is_nan() { f64::INFINITY } else { figure.powi(2) }
            };
        }
        moves.extend(steps(parts, part, *start, &squares));
    }
    moves.sort_by(|a: &Move, b| b.worth().total_cmp(&a.worth()));
    let with = |moves: &[Move]| {
        let mut levels = levels.clone();
        moves.iter().for_each(|of| levels[of.part] = of.level);
        levels
    };
    let (mut accepted, mut refused, mut figure) = (0, moves.len() + 1, None);
    while accepted + 1 < refused {
        let middle = accepted.midpoint(refused);
        let found = parts.figure(&with(&moves[..middle]))?;
        if found <= bound { (accepted, figure) = (middle, Some(found)) } else { refused = middle }
    }
    let mut found = with(&moves[..accepted]);
    let mut rest = moves.split_off(accepted);
    rest.sort_by(|a, b| b.saving.total_cmp(&a.saving));
    for of in rest {
        let is_likely = figure.unwrap_or(0.0).powi(2) + of.cost <= bound.powi(2);
        if !is_likely || found[of.part] >= of.level {
            continue;
        }
        let before = std::mem::replace(&mut found[of.part], of.level);
        let tried = parts.figure(&found)?;
        if tried <= bound { figure = Some(tried) } else { found[of.part] = before }
    }
    if gains(parts, &found) > gains(parts, &filled.levels) {
        (filled.levels, filled.figure) = (found, figure);
    }
    Ok(filled)
}

/// What a level of a part saves over another.
fn saved<E>(parts: &dyn Parts<E>, part: usize, from: usize, to: usize) -> f64 {
    (from + 1..=to).filter_map(|level| parts.saving(part, level)).sum()
}

/// The levels of a part that are worth it, each by what it saves and costs after the one before: of those that are left, always the
/// one that saves most for its cost.
fn steps<E>(parts: &dyn Parts<E>, part: usize, start: usize, squares: &[f64]) -> Vec<Move> {
    let (mut moves, mut from) = (Vec::new(), start);
    loop {
        let later = (from + 1..squares.len()).filter(|level| squares[*level].is_finite());
        let reached = later.map(|level| Move {
            part,
            level,
            saving: saved(parts, part, from, level),
            cost: (squares[level] - squares[from]).max(0.0),
        });
        let best = reached.filter(|of| of.saving > 0.0).max_by(|a, b| a.worth().total_cmp(&b.worth()));
        let Some(best) = best else { return moves };
        from = best.level;
        moves.push(best);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_errors_are_those_of_the_tail() {
        let zeros = vec![0.0; 4096];
        let mut random = fastrand::Rng::with_seed(1);
        let exponential: Vec<f32> = (0..4096).map(|_| -(1.0 - random.f32()).ln()).collect();
        let (expected, found) = (ONE_OF.ln(), rare_error(&zeros, &exponential));
        assert!((1.0..1.5).contains(&(found / expected)), "{found}, of exponential errors {expected}");
        let uniform: Vec<f32> = (0..4096).map(|place| place as f32 / 4096.0).collect();
        assert!((1.0..1.2).contains(&rare_error(&zeros, &uniform)));
        assert_eq!(rare_error(&zeros, &[0.5; 100]), 0.5, "all alike");
        assert_eq!(rare_error(&zeros, &[0.5]), 0.5);
        assert_eq!(rare_error(&[], &[]), 0.0);
        assert_eq!(rare_error(&zeros, &[0.0, f32::NAN]), f64::INFINITY);
    }

    /// Parts whose errors add up in squares: of each its errors by level, and what it saves.
    struct Squares {
        parts: Vec<(Vec<f64>, f64)>,
        tried: usize,
    }

    impl Parts<()> for Squares {
        fn saving(&self, part: usize, level: usize) -> Option<f64> {
            let (errors, saving) = &self.parts[part];
            let before = if level == 1 { 0.0 } else { errors[level - 2] };
            (errors[level - 1] != before).then_some(*saving)
        }

        fn alone(&mut self, part: usize, level: usize, others: usize) -> Result<f64, ()> {
            let mut levels = vec![others; self.parts.len()];
            levels[part] = level;
            self.figure(&levels)
        }

        fn figure(&mut self, levels: &[usize]) -> Result<f64, ()> {
            self.tried += 1;
            let error =
                |((errors, _), level): (&(Vec<f64>, f64), &usize)| if *level == 0 { 0.0 } else { errors[level - 1] };
            Ok(self.parts.iter().zip(levels).map(error).map(|error| error * error).sum::<f64>().sqrt())
        }
    }

    fn filled(parts: &[(&[f64], f64)], start: &[usize]) -> (Vec<usize>, Option<f64>) {
        let parts = parts.iter().map(|(errors, saving)| (errors.to_vec(), *saving)).collect();
        let mut squares = Squares { parts, tried: 0 };
        let found = fill(&mut squares, start.to_vec(), 3, 1.0).unwrap();
        assert!(squares.figure(&found.levels).unwrap() <= 1.0);
        if let Some(figure) = found.figure {
            assert_eq!(squares.figure(&found.levels), Ok(figure));
        }
        (found.levels, found.figure)
    }

    #[test]
    fn each_part_goes_as_far_as_the_bound_allows() {
        let small: &[f64] = &[0.01, 0.02, 0.1];
        let large: &[f64] = &[0.1, 0.8, 2.0];
        assert_eq!(filled(&[(small, 1.0), (small, 1.0)], &[0, 0]).0, [3, 3]);
        assert_eq!(filled(&[(small, 1.0), (large, 1.0)], &[0, 0]).0, [3, 2]);
        assert_eq!(
            filled(&[(large, 1.0), (small, 1.0), (large, 9.0)], &[0, 0, 0]).0,
            [1, 3, 2],
            "the one that saves more"
        );
        assert_eq!(filled(&[(&[5.0, 6.0, 7.0], 1.0), (small, 1.0)], &[0, 0]).0, [0, 3]);
        let parts: [(&[f64], f64); 3] = [(&[0.6, 5.0, 5.0], 1.0), (&[0.9, 5.0, 5.0], 1.2), (&[0.7, 5.0, 5.0], 0.5)];
        assert_eq!(
            filled(&parts, &[0, 0, 0]).0,
            [1, 0, 1],
            "what fits beside the first, though it saves less for its error"
        );
        assert_eq!(filled(&[(&[f64::NAN; 3], 1.0)], &[0]), (vec![0], None));
        assert_eq!(filled(&[], &[]), (vec![], None));
    }

    #[test]
    fn a_part_stays_finer_where_another_saves_more() {
        let errors: &[f64] = &[0.1, 0.6, 0.9];
        assert_eq!(filled(&[(errors, 10.0), (errors, 1.0)], &[0, 0]).0, [3, 1], "not level 2 for both, which fits");
        let sudden: &[f64] = &[0.7, 0.71, 0.72];
        assert_eq!(filled(&[(sudden, 1.0), (&[0.1, 2.0, 3.0], 1.0)], &[0, 0]).0, [3, 1]);
    }

    #[test]
    fn levels_that_are_the_same_cost_nothing_and_starts_are_kept() {
        let skips: &[f64] = &[0.1, 0.1, 0.2];
        assert_eq!(filled(&[(skips, 1.0), (&[0.0, 0.0, 0.5], 1.0)], &[0, 0]).0, [3, 3]);
        assert_eq!(filled(&[(&[0.1, 0.2, 5.0], 1.0), (&[0.1, 0.2, 0.3], 1.0)], &[2, 0]).0, [2, 3]);
    }
}
