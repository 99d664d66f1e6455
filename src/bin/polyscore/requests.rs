//! Requests as lines of JSON, and the columns that the engine reads.

use crate::Failure;
use polyscore::description::{Feature, FeatureKind, GoldenColumn, GoldenRequest, GoldenValues, ValueKind};
use polyscore::{Column, Fault, ITEM_KEY, Model, NO_KEY, Scorer, Values};
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader};

/// A column that owns its values.
pub struct Owned {
    feature: u32,
    values: Stored,
    row_offsets: Option<Vec<i64>>,
}

enum Stored {
    Integers(Vec<i64>),
    Numbers(Vec<f32>),
    Texts(Vec<u8>, Vec<i64>),
}

impl Owned {
    /// The item keys of candidates.
    pub fn keys(keys: Vec<i64>) -> Self {
        Owned { feature: ITEM_KEY, values: Stored::Integers(keys), row_offsets: None }
    }
}

/// One request with its candidates, checked against a model.
pub struct Request {
    pub scenario: Option<u32>,
    /// A scenario per candidate, if the line gives them.
    pub scenarios: Option<Vec<u32>>,
    pub request: Vec<Owned>,
    pub candidates: Vec<Owned>,
    pub count: usize,
    /// The tasks that the line asks for; `None` if it does not say.
    pub tasks: Option<Vec<u32>>,
    /// What happened, for each task that the line says it of.
    pub labels: Vec<(u32, Labels)>,
}

/// Whether each candidate was clicked, bought and so on; `None` where that is not known.
pub type Labels = Vec<Option<bool>>;

impl From<GoldenRequest> for Request {
    fn from(golden: GoldenRequest) -> Self {
        let own = |columns: Vec<GoldenColumn>| {
            let column = |GoldenColumn { feature, values, row_offsets }| {
                let values = match values {
                    GoldenValues::I64(values) => Stored::Integers(values),
                    GoldenValues::F32(values) => Stored::Numbers(values),
                    GoldenValues::Text { bytes, offsets } => Stored::Texts(bytes, offsets),
                };
                Owned { feature, values, row_offsets }
            };
            columns.into_iter().map(column).collect()
        };
        Self {
            scenario: golden.scenario,
            scenarios: None,
            request: own(golden.request),
            candidates: own(golden.candidate),
            count: golden.candidates,
            tasks: None,
            labels: Vec::new(),
        }
    }
}

impl Request {
    /// Scores the candidates of a prepared request, whose columns are `ads`.
    pub fn score(
        &self,
        scorer: &mut Scorer,
        ads: &[Column<'_>],
        tasks: Option<&[u32]>,
        out: &mut [f32],
    ) -> Result<(), Fault> {
        match &self.scenarios {
            None => scorer.score(self.count, ads, tasks, out),
            Some(scenarios) => scorer.score_mixed(self.count, scenarios, ads, tasks, out),
        }
    }
}

/// Borrows columns for a call.
pub fn views(columns: &[Owned]) -> Vec<Column<'_>> {
    let mut views = Vec::with_capacity(columns.len());
    for column in columns {
        let values = match &column.values {
            Stored::Integers(values) => Values::I64(values),
            Stored::Numbers(values) => Values::F32(values),
            Stored::Texts(bytes, offsets) => Values::Text { bytes, offsets },
        };
        views.push(Column { feature: column.feature, values, row_offsets: column.row_offsets.as_deref() });
    }
    views
}

/// Where requests come from.
pub enum Source<'a> {
    /// The golden requests of the model.
    Golden,
    /// A file with a line of JSON for each; `-` is standard input.
    Lines(&'a str),
    /// As many random ones, the same in every run.
    Random { count: usize, candidates: usize },
}

/// The seed of random requests.
const SEED: u64 = 1;

