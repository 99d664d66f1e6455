//! Parallel scoring: the bits, counters and failures of a serial scorer, whatever the threads.

mod zoo;

use polyscore::{ErrorKind, Executor, Fault, MAX_THREADS, Model, OpenOptions, Pool, Subject};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use zoo::{Request, bits};

/// A host that runs its tasks from the last to the first, on one thread, and counts them.
#[derive(Clone, Default)]
struct Backwards(Arc<AtomicUsize>);

impl Executor for Backwards {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        self.0.fetch_add(tasks, Ordering::Relaxed);
        (0..tasks).rev().for_each(task);
    }
}

/// A host with a thread for every task.
struct Spawning;

impl Executor for Spawning {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for index in 0..tasks {
                scope.spawn(move || task(index));
            }
        });
    }
}

/// A host that runs the first task only, while it is broken.
struct Lazy(Arc<AtomicUsize>);

impl Executor for Lazy {
    fn run(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let is_broken = self.0.load(Ordering::Relaxed) == 1;
        (0..if is_broken { 1 } else { tasks }).for_each(task);
    }
}

/// Enough candidates of the model for several pieces on two threads and more.
fn many(model: &Model) -> usize {
    let [.., per_candidate] = model.plan().multiply_adds();
    (5 << 20) / per_candidate.max(1) + 131
}

const SCENARIOS: [u32; 4] = [1, 0, u32::MAX, 2];

#[test]
fn every_pool_gives_the_bits_and_counters_of_a_serial_scorer() {
    let backwards = Backwards::default();
    let mut pools = [2, 3, 8].map(|threads| Pool::new(Some(threads), "bits").expect("threads")).to_vec();
    pools.push(Pool::over(backwards.clone(), Some(5)).expect("an executor"));
    pools.push(Pool::over(Spawning, Some(2)).expect("an executor"));
    for zoo in zoo::all() {
        let per_scenario = zoo.open(&OpenOptions::default()).plan().bytes_per_scenario();
        let usual = OpenOptions::default();
        let variants = [
            usual.clone(),
            OpenOptions { tile: 7, split: false, ..usual.clone() },
            OpenOptions { scenario_bytes: 0, ..usual.clone() },
            OpenOptions { scenario_bytes: per_scenario, ..usual.clone() },
        ];
        for (variant, options) in variants.iter().enumerate() {
            let model = zoo.open(options);
            let n = many(&model);
            let requests: Vec<Request> = (0..3).map(|seed| Request::random(&model, seed, n - seed as usize)).collect();
            let mut serial = model.scorer().expect("a scorer");
            let expected: Vec<[Vec<f32>; 3]> = requests.iter().map(|request| calls(&mut serial, request)).collect();
            // Pools take turns, so that each meets every model and every variant.
            for pool in pools.iter().skip(variant % 2).step_by(2) {
                let mut scorer = model.parallel_scorer(pool).expect("a scorer");
                let before = backwards.0.load(Ordering::Relaxed);
                for (request, expected) in requests.iter().zip(&expected) {
                    for (mine, expected) in calls(&mut scorer, request).iter().zip(expected) {
                        assert_eq!(bits(mine), bits(expected), "{} {options:?} {pool:?}", zoo.name);
                    }
                }
                let mut counters = scorer.counters().clone();
                counters.scenarios_folded = serial.counters().scenarios_folded;
                assert_eq!(counters, *serial.counters(), "{} {options:?} {pool:?}", zoo.name);
                let is_backwards = pool.threads() == 5;
                assert_eq!(backwards.0.load(Ordering::Relaxed) > before + 9, is_backwards, "{} is shared", zoo.name);
            }
        }
    }
}

/// The scores of every kind of call.
fn calls(scorer: &mut polyscore::Scorer, request: &Request) -> [Vec<f32>; 3] {
    let (user, ads, n) = (request.columns(true), request.columns(false), request.candidates);
    let mut out = [vec![f32::NAN; 2 * n], vec![f32::NAN; 3 * n], vec![f32::NAN; SCENARIOS.len() * n]];
    let [score, mixed, each] = &mut out;
    let own: Vec<u32> = (0..n).map(|candidate| SCENARIOS[candidate * 7 % SCENARIOS.len()]).collect();
    scorer.prepare(request.scenario, &user).expect("prepare");
    scorer.score(n, &ads, Some(&[2, 0]), score).expect("score");
    scorer.score_mixed(n, &own, &ads, None, mixed).expect("mixed");
    scorer.score_each(n, &SCENARIOS, &ads, Some(&[1]), each).expect("each");
    let mut again = vec![f32::NAN; 2 * n];
    scorer.score(n, &ads, Some(&[2, 0]), &mut again).expect("score");
    assert_eq!(bits(&again), bits(score), "the request's scenario stays");
    out
}

