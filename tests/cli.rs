//! The command line, as a person runs it.

mod zoo;

use polyscore::OpenOptions;
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn hillstrom() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/hillstrom.safetensors")
}

/// Exit code, standard output and standard error of a run with `input` on standard input.
fn run(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_polyscore"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    // A run that fails early closes its input.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("the program ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("an exit code"), text(&output.stdout), text(&output.stderr))
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path")
}

const REQUEST: &str = r#"{"scenario": "Web", "request": {"recency": 2, "history_segment": "2) $100 - $200", "history": 150.0, "mens": 1,
    "womens": 0, "zip_code": "Urban", "newbie": 0}, "candidates": {"email": ["No E-Mail", "Mens E-Mail"]}}"#;

#[test]
fn help_explains_every_verb() {
    let (code, out, _) = run(&["--help"], "");
    assert_eq!(code, 0);
    for word in ["inspect", "check", "score", "bench", "diff", "quantize", "pack", "Examples:", "\"candidates\""] {
        assert!(out.contains(word), "--help does not say {word}");
    }
    for verb in ["inspect", "check", "score", "bench", "diff"] {
        let (code, out, _) = run(&[verb, "--help"], "");
        assert!(code == 0 && out.contains("--precision") && out.contains("--isa"), "{verb}: {out}");
    }
    let (code, out, _) = run(&["quantize", "--help"], "");
    let options = ["--requests", "--max-error", "--max-auc-loss", "--max-calibration-shift", "--tables", "--dense"];
    assert!(code == 0 && options.iter().all(|option| out.contains(option)), "{out}");
    assert_eq!(run(&[], "").0, 2);
    assert_eq!(run(&["inspect"], "").0, 2);
    assert_eq!(run(&["frobnicate"], "").0, 2);
}

#[test]
fn check_says_what_it_proved_or_what_is_wrong() {
    let model = hillstrom();
    let (code, out, _) = run(&["check", path(&model)], "");
    assert!(code == 0 && out.contains("4 golden requests, 36 scores"), "{out}");

    let bytes = std::fs::read(&model).expect("the model");
    let damaged = folder().join("damaged.safetensors");
    std::fs::write(&damaged, &bytes[..bytes.len() - 1]).expect("written");
    let (code, out, error) = run(&["check", path(&damaged)], "");
    assert!(code == 1 && out.is_empty() && error.contains("damaged.safetensors: golden.3."), "{error}");
    let (code, _, error) = run(&["check", "no-such-file"], "");
    assert!(code == 1 && error.starts_with("error: no-such-file: "), "{error}");
    let (code, _, error) = run(&["check", path(&model), "--max-error", "1e-12"], "");
    assert!(code == 1 && error.contains("golden.requests[") && error.contains("1e-12"), "{error}");
    for bound in ["nan", "-1", "inf"] {
        let (code, _, error) = run(&["check", path(&model), &format!("--max-error={bound}")], "");
        assert!(
            code == 1
                && error.ends_with(&format!(
                    "max_error: is {}, not a finite number from 0 on\n",
                    bound.replace("nan", "NaN")
                )),
            "{error}"
        );
    }
    let (code, _, error) = run(&["check", path(&model), "--isa", "sse9"], "");
    assert_eq!(
        (code, error.as_str()),
        (1, "error: isa: `sse9` is not one of scalar, portable, avx2, avx512, avx512bf16, amx, neon\n")
    );
}

#[test]
fn the_environment_chooses_the_kernel_set_unless_an_option_does() {
    let model = hillstrom();
    let check = |isa: &str, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_polyscore"));
        let output = command.env("POLYSCORE_ISA", isa).args(["check", path(&model)]).args(arguments).output();
        let output = output.expect("the program runs");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (ok, text) = check("scalar", &[]);
    assert!(ok && text.contains("with scalar"), "{text}");
    let (ok, text) = check("scalar", &["--isa", "portable"]);
    assert!(ok && text.contains("with portable"), "{text}");
    let (ok, text) = check("sve", &[]);
    assert!(
        !ok && text
            == "error: POLYSCORE_ISA: `sve` is not one of scalar, portable, avx2, avx512, avx512bf16, amx, neon\n",
        "{text}"
    );
    assert!(check("", &[]).0, "an empty variable is none");
}

