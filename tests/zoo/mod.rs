//! The models that the promise tests run over, and random requests for them: every network of the field, in
//! `tests/models/zoo`, written by `make zoo` from the PyTorch twins with weights away from their initialisation. Each has
//! features of every rate and kind, in an order that mixes the rates, and golden scores of its twin in float64.

#![allow(dead_code, reason = "each test uses its part of the zoo")]

use polyscore::description::{Feature, FeatureKind, GoldenColumn, GoldenValues, Rate, ValueKind};
use polyscore::{Column, ITEM_KEY, Model, OpenOptions, Values};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A file that is removed at the end.
pub struct File(pub PathBuf);

impl File {
    pub fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("polyscore-{name}-{}.safetensors", std::process::id())))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A model file.
pub struct Zoo {
    pub name: String,
    pub path: PathBuf,
}

impl Zoo {
    pub fn open(&self, options: &OpenOptions) -> Model {
        Model::open(&self.path, options).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }
}

/// Every model of the zoo, by name.
pub fn all() -> Vec<Zoo> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/zoo");
    let entries = std::fs::read_dir(&folder).expect("the zoo");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let models = paths.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    let name = |path: &Path| path.file_stem().expect("a name").to_string_lossy().into_owned();
    let mut zoo: Vec<Zoo> = models.map(|path| Zoo { name: name(&path), path }).collect();
    zoo.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(zoo.len() >= 24, "{} models are not the zoo", zoo.len());
    zoo
}

/// The model of that name.
pub fn named(name: &str) -> Zoo {
    all().into_iter().find(|zoo| zoo.name == name).unwrap_or_else(|| panic!("no `{name}` in the zoo"))
}

/// A request with its candidates, owned.
#[derive(Clone)]
pub struct Request {
    pub scenario: Option<u32>,
    pub candidates: usize,
    columns: Vec<Owned>,
}

#[derive(Clone)]
struct Owned {
    slot: u32,
    name: String,
    is_request: bool,
    values: Stored,
    offsets: Option<Vec<i64>>,
    width: usize,
}

#[derive(Clone)]
enum Stored {
    Ids(Vec<i64>),
    Floats(Vec<f32>),
    Text(Vec<u8>, Vec<i64>),
}

impl Request {
    /// A random request, with unknown and missing values among the usual, and histories from none to full.
    pub fn random(model: &Model, seed: u64, candidates: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let r = &mut random;
        let description = model.description();
        let scenario = match description.scenarios.len() as u32 {
            0 => None,
            known => [Some(r.u32(..known)), Some(r.u32(..known)), None, Some(known + 74)][r.usize(..4)],
        };
        let histories: Vec<usize> = (0..description.sequences().len())
            .map(|group| {
                let longest = description.sequence_length(group);
                [0, 1, longest, r.usize(..=longest), r.usize(..=longest)][r.usize(..5)]
            })
            .collect();
        let mut columns = Vec::new();
        for (slot, feature) in description.features.iter().enumerate() {
            let is_request = feature.rate == Rate::Request;
            if feature.is_optional() && r.u8(..8) == 0 {
                continue;
            }
            let rows = if is_request { 1 } else { candidates };
            let mut offsets = vec![0i64];
            for _ in 0..rows {
                let length = match feature.kind {
                    FeatureKind::Ids { .. } => r.usize(..6),
                    FeatureKind::Sequence { group, .. } => histories[group],
                    _ => feature.width(),
                };
                offsets.push(offsets[offsets.len() - 1] + length as i64);
            }
            columns.push(Owned {
                slot: slot as u32,
                name: feature.name.clone(),
                is_request,
                values: Stored::random(r, feature, offsets[rows] as usize),
                offsets: feature.is_ragged().then_some(offsets),
                width: feature.width(),
            });
        }
        Self { scenario, candidates, columns }
    }

    /// The same request with the candidates `picked`, in that order.
    pub fn pick(&self, picked: &[usize]) -> Self {
        let pick = |column: &Owned| {
            if column.is_request {
                return column.clone();
            }
            let row = |i: usize| match &column.offsets {
                Some(offsets) => offsets[i] as usize..offsets[i + 1] as usize,
                None => i * column.width..(i + 1) * column.width,
            };
            let offsets = column.offsets.as_ref().map(|_| {
                let mut end = 0;
                let ends = picked.iter().map(|i| {
                    end += row(*i).len() as i64;
                    end
                });
                std::iter::once(0).chain(ends).collect()
            });
            let places = picked.iter().flat_map(|i| row(*i));
            let values = match &column.values {
                Stored::Ids(values) => Stored::Ids(places.map(|i| values[i]).collect()),
                Stored::Floats(values) => Stored::Floats(places.map(|i| values[i]).collect()),
                Stored::Text(..) => panic!("no candidate of the zoo has text"),
            };
            Owned { values, offsets, name: column.name.clone(), ..*column }
        };
        Self { scenario: self.scenario, candidates: picked.len(), columns: self.columns.iter().map(pick).collect() }
    }

