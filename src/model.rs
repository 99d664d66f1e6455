//! A model: one version of a network, open and checked, shared by every thread.

use crate::error::{Error, ErrorKind};
use crate::exec::{self, ItemCache, ItemTimes, KeptValues, Scratch, Sources, StepValue, TraceCall, trace};
use crate::format::{
    Description, Dtype, GoldenColumn, GoldenRequest, GoldenValues, Metadata, Mode, Replacement, Store, StoreOptions,
    Tensor, TensorId, is_packed, rewrite,
};
use crate::network::{self, Graph, Network, Role};
use crate::ops::{Kernels, Panels};
use crate::plan::{ItemRows, MAX_TILE, Plan, PlanOptions, Precision};
use crate::pool::Pool;
use crate::request::{Column, Slot, Values};
use crate::scorer::Scorer;
use crate::tuning::{Tuning, rare_error};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

/// How to open a model. `OpenOptions::default()` is right for most hosts.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// How the file is held while the model lives.
    pub mode: Mode,
    /// The type in which dense weights are held; `None` keeps what is stored.
    pub precision: Option<Precision>,
    /// The types of single dense weights, by the names of their tensors; they go before `precision`.
    pub layers: BTreeMap<String, Precision>,
    /// The type of the weights that are multiplied once for all candidates of a request, such as the user's columns of first
    /// layers; it goes before both. Their error is in the scores of all candidates, their time counts once. `None`: they have
    /// that of their layer.
    pub shares: Option<Precision>,
    /// Whether every dense layer gets the fastest type with which scores stay within `max_error`, 1e-3 if that is `None`, of
    /// those in f32: all but one score in a million, by the tail of the errors of the golden scores (peaks over a threshold);
    /// see [`Tuning`]. It takes about four openings per layer; `precision`, `layers` and `shares` are
    /// not used. A file without golden requests is refused.
    pub auto: bool,
    /// The largest difference from the golden scores that is accepted. `None`: the tolerance that the file states for the
    /// stored precision and f32; 5e-3 for f16, int12 and int16, 2e-2 for bf16 and 5e-2 for int8, if that is more, and so for
    /// the rows of the item cache. Finite and not negative.
    pub max_error: Option<f64>,
    /// The kernel set: `scalar`, `portable`, `avx2` or `avx512`. `None`: `POLYSCORE_ISA`, else the best of this CPU.
    pub isa: Option<String>,
    /// Whether request-constant work is hoisted into `prepare`. The scores have the same bits either way.
    pub split: bool,
    /// Candidates per tile; 0 chooses; with an item cache at most 256.
    pub tile: usize,
    /// The largest file, all shards together, in bytes.
    pub max_bytes: u64,
    /// The largest header of one file, in bytes.
    pub max_header_bytes: u64,
    /// Bytes for values that depend on the scenario alone. If those of all scenarios fit, they are computed at open and
    /// shared; if not, each scorer computes them on first use and keeps, within this budget, the most recently used ones.
    pub scenario_bytes: usize,
    /// Bytes for product tables: of single ids of the request with few rows, the share that each row has in the first layers is
    /// computed at open. They save reading the weights of these fields, and change scores by what f32 sums round.
    pub product_bytes: usize,
    /// Bytes for the item cache: what depends on an ad alone, and not on the scenario, is kept across requests under the keys that
    /// calls bring in a column [`crate::ITEM_KEY`]. All scorers of the model share it; it dies with the model. 0: there is none.
    pub item_bytes: usize,
    /// Whether rows of f32 are kept even where a measurement at open finds that loading them takes longer than computing them;
    /// else there is no cache then. See [`Model::item_times`].
    pub item_always: bool,
    /// The type of its rows. With f32 scores have the bits that they have without a cache; shorter rows round the values of every
    /// candidate, with a key or without, and so change scores, by an error that the golden requests are held against.
    pub item_rows: ItemRows,
}

impl Default for OpenOptions {
    fn default() -> Self {
        let store = StoreOptions::default();
        Self {
            mode: store.mode,
            precision: None,
            layers: BTreeMap::new(),
            shares: None,
            auto: false,
            max_error: None,
            isa: None,
            split: true,
            tile: 0,
            max_bytes: store.max_bytes,
            max_header_bytes: store.max_header_bytes,
            scenario_bytes: 64 << 20,
            product_bytes: 16 << 20,
            item_bytes: 0,
            item_always: false,
            item_rows: ItemRows::F32,
        }
    }
}

