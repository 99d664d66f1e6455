//! The models that the promise tests run over: every network, in variants that reach every operation, with random weights
//! and random requests. Each variant has features of every rate and kind, in an order that mixes the rates.

#![allow(dead_code, reason = "each test uses its part of the zoo")]

use polyscore::{Column, Dtype, Model, OpenOptions, Tensor, Values, write_model};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A model file in the making.
pub struct Zoo {
    pub name: String,
    pub description: Value,
    tensors: Vec<(String, Dtype, Vec<usize>, Vec<f32>)>,
    random: fastrand::Rng,
    dtype: Dtype,
}

/// Width of all features side by side: the tables below and the dense widths.
const X: usize = 16 + 7 + 3 + 7 + 5 + 4 + 2 + 8 + 6;

fn features() -> Value {
    json!([
        {"name": "user", "rate": "request", "kind": "id", "table": "embeddings.user.weight", "oov": 0,
         "transform": {"type": "hash", "algorithm": "xxh64", "seed": 7, "buckets": 50, "offset": 1}},
        {"name": "ad", "rate": "item", "kind": "id", "table": "embeddings.ad.weight", "oov": 0,
         "transform": {"type": "identity"}},
        {"name": "context", "rate": "request", "kind": "dense", "width": 3, "transform": {"type": "log1p"}, "missing": 0.5},
        {"name": "history", "rate": "request", "kind": "ids", "table": "embeddings.ad.weight", "oov": 0,
         "pooling": "mean", "transform": {"type": "identity"}},
        {"name": "tags", "rate": "item", "kind": "ids", "table": "embeddings.tag.weight", "oov": 0, "missing": 1,
         "pooling": "sum", "transform": {"type": "vocabulary", "values": [3, 5, 8, 13], "offset": 2}},
        {"name": "seen", "rate": "pair", "kind": "id", "table": "embeddings.seen.weight", "oov": 0,
         "transform": {"type": "bucketize", "boundaries": [1.0, 3.0], "offset": 1}},
        {"name": "price", "rate": "item", "kind": "dense", "width": 2,
         "transform": {"type": "standardize", "mean": [1.0, 10.0], "std": [0.5, 4.0]}},
        {"name": "city", "rate": "request", "kind": "id", "table": "embeddings.city.weight", "oov": 0,
         "transform": {"type": "vocabulary", "values": ["Delft", "Porto", "Turku"], "offset": 1}},
        {"name": "match", "rate": "pair", "kind": "ids", "table": "embeddings.match.weight", "oov": 0,
         "pooling": "max", "transform": {"type": "identity"}}
    ])
}

