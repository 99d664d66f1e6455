//! Promise 4 for every network: no hyper-parameter, no missing, turned or changed tensor, and no feature of another kind makes
//! the library panic, ask for absurd memory, or blame itself.

mod zoo;

use polyscore::{ErrorKind, Model, OpenOptions};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use zoo::{Request, Zoo};

/// A model file in two parts: its header as JSON, and its data.
struct File {
    header: Map<String, Value>,
    description: Value,
    data: Vec<u8>,
}

impl File {
    fn read(zoo: &Zoo) -> Self {
        let bytes = std::fs::read(&zoo.path).expect("a file of the zoo");
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
        let text = header["__metadata__"]["polyscore"].as_str().expect("a description");
        let description = serde_json::from_str(text).expect("JSON");
        Self { header, description, data: bytes[8 + length..].to_vec() }
    }

    fn tensors(&self) -> Vec<String> {
        let weights = self.header.keys().filter(|name| !name.starts_with("__") && !name.starts_with("padding."));
        weights.filter(|name| !name.starts_with("golden.")).cloned().collect()
    }

    fn write(&self, description: &Value, header: &Map<String, Value>, path: &PathBuf) {
        let mut header = header.clone();
        header["__metadata__"]["polyscore"] = json!(description.to_string());
        let text = serde_json::to_string(&header).expect("JSON");
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text.as_bytes());
        bytes.extend(&self.data);
        std::fs::write(path, bytes).expect("a file");
    }
}

fn path(test: &str) -> PathBuf {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("networks");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder.join(format!("{test}.safetensors"))
}

/// Opens a file; if it is a model, scores with it. Gives the error otherwise.
fn open(path: &PathBuf, what: &str) -> Option<polyscore::Error> {
    // Thousands are opened: a tile that is given is not measured.
    match Model::open(path, &OpenOptions { tile: 64, ..OpenOptions::default() }) {
        Ok(model) => {
            let request = Request::random(&model, 3, 5);
            assert!(request.scores(&model, None).iter().all(|score| score.is_finite()), "{what}");
            None
        }
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::Internal, "{what}: {error}");
            Some(error)
        }
    }
}

/// Every place of a JSON value, the containers too.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| places(item, &format!("{at}/{i}"), found));
        }
        Value::Object(items) => items.iter().for_each(|(key, item)| places(item, &format!("{at}/{key}"), found)),
        _ => {}
    }
}

#[test]
fn no_hyper_parameter_makes_a_network_panic() {
    let path = path("parameters");
    let (mut refused, mut opened) = (0, 0);
    for zoo in zoo::all() {
        let mut file = File::read(&zoo);
        // Without golden requests: what is refused is refused by the network.
        file.description.as_object_mut().expect("an object").remove("golden");
        file.header.retain(|name, _| !name.starts_with("golden."));
        let header = file.header.clone();
        let (description, data) = (file.description.clone(), std::mem::take(&mut file.data));
        file.data = without_holes(&mut file.header, &header, &data);
        let mut found = Vec::new();
        places(&description["network"], "/network", &mut found);
        for place in found.iter().filter(|place| *place != "/network" && *place != "/network/type") {
            for value in [
                json!(0),
                json!(1),
                json!(3),
                json!(-1),
                json!(1_000_000),
                json!(1u64 << 40),
                json!(u64::MAX),
                json!(0.5),
                json!(1e300),
                json!(null),
                json!("ad"),
                json!("nothing"),
                json!([]),
                json!([0]),
                json!([3, 1_048_576]),
                json!(["clicks", "ad", "clicks"]),
                json!({}),
                json!(true),
            ] {
                let mut changed = description.clone();
                *changed.pointer_mut(place).expect("a place") = value.clone();
                file.write(&changed, &file.header, &path);
                match open(&path, &format!("{} {place} = {value}", zoo.name)) {
                    Some(_) => refused += 1,
                    None => opened += 1,
                }
            }
        }
    }
    assert!(refused > 20 * opened && opened > 0, "{refused} refused, {opened} opened");
}

