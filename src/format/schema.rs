//! The JSON of a description: its shape first, then its sense.
//!
//! The shape is read by serde into structs with every key of every variant, all optional; `serde_path_to_error` gives
//! the path to what does not fit. Tagged enums of serde would be shorter, but they buffer their content and lose the
//! path. The sense is checked by plain functions, each of which is handed its path. Memory stays within a few times the
//! size of the JSON: vocabularies go into compact lists, and everything else is bounded in number.

use std::collections::HashMap;
use std::fmt::Display;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::Number;

use super::description::*;
use super::header;
use super::json::{self, List, Object, Tree, present};
use crate::error::{Error, ErrorKind};

/// The most entries of `provenance`.
const MAX_PROVENANCE: usize = 1024;
/// The subject of a fault of the document itself.
const ROOT: &str = "description";

/// Parses and checks a description.
pub fn read(text: &str) -> Result<Description, Error> {
    let Object(Version { format_version }) = parse(text)?;
    if format_version != FORMAT_VERSION {
        let detail = format!("is {format_version}, this library reads {FORMAT_VERSION}");
        return Err(fault("format_version", detail));
    }
    let Object(document) = parse::<Object<DocumentJson>>(text)?;
    document.check()
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    json::read(text).map_err(|fault| {
        let subject = if fault.path.is_empty() { ROOT.into() } else { fault.path };
        Error::new(ErrorKind::Description, subject, fault.detail)
    })
}

fn fault(path: impl Into<String>, detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Description, path, detail)
}