/// How the golden requests of a model came out on this machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GoldenReport {
    /// Requests replayed.
    pub requests: usize,
    /// Scores compared.
    pub scores: usize,
    /// The largest absolute difference in probability.
    pub max_error: f64,
    /// What was accepted.
    pub bound: f64,
}

/// Where the bytes of a model are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Bytes of files that are mapped: tables are read there.
    pub mapped_bytes: u64,
    /// Bytes copied: whole files in the modes snapshot and copy, and tensors that a mapped file has unaligned.
    pub copied_bytes: u64,
    /// Bytes of packed dense weights, but for those that a file of packed layers holds.
    pub packed_bytes: u64,
    /// Bytes of product tables.
    pub product_bytes: u64,
    /// Bytes of the item cache.
    pub item_bytes: u64,
    /// How many rows it has room for.
    pub item_room: u64,
    /// Bytes kept for the model: values that depend on it alone.
    pub model_bytes: u64,
    /// Bytes kept for all scenarios; 0 where each scorer keeps its own.
    pub scenario_bytes: u64,
    /// Bytes that each scorer owns.
    pub scratch_bytes: u64,
}

/// Where the values that depend on the scenario alone are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeptScenarios {
    /// The model keeps those of this many scenarios, which are all that own rows.
    All(usize),
    /// They do not fit into [`OpenOptions::scenario_bytes`]: each scorer keeps this many, the most recently used ones.
    PerScorer(usize),
}

/// A file that was read and checked, before it is planned.
pub(crate) struct Source {
    store: Arc<Store>,
    description: Arc<Description>,
    tables: Vec<Option<TensorId>>,
    golden: Vec<GoldenRequest>,
    graph: Graph,
    roles: BTreeMap<TensorId, Role>,
    pub kernels: &'static Kernels,
}

impl Source {
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Source, Error> {
        check_options(options)?;
        let OpenOptions { mode, max_bytes, max_header_bytes, .. } = *options;
        let source = Self::of(Store::open(path, &StoreOptions { mode, max_bytes, max_header_bytes })?, options)?;
        check_tables(&source.store, &source.tables)?;
        Ok(source)
    }

    /// The numbers of tables are not looked at.
    fn of(store: Store, options: &OpenOptions) -> Result<Source, Error> {
        let kernels = choose_kernels(options.isa.as_deref())?;
        let description = Description::parse(store.description_json())?;
        let tables = description.check_tables(&store)?;
        let (golden, golden_tensors) = description.golden_requests(&store)?;
        let Network { graph, weights, roles } = network::build(&description, &store, &tables)?;
        let scales = tables.iter().flatten().filter_map(|table| store.scale(*table));
        let claimed = tables.iter().flatten().chain(&weights).chain(&golden_tensors).copied();
        store.check_claimed(claimed.chain(scales))?;
        for layer in options.layers.keys() {
            let is_weight = store.find(layer).is_some_and(|id| weights.contains(&id));
            if !is_weight {
                return Err(Error::new(ErrorKind::InvalidArgument, layer, "is no weight of the model"));
            }
        }
        let (store, description) = (Arc::new(store), Arc::new(description));
        Ok(Source { store, description, tables, golden, graph, roles, kernels })
    }

    /// The model, its golden requests not yet replayed.
    pub fn model(&self, options: &OpenOptions) -> Result<Model, Error> {
        let Self { store, description, tables, graph, roles, kernels, .. } = self;
        let OpenOptions { precision, shares, split, tile, product_bytes, item_bytes, item_rows, .. } = *options;
        let slots: Vec<Slot> = description.features.iter().map(Slot::of).collect();
        let arrange = |items| {
            let layers = options.layers.clone();
            let plan_options = PlanOptions { precision, layers, shares, split, tile, product_bytes, items };
            let mut plan = Plan::new(description, store, tables, graph, kernels, &plan_options)?;
            let kept = KeptValues::compute(&plan, store, &slots, description.scenario_rows, options.scenario_bytes)?;
            if tile == 0 {
                plan.tile = exec::tile(&Sources { plan: &plan, store, slots: &slots, kept: &kept, items: None })?;
            }
            Ok::<_, Error>((plan, kept))
        };
        let (mut plan, mut kept) = arrange((item_bytes > 0).then_some(item_rows))?;
        let is_measured = item_rows == ItemRows::F32 && !options.item_always;
        let sources = Sources { plan: &plan, store, slots: &slots, kept: &kept, items: None };
        let item_times = if is_measured { exec::item_times(&sources, item_bytes)? } else { None };
        if item_times.is_some_and(|times| times.load > times.compute) {
            drop((plan, kept));
            (plan, kept) = arrange(None)?;
        }
        let items = plan.items.as_ref().map(|row| ItemCache::new(row, item_bytes)).transpose()?;
        let (description, store) = (Arc::clone(description), Arc::clone(store));
        let roles = roles.clone();
        Ok(Model {
            inner: Arc::new(Inner { description, store, roles, plan, slots, kept, items, item_times }),
            golden: None,
        })
    }

