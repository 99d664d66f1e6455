//! How far the scores of two models are apart, per task and per scenario: what `diff` reports, and what a gate holds bounds
//! against.
//!
//! Requests are added one after the other. What is known of a request alone (the order of its candidates, its own AUC) is
//! summed up at once; quantiles and the AUC over all candidates are exact, for which the two scores and the label of every
//! candidate are kept: 9 bytes per task, and 4 for the scenario; a report takes about 70 more per candidate while it is made.
//!
//! With `a` and `b` the scores of a candidate, and weights `w+` and `w-` by which it counts as positive and as negative:
//! ```text
//! error         |b - a|; the quantile q is the smallest error that at least q of the candidates do not exceed
//! flips         pairs of candidates of one request with sign(a_i - a_j) != sign(b_i - b_j): swapped, or tied in one only
//! calibration   mean(b) / mean(a) - 1, and mean(b) - mean(a)
//! AUC(s)        sum_ij w+_i w-_j ([s_i > s_j] + [s_i = s_j] / 2) / (sum_i w+_i sum_j w-_j)
//! GAUC(s)       the AUC of each request that has both kinds, weighted by its candidates
//! log loss(s)   -sum_i (w+_i ln s_i + w-_i ln (1 - s_i)) / sum_i (w+_i + w-_i), s between 2^-24 and 1 - 2^-24
//! ```
//! Against labels, `w+` is the label and `w-` its opposite, over the candidates that have one. Without labels, A's scores
//! take their place: `w+ = a`, `w- = 1 - a`, so that the change is what B loses where A is right.

use crate::Failure;
use crate::requests::Labels;
use clap::Args;
use serde_json::{Map, Value, json};

/// How many of the best candidates `top` counts changes of.
const TOP: usize = 10;

/// Candidates that one comparison takes: 2^27, 1.2 GB per task.
const MOST: usize = 1 << 27;

/// What a comparison must keep, so that scripts can depend on it.
#[derive(Args, Clone, Copy, Default)]
pub struct Bounds {
    /// Fail if a score differs by more than this, in probability
    #[arg(long, value_name = "X")]
    pub max_error: Option<f64>,
    /// Fail if the AUC of a task falls by more than this: against labels, or A's scores where there are none
    #[arg(long, value_name = "X")]
    pub max_auc_loss: Option<f64>,
    /// Fail if the mean score of a task changes by more than this share of it
    #[arg(long, value_name = "X")]
    pub max_calibration_shift: Option<f64>,
}

impl Bounds {
    /// # Errors
    /// Names the option that is no bound.
    pub fn check(&self) -> Result<(), Failure> {
        let bounds = [
            ("--max-error", self.max_error),
            ("--max-auc-loss", self.max_auc_loss),
            ("--max-calibration-shift", self.max_calibration_shift),
        ];
        for (name, bound) in bounds {
            if let Some(bound) = bound.filter(|bound| !(bound.is_finite() && *bound >= 0.0)) {
                return Err(Failure(format!("{name}: is {bound}, not a finite number from 0 on")));
            }
        }
        Ok(())
    }

