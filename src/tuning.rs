//! The precision of every dense layer by its measured error: the fastest with which the scores stay within a bound.
//!
//! The errors of layers add up like those of independent sources, so that a choice is a packing problem: which layers may be
//! in int8 while the others are in int12, or, where that is too coarse, in int12 while the others are in int16, and so on up
//! to f32. Each layer is measured alone; then as many as the bound allows are taken, those first that save most work for their squared error, and
//! the bound is checked with all of them together.

use crate::error::{Error, ErrorKind};
use crate::kernels::Kernels;
use crate::model::{Model, OpenOptions, Source};
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
    /// three times per layer. `options` opens the models; what it says of precisions is not used.
    ///
    /// # Errors
    /// Those of [`Model::open`] and of `run`; `Unsupported` if not even f32 meets the bound.
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
        let mut search = Search { source, options, run, figure, reference: Vec::new(), tried: 0 };
        let coarsest = source.model(&OpenOptions { precision: Some(Precision::Int8), ..options.clone() })?;
        let layers = coarsest.plan().quantized_layers();
        let all =
            |precision: Precision| layers.keys().map(|layer| (layer.clone(), precision)).collect::<BTreeMap<_, _>>();
        search.reference = search.scores(&all(Precision::F32))?;
        let mut tuning = Tuning { layers: all(Precision::F32), measured: Vec::new(), figure: 0.0, tried: 0 };
        for precision in slowest_first(source.kernels) {
            let figure = search.figure(&all(precision))?;
            if figure <= 1.0 {
                (tuning.layers, tuning.figure) = (all(precision), figure);
                continue;
            }
            let base = tuning.layers.clone();
            tuning.measured.clear();
            for (layer, multiply_adds) in &layers {
                let mut alone = all(Precision::F32);
                alone.insert(layer.clone(), precision);
                let (layer, multiply_adds) = (layer.clone(), *multiply_adds);
                tuning.measured.push(Measured { layer, precision, figure: search.figure(&alone)?, multiply_adds });
            }
            let cost = |measured: &Measured| measured.figure.powi(2) / measured.multiply_adds.max(1) as f64;
            tuning.measured.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
            let with = |count: usize| {
                let mut layers = base.clone();
                layers.extend(tuning.measured[..count].iter().map(|measured| (measured.layer.clone(), precision)));
                layers
            };
            let (mut accepted, mut refused) = (0, tuning.measured.len());
            while accepted + 1 < refused {
                let middle = accepted.midpoint(refused);
                let figure = search.figure(&with(middle))?;
                if figure <= 1.0 {
                    (accepted, tuning.figure) = (middle, figure);
                } else {
                    refused = middle;
                }
            }
            tuning.layers = with(accepted);
            break;
        }
        tuning.tried = search.tried;
        if tuning.figure > 1.0 {
            let detail = "no choice of precisions keeps the bound".to_owned();
            return Err(Error::new(ErrorKind::Unsupported, "precision", detail));
        }
        Ok(tuning)
    }
}

/// The types of quantised layers that are worth trying, each faster than the one before. Where words are read as planes of
/// bytes, int12 is no faster than int16, and pairs of bf16 are faster than both.
fn slowest_first(kernels: &Kernels) -> [Precision; 3] {
    let middle = if kernels.has_planes() { Precision::Bf16 } else { Precision::Int12 };
    [Precision::Int16, middle, Precision::Int8]
}

struct Search<'a> {
    source: &'a Source,
    options: &'a OpenOptions,
    run: &'a mut dyn FnMut(&Model) -> Result<Vec<f32>, Error>,
    figure: &'a mut dyn FnMut(&[f32], &[f32]) -> f64,
    reference: Vec<f32>,
    tried: usize,
}

impl Search<'_> {
    fn scores(&mut self, layers: &BTreeMap<String, Precision>) -> Result<Vec<f32>, Error> {
        self.tried += 1;
        let options = OpenOptions { precision: None, layers: layers.clone(), ..self.options.clone() };
        (self.run)(&self.source.model(&options)?)
    }

    fn figure(&mut self, layers: &BTreeMap<String, Precision>) -> Result<f64, Error> {
        let scores = self.scores(layers)?;
        let figure = (self.figure)(&self.reference, &scores);
        Ok(if figure.is_nan() { f64::INFINITY } else { figure })
    }
}