    /// The precisions with which the golden scores stay within the bound of `options`.
    fn tune(&self, options: &OpenOptions) -> Result<Tuning, Error> {
        if self.golden.is_empty() {
            let detail = "precisions are chosen by golden requests, and the file has none";
            return Err(Error::new(ErrorKind::Unsupported, "precision", detail));
        }
        let bound = options.max_error.unwrap_or(AUTO_BOUND);
        let mut run = |model: &Model| {
            let requests = self.golden.iter().enumerate();
            let scores = requests.map(|(index, request)| model.score_golden(index, request));
            Ok(scores.collect::<Result<Vec<_>, Error>>()?.concat())
        };
        let mut figure = |expected: &[f32], scores: &[f32]| rare_error(expected, scores) / bound;
        Tuning::of(self, options, &mut run, &mut figure)
    }
}

/// What `auto` keeps where no bound is given.
const AUTO_BOUND: f64 = 1e-3;

pub(crate) struct Inner {
    pub description: Arc<Description>,
    store: Arc<Store>,
    roles: BTreeMap<TensorId, Role>,
    plan: Plan,
    slots: Vec<Slot>,
    kept: KeptValues,
    items: Option<ItemCache>,
    item_times: Option<ItemTimes>,
}

impl Inner {
    pub fn sources(&self) -> Sources<'_> {
        let Self { plan, store, slots, kept, items, .. } = self;
        Sources { plan, store, slots, kept, items: items.as_ref() }
    }
}

/// One version of a network: immutable, shared by cloning, usable from every thread without a lock.
///
/// The file is held until the last clone and the last scorer of the model are gone.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
    golden: Option<GoldenReport>,
}