/// The data of the tensors that `header` still lists; their offsets are moved.
fn without_holes(header: &mut Map<String, Value>, original: &Map<String, Value>, data: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    header.retain(|name, _| !name.starts_with("padding."));
    for (name, entry) in header.iter_mut().filter(|(name, _)| !name.starts_with("__")) {
        let offset = |i: usize| original[name]["data_offsets"][i].as_u64().expect("an offset") as usize;
        let start = kept.len();
        kept.extend(&data[offset(0)..offset(1)]);
        entry["data_offsets"] = json!([start, kept.len()]);
    }
    kept
}

#[test]
fn a_network_that_lacks_a_tensor_or_has_it_turned_names_it() {
    let path = path("tensors");
    for zoo in zoo::all() {
        let file = File::read(&zoo);
        for name in file.tensors() {
            let mut header = file.header.clone();
            let entry = header.remove(&name).expect("a tensor");
            header.insert(format!("{name}x"), entry.clone());
            file.write(&file.description, &header, &path);
            let error = open(&path, &zoo.name).unwrap_or_else(|| panic!("{} opens without {name}", zoo.name));
            assert_eq!(error.kind(), ErrorKind::Tensor, "{} without {name}: {error}", zoo.name);
            assert!(error.to_string().contains(&name), "{} without {name}: {error}", zoo.name);

            let shape = entry["shape"].as_array().expect("a shape").clone();
            if shape.len() < 2 || shape[0] == shape[shape.len() - 1] {
                continue;
            }
            let mut header = file.header.clone();
            header[&name]["shape"] = shape.iter().rev().cloned().collect();
            file.write(&file.description, &header, &path);
            let error = open(&path, &zoo.name).unwrap_or_else(|| panic!("{} opens with {name} turned", zoo.name));
            assert!(matches!(error.kind(), ErrorKind::Tensor | ErrorKind::Description), "{} {name}: {error}", zoo.name);
        }
    }
}

#[test]
fn no_changed_byte_of_a_network_panics() {
    let path = path("bytes");
    let mut random = fastrand::Rng::with_seed(3);
    for zoo in zoo::all() {
        let bytes = std::fs::read(&zoo.path).expect("a file of the zoo");
        for _ in 0..60 {
            let mut changed = bytes.clone();
            let place = if random.bool() { random.usize(..bytes.len()) } else { random.usize(..4096.min(bytes.len())) };
            changed[place] ^= 1 << random.u8(..8);
            std::fs::write(&path, changed).expect("a file");
            open(&path, &zoo.name);
        }
    }
}

#[test]
fn a_feature_of_another_kind_or_rate_is_scored_or_refused() {
    let path = path("features");
    for zoo in zoo::all() {
        let file = File::read(&zoo);
        let count = file.description["features"].as_array().expect("features").len();
        for slot in 0..count {
            for (key, value) in [
                ("rate", json!("request")),
                ("rate", json!("item")),
                ("rate", json!("pair")),
                ("kind", json!("id")),
                ("kind", json!("ids")),
                ("kind", json!("dense")),
                ("kind", json!("sequence")),
                ("length", json!(1)),
                ("length", json!(4096)),
                ("sequence", json!("other")),
            ] {
                let mut description = file.description.clone();
                description.as_object_mut().expect("an object").remove("golden");
                description["features"][slot][key] = value.clone();
                let mut header = file.header.clone();
                header.retain(|name, _| !name.starts_with("golden."));
                let mut packed = header.clone();
                let data = without_holes(&mut packed, &header, &file.data);
                let changed = File { header: packed, description, data };
                changed.write(&changed.description, &changed.header, &path);
                open(&path, &format!("{} features[{slot}].{key} = {value}", zoo.name));
            }
        }
    }
}
