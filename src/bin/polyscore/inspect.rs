//! `polyscore inspect`: what a model is.

use crate::quantize::{self, REPORT};
use crate::{Failure, Open};
use clap::Args;
use polyscore::description::{DenseTransform, Feature, FeatureKind, Lookup, RowTransform, ValueKind, Vocabulary};
use polyscore::{KeptScenarios, Model};
use serde_json::{Value, json};
use std::io::Write;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    open: Open,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let model = arguments.open.open()?;
    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", to_json(&model))?;
    } else {
        write!(out, "{}", to_text(&model))?;
    }
    Ok(())
}

fn to_json(model: &Model) -> Value {
    let footprint = model.footprint();
    let steps: Vec<Value> = model
        .plan()
        .steps()
        .map(|(stage, step)| {
            json!({"stage": stage.to_string(), "rate": step.rate.to_string(), "op": step.operation_name(),
                "name": step.name, "shape": step.shape, "kernel": step.kernel, "bytes": step.bytes,
                "kept_bytes": step.kept_bytes, "multiply_adds": step.multiply_adds})
        })
        .collect();
    let [_, scenario, request, candidate] = model.plan().multiply_adds();
    let by_rate: serde_json::Map<String, Value> = model
        .plan()
        .multiply_adds_by_rate()
        .into_iter()
        .map(|(rate, count)| (rate.to_string(), json!(count)))
        .collect();
    let (all, each) = match model.kept_scenarios() {
        KeptScenarios::All(count) => (Some(count), None),
        KeptScenarios::PerScorer(count) => (None, Some(count)),
    };
    let description: Value = serde_json::from_str(model.description_json()).unwrap_or(Value::Null);
    json!({
        "description": description,
        "isa": model.plan().isa(),
        "tile": model.plan().tile(),
        "bytes": {"mapped": footprint.mapped_bytes, "copied": footprint.copied_bytes, "packed": footprint.packed_bytes,
            "products": footprint.product_bytes, "items": footprint.item_bytes,
            "model": footprint.model_bytes, "scenarios": footprint.scenario_bytes, "scratch": footprint.scratch_bytes},
        "folded": {"bytes_per_scenario": model.plan().bytes_per_scenario(), "scenarios": all, "scenarios_per_scorer": each},
        "item_times": model.item_times().map(|times| json!({"load_ns": times.load.as_nanos() as u64,
            "compute_ns": times.compute.as_nanos() as u64})),
        "golden": model.golden().map(|golden| json!({"requests": golden.requests, "scores": golden.scores,
            "max_error": golden.max_error, "bound": golden.bound})),
        "quantized": quantized(model),
        "multiply_adds": {"scenario": scenario, "request": request, "candidate": candidate,
            "by_rate": by_rate},
        "steps": steps,
    })
}

