//! What the file says it is: features, scenarios, tasks and network, as types whose invariants hold.
//!
//! `schema.rs` makes these types from JSON, and is the only maker. Positions (of features, scenarios, tasks) are
//! checked there; rows of tables are checked by [`Description::check_tables`], which needs the tensors. Numbers that
//! the engine computes with are rounded here, once, as the trainer rounds them.

use std::collections::BTreeMap;

use super::schema;
use super::store::Store;
use super::tensor::TensorId;
use crate::error::{Error, ErrorKind};

/// The version of the format that this library reads.
pub const FORMAT_VERSION: u32 = 1;
/// The most features of a model.
pub const MAX_FEATURES: usize = 4096;
/// The most scenarios of a model.
pub const MAX_SCENARIOS: usize = 65_536;
/// The most tasks of a model.
pub const MAX_TASKS: usize = 64;
/// The most numbers in a row of a dense feature.
pub const MAX_WIDTH: usize = 65_536;
/// The most positions of a sequence.
pub const MAX_SEQUENCE: usize = 4096;
/// The longest row of a table.
pub const MAX_TABLE_DIM: usize = 65_536;
/// The longest name of a feature, scenario or task, in bytes.
pub const MAX_NAME_BYTES: usize = 64;
/// The most values in the JSON of a network.
pub const MAX_NETWORK_VALUES: usize = 262_144;
/// The most golden requests.
pub const MAX_GOLDEN_REQUESTS: usize = 1024;
/// The most candidates of a golden request.
pub const MAX_GOLDEN_CANDIDATES: usize = 65_536;

/// What the file says it is: features, scenarios, tasks, and the network, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The name of the model.
    pub name: Option<String>,
    /// Where the model comes from: free text by key.
    pub provenance: BTreeMap<String, String>,
    /// The features, in input order; a feature's slot is its position.
    pub features: Vec<Feature>,
    /// The scenarios, in listed order.
    pub scenarios: Vec<Scenario>,
    /// The scenario of requests that name none or an unknown one; `None` only if there are no scenarios.
    pub fallback_scenario: Option<u32>,
    /// How many scenarios own a row.
    pub scenario_rows: usize,
    /// The tasks, in funnel order.
    pub tasks: Vec<Task>,
    /// The network: an object with a string `type`; its other keys are checked by the network of that type.
    pub network: serde_json::Map<String, serde_json::Value>,
    /// Requests whose scores are recorded in the file.
    pub golden: Option<Golden>,
}

/// When a feature's value changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rate {
    /// With the request: one row.
    Request,
    /// With the ad alone: a row a candidate.
    Item,
    /// With the request and the ad: a row a candidate.
    Pair,
}

/// One input of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// The name.
    pub name: String,
    /// When its value changes.
    pub rate: Rate,
    /// What its value is, and how it becomes numbers.
    pub kind: FeatureKind,
}

/// What a feature's value is.
#[derive(Clone, Debug, PartialEq)]
pub enum FeatureKind {
    /// One row of a table, or as many as it says, side by side.
    Id {
        /// From values to rows.
        lookup: Lookup,
        /// The ids of a row, 1..=4096.
        length: usize,
    },
    /// A bag of rows of a table, pooled to one.
    Ids {
        /// From values to rows.
        lookup: Lookup,
        /// From rows to one vector.
        pooling: Pooling,
    },
    /// Rows of a table in order, not pooled: a history. It belongs to the request.
    Sequence {
        /// From values to rows.
        lookup: Lookup,
        /// The most positions, 1..=4096.
        length: usize,
        /// Sequences of one group are equally long, position by position; groups are numbered in listed order.
        group: usize,
    },
    /// Numbers.
    Dense(Dense),
}

/// How the rows of a bag become one vector. An empty bag is the zero vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The sum.
    Sum,
    /// The sum over the number of rows.
    Mean,
    /// The largest, element by element.
    Max,
}

/// How a raw value becomes a row of a table.
#[derive(Clone, Debug, PartialEq)]
pub struct Lookup {
    /// The tensor name of the table, `[rows, dim]`.
    pub table: String,
    /// From the value to the row.
    pub transform: RowTransform,
    /// The row of values outside the vocabulary.
    pub oov: u32,
    /// The row of missing values, if it is declared; otherwise they take `oov`.
    pub missing: Option<u32>,
}

impl Lookup {
    /// The row of missing values.
    pub fn missing_row(&self) -> u32 {
        self.missing.unwrap_or(self.oov)
    }
}

/// From a raw value to a row.
#[derive(Clone, Debug, PartialEq)]
pub enum RowTransform {
    /// The value is the row; outside the table it is out of vocabulary.
    Identity,
    /// `offset + xxh64(bytes, seed) % buckets`.
    Hash {
        /// The seed of xxh64.
        seed: u64,
        /// How many rows the values spread over; at least 1.
        buckets: u32,
        /// The first of these rows.
        offset: u32,
    },
    /// `offset` + position in the list; not listed is out of vocabulary.
    Vocabulary {
        /// The listed values.
        values: Vocabulary,
        /// The row of the first value.
        offset: u32,
    },
    /// `offset` + the number of boundaries that are not above the value (an F32).
    Bucketize {
        /// Strictly ascending, rounded to f32, finite.
        boundaries: Vec<f32>,
        /// The row below the first boundary.
        offset: u32,
    },
}

