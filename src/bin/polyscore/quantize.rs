//! `polyscore quantize`: a model in the narrowest types whose measured error stays within bounds.
//!
//! The last word is a measurement of the complete new file against the original, before it gets its name: the file that was
//! measured is the one that is there, or there is none.

use crate::compare::{Bounds, Comparison, Report, Scenarios, Scored, TaskReport, share_of};
use crate::requests::{Labels, Request, Source, for_each, views};
use crate::{Failure, Open};
use clap::{Args, ValueEnum};
use polyscore::{Integer, Model, Narrow, Narrowing, OpenOptions, Replacement, Role, Tensor, Wanted};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the new file has the report: a text of its metadata.
pub const REPORT: &str = "polyscore.quantize";

/// What is kept where the caller names no bound on the error.
const MAX_ERROR: f64 = 1e-3;

/// Candidates per tile while models are measured; it changes no score.
const TILE: usize = 64;

#[derive(Args)]
pub struct Arguments {
    /// The model: a .safetensors file, or the .safetensors.index.json of a sharded set
    model: PathBuf,
    /// The file to write, which may be there; it is replaced once the new one is complete and measured
    out: PathBuf,
    /// Requests to measure with, a line of JSON each, with labels if they are known; `-` reads standard input
    /// [default: the golden requests of the model]
    #[arg(long)]
    requests: Option<String>,
    #[command(flatten)]
    bounds: Bounds,
    /// Types of tables
    #[arg(long, default_value = "auto")]
    tables: TableType,
    /// Types of the weights of dense layers
    #[arg(long, default_value = "auto")]
    dense: DenseType,
    /// Kernel set to measure with [default: the environment's POLYSCORE_ISA, else the best of the CPU]
    #[arg(long)]
    isa: Option<String>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum TableType {
    Int4,
    Int8,
    F16,
    Keep,
    Auto,
}

#[derive(Clone, Copy, ValueEnum)]
enum DenseType {
    Int8,
    Int12,
    Int16,
    F16,
    Keep,
    Auto,
}

impl From<TableType> for Wanted {
    fn from(of: TableType) -> Self {
        match of {
            TableType::Int4 => Wanted::All(Narrow::Integer(Integer::Int4)),
            TableType::Int8 => Wanted::All(Narrow::Integer(Integer::Int8)),
            TableType::F16 => Wanted::All(Narrow::F16),
            TableType::Keep => Wanted::Keep,
            TableType::Auto => Wanted::Auto,
        }
    }
}

impl From<DenseType> for Wanted {
    fn from(of: DenseType) -> Self {
        match of {
            DenseType::Int8 => Wanted::All(Narrow::Integer(Integer::Int8)),
            DenseType::Int12 => Wanted::All(Narrow::Integer(Integer::Int12)),
            DenseType::Int16 => Wanted::All(Narrow::Integer(Integer::Int16)),
            DenseType::F16 => Wanted::All(Narrow::F16),
            DenseType::Keep => Wanted::Keep,
            DenseType::Auto => Wanted::Auto,
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    arguments.bounds.check()?;
    let bounds = Bounds { max_error: arguments.bounds.max_error.or(Some(MAX_ERROR)), ..arguments.bounds };
    let model = Open::plain(&arguments.model, arguments.isa.as_deref()).open()?;
    let sample = Sample::read(&model, arguments.requests.as_deref())?;
    // What is undefined of the original itself, such as the AUC of a single score, bounds nothing.
    sample.measure(&model)?.hold(&bounds)?;

    let options = OpenOptions { isa: arguments.isa.clone(), tile: TILE, ..OpenOptions::default() };
    let narrowing = Narrowing::choose::<Failure>(
        &model,
        arguments.tables.into(),
        arguments.dense.into(),
        &options,
        &mut |narrowed| Ok(sample.measure(narrowed)?.figure(&bounds)),
    )?;
    let nothing = |why: &str| Failure(format!("{why}; {} is not written", arguments.out.display()));
    if narrowing.replacements.is_empty() {
        return Err(nothing("nothing to do: no tensor is asked for that could be narrower"));
    }
    let narrowed = model.replaced(&narrowing.replacements, &options)?;
    let measured = sample.measure(&narrowed)?;
    if let Err(broken) = measured.hold(&bounds) {
        let what = summary(&narrowed, &narrowing.replacements);
        return Err(nothing(&format!("nothing keeps the bounds: the nearest, {what}, has {broken}")));
    }

    let mut alone = BTreeMap::new();
    for replacement in &narrowing.replacements {
        let measured = sample.measure(&model.replaced(std::slice::from_ref(replacement), &options)?)?;
        alone.insert(replacement.name.as_str(), largest_error(&measured.report));
    }
    // Product tables are f32 whatever a layer is held in: a reader who has none sees other errors, and has to open the file too.
    let bare = OpenOptions { product_bytes: 0, ..options.clone() };
    let bare = sample.measure(&model.replaced(&narrowing.replacements, &bare)?)?;
    let tolerance = sample.golden.as_ref().map(|golden| golden.tolerance(&[&measured, &bare]));
    let written =
        Written { arguments, bounds, model: &model, sample: &sample, narrowing: &narrowing, tolerance, alone };
    let json = written.report(&measured.report);
    let description = tolerance.map(|tolerance| tolerance.amend(model.description_json())).transpose()?;
    let texts = BTreeMap::from([(REPORT.to_owned(), json.to_string())]);
    narrowed.write(&arguments.out, description.as_deref(), &texts, |file| {
        let complete = sample.measure(&Open::plain(file, arguments.isa.as_deref()).open()?)?;
        match complete.scores == measured.scores && complete.golden == measured.golden {
            true => Ok(()),
            false => Err(Failure("the complete file scores otherwise than what was measured".to_owned())),
        }
    })?;

    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{json}")?;
    } else {
        write!(out, "{}", to_text(&json))?;
    }
    Ok(out.flush()?)
}

/// What models are measured with, and the scores of the original.
struct Sample {
    source: String,
    requests: Vec<(usize, Request)>,
    reference: Vec<Vec<f32>>,
    golden: Option<Golden>,
    tasks: Vec<String>,
    scenarios: Vec<String>,
}

/// The golden requests: whatever else is measured, their scores keep the bound on the error too.
struct Golden {
    requests: Vec<(usize, Request)>,
    /// The scores of the original.
    reference: Vec<Vec<f32>>,
    /// Those that the file states, which are those of training.
    stated: Vec<Vec<f32>>,
    tolerance: f64,
}

/// A model against the original.
struct Measured {
    report: Report,
    scores: Vec<Vec<f32>>,
    golden: Vec<Vec<f32>>,
    /// The largest difference of a golden score.
    golden_change: f64,
}

impl Measured {
    fn figure(&self, bounds: &Bounds) -> f64 {
        let golden = bounds.max_error.map_or(0.0, |bound| share_of(self.golden_change, bound));
        bounds.figure(&self.report).max(golden)
    }