fn to_text(model: &Model) -> String {
    let description = model.description();
    let mut text = String::new();
    let mut line = |content: String| {
        text.push_str(&content);
        text.push('\n');
    };
    line(format!("model {}", description.name.as_deref().unwrap_or("without a name")));
    for (key, value) in &description.provenance {
        line(format!("  {key}: {value}"));
    }
    line(format!("features ({})", description.features.len()));
    for (slot, feature) in description.features.iter().enumerate() {
        line(format!("  {slot:>3}  {:24} {:8} {}", feature.name, rate(feature), kind(model, feature)));
    }
    line(format!("scenarios ({})", description.scenarios.len()));
    for scenario in &description.scenarios {
        line(format!("       {:24} id {}, row {}", scenario.name, scenario.id, scenario.row));
    }
    line(format!("tasks ({})", description.tasks.len()));
    for task in &description.tasks {
        let parts = task.composition.iter().flatten();
        let names: Vec<&str> = parts.map(|part| description.tasks[*part as usize].name.as_str()).collect();
        let how = if names.is_empty() { "predicted".to_owned() } else { format!("= {}", names.join(" * ")) };
        line(format!("       {:24} {how}", task.name));
    }
    let mut network = description.network.clone();
    if let Some(steps) = network.get_mut("steps") {
        *steps = json!(steps.as_array().map_or(0, Vec::len));
    }
    line(format!("network\n       {}", Value::Object(network)));
    let bytes = model.footprint();
    line(format!(
        "bytes\n       {} mapped, {} copied, {} packed weights, {} product tables, {} per scorer",
        bytes.mapped_bytes, bytes.copied_bytes, bytes.packed_bytes, bytes.product_bytes, bytes.scratch_bytes
    ));
    if bytes.item_bytes > 0 {
        line(format!("item cache\n       {} bytes, room for {} candidates", bytes.item_bytes, bytes.item_room));
    }
    if let Some(times) = model.item_times() {
        let which = if bytes.item_bytes > 0 { "kept" } else { "no item cache" };
        let [load, compute] = [times.load, times.compute].map(|time| time.as_nanos());
        line(format!("       {which}: a candidate takes {load} ns from it, {compute} ns to compute"));
    }
    let each = model.plan().bytes_per_scenario();
    let where_kept = match model.kept_scenarios() {
        KeptScenarios::All(count) => format!("kept for all {count}: {} bytes", bytes.scenario_bytes),
        KeptScenarios::PerScorer(count) => {
            format!("the {count} used last are kept by each scorer: {} bytes", count * each)
        }
    };
    line(format!("folded\n       {} bytes for the model", bytes.model_bytes));
    line(format!("       {each} bytes for each scenario, {where_kept}"));
    line(match model.golden() {
        Some(golden) => format!(
            "golden\n       {} requests, {} scores, largest difference {:.3e} (bound {:.0e})",
            golden.requests, golden.scores, golden.max_error, golden.bound
        ),
        None => "golden\n       none in the file".to_owned(),
    });
    if let Some(report) = quantized(model) {
        line(quantize::to_text(&report).trim_end().to_owned());
    }
    line(format!("plan\n{}", model.plan()));
    text
}

/// The report of `quantize`, if the file is its work.
fn quantized(model: &Model) -> Option<Value> {
    serde_json::from_str(model.metadata().get(REPORT)?).ok()
}

fn rate(feature: &Feature) -> &'static str {
    use polyscore::description::Rate;
    match feature.rate {
        Rate::Request => "request",
        Rate::Item => "item",
        Rate::Pair => "pair",
    }
}

fn kind(model: &Model, feature: &Feature) -> String {
    let optional = if feature.is_optional() { ", optional" } else { "" };
    match &feature.kind {
        FeatureKind::Id { lookup, length } => {
            let count = if *length > 1 { format!("{length} ids") } else { "id".to_owned() };
            format!("{count} of {}{optional}", transform(model, feature, lookup))
        }
        FeatureKind::Ids { lookup, pooling } => {
            format!(
                "bag ({}) of {}{optional}",
                format!("{pooling:?}").to_lowercase(),
                transform(model, feature, lookup)
            )
        }
        FeatureKind::Sequence { lookup, length, .. } => {
            format!("sequence of up to {length} of {}{optional}", transform(model, feature, lookup))
        }
        FeatureKind::Dense(dense) => {
            let how = match &dense.transform {
                DenseTransform::None => "as it is",
                DenseTransform::Standardize { .. } => "standardized",
                DenseTransform::Log1p => "log1p",
                DenseTransform::Minmax { .. } => "min-max scaled",
            };
            format!("dense, width {}, {how}{optional}", dense.width)
        }
    }
}

fn transform(model: &Model, feature: &Feature, lookup: &Lookup) -> String {
    let values = match feature.value_kind() {
        ValueKind::Integer => "integers",
        ValueKind::Number => "numbers",
        ValueKind::Text => "texts",
        ValueKind::IntegerOrText => "integers or texts",
    };
    let how = match &lookup.transform {
        RowTransform::Identity => "identity".to_owned(),
        RowTransform::Hash { seed, buckets, .. } => format!("xxh64 (seed {seed}) into {buckets}"),
        RowTransform::Vocabulary { values: Vocabulary::Integers(values), .. } => {
            format!("vocabulary of {}", values.len())
        }
        RowTransform::Vocabulary { values: Vocabulary::Texts(values), .. } => format!("vocabulary of {}", values.len()),
        RowTransform::Bucketize { boundaries, .. } => format!("{} buckets", boundaries.len() + 1),
    };
    let Lookup { table, oov, .. } = lookup;
    let shape =
        model.tensor(table).map(|table| format!(" {:?} {}", table.shape, table.dtype.name())).unwrap_or_default();
    format!("{values}, {how}, table {table}{shape}, oov row {oov}, missing row {}", lookup.missing_row())
}
