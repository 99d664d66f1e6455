//! The type of every stored tensor by its measured error: the narrowest with which the scores stay within a bound.
//!
//! Tables save bytes, layers save time, and the bound is one: tables first take what half of the squared error allows, layers
//! then take what is left, and tables what the layers leave. Each step is that of [`crate::tuning`]: all together, then each
//! alone, then as many as the bound allows, those first that save most for their squared error, then each of the others that
//! still fits. What is measured is always a whole model of the very integers that a file would hold.

use crate::error::Error;
use crate::format::{Dtype, Integer, Replacement, Tensor};
use crate::model::{Model, OpenOptions};
use crate::network::Role;
use crate::plan::{Precision, Work};
use crate::quant::{halve, quantize};
use crate::tuning::{CANDIDATES, Parts, fill, time};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A type that tensors of floats can be narrowed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Narrow {
    /// Halves.
    F16,
    /// Integers with a scale for each row of a table, or each output of a layer.
    Integer(Integer),
}

impl Narrow {
    /// What tables may become, the widest first.
    pub const TABLES: [Narrow; 3] = [Narrow::F16, Narrow::Integer(Integer::Int8), Narrow::Integer(Integer::Int4)];

    /// What the weights of dense layers may become, the slowest first.
    pub const LAYERS: [Narrow; 4] =
        [Narrow::F16, Narrow::Integer(Integer::Int16), Narrow::Integer(Integer::Int12), Narrow::Integer(Integer::Int8)];

    fn of(role: Role) -> &'static [Narrow] {
        match role {
            Role::Table => &Self::TABLES,
            Role::Layer { .. } => &Self::LAYERS,
        }
    }

    /// In what a layer of that type is computed; layers are never int4.
    fn precision(self) -> Precision {
        match self {
            Narrow::F16 => Precision::F16,
            Narrow::Integer(Integer::Int16) => Precision::Int16,
            Narrow::Integer(Integer::Int12) => Precision::Int12,
            Narrow::Integer(Integer::Int8 | Integer::Int4) => Precision::Int8,
        }
    }

    /// Such as `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Narrow::F16 => "f16",
            Narrow::Integer(integer) => integer.name(),
        }
    }

    /// # Errors
    /// Those of [`quantize`] and [`halve`].
    pub fn apply(self, tensor: &Tensor<'_>, role: Role) -> Result<Replacement, Error> {
        match self {
            Narrow::F16 => halve(tensor),
            Narrow::Integer(integer) => quantize(tensor, integer, role.axis()),
        }
    }

    /// Bytes of a matrix of that type, with its scales.
    fn bytes(self, [rows, columns]: [usize; 2], axis: usize) -> usize {
        let count = rows * columns;
        let bytes = match self {
            Narrow::F16 | Narrow::Integer(Integer::Int12 | Integer::Int16) => count * 2,
            Narrow::Integer(Integer::Int8) => count,
            Narrow::Integer(Integer::Int4) => count / 2,
        };
        let scales = if self == Narrow::F16 { 0 } else { [rows, columns][axis] };
        bytes + scales * size_of::<f32>()
    }
}

/// What may become of the tensors of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// They stay as they are.
    Keep,
    /// All of them get that type; one that it would not make narrower gets the last before it that does.
    All(Narrow),
    /// Each gets the narrowest type that the bound allows.
    Auto,
}

/// Types of tensors, and what was measured for them.
#[derive(Clone, Debug)]
pub struct Narrowing {
    /// The tensors that change, in file order. They may be none, or break the bound: then no choice that changes something
    /// was found to keep it, and this is the one that came nearest.
    pub replacements: Vec<Arc<Replacement>>,
    /// The figure of all of them together: up to 1 if the bound is kept.
    pub figure: f64,
    /// How many models were made and measured.
    pub tried: usize,
}

