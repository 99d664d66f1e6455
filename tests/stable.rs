//! Promise 3: the same row gives the same bits, whatever the batch, order, tile, split, task set or instruction set.

mod zoo;

use polyscore::{ErrorKind, Fault, KeptScenarios, Mode, Model, OpenOptions, Precision, Subject};
use zoo::{Request, bits};

/// The kernel sets of this CPU.
fn isas() -> Vec<String> {
    let path = zoo::named("mmoe").path;
    let has = |isa: &&str| match Model::open(&path, &options(isa)) {
        Ok(model) => model.plan().isa() == *isa,
        Err(error) if error.kind() == ErrorKind::Unsupported => false,
        Err(error) => panic!("{isa}: {error}"),
    };
    let known = ["scalar", "portable", "avx2", "avx512", "avx512bf16", "amx", "neon"];
    let isas: Vec<String> = known.iter().filter(|isa| has(isa)).map(|isa| (*isa).to_owned()).collect();
    assert!(isas.len() >= 2, "{isas:?}");
    isas
}

/// A tile that is given is not measured, which takes most of an opening.
const TILE: usize = 96;

fn options(isa: &str) -> OpenOptions {
    OpenOptions { isa: Some(isa.to_owned()), tile: TILE, ..OpenOptions::default() }
}

/// Calls `check` with every model of the zoo, opened with usual options, and its expected scores for some requests.
fn for_each_model(mut check: impl FnMut(&zoo::Zoo, &Model, &Request, &[f32])) {
    for zoo in zoo::all() {
        let model = zoo.open(&OpenOptions::default());
        for (seed, candidates) in [(1, 1), (2, 7), (3, 64), (4, 131)] {
            let request = Request::random(&model, seed, candidates);
            let scores = request.scores(&model, None);
            assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{}: {scores:?}", zoo.name);
            let first = scores[0];
            assert!(
                candidates == 1 || scores[..candidates].iter().any(|score| *score != first),
                "{} is flat",
                zoo.name
            );
            check(&zoo, &model, &request, &scores);
        }
    }
}

#[test]
fn every_instruction_set_split_tile_and_mode_gives_the_same_bits() {
    let mut variants: Vec<OpenOptions> = isas().iter().map(|isa| options(isa)).collect();
    variants.push(OpenOptions { split: false, tile: TILE, ..OpenOptions::default() });
    variants.push(OpenOptions { split: false, tile: 5, ..options("scalar") });
    variants.extend([1, 2, 7, 64, 500].map(|tile| OpenOptions { tile, ..OpenOptions::default() }));
    variants.push(OpenOptions { scenario_bytes: 0, ..OpenOptions::default() });
    variants.extend([Mode::Snapshot, Mode::Copy].map(|mode| OpenOptions { mode, ..OpenOptions::default() }));
    for_each_model(|zoo, _, request, expected| {
        for options in &variants {
            let scores = request.scores(&zoo.open(options), None);
            assert_eq!(bits(&scores), bits(expected), "{} with {options:?}", zoo.name);
        }
    });
}