impl Model {
    /// Opens a `.safetensors` file, or a sharded set by its `.safetensors.index.json`.
    ///
    /// The file is checked whole, its dense weights are packed, and its golden requests are replayed.
    ///
    /// # Errors
    /// The first thing that is wrong, by name; see [`ErrorKind`]. Nothing is kept of a file that is refused.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Model, Error> {
        let source = Source::open(path, options)?;
        let chosen = if options.auto { Some(source.tune(options)?) } else { None };
        let options = match chosen {
            Some(Tuning { layers, shares, .. }) => {
                &OpenOptions { precision: None, layers, shares: Some(shares), ..options.clone() }
            }
            None => options,
        };
        let mut model = source.model(options)?;
        source.store.check_unchanged()?;
        model.golden = model.replay(&source.golden, options)?;
        Ok(model)
    }

    /// A scorer with scratch of its own.
    ///
    /// # Errors
    /// `OutOfMemory` if its scratch cannot be reserved.
    pub fn scorer(&self) -> Result<Scorer, Error> {
        Scorer::new(Arc::clone(&self.inner), None)
    }

    /// A scorer whose calls are shared among the threads of `pool`, which any number of scorers and models may use at the same
    /// time. A call of few candidates, or one that finds the pool busy, runs on its caller's thread; so does `prepare`. The
    /// scores have the bits of [`Model::scorer`].
    ///
    /// It has scratch of its own and for each thread: [`Pool::threads`] + 1 times [`Footprint::scratch_bytes`]. Where each
    /// scorer keeps scenarios ([`KeptScenarios::PerScorer`]), so does each thread. A call allocates a few words per thread,
    /// and room for its scores if there are more than in any call before.
    ///
    /// # Errors
    /// `OutOfMemory` if its scratch cannot be reserved.
    pub fn parallel_scorer(&self, pool: &Pool) -> Result<Scorer, Error> {
        Scorer::new(Arc::clone(&self.inner), Some(pool))
    }

    /// What the file says it is: features, scenarios, tasks, network.
    pub fn description(&self) -> &Description {
        &self.inner.description
    }

    /// The description as the file holds it.
    pub fn description_json(&self) -> &str {
        self.inner.store.description_json()
    }

    /// The slot of a feature.
    pub fn feature(&self, name: &str) -> Option<u32> {
        self.inner.description.feature(name)
    }

    /// The index of a task.
    pub fn task(&self, name: &str) -> Option<u32> {
        self.inner.description.task(name)
    }

    /// The index of a scenario.
    pub fn scenario(&self, name: &str) -> Option<u32> {
        self.inner.description.scenario(name)
    }

    /// The index of the scenario that the host knows by `id`.
    pub fn scenario_by_id(&self, id: i64) -> Option<u32> {
        self.inner.description.scenario_by_id(id)
    }

    /// The tensor of that name, as the file holds it: a table is `[rows, width]`.
    pub fn tensor(&self, name: &str) -> Option<Tensor<'_>> {
        let store = &self.inner.store;
        store.find(name).map(|id| store.tensor(id))
    }

    /// The texts of the file beside its description: `__metadata__`, or in a set the metadata of its index.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.inner.store.metadata()
    }

    /// The tensors that may hold integers: tables, and weights of dense layers, that are read in no other way.
    pub fn roles(&self) -> impl Iterator<Item = (Tensor<'_>, Role)> {
        let Inner { store, roles, .. } = &*self.inner;
        roles.iter().map(|(id, role)| (store.tensor(*id), *role))
    }

    /// The model as it would be with other tensors: it shares the files and the replacements. Golden requests are not
    /// replayed. Of `options`, what is about opening a file is not used.
    ///
    /// # Errors
    /// `Tensor` for a replacement that is not in the model or is there twice, whose type or shape the model cannot have, or
    /// whose scales would take the name of another tensor; `OutOfMemory`. Numbers of tables are not looked at.
    pub fn replaced(&self, replacements: &[Arc<Replacement>], options: &OpenOptions) -> Result<Model, Error> {
        check_options(options)?;
        Source::of(self.inner.store.replaced(replacements)?, options)?.model(options)
    }

    /// Writes the tensors of the model, replaced ones too, packed layers left out, as the one file `path`: under a temporary name in
    /// the same folder, synced, then renamed. `description`, if it is given, takes the place of the model's; `texts` are added to
    /// the other metadata. `check` is given the complete file under its temporary name, and has the last word on it.
    ///
    /// # Errors
    /// `Io`, also if the file of the model was written to in the meantime; those of `check`. Unless the error comes from
    /// syncing the folder, which is last, what was at `path` is still there. The temporary file is not.
    pub fn write<E: From<Error>>(
        &self,
        path: impl AsRef<Path>,
        description: Option<&str>,
        texts: &BTreeMap<String, String>,
        check: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut others = self.metadata().clone();
        others.extend(texts.clone());
        let metadata = Metadata { description: description.unwrap_or(self.description_json()), others: &others };
        self.write_with(path.as_ref(), &metadata, &[], check)
    }

    /// As [`Model::write`], and with every dense layer as this model reads it: who opens the file with the same options, and product
    /// tables that are made of the same fields, maps these layers and packs nothing. With other options they are not
    /// read. On CPUs with tile registers the two planes of int12 and int16 are still made at open. Tensors begin at multiples
    /// of 64 bytes. Returns how many layers there are.
    ///
    /// # Errors
    /// As [`Model::write`].
    pub fn write_packed<E: From<Error>>(
        &self,
        path: impl AsRef<Path>,
        check: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<usize, E> {
        let bytes = |(name, panels): (_, &Panels)| {
            let bytes = panels.to_bytes();
            (name, [bytes.len()], bytes)
        };
        let layers: Vec<(&str, [usize; 1], Vec<u8>)> = self.plan().packed().into_iter().map(bytes).collect();
        let tensors = layers.iter().map(|(name, shape, bytes)| Tensor { name, dtype: Dtype::U8, shape, bytes });
        let packed: Vec<Tensor<'_>> = tensors.collect();
        let metadata = Metadata { description: self.description_json(), others: self.metadata() };
        self.write_with(path.as_ref(), &metadata, &packed, check)?;
        Ok(packed.len())
    }

    /// The tensors of the model without packed layers, and these.
    fn write_with<E: From<Error>>(
        &self,
        path: &Path,
        metadata: &Metadata<'_>,
        packed: &[Tensor<'_>],
        check: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        let store = &self.inner.store;
        let own = store.tensors().map(|(_, tensor)| tensor).filter(|tensor| !is_packed(tensor.name));
        let tensors: Vec<Tensor<'_>> = own.chain(packed.iter().copied()).collect();
        rewrite(path, metadata, &tensors, |temporary| {
            store.check_unchanged()?;
            check(temporary)
        })
    }

    /// The steps, which print themselves.
    pub fn plan(&self) -> &Plan {
        &self.inner.plan
    }

    /// How the golden requests came out at open; `None` if the file has none.
    pub fn golden(&self) -> Option<&GoldenReport> {
        self.golden.as_ref()
    }

    /// The golden requests, with the scores that the file states; none if it has none.
    ///
    /// # Errors
    /// `Tensor`, in a file that was damaged after it was opened.
    pub fn golden_requests(&self) -> Result<Vec<GoldenRequest>, Error> {
        Ok(self.inner.description.golden_requests(&self.inner.store)?.0)
    }

    /// Runs a request step by step and gives `visit` the value of every step, which it may change. Returns the scores of
    /// the traced candidates, of all tasks: `[t * traced + i]`.
    ///
    /// First run the steps of the model, the scenario and the request, then for one traced candidate after the other all of
    /// its own, each time in the order of [`Plan::steps`]. Without changes the scores have the bits of [`Scorer::score`]. It
    /// allocates, computes anew what is else kept for the model and its scenarios, and touches no scorer. Any thread may
    /// call it.
    ///
    /// # Errors
    /// The first column that breaks a rule, or `InvalidArgument` for candidates to trace that are not there; nothing is
    /// visited then. `OutOfMemory` if the scratch cannot be reserved.
    pub fn trace(&self, call: &TraceCall<'_>, visit: &mut dyn FnMut(StepValue<'_>)) -> Result<Vec<f32>, Error> {
        if call.traced.start > call.traced.end || call.traced.end > call.candidates {
            let detail = format!("is {:?} of {} candidates", call.traced, call.candidates);
            return Err(Error::new(ErrorKind::InvalidArgument, "traced", detail));
        }
        let row = self.inner.scenario_row(call.scenario);
        trace(&self.inner.sources(), row, call, visit)?.map_err(|fault| self.inner.explain(fault))
    }

    /// Where the bytes are.
    pub fn footprint(&self) -> Footprint {
        let Inner { store, plan, kept, items, .. } = &*self.inner;
        Footprint {
            mapped_bytes: store.mapped_bytes(),
            copied_bytes: store.copied_bytes(),
            packed_bytes: plan.packed_bytes() as u64,
            product_bytes: plan.product_bytes() as u64,
            item_bytes: items.as_ref().map_or(0, ItemCache::bytes) as u64,
            item_room: items.as_ref().map_or(0, ItemCache::rows) as u64,
            model_bytes: plan.model_bytes() as u64,
            scenario_bytes: kept.scenario_bytes() as u64,
            scratch_bytes: Scratch::bytes(&self.inner.sources()) as u64,
        }
    }

    /// What a measurement at open found of the item cache: it is there if loading a row is not slower than computing it. `None` if
    /// none was asked for, or nothing is left to decide: [`OpenOptions::item_always`], and rows of shorter types, which
    /// change scores.
    pub fn item_times(&self) -> Option<ItemTimes> {
        self.inner.item_times
    }

    /// How many scenarios' values are kept: all of them by the model, or as many by each scorer.
    pub fn kept_scenarios(&self) -> KeptScenarios {
        let Inner { kept, description, .. } = &*self.inner;
        match kept.is_complete() {
            true => KeptScenarios::All(description.scenario_rows),
            false => KeptScenarios::PerScorer(kept.room()),
        }
    }

    /// The scores of a golden request, of all tasks.
    fn score_golden(&self, index: usize, request: &GoldenRequest) -> Result<Vec<f32>, Error> {
        let subject =
            |error: Error| Error::new(ErrorKind::Golden, format!("golden.requests[{index}]"), error.to_string());
        let mut scorer = self.scorer()?;
        let mut scores = vec![0.0; self.inner.description.tasks.len() * request.candidates];
        scorer
            .prepare(request.scenario, &views(&request.request))
            .and_then(|()| scorer.score(request.candidates, &views(&request.candidate), None, &mut scores))
            .map_err(|fault| subject(scorer.explain(fault)))?;
        Ok(scores)
    }

    fn replay(&self, golden: &[GoldenRequest], options: &OpenOptions) -> Result<Option<GoldenReport>, Error> {
        let Some(described) = &self.inner.description.golden else {
            return Ok(None);
        };
        let bound = golden_bound(described.tolerance, options);
        let mut report = GoldenReport { requests: golden.len(), scores: 0, max_error: 0.0, bound };
        for (index, request) in golden.iter().enumerate() {
            let scores = self.score_golden(index, request)?;
            for (task, expected) in request.scores.iter().enumerate() {
                let start = task * request.candidates;
                for (candidate, (score, expected)) in scores[start..].iter().zip(expected).enumerate() {
                    let error = (f64::from(*score) - f64::from(*expected)).abs();
                    if error.is_nan() || error > bound {
                        let task = &self.inner.description.tasks[task].name;
                        let detail = format!(
                            "task `{task}`, candidate {candidate}: scored {score}, recorded {expected}; \
                             the difference is above {bound:e}"
                        );
                        return Err(Error::new(ErrorKind::Golden, format!("golden.requests[{index}]"), detail));
                    }
                    report.max_error = report.max_error.max(error);
                    report.scores += 1;
                }
            }
        }
        Ok(Some(report))
    }
}