/// Read first, with all else ignored: another version may have any other key.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentJson {
    #[serde(rename = "format_version")]
    _format_version: u32,
    #[serde(default, deserialize_with = "present")]
    name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    provenance: Option<Tree<MAX_PROVENANCE>>,
    features: List<Object<FeatureJson>, MAX_FEATURES>,
    scenarios: List<Object<ScenarioJson>, MAX_SCENARIOS>,
    #[serde(default, deserialize_with = "present")]
    fallback_scenario: Option<String>,
    tasks: List<Object<TaskJson>, MAX_TASKS>,
    network: Tree<MAX_NETWORK_VALUES>,
    #[serde(default, deserialize_with = "present")]
    golden: Option<Object<GoldenJson>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FeatureJson {
    name: String,
    rate: String,
    kind: String,
    #[serde(default, deserialize_with = "present")]
    table: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pooling: Option<String>,
    #[serde(default, deserialize_with = "present")]
    width: Option<usize>,
    #[serde(default, deserialize_with = "present")]
    length: Option<usize>,
    #[serde(default, deserialize_with = "present")]
    sequence: Option<String>,
    #[serde(default, deserialize_with = "present")]
    transform: Option<Object<TransformJson>>,
    #[serde(default, deserialize_with = "present")]
    oov: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    missing: Option<Number>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TransformJson {
    r#type: String,
    #[serde(default, deserialize_with = "present")]
    algorithm: Option<String>,
    #[serde(default, deserialize_with = "present")]
    seed: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    buckets: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    offset: Option<u32>,
    #[serde(default, deserialize_with = "present")]
    values: Option<ValuesJson>,
    #[serde(default, deserialize_with = "present")]
    boundaries: Option<Vec<f64>>,
    #[serde(default, deserialize_with = "present")]
    mean: Option<List<f64, MAX_WIDTH>>,
    #[serde(default, deserialize_with = "present")]
    std: Option<List<f64, MAX_WIDTH>>,
    #[serde(default, deserialize_with = "present")]
    min: Option<List<f64, MAX_WIDTH>>,
    #[serde(default, deserialize_with = "present")]
    max: Option<List<f64, MAX_WIDTH>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioJson {
    name: String,
    id: i64,
    #[serde(default, deserialize_with = "present")]
    fallback: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskJson {
    name: String,
    #[serde(default, deserialize_with = "present")]
    composition: Option<List<String, MAX_TASKS>>,
    #[serde(default, deserialize_with = "present")]
    fallback: Option<f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenJson {
    tolerance: f64,
    requests: List<Object<GoldenHeadJson>, MAX_GOLDEN_REQUESTS>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GoldenHeadJson {
    #[serde(default, deserialize_with = "present")]
    scenario: Option<String>,
    candidates: usize,
}

/// The values of a vocabulary: the first decides whether they are integers or strings.
struct ValuesJson(Vocabulary);

impl<'a> Deserialize<'a> for ValuesJson {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'a> Visitor<'a> for Values {
            type Value = Option<Vocabulary>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array of integers or of strings")
            }

            fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Option<Vocabulary>, A::Error> {
                let mut values = None;
                while seq.next_element_seed(NextValue(&mut values))?.is_some() {}
                Ok(values)
            }
        }
        match deserializer.deserialize_seq(Values)? {
            Some(values) => Ok(Self(values)),
            None => Err(D::Error::custom("is empty")),
        }
    }
}

/// The next value of a vocabulary.
struct NextValue<'v>(&'v mut Option<Vocabulary>);

impl<'a> DeserializeSeed<'a> for NextValue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for NextValue<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an integer or a string")
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<(), E> {
        if value == i64::MIN {
            return Err(E::custom("stands for a missing value"));
        }
        match self.0.get_or_insert(Vocabulary::Integers(Vec::new())) {
            Vocabulary::Integers(values) => {
                values.push(value);
                Ok(())
            }
            Vocabulary::Texts(_) => Err(E::custom("is an integer among strings")),
        }
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(E::custom("is above the 64-bit signed integers")),
        }
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<(), E> {
        if value.is_empty() {
            return Err(E::custom("is empty, which stands for a missing value"));
        }
        match self.0.get_or_insert(Vocabulary::Texts(Texts::default())) {
            Vocabulary::Texts(texts) => {
                if texts.push(value) {
                    Ok(())
                } else {
                    Err(E::custom("brings the strings past 4 GiB"))
                }
            }
            Vocabulary::Integers(_) => Err(E::custom("is a string among integers")),
        }
    }
}

impl DocumentJson {
    fn check(self) -> Result<Description, Error> {
        let mut provenance = std::collections::BTreeMap::new();
        for (key, value) in self.provenance.map(|tree| tree.0).unwrap_or_default() {
            let serde_json::Value::String(value) = value else {
                return Err(fault(format!("provenance.{key}"), "is not a string"));
            };
            provenance.insert(key, value);
        }

        let mut groups = HashMap::new();
        let features = self.features.0.into_iter().enumerate();
        let features: Vec<Feature> = features
            .map(|(slot, feature)| feature.0.check(&format!("features[{slot}]"), &mut groups))
            .collect::<Result<_, _>>()?;
        if features.is_empty() {
            return Err(fault("features", "is empty"));
        }
        unique("features", "name", features.iter().map(|feature| &*feature.name))?;

        let (scenarios, scenario_rows) = check_scenarios(self.scenarios.0)?;
        let fallback_scenario = match self.fallback_scenario {
            None => (!scenarios.is_empty()).then_some(0),
            Some(name) => Some(find_scenario(&scenarios, "fallback_scenario", &name)?),
        };
        let tasks = check_tasks(self.tasks.0)?;
        match self.network.0.get("type") {
            Some(serde_json::Value::String(_)) => {}
            Some(_) => return Err(fault("network.type", "is not a string")),
            None => return Err(fault("network.type", "is missing")),
        }
        let golden = self.golden.map(|Object(golden)| golden.check(&scenarios)).transpose()?;
        Ok(Description {
            name: self.name,
            provenance,
            features,
            scenarios,
            fallback_scenario,
            scenario_rows,
            tasks,
            network: self.network.0,
            golden,
        })
    }
}

impl FeatureJson {
    /// `groups` are the sequences seen before, with their number and length.
    fn check(self, path: &str, groups: &mut HashMap<String, (usize, usize)>) -> Result<Feature, Error> {
        check_name(path, &self.name)?;
        let rates = [("request", Rate::Request), ("item", Rate::Item), ("pair", Rate::Pair)];
        let rate = choice(format!("{path}.rate"), &self.rate, rates)?;
        let name = self.name.clone();
        let kind = match &*self.kind {
            "id" => {
                self.refuse(path, &["width", "pooling", "sequence"])?;
                let length = self.length.unwrap_or(1);
                check_length(path, length)?;
                FeatureKind::Id { lookup: self.check_lookup(path)?, length }
            }
            "ids" => {
                self.refuse(path, &["width", "length", "sequence"])?;
                let poolings = [("sum", Pooling::Sum), ("mean", Pooling::Mean), ("max", Pooling::Max)];
                let pooling = match &self.pooling {
                    Some(pooling) => choice(format!("{path}.pooling"), pooling, poolings)?,
                    None => Pooling::Mean,
                };
                FeatureKind::Ids { lookup: self.check_lookup(path)?, pooling }
            }
            "sequence" => {
                self.refuse(path, &["width", "pooling"])?;
                if rate != Rate::Request {
                    return Err(fault(format!("{path}.rate"), "is not request: a sequence belongs to the request"));
                }
                let length = required(path, "length", self.length)?;
                check_length(path, length)?;
                let of = self.sequence.clone().unwrap_or_else(|| name.clone());
                let next = groups.len();
                let (group, known) = *groups.entry(of).or_insert((next, length));
                if known != length {
                    let detail = format!("{length} is not {known}, the length of its sequence before");
                    return Err(fault(format!("{path}.length"), detail));
                }
                FeatureKind::Sequence { lookup: self.check_lookup(path)?, length, group }
            }
            "dense" => {
                self.refuse(path, &["table", "pooling", "oov", "length", "sequence"])?;
                FeatureKind::Dense(self.check_dense(path)?)
            }
            _ => {
                let detail = format!("{} is not one of id, ids, sequence, dense", json::quoted(&self.kind));
                return Err(fault(format!("{path}.kind"), detail));
            }
        };
        Ok(Feature { name, rate, kind })
    }

    /// Refuses those of the keys `others` that are there.
    fn refuse(&self, path: &str, others: &[&str]) -> Result<(), Error> {
        let keys = [
            ("table", self.table.is_some()),
            ("width", self.width.is_some()),
            ("pooling", self.pooling.is_some()),
            ("oov", self.oov.is_some()),
            ("length", self.length.is_some()),
            ("sequence", self.sequence.is_some()),
        ];
        let keys = keys.map(|(key, is_there)| (key, is_there && others.contains(&key)));
        refuse_keys(path, &format!("feature of kind `{}`", self.kind), &keys)
    }

    fn check_lookup(self, path: &str) -> Result<Lookup, Error> {
        let table = required(path, "table", self.table)?;
        if !header::is_tensor_name(&table) || table.starts_with(header::PADDING_PREFIX) {
            return Err(fault(format!("{path}.table"), format!("{} is not a tensor name", json::quoted(&table))));
        }
        let transform = required(path, "transform", self.transform)?.0.check_row(&format!("{path}.transform"))?;
        let oov = required(path, "oov", self.oov)?;
        let missing = match self.missing {
            None => None,
            Some(number) => match number.as_u64().and_then(|row| u32::try_from(row).ok()) {
                Some(row) => Some(row),
                None => return Err(fault(format!("{path}.missing"), format!("{number} is not the number of a row"))),
            },
        };
        Ok(Lookup { table, transform, oov, missing })
    }

    fn check_dense(self, path: &str) -> Result<Dense, Error> {
        let width = required(path, "width", self.width)?;
        if !(1..=MAX_WIDTH).contains(&width) {
            return Err(fault(format!("{path}.width"), format!("{width} is not in 1..={MAX_WIDTH}")));
        }
        let transform = match self.transform {
            None => DenseTransform::None,
            Some(Object(transform)) => transform.check_dense(&format!("{path}.transform"), width)?,
        };
        let missing = match self.missing {
            None => None,
            Some(number) => Some(to_f32(format!("{path}.missing"), number.as_f64().unwrap_or(f64::NAN))?),
        };
        Ok(Dense { width, transform, missing })
    }
}

impl TransformJson {
    /// Refuses the keys that are there and not `allowed`.
    fn only(&self, path: &str, allowed: &[&str]) -> Result<(), Error> {
        let keys = [
            ("algorithm", self.algorithm.is_some()),
            ("seed", self.seed.is_some()),
            ("buckets", self.buckets.is_some()),
            ("offset", self.offset.is_some()),
            ("values", self.values.is_some()),
            ("boundaries", self.boundaries.is_some()),
            ("mean", self.mean.is_some()),
            ("std", self.std.is_some()),
            ("min", self.min.is_some()),
            ("max", self.max.is_some()),
        ];
        let others = keys.map(|(key, is_there)| (key, is_there && !allowed.contains(&key)));
        refuse_keys(path, &format!("transform of type `{}`", self.r#type), &others)
    }

    fn check_row(self, path: &str) -> Result<RowTransform, Error> {
        let offset = self.offset.unwrap_or(0);
        match &*self.r#type {
            "identity" => {
                self.only(path, &[])?;
                Ok(RowTransform::Identity)
            }
            "hash" => {
                self.only(path, &["algorithm", "seed", "buckets", "offset"])?;
                let algorithm = required(path, "algorithm", self.algorithm)?;
                choice(format!("{path}.algorithm"), &algorithm, [("xxh64", ())])?;
                let buckets = required(path, "buckets", self.buckets)?;
                if buckets == 0 {
                    return Err(fault(format!("{path}.buckets"), "is 0"));
                }
                Ok(RowTransform::Hash { seed: self.seed.unwrap_or(0), buckets, offset })
            }
            "vocabulary" => {
                self.only(path, &["values", "offset"])?;
                let ValuesJson(values) = required(path, "values", self.values)?;
                check_vocabulary(&format!("{path}.values"), &values)?;
                Ok(RowTransform::Vocabulary { values, offset })
            }
            "bucketize" => {
                self.only(path, &["boundaries", "offset"])?;
                let boundaries = required(path, "boundaries", self.boundaries)?;
                let boundaries = check_boundaries(&format!("{path}.boundaries"), &boundaries)?;
                Ok(RowTransform::Bucketize { boundaries, offset })
            }
            other => {
                let names = "identity, hash, vocabulary, bucketize";
                Err(fault(format!("{path}.type"), format!("{} is not one of {names}", json::quoted(other))))
            }
        }
    }

    fn check_dense(self, path: &str, width: usize) -> Result<DenseTransform, Error> {
        match &*self.r#type {
            "standardize" => {
                self.only(path, &["mean", "std"])?;
                let mean = vector(path, "mean", self.mean, width)?;
                let std = vector(path, "std", self.std, width)?;
                let scale = std.iter().enumerate().map(|(i, &std)| reciprocal(format!("{path}.std[{i}]"), std));
                Ok(DenseTransform::Standardize {
                    mean: to_f32s(path, "mean", &mean)?,
                    scale: scale.collect::<Result<_, _>>()?,
                })
            }
            "log1p" => {
                self.only(path, &[])?;
                Ok(DenseTransform::Log1p)
            }
            "minmax" => {
                self.only(path, &["min", "max"])?;
                let min = vector(path, "min", self.min, width)?;
                let max = vector(path, "max", self.max, width)?;
                let ranges = min.iter().zip(&max).map(|(min, max)| max - min).enumerate();
                let scale = ranges.map(|(i, range)| reciprocal(format!("{path}.max[{i}]"), range));
                let scale = scale.collect::<Result<_, _>>()?;
                Ok(DenseTransform::Minmax { min: to_f32s(path, "min", &min)?, scale })
            }
            other => {
                let names = "standardize, log1p, minmax";
                Err(fault(format!("{path}.type"), format!("{} is not one of {names}", json::quoted(other))))
            }
        }
    }
}

impl GoldenJson {
    fn check(self, scenarios: &[Scenario]) -> Result<Golden, Error> {
        if !(self.tolerance > 0.0 && self.tolerance <= 1.0) {
            return Err(fault("golden.tolerance", format!("{:?} is not above 0 and up to 1", self.tolerance)));
        }
        let heads = self.requests.0.into_iter().enumerate().map(|(number, Object(head))| {
            let path = format!("golden.requests[{number}]");
            if !(1..=MAX_GOLDEN_CANDIDATES).contains(&head.candidates) {
                let detail = format!("{} is not in 1..={MAX_GOLDEN_CANDIDATES}", head.candidates);
                return Err(fault(format!("{path}.candidates"), detail));
            }
            let find = |name: String| find_scenario(scenarios, &format!("{path}.scenario"), &name);
            Ok(GoldenHead { scenario: head.scenario.map(find).transpose()?, candidates: head.candidates })
        });
        Ok(Golden { tolerance: self.tolerance, requests: heads.collect::<Result<_, _>>()? })
    }
}

fn check_scenarios(listed: Vec<Object<ScenarioJson>>) -> Result<(Vec<Scenario>, usize), Error> {
    for (number, Object(scenario)) in listed.iter().enumerate() {
        check_name(&format!("scenarios[{number}]"), &scenario.name)?;
    }
    unique("scenarios", "name", listed.iter().map(|scenario| &*scenario.0.name))?;
    unique("scenarios", "id", listed.iter().map(|scenario| scenario.0.id))?;

    let owners = listed.iter().enumerate().filter(|(_, scenario)| scenario.0.fallback.is_none());
    let owners: HashMap<&str, (usize, usize)> =
        owners.enumerate().map(|(row, (number, scenario))| (&*scenario.0.name, (number, row))).collect();
    let scenario = |(number, Object(scenario)): (usize, &Object<ScenarioJson>)| {
        let owner = scenario.fallback.as_ref().unwrap_or(&scenario.name);
        let Some(&(owner, row)) = owners.get(&**owner) else {
            let detail = match listed.iter().any(|other| other.0.name == *owner) {
                true => format!("{} has a fallback itself", json::quoted(owner)),
                false => format!("{} is not a scenario", json::quoted(owner)),
            };
            return Err(fault(format!("scenarios[{number}].fallback"), detail));
        };
        let fallback = scenario.fallback.is_some().then_some(owner as u32);
        Ok(Scenario { name: scenario.name.clone(), id: scenario.id, fallback, row: row as u32 })
    };
    let scenarios = listed.iter().enumerate().map(scenario).collect::<Result<_, _>>()?;
    Ok((scenarios, owners.len()))
}

fn find_scenario(scenarios: &[Scenario], path: &str, name: &str) -> Result<u32, Error> {
    match scenarios.iter().position(|scenario| scenario.name == name) {
        Some(position) => Ok(position as u32),
        None => Err(fault(path, format!("{} is not a scenario", json::quoted(name)))),
    }
}

fn check_tasks(listed: Vec<Object<TaskJson>>) -> Result<Vec<Task>, Error> {
    for (number, Object(task)) in listed.iter().enumerate() {
        check_name(&format!("tasks[{number}]"), &task.name)?;
    }
    unique("tasks", "name", listed.iter().map(|task| &*task.0.name))?;
    let mut tasks = Vec::<Task>::new();
    for (number, Object(task)) in listed.into_iter().enumerate() {
        let path = format!("tasks[{number}]");
        let composition = task.composition.map(|List(names)| check_composition(&path, &tasks, &names)).transpose()?;
        let fallback = task.fallback.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&fallback) {
            return Err(fault(format!("{path}.fallback"), format!("{fallback:?} is not in 0..=1")));
        }
        tasks.push(Task { name: task.name, composition, fallback: fallback as f32 });
    }
    match tasks.first() {
        Some(_) => Ok(tasks),
        None => Err(fault("tasks", "is empty")),
    }
}

