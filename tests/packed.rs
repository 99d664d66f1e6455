//! Packed layers in a file: the same bits, mapped, and never those of other weights.

mod zoo;

use polyscore::{Error, ErrorKind, Model, OpenOptions, Precision};
use safetensors::SafeTensors;
use safetensors::tensor::Metadata;
use std::collections::BTreeMap;
use std::path::Path;
use zoo::{File, Request, bits};

const PRECISIONS: [Option<Precision>; 6] = [
    None,
    Some(Precision::F16),
    Some(Precision::Bf16),
    Some(Precision::Int12),
    Some(Precision::Int16),
    Some(Precision::Int8),
];

/// In every type beyond what weights may be.
const OF_NO_TYPE: [u8; 4] = [0x80, 0x80, 0x80, 0x7f];

/// The packed form of a model.
fn packed_file(name: &str, model: &Model) -> File {
    let file = File::new(name);
    model.write_packed(&file.0, |_| Ok::<(), Error>(())).expect("a file");
    file
}

/// A file, where its tensors begin, and its header.
fn read(path: &Path) -> (Vec<u8>, usize, Metadata) {
    let bytes = std::fs::read(path).expect("a file");
    let (length, header) = SafeTensors::read_metadata(&bytes).expect("a header");
    (bytes, 8 + length, header)
}

/// The portable kernels read no planes, which no file has.
fn options(precision: Option<Precision>, isa: &str) -> OpenOptions {
    OpenOptions { precision, max_error: Some(1.0), isa: Some(isa.into()), tile: 64, ..OpenOptions::default() }
}