/// Calls `f` with every request and its line or number, from 1 on. Returns what the requests are.
pub fn for_each(
    model: &Model,
    source: Source<'_>,
    mut f: impl FnMut(usize, Request) -> Result<(), String>,
) -> Result<String, Failure> {
    let path = match source {
        Source::Golden => {
            for (place, request) in model.golden_requests()?.into_iter().enumerate() {
                let failure = |error| Failure(format!("golden request {}: {error}", place + 1));
                f(place + 1, request.into()).map_err(failure)?;
            }
            return Ok("golden".to_owned());
        }
        Source::Random { count, candidates } => {
            let mut values = fastrand::Rng::with_seed(SEED);
            for number in 1..=count {
                let request = random(model, candidates, &mut values);
                f(number, request).map_err(|error| Failure(format!("random request {number}: {error}")))?;
            }
            return Ok(format!("random, {candidates} candidates each"));
        }
        Source::Lines(path) => path,
    };
    let input: Box<dyn BufRead> = match path {
        "-" => Box::new(std::io::stdin().lock()),
        path => Box::new(BufReader::new(File::open(path).map_err(|error| Failure(format!("{path}: {error}")))?)),
    };
    for (place, line) in input.lines().enumerate() {
        let failure = |error: String| Failure(format!("line {}: {error}", place + 1));
        let line = line.map_err(|error| failure(error.to_string()))?;
        if !line.trim().is_empty() {
            let request = parse(model, &line).map_err(failure)?;
            f(place + 1, request).map_err(failure)?;
        }
    }
    Ok(path.to_owned())
}

/// Reads a line. Errors begin with the JSON path of what is wrong.
pub fn parse(model: &Model, line: &str) -> Result<Request, String> {
    let value: Value = serde_json::from_str(line).map_err(|error| format!("not JSON: {error}"))?;
    let Value::Object(object) = value else {
        return Err("expected an object".to_owned());
    };
    let known = ["scenario", "scenarios", "request", "candidates", "keys", "tasks", "labels"];
    if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
        return Err(format!(
            "{key}: is not known; a request has scenario, scenarios, request, candidates, keys, tasks and labels"
        ));
    }
    let scenario = match object.get("scenario") {
        None => None,
        Some(scenario) => parse_scenario(model, scenario, || "scenario".to_owned())?,
    };
    let scenarios = object.get("scenarios").map(|scenarios| parse_scenarios(model, scenarios)).transpose()?;
    let tasks = object.get("tasks").map(|tasks| parse_tasks(model, tasks)).transpose()?;
    let side = |name: &str| match object.get(name) {
        None => Ok(Map::new()),
        Some(Value::Object(columns)) => Ok(columns.clone()),
        Some(_) => Err(format!("{name}: expected an object of features")),
    };
    let (request, candidates) = (side("request")?, side("candidates")?);
    let mut count = None;
    for (name, column) in &candidates {
        let rows = column
            .as_array()
            .ok_or_else(|| format!("candidates.{name}: expected an array, one entry per candidate"))?;
        match count {
            Some(count) if count != rows.len() => {
                return Err(format!("candidates.{name}: has {} candidates, others have {count}", rows.len()));
            }
            _ => count = Some(rows.len()),
        }
    }
    let count = match (&scenarios, count) {
        (Some(scenarios), Some(count)) if scenarios.len() != count => {
            return Err(format!("scenarios: has {} entries for {count} candidates", scenarios.len()));
        }
        (Some(scenarios), _) => scenarios.len(),
        (None, count) => count.unwrap_or(0),
    };
    let columns = |side: &str, columns: Map<String, Value>| {
        columns
            .into_iter()
            .map(|(name, value)| {
                let path = format!("{side}.{name}");
                let slot = model.feature(&name).ok_or_else(|| format!("{path}: is not a feature of the model"))?;
                let feature = &model.description().features[slot as usize];
                let rows = match value {
                    Value::Array(rows) if side == "candidates" => rows,
                    value => vec![value],
                };
                parse_column(slot, feature, &path, &rows, side == "candidates")
            })
            .collect::<Result<Vec<Owned>, String>>()
    };
    let (request, mut candidates) = (columns("request", request)?, columns("candidates", candidates)?);
    if let Some(keys) = object.get("keys") {
        candidates.push(Owned::keys(parse_keys(keys, count)?));
    }
    let labels = object.get("labels").map(|labels| parse_labels(model, labels, count)).transpose()?.unwrap_or_default();
    Ok(Request { scenario, scenarios, request, candidates, count, tasks, labels })
}

/// The index of a scenario; one that the model does not know has none.
fn parse_scenario(model: &Model, value: &Value, path: impl Fn() -> String) -> Result<Option<u32>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(name) => Ok(model.scenario(name)),
        Value::Number(id) if id.is_i64() => Ok(id.as_i64().and_then(|id| model.scenario_by_id(id))),
        _ => Err(format!("{}: expected a name, an id or null", path())),
    }
}