    /// # Errors
    /// Names the first task that breaks a bound, with its figure.
    pub fn hold(&self, report: &Report) -> Result<(), Failure> {
        for (task, Bounded { what, option, figure, bound }) in self.bounded(report) {
            match figure {
                None => return Err(Failure(format!("task `{task}`: {what}, for {option}, is not defined"))),
                Some(figure) if figure.is_nan() || figure > bound => {
                    return Err(Failure(format!("task `{task}`: {what} is {figure:.3e}, above {option} {bound:e}")));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The largest figure as a share of its bound: more than 1 if a bound is broken, infinite if it is not defined.
    pub fn figure(&self, report: &Report) -> f64 {
        let share = |(_, Bounded { figure, bound, .. })| figure.map_or(f64::INFINITY, |figure| share_of(figure, bound));
        self.bounded(report).into_iter().map(share).fold(0.0, f64::max)
    }

    fn bounded<'a>(&self, report: &'a Report) -> Vec<(&'a str, Bounded)> {
        let of = |TaskReport { name, all, .. }: &'a TaskReport| {
            let error = (Some(all.max), self.max_error, "the largest error", "--max-error");
            let auc = (all.auc_loss(), self.max_auc_loss, "the loss of AUC", "--max-auc-loss");
            let shift = Some(all.calibration_shift().abs());
            let shift = (shift, self.max_calibration_shift, "the calibration shift", "--max-calibration-shift");
            let bounded = |(figure, bound, what, option)| Some(Bounded { what, option, figure, bound: bound? });
            [error, auc, shift].into_iter().filter_map(bounded).map(move |bounded| (name.as_str(), bounded))
        };
        report.tasks.iter().flat_map(of).collect()
    }
}

/// A figure by its bound: infinite if it is no number, and of a bound of 0 anything is too much.
pub fn share_of(figure: f64, bound: f64) -> f64 {
    match figure {
        figure if figure <= 0.0 => 0.0,
        figure if figure <= bound => figure / bound,
        figure if figure.is_nan() => f64::INFINITY,
        figure => (figure / bound).max(1.0f64.next_up()),
    }
}

/// A figure that has a bound.
struct Bounded {
    what: &'static str,
    option: &'static str,
    /// `None` if it is not defined.
    figure: Option<f64>,
    bound: f64,
}

/// The scenario of a request, or of each of its candidates: an index that the model does not have is its fallback.
#[derive(Clone, Copy)]
pub enum Scenarios<'a> {
    One(Option<u32>),
    Each(&'a [u32]),
}

impl Scenarios<'_> {
    pub fn of(self, candidate: usize) -> Option<u32> {
        match self {
            Scenarios::One(scenario) => scenario,
            Scenarios::Each(scenarios) => scenarios.get(candidate).copied(),
        }
    }
}

/// A request that both models scored.
pub struct Scored<'a> {
    /// What reports call it: its line.
    pub number: usize,
    pub scenarios: Scenarios<'a>,
    pub candidates: usize,
    /// Scores of A, task by task: `[tasks, candidates]`.
    pub a: &'a [f32],
    /// Those of B.
    pub b: &'a [f32],
    /// For each task the labels of the candidates, if they are known.
    pub labels: &'a [Option<&'a Labels>],
}

/// The scores of two models for the same requests.
pub struct Comparison {
    tasks: Vec<Series>,
    scenarios: Vec<String>,
    /// The scenario of each candidate: of `scenarios`, or one more for what goes to the fallback.
    of: Vec<u32>,
    requests: u64,
}

/// The candidates of one task, in the order in which they were added.
struct Series {
    name: String,
    a: Vec<f32>,
    b: Vec<f32>,
    /// 1, 0, or -1 where it is not known.
    labels: Vec<i8>,
    /// Of all, of each scenario, and of what goes to the fallback.
    sums: Vec<Sums>,
}

/// What is summed up per request.
#[derive(Clone, Copy, Default)]
struct Sums {
    requests: u64,
    pairs: u64,
    flips: u64,
    first_changed: u64,
    /// Requests with more than `TOP` candidates.
    longer: u64,
    top_changed: u64,
    worst: Option<Worst>,
    soft: Grouped,
    hard: Grouped,
}

/// The GAUC of both models as it grows.
#[derive(Clone, Copy, Default)]
struct Grouped {
    a: f64,
    b: f64,
    weight: f64,
}

impl Grouped {
    fn add(&mut self, rows: &[Row], scores: [&[f32]; 2]) {
        if let [Some(a), Some(b)] = scores.map(|scores| auc(rows, scores)) {
            let weight = rows.len() as f64;
            self.a += weight * a;
            self.b += weight * b;
            self.weight += weight;
        }
    }

    fn means(&self) -> [Option<f64>; 2] {
        [self.a, self.b].map(|sum| (self.weight > 0.0).then(|| sum / self.weight))
    }
}

/// A candidate, by its place in the scores, and the weights by which it counts as positive and as negative.
#[derive(Clone, Copy)]
struct Row {
    place: usize,
    positive: f64,
    negative: f64,
}

/// The candidate with the largest error.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Worst {
    /// The number of the request.
    pub number: usize,
    pub candidate: usize,
    pub a: f32,
    pub b: f32,
}

impl Worst {
    pub fn error(&self) -> f64 {
        error(self.a, self.b)
    }
}

