//! The precision of every dense layer by its measured error: the fastest with which the scores stay within a bound.
//!
//! The errors of layers add up like those of independent sources, so that a choice is a packing problem: which layers may be
//! in int16 while the others are in f32, which of those in bf16, where the CPU multiplies that, and which of those in int8. Where
//! not all of them may, each is measured alone; then as many as the bound allows are taken, those first that save most work for
//! their squared error, and of the others, those first that save most, each that the bound still allows. It is checked with all of
//! them together.

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
    /// What each layer does alone, in the coarsest precision that was tried for it, all others being in f32.
    pub measured: Vec<Measured>,
    /// The figure of the choice: at most 1.
    pub figure: f64,
    /// How many plans were made and run.
    pub tried: usize,
}

/// One layer alone.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The name of the weight tensor.
    pub layer: String,
    /// The precision that it had.
    pub precision: Precision,
    /// Its figure: 1 is the bound.
    pub figure: f64,
    /// Multiply-adds of the layer, of one request with one candidate.
    pub multiply_adds: usize,
}

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
        let coarsest = source.model(&OpenOptions { precision: Some(Precision::Int8), ..options.clone() })?;
        let layers: Vec<(String, usize)> = coarsest.plan().quantized_layers().into_iter().collect();
        let precisions = slowest_first(source.kernels);
        let mut search = Search { source, options, run, figure, layers, precisions, reference: Vec::new(), tried: 0 };
        let finest = vec![0; search.layers.len()];
        search.reference = search.scores(&finest)?;
        let filled = fill(&mut search, finest, precisions.len(), 1.0)?;
        let measured = filled.alone.iter().map(|alone| {
            let (layer, multiply_adds) = search.layers[alone.part].clone();
            Measured { layer, precision: precisions[alone.level - 1], figure: alone.figure, multiply_adds }
        });
        Ok(Tuning {
            measured: measured.collect(),
            layers: search.named(&filled.levels),
            figure: filled.figure.unwrap_or(0.0),
            tried: search.tried,
        })
    }
}

/// The types of quantised layers that are worth trying, each faster than the one before. int12 is no faster than int16; pairs of
/// bf16 are faster than both where an instruction multiplies them.
fn slowest_first(kernels: &Kernels) -> &'static [Precision] {
    match kernels.fuses_pairs() {
        true => &[Precision::Int16, Precision::Bf16, Precision::Int8],
        false => &[Precision::Int16, Precision::Int8],
    }
}

struct Search<'a> {
    source: &'a Source,
    options: &'a OpenOptions,
    run: &'a mut dyn FnMut(&Model) -> Result<Vec<f32>, Error>,
    figure: &'a mut dyn FnMut(&[f32], &[f32]) -> f64,
    /// The names of the layers, with their multiply-adds.
    layers: Vec<(String, usize)>,
    precisions: &'static [Precision],
    reference: Vec<f32>,
    tried: usize,
}

impl Search<'_> {
    fn named(&self, levels: &[usize]) -> BTreeMap<String, Precision> {
        let precision = |level: usize| if level == 0 { Precision::F32 } else { self.precisions[level - 1] };
        self.layers.iter().zip(levels).map(|((layer, _), level)| (layer.clone(), precision(*level))).collect()
    }

    fn scores(&mut self, levels: &[usize]) -> Result<Vec<f32>, Error> {
        self.tried += 1;
        let options = OpenOptions { precision: None, layers: self.named(levels), ..self.options.clone() };
        (self.run)(&self.source.model(&options)?)
    }
}

impl Parts<Error> for Search<'_> {
    fn saving(&self, part: usize, _level: usize) -> Option<f64> {
        Some(self.layers[part].1 as f64)
    }

    fn alone(&mut self, part: usize, level: usize) -> Result<f64, Error> {
        let mut levels = vec![0; self.layers.len()];
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

/// The error that one score in a million is expected to exceed at most: what a sample shows, and what its tail says of those that
/// it lacks. The `k` largest of `n` errors, `k` being the root of `n`, exceed the next one by `m` on average; tails of that mean
/// fall exponentially (peaks over a threshold; Pickands, Statistical Inference Using Extreme Order Statistics, 1975). The mean of
/// `k` such has a deviation of `m` by the root of `k`, and may be two of those too small:
///
/// ```text
/// threshold + m (1 + 2 / sqrt(k)) ln(10^6 k / n)
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
    largest.max(threshold + mean * (ONE_OF * above as f64 / count).max(1.0).ln())
}