/// The values of a vocabulary: unique, all of one type, at least one.
#[derive(Clone, Debug, PartialEq)]
pub enum Vocabulary {
    /// Integers.
    Integers(Vec<i64>),
    /// Non-empty strings.
    Texts(Texts),
}

/// Strings, one after the other in one buffer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Texts {
    bytes: String,
    ends: Vec<u32>,
}

impl Texts {
    /// Adds a string; false if the buffer cannot grow past 4 GiB.
    pub(super) fn push(&mut self, text: &str) -> bool {
        let Ok(end) = u32::try_from(self.bytes.len() + text.len()) else { return false };
        self.bytes.push_str(text);
        self.ends.push(end);
        true
    }

    /// How many strings there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at a position.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        self.bytes.get(start..end)
    }

    /// The strings, in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// Numbers as they are given, after an optional transform.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    /// The numbers of a row, 1..=65536.
    pub width: usize,
    /// From the given number to the network's input.
    pub transform: DenseTransform,
    /// The value after the transform of missing numbers, if it is declared; otherwise 0.
    pub missing: Option<f32>,
}

/// From a given number to the network's input. The vectors have the feature's width.
#[derive(Clone, Debug, PartialEq)]
pub enum DenseTransform {
    /// The number itself.
    None,
    /// `(x - mean) * scale`; scale is 1/std, rounded once from f64.
    Standardize {
        /// The means.
        mean: Vec<f32>,
        /// The reciprocals of the standard deviations.
        scale: Vec<f32>,
    },
    /// `ln(1 + max(x, 0))`, in f64, rounded to f32.
    Log1p,
    /// `(x - min) * scale` clamped to 0..=1; scale is 1/(max-min), rounded once from f64.
    Minmax {
        /// The minima.
        min: Vec<f32>,
        /// The reciprocals of the ranges.
        scale: Vec<f32>,
    },
}

/// What a feature's column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueKind {
    /// Integers: I64 or I32.
    Integer,
    /// F32.
    Number,
    /// Text.
    Text,
    /// Integers or text, as the caller likes.
    IntegerOrText,
}

impl Feature {
    /// From values to rows, for `id` and `ids`.
    pub fn lookup(&self) -> Option<&Lookup> {
        match &self.kind {
            FeatureKind::Id { lookup, .. } | FeatureKind::Ids { lookup, .. } | FeatureKind::Sequence { lookup, .. } => {
                Some(lookup)
            }
            FeatureKind::Dense(_) => None,
        }
    }

    /// What its column holds.
    pub fn value_kind(&self) -> ValueKind {
        match self.lookup().map(|lookup| &lookup.transform) {
            None | Some(RowTransform::Bucketize { .. }) => ValueKind::Number,
            Some(RowTransform::Identity | RowTransform::Vocabulary { values: Vocabulary::Integers(_), .. }) => {
                ValueKind::Integer
            }
            Some(RowTransform::Vocabulary { values: Vocabulary::Texts(_), .. }) => ValueKind::Text,
            Some(RowTransform::Hash { .. }) => ValueKind::IntegerOrText,
        }
    }

    /// Whether a row has any number of values, and its column offsets: bags and sequences.
    pub fn is_ragged(&self) -> bool {
        matches!(self.kind, FeatureKind::Ids { .. } | FeatureKind::Sequence { .. })
    }

    /// The values of a row: the width of a dense feature, the ids of an id feature (bags and sequences are ragged: 1).
    pub fn width(&self) -> usize {
        match &self.kind {
            FeatureKind::Dense(dense) => dense.width,
            FeatureKind::Id { length, .. } => *length,
            FeatureKind::Ids { .. } | FeatureKind::Sequence { .. } => 1,
        }
    }

    /// Whether its column may be left out: `missing` is declared.
    pub fn is_optional(&self) -> bool {
        match &self.kind {
            FeatureKind::Dense(dense) => dense.missing.is_some(),
            FeatureKind::Id { lookup, .. } | FeatureKind::Ids { lookup, .. } | FeatureKind::Sequence { lookup, .. } => {
                lookup.missing.is_some()
            }
        }
    }
}

/// A place where ads are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// The name.
    pub name: String,
    /// The host's number for it.
    pub id: i64,
    /// The scenario that serves it, if it owns no row.
    pub fallback: Option<u32>,
    /// Its row of the scenario table: its own, or that of its fallback.
    pub row: u32,
}

/// One score.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// The name.
    pub name: String,
    /// The earlier tasks whose probabilities multiply to this one; `None` if the network has a tower for it.
    pub composition: Option<Vec<u32>>,
    /// The score where the network gives no finite number.
    pub fallback: f32,
}