fn check_composition(path: &str, earlier: &[Task], names: &[String]) -> Result<Vec<u32>, Error> {
    if names.is_empty() {
        return Err(fault(format!("{path}.composition"), "is empty"));
    }
    let mut factors = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let refuse =
            |detail: &str| fault(format!("{path}.composition[{number}]"), format!("{} {detail}", json::quoted(name)));
        let position = earlier.iter().position(|task| task.name == *name);
        let factor = position.ok_or_else(|| refuse("is not an earlier task"))? as u32;
        if factors.contains(&factor) {
            return Err(refuse("is there twice"));
        }
        factors.push(factor);
    }
    Ok(factors)
}

fn check_length(path: &str, length: usize) -> Result<(), Error> {
    if (1..=MAX_SEQUENCE).contains(&length) {
        return Ok(());
    }
    Err(fault(format!("{path}.length"), format!("{length} is not in 1..={MAX_SEQUENCE}")))
}

fn check_vocabulary(path: &str, values: &Vocabulary) -> Result<(), Error> {
    match values {
        Vocabulary::Integers(values) => distinct(path, values.len(), |index| values.get(index)),
        Vocabulary::Texts(texts) => distinct(path, texts.len(), |index| texts.get(index)),
    }
}

/// Refuses equal values by sorting their positions, which takes 4 bytes each.
fn distinct<K: Ord>(path: &str, len: usize, key: impl Fn(usize) -> K) -> Result<(), Error> {
    let mut order: Vec<u32> = (0..len as u32).collect();
    order.sort_unstable_by_key(|&position| (key(position as usize), position));
    let equal = order.windows(2).filter(|pair| key(pair[0] as usize) == key(pair[1] as usize));
    match equal.min_by_key(|pair| pair[1]) {
        None => Ok(()),
        Some(pair) => Err(fault(format!("{path}[{}]", pair[1]), format!("is the same as [{}]", pair[0]))),
    }
}

