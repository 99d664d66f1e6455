//! `polyscore diff`: two models on the same requests.

use crate::compare::{Bounds, Comparison, Report, Scenarios, Scored, Worst};
use crate::requests::{Labels, Request, Source, for_each, views};
use crate::steps::Steps;
use crate::{Failure, ModeName, Open, PrecisionName, RowsName};
use clap::Args;
use polyscore::description::{Feature, Rate, ValueKind};
use polyscore::{Column, Model, OpenOptions, Scorer, TraceCall};
use serde_json::{Value, json};
use std::io::Write;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// The model to compare with
    a: PathBuf,
    /// The model that is compared [default: A, opened with the options of B]
    b: Option<PathBuf>,
    /// Type in which A's dense weights are held [default: as stored]
    #[arg(long)]
    precision_a: Option<PrecisionName>,
    /// Type in which B's dense weights are held
    #[arg(long)]
    precision_b: Option<PrecisionName>,
    /// Kernel set of A: scalar, portable or avx2
    #[arg(long)]
    isa_a: Option<String>,
    /// Kernel set of B
    #[arg(long)]
    isa_b: Option<String>,
    /// How the files are held
    #[arg(long, default_value = "map")]
    mode: ModeName,
    /// Requests, a line of JSON each, with labels if they are known; `-` reads standard input; `golden`: those of A
    /// [default: golden, or 64 random ones if A has none]
    #[arg(long)]
    requests: Option<String>,
    /// Compare on this many random requests instead
    #[arg(long, conflicts_with = "requests")]
    random: Option<usize>,
    /// Candidates of a random request
    #[arg(long, default_value_t = 64)]
    candidates: usize,
    /// Tasks to compare, by name [default: all of A]
    #[arg(long, value_delimiter = ',')]
    tasks: Option<Vec<String>>,
    /// How many requests to go through step by step, with 16 candidates at most; the worst candidate is one more
    #[arg(long, default_value_t = 4)]
    trace: usize,
    /// The relative difference of a step's value from which it counts as the first that differs
    #[arg(long, default_value_t = 0.0)]
    tolerance: f64,
    /// How many steps to list, the costliest first
    #[arg(long, default_value_t = 12)]
    steps: usize,
    #[command(flatten)]
    bounds: Bounds,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Candidates of a request that are gone through step by step.
const TRACED: usize = 16;

/// One of the two models, with what it is called.
struct Side {
    name: String,
    model: Model,
    scorer: Scorer,
}

/// Both models, and how the requests of A reach B.
struct Pair {
    a: Side,
    b: Side,
    /// The slot in B of each feature of A.
    slots: Vec<u32>,
    /// The index in B of each scenario of A.
    scenarios: Vec<Option<u32>>,
    /// The compared tasks, by their indices in A and in B.
    tasks: [Vec<u32>; 2],
}

pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    arguments.bounds.check()?;
    if arguments.tolerance.is_nan() || arguments.tolerance < 0.0 {
        return Err(Failure(format!("--tolerance: is {}, not a number from 0 on", arguments.tolerance)));
    }
    let mut pair = Pair::open(arguments)?;
    let description = pair.a.model.description();
    let name = |task: &u32| description.tasks[*task as usize].name.clone();
    let tasks: Vec<String> = pair.tasks[0].iter().map(name).collect();
    let scenarios: Vec<String> = description.scenarios.iter().map(|scenario| scenario.name.clone()).collect();
    let mut comparison = Comparison::new(&tasks, &scenarios);
    let indices = pair.tasks[0].iter().map(|task| *task as usize).collect();
    let mut steps = Steps::new(&pair.a.model, &pair.b.model, indices);

    let mut seen = 0;
    let mut worst: Option<(Worst, Request)> = None;
    let a = pair.a.model.clone();
    let source = for_each(&a, source(arguments, &a)?, |number, request| {
        let largest = pair.compare(number, &request, &mut comparison)?;
        if seen < arguments.trace && request.count > 0 {
            pair.trace(&request, 0..request.count.min(TRACED), &mut steps)?;
        } else if let Some(largest) = largest.filter(|largest| arguments.trace > 0 && largest.error() > 0.0)
            && worst.as_ref().is_none_or(|(known, _)| largest.error() > known.error())
        {
            worst = Some((largest, request));
        }
        seen += 1;
        Ok(())
    })?;
    if let Some((worst, request)) = &worst {
        let traced = worst.candidate..worst.candidate + 1;
        pair.trace(request, traced, &mut steps)
            .map_err(|error| Failure(format!("request {}: {error}", worst.number)))?;
    }
    let report = comparison.report().ok_or_else(|| Failure(format!("{source}: has no candidates to compare")))?;

    let mut out = std::io::stdout().lock();
    if arguments.json {
        writeln!(out, "{}", to_json(&pair, &source, &report, &steps, arguments))?;
    } else {
        write!(out, "{}", to_text(&pair, &source, &report, &steps, arguments))?;
    }
    out.flush()?;
    arguments.bounds.hold(&report)
}

