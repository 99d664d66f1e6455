//! The command line: `polyscore inspect | check | score | bench | diff | quantize | pack`. A file per verb, over the public interface of the crate.

mod bench;
mod check;
mod compare;
mod diff;
mod inspect;
mod kernels;
mod pack;
mod quantize;
mod requests;
mod score;
mod steps;

use clap::{Args, Parser, Subcommand, ValueEnum};
use polyscore::{Error, ErrorKind, ItemRows, Mode, Model, OpenOptions, Precision};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: &stats_alloc::StatsAlloc<std::alloc::System> = &stats_alloc::INSTRUMENTED_SYSTEM;

/// Scores one request against many candidate ads with a multi-task multi-scenario ranking network.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  polyscore inspect ranker.safetensors              what the model takes and gives, and its plan
  polyscore check ranker.safetensors                is this file whole, and does this machine reproduce its scores?
  polyscore score ranker.safetensors requests.jsonl one line of scores per line of requests
  polyscore bench ranker.safetensors --candidates 1,64,500
  polyscore diff ranker.safetensors --precision-b bf16 --requests requests.jsonl --max-error 1e-3
  polyscore quantize ranker.safetensors small.safetensors --requests requests.jsonl --max-error 1e-3
  polyscore pack small.safetensors packed.safetensors