impl Zoo {
    fn new(name: &str, network: Value, dtype: Dtype) -> Self {
        let description = json!({
            "format_version": 1,
            "name": name,
            "features": features(),
            "scenarios": [
                {"name": "feed", "id": 10},
                {"name": "splash", "id": 20},
                {"name": "video", "id": 30, "fallback": "splash"}
            ],
            "fallback_scenario": "splash",
            "tasks": [{"name": "ctr"}, {"name": "cvr"}, {"name": "ctcvr", "composition": ["ctr", "cvr"]}],
            "network": network,
        });
        let seed = name.bytes().fold(1, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
        let random = fastrand::Rng::with_seed(seed);
        let mut zoo = Self { name: name.to_owned(), description, tensors: Vec::new(), random, dtype };
        let tables = [("user", 51, 16), ("ad", 40, 7), ("tag", 6, 5), ("seen", 4, 4), ("city", 4, 8), ("match", 30, 6)];
        for (table, rows, width) in tables {
            zoo.tensor(format!("embeddings.{table}.weight"), &[rows, width], 0.5);
        }
        zoo
    }

    fn tensor(&mut self, name: String, shape: &[usize], scale: f32) {
        let values = (0..shape.iter().product()).map(|_| (self.random.f32() * 2.0 - 1.0) * scale).collect();
        self.tensors.push((name, self.dtype, shape.to_vec(), values));
    }

    fn linear(&mut self, prefix: &str, outputs: usize, inputs: usize) {
        self.tensor(format!("{prefix}.weight"), &[outputs, inputs], 2.0 / (inputs as f32).sqrt());
        self.tensor(format!("{prefix}.bias"), &[outputs], 0.3);
    }

    fn mlp(&mut self, prefix: &str, inputs: usize, sizes: &[usize]) -> usize {
        let mut inputs = inputs;
        for (i, size) in sizes.iter().enumerate() {
            self.linear(&format!("{prefix}.{i}.linear"), *size, inputs);
            if self.description["network"]["batch_norm"] == json!(true) {
                self.norm(&format!("{prefix}.{i}.norm"), *size);
            }
            inputs = *size;
        }
        inputs
    }

    fn norm(&mut self, prefix: &str, width: usize) {
        for part in ["weight", "bias", "running_mean"] {
            self.tensor(format!("{prefix}.{part}"), &[width], 0.8);
        }
        let variance = (0..width).map(|_| 0.2 + self.random.f32()).collect();
        self.tensors.push((format!("{prefix}.running_var"), self.dtype, vec![width], variance));
    }

    fn towers(&mut self, inputs: usize, sizes: &[usize]) {
        for task in ["ctr", "cvr"] {
            let width = self.mlp(&format!("towers.{task}"), inputs, sizes);
            self.linear(&format!("heads.{task}"), 1, width);
        }
    }

    /// Writes the file into `folder`.
    pub fn write(&self, folder: &Path) -> PathBuf {
        let encoded: Vec<Vec<u8>> = self
            .tensors
            .iter()
            .map(|(_, dtype, _, values)| match dtype {
                Dtype::F16 => values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect(),
                Dtype::Bf16 => values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect(),
                _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            })
            .collect();
        let tensors: Vec<Tensor<'_>> = self
            .tensors
            .iter()
            .zip(&encoded)
            .map(|((name, dtype, shape, _), bytes)| Tensor { name, dtype: *dtype, shape, bytes })
            .collect();
        let path = folder.join(format!("{}.safetensors", self.name));
        write_model(&path, &self.description.to_string(), &tensors).expect("a zoo model is written");
        path
    }

    pub fn open(&self, folder: &Path, options: &OpenOptions) -> Model {
        Model::open(self.write(folder), options).expect("a zoo model opens")
    }
}

/// Every network in every variant.
pub fn all() -> Vec<Zoo> {
    let variants: [(&str, Value, Dtype); 4] = [
        ("plain", json!({}), Dtype::F32),
        ("norm", json!({"batch_norm": true, "activation": "silu"}), Dtype::F32),
        ("f16", json!({"activation": "leaky_relu"}), Dtype::F16),
        ("bf16", json!({"batch_norm": true, "activation": "tanh"}), Dtype::Bf16),
    ];
    let mut zoo = Vec::new();
    for (variant, extra, dtype) in variants {
        let network = |mut network: Value| {
            for (key, value) in extra.as_object().expect("an object") {
                network[key] = value.clone();
            }
            network
        };

        let described = network(json!({"type": "shared_bottom", "bottom": [33, 20], "tower": [9]}));
        let mut model = Zoo::new(&format!("shared_bottom-{variant}"), described, dtype);
        model.mlp("bottom", X, &[33, 20]);
        model.towers(20, &[9]);
        zoo.push(model);

        let described = network(json!({"type": "mmoe", "experts": 3, "expert": [40, 17], "gate": [5], "tower": [11]}));
        let mut model = Zoo::new(&format!("mmoe-{variant}"), described, dtype);
        for e in 0..3 {
            model.mlp(&format!("experts.{e}"), X, &[40, 17]);
        }
        for task in ["ctr", "cvr"] {
            model.mlp(&format!("gates.{task}.hidden"), X, &[5]);
            model.linear(&format!("gates.{task}.out"), 3, 5);
        }
        model.towers(17, &[11]);
        zoo.push(model);

        let described = network(json!({"type": "esmm", "tower": [64, 16]}));
        let mut model = Zoo::new(&format!("esmm-{variant}"), described, dtype);
        model.towers(X, &[64, 16]);
        zoo.push(model);

        let described = network(json!({"type": "pepnet", "domain": 6, "gate": 18, "personal": ["user", "ad", "seen"],
            "tower": [24, 10]}));
        let mut model = Zoo::new(&format!("pepnet-{variant}"), described, dtype);
        model.tensor("scenario_embedding.weight".to_owned(), &[2, 6], 1.0);
        model.linear("epnet.reduce", 18, 6 + X);
        model.linear("epnet.expand", X, 18);
        for task in ["ctr", "cvr"] {
            for (layer, width) in [24, 10].into_iter().enumerate() {
                model.linear(&format!("ppnet.{task}.{layer}.reduce"), 18, 16 + 7 + 4 + X);
                model.linear(&format!("ppnet.{task}.{layer}.expand"), width, 18);
            }
        }
        model.towers(X, &[24, 10]);
        zoo.push(model);
    }
    zoo
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
    name: &'static str,
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
    /// A random request, with unknown and missing values among the usual.
    pub fn random(seed: u64, candidates: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let r = &mut random;
        let scenario = [Some(0), Some(1), Some(2), None, Some(77)][r.usize(..5)];
        let city: &[u8] = [b"Delft".as_slice(), b"Turku", b"Atlantis", b""][r.usize(..4)];
        let id = |r: &mut fastrand::Rng| if r.u8(..20) == 0 { i64::MIN } else { r.i64(-3..60) };
        let float = |r: &mut fastrand::Rng| if r.u8(..20) == 0 { f32::NAN } else { r.f32() * 20.0 - 4.0 };
        let bag = |r: &mut fastrand::Rng, rows: usize| {
            let mut offsets = vec![0];
            let mut ids = Vec::new();
            for _ in 0..rows {
                for _ in 0..r.usize(..6) {
                    ids.push(id(r));
                }
                offsets.push(ids.len() as i64);
            }
            (Stored::Ids(ids), Some(offsets))
        };
        let n = candidates;
        let (history, history_offsets) = bag(r, 1);
        let (tags, tag_offsets) = bag(r, n);
        let (matches, match_offsets) = bag(r, n);
        let ids = |r: &mut fastrand::Rng, n: usize| Stored::Ids((0..n).map(|_| id(r)).collect());
        let floats = |r: &mut fastrand::Rng, n: usize| Stored::Floats((0..n).map(|_| float(r)).collect());
        let column = |name, is_request, values, offsets, width| Owned { name, is_request, values, offsets, width };
        let columns = vec![
            column("user", true, ids(r, 1), None, 1),
            column("context", true, floats(r, 3), None, 3),
            column("history", true, history, history_offsets, 1),
            column("city", true, Stored::Text(city.to_vec(), vec![0, city.len() as i64]), None, 1),
            column("ad", false, ids(r, n), None, 1),
            column("tags", false, tags, tag_offsets, 1),
            column("seen", false, floats(r, n), None, 1),
            column("price", false, floats(r, 2 * n), None, 2),
            column("match", false, matches, match_offsets, 1),
        ];
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
            Owned { values, offsets, ..*column }
        };
        Self { scenario: self.scenario, candidates: picked.len(), columns: self.columns.iter().map(pick).collect() }
    }