/// Where the requests are, by the options.
fn source<'a>(arguments: &'a Arguments, model: &Model) -> Result<Source<'a>, Failure> {
    let has_golden = model.golden().is_some();
    match (arguments.requests.as_deref(), arguments.random) {
        (Some("golden"), _) if !has_golden => {
            Err(Failure(format!("{}: has no golden requests", arguments.a.display())))
        }
        (Some("golden"), _) => Ok(Source::Golden),
        (Some(path), _) => Ok(Source::Lines(path)),
        (None, None) if has_golden => Ok(Source::Golden),
        (None, count) => Ok(Source::Random { count: count.unwrap_or(64), candidates: arguments.candidates }),
    }
}

impl Pair {
    fn open(arguments: &Arguments) -> Result<Self, Failure> {
        let side = |label: &str, path: &PathBuf, precision: Option<PrecisionName>, isa: &Option<String>| {
            let open = Open {
                model: path.clone(),
                isa: isa.clone(),
                precision,
                mode: arguments.mode,
                // A model that misses its golden scores is what a comparison is for.
                max_error: Some(f64::MAX),
                tile: 0,
                no_split: false,
                scenario_bytes: OpenOptions::default().scenario_bytes,
                product_bytes: OpenOptions::default().product_bytes,
                item_bytes: 0,
                item_rows: RowsName::F32,
            };
            let model = open.open()?;
            let scorer = model.scorer()?;
            Ok::<Side, Failure>(Side { name: format!("{label} ({})", path.display()), model, scorer })
        };
        let a = side("A", &arguments.a, arguments.precision_a, &arguments.isa_a)?;
        let path = arguments.b.as_ref().unwrap_or(&arguments.a);
        let b = side("B", path, arguments.precision_b, &arguments.isa_b)?;
        let slots = alike(&a, &b)?;
        let scenarios =
            a.model.description().scenarios.iter().map(|scenario| b.model.scenario(&scenario.name)).collect();
        let names: Vec<String> = match &arguments.tasks {
            Some(names) => names.clone(),
            None => a.model.description().tasks.iter().map(|task| task.name.clone()).collect(),
        };
        let index = |side: &Side, name: &String| {
            let missing = || Failure(format!("task `{name}`: is not in {}; --tasks says which to compare", side.name));
            side.model.task(name).ok_or_else(missing)
        };
        let indices = |side: &Side| names.iter().map(|name| index(side, name)).collect::<Result<Vec<u32>, Failure>>();
        let tasks = [indices(&a)?, indices(&b)?];
        if let Some(place) = (1..names.len()).find(|place| names[..*place].contains(&names[*place])) {
            return Err(Failure(format!("--tasks: `{}` is named twice", names[place])));
        }
        Ok(Self { a, b, slots, scenarios, tasks })
    }

