//! Promise 3: the same row gives the same bits, whatever the batch, order, tile, split, task set or instruction set.

mod zoo;

use polyscore::{Mode, Model, OpenOptions};
use zoo::{Request, bits};

fn folder(name: &str) -> std::path::PathBuf {
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a folder for the zoo");
    folder
}

fn isas() -> Vec<String> {
    ["scalar", "portable", "avx2"].into_iter().filter(|isa| *isa != "avx2" || has_avx2()).map(str::to_owned).collect()
}

fn has_avx2() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn options(isa: &str) -> OpenOptions {
    OpenOptions { isa: Some(isa.to_owned()), ..OpenOptions::default() }
}

/// Calls `check` with every model of the zoo, opened with usual options, and its expected scores for some requests.
fn for_each_model(test: &str, mut check: impl FnMut(&zoo::Zoo, &std::path::Path, &Model, &Request, &[f32])) {
    let folder = folder(test);
    for zoo in zoo::all() {
        let model = zoo.open(&folder, &OpenOptions::default());
        for (seed, candidates) in [(1, 1), (2, 7), (3, 64), (4, 131)] {
            let request = Request::random(seed, candidates);
            let scores = request.scores(&model, None);
            assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{}: {scores:?}", zoo.name);
            let first = scores[0];
            assert!(
                candidates == 1 || scores[..candidates].iter().any(|score| *score != first),
                "{} is flat",
                zoo.name
            );
            check(&zoo, &folder, &model, &request, &scores);
        }
    }
}

#[test]
fn every_instruction_set_split_tile_and_mode_gives_the_same_bits() {
    let mut variants: Vec<OpenOptions> = isas().iter().map(|isa| options(isa)).collect();
    variants.push(OpenOptions { split: false, ..OpenOptions::default() });
    variants.push(OpenOptions { split: false, tile: 5, ..options("scalar") });
    variants.extend([1, 2, 7, 64, 500].map(|tile| OpenOptions { tile, ..OpenOptions::default() }));
    variants.push(OpenOptions { scenario_bytes: 0, ..OpenOptions::default() });
    variants.extend([Mode::Snapshot, Mode::Copy].map(|mode| OpenOptions { mode, ..OpenOptions::default() }));
    for_each_model("variants", |zoo, folder, _, request, expected| {
        for options in &variants {
            let scores = request.scores(&zoo.open(folder, options), None);
            assert_eq!(bits(&scores), bits(expected), "{} with {options:?}", zoo.name);
        }
    });
}

#[test]
fn every_order_and_batch_of_candidates_gives_the_same_bits() {
    for_each_model("batches", |zoo, _, model, request, expected| {
        let n = request.candidates;
        let tasks = model.description().tasks.len();
        let reversed: Vec<usize> = (0..n).rev().collect();
        let every_third: Vec<usize> = (0..n).step_by(3).collect();
        let halves = [(0..n / 2).collect::<Vec<_>>(), (n / 2..n).collect()];
        let singles = (0..n.min(9)).map(|i| vec![i]);
        for picked in [reversed, every_third].into_iter().chain(halves).chain(singles) {
            let scores = request.pick(&picked).scores(model, None);
            let moved = (0..tasks).flat_map(|task| picked.iter().map(move |i| expected[task * n + i]));
            assert_eq!(bits(&scores), bits(&moved.collect::<Vec<_>>()), "{} {picked:?}", zoo.name);
        }
    });
}

#[test]
fn every_set_of_tasks_gives_the_same_bits() {
    for_each_model("tasks", |zoo, _, model, request, expected| {
        let n = request.candidates;
        for tasks in [&[0][..], &[1], &[2], &[1, 0], &[2, 1], &[2, 0, 1]] {
            let scores = request.scores(model, Some(tasks));
            let picked = tasks.iter().flat_map(|task| &expected[*task as usize * n..(*task as usize + 1) * n]);
            assert_eq!(bits(&scores), bits(&picked.copied().collect::<Vec<_>>()), "{} {tasks:?}", zoo.name);
        }
    });
}

#[test]
fn a_used_scorer_gives_the_bits_of_a_new_one() {
    let folder = folder("reuse");
    for zoo in zoo::all() {
        let model = zoo.open(&folder, &OpenOptions::default());
        let mut scorer = model.scorer().expect("a scorer");
        for seed in 0..20 {
            let request = Request::random(seed, 1 + seed as usize * 5);
            let mut out = vec![0.0; 3 * request.candidates];
            scorer.prepare(request.scenario, &request.columns(&model, true)).expect("prepare");
            for _ in 0..2 {
                scorer.score(request.candidates, &request.columns(&model, false), None, &mut out).expect("score");
                assert_eq!(bits(&out), bits(&request.scores(&model, None)), "{} seed {seed}", zoo.name);
            }
        }
    }
}

#[test]
fn scenarios_reach_the_scores_and_fall_back_as_declared() {
    let folder = folder("scenarios");
    for zoo in zoo::all().into_iter().filter(|zoo| zoo.name.starts_with("pepnet")) {
        let model = zoo.open(&folder, &OpenOptions::default());
        let scores = |scenario| {
            let mut request = Request::random(5, 20);
            request.scenario = scenario;
            bits(&request.scores(&model, None))
        };
        let by_name = |name| scores(model.scenario(name));
        assert_ne!(by_name("feed"), by_name("splash"));
        assert_eq!(by_name("video"), by_name("splash"), "declared fallback");
        assert_eq!(scores(None), by_name("splash"), "fallback_scenario");
        assert_eq!(scores(Some(99)), by_name("splash"));
        assert_eq!(model.scenario_by_id(10), model.scenario("feed"));
    }
}
