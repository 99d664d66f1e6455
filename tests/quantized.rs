//! Tensors of integers with scales: a file of them scores as the floats that they stand for.

mod zoo;

use polyscore::{Dtype, Error, Integer, Model, OpenOptions, Precision, Replacement, Role, Tensor, halve, quantize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use zoo::{File, Request, Zoo};

fn open(path: &Path, precision: Option<Precision>) -> Model {
    let options = OpenOptions { precision, max_error: Some(1.0), ..OpenOptions::default() };
    Model::open(path, &options).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A model with tensors replaced, and the file of it.
fn rewritten(model: &Model, replaced: &[Replacement], file: &File) -> Model {
    let replaced: Vec<Arc<Replacement>> = replaced.iter().cloned().map(Arc::new).collect();
    let in_memory = model.replaced(&replaced, &OpenOptions::default()).expect("another model");
    in_memory.write::<Error>(&file.0, None, &BTreeMap::new(), |_| Ok(())).expect("a file");
    in_memory
}

fn tables(model: &Model) -> BTreeSet<String> {
    model.roles().filter(|(_, role)| *role == Role::Table).map(|(table, _)| table.name.to_owned()).collect()
}

/// The weights of dense layers that may be integers, with the axis of their outputs.
fn layers(zoo: &Zoo) -> BTreeMap<String, usize> {
    let model = open(&zoo.path, Some(Precision::Int8));
    let integers = model.plan().quantized_layers();
    let layers = model.roles().filter(|(_, role)| *role != Role::Table);
    let layers = layers.map(|(tensor, role)| (tensor.name.to_owned(), role.axis()));
    let layers: BTreeMap<String, usize> = layers.filter(|(name, _)| integers.contains_key(name)).collect();
    assert_eq!(layers.len(), integers.len(), "{}: layers with other roles", zoo.name);
    layers
}

/// The floats that integers stand for, by the definition.
fn floats(of: &Replacement, axis: usize) -> Replacement {
    let scales = of.scales.as_deref().expect("scales");
    let integers: Vec<i32> = match of.dtype {
        Dtype::U8 => of
            .bytes
            .iter()
            .flat_map(|byte| [byte & 15, byte >> 4])
            .map(|half| half as i32 - if half > 7 { 16 } else { 0 })
            .collect(),
        Dtype::I8 => of.bytes.iter().map(|byte| i32::from(*byte as i8)).collect(),
        Dtype::I16 => of.bytes.chunks(2).map(|word| i32::from(i16::from_le_bytes([word[0], word[1]]))).collect(),
        other => panic!("{other:?}"),
    };
    let columns = integers.len() / of.shape[0];
    let scale = |place: usize| scales[if axis == 0 { place / columns } else { place % columns }];
    let values = integers.iter().enumerate().map(|(place, integer)| *integer as f32 * scale(place));
    Replacement {
        name: of.name.clone(),
        dtype: Dtype::F32,
        shape: vec![of.shape[0], columns],
        bytes: values.flat_map(f32::to_le_bytes).collect(),
        scales: None,
    }
}

fn tables_as(model: &Model, integer: Integer) -> Vec<Replacement> {
    let tables = tables(model).into_iter().map(|name| model.tensor(&name).expect("a table"));
    let fits = |table: &Tensor<'_>| integer != Integer::Int4 || table.shape[1].is_multiple_of(2);
    let integers = |table: Tensor<'_>| match fits(&table) {
        true => quantize(&table, integer, 0),
        false => quantize(&table, Integer::Int8, 0),
    };
    tables.map(|table| integers(table).expect("integers")).collect()
}

#[test]
fn tables_of_integers_score_as_the_floats_that_they_stand_for() {
    for zoo in zoo::all() {
        let model = open(&zoo.path, None);
        for integer in [Integer::Int8, Integer::Int4] {
            let replaced = tables_as(&model, integer);
            assert!(!replaced.is_empty(), "{}", zoo.name);
            let floats: Vec<Replacement> = replaced.iter().map(|table| floats(table, 0)).collect();
            let files = [File::new("tables"), File::new("floats")];
            let in_memory = rewritten(&model, &replaced, &files[0]);
            rewritten(&model, &floats, &files[1]);
            let [integers, floats] = [&files[0], &files[1]].map(|file| open(&file.0, None));
            assert_eq!(integers.footprint().copied_bytes, 0, "{}: tables stay mapped", zoo.name);
            for (seed, candidates) in [(0, 1), (1, 7), (2, 131)] {
                let request = Request::random(&floats, seed, candidates);
                let bits = |model| request.scores(model, None).into_iter().map(f32::to_bits).collect::<Vec<_>>();
                let expected = bits(&floats);
                assert_eq!(bits(&integers), expected, "{} {integer:?}, {candidates} candidates", zoo.name);
                assert_eq!(bits(&in_memory), expected, "{} {integer:?} in memory", zoo.name);
            }
        }
    }
}

#[test]
fn layers_of_integers_score_as_the_floats_that_they_stand_for() {
    let mut quantized = 0;
    // Of each precision: of the stored integers, and of the same floats packed as integers anew.
    let mut errors = [[0.0f32; 2]; 3];
    let precisions =
        [(Integer::Int8, Precision::Int8), (Integer::Int12, Precision::Int12), (Integer::Int16, Precision::Int16)];
    for zoo in zoo::all() {
        let model = open(&zoo.path, None);
        let layers = layers(&zoo);
        for (number, (integer, precision)) in precisions.into_iter().enumerate() {
            let of = |(name, axis): (&String, &usize)| {
                quantize(&model.tensor(name).expect("a weight"), integer, *axis).expect("integers")
            };
            let replaced: Vec<Replacement> = layers.iter().map(of).collect();
            let floats: Vec<Replacement> = replaced.iter().map(|layer| floats(layer, layers[&layer.name])).collect();
            let files = [File::new("layers"), File::new("layer-floats")];
            rewritten(&model, &replaced, &files[0]);
            rewritten(&model, &floats, &files[1]);
            let stored = open(&files[0].0, None);
            let named: Vec<String> = stored.plan().quantized_layers().into_keys().collect();
            assert_eq!(named, layers.keys().cloned().collect::<Vec<_>>(), "{}: integers stay integers", zoo.name);
            quantized += named.len();

            let [exact, expected] = [&files[0], &files[1]].map(|file| open(&file.0, Some(Precision::F32)));
            let request = Request::random(&expected, 5, 33);
            let scores = request.scores(&expected, None);
            assert_eq!(scores, request.scores(&exact, None), "{} {integer:?}", zoo.name);
            let error = |model: &Model| {
                let pairs = scores.iter().zip(request.scores(model, None));
                pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
            };
            // AdaSparse drops neurons below a threshold: near it, any difference counts.
            if zoo.name != "adasparse" {
                errors[number][0] += error(&stored);
                errors[number][1] += error(&open(&files[1].0, Some(precision)));
            }
        }
    }
    assert!(quantized > 750, "{quantized} layers in the whole zoo");
    let [[int8, int8_anew], [int12, int12_anew], [int16, int16_anew]] = errors;
    let are_stored = int8 < 1.1 * int8_anew && int12 < 0.9 * int12_anew && int16 < 0.9 * int16_anew;
    assert!(are_stored, "stored integers are packed anew: {errors:?}");
}

#[test]
fn stored_integers_have_the_same_bits_on_every_set_and_split() {
    for name in ["mmoe", "dffm", "graph", "pepnet_norm"] {
        let zoo = zoo::named(name);
        let model = open(&zoo.path, None);
        let mut replaced = tables_as(&model, Integer::Int4);
        for (layer, axis) in layers(&zoo) {
            replaced.push(quantize(&model.tensor(&layer).expect("a weight"), Integer::Int8, axis).expect("integers"));
        }
        let file = File::new("sets");
        rewritten(&model, &replaced, &file);
        let mut expected = None;
        for isa in ["scalar", "portable", "avx2", "avx512"] {
            for split in [true, false] {
                let isa = Some(isa.to_owned());
                let options = OpenOptions { isa, split, max_error: Some(1.0), ..OpenOptions::default() };
                let Ok(model) = Model::open(&file.0, &options) else { continue };
                let request = Request::random(&model, 3, 40);
                let scores = request.scores(&model, None);
                assert_eq!(expected.get_or_insert_with(|| scores.clone()), &scores, "{name} {options:?}");
            }
        }
    }
}

#[test]
fn a_rewritten_file_keeps_what_is_not_replaced() {
    let zoo = zoo::named("mmoe");
    let model = open(&zoo.path, None);
    let name = tables(&model).pop_first().expect("a table");
    let table = model.tensor(&name).expect("a table");
    let file = File::new("kept");

    rewritten(&model, &[], &file);
    let copy = open(&file.0, None);
    assert_eq!((copy.description_json(), copy.metadata()), (model.description_json(), model.metadata()));
    assert_eq!(copy.tensor(&name).expect("a table").bytes, table.bytes);

    let int8 = quantize(&table, Integer::Int8, 0).expect("integers");
    rewritten(&model, std::slice::from_ref(&int8), &file);
    let scale = format!("{name}.scale");
    let integers = open(&file.0, None);
    assert_eq!(integers.tensor(&scale).expect("scales").shape, [table.shape[0]]);

    // From integers back to floats the companion goes, in place and with another description and a new text.
    let described = model.description_json().replacen("\"features\"", " \"features\"", 1);
    let halves = [Arc::new(halve(&table).expect("halves"))];
    let texts = BTreeMap::from([("note".to_owned(), "\"in halves\"".to_owned())]);
    let floats = integers.replaced(&halves, &OpenOptions::default()).expect("floats");
    floats
        .write(&file.0, Some(&described), &texts, |temporary| {
            let complete = open(temporary, None);
            assert_eq!(complete.tensor(&name).expect("a table").dtype, Dtype::F16);
            assert!(open(&file.0, None).tensor(&scale).is_some(), "the old file is there until the new one is");
            Ok::<(), Error>(())
        })
        .expect("floats");
    let floats = open(&file.0, None);
    assert!(floats.tensor(&scale).is_none());
    assert_eq!(floats.description_json(), described);
    assert_eq!(floats.metadata()["note"], "\"in halves\"");
    assert!(model.metadata().iter().all(|(key, text)| floats.metadata().get(key) == Some(text)));
    // The mapping of what was there before is whole.
    assert_eq!(integers.tensor(&name).expect("a table").bytes, int8.bytes);

    // What `check` refuses leaves no file, and what was there stays.
    let refused =
        floats.write(&file.0, None, &BTreeMap::new(), |temporary| match Model::open(temporary, &Default::default()) {
            Ok(_) => Model::open("nowhere", &Default::default()).map(|_| ()),
            Err(error) => Err(error),
        });
    assert_eq!(refused.unwrap_err().subject(), "nowhere");
    assert_eq!(open(&file.0, None).description_json(), described);
    let folder = file.0.parent().expect("a folder");
    let stem = file.0.file_name().expect("a name").to_string_lossy().into_owned();
    let mut names = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.file_name());
    assert!(!names.any(|name| name.to_string_lossy().contains(&format!(".{stem}."))), "a temporary file is left");
}