    /// The columns as B knows them.
    fn of_b<'a>(&self, columns: &[Column<'a>]) -> Vec<Column<'a>> {
        let column = |column: &Column<'a>| Column { feature: self.slots[column.feature as usize], ..*column };
        columns.iter().map(column).collect()
    }

    fn scenario_of_b(&self, scenario: Option<u32>) -> Option<u32> {
        scenario.and_then(|scenario| self.scenarios.get(scenario as usize).copied().flatten())
    }

    /// Scores a request with both models and adds it; returns its worst candidate.
    fn compare(
        &mut self,
        number: usize,
        request: &Request,
        comparison: &mut Comparison,
    ) -> Result<Option<Worst>, String> {
        let (user, ads) = (views(&request.request), views(&request.candidates));
        let columns = [(user.clone(), ads.clone()), (self.of_b(&user), self.of_b(&ads))];
        let of_b = |scenario: &u32| self.scenario_of_b(Some(*scenario)).unwrap_or(u32::MAX);
        let each = request.scenarios.as_ref();
        let scenarios = [
            (request.scenario, each.cloned()),
            (self.scenario_of_b(request.scenario), each.map(|each| each.iter().map(of_b).collect())),
        ];
        let Self { a, b, tasks, .. } = self;
        let mut scores = [Vec::new(), Vec::new()];
        for (place, side) in [a, b].into_iter().enumerate() {
            let ((user, ads), (scenario, each)) = (&columns[place], &scenarios[place]);
            let out = &mut scores[place];
            out.resize(tasks[place].len() * request.count, 0.0);
            let result = side.scorer.prepare(*scenario, user).and_then(|()| match each {
                None => side.scorer.score(request.count, ads, Some(&tasks[place]), out),
                Some(each) => side.scorer.score_mixed(request.count, each, ads, Some(&tasks[place]), out),
            });
            result.map_err(|fault| format!("{}: {}", side.name, side.scorer.explain(fault)))?;
        }
        let label = |task: &u32| request.labels.iter().find(|(of, _)| of == task).map(|(_, labels)| labels);
        let labels: Vec<Option<&Labels>> = tasks[0].iter().map(label).collect();
        comparison.add(&Scored {
            number,
            scenarios: each.map_or(Scenarios::One(request.scenario), |each| Scenarios::Each(each)),
            candidates: request.count,
            a: &scores[0],
            b: &scores[1],
            labels: &labels,
        })
    }

    /// Goes through some candidates of a request step by step.
    fn trace(&self, request: &Request, traced: std::ops::Range<usize>, steps: &mut Steps) -> Result<(), String> {
        let (user, ads) = (views(&request.request), views(&request.candidates));
        let (user_b, ads_b) = (self.of_b(&user), self.of_b(&ads));
        // A trace is of one scenario.
        let parts: Vec<(Option<u32>, std::ops::Range<usize>)> = match &request.scenarios {
            None => vec![(request.scenario, traced)],
            Some(each) => traced.map(|candidate| (Some(each[candidate]), candidate..candidate + 1)).collect(),
        };
        for (scenario, traced) in parts {
            let candidates = request.count;
            let a = TraceCall { scenario, request: &user, candidates, columns: &ads, traced };
            let scenario = self.scenario_of_b(scenario);
            let b = TraceCall { scenario, request: &user_b, columns: &ads_b, ..a.clone() };
            steps.add(&self.a.model, &self.b.model, [&a, &b])?;
        }
        Ok(())
    }

    /// What a reader should know of how the models differ, besides their scores.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (here, there) in [(&self.a, &self.b), (&self.b, &self.a)] {
            let description = here.model.description();
            for task in description.tasks.iter().filter(|task| there.model.task(&task.name).is_none()) {
                notes.push(format!("task `{}` is only in {}, and not compared", task.name, here.name));
            }
            let unknown = |name: &str| there.model.scenario(name).is_none();
            for scenario in description.scenarios.iter().filter(|scenario| unknown(&scenario.name)) {
                notes.push(format!(
                    "scenario `{}` is only in {}: the other takes its fallback",
                    scenario.name, here.name
                ));
            }
            match here.scorer.counters().non_finite {
                0 => {}
                count => notes.push(format!("{count} scores of {} were not finite: they fell back", here.name)),
            }
        }
        notes
    }
}