fn check_boundaries(path: &str, boundaries: &[f64]) -> Result<Vec<f32>, Error> {
    if boundaries.is_empty() {
        return Err(fault(path, "is empty"));
    }
    let mut rounded = Vec::<f32>::with_capacity(boundaries.len());
    for (number, &boundary) in boundaries.iter().enumerate() {
        let boundary = to_f32(format!("{path}[{number}]"), boundary)?;
        if rounded.last().is_some_and(|&before| before >= boundary) {
            return Err(fault(format!("{path}[{number}]"), "is not above the boundary before it, as f32"));
        }
        rounded.push(boundary);
    }
    Ok(rounded)
}

/// Refuses the first key that is there.
fn refuse_keys(path: &str, what: &str, keys: &[(&str, bool)]) -> Result<(), Error> {
    match keys.iter().find(|(_, is_there)| *is_there) {
        None => Ok(()),
        Some((key, _)) => Err(fault(format!("{path}.{key}"), format!("does not belong to a {what}"))),
    }
}

fn required<T>(path: &str, key: &str, value: Option<T>) -> Result<T, Error> {
    value.ok_or_else(|| fault(format!("{path}.{key}"), "is missing"))
}

fn check_name(path: &str, name: &str) -> Result<(), Error> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_plain) {
        return Ok(());
    }
    let detail = format!("{} is not of 1 to {MAX_NAME_BYTES} letters, digits, `_` and `-`", json::quoted(name));
    Err(fault(format!("{path}.name"), detail))
}