    /// # Errors
    /// What breaks a bound.
    fn hold(&self, bounds: &Bounds) -> Result<(), Failure> {
        bounds.hold(&self.report)?;
        match bounds.max_error.filter(|bound| self.golden_change > *bound) {
            None => Ok(()),
            Some(bound) => {
                let change = self.golden_change;
                Err(Failure(format!("golden requests: the largest error is {change:.3e}, above --max-error {bound:e}")))
            }
        }
    }
}

impl Sample {
    fn read(model: &Model, requests: Option<&str>) -> Result<Self, Failure> {
        let source = match requests {
            Some(path) => Source::Lines(path),
            None if model.golden().is_some() => Source::Golden,
            None => return Err(Failure("--requests: is needed, the model has no golden requests".to_owned())),
        };
        let read = |source| {
            let mut requests = Vec::new();
            let source = for_each(model, source, |number, request| {
                requests.push((number, request));
                Ok(())
            })?;
            Ok::<_, Failure>((source, requests))
        };
        let golden = match &model.description().golden {
            None => None,
            Some(described) => {
                let (source, requests) = read(Source::Golden)?;
                let reference = scores(model, &source, &requests)?;
                let stated = model.golden_requests()?.into_iter().map(|golden| golden.scores.concat()).collect();
                Some(Golden { requests, reference, stated, tolerance: described.tolerance })
            }
        };
        let (source, requests) = read(source)?;
        let reference = scores(model, &source, &requests)?;
        let description = model.description();
        let tasks = description.tasks.iter().map(|task| task.name.clone()).collect();
        let scenarios = description.scenarios.iter().map(|scenario| scenario.name.clone()).collect();
        Ok(Self { source, requests, reference, golden, tasks, scenarios })
    }

    fn measure(&self, model: &Model) -> Result<Measured, Failure> {
        let scored = scores(model, &self.source, &self.requests)?;
        let (golden, golden_change) = match &self.golden {
            None => (Vec::new(), 0.0),
            Some(golden) => {
                let scored = scores(model, "golden", &golden.requests)?;
                let change = largest_difference(&scored, &golden.reference);
                (scored, change)
            }
        };
        Ok(Measured { report: self.compare(&scored)?, scores: scored, golden, golden_change })
    }

