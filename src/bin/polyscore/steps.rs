//! Two models step by step: which step differs first, and which one costs the scores most.
//!
//! Steps of both plans are the same if they have the same operation, name and shape, and are the same one of those that share
//! them. For every traced request:
//! ```text
//! drift    what the step's value in B differs from that in A
//! own      the same, where all that B's step reads was set to what it is in A: what the step itself adds
//! moves    the largest change of a score of A where this step alone has the value that `own` gave it
//! ```
//! Drift and own are relative: the root of the sum of squared differences over that of the squared values of A.

use polyscore::{Model, StepValue, TraceCall};
use serde_json::{Value, json};
use std::collections::HashMap;

/// The value of one step for one candidate, if it has candidates: all rows, one after the other.
type Values = HashMap<(usize, Option<usize>), Vec<f32>>;

/// The steps of two models, and how far they are apart.
pub struct Steps {
    /// In the order of A.
    pub both: Vec<Step>,
    /// What the plans do not share, as text.
    pub only_a: Vec<String>,
    pub only_b: Vec<String>,
    /// The step of A by the place in B.
    of_b: HashMap<usize, usize>,
    of_a: HashMap<usize, usize>,
    tasks: Vec<usize>,
    pub candidates: usize,
}

/// A step of both plans.
pub struct Step {
    /// In the plan of A and of B.
    pub places: [usize; 2],
    stage: String,
    pub operation: &'static str,
    pub name: String,
    pub shape: String,
    kernels: [String; 2],
    drift: Difference,
    own: Difference,
    /// In probability.
    pub moves: f64,
}

#[derive(Clone, Copy, Default)]
struct Difference {
    squares: f64,
    of: f64,
    largest: f64,
}

impl Difference {
    /// Adds `b - a`; values that are alike in not being finite do not differ.
    fn add(&mut self, a: &[f32], b: &[f32]) {
        if a.len() != b.len() {
            (self.squares, self.largest) = (f64::INFINITY, f64::INFINITY);
            return;
        }
        for (a, b) in a.iter().zip(b) {
            let is_same = a == b || (a.is_nan() && b.is_nan());
            let difference = if is_same { 0.0 } else { (f64::from(*b) - f64::from(*a)).abs() };
            let difference = if difference.is_nan() { f64::INFINITY } else { difference };
            self.squares += difference * difference;
            self.largest = self.largest.max(difference);
            self.of += if a.is_finite() { f64::from(*a).powi(2) } else { 0.0 };
        }
    }

    fn relative(&self) -> f64 {
        if self.squares == 0.0 { 0.0 } else { (self.squares / self.of).sqrt() }
    }
}

impl Steps {
    /// `tasks` are those compared, by their indices in A.
    pub fn new(a: &Model, b: &Model, tasks: Vec<usize>) -> Self {
        let mut steps = Self {
            both: Vec::new(),
            only_a: Vec::new(),
            only_b: Vec::new(),
            of_b: HashMap::new(),
            of_a: HashMap::new(),
            tasks,
            candidates: 0,
        };
        let in_b: HashMap<Key, usize> = named(b).into_iter().collect();
        let of_b: Vec<_> = b.plan().steps().collect();
        let of_a: Vec<_> = a.plan().steps().collect();
        for (key, place) in named(a) {
            let (stage, step) = of_a[place];
            let Some(other) = in_b.get(&key) else {
                steps.only_a.push(key.to_string());
                continue;
            };
            steps.of_a.insert(place, steps.both.len());
            steps.of_b.insert(*other, steps.both.len());
            steps.both.push(Step {
                places: [place, *other],
                stage: stage.to_string(),
                operation: step.operation_name(),
                name: step.name.clone(),
                shape: step.shape.clone(),
                kernels: [step.kernel.clone(), of_b[*other].1.kernel.clone()],
                drift: Difference::default(),
                own: Difference::default(),
                moves: 0.0,
            });
        }
        let mut only_b: Vec<(&Key, &usize)> =
            in_b.iter().filter(|(_, place)| !steps.of_b.contains_key(place)).collect();
        only_b.sort_by_key(|(_, place)| **place);
        steps.only_b = only_b.into_iter().map(|(key, _)| key.to_string()).collect();
        steps
    }