fn unique<K: Eq + std::hash::Hash + Display>(
    path: &str,
    field: &str,
    keys: impl Iterator<Item = K>,
) -> Result<(), Error> {
    let mut first = HashMap::new();
    for (number, key) in keys.enumerate() {
        if let Some(before) = first.get(&key) {
            let detail = format!("`{key}` is the {field} of {path}[{before}] too");
            return Err(fault(format!("{path}[{number}].{field}"), detail));
        }
        first.insert(key, number);
    }
    Ok(())
}

fn choice<T: Copy, const N: usize>(path: String, text: &str, choices: [(&str, T); N]) -> Result<T, Error> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names = choices.map(|(name, _)| name).join(", ");
    Err(fault(path, format!("{} is not one of {names}", json::quoted(text))))
}

fn vector(path: &str, key: &str, values: Option<List<f64, MAX_WIDTH>>, width: usize) -> Result<Vec<f64>, Error> {
    let List(values) = required(path, key, values)?;
    if values.len() == width {
        return Ok(values);
    }
    Err(fault(format!("{path}.{key}"), format!("has {} entries, the width is {width}", values.len())))
}

fn to_f32s(path: &str, key: &str, values: &[f64]) -> Result<Vec<f32>, Error> {
    values.iter().enumerate().map(|(i, &value)| to_f32(format!("{path}.{key}[{i}]"), value)).collect()
}