/// How well both models' scores order and predict.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Candidates that count, and the sum of their positive weights.
    pub candidates: usize,
    pub positives: f64,
    /// Of A and of B; `None` if there are not both kinds.
    pub auc: [Option<f64>; 2],
    pub gauc: [Option<f64>; 2],
    pub log_loss: [f64; 2],
}

/// The comparison of one task, over all candidates or those of one scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    pub requests: u64,
    pub candidates: usize,
    pub max: f64,
    pub mean: f64,
    /// At 0.5, 0.9, 0.99 and 0.999.
    pub quantiles: [f64; 4],
    pub worst: Option<Worst>,
    pub pairs: u64,
    pub flips: u64,
    /// Requests whose best candidate is another one; ties go to the earlier one.
    pub first_changed: u64,
    /// Requests with more than 10 candidates, and those of them with another set of 10 best.
    pub longer: u64,
    pub top_changed: u64,
    /// The mean score of A and of B.
    pub means: [f64; 2],
    /// Against A's own scores.
    pub soft: Quality,
    /// Against labels, if there are any.
    pub hard: Option<Quality>,
}

/// The figures of one task.
pub struct TaskReport {
    pub name: String,
    pub all: Figures,
    /// Of each scenario that was seen, by name; `None`: what goes to the fallback.
    pub scenarios: Vec<(Option<String>, Figures)>,
}

/// The figures of all tasks.
pub struct Report {
    pub requests: u64,
    pub tasks: Vec<TaskReport>,
}

impl Comparison {
    /// `tasks` are those compared, `scenarios` those that A knows, in the order of their indices.
    pub fn new(tasks: &[String], scenarios: &[String]) -> Self {
        let series = |name: &String| Series {
            name: name.clone(),
            a: Vec::new(),
            b: Vec::new(),
            labels: Vec::new(),
            sums: vec![Sums::default(); scenarios.len() + 2],
        };
        Self { tasks: tasks.iter().map(series).collect(), scenarios: scenarios.to_vec(), of: Vec::new(), requests: 0 }
    }

    /// Takes a request, and returns its candidate with the largest error in any task.
    ///
    /// # Errors
    /// If there would be more than 2^27 candidates.
    pub fn add(&mut self, scored: &Scored<'_>) -> Result<Option<Worst>, String> {
        let Scored { number, candidates, .. } = *scored;
        if self.of.len() + candidates > MOST {
            return Err(format!("more than {MOST} candidates: compare them in parts"));
        }
        let fallback = self.scenarios.len() as u32;
        let scenario = |candidate| scored.scenarios.of(candidate).unwrap_or(fallback).min(fallback);
        let start = self.of.len();
        self.of.extend((0..candidates).map(scenario));
        let of = &self.of[start..];
        let mut present: Vec<u32> = of.to_vec();
        present.sort_unstable();
        present.dedup();
        self.requests += 1;

        let mut worst = None;
        for (task, series) in self.tasks.iter_mut().enumerate() {
            let slice = |scores: &'_ [f32]| -> Vec<f32> {
                // -0 and 0 are one score.
                scores[task * candidates..][..candidates].iter().map(|score| score + 0.0).collect()
            };
            let (a, b) = (slice(scored.a), slice(scored.b));
            let label =
                |candidate: usize| scored.labels[task].map_or(-1, |labels| labels[candidate].map_or(-1, i8::from));
            let labels: Vec<i8> = (0..candidates).map(label).collect();
            let all: Vec<usize> = (0..candidates).collect();
            series.sums[0].add(number, &all, &a, &b, &labels);
            worst = larger(worst, series.sums[0].worst.filter(|worst| worst.number == number));
            for scenario in &present {
                let mine: Vec<usize> = (0..candidates).filter(|place| of[*place] == *scenario).collect();
                series.sums[1 + *scenario as usize].add(number, &mine, &a, &b, &labels);
            }
            series.a.extend(a);
            series.b.extend(b);
            series.labels.extend(labels);
        }
        Ok(worst)
    }

    /// The figures of what was added; `None` if that was not a single candidate.
    pub fn report(&self) -> Option<Report> {
        if self.of.is_empty() {
            return None;
        }
        let task = |series: &Series| {
            let all: Vec<usize> = (0..self.of.len()).collect();
            let mut scenarios = Vec::new();
            // A model without scenarios has nothing to fall back to.
            let known = if self.scenarios.is_empty() { 0 } else { self.scenarios.len() + 1 };
            for scenario in 0..known {
                let mine: Vec<usize> =
                    all.iter().copied().filter(|place| self.of[*place] as usize == scenario).collect();
                if !mine.is_empty() {
                    let name = self.scenarios.get(scenario).cloned();
                    scenarios.push((name, series.figures(&series.sums[1 + scenario], &mine)));
                }
            }
            TaskReport { name: series.name.clone(), all: series.figures(&series.sums[0], &all), scenarios }
        };
        Some(Report { requests: self.requests, tasks: self.tasks.iter().map(task).collect() })
    }
}