    fn compare(&self, scores: &[Vec<f32>]) -> Result<Report, Failure> {
        let mut comparison = Comparison::new(&self.tasks, &self.scenarios);
        for (((number, request), a), b) in self.requests.iter().zip(&self.reference).zip(scores) {
            let label = |task: usize| request.labels.iter().find(|(of, _)| *of as usize == task);
            let labels: Vec<Option<&Labels>> =
                (0..self.tasks.len()).map(|task| label(task).map(|(_, labels)| labels)).collect();
            let each = request.scenarios.as_deref();
            let scenarios = each.map_or(Scenarios::One(request.scenario), Scenarios::Each);
            comparison
                .add(&Scored { number: *number, scenarios, candidates: request.count, a, b, labels: &labels })
                .map_err(|error| Failure(format!("{}: {error}", self.source)))?;
        }
        comparison.report().ok_or_else(|| Failure(format!("{}: has no candidates to measure with", self.source)))
    }
}

/// The scores of each request, task by task.
fn scores(model: &Model, source: &str, requests: &[(usize, Request)]) -> Result<Vec<Vec<f32>>, Failure> {
    let mut scorer = model.scorer()?;
    let of = |(number, request): &(usize, Request)| {
        let (user, ads) = (views(&request.request), views(&request.candidates));
        let mut scores = vec![0.0; model.description().tasks.len() * request.count];
        scorer
            .prepare(request.scenario, &user)
            .and_then(|()| request.score(&mut scorer, &ads, None, &mut scores))
            .map_err(|fault| Failure(format!("{source}, request {number}: {}", scorer.explain(fault))))?;
        Ok(scores)
    };
    requests.iter().map(of).collect()
}

fn largest_difference(scores: &[Vec<f32>], expected: &[Vec<f32>]) -> f64 {
    let pairs = scores.iter().flatten().zip(expected.iter().flatten());
    pairs.map(|(score, expected)| (f64::from(*score) - f64::from(*expected)).abs()).fold(0.0, f64::max)
}

impl Golden {
    fn tolerance(&self, measured: &[&Measured]) -> Tolerance {
        let errors = measured.iter().map(|measured| largest_difference(&measured.golden, &self.stated));
        Tolerance { before: self.tolerance, error: errors.fold(0.0, f64::max) }
    }
}

/// How far golden scores may be from the stated ones: what the original allows, and what was measured, rounded up to two
/// digits; with the usual product tables and without any. The bits of the scores are the same on every machine, so this is no more
/// than what a reader will see.
#[derive(Clone, Copy)]
struct Tolerance {
    before: f64,
    error: f64,
}

impl Tolerance {
    fn after(self) -> f64 {
        let sum = self.before + self.error;
        let unit = 10f64.powf(sum.log10().floor() - 1.0);
        ((sum / unit).ceil() * unit).min(1.0)
    }

