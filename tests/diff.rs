//! `polyscore diff`: every figure against its definition, written out pair by pair.

mod zoo;

use polyscore::{Model, OpenOptions, Precision};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn hillstrom() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/hillstrom.safetensors")
}

fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("diff");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path")
}

/// Exit code, standard output and standard error of `polyscore diff` with `input` on standard input.
fn diff(arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_polyscore"))
        .arg("diff")
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

fn report(arguments: &[&str], input: &str) -> Value {
    let (code, out, error) = diff(&[arguments, &["--json"]].concat(), input);
    assert_eq!(code, 0, "{error}");
    serde_json::from_str(&out).expect("JSON")
}

/// A candidate of a task: its request, both scores, and its label.
#[derive(Clone, Copy)]
struct Row {
    request: usize,
    a: f64,
    b: f64,
    label: Option<bool>,
}

fn close(value: &Value, expected: f64, what: &str) {
    let value = value.as_f64().unwrap_or_else(|| panic!("{what}: {value} is no number"));
    assert!((value - expected).abs() <= 1e-12 + 1e-9 * expected.abs(), "{what}: {value}, expected {expected}");
}

/// The AUC over all pairs, a row with itself too, by the weights of each row; `None` without both kinds.
fn auc(rows: &[(f64, f64, f64)]) -> Option<f64> {
    let (mut above, mut all) = (0.0, 0.0);
    for (positive, weight, _) in rows {
        for (negative, _, other) in rows {
            let order = if positive > negative {
                1.0
            } else if positive == negative {
                0.5
            } else {
                0.0
            };
            above += order * weight * other;
            all += weight * other;
        }
    }
    (all > 0.0).then(|| above / all)
}

fn check_quality(got: &Value, rows: &[(Row, f64, f64)], what: &str) {
    let scores = |side: fn(&Row) -> f64, rows: &[(Row, f64, f64)]| -> Vec<(f64, f64, f64)> {
        rows.iter().map(|(row, positive, negative)| (side(row), *positive, *negative)).collect()
    };
    let check = |key: &str, expected: Option<f64>| match expected {
        Some(expected) => close(&got[key], expected, &format!("{what} {key}")),
        None => assert!(got[key].is_null(), "{what} {key}: {}", got[key]),
    };
    type Side = (&'static str, fn(&Row) -> f64);
    let sides: [Side; 2] = [("a", |row| row.a), ("b", |row| row.b)];
    let mut losses = Vec::new();
    let mut whole = Vec::new();
    for (name, side) in sides {
        whole.push(auc(&scores(side, rows)));
        check(&format!("auc_{name}"), whole[whole.len() - 1]);
        let (mut sum, mut weight) = (0.0, 0.0);
        for request in 0..100 {
            let mine: Vec<_> = rows.iter().filter(|row| row.0.request == request).copied().collect();
            if let Some(auc) = auc(&scores(side, &mine)) {
                sum += mine.len() as f64 * auc;
                weight += mine.len() as f64;
            }
        }
        check(&format!("gauc_{name}"), (weight > 0.0).then(|| sum / weight));
        let loss = |(row, positive, negative): &(Row, f64, f64)| {
            -positive * side(row).ln() - negative * (1.0 - side(row)).ln()
        };
        losses.push(rows.iter().map(loss).sum::<f64>() / rows.len() as f64);
        check(&format!("log_loss_{name}"), Some(losses[losses.len() - 1]));
    }
    check("log_loss_change", Some(losses[1] - losses[0]));
    check("auc_change", whole[0].zip(whole[1]).map(|(a, b)| b - a));
    assert_eq!(got["candidates"], json!(rows.len()), "{what}");
    close(&got["positives"], rows.iter().map(|row| row.1).sum(), what);
}

fn check_figures(got: &Value, rows: &[Row], what: &str) {
    let requests: Vec<Vec<Row>> = (0..100)
        .map(|request| rows.iter().filter(|row| row.request == request).copied().collect::<Vec<Row>>())
        .filter(|rows| !rows.is_empty())
        .collect();
    assert_eq!(got["candidates"], json!(rows.len()), "{what}");
    assert_eq!(got["requests"], json!(requests.len()), "{what}");

    let mut errors: Vec<f64> = rows.iter().map(|row| (row.b - row.a).abs()).collect();
    errors.sort_by(f64::total_cmp);
    let count = errors.len() as f64;
    let quantile =
        |q: f64| *errors.iter().find(|e| errors.iter().filter(|x| x <= e).count() as f64 >= q * count).unwrap();
    let error = &got["error"];
    close(&error["max"], errors[errors.len() - 1], what);
    close(&error["mean"], errors.iter().sum::<f64>() / count, what);
    for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
        close(&error[name], quantile(q), &format!("{what} {name}"));
    }
    let worst = &error["worst"];
    close(&error["max"], (worst["a"].as_f64().unwrap() - worst["b"].as_f64().unwrap()).abs(), what);

    let sign = |x: f64, y: f64| x.partial_cmp(&y).unwrap() as i32;
    let (mut pairs, mut flips, mut first, mut longer, mut top) = (0, 0, 0, 0, 0);
    for rows in &requests {
        for i in 0..rows.len() {
            for j in 0..i {
                pairs += 1;
                flips += i32::from(sign(rows[i].a, rows[j].a) != sign(rows[i].b, rows[j].b));
            }
        }
        // The rank of a candidate: how many are better, or as good and earlier.
        let ranks = |side: fn(&Row) -> f64| -> Vec<usize> {
            let better =
                |i: usize, j: usize| side(&rows[j]) > side(&rows[i]) || (side(&rows[j]) == side(&rows[i]) && j < i);
            (0..rows.len()).map(|i| (0..rows.len()).filter(|j| better(i, *j)).count()).collect()
        };
        let (a, b) = (ranks(|row| row.a), ranks(|row| row.b));
        let differs = |k: usize| (0..rows.len()).any(|i| (a[i] < k) != (b[i] < k));
        first += i32::from(differs(1));
        longer += i32::from(rows.len() > 10);
        top += i32::from(rows.len() > 10 && differs(10));
    }
    let rank = &got["rank"];
    assert_eq!((&rank["pairs"], &rank["flips"]), (&json!(pairs), &json!(flips)), "{what}");
    assert_eq!((&rank["top1_changed"], &rank["top1_of"]), (&json!(first), &json!(requests.len())), "{what}");
    assert_eq!((&rank["top10_changed"], &rank["top10_of"]), (&json!(top), &json!(longer)), "{what}");
    close(&rank["flip_share"], if pairs == 0 { 0.0 } else { f64::from(flips) / f64::from(pairs) }, what);

    let mean = |side: fn(&Row) -> f64| rows.iter().map(side).sum::<f64>() / count;
    let (a, b) = (mean(|row| row.a), mean(|row| row.b));
    let calibration = &got["calibration"];
    close(&calibration["mean_a"], a, what);
    close(&calibration["mean_b"], b, what);
    close(&calibration["difference"], b - a, what);
    close(&calibration["shift"], b / a - 1.0, what);

    let soft: Vec<_> = rows.iter().map(|row| (*row, row.a, 1.0 - row.a)).collect();
    check_quality(&got["against_a"], &soft, &format!("{what} against A"));
    let weights = |label: bool| if label { (1.0, 0.0) } else { (0.0, 1.0) };
    let hard: Vec<_> = rows
        .iter()
        .filter_map(|row| row.label.map(weights).map(|(positive, negative)| (*row, positive, negative)))
        .collect();
    match hard.as_slice() {
        [] => assert!(got["against_labels"].is_null(), "{what}"),
        hard => check_quality(&got["against_labels"], hard, &format!("{what} against labels")),
    }
}

#[test]
fn every_figure_is_what_its_definition_says() {
    for name in ["pepnet", "mmoe", "star"] {
        let zoo = zoo::named(name);
        let a = zoo.open(&OpenOptions::default());
        let b = zoo.open(&OpenOptions { precision: Some(Precision::Bf16), ..OpenOptions::default() });
        let scenarios = a.description().scenarios.len();
        let mut random = fastrand::Rng::with_seed(5);
        let mut lines = String::new();
        // Rows by task, with the scenario that a report puts them under: one more than there are is the fallback.
        let mut rows: Vec<Vec<(Row, usize)>> = vec![Vec::new(); 3];
        for (request, count) in [1, 2, 7, 30, 12, 64, 11, 0, 10, 25].into_iter().enumerate() {
            let zoo_request = zoo::Request::random(&a, 40 + request as u64, count);
            let mut line = zoo_request.to_json(&a);
            let is_mixed = request % 3 == 2;
            let mut alone = zoo_request.clone();
            let known = |scenario: Option<u32>| scenario.map_or(scenarios, |index| (index as usize).min(scenarios));
            let mut of = vec![known(zoo_request.scenario); count];
            let mut scores = [zoo_request.scores(&a, None), zoo_request.scores(&b, None)];
            if is_mixed {
                of = (0..count).map(|_| random.usize(..=scenarios)).collect();
                let name = |scenario: &usize| {
                    a.description().scenarios.get(*scenario).map_or("nowhere", |scenario| &scenario.name)
                };
                line["scenarios"] = of.iter().map(name).collect();
                for scenario in 0..=scenarios {
                    alone.scenario = (scenario < scenarios).then_some(scenario as u32);
                    for (scores, model) in scores.iter_mut().zip([&a, &b]) {
                        let mine = alone.scores(model, None);
                        for place in (0..mine.len()).filter(|place| of[place % count] == scenario) {
                            scores[place] = mine[place];
                        }
                    }
                }
            }
            let mut labels = vec![vec![None; count]; 3];
            // ctr has labels in most requests, cvr in one, with gaps; ctcvr has none.
            if request != 3 {
                labels[0] = (0..count).map(|_| Some(random.u8(..4) == 0)).collect();
                line["labels"]["ctr"] = labels[0].iter().map(|label| json!(label.map(u8::from))).collect();
            }
            if request == 5 {
                labels[1] = (0..count).map(|_| (random.u8(..3) == 0).then(|| random.bool())).collect();
                line["labels"]["cvr"] = labels[1].iter().map(|label| json!(label.map(u8::from))).collect();
            }
            for task in 0..3 {
                for candidate in 0..count {
                    let [a, b] = [0, 1].map(|side: usize| f64::from(scores[side][task * count + candidate]));
                    rows[task].push((Row { request, a, b, label: labels[task][candidate] }, of[candidate]));
                }
            }
            lines.push_str(&format!("{line}\n"));
        }
        let got = report(&[path(&zoo.path), "--precision-b", "bf16", "--requests", "-"], &lines);
        assert_eq!(got["requests"], json!(10));
        for (task, name) in ["ctr", "cvr", "ctcvr"].into_iter().enumerate() {
            let all: Vec<Row> = rows[task].iter().map(|(row, _)| *row).collect();
            assert!(all.iter().any(|row| row.a != row.b), "the comparison is of equal scores");
            check_figures(&got["tasks"][name], &all, &format!("{} {name}", zoo.name));
            let mut parts = got["tasks"][name]["scenarios"].as_array().expect("scenarios").iter();
            for scenario in 0..=scenarios {
                let mine: Vec<Row> = rows[task].iter().filter(|(_, of)| *of == scenario).map(|(row, _)| *row).collect();
                if mine.is_empty() {
                    continue;
                }
                let part = parts.next().expect("a scenario");
                let expected = a.description().scenarios.get(scenario).map(|scenario| &scenario.name);
                assert_eq!(part["scenario"], json!(expected));
                check_figures(part, &mine, &format!("{} {name} scenario {scenario}", zoo.name));
            }
            assert!(parts.next().is_none());
        }
    }
}

#[test]
fn a_model_does_not_differ_from_itself() {
    for zoo in zoo::all() {
        let got = report(&[path(&zoo.path), "--isa-b", "scalar", "--random", "3", "--candidates", "20"], "");
        for (name, task) in got["tasks"].as_object().expect("tasks") {
            assert_eq!(
                (&task["error"]["max"], &task["rank"]["flips"]),
                (&json!(0.0), &json!(0)),
                "{} {name}",
                zoo.name
            );
            assert_eq!(task["calibration"]["shift"], json!(0.0));
        }
        let steps = &got["steps"];
        assert_eq!((&steps["first"], &steps["only_a"], &steps["only_b"]), (&Value::Null, &json!([]), &json!([])));
        assert_eq!(steps["candidates"], json!(3 * 16));
    }
}

#[test]
fn the_golden_requests_are_the_default() {
    let got = report(&[path(&hillstrom()), "--precision-b", "f16"], "");
    assert_eq!((&got["source"], &got["requests"]), (&json!("golden"), &json!(4)));
    let model = Model::open(hillstrom(), &OpenOptions { precision: Some(Precision::F16), ..OpenOptions::default() });
    let golden = model.expect("a model").golden().expect("a report").max_error;
    assert_eq!(got["b"]["golden_error"], json!(golden));
    let largest = got["tasks"].as_object().expect("tasks").values();
    let largest = largest.filter_map(|task| task["error"]["max"].as_f64()).fold(0.0, f64::max);
    assert!((largest - golden).abs() < 1e-6, "{largest} and {golden}");
}

#[test]
fn a_model_that_misses_its_golden_scores_is_compared() {
    let zoo = zoo::named("mmoe");
    let other = changed(&zoo, "heads.ctr.bias", |_, bias| bias + 3.0);
    assert!(Model::open(&other, &OpenOptions::default()).is_err());
    let got = report(&[path(&zoo.path), path(&other)], "");
    assert!(got["b"]["golden_error"].as_f64() > Some(0.1));
    assert_eq!(got["steps"]["first"]["name"], json!("heads.ctr"));
}

/// The model with `change` applied to the f32 of one tensor.
fn changed(zoo: &zoo::Zoo, tensor: &str, change: impl Fn(usize, f32) -> f32) -> PathBuf {
    let mut bytes = std::fs::read(&zoo.path).expect("the model");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("the header");
    let offset = |end: usize| 8 + length + header[tensor]["data_offsets"][end].as_u64().expect("an offset") as usize;
    for (index, number) in bytes[offset(0)..offset(1)].chunks_exact_mut(4).enumerate() {
        let value = f32::from_le_bytes(number.as_ref().try_into().expect("4 bytes"));
        number.copy_from_slice(&change(index, value).to_le_bytes());
    }
    let to = folder().join(format!("{}-{tensor}.safetensors", zoo.name));
    std::fs::write(&to, bytes).expect("written");
    to
}

#[test]
fn the_step_whose_weights_differ_is_found() {
    let zoo = zoo::named("mmoe");
    let other = changed(&zoo, "towers.cvr.0.linear.weight", |_, weight| weight * 1.25);
    let got = report(&[path(&zoo.path), path(&other)], "");
    let steps = &got["steps"];
    for found in [&steps["first"], &steps["costliest"]] {
        assert_eq!(found["name"], json!("towers.cvr.0.linear"));
        assert!(found["drift"]["relative"].as_f64() > Some(0.01));
    }
    // Nothing else differs by itself, though what reads it drifts; and it alone makes the whole error.
    let all = steps["steps"].as_array().expect("steps");
    let own = all.iter().filter(|step| step["own"]["max"] != json!(0.0)).count();
    let drifting = all.iter().filter(|step| step["drift"]["max"] != json!(0.0)).count();
    assert!(own == 1 && drifting > 1, "{own} and {drifting}");
    let largest = got["tasks"]["cvr"]["error"]["max"].as_f64().expect("an error");
    assert!(largest > 1e-3);
    close(&steps["costliest"]["moves"], largest, "what the step moves");
    assert_eq!(got["tasks"]["ctr"]["error"]["max"], json!(0.0));
    let (_, text, _) = diff(&[path(&zoo.path), path(&other)], "");
    assert!(text.contains("first step that differs: candidate dense towers.cvr.0.linear"), "{text}");
    // A tolerance above the drift of that step: the first is none, or another one further on.
    let got = report(&[path(&zoo.path), path(&other), "--tolerance", "1e9"], "");
    assert_eq!(got["steps"]["first"], Value::Null);
    // With other tasks only, the scores do not move.
    let got = report(&[path(&zoo.path), path(&other), "--tasks", "ctr"], "");
    assert_eq!(got["steps"]["costliest"]["moves"], json!(0.0));
}

#[test]
fn a_step_of_the_scenario_or_the_request_is_found_too() {
    for name in ["pepnet", "dffm"] {
        let zoo = zoo::named(name);
        let got = report(&[path(&zoo.path), "--precision-b", "f16", "--random", "2"], "");
        let stages: Vec<&str> = got["steps"]["steps"]
            .as_array()
            .expect("steps")
            .iter()
            .filter(|step| step["own"]["max"].as_f64() > Some(0.0))
            .filter_map(|step| step["stage"].as_str())
            .collect();
        assert!(stages.contains(&"request") && stages.contains(&"candidate"), "{name}: {stages:?}");
        assert_eq!(stages.contains(&"scenario"), name == "pepnet", "{stages:?}");
    }
}

#[test]
fn plans_that_differ_are_said_to() {
    let [a, b] = ["shared_bottom", "mmoe"].map(zoo::named);
    let (code, out, error) = diff(&[path(&a.path), path(&b.path)], "");
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("only in A, such as") && out.contains("only in B, such as"), "{out}");
}