fn views(columns: &[GoldenColumn]) -> Vec<Column<'_>> {
    let mut views = Vec::with_capacity(columns.len());
    for GoldenColumn { feature, values, row_offsets } in columns {
        let values = match values {
            GoldenValues::I64(values) => Values::I64(values),
            GoldenValues::F32(values) => Values::F32(values),
            GoldenValues::Text { bytes, offsets } => Values::Text { bytes, offsets },
        };
        views.push(Column { feature: *feature, values, row_offsets: row_offsets.as_deref() });
    }
    views
}

fn golden_bound(tolerance: f64, options: &OpenOptions) -> f64 {
    let usual = |precision: &Precision| match precision {
        Precision::F32 => 0.0,
        Precision::F16 | Precision::Int12 | Precision::Int16 => 5e-3,
        Precision::Bf16 => 2e-2,
        Precision::Int8 => 5e-2,
    };
    let rows = match options.item_rows {
        ItemRows::F32 => 0.0,
        _ if options.item_bytes == 0 => 0.0,
        ItemRows::F16 => 5e-3,
        ItemRows::Int8 => 5e-2,
    };
    let used = options.precision.iter().chain(options.layers.values()).chain(&options.shares);
    options.max_error.unwrap_or(used.map(usual).fold(tolerance.max(rows), f64::max))
}