    /// The columns of one side, by the slots of `model`.
    pub fn columns(&self, model: &Model, is_request: bool) -> Vec<Column<'_>> {
        let view = |column: &'_ Owned| (model.feature(column.name).expect("a feature of the zoo"), column.is_request);
        let mut columns = Vec::new();
        for column in self.columns.iter().filter(|column| view(column).1 == is_request) {
            let values = match &column.values {
                Stored::Ids(values) => Values::I64(values),
                Stored::Floats(values) => Values::F32(values),
                Stored::Text(bytes, offsets) => Values::Text { bytes, offsets },
            };
            columns.push(Column { feature: view(column).0, values, row_offsets: column.offsets.as_deref() });
        }
        columns
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
                line["request"][column.name] = entry(0);
            } else {
                line["candidates"][column.name] = (0..self.candidates).map(entry).collect();
            }
        }
        line
    }

    /// The scores of `tasks`, task by task, by a new scorer.
    pub fn scores(&self, model: &Model, tasks: Option<&[u32]>) -> Vec<f32> {
        let mut scorer = model.scorer().expect("a scorer");
        let asked = tasks.map_or(model.description().tasks.len(), <[u32]>::len);
        let mut out = vec![f32::NAN; asked * self.candidates];
        scorer.prepare(self.scenario, &self.columns(model, true)).expect("prepare");
        scorer.score(self.candidates, &self.columns(model, false), tasks, &mut out).expect("score");
        out
    }
}

/// The bits of scores, which tests compare: equal numbers are not enough.
pub fn bits(scores: &[f32]) -> Vec<u32> {
    scores.iter().map(|score| score.to_bits()).collect()
}