#[test]
fn bounds_are_held_and_name_the_task() {
    let zoo = zoo::named("mmoe");
    let other = changed(&zoo, "heads.cvr.bias", |_, bias| bias + 0.5);
    let models = [path(&zoo.path), path(&other)];
    let got = report(&models, "");
    let largest = got["tasks"]["cvr"]["error"]["max"].as_f64().expect("an error");
    let shift = got["tasks"]["cvr"]["calibration"]["shift"].as_f64().expect("a shift");
    for (option, figure) in [("--max-error", largest), ("--max-calibration-shift", shift)] {
        let (code, out, error) =
            diff(&[&models[..], &[option, &format!("{}", figure * 1.01), "--tasks", "cvr"]].concat(), "");
        assert!(code == 0 && error.is_empty() && out.contains("cvr"), "{error}");
        let (code, out, error) = diff(&[&models[..], &[option, &format!("{}", figure * 0.99)]].concat(), "");
        assert!(code == 1 && error.starts_with("error: task `cvr`: ") && error.contains(option), "{error}");
        assert!(out.contains("cvr"), "the report is printed before");
    }
    // A bias moves all scores of a task alike, so their order stays.
    assert_eq!(diff(&[&models[..], &["--max-auc-loss", "1e-9", "--tasks", "cvr"]].concat(), "").0, 0);
    let other = changed(&zoo, "heads.ctr.weight", |_, weight| -weight);
    let (code, _, error) = diff(&[path(&zoo.path), path(&other), "--max-auc-loss", "0.01"], "");
    assert!(code == 1 && error.starts_with("error: task `ctr`: the loss of AUC is "), "{error}");
    for bound in ["nan", "-1", "inf"] {
        let (code, out, error) = diff(&[&models[..], &[&format!("--max-auc-loss={bound}")]].concat(), "");
        assert!(code == 1 && out.is_empty() && error.starts_with("error: --max-auc-loss: is "), "{error}");
    }
}