fn parse_scenarios(model: &Model, scenarios: &Value) -> Result<Vec<u32>, String> {
    let each = scenarios.as_array().ok_or("scenarios: expected an array, a scenario per candidate")?;
    let index = |(i, value): (usize, &Value)| {
        let known = parse_scenario(model, value, || format!("scenarios[{i}]"))?;
        Ok(known.unwrap_or(u32::MAX))
    };
    each.iter().enumerate().map(index).collect()
}

fn parse_keys(keys: &Value, count: usize) -> Result<Vec<i64>, String> {
    let each = keys.as_array().filter(|each| each.len() == count);
    let each = each.ok_or_else(|| format!("keys: expected an array, an item key for each of {count} candidates"))?;
    let key = |(i, value): (usize, &Value)| match value {
        Value::Null => Ok(NO_KEY),
        value => value.as_i64().ok_or_else(|| format!("keys[{i}]: expected an integer or null")),
    };
    each.iter().enumerate().map(key).collect()
}

fn parse_tasks(model: &Model, tasks: &Value) -> Result<Vec<u32>, String> {
    let names = tasks.as_array().ok_or("tasks: expected an array of names")?;
    let index = |(i, name): (usize, &Value)| {
        let name = name.as_str().ok_or_else(|| format!("tasks[{i}]: expected a name"))?;
        model.task(name).ok_or_else(|| format!("tasks[{i}]: `{name}` is not a task of the model"))
    };
    names.iter().enumerate().map(index).collect()
}

fn parse_labels(model: &Model, labels: &Value, count: usize) -> Result<Vec<(u32, Labels)>, String> {
    let by_task = labels.as_object().ok_or("labels: expected an object of tasks")?;
    let label = |name: &str, (i, value): (usize, &Value)| match (value, value.as_f64()) {
        (Value::Null, _) => Ok(None),
        (_, Some(0.0)) => Ok(Some(false)),
        (_, Some(1.0)) => Ok(Some(true)),
        _ => Err(format!("labels.{name}[{i}]: expected 0, 1 or null")),
    };
    let of_task = |(name, values): (&String, &Value)| {
        let task = model.task(name).ok_or_else(|| format!("labels.{name}: is not a task of the model"))?;
        let values = values.as_array().ok_or_else(|| format!("labels.{name}: expected an array, one per candidate"))?;
        if values.len() != count {
            return Err(format!("labels.{name}: has {} labels for {count} candidates", values.len()));
        }
        Ok((task, values.iter().enumerate().map(|value| label(name, value)).collect::<Result<Labels, String>>()?))
    };
    by_task.iter().map(of_task).collect()
}

/// `rows` are the entries of a column: a value each, or an array for a bag, several ids or a wide dense feature.
fn parse_column(slot: u32, feature: &Feature, path: &str, rows: &[Value], is_indexed: bool) -> Result<Owned, String> {
    let place = |row: usize| if is_indexed { format!("{path}[{row}]") } else { path.to_owned() };
    let is_bag = feature.is_ragged();
    let width = feature.width();
    let mut values: Vec<(String, &Value)> = Vec::new();
    let mut offsets = vec![0];
    for (row, value) in rows.iter().enumerate() {
        match value {
            Value::Array(parts) if is_bag || width > 1 => {
                if !is_bag && parts.len() != width {
                    return Err(format!("{}: has {} values, expected {width}", place(row), parts.len()));
                }
                values.extend(parts.iter().enumerate().map(|(i, part)| (format!("{}[{i}]", place(row)), part)));
            }
            _ if is_bag => return Err(format!("{}: expected an array of ids", place(row))),
            Value::Null => values.extend((0..width).map(|_| (place(row), value))),
            _ if width > 1 => return Err(format!("{}: expected an array of {width} values", place(row))),
            _ => values.push((place(row), value)),
        }
        offsets.push(values.len() as i64);
    }
    let has_text = values.iter().any(|(_, value)| value.is_string());
    let values = match feature.value_kind() {
        ValueKind::Number => numbers(&values)?,
        ValueKind::Integer => integers(&values)?,
        ValueKind::Text => texts(&values)?,
        ValueKind::IntegerOrText if has_text => texts(&values)?,
        ValueKind::IntegerOrText => integers(&values)?,
    };
    Ok(Owned { feature: slot, values, row_offsets: is_bag.then_some(offsets) })
}