    /// Traces one request in both models; `calls` have the same candidates.
    ///
    /// # Errors
    /// What a trace refuses.
    pub fn add(&mut self, a: &Model, b: &Model, calls: [&TraceCall<'_>; 2]) -> Result<(), String> {
        let message = |error: polyscore::Error| error.to_string();
        self.candidates += calls[0].traced.len();
        let mut known = Values::new();
        let scores = a
            .trace(calls[0], &mut |value| {
                known.insert((value.place, value.candidate), numbers(&value));
            })
            .map_err(message)?;

        let Self { both, of_b, .. } = self;
        b.trace(calls[1], &mut |value| {
            if let Some((step, expected)) = find(both, of_b, &known, &value) {
                step.drift.add(expected, &numbers(&value));
            }
        })
        .map_err(message)?;

        let mut own = Values::new();
        b.trace(calls[1], &mut |mut value| {
            if let Some((step, expected)) = find(both, of_b, &known, &value) {
                let values = numbers(&value);
                step.own.add(expected, &values);
                set(&mut value, expected);
                if bits(&values) != bits(expected) && values.len() == expected.len() {
                    own.insert((step.places[0], value.candidate), values);
                }
            }
        })
        .map_err(message)?;

        let mut changed: Vec<usize> = own.keys().map(|(place, _)| *place).collect();
        changed.sort_unstable();
        changed.dedup();
        for place in changed {
            let change = |mut value: StepValue<'_>| {
                if value.place == place
                    && let Some(values) = own.get(&(place, value.candidate))
                {
                    set(&mut value, values);
                }
            };
            let moved = a.trace(calls[0], &mut { change }).map_err(message)?;
            let count = calls[0].traced.len();
            let places = self.tasks.iter().flat_map(|task| task * count..(task + 1) * count);
            let largest = places.map(|at| (f64::from(moved[at]) - f64::from(scores[at])).abs()).fold(0.0, f64::max);
            let step = &mut self.both[self.of_a[&place]];
            step.moves = step.moves.max(largest);
        }
        Ok(())
    }

    /// The first step, in the order of A, whose relative drift is above `tolerance`.
    pub fn first(&self, tolerance: f64) -> Option<&Step> {
        self.both.iter().find(|step| step.drift.relative() > tolerance)
    }

    /// Those that differ by themselves: what moves the scores most first.
    pub fn costliest(&self) -> Vec<&Step> {
        let mut steps: Vec<&Step> = self.both.iter().filter(|step| step.own.squares > 0.0).collect();
        let order =
            |a: &&Step, b: &&Step| b.moves.total_cmp(&a.moves).then(b.own.relative().total_cmp(&a.own.relative()));
        steps.sort_by(order);
        steps
    }

    pub fn to_json(&self, tolerance: f64) -> Value {
        json!({
            "candidates": self.candidates,
            "tolerance": tolerance,
            "only_a": self.only_a,
            "only_b": self.only_b,
            "first": self.first(tolerance).map(Step::to_json),
            "costliest": self.costliest().first().map(|step| step.to_json()),
            "steps": self.both.iter().map(Step::to_json).collect::<Vec<Value>>(),
        })
    }

