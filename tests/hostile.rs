//! A damaged model file is refused, with a kind, a subject and a message that say what is wrong with it.
//!
//! Each case takes one small valid model, does one thing to it, and names the exact error. The files are written here,
//! byte by byte, and not with the library's own writer. After the tables come the sweeps: every truncation is refused,
//! and no flipped byte makes the library panic. The file is long because the tables are: one row for each rule of the
//! format, in one place, where a rule without a row is easy to see.

use std::path::{Path, PathBuf};

use polyscore::{ErrorKind, Mode, Model, OpenOptions};
use serde_json::{Value, json};

/// One tensor: name, type, shape, bytes.
#[derive(Clone)]
struct Tensor(String, &'static str, Vec<usize>, Vec<u8>);

/// A model before it is a file.
#[derive(Clone)]
struct Parts {
    description: Value,
    tensors: Vec<Tensor>,
}

/// Numbers that differ from their neighbours: a cycle of 251, so that nothing swapped goes unnoticed.
fn painted(shape: &[usize]) -> Vec<u8> {
    let count: usize = shape.iter().product();
    (0..count).flat_map(|i| (((i * 7 + 3) % 251) as f32 / 251.0 - 0.5).to_le_bytes()).collect()
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn i64s(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

impl Parts {
    /// An MMoE of two experts and two towers over features of every kind. The heads have no weights, only biases: the
    /// probabilities are 1/2 and 3/4 whatever the input, which makes the golden scores known.
    fn valid() -> Self {
        let description = json!({
            "format_version": 1,
            "name": "hostile",
            "provenance": {"trained": "2026-11-24"},
            "features": [
                {"name": "user_id", "rate": "request", "kind": "id", "table": "embeddings.user_id.weight",
                 "transform": {"type": "hash", "algorithm": "xxh64", "seed": 0, "buckets": 7, "offset": 1}, "oov": 0},
                {"name": "history", "rate": "request", "kind": "ids", "pooling": "mean",
                 "table": "embeddings.ad_id.weight", "transform": {"type": "identity"}, "oov": 0},
                {"name": "zip", "rate": "request", "kind": "id", "table": "embeddings.zip.weight",
                 "transform": {"type": "vocabulary", "values": ["Rural", "Urban"], "offset": 1}, "oov": 0},
                {"name": "age", "rate": "request", "kind": "id", "table": "embeddings.age.weight",
                 "transform": {"type": "bucketize", "boundaries": [18, 25, 35]}, "oov": 0, "missing": 0},
                {"name": "ad_id", "rate": "item", "kind": "id", "table": "embeddings.ad_id.weight",
                 "transform": {"type": "identity"}, "oov": 0},
                {"name": "price", "rate": "item", "kind": "dense", "width": 2,
                 "transform": {"type": "standardize", "mean": [3.0, 0.5], "std": [2.0, 0.25]}},
                {"name": "match", "rate": "pair", "kind": "dense", "width": 1, "missing": 0.0}
            ],
            "scenarios": [
                {"name": "feed", "id": 1}, {"name": "splash", "id": 2}, {"name": "video", "id": 3, "fallback": "feed"}
            ],
            "fallback_scenario": "feed",
            "tasks": [{"name": "ctr"}, {"name": "cvr"}, {"name": "ctcvr", "composition": ["ctr", "cvr"]}],
            "network": {"type": "mmoe", "experts": 2, "expert": [3], "gate": [], "tower": [2], "batch_norm": true},
            "golden": {"tolerance": 1e-5, "requests": [{"scenario": "feed", "candidates": 2}]}
        });
        let mut parts = Self { description, tensors: Vec::new() };
        for (table, rows, dim) in [("user_id", 8, 2), ("ad_id", 5, 3), ("zip", 3, 2), ("age", 4, 2)] {
            parts.weight(&format!("embeddings.{table}.weight"), &[rows, dim]);
        }
        let inputs = 2 + 3 + 2 + 2 + 3 + 2 + 1;
        for expert in 0..2 {
            parts.layer(&format!("experts.{expert}.0"), inputs, 3);
        }
        for (task, bias) in [("ctr", 0.0), ("cvr", 3f32.ln())] {
            parts.weight(&format!("gates.{task}.out.weight"), &[2, inputs]);
            parts.weight(&format!("gates.{task}.out.bias"), &[2]);
            parts.layer(&format!("towers.{task}.0"), 3, 2);
            parts.tensor(&format!("heads.{task}.weight"), "F32", &[1, 2], f32s(&[0.0, 0.0]));
            parts.tensor(&format!("heads.{task}.bias"), "F32", &[1], f32s(&[bias]));
        }
        let golden = [
            ("request.user_id", "I64", vec![1], i64s(&[42])),
            ("request.history", "I64", vec![3], i64s(&[1, 4, 9])),
            ("request.history.row_offsets", "I64", vec![2], i64s(&[0, 3])),
            ("request.zip", "U8", vec![5], b"Urban".to_vec()),
            ("request.zip.text_offsets", "I64", vec![2], i64s(&[0, 5])),
            ("request.age", "F32", vec![1], f32s(&[30.0])),
            ("candidates.ad_id", "I64", vec![2], i64s(&[2, 3])),
            ("candidates.price", "F32", vec![2, 2], f32s(&[1.0, 2.0, f32::NAN, 4.0])),
            ("scores.ctr", "F32", vec![2], f32s(&[0.5, 0.5])),
            ("scores.cvr", "F32", vec![2], f32s(&[0.75, 0.75])),
            ("scores.ctcvr", "F32", vec![2], f32s(&[0.375, 0.375])),
        ];
        for (name, dtype, shape, bytes) in golden {
            parts.tensor(&format!("golden.0.{name}"), dtype, &shape, bytes);
        }
        parts
    }

    fn tensor(&mut self, name: &str, dtype: &'static str, shape: &[usize], bytes: Vec<u8>) {
        self.tensors.push(Tensor(name.into(), dtype, shape.into(), bytes));
    }

    fn weight(&mut self, name: &str, shape: &[usize]) {
        self.tensor(name, "F32", shape, painted(shape));
    }

    fn layer(&mut self, prefix: &str, inputs: usize, outputs: usize) {
        self.weight(&format!("{prefix}.linear.weight"), &[outputs, inputs]);
        self.weight(&format!("{prefix}.linear.bias"), &[outputs]);
        self.weight(&format!("{prefix}.norm.weight"), &[outputs]);
        self.weight(&format!("{prefix}.norm.bias"), &[outputs]);
        self.weight(&format!("{prefix}.norm.running_mean"), &[outputs]);
        self.tensor(&format!("{prefix}.norm.running_var"), "F32", &[outputs], f32s(&vec![1.5; outputs]));
        self.tensor(&format!("{prefix}.norm.num_batches_tracked"), "I64", &[], i64s(&[9]));
    }

    fn named(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.0 == name).expect("a tensor of the valid model")
    }

    fn remove(&mut self, name: &str) -> Tensor {
        let position = self.tensors.iter().position(|tensor| tensor.0 == name).expect("a tensor of the valid model");
        self.tensors.remove(position)
    }

    /// The value at a JSON pointer of the description.
    fn at(&mut self, pointer: &str) -> &mut Value {
        self.description.pointer_mut(pointer).expect("a value of the valid description")
    }

    /// Sets or adds a key; the pointer leads to its object.
    fn set(&mut self, pointer: &str, key: &str, value: Value) {
        self.at(pointer).as_object_mut().expect("an object").insert(key.into(), value);
    }

    fn unset(&mut self, pointer: &str, key: &str) {
        self.at(pointer).as_object_mut().expect("an object").remove(key).expect("a key of the valid description");
    }

    /// The header without its spaces, and the data.
    fn header(&self, with_description: bool) -> (String, Vec<u8>) {
        let mut header = String::from("{\"__metadata__\":{\"format\":\"pt\"");
        if with_description {
            header += &format!(",\"polyscore\":{}", Value::from(self.description.to_string()));
        }
        header.push('}');
        let mut data = Vec::new();
        for Tensor(name, dtype, shape, bytes) in &self.tensors {
            let (begin, end) = (data.len(), data.len() + bytes.len());
            header +=
                &format!(",{name:?}:{{\"dtype\":{dtype:?},\"shape\":{shape:?},\"data_offsets\":[{begin},{end}]}}");
            data.extend_from_slice(bytes);
        }
        header.push('}');
        (header, data)
    }

    fn file(&self) -> Vec<u8> {
        let (header, data) = self.header(true);
        container(&header, &data)
    }
}

/// The bytes of a file: the header padded with spaces to a multiple of 64 with its length.
fn container(header: &str, data: &[u8]) -> Vec<u8> {
    let mut header = header.to_owned();
    while !(8 + header.len()).is_multiple_of(64) {
        header.push(' ');
    }
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A valid file with one text of its header replaced by another.
fn header_with(from: &str, to: &str) -> Vec<u8> {
    let (header, data) = Parts::valid().header(true);
    assert!(header.contains(from), "the header of the valid model has no {from}");
    container(&header.replacen(from, to, 1), &data)
}

/// A valid file with one text of its description replaced by another.
fn description_with(from: &str, to: &str) -> Vec<u8> {
    let parts = Parts::valid();
    let text = parts.description.to_string();
    assert!(text.contains(from), "the valid description has no {from}");
    let (header, data) = parts.header(true);
    let old = Value::from(text.clone()).to_string();
    let new = Value::from(text.replacen(from, to, 1)).to_string();
    container(&header.replacen(&old, &new, 1), &data)
}

/// A file with the parts changed.
fn with(change: impl FnOnce(&mut Parts)) -> Vec<u8> {
    let mut parts = Parts::valid();
    change(&mut parts);
    parts.file()
}

fn set(pointer: &str, key: &str, value: Value) -> Vec<u8> {
    with(|parts| parts.set(pointer, key, value))
}

/// The first feature as a sequence, with these keys besides.
fn sequence(keys: Value) -> Vec<u8> {
    with(|parts| add_sequence(parts, 0, &keys))
}

/// Two sequences of the history `visits`, of 5 and of 6 positions.
fn unequal_sequences() -> Vec<u8> {
    with(|parts| {
        add_sequence(parts, 0, &json!({"length": 5, "sequence": "visits"}));
        add_sequence(parts, 2, &json!({"length": 6, "sequence": "visits"}));
    })
}

fn add_sequence(parts: &mut Parts, slot: usize, keys: &Value) {
    let feature = &mut parts.description["features"][slot];
    feature["kind"] = json!("sequence");
    for (key, value) in keys.as_object().expect("an object") {
        feature[key] = value.clone();
    }
}

fn unset(pointer: &str, key: &str) -> Vec<u8> {
    with(|parts| parts.unset(pointer, key))
}

/// A file whose header holds one tensor with this entry and eight bytes of data.
fn one_tensor(entry: &str) -> Vec<u8> {
    container(&format!("{{\"t\":{entry}}}"), &[0; 8])
}

/// A folder of its own for each test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("polyscore-hostile-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder for the test");
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).expect("a file for the test");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options(mode: Mode) -> OpenOptions {
    OpenOptions { mode, ..OpenOptions::default() }
}

/// What a damaged file must give: kind, subject, detail.
type Expected = (ErrorKind, &'static str, &'static str);

fn refusal(path: &Path, options: &OpenOptions) -> Result<(), (ErrorKind, String, String)> {
    match Model::open(path, options) {
        Ok(_) => Ok(()),
        Err(error) => Err((error.kind(), error.subject().into(), error.detail().into())),
    }
}

/// Opens every file in every mode and reports all that do not give what they must.
fn check(name: &str, cases: Vec<(&str, Vec<u8>, Expected)>) {
    let folder = Folder::new(name);
    let mut wrong = Vec::new();
    for (case, bytes, (kind, subject, detail)) in cases {
        let path = folder.write("model.safetensors", &bytes);
        for mode in [Mode::Map, Mode::Snapshot, Mode::Copy] {
            let found = refusal(&path, &options(mode));
            if found != Err((kind, subject.into(), detail.into())) {
                wrong.push(format!("{case} ({mode:?}): {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

use ErrorKind::{Description, Format, Golden, Io, Limit, Tensor as BadTensor};

const FILE: &str = "model.safetensors";

#[test]
fn the_model_that_the_cases_damage_is_valid() {
    let folder = Folder::new("valid");
    let path = folder.write(FILE, &Parts::valid().file());
    for mode in [Mode::Map, Mode::Snapshot, Mode::Copy] {
        let model = Model::open(&path, &options(mode)).expect("the valid model opens");
        let golden = model.golden().expect("the valid model has golden requests");
        assert_eq!((golden.requests, golden.scores), (1, 6));
    }
}

#[test]
fn damaged_containers_are_refused() {
    let valid = Parts::valid().file();
    let length_of = |length: u64| [&length.to_le_bytes()[..], &valid[8..]].concat();
    let header_end = 8 + u64::from_le_bytes(valid[..8].try_into().expect("8 bytes")) as usize;
    check(
        "container",
        vec![
            ("empty file", vec![], (Format, FILE, "is empty")),
            ("one byte", vec![b'{'], (Format, FILE, "has 1 bytes, too few for a header")),
            ("seven bytes", vec![0; 7], (Format, FILE, "has 7 bytes, too few for a header")),
            ("header of no bytes", vec![0; 8], (Format, FILE, "the header does not start with `{`")),
            ("header longer than the file", length_of(1 << 20), {
                (Format, FILE, "the header of 1048576 bytes passes the end of the file")
            }),
            ("header length of all ones", length_of(u64::MAX), {
                (Format, FILE, "the header of 18446744073709551615 bytes passes the end of the file")
            }),
            ("header length too short", length_of(header_end as u64 - 8 - 64 * 20), {
                (Format, FILE, "is not valid JSON: EOF while parsing a list at line 1 column 4664")
            }),
            ("a space before the header", header_with("{\"__metadata__\"", " {\"__metadata__\""), {
                (Format, FILE, "the header does not start with `{`")
            }),
            ("an array for a header", container("[]", &[]), (Format, FILE, "the header does not start with `{`")),
            ("not UTF-8", container("{\"\u{1}\":1}", &[]).iter().map(|b| if *b == 1 { 0xff } else { *b }).collect(), {
                (Format, FILE, "the header is not UTF-8")
            }),
            ("text after the header", header_with("{\"__metadata__\"", "{} {\"__metadata__\""), {
                (Format, FILE, "is not valid JSON: trailing characters at line 1 column 4")
            }),
            ("a comma too many", header_with("},\"experts.0", "},,\"experts.0"), {
                (Format, FILE, "is not valid JSON: key must be a string at line 1 column 2053")
            }),
            (
                "brackets a hundred thousand deep",
                { container(&format!("{{\"t\":{{\"dtype\":{}", "[".repeat(100_000)), &[]) },
                (Format, "t", "invalid type: sequence, expected a string"),
            ),
            ("no tensor and no description", container("{}", &[]), {
                (Format, FILE, "has no description: `__metadata__` lacks the key `polyscore`")
            }),
            ("trailing bytes", [&valid[..], b"\0"].concat(), {
                (Format, FILE, "the tensors end at 1229, the file holds 1230 bytes of data")
            }),
            ("a zip file", b"PK\x03\x04\x14\0\0\0\x08\0abcdefgh".to_vec(), {
                (Format, FILE, "the header of 85966670672 bytes passes the end of the file")
            }),
        ],
    );
}

#[test]
fn damaged_headers_are_refused() {
    let zip = "\"embeddings.zip.weight\":{\"dtype\":\"F32\",\"shape\":[3, 2],\"data_offsets\":[124,148]}";
    let changed = |from: &str, to: &str| header_with(zip, &zip.replacen(from, to, 1));
    let eight = "is not of 1 to 256 letters, digits, `_`, `.`, `:`, `/` and `-`";
    let name = |name: &str| with(|parts| parts.tensor(name, "F32", &[0], vec![]));
    let bad_name = |shown: &str| -> &'static str { format!("tensor name {shown} {eight}").leak() };
    check(
        "header",
        vec![
            ("a tensor twice", header_with(zip, &format!("{zip},{zip}")), {
                (Format, "embeddings.zip.weight", "is there twice")
            }),
            (
                "a tensor twice, once escaped",
                { header_with(zip, &format!("{zip},{}", zip.replacen("zip", "\\u007aip", 1))) },
                (Format, "embeddings.zip.weight", "is there twice"),
            ),
            ("metadata twice", header_with("{\"__metadata__\"", "{\"__metadata__\":{},\"__metadata__\""), {
                (Format, "__metadata__", "is there twice")
            }),
            ("a metadata key twice", header_with("{\"format\":\"pt\"", "{\"format\":\"pt\",\"format\":\"pt\""), {
                (Format, "__metadata__", "the key `format` is there twice")
            }),
            ("the description twice", header_with("{\"format\":\"pt\"", "{\"polyscore\":\"{}\""), {
                (Format, "__metadata__", "the key `polyscore` is there twice")
            }),
            ("metadata that is a number", header_with("{\"format\":\"pt\"", "{\"format\":1"), {
                (Format, "__metadata__", "invalid type: integer `1`, expected a string")
            }),
            ("metadata that is a list", container("{\"__metadata__\":[]}", &[]), {
                (Format, "__metadata__", "invalid type: sequence, expected an object of strings")
            }),
            ("an unknown field", changed("\"dtype\"", "\"device\":\"cpu\",\"dtype\""), {
                (
                    Format,
                    "embeddings.zip.weight",
                    "unknown field `device`, expected one of `dtype`, `shape`, `data_offsets`",
                )
            }),
            ("a field twice", changed("\"dtype\"", "\"shape\":[3,2],\"dtype\""), {
                (Format, "embeddings.zip.weight", "duplicate field `shape`")
            }),
            ("no type", changed("\"dtype\":\"F32\",", ""), (Format, "embeddings.zip.weight", "missing field `dtype`")),
            ("an array for an entry", one_tensor("[\"F32\",[2],[0,8]]"), {
                (Format, "t", "invalid type: sequence, expected an object")
            }),
            ("a name that is empty", name(""), (Format, FILE, bad_name("``"))),
            ("a name with a line feed", name("a\nb"), (Format, FILE, bad_name("`a\\nb`"))),
            ("a name with a NUL", with(|parts| parts.tensor("a@b", "F32", &[0], vec![])), {
                (Format, FILE, bad_name("`a@b`"))
            }),
            ("a name with a backslash", name("..\\a"), (Format, FILE, bad_name("`..\\a`"))),
            ("a name with an accent", name("\u{e9}"), (Format, FILE, bad_name("`\u{e9}`"))),
            ("a name of 257 bytes", name(&"a".repeat(257)), {
                (Format, FILE, bad_name(&format!("`{}...`", "a".repeat(64))))
            }),
            ("a type nobody knows", changed("F32", "F99"), {
                (BadTensor, "embeddings.zip.weight", "has type `F99`, which polyscore does not read")
            }),
            ("a type we do not read", changed("F32", "F8_E4M3"), {
                (BadTensor, "embeddings.zip.weight", "has type `F8_E4M3`, which polyscore does not read")
            }),
            ("nine dimensions", changed("[3, 2]", "[3,2,1,1,1,1,1,1,1]"), {
                (Format, "embeddings.zip.weight", "has more than 8 dimensions")
            }),
            ("a negative size", changed("[3, 2]", "[-3, 2]"), {
                (Format, "embeddings.zip.weight", "invalid value: integer `-3`, expected u64")
            }),
            ("a size with a fraction", changed("[3, 2]", "[3.5, 2]"), {
                (Format, "embeddings.zip.weight", "invalid type: floating point `3.5`, expected u64")
            }),
            ("a shape whose product overflows", changed("[3, 2]", "[4294967296, 4294967296]"), {
                (
                    Format,
                    "embeddings.zip.weight",
                    "shape [4294967296, 4294967296] of F32 does not fit its 24 bytes of data",
                )
            }),
            ("a shape whose product wraps to its size", changed("[3, 2]", "[4611686018427387910]"), {
                (
                    Format,
                    "embeddings.zip.weight",
                    "shape [4611686018427387910] of F32 does not fit its 24 bytes of data",
                )
            }),
            ("a shape that is too small", changed("[3, 2]", "[3, 1]"), {
                (Format, "embeddings.zip.weight", "shape [3, 1] of F32 does not fit its 24 bytes of data")
            }),
            ("one offset", changed("[124,148]", "[124]"), {
                (Format, "embeddings.zip.weight", "invalid length 1, expected a tuple of size 2")
            }),
            ("three offsets", changed("[124,148]", "[124,148,148]"), {
                (Format, FILE, "is not valid JSON: trailing characters at line 1 column 1971")
            }),
            ("offsets that descend", changed("[124,148]", "[148,124]"), {
                (Format, "embeddings.zip.weight", "its data begins at 148 and ends at 124")
            }),
            ("an offset past the end", changed("[124,148]", "[124,9148]"), {
                (Format, "embeddings.zip.weight", "its data ends at 9148, the file holds 1229 bytes of data")
            }),
            (
                "an offset of all ones",
                one_tensor(
                    "{\"dtype\":\"U8\",\"shape\":[18446744073709551615],\"data_offsets\":[0,18446744073709551615]}",
                ),
                { (Format, "t", "its data ends at 18446744073709551615, the file holds 8 bytes of data") },
            ),
            (
                "an offset of 2^64",
                one_tensor("{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,18446744073709551616]}"),
                { (Format, "t", "invalid type: floating point `1.8446744073709552e+19`, expected u64") },
            ),
            ("an overlap", changed("[124,148]", "[120,144]"), {
                (Format, "embeddings.zip.weight", "its data begins at 120, which overlaps the tensor that ends at 124")
            }),
            ("the same place twice", header_with(zip, &format!("{zip},{}", zip.replacen("zip", "zap", 1))), {
                (Format, "embeddings.zip.weight", "its data begins at 124, which overlaps the tensor that ends at 148")
            }),
            ("a gap at the start", one_tensor("{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}"), {
                (Format, "t", "its data begins at 4, which leaves a gap after the tensor that ends at 0")
            }),
            (
                "a gap in the middle",
                header_with(zip, "\"z\":{\"dtype\":\"U8\",\"shape\":[23],\"data_offsets\":[124,147]}"),
                {
                    (
                        Format,
                        "embeddings.age.weight",
                        "its data begins at 148, which leaves a gap after the tensor that ends at 147",
                    )
                },
            ),
            ("a gap at the end", one_tensor("{\"dtype\":\"U8\",\"shape\":[7],\"data_offsets\":[0,7]}"), {
                (Format, FILE, "the tensors end at 7, the file holds 8 bytes of data")
            }),
            ("padding that is not zero", with(|parts| parts.tensor("padding.0", "U8", &[2], vec![0, 1])), {
                (Format, "padding.0", "padding must be U8, zero, and shorter than 64 bytes")
            }),
            ("padding of 64 bytes", with(|parts| parts.tensor("padding.0", "U8", &[64], vec![0; 64])), {
                (Format, "padding.0", "padding must be U8, zero, and shorter than 64 bytes")
            }),
            ("padding of floats", with(|parts| parts.tensor("padding.0", "F32", &[1], vec![0; 4])), {
                (Format, "padding.0", "padding must be U8, zero, and shorter than 64 bytes")
            }),
        ],
    );
}

#[test]
fn wrong_descriptions_are_refused_by_their_path() {
    let text = |from: &str, to: &str| description_with(from, to);
    let no_name = "is not of 1 to 64 letters, digits, `_` and `-`";
    check(
        "description",
        vec![
            ("no JSON", container("{\"__metadata__\":{\"polyscore\":\"\\\"mmoe\\\"\"}}", &[]), {
                (Description, "description", "invalid type: string \"mmoe\", expected an object")
            }),
            (
                "JSON that ends early",
                container("{\"__metadata__\":{\"polyscore\":\"{\\\"format_version\\\":1}}\"}}", &[]),
                { (Description, "description", "is not valid JSON: trailing characters at line 1 column 21") },
            ),
            ("an array", container("{\"__metadata__\":{\"polyscore\":\"[1]\"}}", &[]), {
                (Description, "description", "invalid type: sequence, expected an object")
            }),
            ("another version", set("", "format_version", json!(2)), {
                (Description, "format_version", "is 2, this library reads 1")
            }),
            ("no version", unset("", "format_version"), (Description, "format_version", "is missing")),
            ("no features", unset("", "features"), (Description, "features", "is missing")),
            ("an unknown key", set("", "netwrok", json!({})), (Description, "netwrok", "is not a known key")),
            ("an unknown key of a feature", set("/features/1", "tabel", json!("x")), {
                (Description, "features[1].tabel", "is not a known key")
            }),
            ("an unknown key of a transform", set("/features/0/transform", "salt", json!(1)), {
                (Description, "features[0].transform.salt", "is not a known key")
            }),
            ("a key twice", text("\"format_version\":1", "\"format_version\":1,\"format_version\":1"), {
                (Description, "format_version", "is there twice")
            }),
            ("a key of a scenario twice", text("\"id\":2", "\"id\":2,\"id\":2"), {
                (Description, "scenarios[1].id", "is there twice")
            }),
            ("a key of the network twice", text("\"experts\":2", "\"experts\":2,\"experts\":2"), {
                (Description, "network.experts", "is there twice")
            }),
            ("provenance that is no text", set("/provenance", "trained", json!(2026)), {
                (Description, "provenance.trained", "is not a string")
            }),
            ("a null", set("/features/3", "missing", json!(null)), {
                (Description, "features[3].missing", "invalid type: null, expected a JSON number")
            }),
            ("a feature that is an array", with(|parts| *parts.at("/features/4") = json!(["ad_id", "item", "id"])), {
                (Description, "features[4]", "invalid type: sequence, expected an object")
            }),
            ("a feature without a name", unset("/features/4", "name"), (Description, "features[4].name", "is missing")),
            ("a name with a dot", set("/features/4", "name", json!("ad.id")), {
                (Description, "features[4].name", format!("`ad.id` {no_name}").leak())
            }),
            ("a name twice", set("/features/4", "name", json!("zip")), {
                (Description, "features[4].name", "`zip` is the name of features[2] too")
            }),
            ("a rate nobody knows", set("/features/4", "rate", json!("user")), {
                (Description, "features[4].rate", "`user` is not one of request, item, pair")
            }),
            ("a kind nobody knows", set("/features/4", "kind", json!("list")), {
                (Description, "features[4].kind", "`list` is not one of id, ids, sequence, dense")
            }),
            ("a sequence of the ad", set("/features/4", "kind", json!("sequence")), {
                (Description, "features[4].rate", "is not request: a sequence belongs to the request")
            }),
            ("a sequence without a length", sequence(json!({})), { (Description, "features[0].length", "is missing") }),
            ("a sequence of no positions", sequence(json!({"length": 0})), {
                (Description, "features[0].length", "0 is not in 1..=4096")
            }),
            ("a sequence too long", sequence(json!({"length": 4097})), {
                (Description, "features[0].length", "4097 is not in 1..=4096")
            }),
            ("a pooled sequence", sequence(json!({"length": 5, "pooling": "mean"})), {
                (Description, "features[0].pooling", "does not belong to a feature of kind `sequence`")
            }),
            ("sequences of one history and two lengths", unequal_sequences(), {
                (Description, "features[2].length", "6 is not 5, the length of its sequence before")
            }),
            ("an id with no length", set("/features/4", "length", json!(0)), {
                (Description, "features[4].length", "0 is not in 1..=4096")
            }),
            ("an id with pooling", set("/features/4", "pooling", json!("sum")), {
                (Description, "features[4].pooling", "does not belong to a feature of kind `id`")
            }),
            ("a bag with a width", set("/features/1", "width", json!(1)), {
                (Description, "features[1].width", "does not belong to a feature of kind `ids`")
            }),
            ("a pooling nobody knows", set("/features/1", "pooling", json!("median")), {
                (Description, "features[1].pooling", "`median` is not one of sum, mean, max")
            }),
            ("an id without a table", unset("/features/4", "table"), (Description, "features[4].table", "is missing")),
            ("an id without oov", unset("/features/4", "oov"), (Description, "features[4].oov", "is missing")),
            ("an id without a transform", unset("/features/4", "transform"), {
                (Description, "features[4].transform", "is missing")
            }),
            ("a table with a space", set("/features/4", "table", json!("ad id")), {
                (Description, "features[4].table", "`ad id` is not a tensor name")
            }),
            ("a negative row", set("/features/4", "oov", json!(-1)), {
                (Description, "features[4].oov", "invalid value: integer `-1`, expected u32")
            }),
            ("a missing row with a fraction", set("/features/3", "missing", json!(0.5)), {
                (Description, "features[3].missing", "0.5 is not the number of a row")
            }),
            ("a transform nobody knows", set("/features/4/transform", "type", json!("modulo")), {
                (
                    Description,
                    "features[4].transform.type",
                    "`modulo` is not one of identity, hash, vocabulary, bucketize",
                )
            }),
            ("an identity with an offset", set("/features/4/transform", "offset", json!(1)), {
                (Description, "features[4].transform.offset", "does not belong to a transform of type `identity`")
            }),
            ("another hash", set("/features/0/transform", "algorithm", json!("md5")), {
                (Description, "features[0].transform.algorithm", "`md5` is not one of xxh64")
            }),
            ("no buckets", set("/features/0/transform", "buckets", json!(0)), {
                (Description, "features[0].transform.buckets", "is 0")
            }),
            ("an empty vocabulary", set("/features/2/transform", "values", json!([])), {
                (Description, "features[2].transform.values", "is empty")
            }),
            ("a vocabulary of both types", set("/features/2/transform", "values", json!(["a", 1])), {
                (Description, "features[2].transform.values[1]", "is an integer among strings")
            }),
            ("a vocabulary with a fraction", set("/features/2/transform", "values", json!([1, 1.5])), {
                (Description, "features[2].transform.values[1]", {
                    "invalid type: floating point `1.5`, expected an integer or a string"
                })
            }),
            ("a vocabulary with a value twice", set("/features/2/transform", "values", json!(["a", "b", "a", "b"])), {
                (Description, "features[2].transform.values[2]", "is the same as [0]")
            }),
            ("a vocabulary with an empty text", set("/features/2/transform", "values", json!(["a", ""])), {
                (Description, "features[2].transform.values[1]", "is empty, which stands for a missing value")
            }),
            ("a vocabulary with the missing value", set("/features/2/transform", "values", json!([1, i64::MIN])), {
                (Description, "features[2].transform.values[1]", "stands for a missing value")
            }),
            ("boundaries that descend", set("/features/3/transform", "boundaries", json!([18, 35, 25])), {
                (Description, "features[3].transform.boundaries[2]", "is not above the boundary before it, as f32")
            }),
            (
                "boundaries that are equal as f32",
                { set("/features/3/transform", "boundaries", json!([1.0, 1.000000001, 2.0])) },
                (Description, "features[3].transform.boundaries[1]", "is not above the boundary before it, as f32"),
            ),
            ("a boundary beyond f32", set("/features/3/transform", "boundaries", json!([1.0, 1e39])), {
                (Description, "features[3].transform.boundaries[1]", "is not finite as f32")
            }),
            ("a boundary that is a text", set("/features/3/transform", "boundaries", json!([18, "25"])), {
                (Description, "features[3].transform.boundaries[1]", "invalid type: string \"25\", expected f64")
            }),
            ("a dense feature with a table", set("/features/5", "table", json!("t")), {
                (Description, "features[5].table", "does not belong to a feature of kind `dense`")
            }),
            ("a width of zero", set("/features/6", "width", json!(0)), {
                (Description, "features[6].width", "0 is not in 1..=65536")
            }),
            ("a width above the limit", set("/features/6", "width", json!(65_537)), {
                (Description, "features[6].width", "65537 is not in 1..=65536")
            }),
            ("a mean of another width", set("/features/5/transform", "mean", json!([1.0])), {
                (Description, "features[5].transform.mean", "has 1 entries, the width is 2")
            }),
            ("a deviation of zero", set("/features/5/transform", "std", json!([1.0, 0.0])), {
                (Description, "features[5].transform.std[1]", {
                    "divides by 0.0, whose reciprocal is not a positive finite f32"
                })
            }),
            (
                "a range of nothing",
                { set("/features/5", "transform", json!({"type": "minmax", "min": [0.0, 1.0], "max": [1.0, 1.0]})) },
                (
                    Description,
                    "features[5].transform.max[1]",
                    "divides by 0.0, whose reciprocal is not a positive finite f32",
                ),
            ),
            ("a missing value beyond f32", set("/features/6", "missing", json!(1e300)), {
                (Description, "features[6].missing", "is not finite as f32")
            }),
            ("a scenario number twice", set("/scenarios/1", "id", json!(1)), {
                (Description, "scenarios[1].id", "`1` is the id of scenarios[0] too")
            }),
            ("a scenario number beyond i64", set("/scenarios/1", "id", json!(u64::MAX)), {
                (Description, "scenarios[1].id", "invalid value: integer `18446744073709551615`, expected i64")
            }),
            ("a fallback that is no scenario", set("/scenarios/2", "fallback", json!("fed")), {
                (Description, "scenarios[2].fallback", "`fed` is not a scenario")
            }),
            ("a fallback to a fallback", set("/scenarios/1", "fallback", json!("video")), {
                (Description, "scenarios[1].fallback", "`video` has a fallback itself")
            }),
            ("a fallback to itself", set("/scenarios/2", "fallback", json!("video")), {
                (Description, "scenarios[2].fallback", "`video` has a fallback itself")
            }),
            ("a fallback scenario that is none", set("", "fallback_scenario", json!("search")), {
                (Description, "fallback_scenario", "`search` is not a scenario")
            }),
            ("no tasks", set("", "tasks", json!([])), (Description, "tasks", "is empty")),
            ("a composition of a later task", set("/tasks/0", "composition", json!(["cvr"])), {
                (Description, "tasks[0].composition[0]", "`cvr` is not an earlier task")
            }),
            ("a composition of itself", set("/tasks/2", "composition", json!(["ctr", "ctcvr"])), {
                (Description, "tasks[2].composition[1]", "`ctcvr` is not an earlier task")
            }),
            ("a composition of nothing", set("/tasks/2", "composition", json!([])), {
                (Description, "tasks[2].composition", "is empty")
            }),
            ("a factor twice", set("/tasks/2", "composition", json!(["ctr", "ctr"])), {
                (Description, "tasks[2].composition[1]", "`ctr` is there twice")
            }),
            ("a fallback score above one", set("/tasks/1", "fallback", json!(1.5)), {
                (Description, "tasks[1].fallback", "1.5 is not in 0..=1")
            }),
            ("a network without a type", unset("/network", "type"), (Description, "network.type", "is missing")),
            ("a network that is a text", set("", "network", json!("mmoe")), {
                (Description, "network", "invalid type: string \"mmoe\", expected an object")
            }),
            ("a tolerance of zero", set("/golden", "tolerance", json!(0.0)), {
                (Description, "golden.tolerance", "0.0 is not above 0 and up to 1")
            }),
            ("a golden request of no candidates", set("/golden/requests/0", "candidates", json!(0)), {
                (Description, "golden.requests[0].candidates", "0 is not in 1..=65536")
            }),
            ("a golden scenario that is none", set("/golden/requests/0", "scenario", json!("search")), {
                (Description, "golden.requests[0].scenario", "`search` is not a scenario")
            }),
        ],
    );
}

#[test]
fn networks_that_do_not_exist_are_refused_by_their_path() {
    check(
        "network",
        vec![
            ("a network nobody knows", set("/network", "type", json!("transformer")), {
                (Description, "network.type", {
                    "`transformer` is not one of adasparse, adatt, adl, aitm, apg, causalint, dbmtl, dffm, escm2, esmm, \
                     graph, hamur, hmoe, home, m2m, m3oe, mmoe, pepnet, ple, sarnet, shared_bottom, star, stem, taml"
                })
            }),
            ("a key nobody knows", set("/network", "gates", json!([])), {
                (
                    Description,
                    "network.gates",
                    "unknown field `gates`, expected one of `type`, `experts`, `expert`, `gate`, `tower`, \
                     `activation`, `batch_norm`",
                )
            }),
            ("a key of another type", set("/network", "tower", json!([2, "x"])), {
                (Description, "network.tower[1]", "invalid type: string \"x\", expected usize")
            }),
            (
                "a key that is missing",
                unset("/network", "experts"),
                (Description, "network", "missing field `experts`"),
            ),
            ("an activation nobody knows", set("/network", "activation", json!("elu")), {
                (Description, "network.activation", {
                    "unknown variant `elu`, expected one of `relu`, `leaky_relu`, `sigmoid`, `tanh`, `silu`, `prelu`, \
                     `dice`, `layer_dice`"
                })
            }),
            ("no experts", set("/network", "experts", json!(0)), {
                (Description, "network.experts", "is 0, must be 1 to 4096")
            }),
            ("an expert without layers", set("/network", "expert", json!([])), {
                (Description, "network.expert", "is empty, an expert has at least one layer")
            }),
            ("a layer of nothing", set("/network", "tower", json!([0])), {
                (Description, "network.tower[0]", "is 0, must be 1 to 1048576")
            }),
        ],
    );
}

#[test]
fn wrong_tensors_are_refused_by_their_name() {
    let reshaped = |name: &str, shape: &[usize]| with(|parts| parts.named(name).2 = shape.to_vec());
    let removed = |name: &str| {
        with(|parts| {
            parts.remove(name);
        })
    };
    let spoiled = |name: &str, index: usize, value: f32| {
        with(|parts| parts.named(name).3[index * 4..index * 4 + 4].copy_from_slice(&value.to_le_bytes()))
    };
    let retyped = |name: &str, dtype: &'static str| with(|parts| parts.named(name).1 = dtype);
    check(
        "tensors",
        vec![
            ("a table that is missing", removed("embeddings.zip.weight"), {
                (BadTensor, "embeddings.zip.weight", "is missing; it is the table of features[2]")
            }),
            ("a weight that is missing", removed("experts.1.0.linear.weight"), {
                (BadTensor, "experts.1.0.linear.weight", "is missing")
            }),
            ("a statistic that is missing", removed("towers.cvr.0.norm.running_var"), {
                (BadTensor, "towers.cvr.0.norm.running_var", "is missing")
            }),
            ("a bias that is missing", removed("heads.cvr.bias"), (BadTensor, "heads.cvr.bias", "is missing")),
            ("a tensor too many", with(|parts| parts.weight("experts.2.0.linear.weight", &[3, 15])), {
                (BadTensor, "experts.2.0.linear.weight", "is not used by the features or the network")
            }),
            ("a golden tensor too many", with(|parts| parts.weight("golden.1.scores.ctr", &[2])), {
                (BadTensor, "golden.1.scores.ctr", "is not used by the features or the network")
            }),
            ("a weight of another shape", reshaped("experts.0.0.linear.weight", &[15, 3]), {
                (BadTensor, "experts.0.0.linear.weight", "has shape [15, 3], expected [3, 15]")
            }),
            ("a bias of another rank", reshaped("heads.ctr.bias", &[]), {
                (BadTensor, "heads.ctr.bias", "has shape [], expected [1]")
            }),
            ("a table of one dimension", reshaped("embeddings.zip.weight", &[6]), {
                (BadTensor, "embeddings.zip.weight", "has shape [6], a table has [rows, dim]")
            }),
            (
                "a table without rows",
                {
                    with(|parts| {
                        let zip = parts.named("embeddings.zip.weight");
                        (zip.2, zip.3) = (vec![0, 2], vec![]);
                    })
                },
                {
                    (BadTensor, "embeddings.zip.weight", {
                        "has shape [0, 2], a table has 1 to 4294967295 rows of 1 to 65536"
                    })
                },
            ),
            ("a table of integers", retyped("embeddings.zip.weight", "I32"), {
                (BadTensor, "embeddings.zip.weight", "has type I32, expected F32, F16, BF16, I8 or U8")
            }),
            ("a weight of integers", retyped("gates.ctr.out.weight", "I32"), {
                (BadTensor, "gates.ctr.out.weight", "has type I32, expected F32, F16, BF16, I8 or I16")
            }),
            ("a NaN in a weight", spoiled("towers.ctr.0.linear.weight", 4, f32::NAN), {
                (BadTensor, "towers.ctr.0.linear.weight", "element 4 is not a finite number")
            }),
            ("an infinity in a bias", spoiled("experts.0.0.linear.bias", 2, f32::NEG_INFINITY), {
                (BadTensor, "experts.0.0.linear.bias", "element 2 is not a finite number")
            }),
            ("a NaN in a table", spoiled("embeddings.ad_id.weight", 14, f32::NAN), {
                (BadTensor, "embeddings.ad_id.weight", "element 14 is not a finite number")
            }),
            ("a negative variance", spoiled("experts.0.0.norm.running_var", 1, -0.5), {
                (BadTensor, "experts.0.0.norm.running_var", "value 1 is negative, a variance cannot be")
            }),
            ("an oov row outside the table", set("/features/4", "oov", json!(5)), {
                (Description, "features[4].oov", "row 5 is outside table `embeddings.ad_id.weight`, which has 5 rows")
            }),
            ("a missing row outside the table", set("/features/3", "missing", json!(4_000_000_000u32)), {
                (Description, "features[3].missing", {
                    "row 4000000000 is outside table `embeddings.age.weight`, which has 4 rows"
                })
            }),
            ("buckets past the table", set("/features/0/transform", "buckets", json!(8)), {
                (Description, "features[0].transform", {
                    "row 8 is outside table `embeddings.user_id.weight`, which has 8 rows"
                })
            }),
            (
                "buckets and offset past 32 bits",
                {
                    with(|parts| {
                        parts.set("/features/0/transform", "buckets", json!(u32::MAX));
                        parts.set("/features/0/transform", "offset", json!(u32::MAX));
                    })
                },
                {
                    (Description, "features[0].transform", {
                        "row 8589934589 is outside table `embeddings.user_id.weight`, which has 8 rows"
                    })
                },
            ),
            ("a vocabulary past the table", set("/features/2/transform", "offset", json!(2)), {
                (Description, "features[2].transform", {
                    "row 3 is outside table `embeddings.zip.weight`, which has 3 rows"
                })
            }),
            ("a boundary past the table", set("/features/3/transform", "boundaries", json!([1, 2, 3, 4])), {
                (Description, "features[3].transform", {
                    "row 4 is outside table `embeddings.age.weight`, which has 4 rows"
                })
            }),
        ],
    );
}

#[test]
fn golden_requests_that_do_not_fit_or_do_not_hold_are_refused() {
    let replaced = |name: &str, dtype, shape: &[usize], bytes: Vec<u8>| {
        with(|parts| *parts.named(name) = Tensor(name.into(), dtype, shape.to_vec(), bytes))
    };
    let removed = |name: &str| {
        with(|parts| {
            parts.remove(name);
        })
    };
    let offsets = "offsets do not start at 0, ascend, and end at the last value";
    let history = "golden.0.request.history.row_offsets";
    let zip = "golden.0.request.zip.text_offsets";
    check(
        "golden",
        vec![
            ("a column that is missing", removed("golden.0.candidates.ad_id"), {
                (BadTensor, "golden.0.candidates.ad_id", "is missing")
            }),
            ("scores that are missing", removed("golden.0.scores.ctcvr"), {
                (BadTensor, "golden.0.scores.ctcvr", "is missing")
            }),
            ("row offsets that are missing", removed(history), (BadTensor, history, "is missing")),
            ("text offsets that are missing", removed(zip), (BadTensor, zip, "is missing")),
            ("a column of another length", replaced("golden.0.candidates.ad_id", "I64", &[3], i64s(&[1, 2, 3])), {
                (BadTensor, "golden.0.candidates.ad_id", "has shape [3], expected [2]")
            }),
            ("a column of another width", replaced("golden.0.candidates.price", "F32", &[2, 1], f32s(&[1.0, 2.0])), {
                (BadTensor, "golden.0.candidates.price", "has shape [2, 1], expected [2, 2]")
            }),
            ("a column of another type", replaced("golden.0.request.user_id", "F32", &[1], f32s(&[1.0])), {
                (BadTensor, "golden.0.request.user_id", "has type F32, expected I64")
            }),
            ("a text column of integers", replaced("golden.0.request.zip", "I64", &[1], i64s(&[1])), {
                (BadTensor, "golden.0.request.zip", "has type I64, expected U8")
            }),
            ("offsets that start late", replaced(history, "I64", &[2], i64s(&[1, 3])), (BadTensor, history, offsets)),
            (
                "offsets that are negative",
                replaced(history, "I64", &[2], i64s(&[0, -3])),
                (BadTensor, history, offsets),
            ),
            ("offsets past the values", replaced(history, "I64", &[2], i64s(&[0, 4])), {
                (BadTensor, "golden.0.request.history", "has shape [3], expected [4]")
            }),
            ("offsets of all ones", replaced(history, "I64", &[2], i64s(&[0, i64::MAX])), {
                (BadTensor, "golden.0.request.history", "has shape [3], expected [9223372036854775807]")
            }),
            ("offsets of another length", replaced(history, "I64", &[3], i64s(&[0, 1, 3])), {
                (BadTensor, history, "has shape [3], expected [2]")
            }),
            ("text offsets past the bytes", replaced(zip, "I64", &[2], i64s(&[0, 6])), (BadTensor, zip, offsets)),
            ("an infinite score", replaced("golden.0.scores.ctr", "F32", &[2], f32s(&[0.5, f32::INFINITY])), {
                (BadTensor, "golden.0.scores.ctr", "element 1 is not a finite number")
            }),
            ("a score that is NaN", replaced("golden.0.scores.ctr", "F32", &[2], f32s(&[f32::NAN, 0.5])), {
                (BadTensor, "golden.0.scores.ctr", "element 0 is not a finite number")
            }),
            ("a score that does not hold", replaced("golden.0.scores.ctr", "F32", &[2], f32s(&[0.5, 0.25])), {
                (Golden, "golden.requests[0]", {
                    "task `ctr`, candidate 1: scored 0.5, recorded 0.25; the difference is above 1e-5"
                })
            }),
            ("a weight that changes the scores", with(|parts| parts.named("heads.ctr.bias").3 = f32s(&[100.0])), {
                (Golden, "golden.requests[0]", {
                    "task `ctr`, candidate 0: scored 1, recorded 0.5; the difference is above 1e-5"
                })
            }),
        ],
    );
}

impl Parts {
    /// The valid model with tables of int8 and int4, and layers of int8 and int12.
    fn quantized() -> Self {
        let mut parts = Self::valid();
        for (name, dtype, shape, rows) in [
            ("embeddings.ad_id.weight", "I8", [5, 3], 5),
            ("embeddings.zip.weight", "U8", [3, 1], 3),
            ("experts.0.0.linear.weight", "I16", [3, 15], 3),
            ("towers.ctr.0.linear.weight", "I8", [2, 3], 2),
        ] {
            let count = shape[0] * shape[1];
            let integers = (0..count).map(|at| at as i16 * 37 % 127 - 63);
            let tensor = parts.named(name);
            tensor.1 = dtype;
            tensor.2 = shape.to_vec();
            tensor.3 = match dtype {
                "I16" => integers.flat_map(|integer| (integer * 30).to_le_bytes()).collect(),
                "I8" => integers.map(|integer| integer as u8).collect(),
                _ => vec![0x7f, 0x01, 0x99],
            };
            parts.tensor(&format!("{name}.scale"), "F32", &[rows], f32s(&vec![0.01; rows]));
        }
        parts
    }
}

#[test]
fn damaged_integers_and_scales_are_refused() {
    let with = |change: &dyn Fn(&mut Parts)| {
        let mut parts = Parts::quantized();
        change(&mut parts);
        parts.file()
    };
    let folder = Folder::new("quantized");
    let path = folder.write(FILE, &Parts::quantized().file());
    assert_eq!(refusal(&path, &options(Mode::Map)), Ok(()));

    let spoiled = |name: &str, index: usize, value: f32| {
        with(&|parts| parts.named(name).3[index * 4..index * 4 + 4].copy_from_slice(&value.to_le_bytes()))
    };
    let word = |name: &str, index: usize, word: i16| {
        with(&|parts| parts.named(name).3[index * 2..index * 2 + 2].copy_from_slice(&word.to_le_bytes()))
    };
    let byte = |name: &str, index: usize, byte: u8| with(&|parts| parts.named(name).3[index] = byte);
    let replaced = |name: &str, dtype: &'static str, shape: &[usize], bytes: &[u8]| {
        with(&|parts| *parts.named(name) = Tensor(name.into(), dtype, shape.to_vec(), bytes.to_vec()))
    };
    let removed = |name: &str| with(&|parts| drop(parts.remove(name)));
    let (ad, zip) = ("embeddings.ad_id.weight", "embeddings.zip.weight");
    let (ad_scale, zip_scale) = ("embeddings.ad_id.weight.scale", "embeddings.zip.weight.scale");
    let (expert, tower) = ("experts.0.0.linear.weight", "towers.ctr.0.linear.weight");
    let (expert_scale, tower_scale) = ("experts.0.0.linear.weight.scale", "towers.ctr.0.linear.weight.scale");
    check(
        "integers",
        vec![
            ("a table without scales", removed(ad_scale), {
                (BadTensor, ad_scale, "is missing; `embeddings.ad_id.weight` has integers, and these are their scales")
            }),
            ("a layer without scales", removed(tower_scale), {
                (BadTensor, tower_scale, {
                    "is missing; `towers.ctr.0.linear.weight` has integers, and these are their scales"
                })
            }),
            ("scales without their table", with(&|parts| *parts.named(ad) = Parts::valid().remove(ad)), {
                (BadTensor, ad_scale, "is not used by the features or the network")
            }),
            ("scales of a bias", with(&|parts| parts.weight("heads.ctr.bias.scale", &[1])), {
                (BadTensor, "heads.ctr.bias.scale", "is not used by the features or the network")
            }),
            ("scales of a golden text", with(&|parts| parts.weight("golden.0.request.zip.scale", &[1])), {
                (BadTensor, "golden.0.request.zip.scale", "is not used by the features or the network")
            }),
            ("scales of too few rows", replaced(ad_scale, "F32", &[4], &[0; 16]), {
                (BadTensor, ad_scale, "has shape [4], expected [5]")
            }),
            ("scales of columns", replaced(ad_scale, "F32", &[3], &[0; 12]), {
                (BadTensor, ad_scale, "has shape [3], expected [5]")
            }),
            ("scales that are a matrix", replaced(ad_scale, "F32", &[5, 1], &[0; 20]), {
                (BadTensor, ad_scale, "has shape [5, 1], expected [5]")
            }),
            ("scales of a layer's inputs", replaced(expert_scale, "F32", &[15], &[0; 60]), {
                (BadTensor, expert_scale, "has shape [15], expected [3]")
            }),
            ("scales in f16", replaced(zip_scale, "F16", &[3], &[0; 6]), {
                (BadTensor, zip_scale, "has type F16, expected F32")
            }),
            ("a scale that is NaN", spoiled(ad_scale, 4, f32::NAN), {
                (BadTensor, ad_scale, "element 4 is NaN, a scale is at least 0 and at most 2.6584558e36")
            }),
            ("a scale that is infinite", spoiled(zip_scale, 0, f32::INFINITY), {
                (BadTensor, zip_scale, "element 0 is inf, a scale is at least 0 and at most 4.2535293e37")
            }),
            ("a negative scale", spoiled(expert_scale, 1, -0.5), {
                (BadTensor, expert_scale, "element 1 is -0.5, a scale is at least 0 and at most 2.0769186e34")
            }),
            ("a scale that makes infinities", spoiled(tower_scale, 1, 3e36), {
                (BadTensor, tower_scale, {
                    "element 1 is 3000000000000000000000000000000000000, a scale is at least 0 and at most 2.6584558e36"
                })
            }),
            ("-128 in a table", byte(ad, 7, 0x80), (BadTensor, ad, "element 7 is -128, int8 ends at 127")),
            ("-128 in a layer", byte(tower, 0, 0x80), (BadTensor, tower, "element 0 is -128, int8 ends at 127")),
            ("-8 in a lower half", byte(zip, 1, 0x38), (BadTensor, zip, "element 2 is -8, int4 ends at 7")),
            ("-8 in an upper half", byte(zip, 2, 0x83), (BadTensor, zip, "element 5 is -8, int4 ends at 7")),
            (
                "16384 in a layer",
                word(expert, 4, 16384),
                (BadTensor, expert, "element 4 is 16384, int16 ends at 16383"),
            ),
            (
                "-16384 in a layer",
                word(expert, 44, -16384),
                (BadTensor, expert, "element 44 is -16384, int16 ends at 16383"),
            ),
            ("int12 in a table", replaced(ad, "I16", &[5, 3], &[0; 30]), {
                (BadTensor, ad, "has type I16, expected F32, F16, BF16, I8 or U8")
            }),
            ("int4 in a layer", replaced(tower, "U8", &[2, 3], &[0; 6]), {
                (BadTensor, tower, "has type U8, expected F32, F16, BF16, I8 or I16")
            }),
            ("integers for a bias", replaced("heads.ctr.bias", "I8", &[1], &[0]), {
                (BadTensor, "heads.ctr.bias", "has type I8, expected F32, F16 or BF16")
            }),
            ("a flat table", replaced(ad, "I8", &[15], &[0; 15]), {
                (BadTensor, ad, "has shape [15], a table has [rows, dim]")
            }),
            ("a layer of another shape", replaced(tower, "I8", &[2, 4], &[0; 8]), {
                (BadTensor, tower, "has shape [2, 4], expected [2, 3]")
            }),
        ],
    );
}

#[test]
fn what_is_too_much_is_refused() {
    let many = |key: &str, entry: &dyn Fn(usize) -> Value, count: usize| {
        set("", key, (0..count).map(entry).collect::<Vec<_>>().into())
    };
    let feature = |i: usize| json!({"name": format!("f{i}"), "rate": "pair", "kind": "dense", "width": 1});
    let tensors: String =
        (0..65_537).map(|i| format!(",\"t{i}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}")).collect();
    let metadata: String = (0..1025).map(|i| format!(",\"k{i}\":\"\"")).collect();
    check(
        "limits",
        vec![
            (
                "tensors",
                container(&format!("{{{}}}", &tensors[1..]), &[]),
                (Limit, FILE, "has more than 65536 tensors"),
            ),
            ("metadata", container(&format!("{{\"__metadata__\":{{{}}}}}", &metadata[1..]), &[]), {
                (Limit, "__metadata__", "has more than 1024 entries")
            }),
            ("features", many("features", &feature, 4097), { (Description, "features", "has more than 4096 entries") }),
            ("tasks", many("tasks", &|i| json!({"name": format!("t{i}")}), 65), {
                (Description, "tasks", "has more than 64 entries")
            }),
            ("scenarios", many("scenarios", &|i| json!({"name": format!("s{i}"), "id": i}), 65_537), {
                (Description, "scenarios", "has more than 65536 entries")
            }),
            ("the network", set("/network", "steps", vec![0; 262_144].into()), {
                (Description, "network.steps[262138]", "has more than 262144 values")
            }),
            ("provenance", set("", "provenance", (0..1025).map(|i| (format!("k{i}"), json!(""))).collect()), {
                (Description, "provenance.k999", "has more than 1024 values")
            }),
            ("golden requests", set("/golden", "requests", vec![json!({"candidates": 1}); 1025].into()), {
                (Description, "golden.requests", "has more than 1024 entries")
            }),
            ("golden candidates", set("/golden/requests/0", "candidates", json!(65_537)), {
                (Description, "golden.requests[0].candidates", "65537 is not in 1..=65536")
            }),
        ],
    );
}

#[test]
fn limits_of_the_caller_are_kept() {
    let folder = Folder::new("caller");
    let bytes = Parts::valid().file();
    let path = folder.write(FILE, &bytes);
    let size = bytes.len() as u64;
    let header = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"));
    let exact = OpenOptions { max_bytes: size, max_header_bytes: header, ..OpenOptions::default() };
    assert_eq!(refusal(&path, &exact), Ok(()));
    let bytes = OpenOptions { max_bytes: size - 1, ..exact.clone() };
    let detail = format!("has {size} bytes, the limit is {}", size - 1);
    assert_eq!(refusal(&path, &bytes), Err((Limit, FILE.into(), detail)));
    let header_bytes = OpenOptions { max_header_bytes: header - 1, ..exact };
    let detail = format!("the header has {header} bytes, the limit is {}", header - 1);
    assert_eq!(refusal(&path, &header_bytes), Err((Limit, FILE.into(), detail)));
}

#[test]
fn what_is_not_a_file_is_refused() {
    let folder = Folder::new("paths");
    let found = |path: &Path| refusal(path, &OpenOptions::default());
    let expected = |kind, subject: &str, detail: &str| Err((kind, subject.to_owned(), detail.to_owned()));
    assert_eq!(found(&folder.0.join("absent.safetensors")), expected(Io, "absent.safetensors", "does not exist"));
    assert_eq!(found(&folder.0), expected(Io, "model.safetensors.index.json", "does not exist"));
    #[cfg(unix)]
    assert_eq!(found(Path::new("/dev/zero")), expected(Io, "zero", "is not a regular file"));
}

/// A set of two files and its index: the tables in the first, all else in the second.
struct Set {
    index: Value,
    shards: [Parts; 2],
}

const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
const INDEX: &str = "model.safetensors.index.json";

impl Set {
    fn valid() -> Self {
        let parts = Parts::valid();
        let place = |tensor: &Tensor| usize::from(!tensor.0.starts_with("embeddings."));
        let weight_map: serde_json::Map<String, Value> =
            parts.tensors.iter().map(|tensor| (tensor.0.clone(), SHARDS[place(tensor)].into())).collect();
        let metadata = json!({"total_size": 2300, "polyscore": parts.description.to_string()});
        let shard = |number| Parts {
            description: Value::Null,
            tensors: parts.tensors.iter().filter(|tensor| place(tensor) == number).cloned().collect(),
        };
        Self { index: json!({"metadata": metadata, "weight_map": weight_map}), shards: [shard(0), shard(1)] }
    }

    fn write(&self, folder: &Folder) -> PathBuf {
        for (name, shard) in SHARDS.iter().zip(&self.shards) {
            let (header, data) = shard.header(shard.description != Value::Null);
            folder.write(name, &container(&header, &data));
        }
        folder.write(INDEX, self.index.to_string().as_bytes())
    }
}

#[test]
fn a_set_of_files_opens_by_its_index_and_by_its_folder() {
    let folder = Folder::new("set");
    let index = Set::valid().write(&folder);
    for mode in [Mode::Map, Mode::Snapshot, Mode::Copy] {
        for path in [&index, &folder.0] {
            let model = Model::open(path, &options(mode)).expect("the valid set opens");
            assert!(model.golden().is_some());
        }
    }
}

#[test]
fn damaged_sets_are_refused() {
    type Damage = fn(&mut Set);
    let cases: Vec<(&str, Damage, Expected)> = vec![
        ("an index that is an array", |set| set.index = json!([]), {
            (Format, INDEX, "invalid type: sequence, expected an object")
        }),
        ("an unknown key", |set| set.index["weights"] = json!({}), (Format, INDEX, "weights: is not a known key")),
        ("no metadata", |set| drop(set.index.as_object_mut().map(|index| index.remove("metadata"))), {
            (Format, INDEX, "metadata: is missing")
        }),
        ("no description", |set| set.index["metadata"] = json!({"total_size": 1}), {
            (Format, INDEX, "has no description: `metadata` lacks the string `polyscore`")
        }),
        ("a description that is wrong", |set| set.index["metadata"]["polyscore"] = json!("{}"), {
            (Description, "format_version", "is missing")
        }),
        ("a file name that is a number", |set| set.index["weight_map"]["heads.ctr.bias"] = json!(1), {
            (Format, INDEX, "weight_map.heads.ctr.bias: is not a string")
        }),
        ("a file above the folder", |set| set.index["weight_map"]["heads.ctr.bias"] = json!("../a.safetensors"), {
            (Format, INDEX, "weight_map.heads.ctr.bias: `../a.safetensors` is not a plain `.safetensors` name")
        }),
        ("a file by its path", |set| set.index["weight_map"]["heads.ctr.bias"] = json!("/a.safetensors"), {
            (Format, INDEX, "weight_map.heads.ctr.bias: `/a.safetensors` is not a plain `.safetensors` name")
        }),
        ("a file of another folder", |set| set.index["weight_map"]["heads.ctr.bias"] = json!("a\\b.safetensors"), {
            (Format, INDEX, "weight_map.heads.ctr.bias: `a\\b.safetensors` is not a plain `.safetensors` name")
        }),
        ("a hidden file", |set| set.index["weight_map"]["heads.ctr.bias"] = json!("..safetensors"), {
            (Format, INDEX, "weight_map.heads.ctr.bias: `..safetensors` is not a plain `.safetensors` name")
        }),
        ("a file of another kind", |set| set.index["weight_map"]["heads.ctr.bias"] = json!("pytorch_model.bin"), {
            (Format, INDEX, "weight_map.heads.ctr.bias: `pytorch_model.bin` is not a plain `.safetensors` name")
        }),
        ("a tensor name that is none", |set| set.index["weight_map"]["a b"] = json!(SHARDS[0]), {
            (Format, INDEX, "weight_map: `a b` is not a tensor name")
        }),
        ("a file that is not there", |set| set.index["weight_map"]["a"] = json!("other.safetensors"), {
            (Io, "other.safetensors", "does not exist")
        }),
        (
            "too many files",
            |set| {
                for i in 0..257 {
                    set.index["weight_map"][format!("t{i}")] = json!(format!("s{i}.safetensors"));
                }
            },
            (Limit, INDEX, "lists more than 256 files"),
        ),
        ("a tensor listed in the wrong file", |set| set.index["weight_map"]["heads.ctr.bias"] = json!(SHARDS[0]), {
            (Format, "heads.ctr.bias", "is not in model-00001-of-00002.safetensors, where the index lists it")
        }),
        ("a tensor in the wrong file", |set| set.index["weight_map"]["embeddings.zip.weight"] = json!(SHARDS[1]), {
            (Format, "embeddings.zip.weight", {
                "is in model-00001-of-00002.safetensors, but the index lists it in model-00002-of-00002.safetensors"
            })
        }),
        (
            "a tensor in both files",
            |set| {
                let zip = set.shards[0].named("embeddings.zip.weight").clone();
                set.shards[1].tensors.push(zip);
            },
            {
                (Format, "embeddings.zip.weight", {
                    "is in model-00002-of-00002.safetensors, but the index lists it in model-00001-of-00002.safetensors"
                })
            },
        ),
        ("a tensor that is not listed", |set| set.shards[1].weight("extra", &[1]), {
            (Format, "extra", "is in model-00002-of-00002.safetensors, but not in the index")
        }),
        ("a tensor that is not there", |set| set.index["weight_map"]["extra"] = json!(SHARDS[1]), {
            (Format, "extra", "is not in model-00002-of-00002.safetensors, where the index lists it")
        }),
        ("a file with a description", |set| set.shards[1].description = json!({}), {
            (Format, "model-00002-of-00002.safetensors", "has a description of its own; a set has it in its index")
        }),
        ("a damaged file", |set| set.shards[0].tensors[0].2 = vec![9], {
            (Format, "embeddings.user_id.weight", "shape [9] of F32 does not fit its 64 bytes of data")
        }),
    ];
    let folder = Folder::new("sets");
    let mut wrong = Vec::new();
    for (case, damage, (kind, subject, detail)) in cases {
        let mut set = Set::valid();
        damage(&mut set);
        let found = refusal(&set.write(&folder), &OpenOptions::default());
        if found != Err((kind, subject.into(), detail.into())) {
            wrong.push(format!("{case}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn an_index_that_lists_a_tensor_twice_is_refused() {
    let folder = Folder::new("twice");
    let index = Set::valid().write(&folder);
    let text = std::fs::read_to_string(&index).expect("the index");
    let twice = text.replacen("\"heads.ctr.bias\":", "\"heads.ctr.bias\":\"a.safetensors\",\"heads.ctr.bias\":", 1);
    assert_ne!(text, twice);
    let index = folder.write(INDEX, twice.as_bytes());
    let detail = "weight_map.heads.ctr.bias: is there twice";
    assert_eq!(refusal(&index, &OpenOptions::default()), Err((Format, INDEX.into(), detail.into())));
}

#[test]
fn the_files_of_a_set_share_one_limit() {
    let folder = Folder::new("shared");
    let index = Set::valid().write(&folder);
    let sizes = SHARDS.map(|name| std::fs::metadata(folder.0.join(name)).expect("a shard").len());
    let limit = |max_bytes| OpenOptions { max_bytes, ..OpenOptions::default() };
    assert_eq!(refusal(&index, &limit(sizes[0] + sizes[1])), Ok(()));
    let detail = format!("has {} bytes, the limit is {}", sizes[1], sizes[1] - 1);
    assert_eq!(refusal(&index, &limit(sizes[0] + sizes[1] - 1)), Err((Limit, SHARDS[1].into(), detail)));
}

#[test]
fn a_file_cut_at_any_length_is_refused() {
    let folder = Folder::new("cut");
    let bytes = Parts::valid().file();
    for length in 0..bytes.len() {
        let path = folder.write(FILE, &bytes[..length]);
        let mode = [Mode::Map, Mode::Snapshot, Mode::Copy][length % 3];
        let (kind, subject, _) = refusal(&path, &options(mode)).expect_err("a file that is cut");
        assert_eq!(kind, Format, "{length}");
        assert!(!subject.is_empty(), "{length}");
    }
}

/// Opens a model with one byte changed, for every `step`th byte of a range, and counts what opens nevertheless.
fn flip(name: &str, parts: &Parts, range: std::ops::Range<usize>, step: usize) -> (usize, usize) {
    let folder = Folder::new(name);
    let mut bytes = parts.file();
    let (mut opened, mut all) = (0, 0);
    for position in range.step_by(step) {
        for mask in [0x01, 0x80, 0xff] {
            bytes[position] ^= mask;
            let path = folder.write(FILE, &bytes);
            bytes[position] ^= mask;
            all += 1;
            match Model::open(&path, &options(Mode::Copy)) {
                Ok(_) => opened += 1,
                Err(error) => assert_ne!(error.kind(), ErrorKind::Internal, "byte {position}: {error}"),
            }
        }
    }
    (opened, all)
}

fn header_end(parts: &Parts) -> usize {
    8 + u64::from_le_bytes(parts.file()[..8].try_into().expect("8 bytes")) as usize
}

#[test]
fn no_changed_byte_of_the_header_panics_and_nearly_all_are_refused() {
    for (name, parts) in [("header-bytes", Parts::valid()), ("header-bytes-of-integers", Parts::quantized())] {
        let (opened, all) = flip(name, &parts, 0..header_end(&parts), 3);
        assert!(all > 2000, "{name}: {all}");
        // Names, provenance and unused numbers may change and still make a model.
        assert!(opened * 10 < all, "{name}: {opened} of {all} opened");
    }
}

#[test]
fn no_changed_byte_of_the_data_panics() {
    for (name, parts) in [("data-bytes", Parts::valid()), ("data-bytes-of-integers", Parts::quantized())] {
        let (opened, all) = flip(name, &parts, header_end(&parts)..parts.file().len(), 3);
        assert!(opened > 0 && opened < all, "{name}: {opened} of {all} opened");
    }
}