#[test]
fn replacements_that_do_not_fit_are_refused() {
    let model = open(&zoo::named("mmoe").path, None);
    let name = tables(&model).pop_first().expect("a table");
    let table = quantize(&model.tensor(&name).expect("a table"), Integer::Int8, 0).expect("integers");
    let refusal = |replaced: &[&Replacement]| {
        let replaced: Vec<Arc<Replacement>> = replaced.iter().map(|&replaced| Arc::new(replaced.clone())).collect();
        model.replaced(&replaced, &OpenOptions::default()).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(refusal(&[&table, &table]), format!("{name}: is replaced twice"));
    assert_eq!(refusal(&[&Replacement { name: "none".into(), ..table.clone() }]), "none: is not in the model");
    let short = Replacement { shape: vec![1], ..table.clone() };
    assert_eq!(refusal(&[&short]), format!("{name}: has a shape that does not fit its bytes"));
    let short = Replacement { scales: Some(vec![1.0]), ..table.clone() };
    assert!(refusal(&[&short]).starts_with(&format!("{name}.scale: has shape [1], expected [")));
    let bare = Replacement { scales: None, ..table.clone() };
    assert!(refusal(&[&bare]).starts_with(&format!("{name}.scale: is missing")));
}

#[test]
fn what_is_not_a_matrix_of_finite_floats_is_refused() {
    let bytes: Vec<u8> = [1.0f32, -2.0, 3.0, f32::INFINITY].iter().flat_map(|value| value.to_le_bytes()).collect();
    let refusal = |dtype, shape: &[usize], bytes: &[u8], integer, axis| {
        quantize(&Tensor { name: "t", dtype, shape, bytes }, integer, axis).map(|_| ()).unwrap_err().to_string()
    };
    let int8 = Integer::Int8;
    assert_eq!(refusal(Dtype::F32, &[2, 2], &bytes, int8, 0), "t: element 3 is not a finite number");
    assert_eq!(refusal(Dtype::I32, &[2, 2], &bytes, int8, 0), "t: has type I32, expected F32, F16 or BF16");
    assert_eq!(refusal(Dtype::F32, &[2, 3], &bytes, int8, 1), "t: has a shape that does not fit its bytes");
    assert!(refusal(Dtype::F32, &[4], &bytes, int8, 0).starts_with("t: has shape [4], not rows and columns"));
    assert!(refusal(Dtype::F32, &[2, 2], &bytes, int8, 2).ends_with("along axis 2"));
    for (shape, axis) in [(&[1, 3], 0), (&[3, 1], 0)] {
        let detail = format!("t: has shape {shape:?}, int4 is for rows of an even width");
        assert_eq!(refusal(Dtype::F32, shape, &bytes[..12], Integer::Int4, axis), detail);
    }
    let large: Vec<u8> = 1e6f32.to_le_bytes().to_vec();
    let error = halve(&Tensor { name: "t", dtype: Dtype::F32, shape: &[1], bytes: &large }).map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "t: element 0 is not a finite number");
}