A request is a line of JSON:
  {\"scenario\": \"feed\", \"request\": {\"age\": 31, \"history\": [7, 9]}, \"candidates\": {\"ad\": [1, 2, 3]}}
Its scores come back as:
  {\"scores\": {\"ctr\": [0.1, 0.2, 0.3]}}
Candidates of different scenarios have one each: \"scenarios\": [\"feed\", \"splash\", \"feed\"]
What happened, for diff: \"labels\": {\"ctr\": [0, 1, null]}";

#[derive(Subcommand)]
enum Verb {
    /// Prints features, scenarios, tasks, bytes, and the plan: every step with its rate, shape, kernel and bytes
    Inspect(inspect::Arguments),
    /// Opens a model with every check and replays its golden requests: exit code 0 if it may serve, 1 if not
    Check(check::Arguments),
    /// Scores requests, a line of JSON each
    Score(score::Arguments),
    /// Measures latency, allocations, and the share of each step
    Bench(bench::Arguments),
    /// Measure the dense kernels against what this CPU gives at most
    Kernels(kernels::Arguments),
    /// Compares the scores of two models, or of one opened in two ways, and finds the steps that differ
    Diff(diff::Arguments),
    /// Writes a model anew in the narrowest types whose measured error stays within bounds, with the report inside
    Quantize(quantize::Arguments),
    /// Writes a model with its dense layers packed, so that hosts map them and all processes share them
    Pack(pack::Arguments),
}

/// Options of all verbs that open a model.
#[derive(Args, Clone)]
struct Open {
    /// The model: a .safetensors file, or the .safetensors.index.json of a sharded set
    model: PathBuf,
    /// Kernel set: scalar, portable, avx2, avx512, avx512bf16, amx or neon [default: the environment's POLYSCORE_ISA, else the best of the CPU]
    #[arg(long)]
    isa: Option<String>,
    /// Type in which dense weights are held [default: as stored]
    #[arg(long)]
    precision: Option<PrecisionName>,
    /// How the file is held
    #[arg(long, default_value = "map")]
    mode: ModeName,
    /// Largest accepted difference from the golden scores [default: what the file states]
    #[arg(long)]
    max_error: Option<f64>,
    /// Candidates per tile; 0 chooses; with an item cache at most 256
    #[arg(long, default_value_t = 0)]
    tile: usize,
    /// Keep request-constant work in score: the same bits, more time
    #[arg(long)]
    no_split: bool,
    /// Bytes for values of scenarios: beyond it, a scorer keeps those used last
    #[arg(long, default_value_t = OpenOptions::default().scenario_bytes)]
    scenario_bytes: usize,
    /// Bytes for product tables of fields with few rows
    #[arg(long, default_value_t = OpenOptions::default().product_bytes)]
    product_bytes: usize,
    /// Bytes for the item cache, which finds the candidates of a request by its `keys`; `bench` gives its random ones keys too
    #[arg(long, default_value_t = 0)]
    item_bytes: usize,
    /// Type of the rows of the item cache
    #[arg(long, default_value = "f32")]
    item_rows: RowsName,
}

#[derive(Clone, Copy, ValueEnum)]
enum RowsName {
    /// If loading rows is not slower than computing them
    F32,
    /// Without that measurement
    F32Always,
    F16,
    Int8,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionName {
    F32,
    F16,
    Bf16,
    Int12,
    Int16,
    Int8,
    /// For each layer the fastest within --max-error, or 1e-3
    Auto,
}

impl PrecisionName {
    fn precision(self) -> Option<Precision> {
        match self {
            PrecisionName::F32 => Some(Precision::F32),
            PrecisionName::F16 => Some(Precision::F16),
            PrecisionName::Bf16 => Some(Precision::Bf16),
            PrecisionName::Int12 => Some(Precision::Int12),
            PrecisionName::Int16 => Some(Precision::Int16),
            PrecisionName::Int8 => Some(Precision::Int8),
            PrecisionName::Auto => None,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeName {
    Map,
    Snapshot,
    Copy,
}

impl Open {
    /// A file as it is stored, with its own bound on the golden scores.
    fn plain(model: &Path, isa: Option<&str>) -> Self {
        Self {
            model: model.into(),
            isa: isa.map(str::to_owned),
            precision: None,
            mode: ModeName::Map,
            max_error: None,
            tile: 0,
            no_split: false,
            scenario_bytes: OpenOptions::default().scenario_bytes,
            product_bytes: OpenOptions::default().product_bytes,
            item_bytes: 0,
            item_rows: RowsName::F32,
        }
    }

    /// The same options for another file.
    fn at(&self, model: &Path) -> Self {
        Self { model: model.into(), ..self.clone() }
    }

    fn open(&self) -> Result<Model, Failure> {
        let options = OpenOptions {
            mode: match self.mode {
                ModeName::Map => Mode::Map,
                ModeName::Snapshot => Mode::Snapshot,
                ModeName::Copy => Mode::Copy,
            },
            precision: self.precision.and_then(PrecisionName::precision),
            auto: matches!(self.precision, Some(PrecisionName::Auto)),
            max_error: self.max_error,
            isa: self.isa.clone(),
            split: !self.no_split,
            tile: self.tile,
            scenario_bytes: self.scenario_bytes,
            product_bytes: self.product_bytes,
            item_bytes: self.item_bytes,
            item_always: matches!(self.item_rows, RowsName::F32Always),
            item_rows: match self.item_rows {
                RowsName::F32 | RowsName::F32Always => ItemRows::F32,
                RowsName::F16 => ItemRows::F16,
                RowsName::Int8 => ItemRows::Int8,
            },
            ..OpenOptions::default()
        };
        Model::open(&self.model, &options).map_err(|error| match error.kind() {
            ErrorKind::Io | ErrorKind::Unsupported | ErrorKind::InvalidArgument => error.into(),
            _ => Failure(format!("{}: {error}", self.model.display())),
        })
    }
}

/// Keeps this thread on a core.
fn pin(core: Option<usize>) -> Result<(), Failure> {
    match core {
        Some(core) if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) => {
            Err(Failure(format!("--pin: this process cannot run on core {core}")))
        }
        _ => Ok(()),
    }
}

/// Why a verb failed, as it is printed after `error: `.
struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(format!("output: {error}"))
    }
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Inspect(arguments) => inspect::run(&arguments),
        Verb::Check(arguments) => check::run(&arguments),
        Verb::Score(arguments) => score::run(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Kernels(arguments) => kernels::run(&arguments),
        Verb::Diff(arguments) => diff::run(&arguments),
        Verb::Quantize(arguments) => quantize::run(&arguments),
        Verb::Pack(arguments) => pack::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