#[test]
fn inspect_shows_the_model_and_its_plan() {
    let model = hillstrom();
    let (code, out, _) = run(&["inspect", path(&model), "--isa", "portable"], "");
    assert_eq!(code, 0);
    for word in [
        "hillstrom-pepnet",
        "vocabulary of 3, table embeddings.zip_code.weight [4, 8] F32",
        "= visit * conversion_given_visit",
        "isa portable",
        "epnet.reduce",
        "request   dense",
        "packed weights",
        "multiply-adds",
    ] {
        assert!(out.contains(word), "inspect does not show {word}:\n{out}");
    }
    let (code, out, _) = run(&["inspect", path(&model), "--json"], "");
    let value: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &value["description"]["network"]["type"]), (0, &json!("pepnet")));
    assert!(value["steps"].as_array().expect("steps").len() > 20);
}

#[test]
fn score_gives_the_bits_of_the_library() {
    for zoo in zoo::all() {
        let model = zoo.open(&OpenOptions::default());
        let request = zoo::Request::random(&model, 11, 6);
        let expected = request.scores(&model, None);
        let (code, out, error) = run(&["score", path(&zoo.path)], &request.to_json(&model).to_string());
        assert_eq!(code, 0, "{error}");
        let scores: Value = serde_json::from_str(&out).expect("JSON");
        for (task, name) in ["ctr", "cvr", "ctcvr"].iter().enumerate() {
            let scores: Vec<f32> = serde_json::from_value(scores["scores"][name].clone()).expect("scores");
            assert_eq!(zoo::bits(&scores), zoo::bits(&expected[task * 6..][..6]), "{} {name}", zoo.name);
        }
    }
}

#[test]
fn each_candidate_may_have_a_scenario_of_its_own() {
    let zoo = zoo::named("pepnet");
    let model = zoo.open(&OpenOptions::default());
    let request = zoo::Request::random(&model, 5, 6);
    let scenarios = [json!("feed"), json!(20), json!(null), json!("nowhere"), json!(10), json!("video")];
    let indices = [Some(0), Some(1), None, None, Some(0), Some(2)];
    let mut line = request.to_json(&model);
    line["scenarios"] = json!(scenarios);
    for scenario in [json!("splash"), json!(null)] {
        line["scenario"] = scenario;
        let (code, out, error) = run(&["score", path(&zoo.path)], &line.to_string());
        assert_eq!(code, 0, "{error}");
        let scores: Value = serde_json::from_str(&out).expect("JSON");
        let scores: Vec<f32> = serde_json::from_value(scores["scores"]["cvr"].clone()).expect("scores");
        for (candidate, index) in indices.into_iter().enumerate() {
            let mut alone = request.clone();
            alone.scenario = index;
            let expected = alone.scores(&model, Some(&[1]))[candidate];
            assert_eq!(scores[candidate].to_bits(), expected.to_bits(), "candidate {candidate}");
        }
    }
}

#[test]
fn keys_find_candidates_in_the_item_cache() {
    let zoo = zoo::named("mmoe");
    let model = zoo.open(&OpenOptions::default());
    let request = zoo::Request::random(&model, 5, 4);
    let mut line = request.to_json(&model);
    let (_, expected, _) = run(&["score", path(&zoo.path)], &line.to_string());
    line["keys"] = json!([8, null, -9_007_199_254_740_993_i64, 10]);
    let lines = format!("{line}\n{line}\n");
    let (code, out, error) =
        run(&["score", path(&zoo.path), "--item-bytes", "100000", "--item-rows", "f32-always"], &lines);
    assert_eq!((code, out.as_str()), (0, expected.repeat(2).as_str()), "{error}");
    for (keys, message) in [
        (json!([1, 2]), "keys: expected an array, an item key for each of 4 candidates"),
        (json!([1, 2, 3, "x"]), "keys[3]: expected an integer or null"),
        (json!([1, 2, 3, 1.5]), "keys[3]: expected an integer or null"),
    ] {
        line["keys"] = keys;
        let (code, _, error) = run(&["score", path(&zoo.path)], &line.to_string());
        assert_eq!((code, error.as_str()), (1, format!("error: line 1: {message}\n").as_str()));
    }
    let (_, shown, _) = run(&["inspect", path(&zoo.path), "--item-bytes", "100000", "--item-rows", "f32-always"], "");
    assert!(shown.contains("item cache\n") && shown.contains("item      item      dense"), "{shown}");
}