impl Sums {
    /// Adds the candidates `mine` of a request.
    fn add(&mut self, number: usize, mine: &[usize], a: &[f32], b: &[f32], labels: &[i8]) {
        if mine.is_empty() {
            return;
        }
        self.requests += 1;
        self.pairs += pairs(mine.len());
        self.flips += flips(mine.iter().map(|place| (a[*place], b[*place])).collect());
        self.first_changed += u64::from(best(a, mine, 1) != best(b, mine, 1));
        if mine.len() > TOP {
            self.longer += 1;
            self.top_changed += u64::from(best(a, mine, TOP) != best(b, mine, TOP));
        }
        for candidate in mine {
            let this = Worst { number, candidate: *candidate, a: a[*candidate], b: b[*candidate] };
            self.worst = larger(self.worst, Some(this));
        }
        self.soft.add(&soft(mine, a), [a, b]);
        self.hard.add(&hard(mine, labels), [a, b]);
    }
}

impl Series {
    fn figures(&self, sums: &Sums, places: &[usize]) -> Figures {
        let count = places.len() as f64;
        let mut errors: Vec<f64> = places.iter().map(|place| error(self.a[*place], self.b[*place])).collect();
        errors.sort_unstable_by(f64::total_cmp);
        let quantile = |q: f64| errors[((q * count).ceil() as usize).clamp(1, errors.len()) - 1];
        let mean = |scores: &[f32]| places.iter().map(|place| f64::from(scores[*place])).sum::<f64>() / count;
        let rows = hard(places, &self.labels);
        Figures {
            requests: sums.requests,
            candidates: places.len(),
            max: errors[errors.len() - 1],
            mean: errors.iter().sum::<f64>() / count,
            quantiles: [0.5, 0.9, 0.99, 0.999].map(quantile),
            worst: sums.worst,
            pairs: sums.pairs,
            flips: sums.flips,
            first_changed: sums.first_changed,
            longer: sums.longer,
            top_changed: sums.top_changed,
            means: [mean(&self.a), mean(&self.b)],
            soft: self.quality(&soft(places, &self.a), &sums.soft),
            hard: (!rows.is_empty()).then(|| self.quality(&rows, &sums.hard)),
        }
    }

    fn quality(&self, rows: &[Row], grouped: &Grouped) -> Quality {
        Quality {
            candidates: rows.len(),
            positives: rows.iter().map(|row| row.positive).sum(),
            auc: [&self.a, &self.b].map(|scores| auc(rows, scores)),
            gauc: grouped.means(),
            log_loss: [&self.a, &self.b].map(|scores| log_loss(rows, scores)),
        }
    }
}

impl Quality {
    /// B's AUC minus A's.
    pub fn auc_change(&self) -> Option<f64> {
        change(self.auc)
    }
}

impl Figures {
    /// How much the AUC falls from A to B: against labels where it is defined, else against A's scores.
    pub fn auc_loss(&self) -> Option<f64> {
        let against_labels = self.hard.as_ref().and_then(Quality::auc_change);
        against_labels.or(self.soft.auc_change()).map(|change| -change)
    }

    /// `mean(b) / mean(a) - 1`
    pub fn calibration_shift(&self) -> f64 {
        let [a, b] = self.means;
        if a == b { 0.0 } else { b / a - 1.0 }
    }