fn open(path: &Path, options: &OpenOptions) -> Model {
    Model::open(path, options).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The scores of a few requests.
fn scores(model: &Model) -> Vec<u32> {
    (0..3).flat_map(|seed| bits(&Request::random(model, seed, 19).scores(model, None))).collect()
}

/// The names of the packed layers of a file, with their places.
fn packed(path: &Path) -> BTreeMap<String, std::ops::Range<usize>> {
    let (_, start, header) = read(path);
    let tensors = header.tensors().into_iter().filter(|(name, _)| name.starts_with("packed."));
    tensors.map(|(name, info)| (name, start + info.data_offsets.0..start + info.data_offsets.1)).collect()
}

#[test]
fn a_packed_file_scores_as_the_plain_one_and_is_mapped() {
    for zoo in zoo::all() {
        for precision in PRECISIONS {
            let options = options(precision, "portable");
            let plain = zoo.open(&options);
            let file = packed_file(&format!("bits-{}", zoo.name), &plain);
            let found = open(&file.0, &options);
            let (before, after) = (plain.footprint().packed_bytes, found.footprint().packed_bytes);
            let layers = packed(&file.0);
            assert!(layers.values().all(|place| place.start % 64 == 0), "{}", zoo.name);
            // What is left are biases and scales; a layer that several steps read is there once.
            let mapped: usize = layers.values().map(|place| place.len()).sum();
            assert!(before == 0 || (mapped > 0 && after * 4 < before), "{}: {before} {after}", zoo.name);
            assert_eq!(scores(&found), scores(&plain), "{} {precision:?}", zoo.name);
        }
    }
}

#[test]
fn every_kernel_set_reads_the_same_file() {
    let zoo = zoo::named("mmoe");
    for precision in PRECISIONS.into_iter().filter(|precision| *precision != Some(Precision::Bf16)) {
        let file = packed_file("sets", &zoo.open(&options(precision, "portable")));
        let expected = scores(&open(&file.0, &options(precision, "scalar")));
        for isa in ["portable", "avx2", "avx512", "avx512bf16", "amx", "neon"] {
            match Model::open(&file.0, &options(precision, isa)) {
                Ok(model) => assert_eq!(scores(&model), expected, "{isa} {precision:?}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported, "{isa}: {error}"),
            }
        }
    }
}

#[test]
fn other_options_and_other_weights_do_not_read_it() {
    let zoo = zoo::named("mmoe");
    let usual = options(None, "portable");
    let plain = zoo.open(&usual);
    let file = packed_file("stale", &plain);
    let int8 = options(Some(Precision::Int8), "portable");
    let (other, expected) = (open(&file.0, &int8), zoo.open(&int8));
    // Layers whose outputs are logits are f32 in both.
    let (found, all) = (other.footprint().packed_bytes, expected.footprint().packed_bytes);
    assert!(found <= all && found * 10 > all * 9, "{found} of {all}");
    assert_eq!(scores(&other), scores(&expected));

    let (mut bytes, start, header) = read(&file.0);
    let weight = plain.roles().find(|(_, role)| *role != polyscore::Role::Table).expect("a layer").0.name.to_owned();
    let at = start + header.info(&weight).expect("a weight").data_offsets.0;
    bytes[at..at + 4].copy_from_slice(&3.0f32.to_le_bytes());
    let changed = File::new("changed");
    std::fs::write(&changed.0, &bytes).expect("a file");
    let changed = open(&changed.0, &usual);
    assert!(changed.footprint().packed_bytes > open(&file.0, &usual).footprint().packed_bytes);
    assert_ne!(scores(&changed), scores(&plain));
}

#[test]
fn files_written_from_it_have_none_but_when_asked() {
    let zoo = zoo::named("mmoe");
    let usual = options(None, "portable");
    let file = packed_file("from", &zoo.open(&usual));
    let model = open(&file.0, &usual);
    let plain = File::new("plain");
    model.write::<Error>(&plain.0, None, &BTreeMap::new(), |_| Ok(())).expect("a file");
    assert!(packed(&plain.0).is_empty());
    let again = packed_file("again", &model);
    assert_eq!(std::fs::read(&again.0).expect("a file"), std::fs::read(&file.0).expect("a file"));
}

#[test]
fn damaged_layers_are_refused_by_name() {
    let zoo = zoo::named("mmoe");
    for precision in PRECISIONS {
        let options = options(precision, "portable");
        let file = packed_file("damaged", &zoo.open(&options));
        let bytes = std::fs::read(&file.0).expect("a file");
        let layers = packed(&file.0);
        assert!(layers.len() > 5, "{}", layers.len());
        let damaged = File::new("damage");
        let refused = |bytes: &[u8], name: &str| {
            std::fs::write(&damaged.0, bytes).expect("a file");
            let error = Model::open(&damaged.0, &options).err().expect("an error");
            assert_eq!((error.kind(), error.subject()), (ErrorKind::Tensor, name), "{error}");
        };
        for (name, place) in &layers {
            // A weight, and the last bias or scale.
            for start in [place.start, place.end - 4] {
                let mut bytes = bytes.clone();
                bytes[start..start + 4].copy_from_slice(&OF_NO_TYPE);
                refused(&bytes, name);
            }
        }
    }
}

#[test]
fn layers_of_another_length_or_type_are_refused_and_unaligned_ones_copied() {
    let zoo = zoo::named("mmoe");
    let usual = options(None, "portable");
    let plain = zoo.open(&usual);
    let file = packed_file("shape", &plain);
    let (bytes, start, _) = read(&file.0);
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..start]).expect("JSON");
    let name = packed(&file.0).into_keys().next_back().expect("a layer");
    let with = |change: &dyn Fn(&mut serde_json::Value), data: &[u8]| {
        let mut header = header.clone();
        change(&mut header);
        let text = header.to_string();
        let changed = File::new("reshaped");
        let whole = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes(), data].concat();
        std::fs::write(&changed.0, whole).expect("a file");
        Model::open(&changed.0, &usual)
    };
    let data = &bytes[start..];
    let as_f32 = |header: &mut serde_json::Value| {
        header[&name]["dtype"] = "F32".into();
        header[&name]["shape"] = vec![header[&name]["shape"][0].as_u64().expect("bytes") / 4].into();
    };
    let error = with(&as_f32, data).err().expect("an error");
    assert_eq!((error.kind(), error.subject()), (ErrorKind::Tensor, &*name), "{error}");

    let longer = |header: &mut serde_json::Value| {
        let end = header[&name]["data_offsets"][1].as_u64().expect("an offset");
        assert_eq!(end as usize, data.len(), "{name} is the last");
        header[&name]["data_offsets"][1] = (end + 1).into();
        header[&name]["shape"][0] = (header[&name]["shape"][0].as_u64().expect("bytes") + 1).into();
    };
    let error = with(&longer, &[data, &[0]].concat()).err().expect("an error");
    assert!(error.to_string().contains("the packed layer needs"), "{error}");

    // The header is a byte longer than a multiple of 4: nothing is aligned.
    let shifted = |header: &mut serde_json::Value| {
        header["__metadata__"]["shift"] = "".into();
        while header.to_string().len() % 4 != 1 {
            let text = header["__metadata__"]["shift"].as_str().expect("a text").to_owned() + "x";
            header["__metadata__"]["shift"] = text.into();
        }
    };
    let unaligned = with(&shifted, data).expect("a model");
    assert_eq!(unaligned.footprint().packed_bytes, plain.footprint().packed_bytes);
    assert_eq!(scores(&unaligned), scores(&plain));
}