#[test]
fn quantised_layers_have_the_same_bits_everywhere() {
    for precision in [Precision::F16, Precision::Int12, Precision::Int16, Precision::Int8] {
        let usual =
            OpenOptions { precision: Some(precision), max_error: Some(1.0), tile: TILE, ..OpenOptions::default() };
        let mut variants: Vec<OpenOptions> =
            isas().into_iter().map(|isa| OpenOptions { isa: Some(isa), ..usual.clone() }).collect();
        variants.push(OpenOptions { split: false, ..usual.clone() });
        variants.extend([1, 7, 500].map(|tile| OpenOptions { tile, ..usual.clone() }));
        variants.push(OpenOptions { split: false, tile: 5, isa: Some("scalar".to_owned()), ..usual.clone() });
        for zoo in zoo::all() {
            let (exact, model) = (zoo.open(&OpenOptions::default()), zoo.open(&usual));
            for (seed, candidates) in [(1, 1), (5, 70), (6, 131)] {
                let request = Request::random(&model, seed, candidates);
                let expected = request.scores(&model, None);
                // It is another precision, and it is near.
                let exact = request.scores(&exact, None);
                let furthest = exact.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(furthest < 0.3, "{} {precision:?}: {furthest}", zoo.name);
                for options in &variants {
                    let scores = request.scores(&zoo.open(options), None);
                    assert_eq!(bits(&scores), bits(&expected), "{} with {options:?}", zoo.name);
                }
                let tasks = model.description().tasks.len() as u32;
                for task in 0..tasks {
                    let alone = request.scores(&model, Some(&[task]));
                    let all = &expected[task as usize * candidates..][..candidates];
                    assert_eq!(bits(&alone), bits(all), "{} {precision:?} task {task}", zoo.name);
                }
                let picked: Vec<usize> = (0..candidates).rev().step_by(3).collect();
                let some = request.pick(&picked).scores(&model, None);
                let moved = (0..tasks as usize).flat_map(|task| picked.iter().map(move |i| task * candidates + i));
                let moved: Vec<f32> = moved.map(|place| expected[place]).collect();
                assert_eq!(bits(&some), bits(&moved), "{} {precision:?} in another order", zoo.name);
            }
        }
    }
}