    fn to_json(&self) -> Value {
        let [p50, p90, p99, p999] = self.quantiles;
        let [a, b] = self.means;
        json!({
            "requests": self.requests,
            "candidates": self.candidates,
            "error": {"max": self.max, "mean": self.mean, "p50": p50, "p90": p90, "p99": p99, "p999": p999,
                "worst": self.worst.map(|worst| json!({"request": worst.number, "candidate": worst.candidate,
                    "a": worst.a, "b": worst.b}))},
            "rank": {"pairs": self.pairs, "flips": self.flips, "flip_share": share(self.flips, self.pairs),
                "top1_changed": self.first_changed, "top1_of": self.requests,
                "top10_changed": self.top_changed, "top10_of": self.longer},
            "calibration": {"mean_a": a, "mean_b": b, "shift": self.calibration_shift(), "difference": b - a},
            "against_a": self.soft.to_json(),
            "against_labels": self.hard.map(Quality::to_json),
        })
    }
}

impl Quality {
    fn to_json(self) -> Value {
        json!({
            "candidates": self.candidates,
            "positives": self.positives,
            "auc_a": self.auc[0], "auc_b": self.auc[1], "auc_change": change(self.auc),
            "gauc_a": self.gauc[0], "gauc_b": self.gauc[1], "gauc_change": change(self.gauc),
            "log_loss_a": self.log_loss[0], "log_loss_b": self.log_loss[1],
            "log_loss_change": self.log_loss[1] - self.log_loss[0],
        })
    }
}

impl Report {
    /// The object that `diff --json` has as `tasks`.
    pub fn to_json(&self) -> Value {
        let task = |task: &TaskReport| {
            let scenario = |(name, figures): &(Option<String>, Figures)| {
                let mut value = figures.to_json();
                value["scenario"] = json!(name);
                value
            };
            let mut value = task.all.to_json();
            value["scenarios"] = task.scenarios.iter().map(scenario).collect();
            (task.name.clone(), value)
        };
        Value::Object(self.tasks.iter().map(task).collect::<Map<String, Value>>())
    }

    /// A table: a line per task, and below it one per scenario. AUC and log loss are changes, against labels or A's scores.
    pub fn to_text(&self) -> String {
        let mut text = format!(
            "{:<28} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>11} {:>11} {:>10} {:>10} {:>10}  {}\n",
            "task / scenario",
            "candidates",
            "max",
            "mean",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "flips %",
            "top1",
            "top10",
            "calib. %",
            "AUC",
            "log loss",
            "against"
        );
        for TaskReport { name, all, scenarios } in &self.tasks {
            text.push_str(&all.to_line(name));
            // The only scenario of all requests has the figures of the task.
            if scenarios.len() > 1 {
                for (name, figures) in scenarios {
                    text.push_str(&figures.to_line(&format!("  {}", name.as_deref().unwrap_or("(fallback)"))));
                }
            }
        }
        text
    }
}

impl Figures {
    fn to_line(&self, name: &str) -> String {
        let [p50, p90, p99, p999] = self.quantiles;
        let hard = self.hard.as_ref().filter(|quality| quality.auc_change().is_some());
        let (quality, against) = hard.map_or((&self.soft, "A"), |quality| (quality, "labels"));
        let signed = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:+.2e}"));
        format!(
            "{name:<28} {:>10} {:>9.2e} {:>9.2e} {p50:>9.2e} {p90:>9.2e} {p99:>9.2e} {p999:>9.2e} {:>8.4} {:>11} {:>11} \
             {:>+10.4} {:>10} {:>10}  {against}\n",
            self.candidates,
            self.max,
            self.mean,
            100.0 * share(self.flips, self.pairs),
            format!("{}/{}", self.first_changed, self.requests),
            format!("{}/{}", self.top_changed, self.longer),
            100.0 * self.calibration_shift(),
            signed(quality.auc_change()),
            signed(Some(quality.log_loss[1] - quality.log_loss[0])),
        )
    }
}

fn error(a: f32, b: f32) -> f64 {
    (f64::from(b) - f64::from(a)).abs()
}

