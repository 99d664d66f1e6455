//! `polyscore bench`: latency per number of candidates, allocations, and where the time goes.

use crate::requests::{Owned, Request, parse, random, views};
use crate::{ALLOCATOR, Failure, Open};
use clap::Args;
use hdrhistogram::Histogram;
use polyscore::{Column, Model, Pool, Scorer};
use serde_json::{Value, json};
use stats_alloc::Region;
use std::io::Write;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    open: Open,
    /// Numbers of candidates to measure
    #[arg(long, value_delimiter = ',', default_value = "1,64,500")]
    candidates: Vec<usize>,
    /// Recorded requests, a line of JSON each, instead of random ones; each is scored with its own candidates
    #[arg(long)]
    requests: Option<String>,
    /// Seconds to measure, for each number of candidates
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Run on this core
    #[arg(long)]
    pin: Option<usize>,
    /// Share each call among this many threads; 0: as many as this process may use
    #[arg(long, conflicts_with = "pin")]
    threads: Option<usize>,
    /// How many steps to list, the slowest first
    #[arg(long, default_value_t = 12)]
    steps: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Different requests, so that a measurement does not run on cached rows alone.
const REQUESTS: usize = 64;

/// Calls of a minute and more count as a minute, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;

/// What was measured for one number of candidates. Times are in nanoseconds.
struct Measured {
    label: String,
    candidates: f64,
    both: Histogram<u64>,
    score: Histogram<u64>,
    allocations: usize,
    seconds: f64,
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    crate::pin(arguments.pin)?;
    let model = arguments.open.open()?;
    let mut scorer = match arguments.threads {
        None => model.scorer()?,
        Some(count) => model.parallel_scorer(&Pool::new((count > 0).then_some(count), "bench")?)?,
    };
    let mut measured = Vec::new();
    match &arguments.requests {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| Failure(format!("{path}: {error}")))?;
            let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
            let requests = lines
                .map(|(number, line)| parse(&model, line).map_err(|e| Failure(format!("line {}: {e}", number + 1))))
                .collect::<Result<Vec<Request>, Failure>>()?;
            if requests.is_empty() {
                return Err(Failure(format!("{path}: has no requests")));
            }
            measured.push(measure("recorded".to_owned(), &model, &mut scorer, &requests, arguments.seconds)?);
        }
        None => {
            let mut source = fastrand::Rng::with_seed(1);
            for count in &arguments.candidates {
                let requests = made(&model, *count, &mut source);
                measured.push(measure(format!("{count}"), &model, &mut scorer, &requests, arguments.seconds)?);
            }
        }
    }
    let mut source = fastrand::Rng::with_seed(2);
    let count = arguments.candidates.iter().copied().max().unwrap_or(1);
    let requests = made(&model, count, &mut source);
    scorer.start_profile();
    measure("profile".to_owned(), &model, &mut scorer, &requests, arguments.seconds)?;
    report(arguments, &model, &measured, scorer.profile())
}

/// Random requests of `count` candidates, whose keys differ from those of all other requests.
fn made(model: &Model, count: usize, source: &mut fastrand::Rng) -> Vec<Request> {
    let make = |_| {
        let mut request = random(model, count, source);
        request.candidates.push(Owned::keys((0..count).map(|_| source.i64(..)).collect()));
        request
    };
    (0..REQUESTS).map(make).collect()
}