impl Narrowing {
    /// Chooses types for the tensors of a model. `figure` measures a model against this one, 1 being the bound; it is called
    /// about as often as there are tensors times types. `options` opens the models that are measured: what it says of
    /// precisions is not used. Tensors of integers stay as they are, and so do layers whose outputs are logits.
    ///
    /// All that is tried is held in memory: up to 7/8 of the bytes of the tables as f32.
    ///
    /// # Errors
    /// Those of `figure`, of [`Model::replaced`] and of [`quantize`].
    pub fn choose<E: From<Error>>(
        model: &Model,
        tables: Wanted,
        layers: Wanted,
        options: &OpenOptions,
        figure: &mut dyn FnMut(&Model) -> Result<f64, E>,
    ) -> Result<Narrowing, E> {
        let options = OpenOptions { precision: None, layers: BTreeMap::new(), shares: None, ..options.clone() };
        let coarsest = model.replaced(&[], &OpenOptions { precision: Some(Precision::Int8), ..options.clone() })?;
        let multiply_adds = coarsest.plan().quantized_layers();
        let mut search = Search { model, options, figure, tensors: Vec::new(), tried: Vec::new() };
        let mut levels = Vec::new();
        for (tensor, role) in model.roles() {
            let work = multiply_adds.get(tensor.name).copied();
            let wanted = if role == Role::Table { tables } else { layers };
            let candidate = if wanted == Wanted::Keep { None } else { Candidate::of(tensor, role, work) };
            if let Some(candidate) = candidate {
                levels.push(candidate.start(wanted));
                search.tensors.push(candidate);
            }
        }
        let is_table = |candidate: &Candidate<'_>| candidate.role == Role::Table;
        let groups = match (tables, layers) {
            (Wanted::Auto, Wanted::Auto) => vec![(true, 0.5f64.sqrt()), (false, 1.0), (true, 1.0)],
            (Wanted::Auto, _) => vec![(true, 1.0)],
            (_, Wanted::Auto) => vec![(false, 1.0)],
            _ => Vec::new(),
        };
        let is_within = search.figure(&levels)? <= 1.0;
        for (of_tables, bound) in groups.into_iter().filter(|_| is_within) {
            let mine = (0..levels.len()).filter(|place| is_table(&search.tensors[*place]) == of_tables).collect();
            let mut group = Group { search: &mut search, others: levels.clone(), mine };
            let start = group.mine.iter().map(|place| levels[*place]).collect();
            let coarsest = if of_tables { Narrow::TABLES.len() } else { Narrow::LAYERS.len() };
            let filled = fill(&mut group, start, coarsest, bound)?;
            levels = group.with(&filled.levels);
        }
        search.result(&levels)
    }
}

/// A tensor that can be narrowed.
struct Candidate<'a> {
    tensor: Tensor<'a>,
    role: Role,
    /// What the tensor is at each level from 1 on; `None` where it is what it is at the level before.
    types: Vec<Option<Narrow>>,
    /// What each level saves over the one before.
    savings: Vec<f64>,
    made: Vec<Option<Arc<Replacement>>>,
}

impl<'a> Candidate<'a> {
    /// `None` for what stays as it is. `work` is that of a layer which can have integers.
    fn of(tensor: Tensor<'a>, role: Role, work: Option<Work>) -> Option<Self> {
        let &[rows, columns] = tensor.shape else { return None };
        if tensor.integer(role.axis()).is_some() || (role != Role::Table && work.is_none()) {
            return None;
        }
        let work = work.map(|work| work.request + work.candidate * CANDIDATES);
        let (mut bytes, mut before) = (tensor.bytes.len(), Precision::F32);
        let (mut types, mut savings, mut made) = (Vec::new(), Vec::new(), Vec::new());
        for narrow in Narrow::of(role) {
            let after = narrow.bytes([rows, columns], role.axis());
            let is_known = match narrow {
                Narrow::F16 => tensor.dtype == Dtype::F32,
                Narrow::Integer(Integer::Int4) => columns.is_multiple_of(2),
                Narrow::Integer(_) => true,
            };
            // A layer of integers is faster, whatever its bytes.
            let is_worth = is_known && (work.is_some() || after < bytes);
            let halves = match narrow {
                Narrow::F16 if is_worth => halve(&tensor).map(Arc::new).ok(),
                _ => None,
            };
            let is_possible = is_worth && (*narrow != Narrow::F16 || halves.is_some());
            types.push(is_possible.then_some(*narrow));
            savings.push(match work {
                Some(work) => work as f64 * (time(before) - time(narrow.precision())),
                None => bytes.saturating_sub(after) as f64,
            });
            made.push(halves);
            if is_possible {
                (bytes, before) = (after, narrow.precision());
            }
        }
        types.iter().any(Option::is_some).then_some(Self { tensor, role, types, savings, made })
    }