#[test]
fn a_call_of_few_candidates_stays_on_its_thread() {
    let model = zoo::named("mmoe").open(&OpenOptions::default());
    let backwards = Backwards::default();
    let pool = Pool::over(backwards.clone(), Some(4)).expect("an executor");
    let mut scorer = model.parallel_scorer(&pool).expect("a scorer");
    let request = Request::random(&model, 1, 31);
    calls(&mut scorer, &request);
    assert_eq!(backwards.0.load(Ordering::Relaxed), 0);
}

#[test]
fn failures_are_those_of_a_serial_scorer_and_write_nothing() {
    let model = zoo::named("pepnet").open(&OpenOptions::default());
    let n = many(&model);
    let request = Request::random(&model, 3, n);
    let (user, ads) = (request.columns(true), request.columns(false));
    let is_broken = Arc::new(AtomicUsize::new(0));
    let host = Pool::over(Lazy(Arc::clone(&is_broken)), Some(3)).expect("an executor");
    let mut scorer = model.parallel_scorer(&host).expect("a scorer");
    let mut out = vec![f32::NAN; 3 * n];
    let call = |kind| Err(Fault { kind, subject: Subject::Call });
    assert_eq!(scorer.score(n, &ads, None, &mut out), call(ErrorKind::NotPrepared));
    scorer.prepare(request.scenario, &user).expect("prepare");
    assert_eq!(scorer.score(n, &ads, None, &mut out[1..]), call(ErrorKind::BufferTooSmall));
    let missing = scorer.score(n, &[], None, &mut out).expect_err("columns are missing");
    assert_eq!(missing.kind, ErrorKind::MissingFeature);
    is_broken.store(1, Ordering::Relaxed);
    assert_eq!(scorer.score(n, &ads, None, &mut out), call(ErrorKind::Executor));
    assert_eq!(scorer.score_mixed(n, &vec![0; n], &ads, None, &mut out), call(ErrorKind::Executor));
    assert_eq!(scorer.score_each(n, &[0], &ads, None, &mut out), call(ErrorKind::Executor));
    assert!(out.iter().all(|score| score.is_nan()), "nothing is written");
    assert_eq!(scorer.counters().candidates, 0);
    let error = scorer.explain(Fault { kind: ErrorKind::Executor, subject: Subject::Call });
    assert!(error.to_string().contains("exactly once"), "{error}");
    is_broken.store(0, Ordering::Relaxed);
    scorer.score(n, &ads, None, &mut out).expect("the scorer goes on");
    assert_eq!(bits(&out), bits(&request.scores(&model, None)));
    let too_many = Pool::new(Some(MAX_THREADS + 1), "many").expect_err("too many threads");
    assert_eq!((too_many.kind(), too_many.subject()), (ErrorKind::InvalidArgument, "threads"));
}

#[test]
fn models_and_threads_share_a_pool_that_outlives_its_owner() {
    let pool = Pool::new(Some(3), "shared").expect("threads");
    let models: Vec<Model> =
        ["mmoe", "dffm", "star"].iter().map(|name| zoo::named(name).open(&OpenOptions::default())).collect();
    std::thread::scope(|scope| {
        for thread in 0..6u64 {
            let model = &models[thread as usize % models.len()];
            let mut scorer = model.parallel_scorer(&pool).expect("a scorer");
            scope.spawn(move || {
                let request = Request::random(model, thread, many(model));
                let expected = request.scores(model, None);
                for _ in 0..10 {
                    let mut out = vec![f32::NAN; 3 * request.candidates];
                    scorer.prepare(request.scenario, &request.columns(true)).expect("prepare");
                    scorer.score(request.candidates, &request.columns(false), None, &mut out).expect("score");
                    assert_eq!(bits(&out), bits(&expected));
                }
            });
        }
        drop(pool);
    });
}