/// Requests whose scores are recorded in the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Golden {
    /// The largest absolute difference between a score and its record at stored precision.
    pub tolerance: f64,
    /// The requests.
    pub requests: Vec<GoldenHead>,
}

/// The head of a golden request; its columns and scores are tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenHead {
    /// The scenario; `None` asks for the fallback.
    pub scenario: Option<u32>,
    /// The number of candidates.
    pub candidates: usize,
}

impl Description {
    /// Parses and checks the JSON, all but what depends on tensors.
    ///
    /// # Errors
    /// `Description`, with the JSON path of the first fault, such as `features[2].transform.boundaries[1]`.
    pub fn parse(json: &str) -> Result<Self, Error> {
        schema::read(json)
    }

    /// The table of each feature, none for dense ones. A table is F32, F16, BF16, I8 or U8, `[rows, dim]`, and has every row
    /// that its features can reach.
    ///
    /// # Errors
    /// `Tensor` if a table is missing or is not such a tensor; `Description`, with the JSON path, for a row outside.
    pub fn check_tables(&self, store: &Store) -> Result<Vec<Option<TensorId>>, Error> {
        let table = |(slot, feature): (usize, &Feature)| {
            feature.lookup().map(|lookup| lookup.check_table(&format!("features[{slot}]"), store)).transpose()
        };
        self.features.iter().enumerate().map(table).collect()
    }

    /// The slots of each group of sequences.
    pub fn sequences(&self) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (slot, feature) in self.features.iter().enumerate() {
            if let FeatureKind::Sequence { group, .. } = feature.kind {
                if group == groups.len() {
                    groups.push(Vec::new());
                }
                groups[group].push(slot);
            }
        }
        groups
    }

    /// The most positions of a group of sequences.
    pub fn sequence_length(&self, group: usize) -> usize {
        let length = |feature: &Feature| match feature.kind {
            FeatureKind::Sequence { length, group: of, .. } if of == group => Some(length),
            _ => None,
        };
        self.features.iter().find_map(length).unwrap_or(0)
    }

    /// The slot of the feature of that name.
    pub fn feature(&self, name: &str) -> Option<u32> {
        position(&self.features, |feature| feature.name == name)
    }

    /// The position of the scenario of that name.
    pub fn scenario(&self, name: &str) -> Option<u32> {
        position(&self.scenarios, |scenario| scenario.name == name)
    }

    /// The position of the scenario with that number.
    pub fn scenario_by_id(&self, id: i64) -> Option<u32> {
        position(&self.scenarios, |scenario| scenario.id == id)
    }

    /// The position of the task of that name.
    pub fn task(&self, name: &str) -> Option<u32> {
        position(&self.tasks, |task| task.name == name)
    }

    /// The type of the network, by which its other keys are read.
    pub fn network_type(&self) -> &str {
        self.network.get("type").and_then(|name| name.as_str()).unwrap_or_default()
    }
}

fn position<T>(entries: &[T], is_it: impl Fn(&T) -> bool) -> Option<u32> {
    entries.iter().position(is_it).and_then(|position| u32::try_from(position).ok())
}

impl Lookup {
    fn check_table(&self, path: &str, store: &Store) -> Result<TensorId, Error> {
        let Some(id) = store.find(&self.table) else {
            let detail = format!("is missing; it is the table of {path}");
            return Err(Error::new(ErrorKind::Tensor, &*self.table, detail));
        };
        let table = store.tensor(id);
        let [rows, dim] = store.table(id)?;
        if rows == 0 || rows > u32::MAX as usize || dim == 0 || dim > MAX_TABLE_DIM {
            let detail =
                format!("has shape [{rows}, {dim}], a table has 1 to {} rows of 1 to {MAX_TABLE_DIM}", u32::MAX);
            return Err(Error::new(ErrorKind::Tensor, table.name, detail));
        }
        let last_of_transform = match &self.transform {
            RowTransform::Identity => 0,
            RowTransform::Hash { buckets, offset, .. } => last_row(*offset, *buckets as usize),
            RowTransform::Vocabulary { values, offset } => last_row(*offset, values.len()),
            RowTransform::Bucketize { boundaries, offset } => last_row(*offset, boundaries.len() + 1),
        };
        let reached =
            [("oov", self.oov as u64), ("missing", self.missing_row() as u64), ("transform", last_of_transform)];
        match reached.iter().find(|(_, row)| *row >= rows as u64) {
            None => Ok(id),
            Some((key, row)) => {
                let detail = format!("row {row} is outside table `{}`, which has {rows} rows", self.table);
                Err(Error::new(ErrorKind::Description, format!("{path}.{key}"), detail))
            }
        }
    }
}

fn last_row(offset: u32, rows: usize) -> u64 {
    u64::from(offset) + (rows as u64).saturating_sub(1)
}

impl Vocabulary {
    /// How many values there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Integers(values) => values.len(),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