    /// The description with that tolerance.
    fn amend(self, description: &str) -> Result<String, Failure> {
        let mut value: Value = serde_json::from_str(description).map_err(|error| Failure(error.to_string()))?;
        value["golden"]["tolerance"] = json!(self.after());
        Ok(value.to_string())
    }
}

fn largest_error(report: &Report) -> f64 {
    report.tasks.iter().map(|task| task.all.max).fold(0.0, f64::max)
}

/// How many tensors became what.
fn summary(narrowed: &Model, replacements: &[Arc<Replacement>]) -> String {
    let is_new = |tensor: &Tensor<'_>| replacements.iter().any(|of| of.name == tensor.name);
    let types = narrowed.roles().filter(|(tensor, _)| is_new(tensor));
    let types: Vec<_> = types.map(|(tensor, role)| (tensor.name, type_name(&tensor, role))).collect();
    match &types[..] {
        [(name, of)] => format!("`{name}` as {of} alone"),
        several => {
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            several.iter().for_each(|(_, of)| *counts.entry(of).or_default() += 1);
            let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{count} as {name}")).collect();
            format!("{} tensors ({})", several.len(), parts.join(", "))
        }
    }
}

/// What a table or the weight of a layer is held in.
fn type_name(tensor: &Tensor<'_>, role: Role) -> &'static str {
    use polyscore::Dtype;
    match (tensor.integer(role.axis()), tensor.dtype) {
        (Some(integer), _) => integer.name(),
        (None, Dtype::F16) => "f16",
        (None, Dtype::Bf16) => "bf16",
        (None, _) => "f32",
    }
}

/// All that the report of a new file is made of.
struct Written<'a> {
    arguments: &'a Arguments,
    bounds: Bounds,
    model: &'a Model,
    sample: &'a Sample,
    narrowing: &'a Narrowing,
    tolerance: Option<Tolerance>,
    alone: BTreeMap<&'a str, f64>,
}

impl Written<'_> {
    fn report(&self, report: &Report) -> Value {
        let Self { bounds, model, sample, narrowing, .. } = self;
        let by_name: BTreeMap<&str, &Replacement> =
            narrowing.replacements.iter().map(|replacement| (replacement.name.as_str(), &**replacement)).collect();
        let scales = |tensor: &Tensor<'_>| {
            let scale = tensor.integer(0).and_then(|_| model.tensor(&format!("{}.scale", tensor.name)));
            scale.map_or(0, |scale| scale.bytes.len())
        };
        let (mut before, mut after) = (0, 0);
        let mut tensors = Vec::new();
        for (tensor, role) in model.roles() {
            let old = tensor.bytes.len() + scales(&tensor);
            let replacement = by_name.get(tensor.name);
            let new = replacement.map_or(old, |replacement| replacement.len());
            (before, after) = (before + old, after + new);
            tensors.push(json!({
                "name": tensor.name,
                "kind": if role == Role::Table { "table" } else { "dense" },
                "before": type_name(&tensor, role),
                "after": type_name(&replacement.map_or(tensor, |replacement| replacement.tensor()), role),
                "bytes_before": old,
                "bytes_after": new,
                "max_error": self.alone.get(tensor.name),
            }));
        }
        let task = |TaskReport { name, all, .. }: &TaskReport| {
            let figures = json!({"max_error": all.max, "mean_error": all.mean, "auc_loss": all.auc_loss(),
                "calibration_shift": all.calibration_shift()});
            (name.clone(), figures)
        };
        let figures = || report.tasks.iter().map(|task| &task.all);
        let previous = model.metadata().get(REPORT).map(|text| serde_json::from_str(text).unwrap_or(Value::Null));
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "requests": {"source": source_name(&sample.source), "requests": report.requests,
                "candidates": figures().next().map_or(0, |all| all.candidates),
                "labels": figures().any(|all| all.hard.is_some())},
            "bounds": {"max_error": bounds.max_error, "max_auc_loss": bounds.max_auc_loss,
                "max_calibration_shift": bounds.max_calibration_shift},
            "tables": name(&self.arguments.tables),
            "dense": name(&self.arguments.dense),
            "bytes_before": before,
            "bytes_after": after,
            "max_error": largest_error(report),
            "auc_loss": figures().filter_map(|all| all.auc_loss()).reduce(f64::max),
            "calibration_shift": figures().map(|all| all.calibration_shift()).max_by(|a, b| a.abs().total_cmp(&b.abs())),
            "tasks": report.tasks.iter().map(task).collect::<serde_json::Map<String, Value>>(),
            "golden": self.tolerance.map(|tolerance| json!({"max_error": tolerance.error,
                "tolerance_before": tolerance.before, "tolerance": tolerance.after()})),
            "measured": narrowing.tried,
            "tensors": tensors,
            "previous": previous,
        })
    }
}

fn name(of: &impl ValueEnum) -> String {
    of.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Folders are nobody's business who gets the file.
fn source_name(source: &str) -> String {
    Path::new(source).file_name().map_or(source.into(), |name| name.to_string_lossy()).into_owned()
}

/// The report as `inspect` and `quantize` print it.
pub fn to_text(report: &Value) -> String {
    let number = |value: &Value| value.as_f64().map_or("-".to_owned(), |value| format!("{:.2e}", value + 0.0));
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let count = |value: &Value| value.as_u64().unwrap_or(0);
    let requests = &report["requests"];
    let mut lines = vec![
        format!(
            "quantized by polyscore {} on {}: {} requests, {} candidates{}",
            text(&report["version"]),
            text(&requests["source"]),
            count(&requests["requests"]),
            count(&requests["candidates"]),
            if requests["labels"] == true { ", with labels" } else { "" }
        ),
        format!(
            "       largest error {} (bound {}), AUC loss {} (bound {}), calibration shift {} (bound {})",
            number(&report["max_error"]),
            number(&report["bounds"]["max_error"]),
            number(&report["auc_loss"]),
            number(&report["bounds"]["max_auc_loss"]),
            number(&report["calibration_shift"]),
            number(&report["bounds"]["max_calibration_shift"]),
        ),
        format!(
            "       tables and dense layers {} bytes, before {}",
            count(&report["bytes_after"]),
            count(&report["bytes_before"])
        ),
    ];
    for tensor in report["tensors"].as_array().into_iter().flatten() {
        let [before, after] = [&tensor["before"], &tensor["after"]].map(text);
        let change = if before == after { before } else { format!("{before} -> {after}") };
        lines.push(format!(
            "       {:5} {:48} {change:14} {:>12} -> {:>12} bytes, alone {}",
            text(&tensor["kind"]),
            text(&tensor["name"]),
            count(&tensor["bytes_before"]),
            count(&tensor["bytes_after"]),
            number(&tensor["max_error"])
        ));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}