fn integers(values: &[(String, &Value)]) -> Result<Stored, String> {
    let integer = |(path, value): &(String, &Value)| match value {
        Value::Null => Ok(i64::MIN),
        Value::Number(number) => number.as_i64().ok_or_else(|| format!("{path}: {number} is not a 64-bit integer")),
        _ => Err(format!("{path}: expected an integer")),
    };
    Ok(Stored::Integers(values.iter().map(integer).collect::<Result<_, _>>()?))
}

fn numbers(values: &[(String, &Value)]) -> Result<Stored, String> {
    let number = |(path, value): &(String, &Value)| match value {
        Value::Null => Ok(f32::NAN),
        Value::Number(number) => Ok(number.as_f64().unwrap_or(f64::NAN) as f32),
        _ => Err(format!("{path}: expected a number")),
    };
    Ok(Stored::Numbers(values.iter().map(number).collect::<Result<_, _>>()?))
}

fn texts(values: &[(String, &Value)]) -> Result<Stored, String> {
    let (mut bytes, mut offsets) = (Vec::new(), vec![0]);
    for (path, value) in values {
        match value {
            Value::Null => {}
            Value::String(text) => bytes.extend_from_slice(text.as_bytes()),
            _ => return Err(format!("{path}: expected a text")),
        }
        offsets.push(bytes.len() as i64);
    }
    Ok(Stored::Texts(bytes, offsets))
}

/// A random request of `count` candidates, of values that the description knows.
pub fn random(model: &Model, count: usize, random: &mut fastrand::Rng) -> Request {
    use polyscore::description::{Rate, RowTransform, Vocabulary};
    let description = model.description();
    let (mut request, mut candidates) = (Vec::new(), Vec::new());
    for (slot, feature) in description.features.iter().enumerate() {
        let is_request = feature.rate == Rate::Request;
        let rows = if is_request { 1 } else { count };
        let mut offsets = vec![0i64];
        for _ in 0..rows {
            let length = match feature.kind {
                FeatureKind::Ids { .. } => random.i64(0..20),
                FeatureKind::Sequence { length, .. } => length as i64,
                _ => 1,
            };
            offsets.push(offsets[offsets.len() - 1] + length);
        }
        let total = offsets[rows] as usize * feature.width();
        let values = match feature.lookup().map(|lookup| (&lookup.transform, lookup)) {
            None => Stored::Numbers((0..total).map(|_| random.f32() * 4.0 - 1.0).collect()),
            Some((RowTransform::Bucketize { boundaries, .. }, _)) => {
                let (low, high) =
                    (boundaries.first().map_or(0.0, |b| b - 1.0), boundaries.last().map_or(1.0, |b| b + 1.0));
                Stored::Numbers((0..total).map(|_| low + (high - low) * random.f32()).collect())
            }
            Some((RowTransform::Identity, lookup)) => {
                let rows = model.tensor(&lookup.table).map_or(1, |table| table.shape[0]) as i64;
                Stored::Integers((0..total).map(|_| random.i64(0..rows)).collect())
            }
            Some((RowTransform::Hash { .. }, _)) => {
                Stored::Integers((0..total).map(|_| random.i64(0..1 << 40)).collect())
            }
            Some((RowTransform::Vocabulary { values: Vocabulary::Integers(known), .. }, _)) => {
                Stored::Integers((0..total).map(|_| known[random.usize(..known.len())]).collect())
            }
            Some((RowTransform::Vocabulary { values: Vocabulary::Texts(known), .. }, _)) => {
                let (mut bytes, mut ends) = (Vec::new(), vec![0]);
                for _ in 0..total {
                    bytes.extend_from_slice(known.get(random.usize(..known.len())).unwrap_or_default().as_bytes());
                    ends.push(bytes.len() as i64);
                }
                Stored::Texts(bytes, ends)
            }
        };
        let is_bag = feature.is_ragged();
        let side = if is_request { &mut request } else { &mut candidates };
        side.push(Owned { feature: slot as u32, values, row_offsets: is_bag.then_some(offsets) });
    }
    let scenario = (!description.scenarios.is_empty()).then(|| random.u32(..description.scenarios.len() as u32));
    Request { scenario, scenarios: None, request, candidates, count, tasks: None, labels: Vec::new() }
}