fn measure(
    label: String,
    model: &Model,
    scorer: &mut Scorer,
    requests: &[Request],
    seconds: f64,
) -> Result<Measured, Failure> {
    let histogram = || Histogram::<u64>::new_with_max(LONGEST, 3).map_err(|error| Failure(error.to_string()));
    let (mut both, mut score) = (histogram()?, histogram()?);
    let columns: Vec<(Vec<Column<'_>>, Vec<Column<'_>>)> =
        requests.iter().map(|request| (views(&request.request), views(&request.candidates))).collect();
    let largest = requests.iter().map(|request| request.count).max().unwrap_or(0);
    let mut out = vec![0.0; largest * model.description().tasks.len()];
    let mut call = |place: usize, both: Option<&mut Histogram<u64>>, score: Option<&mut Histogram<u64>>| {
        let (request, (user, ads)) = (&requests[place], &columns[place]);
        let start = Instant::now();
        let result = scorer.prepare(request.scenario, user);
        let middle = Instant::now();
        let result = result.and_then(|()| request.score(scorer, ads, None, &mut out));
        let end = Instant::now();
        result.map_err(|fault| Failure(scorer.explain(fault).to_string()))?;
        for (histogram, since) in [(both, start), (score, middle)] {
            if let Some(histogram) = histogram {
                histogram.saturating_record((end - since).as_nanos() as u64);
            }
        }
        Ok::<(), Failure>(())
    };
    for place in 0..requests.len() {
        call(place, None, None)?;
    }
    let region = Region::new(ALLOCATOR);
    for place in 0..requests.len() {
        call(place, None, None)?;
    }
    let change = region.change();
    let start = Instant::now();
    let mut calls = 0;
    while start.elapsed().as_secs_f64() < seconds {
        call(calls % requests.len(), Some(&mut both), Some(&mut score))?;
        calls += 1;
    }
    let candidates = requests.iter().map(|request| request.count).sum::<usize>() as f64 / requests.len() as f64;
    let allocations = change.allocations + change.reallocations;
    Ok(Measured { label, candidates, both, score, allocations, seconds: start.elapsed().as_secs_f64() })
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

fn report(arguments: &Arguments, model: &Model, measured: &[Measured], profile: &[Duration]) -> Result<(), Failure> {
    let total: f64 = profile.iter().map(Duration::as_secs_f64).sum();
    let mut shares: Vec<(f64, String)> = model
        .plan()
        .steps()
        .zip(profile)
        .map(|((stage, step), time)| {
            let what =
                format!("{stage:9} {:9} {:36} {:14} {}", step.operation_name(), step.name, step.shape, step.kernel);
            (time.as_secs_f64() / total, what)
        })
        .collect();
    shares.sort_by(|a, b| b.0.total_cmp(&a.0));
    shares.truncate(arguments.steps);

    let mut out = std::io::stdout().lock();
    if arguments.json {
        let rows: Vec<Value> = measured
            .iter()
            .map(|m| {
                let times = |h: &Histogram<u64>| {
                    json!({"p50": microseconds(h.value_at_quantile(0.5)), "p90": microseconds(h.value_at_quantile(0.9)),
                        "p99": microseconds(h.value_at_quantile(0.99)), "p999": microseconds(h.value_at_quantile(0.999)),
                        "mean": h.mean() / 1e3})
                };
                json!({"candidates": m.label, "calls": m.both.len(), "prepare_and_score_us": times(&m.both),
                    "score_us": times(&m.score), "allocations": m.allocations})
            })
            .collect();
        let steps: Vec<Value> = shares.iter().map(|(share, what)| json!({"share": share, "step": what})).collect();
        writeln!(out, "{}", json!({"isa": model.plan().isa(), "measured": rows, "steps": steps}))?;
        return Ok(());
    }
    writeln!(out, "isa {}, times in microseconds, allocations of one pass over all requests", model.plan().isa())?;
    writeln!(
        out,
        "{:>10} {:>17} {:>9} {:>9} {:>9} {:>9} {:>9} {:>12} {:>11}",
        "candidates", "call", "p50", "p90", "p99", "p99.9", "mean", "candidates/s", "allocations"
    )?;
    for m in measured {
        for (call, h) in [("prepare + score", &m.both), ("score", &m.score)] {
            let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|q| microseconds(h.value_at_quantile(q)));
            let rate = m.both.len() as f64 * m.candidates / m.seconds;
            writeln!(
                out,
                "{:>10} {call:>17} {p50:>9.1} {p90:>9.1} {p99:>9.1} {p999:>9.1} {:>9.1} {rate:>12.0} {:>11}",
                m.label,
                h.mean() / 1e3,
                m.allocations
            )?;
        }
    }
    writeln!(out, "share of the time of each step, with the most candidates")?;
    for (share, what) in &shares {
        writeln!(out, "{:>9.1}%  {what}", share * 100.0)?;
    }
    Ok(())
}