    /// The columns of one side.
    pub fn columns(&self, is_request: bool) -> Vec<Column<'_>> {
        let mine = self.columns.iter().filter(|column| column.is_request == is_request);
        mine.map(Owned::view).collect()
    }

    /// The columns of the candidates, with their item keys.
    pub fn keyed<'a>(&'a self, keys: &'a [i64]) -> Vec<Column<'a>> {
        let keys = Column { feature: ITEM_KEY, values: Values::I64(keys), row_offsets: None };
        self.columns(false).into_iter().chain([keys]).collect()
    }

    /// The request as the command line reads it.
    pub fn to_json(&self, model: &Model) -> Value {
        let mut line = json!({"request": {}, "candidates": {}});
        line["scenario"] = match self.scenario.and_then(|index| model.description().scenarios.get(index as usize)) {
            Some(scenario) => json!(scenario.name),
            None => json!("nowhere"),
        };
        for column in &self.columns {
            let value = |place: usize| match &column.values {
                Stored::Ids(values) if values[place] == i64::MIN => Value::Null,
                Stored::Ids(values) => json!(values[place]),
                Stored::Floats(values) if values[place].is_nan() => Value::Null,
                Stored::Floats(values) => json!(values[place]),
                Stored::Text(bytes, _) => json!(String::from_utf8_lossy(bytes)),
            };
            let entry = |row: usize| match &column.offsets {
                Some(offsets) => (offsets[row] as usize..offsets[row + 1] as usize).map(value).collect(),
                None if column.width > 1 => (row * column.width..(row + 1) * column.width).map(value).collect(),
                None => value(row),
            };
            if column.is_request {
                line["request"][&column.name] = entry(0);
            } else {
                line["candidates"][&column.name] = (0..self.candidates).map(entry).collect();
            }
        }
        line
    }

    /// The scores of `tasks`, task by task, by a new scorer.
    pub fn scores(&self, model: &Model, tasks: Option<&[u32]>) -> Vec<f32> {
        let mut scorer = model.scorer().expect("a scorer");
        let asked = tasks.map_or(model.description().tasks.len(), <[u32]>::len);
        let mut out = vec![f32::NAN; asked * self.candidates];
        scorer.prepare(self.scenario, &self.columns(true)).expect("prepare");
        scorer.score(self.candidates, &self.columns(false), tasks, &mut out).expect("score");
        out
    }
}

/// Borrows the columns of a golden request.
pub fn views(columns: &[GoldenColumn]) -> Vec<Column<'_>> {
    let mut views = Vec::new();
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

impl Owned {
    fn view(&self) -> Column<'_> {
        let values = match &self.values {
            Stored::Ids(values) => Values::I64(values),
            Stored::Floats(values) => Values::F32(values),
            Stored::Text(bytes, offsets) => Values::Text { bytes, offsets },
        };
        Column { feature: self.slot, values, row_offsets: self.offsets.as_deref() }
    }
}

impl Stored {
    /// `count` values for a feature, some of them unknown or missing.
    fn random(r: &mut fastrand::Rng, feature: &Feature, count: usize) -> Self {
        match feature.value_kind() {
            ValueKind::Integer | ValueKind::IntegerOrText => {
                let value = |r: &mut fastrand::Rng| if r.u8(..20) == 0 { i64::MIN } else { r.i64(-3..60) };
                Stored::Ids((0..count).map(|_| value(r)).collect())
            }
            ValueKind::Number => {
                let value = |r: &mut fastrand::Rng| if r.u8(..20) == 0 { f32::NAN } else { r.f32() * 20.0 - 4.0 };
                Stored::Floats((0..count).map(|_| value(r)).collect())
            }
            ValueKind::Text => {
                let (mut bytes, mut ends) = (Vec::new(), vec![0]);
                for _ in 0..count {
                    bytes.extend_from_slice([b"Delft".as_slice(), b"Turku", b"Atlantis", b""][r.usize(..4)]);
                    ends.push(bytes.len() as i64);
                }
                Stored::Text(bytes, ends)
            }
        }
    }
}

/// The bits of scores, which tests compare: equal numbers are not enough.
pub fn bits(scores: &[f32]) -> Vec<u32> {
    scores.iter().map(|score| score.to_bits()).collect()
}

/// The largest difference of two lists of as many scores.
pub fn largest_difference(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs()).fold(0.0, f64::max)
}