fn to_f32(path: String, value: f64) -> Result<f32, Error> {
    let rounded = value as f32;
    if rounded.is_finite() { Ok(rounded) } else { Err(fault(path, "is not finite as f32")) }
}

/// `1 / value` in f64, rounded to f32: the multiplier in place of a division.
fn reciprocal(path: String, value: f64) -> Result<f32, Error> {
    let scale = (1.0 / value) as f32;
    if value > 0.0 && scale.is_finite() && scale > 0.0 {
        return Ok(scale);
    }
    Err(fault(path, format!("divides by {value:?}, whose reciprocal is not a positive finite f32")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"{"format_version":1,"name":"hillstrom","provenance":{"trained":"2026-11-24"},
        "features":[
            {"name":"user_id","rate":"request","kind":"id","table":"embeddings.user_id.weight","oov":0,"missing":1,
             "transform":{"type":"hash","algorithm":"xxh64","seed":18446744073709551615,"buckets":9999,"offset":1}},
            {"name":"history","rate":"request","kind":"ids","pooling":"max","table":"t","transform":{"type":"identity"},
             "oov":3},
            {"name":"zip","rate":"pair","kind":"id","length":3,"table":"t","transform":
             {"type":"vocabulary","values":["Rural","é","Urban"],"offset":1},"oov":0},
            {"name":"day","rate":"item","kind":"ids","table":"t","transform":
             {"type":"vocabulary","values":[-1,9223372036854775807]},"oov":0},
            {"name":"age","rate":"request","kind":"id","table":"t","transform":
             {"type":"bucketize","boundaries":[-0.5,0.1,35]},"oov":0},
            {"name":"price","rate":"item","kind":"dense","width":2,"missing":-1.5,
             "transform":{"type":"standardize","mean":[3,0.1],"std":[2,3]}},
            {"name":"bid","rate":"item","kind":"dense","width":1,"transform":{"type":"log1p"}},
            {"name":"rank","rate":"item","kind":"dense","width":1,"transform":{"type":"minmax","min":[-1],"max":[3]}},
            {"name":"raw","rate":"item","kind":"dense","width":1}],
        "scenarios":[{"name":"video","id":3,"fallback":"splash"},{"name":"feed","id":-1},{"name":"splash","id":2}],
        "tasks":[{"name":"ctr","fallback":0.25},{"name":"cvr"},{"name":"ctcvr","composition":["ctr","cvr"]}],
        "network":{"type":"mmoe","experts":8,"expert":[512,256]},
        "golden":{"tolerance":1e-5,"requests":[{"scenario":"splash","candidates":3},{"candidates":1}]}}"#;

    #[test]
    fn a_description_becomes_what_it_says() {
        let read = read(FULL).unwrap();
        let lookup = |table: &str, transform, oov, missing| Lookup { table: table.into(), transform, oov, missing };
        let texts = {
            let mut texts = Texts::default();
            assert!(["Rural", "é", "Urban"].iter().all(|text| texts.push(text)));
            Vocabulary::Texts(texts)
        };
        let integers = Vocabulary::Integers(vec![-1, i64::MAX]);
        let id = |lookup, length| FeatureKind::Id { lookup, length };
        let dense = |width, transform, missing| FeatureKind::Dense(Dense { width, transform, missing });
        let hash = RowTransform::Hash { seed: u64::MAX, buckets: 9999, offset: 1 };
        let bucketize = RowTransform::Bucketize { boundaries: vec![-0.5, 0.1, 35.0], offset: 0 };
        let standardize = DenseTransform::Standardize { mean: vec![3.0, 0.1], scale: vec![0.5, (1.0 / 3.0f64) as f32] };
        let minmax = DenseTransform::Minmax { min: vec![-1.0], scale: vec![0.25] };
        let vocabulary = |values, offset| RowTransform::Vocabulary { values, offset };
        let expected = [
            ("user_id", Rate::Request, id(lookup("embeddings.user_id.weight", hash, 0, Some(1)), 1)),
            (
                "history",
                Rate::Request,
                FeatureKind::Ids { lookup: lookup("t", RowTransform::Identity, 3, None), pooling: Pooling::Max },
            ),
            ("zip", Rate::Pair, id(lookup("t", vocabulary(texts, 1), 0, None), 3)),
            (
                "day",
                Rate::Item,
                FeatureKind::Ids { lookup: lookup("t", vocabulary(integers, 0), 0, None), pooling: Pooling::Mean },
            ),
            ("age", Rate::Request, id(lookup("t", bucketize, 0, None), 1)),
            ("price", Rate::Item, dense(2, standardize, Some(-1.5))),
            ("bid", Rate::Item, dense(1, DenseTransform::Log1p, None)),
            ("rank", Rate::Item, dense(1, minmax, None)),
            ("raw", Rate::Item, dense(1, DenseTransform::None, None)),
        ];
        let expected = expected.map(|(name, rate, kind)| Feature { name: name.into(), rate, kind });
        assert_eq!(read.features, expected);

        let scenario = |name: &str, id, fallback, row| Scenario { name: name.into(), id, fallback, row };
        let scenarios =
            [scenario("video", 3, Some(2), 1), scenario("feed", -1, None, 0), scenario("splash", 2, None, 1)];
        assert_eq!(read.scenarios, scenarios);
        assert_eq!((read.fallback_scenario, read.scenario_rows), (Some(0), 2));
        let task = |name: &str, composition, fallback| Task { name: name.into(), composition, fallback };
        assert_eq!(read.tasks, [task("ctr", None, 0.25), task("cvr", None, 0.0), task("ctcvr", Some(vec![0, 1]), 0.0)]);
        assert_eq!(read.network_type(), "mmoe");
        let golden = read.golden.as_ref().unwrap();
        let heads = [(Some(2), 3), (None, 1)];
        assert_eq!(golden.requests, heads.map(|(scenario, candidates)| GoldenHead { scenario, candidates }));
        assert_eq!(read.provenance["trained"], "2026-11-24");

        assert_eq!((read.feature("zip"), read.feature("zap")), (Some(2), None));
        assert_eq!((read.scenario("splash"), read.scenario_by_id(-1), read.task("cvr")), (Some(2), Some(1), Some(1)));
        let kinds: Vec<ValueKind> = read.features.iter().map(Feature::value_kind).collect();
        use ValueKind::*;
        assert_eq!(kinds, [IntegerOrText, Integer, Text, Integer, Number, Number, Number, Number, Number]);
    }

    #[test]
    fn a_model_may_have_no_scenarios_and_no_golden_requests() {
        let text = r#"{"format_version":1,"features":[{"name":"x","rate":"pair","kind":"dense","width":1}],
            "scenarios":[],"tasks":[{"name":"ctr"}],"network":{"type":"esmm"}}"#;
        let read = read(text).unwrap();
        assert_eq!((read.fallback_scenario, read.scenario_rows, read.golden), (None, 0, None));
    }

    #[test]
    fn numbers_are_read_to_the_last_bit() {
        // The nearest f64 of these is missed by parsers that trade the last bit for speed.
        for text in ["90.42225290942383", "42.215889504792884", "0.1", "1e-5", "8.589973e9"] {
            let value: f64 = serde_json::from_str(text).unwrap();
            assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
    }

    #[test]
    fn a_fault_is_reported_with_its_path() {
        let error = |from: &str, to: &str| {
            assert!(FULL.contains(from));
            let error = read(&FULL.replacen(from, to, 1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Description);
            error.to_string()
        };
        assert_eq!(error("0.1,35]", "0.1,0.1]"), {
            "features[4].transform.boundaries[2]: is not above the boundary before it, as f32"
        });
        assert_eq!(error("\"std\":[2,3]", "\"std\":[2,1e-60]"), {
            "features[5].transform.std[1]: divides by 1e-60, whose reciprocal is not a positive finite f32"
        });
        assert_eq!(error("\"fallback\":\"splash\"", "\"fallback\":\"video\""), {
            "scenarios[0].fallback: `video` has a fallback itself"
        });
    }
}