#[test]
fn tasks_are_chosen_by_the_line_or_the_option() {
    let model = hillstrom();
    let request = REQUEST.replace('\n', " ");
    let (_, all, _) = run(&["score", path(&model)], &request);
    let all: Value = serde_json::from_str(&all).expect("JSON");
    let (code, one, _) = run(&["score", path(&model), "-", "--tasks", "conversion"], &request);
    let one: Value = serde_json::from_str(&one).expect("JSON");
    assert_eq!((code, &one), (0, &json!({"scores": {"conversion": all["scores"]["conversion"]}})));
    let asked = request.replacen('{', r#"{"tasks": ["visit"], "#, 1);
    let (_, visit, _) = run(&["score", path(&model)], &format!("\n{asked}\n\n"));
    let visit: Value = serde_json::from_str(&visit).expect("JSON");
    assert_eq!(visit, json!({"scores": {"visit": all["scores"]["visit"]}}));
    let (code, _, error) = run(&["score", path(&model), "-", "--tasks", "visits"], &request);
    assert_eq!((code, error.as_str()), (1, "error: --tasks: `visits` is not a task of the model\n"));
}

#[test]
fn a_bad_line_is_named_with_its_path() {
    let model = hillstrom();
    let good = REQUEST.replace('\n', " ");
    let cases = [
        ("{", "not JSON: EOF while parsing an object at line 1 column 1"),
        ("[1]", "expected an object"),
        (
            r#"{"requests": {}}"#,
            "requests: is not known; a request has scenario, scenarios, request, candidates, keys, tasks and labels",
        ),
        (r#"{"scenario": 1.5}"#, "scenario: expected a name, an id or null"),
        (r#"{"scenarios": "Web"}"#, "scenarios: expected an array, a scenario per candidate"),
        (r#"{"scenarios": ["Web", [1]]}"#, "scenarios[1]: expected a name, an id or null"),
        (r#"{"scenarios": ["Web"], "candidates": {"email": ["x", "y"]}}"#, "scenarios: has 1 entries for 2 candidates"),
        (r#"{"request": []}"#, "request: expected an object of features"),
        (r#"{"candidates": {"email": "No E-Mail"}}"#, "candidates.email: expected an array, one entry per candidate"),
        (r#"{"candidates": {"email": [1]}}"#, "candidates.email[0]: expected a text"),
        (r#"{"candidates": {"mail": ["x"]}}"#, "candidates.mail: is not a feature of the model"),
        (r#"{"request": {"mens": 1.5}, "candidates": {"email": []}}"#, "request.mens: 1.5 is not a 64-bit integer"),
        (r#"{"request": {"mens": "1"}, "candidates": {"email": []}}"#, "request.mens: expected an integer"),
        (r#"{"request": {"history": "1"}, "candidates": {"email": []}}"#, "request.history: expected a number"),
        (r#"{"tasks": ["x"], "candidates": {"email": []}}"#, "tasks[0]: `x` is not a task of the model"),
        (r#"{"tasks": "x"}"#, "tasks: expected an array of names"),
        (r#"{"labels": [1]}"#, "labels: expected an object of tasks"),
        (r#"{"labels": {"buy": [1]}}"#, "labels.buy: is not a task of the model"),
        (r#"{"labels": {"visit": 1}}"#, "labels.visit: expected an array, one per candidate"),
        (
            r#"{"labels": {"visit": [1]}, "candidates": {"email": ["x", "y"]}}"#,
            "labels.visit: has 1 labels for 2 candidates",
        ),
        (
            r#"{"labels": {"visit": [1, 0.5]}, "candidates": {"email": ["x", "y"]}}"#,
            "labels.visit[1]: expected 0, 1 or null",
        ),
        (r#"{"labels": {"visit": [true]}, "candidates": {"email": ["x"]}}"#, "labels.visit[0]: expected 0, 1 or null"),
        (r#"{"tasks": ["visit", "visit"], "candidates": {"email": ["x"]}}"#, "task `visit`: was asked for twice"),
        (
            r#"{"request": {"email": "x"}}"#,
            "feature `email`: has its column on the wrong side: request columns go to prepare, all others to score",
        ),
    ];
    for (line, message) in cases {
        let (code, out, error) = run(&["score", path(&model)], &format!("{good}\n{line}\n{good}\n"));
        assert_eq!((code, error.as_str()), (1, format!("error: line 2: {message}\n").as_str()), "{line}");
        assert_eq!(out.lines().count(), 1, "the line before it is scored");
    }
    let (code, _, error) = run(&["score", path(&model), "no-such-requests"], "");
    assert!(code == 1 && error.starts_with("error: no-such-requests: "), "{error}");
}

#[test]
fn bench_measures_and_counts_no_allocation() {
    let model = hillstrom();
    let requests = model.with_file_name("hillstrom.requests.jsonl");
    for extra in [&["--candidates", "1,9"][..], &["--requests", path(&requests)]] {
        let (code, out, error) = run(&[&["bench", path(&model), "--seconds", "0.02", "--json"], extra].concat(), "");
        assert_eq!(code, 0, "{error}");
        let value: Value = serde_json::from_str(&out).expect("JSON");
        for measured in value["measured"].as_array().expect("rows") {
            assert_eq!(measured["allocations"], json!(0));
            assert!(measured["prepare_and_score_us"]["p50"].as_f64() > Some(0.0), "{measured}");
        }
        let shares = value["steps"].as_array().expect("steps").iter().filter_map(|step| step["share"].as_f64());
        assert!((0.1..=1.0001).contains(&shares.sum::<f64>()));
    }
    let (code, out, _) = run(&["bench", path(&model), "--seconds", "0.02", "--candidates", "3"], "");
    assert!(code == 0 && out.contains("prepare + score") && out.contains("share of the time"), "{out}");
    // Enough candidates that the threads share them.
    let shared = ["bench", path(&model), "--seconds", "0.02", "--candidates", "9000", "--threads", "2", "--json"];
    let (code, out, error) = run(&shared, "");
    let value: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{error}"));
    assert!(code == 0 && value["measured"][0]["allocations"].as_u64() > Some(0), "{out}");
    assert_eq!(run(&["bench", path(&model), "--threads", "2", "--pin", "0"], "").0, 2);
    assert!(run(&["bench", path(&model), "--threads", "257"], "").2.contains("threads: is 257, not 1 to 256"));
}

#[test]
fn pack_writes_a_file_whose_layers_are_mapped() {
    let (model, folder) = (hillstrom(), folder());
    let (out, requests) = (folder.join("packed.safetensors"), model.with_extension("requests.jsonl"));
    for precision in [&[][..], &["--precision", "int16"]] {
        let (code, told, error) = run(&[&["pack", path(&model), path(&out)], precision].concat(), "");
        assert_eq!(code, 0, "{error}");
        assert!(told.contains(" layers packed: "), "{told}");
        let of = |verb: &str, model: &Path, last: &str| {
            let (code, text, error) = run(&[&[verb, path(model), last], precision].concat(), "");
            assert_eq!(code, 0, "{error}");
            text
        };
        let inspected = |model: &Path| {
            let told: Value = serde_json::from_str(&of("inspect", model, "--json")).expect("JSON");
            (told["bytes"]["packed"].as_u64().expect("bytes"), told["isa"] == "amx")
        };
        let ((packed, has_tiles), (unpacked, _)) = (inspected(&out), inspected(&model));
        // Tile registers read int16 in planes, which are as large as the layers, and made at open.
        let planes = if has_tiles && !precision.is_empty() { unpacked / 2 } else { 0 };
        assert!((packed - planes) * 3 < unpacked - planes, "{packed} {unpacked}");
        assert_eq!(of("score", &out, path(&requests)), of("score", &model, path(&requests)));
    }
    let (code, _, error) = run(&["pack", path(&model), "no-such-folder/packed.safetensors"], "");
    assert_eq!(code, 1);
    assert!(error.contains("packed.safetensors"), "{error}");
}