/// What is to be coarse: each part has a level, 0 being the finest.
pub(crate) trait Parts<E> {
    /// What a level saves over the one before; `None` if they are the same.
    fn saving(&self, part: usize, level: usize) -> Option<f64>;

    /// The figure with one part at a level and all others as they are.
    fn alone(&mut self, part: usize, level: usize) -> Result<f64, E>;

    /// The figure with a level for each part.
    fn figure(&mut self, levels: &[usize]) -> Result<f64, E>;
}

/// What [`fill`] found.
pub(crate) struct Filled {
    pub levels: Vec<usize>,
    /// The figure of these levels; `None` if none is above where it started.
    pub figure: Option<f64>,
    /// What was measured alone, in the order in which it was taken, for the coarsest level where something was.
    pub alone: Vec<Alone>,
}

pub(crate) struct Alone {
    pub part: usize,
    pub level: usize,
    pub figure: f64,
}

/// Makes parts coarser, from `levels` up to `coarsest`, level by level, as long as the figure is at most `bound`.
pub(crate) fn fill<E>(
    parts: &mut dyn Parts<E>,
    mut levels: Vec<usize>,
    coarsest: usize,
    bound: f64,
) -> Result<Filled, E> {
    let mut filled = Filled { levels: Vec::new(), figure: None, alone: Vec::new() };
    let mut is_refused = vec![false; levels.len()];
    for level in 1..=coarsest {
        let mut moves = Vec::new();
        for part in (0..levels.len()).filter(|part| !is_refused[*part]) {
            match parts.saving(part, level).filter(|_| levels[part] + 1 == level) {
                Some(saving) => moves.push((part, saving)),
                None => levels[part] = levels[part].max(level),
            }
        }
        let with = |moves: &[(usize, f64)]| {
            let mut levels = levels.clone();
            moves.iter().for_each(|(part, _)| levels[*part] = level);
            levels
        };
        if moves.is_empty() {
            continue;
        }
        let figure = parts.figure(&with(&moves))?;
        if figure <= bound {
            (levels, filled.figure) = (with(&moves), Some(figure));
            continue;
        }
        filled.alone.clear();
        let mut costs = vec![0.0; levels.len()];
        for (part, saving) in &moves {
            let figure = parts.alone(*part, level)?;
            costs[*part] = if figure.is_nan() { f64::INFINITY } else { figure.powi(2) / saving.max(1.0) };
            filled.alone.push(Alone { part: *part, level, figure });
        }
        moves.sort_by(|a, b| costs[a.0].total_cmp(&costs[b.0]));
        filled.alone.sort_by(|a, b| costs[a.part].total_cmp(&costs[b.part]));
        let (mut accepted, mut refused) = (0, moves.len());
        while accepted + 1 < refused {
            let middle = accepted.midpoint(refused);
            let figure = parts.figure(&with(&moves[..middle]))?;
            if figure <= bound {
                (accepted, filled.figure) = (middle, Some(figure));
            } else {
                refused = middle;
            }
        }
        let mut rest = moves.split_off(accepted);
        rest.sort_by(|a, b| b.1.total_cmp(&a.1));
        for last in rest {
            moves.push(last);
            let figure = parts.figure(&with(&moves))?;
            if figure <= bound {
                filled.figure = Some(figure);
            } else {
                moves.pop();
                is_refused[last.0] = true;
            }
        }
        levels = with(&moves);
    }
    filled.levels = levels;
    Ok(filled)
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
        assert!((1.0..1.4).contains(&(found / expected)), "{found}, of exponential errors {expected}");
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

        fn alone(&mut self, part: usize, level: usize) -> Result<f64, ()> {
            self.tried += 1;
            Ok(self.parts[part].0[level - 1])
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
    fn levels_that_are_the_same_cost_nothing_and_starts_are_kept() {
        let skips: &[f64] = &[0.1, 0.1, 0.2];
        assert_eq!(filled(&[(skips, 1.0), (&[0.0, 0.0, 0.5], 1.0)], &[0, 0]).0, [3, 3]);
        assert_eq!(filled(&[(&[0.1, 0.2, 5.0], 1.0), (&[0.1, 0.2, 0.3], 1.0)], &[2, 0]).0, [2, 3]);
    }
}