/// The slot in B of each feature of A.
fn alike(a: &Side, b: &Side) -> Result<Vec<u32>, Failure> {
    let takes = |feature: &Feature| {
        let many = if feature.is_ragged() { "any number of".to_owned() } else { feature.width().to_string() };
        let what = match feature.value_kind() {
            ValueKind::Integer => "integers",
            ValueKind::Number => "numbers",
            ValueKind::Text => "texts",
            ValueKind::IntegerOrText => "integers or texts",
        };
        let side = if feature.rate == Rate::Request { "request" } else { "candidate" };
        format!("{many} {what} per {side}")
    };
    let (here, there) = (a.model.description(), b.model.description());
    let slot = |feature: &Feature| {
        let name = &feature.name;
        let slot = b.model.feature(name).ok_or_else(|| Failure(format!("feature `{name}`: is not in {}", b.name)))?;
        let (of_a, of_b) = (takes(feature), takes(&there.features[slot as usize]));
        if of_a == of_b {
            return Ok(slot);
        }
        Err(Failure(format!("feature `{name}`: takes {of_a} in {}, {of_b} in {}", a.name, b.name)))
    };
    let slots = here.features.iter().map(slot).collect::<Result<Vec<u32>, Failure>>()?;
    match there.features.iter().find(|feature| !feature.is_optional() && a.model.feature(&feature.name).is_none()) {
        Some(feature) => {
            Err(Failure(format!("feature `{}`: is needed by {} and not in {}", feature.name, b.name, a.name)))
        }
        None => Ok(slots),
    }
}

fn side_json(side: &Side, path: &str) -> Value {
    json!({"model": path, "name": side.model.description().name, "isa": side.model.plan().isa(),
        "packed_bytes": side.model.plan().packed_bytes(),
        "golden_error": side.model.golden().map(|golden| golden.max_error)})
}

fn to_json(pair: &Pair, source: &str, report: &Report, steps: &Steps, arguments: &Arguments) -> Value {
    let path = arguments.a.display().to_string();
    let path_b = arguments.b.as_ref().map_or(path.clone(), |path| path.display().to_string());
    json!({
        "a": side_json(&pair.a, &path),
        "b": side_json(&pair.b, &path_b),
        "source": source,
        "requests": report.requests,
        "notes": pair.notes(),
        "tasks": report.to_json(),
        "steps": (arguments.trace > 0).then(|| steps.to_json(arguments.tolerance)),
    })
}

fn to_text(pair: &Pair, source: &str, report: &Report, steps: &Steps, arguments: &Arguments) -> String {
    let mut text = String::new();
    for side in [&pair.a, &pair.b] {
        let plan = side.model.plan();
        text.push_str(&format!("{}: isa {}, {} bytes of packed weights", side.name, plan.isa(), plan.packed_bytes()));
        match side.model.golden() {
            Some(golden) => text.push_str(&format!(", golden scores within {:.2e}\n", golden.max_error)),
            None => text.push_str(", no golden scores\n"),
        }
    }
    text.push_str(&format!(
        "{} requests: {source}; errors in probability, calibration, AUC and log loss as changes\n",
        report.requests
    ));
    for note in pair.notes() {
        text.push_str(&format!("note: {note}\n"));
    }
    text.push_str(&report.to_text());
    for task in &report.tasks {
        if let Some(worst) = task.all.worst.filter(|worst| worst.error() > 0.0) {
            text.push_str(&format!(
                "worst of {}: request {}, candidate {}: {} in A, {} in B\n",
                task.name, worst.number, worst.candidate, worst.a, worst.b
            ));
        }
    }
    if arguments.trace > 0 {
        text.push_str(&steps.to_text(arguments.tolerance, arguments.steps));
    }
    text
}