    fn start(&self, wanted: Wanted) -> usize {
        match wanted {
            Wanted::Keep | Wanted::Auto => 0,
            Wanted::All(narrow) => {
                Narrow::of(self.role).iter().position(|of| *of == narrow).map_or(0, |place| place + 1)
            }
        }
    }

    /// The tensor at a level; `None` if that is as it is.
    fn at(&mut self, level: usize) -> Result<Option<Arc<Replacement>>, Error> {
        let Some(place) = (0..level).rev().find(|place| self.types[*place].is_some()) else {
            return Ok(None);
        };
        if let (None, Some(narrow)) = (&self.made[place], self.types[place]) {
            self.made[place] = Some(Arc::new(narrow.apply(&self.tensor, self.role)?));
        }
        Ok(self.made[place].clone())
    }
}

struct Search<'a, E> {
    model: &'a Model,
    options: OpenOptions,
    figure: &'a mut dyn FnMut(&Model) -> Result<f64, E>,
    tensors: Vec<Candidate<'a>>,
    /// Levels with their figures.
    tried: Vec<(Vec<usize>, f64)>,
}

impl<E: From<Error>> Search<'_, E> {
    fn replacements(&mut self, levels: &[usize]) -> Result<Vec<Arc<Replacement>>, Error> {
        let tensors = self.tensors.iter_mut().zip(levels);
        tensors.filter_map(|(tensor, level)| tensor.at(*level).transpose()).collect()
    }

    /// NaN is infinite.
    fn figure(&mut self, levels: &[usize]) -> Result<f64, E> {
        if let Some((_, figure)) = self.tried.iter().find(|(tried, _)| tried == levels) {
            return Ok(*figure);
        }
        let replacements = self.replacements(levels)?;
        let figure = match replacements.is_empty() {
            true => 0.0,
            false => (self.figure)(&self.model.replaced(&replacements, &self.options)?)?,
        };
        let figure = if figure.is_nan() { f64::INFINITY } else { figure };
        self.tried.push((levels.to_vec(), figure));
        Ok(figure)
    }

    /// What `levels` are, or if they change nothing, or too much, what comes nearest to the bound.
    fn result(&mut self, levels: &[usize]) -> Result<Narrowing, E> {
        let figure = self.figure(levels)?;
        let mut best = (self.replacements(levels)?, figure);
        if best.0.is_empty() || figure > 1.0 {
            let mut tried = self.tried.clone();
            tried.sort_by(|a, b| a.1.total_cmp(&b.1));
            for (levels, figure) in tried {
                let replacements = self.replacements(&levels)?;
                if !replacements.is_empty() {
                    best = (replacements, figure);
                    break;
                }
            }
        }
        let tried = self.tried.len();
        Ok(Narrowing { replacements: best.0, figure: best.1, tried })
    }
}

/// Some of the tensors, the others being held.
struct Group<'s, 'a, E> {
    search: &'s mut Search<'a, E>,
    others: Vec<usize>,
    mine: Vec<usize>,
}

impl<E> Group<'_, '_, E> {
    fn with(&self, levels: &[usize]) -> Vec<usize> {
        let mut all = self.others.clone();
        self.mine.iter().zip(levels).for_each(|(place, level)| all[*place] = *level);
        all
    }
}

impl<E: From<Error>> Parts<E> for Group<'_, '_, E> {
    fn saving(&self, part: usize, level: usize) -> Option<f64> {
        let candidate = &self.search.tensors[self.mine[part]];
        candidate.types[level - 1].map(|_| candidate.savings[level - 1])
    }

    fn alone(&mut self, part: usize, level: usize, others: usize) -> Result<f64, E> {
        let mut levels = vec![0; self.others.len()];
        self.mine.iter().for_each(|place| levels[*place] = others);
        levels[self.mine[part]] = level;
        self.search.figure(&levels)
    }

    fn figure(&mut self, levels: &[usize]) -> Result<f64, E> {
        let all = self.with(levels);
        self.search.figure(&all)
    }
}