fn check_options(options: &OpenOptions) -> Result<(), Error> {
    if options.tile > MAX_TILE {
        let detail = format!("is {}, at most {MAX_TILE} candidates fit a tile", options.tile);
        return Err(Error::new(ErrorKind::InvalidArgument, "tile", detail));
    }
    if let Some(bound) = options.max_error.filter(|bound| !(bound.is_finite() && *bound >= 0.0)) {
        let detail = format!("is {bound}, not a finite number from 0 on");
        return Err(Error::new(ErrorKind::InvalidArgument, "max_error", detail));
    }
    Ok(())
}

/// The kernel set of an option, else of the environment, else of the CPU.
fn choose_kernels(isa: Option<&str>) -> Result<&'static Kernels, Error> {
    let environment = std::env::var("POLYSCORE_ISA").ok().filter(|name| !name.is_empty());
    let (name, subject) = match isa {
        Some(name) => (Some(name), "isa"),
        None => (environment.as_deref(), "POLYSCORE_ISA"),
    };
    Kernels::select(name).map_err(|unknown| Error::new(ErrorKind::Unsupported, subject, unknown.to_string()))
}

/// A table may be larger than memory, so only tables that are small beside the dense weights are read whole at open.
fn check_tables(store: &Store, tables: &[Option<TensorId>]) -> Result<(), Error> {
    const LARGEST: usize = 64 << 20;
    // Features may share a table.
    let distinct: BTreeSet<TensorId> = tables.iter().flatten().copied().collect();
    distinct.into_iter().try_for_each(|table| store.check_numbers(table, LARGEST))
}