    /// The first step that differs, and a table of the `most` costliest.
    pub fn to_text(&self, tolerance: f64, most: usize) -> String {
        let mut text = format!("steps: {} in both, traced for {} candidates", self.both.len(), self.candidates);
        for (model, only) in [("A", &self.only_a), ("B", &self.only_b)] {
            if !only.is_empty() {
                text.push_str(&format!("\n  {} only in {model}, such as {}", only.len(), only[0]));
            }
        }
        let first = self.first(tolerance).map_or("none".to_owned(), |step| {
            format!("{}; drift {:.2e}, at most {:.2e}", step.label(), step.drift.relative(), step.drift.largest)
        });
        text.push_str(&match tolerance {
            0.0 => format!("\nfirst step that differs: {first}\n"),
            tolerance => format!("\nfirst step with a drift above {tolerance:e}: {first}\n"),
        });
        let costliest = self.costliest();
        if costliest.is_empty() {
            return text + "no step differs by itself\n";
        }
        text.push_str("steps that differ by themselves, by what each alone moves a score\n");
        text.push_str(&format!("{:>9} {:>9} {:>9}  step (kernel of A, of B)\n", "moves", "own", "drift"));
        for step in costliest.iter().take(most) {
            let [a, b] = &step.kernels;
            let kernels = if a == b { a.clone() } else { format!("{a}, {b}") };
            text.push_str(&format!(
                "{:>9.2e} {:>9.2e} {:>9.2e}  {} ({kernels})\n",
                step.moves,
                step.own.relative(),
                step.drift.relative(),
                step.label(),
            ));
        }
        text
    }
}

impl Step {
    /// Such as `candidate dense towers.0 128x64`.
    pub fn label(&self) -> String {
        format!("{} {} {} {}", self.stage, self.operation, self.name, self.shape)
    }

    fn to_json(&self) -> Value {
        let relative = |difference: &Difference| json!({"relative": difference.relative(), "max": difference.largest});
        json!({"stage": self.stage, "op": self.operation, "name": self.name, "shape": self.shape,
            "place_a": self.places[0], "place_b": self.places[1], "kernel_a": self.kernels[0], "kernel_b": self.kernels[1],
            "drift": relative(&self.drift), "own": relative(&self.own), "moves": self.moves})
    }
}

/// What makes two steps the same.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    operation: &'static str,
    name: String,
    shape: String,
    occurrence: usize,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.operation, self.name)?;
        if !self.shape.is_empty() {
            write!(f, " {}", self.shape)?;
        }
        Ok(())
    }
}

/// The steps of a model that have a value, each with its place.
fn named(model: &Model) -> Vec<(Key, usize)> {
    let mut seen: HashMap<(&'static str, String, String), usize> = HashMap::new();
    let mut named = Vec::new();
    for (place, (_, step)) in model.plan().steps().enumerate() {
        let operation = step.operation_name();
        // The shape of these is that of a table, which grows from version to version.
        let is_table = matches!(operation, "gather" | "stored" | "find");
        let shape = if is_table { String::new() } else { step.shape.clone() };
        let count = seen.entry((operation, step.name.clone(), shape.clone())).or_default();
        if !matches!(operation, "enter" | "leave") {
            named.push((Key { operation, name: step.name.clone(), shape, occurrence: *count }, place));
        }
        *count += 1;
    }
    named
}

/// The step of a value of B, and its value in A.
fn find<'a>(
    both: &'a mut [Step],
    of_b: &HashMap<usize, usize>,
    known: &'a Values,
    value: &StepValue<'_>,
) -> Option<(&'a mut Step, &'a [f32])> {
    let step = &mut both[*of_b.get(&value.place)?];
    // What B computes per candidate and A once is the same for all candidates.
    let of_a = known.get(&(step.places[0], value.candidate)).or_else(|| known.get(&(step.places[0], None)))?;
    Some((step, of_a))
}

fn numbers(value: &StepValue<'_>) -> Vec<f32> {
    value.rows().flatten().copied().collect()
}

fn set(value: &mut StepValue<'_>, values: &[f32]) {
    let width = value.width();
    if values.len() == value.rows().count() * width {
        let rows = value.rows_mut().zip(values.chunks_exact(width.max(1)));
        rows.for_each(|(row, values)| row.copy_from_slice(values));
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