#[test]
fn a_bad_request_is_named_by_its_line() {
    let model = hillstrom();
    let good = r#"{"scenario": "Web", "request": {"history": 1.5, "mens": 1, "womens": 0},
        "candidates": {"email": ["No E-Mail", "Mens E-Mail"]}, "labels": {"visit": [0, 1]}}"#
        .replace('\n', " ");
    let cases = [
        ("{", "not JSON: EOF while parsing an object at line 1 column 1"),
        (r#"{"labels": {"visit": [1]}, "candidates": {"email": []}}"#, "labels.visit: has 1 labels for 0 candidates"),
        (r#"{"labels": {"visits": []}}"#, "labels.visits: is not a task of the model"),
        (r#"{"labels": {"visit": [2]}, "candidates": {"email": ["x"]}}"#, "labels.visit[0]: expected 0, 1 or null"),
        (r#"{"labels": {"visit": ["1"]}, "candidates": {"email": ["x"]}}"#, "labels.visit[0]: expected 0, 1 or null"),
        (
            r#"{"labels": {"visit": [NaN]}, "candidates": {"email": ["x"]}}"#,
            "not JSON: expected value at line 1 column 23",
        ),
    ];
    for (line, message) in cases {
        let (code, out, error) = diff(&[path(&model), "--requests", "-"], &format!("{good}\n\n{line}\n{good}\n"));
        assert_eq!((code, error.as_str()), (1, format!("error: line 3: {message}\n").as_str()), "{line}");
        assert!(out.is_empty());
    }
    let wrong = r#"{"request": {"email": "x"}}"#;
    let (code, _, error) = diff(&[path(&model), "--requests", "-"], wrong);
    assert!(
        code == 1 && error.starts_with("error: line 1: A (") && error.contains("feature `email`: has its column"),
        "{error}"
    );
    let (code, _, error) = diff(&[path(&model), "--requests", "-"], "\n");
    assert_eq!((code, error.as_str()), (1, "error: -: has no candidates to compare\n"));
    let (code, _, error) = diff(&[path(&model), "--requests", "no-such-file"], "");
    assert!(code == 1 && error.starts_with("error: no-such-file: "), "{error}");
    assert_eq!(diff(&[path(&model), "--requests", "-", "--random", "3"], "").0, 2);
}

#[test]
fn models_that_take_or_give_other_things_are_refused_by_name() {
    let (zoo, hillstrom) = (zoo::named("mmoe"), hillstrom());
    let (code, _, error) = diff(&[path(&zoo.path), path(&hillstrom)], "");
    assert!(code == 1 && error.starts_with("error: feature `") && error.contains("is not in B ("), "{error}");
    let graph = zoo::named("graph");
    let (code, _, error) = diff(&[path(&zoo.path), path(&graph.path)], "");
    let message = format!(
        "error: feature `user`: takes 1 integers or texts per request in A ({}), 1 integers per request in B ({})\n",
        path(&zoo.path),
        path(&graph.path)
    );
    assert_eq!((code, error), (1, message));
    let (code, _, error) = diff(&[path(&zoo.path), path(&zoo::named("mmoe_din").path)], "");
    assert!(code == 1 && error.starts_with("error: feature `clicks`: is needed by B ("), "{error}");
    let (code, _, error) = diff(&[path(&zoo.path), "--tasks", "ctr,buy"], "");
    assert!(code == 1 && error.starts_with("error: task `buy`: is not in A ("), "{error}");
    let (code, _, error) = diff(&[path(&zoo.path), "--tasks", "ctr,ctr"], "");
    assert_eq!((code, error.as_str()), (1, "error: --tasks: `ctr` is named twice\n"));
    let (code, _, error) = diff(&[path(&zoo.path), "no-such-model"], "");
    assert!(code == 1 && error.starts_with("error: no-such-model: "), "{error}");
}

/// A model whose description has `from` replaced, which may have another length.
fn described(model: &Path, from: &str, to: &str) -> PathBuf {
    let bytes = std::fs::read(model).expect("the model");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("the header");
    let description = header["__metadata__"]["polyscore"].as_str().expect("a description").to_owned();
    assert!(description.contains(from), "{description}");
    header["__metadata__"]["polyscore"] = json!(description.replacen(from, to, 1));
    let mut header = header.to_string().into_bytes();
    header.resize(header.len().next_multiple_of(64) + 56, b' ');
    let out = [&(header.len() as u64).to_le_bytes()[..], &header, &bytes[8 + length..]].concat();
    let path = folder().join("described.safetensors");
    std::fs::write(&path, out).expect("written");
    path
}

#[test]
fn scenarios_of_one_model_only_are_noted() {
    let zoo = zoo::named("mmoe");
    let text = std::fs::read(&zoo.path).expect("the model");
    let length = u64::from_le_bytes(text[..8].try_into().expect("8 bytes")) as usize;
    let header: Value = serde_json::from_slice(&text[8..8 + length]).expect("the header");
    let description: Value =
        serde_json::from_str(header["__metadata__"]["polyscore"].as_str().expect("text")).expect("JSON");
    let name = description["scenarios"][0]["name"].as_str().expect("a name");
    let other = described(&zoo.path, &format!("\"{name}\""), "\"elsewhere\"");
    let got = report(&[path(&zoo.path), path(&other), "--random", "8"], "");
    let notes = got["notes"].to_string();
    assert!(notes.contains(&format!("scenario `{name}` is only in A")), "{notes}");
    assert!(notes.contains("scenario `elsewhere` is only in B"), "{notes}");
}

#[test]
fn help_says_what_it_does() {
    let (code, out, _) = diff(&["--help"], "");
    assert_eq!(code, 0);
    for word in ["--precision-a", "--precision-b", "--isa-b", "--max-auc-loss", "golden", "labels"] {
        assert!(out.contains(word), "--help does not say {word}");
    }
}