fn change([a, b]: [Option<f64>; 2]) -> Option<f64> {
    Some(b? - a?)
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// The one with the larger error, the first of them.
fn larger(known: Option<Worst>, other: Option<Worst>) -> Option<Worst> {
    match (known, other) {
        (Some(known), Some(other)) if other.error() > known.error() => Some(other),
        (None, other) => other,
        (known, _) => known,
    }
}

fn soft(places: &[usize], scores: &[f32]) -> Vec<Row> {
    let row = |place: &usize| {
        let score = f64::from(scores[*place]);
        Row { place: *place, positive: score, negative: 1.0 - score }
    };
    places.iter().map(row).collect()
}

fn hard(places: &[usize], labels: &[i8]) -> Vec<Row> {
    let known = places.iter().filter(|place| labels[**place] >= 0);
    let row = |place: &usize| {
        let positive = f64::from(labels[*place]);
        Row { place: *place, positive, negative: 1.0 - positive }
    };
    known.map(row).collect()
}

/// The AUC of `scores` by the weights of `rows`; `None` without positive or without negative weight.
fn auc(rows: &[Row], scores: &[f32]) -> Option<f64> {
    let mut rows: Vec<(f32, &Row)> = rows.iter().map(|row| (scores[row.place], row)).collect();
    rows.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut above, mut positives, mut negatives) = (0.0, 0.0, 0.0);
    for tied in rows.chunk_by(|a, b| a.0 == b.0) {
        let positive: f64 = tied.iter().map(|(_, row)| row.positive).sum();
        let negative: f64 = tied.iter().map(|(_, row)| row.negative).sum();
        above += positive * (negatives + negative / 2.0);
        positives += positive;
        negatives += negative;
    }
    (positives > 0.0 && negatives > 0.0).then(|| above / (positives * negatives))
}

fn log_loss(rows: &[Row], scores: &[f32]) -> f64 {
    const LEAST: f64 = 1.0 / (1 << 24) as f64;
    let loss = |row: &Row| {
        let score = f64::from(scores[row.place]).clamp(LEAST, 1.0 - LEAST);
        -(row.positive * score.ln() + row.negative * (1.0 - score).ln())
    };
    let weight: f64 = rows.iter().map(|row| row.positive + row.negative).sum();
    rows.iter().map(loss).sum::<f64>() / weight
}

/// The places of the `count` best of `mine`, ascending; of equal ones the earlier are the better.
fn best(scores: &[f32], mine: &[usize], count: usize) -> Vec<usize> {
    let mut order = mine.to_vec();
    let better = |a: &usize, b: &usize| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b));
    if order.len() > count {
        order.select_nth_unstable_by(count, better);
        order.truncate(count);
    }
    order.sort_unstable();
    order
}

/// Pairs among `count` candidates, of which there is one.
fn pairs(count: usize) -> u64 {
    (count * (count - 1) / 2) as u64
}

/// The pairs that are ordered otherwise by their second numbers than by their first, or tied by one of the two only.
///
/// Sorted by both, the swapped ones are the inversions of the second, which a merge sort counts.
fn flips(mut scores: Vec<(f32, f32)>) -> u64 {
    scores.sort_unstable_by(|x, y| x.0.total_cmp(&y.0).then(x.1.total_cmp(&y.1)));
    let tied: u64 = scores.chunk_by(|x, y| x.0 == y.0).map(|tied| pairs(tied.len())).sum();
    let tied_in_both: u64 = scores.chunk_by(|x, y| x == y).map(|tied| pairs(tied.len())).sum();
    let mut second: Vec<f32> = scores.iter().map(|pair| pair.1).collect();
    let mut room = second.clone();
    let swapped = inversions(&mut second, &mut room);
    let tied_second: u64 = second.chunk_by(|x, y| x == y).map(|tied| pairs(tied.len())).sum();
    swapped + tied + tied_second - 2 * tied_in_both
}

