//! `polyscore quantize`: what it writes keeps its bounds, says so, and is there whole or not at all.

mod zoo;

use polyscore::{Dtype, Model, OpenOptions, Role};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use zoo::{Request, Zoo, largest_difference};

fn hillstrom() -> Zoo {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/hillstrom.safetensors");
    Zoo { name: "hillstrom".to_owned(), path }
}

/// An empty folder of a test.
fn folder(test: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("quantize").join(test);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path")
}

fn run(verb: &str, model: &Path, others: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polyscore"));
    command.arg(verb).arg(model).args(others).output().expect("the program runs")
}

/// The report of a run that writes `out`.
fn report(model: &Path, out: &Path, others: &[&str]) -> Value {
    let output = run("quantize", model, &[&[text(out), "--json"], others].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What a run says that fails.
fn refusal(model: &Path, out: &Path, others: &[&str]) -> String {
    let output = run("quantize", model, &[&[text(out)], others].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).expect("a message")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// Requests in a file, with labels drawn from the model's own scores.
fn labelled(model: &Model, path: &Path, count: usize) -> Vec<Request> {
    let random = (0..).map(|seed| Request::random(model, seed, 40));
    // A feature that may be missing may be all that a candidate has.
    let requests: Vec<Request> = random.filter(|of| !of.columns(false).is_empty()).take(count).collect();
    let mut random = fastrand::Rng::with_seed(7);
    let mut lines = String::new();
    for request in &requests {
        let mut line = request.to_json(model);
        let scores = request.scores(model, None);
        for (task, scores) in model.description().tasks.iter().zip(scores.chunks(request.candidates)) {
            let labels: Vec<u8> = scores.iter().map(|score| u8::from(random.f32() < *score)).collect();
            line["labels"][&task.name] = json!(labels);
        }
        lines.push_str(&format!("{line}\n"));
    }
    std::fs::write(path, lines).expect("a file");
    requests
}

#[test]
fn new_files_keep_their_bounds_on_golden_requests_and_are_smaller() {
    let folder = folder("golden");
    let mut narrowed = 0;
    for zoo in
        ["mmoe", "dffm", "graph", "star", "pepnet_norm", "mmoe_f16"].map(zoo::named).into_iter().chain([hillstrom()])
    {
        let model = zoo.open(&OpenOptions::default());
        let out = folder.join(format!("{}.safetensors", zoo.name));
        let bound = 2e-3;
        let report = report(&zoo.path, &out, &["--max-error", "2e-3"]);

        // It opens with the bound that it states, and the report is what it says.
        let new = Model::open(&out, &OpenOptions::default()).unwrap_or_else(|error| panic!("{}: {error}", zoo.name));
        let told: Value = serde_json::from_str(&new.metadata()["polyscore.quantize"]).expect("JSON");
        assert_eq!(told, report, "{}", zoo.name);
        let mut error = 0.0f64;
        for golden in model.golden_requests().expect("golden requests") {
            let scores = [&model, &new].map(|model| {
                let mut scorer = model.scorer().expect("a scorer");
                let mut out = vec![0.0; model.description().tasks.len() * golden.candidates];
                scorer.prepare(golden.scenario, &zoo::views(&golden.request)).expect("prepare");
                scorer.score(golden.candidates, &zoo::views(&golden.candidate), None, &mut out).expect("score");
                out
            });
            error = error.max(largest_difference(&scores[0], &scores[1]));
        }
        assert!(error <= bound, "{}: {error}", zoo.name);
        assert_eq!(report["max_error"], json!(error), "{}", zoo.name);

        // The golden scores are those of training, and the tolerance is what training and the new types make of it, with
        // product tables or without.
        let golden = new.golden().expect("golden requests");
        let tolerance = |model: &Model| model.description().golden.as_ref().expect("golden").tolerance;
        let (before, after) = (tolerance(&model), tolerance(&new));
        let bare =
            Model::open(&out, &OpenOptions { product_bytes: 0, ..OpenOptions::default() }).expect("without tables");
        let error = golden.max_error.max(bare.golden().expect("golden requests").max_error);
        assert!(before + error <= after && after <= 1.1 * (before + error), "{}", zoo.name);
        assert_eq!((golden.bound, &report["golden"]["tolerance"]), (after, &json!(after)), "{}", zoo.name);
        let of = |model: &Model| {
            model.golden_requests().expect("golden").into_iter().map(|one| one.scores).collect::<Vec<_>>()
        };
        assert_eq!(of(&model), of(&new), "{}", zoo.name);

        // Each tensor has the type that the report names, and its error.
        let (mut before, mut after) = (0, 0);
        for tensor in report["tensors"].as_array().expect("tensors") {
            let name = tensor["name"].as_str().expect("a name");
            let [old, held] = [&model, &new].map(|model| model.tensor(name).expect("a tensor"));
            let is_changed = tensor["before"] != tensor["after"];
            assert_eq!(is_changed, old.dtype != held.dtype, "{}: {name}", zoo.name);
            assert_eq!(is_changed, tensor["max_error"].is_number(), "{}: {name}", zoo.name);
            let types = match tensor["after"].as_str().expect("a type") {
                "int4" => Dtype::U8,
                "int8" => Dtype::I8,
                "int12" | "int16" => Dtype::I16,
                "f16" => Dtype::F16,
                _ => old.dtype,
            };
            assert_eq!(held.dtype, types, "{}: {name}", zoo.name);
            let scale = new.tensor(&format!("{name}.scale")).map_or(0, |scale| scale.bytes.len());
            assert_eq!(tensor["bytes_after"], json!(held.bytes.len() + scale), "{}: {name}", zoo.name);
            before += old.bytes.len();
            after += held.bytes.len() + scale;
            narrowed += usize::from(is_changed);
        }
        assert_eq!((&report["bytes_before"], &report["bytes_after"]), (&json!(before), &json!(after)), "{}", zoo.name);
        assert!(after < before, "{}: {after} of {before} bytes", zoo.name);
    }
    assert!(narrowed > 60, "{narrowed} tensors in all");
}

#[test]
fn every_bound_is_kept_on_recorded_requests_with_labels() {
    let folder = folder("recorded");
    for zoo in [zoo::named("ple"), hillstrom()] {
        let model = zoo.open(&OpenOptions::default());
        let lines = folder.join("requests.jsonl");
        let requests = labelled(&model, &lines, 40);
        let out = folder.join("out.safetensors");
        let mut sizes = Vec::new();
        for (max_error, max_auc_loss, max_shift) in [(2e-2, 1e-3, 1e-2), (2e-2, 1e-3, 2e-4), (2e-4, 1e-3, 1e-2)] {
            let bounds = [max_error, max_auc_loss, max_shift].map(|bound: f64| bound.to_string());
            let [error, auc, shift] = &bounds;
            let options = ["--max-error", error, "--max-auc-loss", auc, "--max-calibration-shift", shift];
            let report = report(&zoo.path, &out, &[&["--requests", text(&lines)], &options[..]].concat());
            assert_eq!(
                report["requests"],
                json!({"source": "requests.jsonl", "requests": 40, "candidates": 1600, "labels": true})
            );

            let new = Model::open(&out, &OpenOptions::default()).expect("the new file");
            let errors = requests.iter().map(|of| largest_difference(&of.scores(&model, None), &of.scores(&new, None)));
            let largest = errors.fold(0.0, f64::max);
            assert!(largest <= max_error && report["max_error"] == json!(largest), "{}: {largest}", zoo.name);

            // `diff` measures the two files for itself.
            let output =
                run("diff", &zoo.path, &[&[text(&out), "--requests", text(&lines), "--json"], &options[..]].concat());
            assert!(output.status.success(), "{}: {}", zoo.name, String::from_utf8_lossy(&output.stderr));
            let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
            for (task, figures) in report["tasks"].as_object().expect("tasks") {
                let of = &told["tasks"][task];
                assert_eq!(figures["calibration_shift"], of["calibration"]["shift"], "{}: {task}", zoo.name);
                assert_eq!(figures["max_error"], of["error"]["max"], "{}: {task}", zoo.name);
                let loss = -of["against_labels"]["auc_change"].as_f64().expect("an AUC");
                assert_eq!(figures["auc_loss"].as_f64().expect("an AUC"), loss, "{}: {task}", zoo.name);
            }
            sizes.push(report["bytes_after"].as_u64().expect("bytes"));
        }
        assert!(sizes[0] < sizes[2] && sizes[0] <= sizes[1], "{}: {sizes:?} bytes", zoo.name);
    }
}

#[test]
fn types_can_be_asked_for() {
    let zoo = zoo::named("mmoe");
    let out = folder("asked").join("out.safetensors");
    let dtypes = |tables: &str, dense: &str| {
        report(&zoo.path, &out, &["--tables", tables, "--dense", dense, "--max-error", "1"]);
        let new = Model::open(&out, &OpenOptions::default()).expect("the new file");
        let of = |is_table: bool| {
            let mine = new.roles().filter(|(_, role)| (*role == Role::Table) == is_table);
            let mut dtypes: Vec<&str> = mine.map(|(tensor, _)| tensor.dtype.name()).collect();
            dtypes.sort_unstable();
            dtypes.dedup();
            dtypes.join(" ")
        };
        (of(true), of(false), new.plan().quantized_layers().len())
    };
    // Tables of an odd width have no int4; layers of logits stay.
    let (tables, dense, layers) = dtypes("int4", "int8");
    assert_eq!((&*tables, &*dense), ("I8 U8", "F32 I8"));
    assert!(layers > 10);
    assert_eq!(dtypes("keep", "int12"), ("F32".to_owned(), "F32 I16".to_owned(), layers));
    assert_eq!(dtypes("f16", "keep"), ("F16".to_owned(), "F32".to_owned(), 0));
    let types = dtypes("keep", "f16");
    assert_eq!((&*types.0, &*types.1), ("F32", "F16 F32"));
}

#[test]
fn a_file_of_integers_can_be_quantised_further() {
    let zoo = zoo::named("mmoe");
    let folder = folder("further");
    let [once, twice] = ["once.safetensors", "twice.safetensors"].map(|name| folder.join(name));
    let first = report(&zoo.path, &once, &["--dense", "keep", "--max-error", "5e-3"]);
    let second = report(&once, &twice, &["--tables", "keep", "--max-error", "5e-3"]);
    assert_eq!(second["previous"], first);
    assert_eq!(second["golden"]["tolerance_before"], first["golden"]["tolerance"]);
    Model::open(&twice, &OpenOptions::default()).expect("the new file");
    let message = refusal(&twice, &folder.join("thrice.safetensors"), &["--tables", "auto", "--dense", "keep"]);
    assert!(
        message.contains("nothing to do: no tensor is asked for that could be narrower")
            || message.contains("nothing keeps")
    );
}

#[test]
fn inspect_shows_the_report() {
    let zoo = hillstrom();
    let out = folder("inspect").join("out.safetensors");
    let report = report(&zoo.path, &out, &["--max-error", "1e-2"]);
    let output = run("inspect", &out, &["--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["quantized"], report);
    let told = String::from_utf8(run("inspect", &out, &[]).stdout).expect("a text");
    assert!(told.contains("quantized by polyscore "), "{told}");
    for tensor in report["tensors"].as_array().expect("tensors").iter().filter(|of| of["before"] != of["after"]) {
        let change = format!("f32 -> {}", tensor["after"].as_str().expect("a type"));
        let name = tensor["name"].as_str().expect("a name");
        assert!(told.lines().any(|line| line.contains(name) && line.contains(&change)), "{name}: {told}");
    }
    let told = String::from_utf8(run("inspect", &zoo.path, &[]).stdout).expect("a text");
    assert!(!told.contains("quantized by"));
}

#[test]
fn nothing_is_written_where_a_bound_breaks() {
    let zoo = zoo::named("mmoe");
    let folder = folder("refused");
    let out = folder.join("out.safetensors");
    let not_written = format!("{} is not written", out.display());
    let message = refusal(&zoo.path, &out, &["--max-error", "1e-12"]);
    assert!(message.starts_with("error: nothing keeps the bounds: the nearest, `"), "{message}");
    assert!(message.contains(" alone, has task `") && message.contains("above --max-error 1e-12"), "{message}");
    assert!(message.trim_end().ends_with(&not_written), "{message}");

    let message = refusal(&zoo.path, &out, &["--tables", "int4", "--dense", "int8", "--max-error", "1e-5"]);
    assert!(message.contains("tensors (") && message.contains(" as int4") && message.contains(" as int8"), "{message}");
    assert!(message.contains("the largest error is") && message.contains("above --max-error 1e-5"), "{message}");

    let options = ["--tables", "int4", "--dense", "keep", "--max-error", "1", "--max-calibration-shift", "0"];
    let message = refusal(&zoo.path, &out, &options);
    assert!(
        message.contains("the calibration shift is") && message.contains("above --max-calibration-shift 0e0"),
        "{message}"
    );

    let message = refusal(&zoo.path, &out, &["--tables", "keep", "--dense", "keep"]);
    assert!(message.contains("nothing to do") && message.contains(&not_written), "{message}");
    let message = refusal(&zoo.path, &out, &["--max-error=-1"]);
    assert_eq!(message, "error: --max-error: is -1, not a finite number from 0 on\n");
    assert!(refusal(&zoo.path, &out, &["--requests", "nowhere.jsonl"]).contains("nowhere.jsonl"));
    assert_eq!(names(&folder), Vec::<String>::new());

    // What was there stays.
    std::fs::write(&out, "an older file").expect("a file");
    refusal(&zoo.path, &out, &["--max-error", "1e-12"]);
    assert_eq!(std::fs::read(&out).expect("the older file"), b"an older file");
    assert_eq!(names(&folder), ["out.safetensors"]);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let zoo = hillstrom();
    let folder = folder("nowhere");
    let message = refusal(&zoo.path, &folder.join("missing/out.safetensors"), &["--max-error", "1e-2"]);
    assert!(message.starts_with("error: out.safetensors: "), "{message}");
    // A folder stands where the file should be: the temporary one goes.
    std::fs::create_dir_all(folder.join("out.safetensors/kept")).expect("a folder");
    refusal(&zoo.path, &folder.join("out.safetensors"), &["--max-error", "1e-2"]);
    assert_eq!(names(&folder), ["out.safetensors"]);
}

/// `ulimit -f` counts blocks of 512 bytes; the system ends a process that passes it, unless the signal is ignored: then the
/// write fails.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_or_failed_write_leaves_what_was_there() {
    let zoo = hillstrom();
    let folder = folder("killed");
    let out = folder.join("out.safetensors");
    let write = |before: &str| {
        let script = format!("{before} ulimit -c 0; ulimit -f 16; exec \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_polyscore"), "quantize", text(&zoo.path), text(&out)]);
        command.args(["--max-error", "1e-2"]).output().expect("a shell")
    };
    for old in [None, Some("an older file")] {
        if let Some(old) = old {
            std::fs::write(&out, old).expect("a file");
        }
        let killed = write("");
        assert_eq!(killed.status.code(), None, "the signal ends it");
        let there = std::fs::read_to_string(&out).ok();
        assert_eq!(there.as_deref(), old, "after the signal");
        let temporary = |name: &String| name.ends_with(".tmp");
        for name in names(&folder).into_iter().filter(temporary) {
            std::fs::remove_file(folder.join(name)).expect("what a killed process leaves");
        }

        let failed = write("trap '' XFSZ;");
        let message = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(1), "{message}");
        assert!(message.starts_with("error: out.safetensors: "), "{message}");
        assert_eq!(std::fs::read_to_string(&out).ok().as_deref(), old, "after the error");
        assert!(!names(&folder).iter().any(temporary), "a temporary file is left");
    }
}