#[test]
fn every_order_and_batch_of_candidates_gives_the_same_bits() {
    for_each_model(|zoo, model, request, expected| {
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
    for_each_model(|zoo, model, request, expected| {
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
    for zoo in zoo::all() {
        let model = zoo.open(&OpenOptions::default());
        let mut scorer = model.scorer().expect("a scorer");
        for seed in 0..20 {
            let request = Request::random(&model, seed, 1 + seed as usize * 5);
            let mut out = vec![0.0; 3 * request.candidates];
            scorer.prepare(request.scenario, &request.columns(true)).expect("prepare");
            for _ in 0..2 {
                scorer.score(request.candidates, &request.columns(false), None, &mut out).expect("score");
                assert_eq!(bits(&out), bits(&request.scores(&model, None)), "{} seed {seed}", zoo.name);
            }
        }
    }
}

#[test]
fn scenarios_reach_the_scores_and_fall_back_as_declared() {
    for zoo in zoo::all().into_iter().filter(|zoo| zoo.name.starts_with("pepnet")) {
        let model = zoo.open(&OpenOptions::default());
        let scores = |scenario| {
            let mut request = Request::random(&model, 5, 20);
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

/// Scenarios of the zoo, one twice, and one that is unknown.
const SCENARIOS: [u32; 5] = [1, 0, u32::MAX, 2, 1];

#[test]
fn scenarios_named_by_a_call_give_the_bits_of_requests_of_theirs() {
    for zoo in zoo::all() {
        let model = zoo.open(&OpenOptions::default());
        let bytes = model.plan().bytes_per_scenario();
        let budgets = [OpenOptions::default().scenario_bytes, 0, bytes];
        let tiles = [(0, true), (7, true), (64, false)];
        let variants = budgets.iter().flat_map(|bytes| tiles.map(|(tile, split)| (*bytes, tile, split)));
        for (scenario_bytes, tile, split) in variants {
            let options = OpenOptions { scenario_bytes, tile, split, ..OpenOptions::default() };
            let opened = zoo.open(&options);
            let kept = match opened.kept_scenarios() {
                KeptScenarios::All(_) => u64::MAX,
                KeptScenarios::PerScorer(count) => count as u64,
            };
            assert!(bytes == 0 || kept == if scenario_bytes < bytes { 0 } else { kept.max(1) }, "{}", zoo.name);
            let mut scorer = opened.scorer().expect("a scorer");
            for (seed, n) in [(1, 1), (2, 70), (3, 9)] {
                let request = Request::random(&model, seed, n);
                let expected = SCENARIOS.map(|scenario| {
                    let mut request = request.clone();
                    request.scenario = Some(scenario);
                    request.scores(&model, None)
                });
                let what = format!("{} seed {seed} with {options:?}", zoo.name);
                let (user, ads) = (request.columns(true), request.columns(false));
                scorer.prepare(request.scenario, &user).expect("prepare");
                let unknown = scorer.counters().unknown_scenarios;

                let mut each = vec![f32::NAN; SCENARIOS.len() * 3 * n + 1];
                scorer.score_each(n, &SCENARIOS, &ads, None, &mut each).expect("each");
                assert_eq!(bits(&each[..SCENARIOS.len() * 3 * n]), bits(&expected.concat()), "{what}");
                assert!(each[SCENARIOS.len() * 3 * n].is_nan(), "{what}: more is written");
                assert_eq!(scorer.counters().unknown_scenarios, unknown + 1, "{what}");

                let picked: Vec<usize> = (0..n).map(|candidate| candidate * 7 % SCENARIOS.len()).collect();
                let mixed: Vec<u32> = picked.iter().map(|scenario| SCENARIOS[*scenario]).collect();
                let mut scores = vec![f32::NAN; 2 * n];
                scorer.score_mixed(n, &mixed, &ads, Some(&[2, 0]), &mut scores).expect("mixed");
                let moved = [2, 0].into_iter().flat_map(|task| {
                    let (picked, expected) = (&picked, &expected);
                    (0..n).map(move |candidate| expected[picked[candidate]][task * n + candidate])
                });
                assert_eq!(bits(&scores), bits(&moved.collect::<Vec<_>>()), "{what}");
                let counted = mixed.iter().filter(|scenario| **scenario == u32::MAX).count() as u64;
                assert_eq!(scorer.counters().unknown_scenarios, unknown + 1 + counted, "{what}");

                let mut own = vec![f32::NAN; 3 * n];
                scorer.score(n, &ads, None, &mut own).expect("score");
                assert_eq!(bits(&own), bits(&request.scores(&model, None)), "{what}: the request's scenario stays");
            }
            let folded = scorer.counters().scenarios_folded;
            assert_eq!(folded == 0, kept == u64::MAX, "{}: {folded} folded", zoo.name);
        }
    }
}

#[test]
fn calls_that_name_scenarios_refuse_what_score_refuses() {
    let zoo = zoo::named("pepnet");
    let model = zoo.open(&OpenOptions::default());
    let request = Request::random(&model, 4, 6);
    let (user, ads) = (request.columns(true), request.columns(false));
    let mut scorer = model.scorer().expect("a scorer");
    let mut out = vec![f32::NAN; 3 * 6];
    let call = |kind| Err(Fault { kind, subject: Subject::Call });
    assert_eq!(scorer.score_mixed(6, &[0; 6], &ads, None, &mut out), call(ErrorKind::NotPrepared));
    assert_eq!(scorer.score_each(6, &[0], &ads, None, &mut out), call(ErrorKind::NotPrepared));
    scorer.prepare(request.scenario, &user).expect("prepare");
    for scenarios in [5, 7] {
        assert_eq!(scorer.score_mixed(6, &vec![0; scenarios], &ads, None, &mut out), call(ErrorKind::ColumnLength));
    }
    assert_eq!(scorer.score_mixed(6, &[0; 6], &ads, None, &mut out[1..]), call(ErrorKind::BufferTooSmall));
    assert_eq!(scorer.score_each(6, &[0, 1], &ads, None, &mut out), call(ErrorKind::BufferTooSmall));
    assert_eq!(scorer.score_each(usize::MAX, &[0, 1], &ads, Some(&[0]), &mut out), call(ErrorKind::BufferTooSmall));
    for tasks in [&[3][..], &[1, 1]] {
        assert!(scorer.score_mixed(6, &[0; 6], &ads, Some(tasks), &mut out).is_err());
        assert!(scorer.score_each(6, &[0], &ads, Some(tasks), &mut out).is_err());
    }
    assert!(scorer.score_mixed(6, &[0; 6], &[], None, &mut out).is_err(), "columns are missing");
    assert!(scorer.score_each(6, &[0], &[], None, &mut out).is_err(), "columns are missing");
    assert!(out.iter().all(|score| score.is_nan()), "nothing is written");
    assert_eq!(scorer.score_each(6, &[], &ads, None, &mut []), Ok(()));
    let counters = scorer.counters();
    let unknown = u64::from(request.scenario.is_none_or(|scenario| scenario > 2));
    assert_eq!((counters.candidates, counters.unknown_scenarios), (0, unknown));
}