/// Sorts `values`, and counts the pairs that stood in falling order. `room` has their length.
fn inversions(values: &mut [f32], room: &mut [f32]) -> u64 {
    let middle = values.len() / 2;
    if middle == 0 {
        return 0;
    }
    let (low, high) = values.split_at_mut(middle);
    let (low_room, high_room) = room.split_at_mut(middle);
    let mut count = inversions(low, low_room) + inversions(high, high_room);
    let (mut left, mut right) = (0, 0);
    for place in room.iter_mut() {
        if right == high.len() || (left < low.len() && low[left] <= high[right]) {
            *place = low[left];
            left += 1;
        } else {
            *place = high[right];
            right += 1;
            count += (low.len() - left) as u64;
        }
    }
    values.copy_from_slice(room);
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores with many ties.
    fn tied(random: &mut fastrand::Rng, count: usize) -> Vec<f32> {
        (0..count).map(|_| random.u8(1..6) as f32 / 8.0).collect()
    }

    #[test]
    fn flips_are_pairs_of_another_order_ties_too() {
        let mut random = fastrand::Rng::with_seed(1);
        for count in (0..40).chain([257]) {
            let (a, b) = (tied(&mut random, count), tied(&mut random, count));
            let mut expected = 0;
            for i in 0..count {
                let differs = |j: &usize| a[i].partial_cmp(&a[*j]) != b[i].partial_cmp(&b[*j]);
                expected += (0..i).filter(differs).count() as u64;
            }
            assert_eq!(flips(a.iter().copied().zip(b.iter().copied()).collect()), expected, "{count} candidates");
            assert_eq!(flips(a.iter().map(|score| (*score, 0.5)).collect()), {
                let equal = |i: usize| (0..i).filter(|j| a[i] != a[*j]).count() as u64;
                (0..count).map(equal).sum::<u64>()
            });
        }
    }

    #[test]
    fn the_best_are_the_first_of_equal_ones() {
        let scores = [0.5, 0.9, 0.1, 0.9, 0.5];
        let best = |mine: &[usize], count| best(&scores, mine, count);
        assert_eq!(best(&[0, 1, 2, 3, 4], 1), [1]);
        assert_eq!(best(&[0, 1, 2, 3, 4], 3), [0, 1, 3]);
        assert_eq!(best(&[2, 3, 4], 2), [3, 4]);
        assert_eq!(best(&[2, 4], 10), [2, 4]);
    }

    #[test]
    fn the_auc_counts_a_tie_half_and_needs_both_kinds() {
        let mut random = fastrand::Rng::with_seed(2);
        let scores = tied(&mut random, 60);
        let row = |place| Row { place, positive: random.f64(), negative: random.f64() };
        let rows: Vec<Row> = (0..60).map(row).collect();
        let (mut above, mut all) = (0.0, 0.0);
        for x in &rows {
            for y in &rows {
                let order =
                    (scores[x.place] - scores[y.place]).partial_cmp(&0.0).map_or(0.0, |order| order as i8 as f64);
                above += x.positive * y.negative * (order + 1.0) / 2.0;
                all += x.positive * y.negative;
            }
        }
        let got = auc(&rows, &scores).expect("both kinds");
        assert!((got - above / all).abs() < 1e-12, "{got}, expected {}", above / all);
        assert_eq!(auc(&hard(&[0, 1], &[1, 1]), &scores), None);
        assert_eq!(auc(&[], &scores), None);
    }

    #[test]
    fn a_score_of_0_or_1_has_a_bounded_loss_and_an_error_that_is_no_number_breaks_every_bound() {
        let sure = |score: f32, label: i8| log_loss(&hard(&[0], &[label]), &[score]);
        assert!((sure(0.0, 1) - 24.0 * 2f64.ln()).abs() < 1e-12 && (sure(1.0, 0) - 24.0 * 2f64.ln()).abs() < 1e-6);
        assert!(sure(1.0, 1) < 1e-7 && sure(0.0, 0) < 1e-7);

        let mut comparison = Comparison::new(&["ctr".to_owned()], &[]);
        let (a, b) = ([0.0, 0.0], [0.0, 0.5]);
        let scored =
            Scored { number: 1, scenarios: Scenarios::One(None), candidates: 2, a: &a, b: &b, labels: &[None] };
        assert!(comparison.report().is_none());
        comparison.add(&scored).expect("added");
        let report = comparison.report().expect("a report");
        let failure = |bounds: Bounds| bounds.hold(&report).expect_err("broken").to_string();
        let max_auc_loss = Some(0.5);
        assert_eq!(
            failure(Bounds { max_auc_loss, ..Bounds::default() }),
            "task `ctr`: the loss of AUC, for --max-auc-loss, is not defined"
        );
        let max_calibration_shift = Some(1e300);
        let message = failure(Bounds { max_calibration_shift, ..Bounds::default() });
        assert_eq!(message, "task `ctr`: the calibration shift is inf, above --max-calibration-shift 1e300");
    }
}
