//! Promise 2: nothing is allocated once a scorer is warm, and a model is shared by all threads.
//!
//! The tests of this file run one at a time: they count what the whole process does.

mod zoo;

use polyscore::{ItemRows, Model, OpenOptions, Pool};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::sync::Mutex;
use zoo::{Request, bits};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const CALLS: usize = 100_000;

/// What calls that name scenarios ask for: one of them is unknown.
const SCENARIOS: [u32; 3] = [1, u32::MAX, 0];

fn models() -> Vec<(String, Model)> {
    open(&OpenOptions::default())
}

fn open(options: &OpenOptions) -> Vec<(String, Model)> {
    zoo::all().into_iter().map(|zoo| (zoo.name.clone(), zoo.open(options))).collect()
}

/// The calls of one thread, spread over all models: how often memory was allocated, freed or moved meanwhile.
fn allocations(models: &[(String, Model)], calls: usize) -> usize {
    let mut total = 0;
    for (_, model) in models {
        let requests: Vec<Request> = (0..8).map(|seed| Request::random(model, seed, 1 + 13 * seed as usize)).collect();
        let keys: Vec<i64> = (0..100).collect();
        let columns: Vec<_> = requests.iter().map(|r| (r.columns(true), r.keyed(&keys[..r.candidates]))).collect();
        let mut scorer = model.scorer().expect("a scorer");
        let mut out = vec![0.0; SCENARIOS.len() * 3 * 100];
        let mixed: Vec<u32> = (0..100).map(|candidate| SCENARIOS[candidate % SCENARIOS.len()]).collect();
        let mut call = |i: usize| {
            let (request, (user, ads)) = (&requests[i % requests.len()], &columns[i % requests.len()]);
            scorer.prepare(request.scenario, user).expect("prepare");
            let tasks: Option<&[u32]> = [None, Some(&[2][..]), Some(&[1, 0])][i % 3];
            match i % 5 {
                0 => scorer.score_mixed(request.candidates, &mixed[..request.candidates], ads, tasks, &mut out),
                1 => scorer.score_each(request.candidates, &SCENARIOS, ads, tasks, &mut out),
                _ => scorer.score(request.candidates, ads, tasks, &mut out),
            }
            .expect("scores");
            assert!(scorer.score(request.candidates, &ads[1..], None, &mut out).is_err(), "a column is missing");
        };
        call(0);
        let region = Region::new(ALLOCATOR);
        (0..calls / models.len()).for_each(&mut call);
        let change = region.change();
        total += change.allocations + change.deallocations + change.reallocations;
    }
    total
}

#[test]
fn a_warm_scorer_allocates_nothing_in_a_hundred_thousand_calls() {
    let _guard = ONE_AT_A_TIME.lock();
    assert_eq!(allocations(&models(), CALLS), 0);
    let nothing_kept = open(&OpenOptions { scenario_bytes: 0, ..OpenOptions::default() });
    assert_eq!(allocations(&nothing_kept, CALLS / 10), 0);
    let with_cache = open(&OpenOptions { item_bytes: 1 << 18, item_rows: ItemRows::F16, ..OpenOptions::default() });
    assert_eq!(allocations(&with_cache, CALLS / 10), 0);
}

#[test]
fn a_warm_parallel_scorer_allocates_a_few_words_for_each_thread() {
    const CALLS: usize = 1000;
    let _guard = ONE_AT_A_TIME.lock();
    let model = zoo::named("mmoe").open(&OpenOptions::default());
    let pool = Pool::new(Some(3), "contract").expect("threads");
    let mut scorer = model.parallel_scorer(&pool).expect("a scorer");
    let request = Request::random(&model, 1, 1000);
    let (user, ads) = (request.columns(true), request.columns(false));
    let mut out = vec![0.0; 3 * request.candidates];
    let mut call = || {
        scorer.prepare(request.scenario, &user).expect("prepare");
        scorer.score(request.candidates, &ads, None, &mut out).expect("score");
    };
    call();
    let region = Region::new(ALLOCATOR);
    (0..CALLS).for_each(|_| call());
    let change = region.change();
    assert!(change.allocations > 0, "no call was shared");
    assert!(change.allocations <= 3 * CALLS && change.bytes_allocated <= 512 * CALLS, "{change:?}");
}

#[test]
fn the_allocation_counter_counts() {
    let _guard = ONE_AT_A_TIME.lock();
    let region = Region::new(ALLOCATOR);
    drop(std::hint::black_box(vec![1u8; 100]));
    assert!(region.change().allocations >= 1);
}

#[test]
fn threads_share_a_model_and_get_the_same_bits() {
    let _guard = ONE_AT_A_TIME.lock();
    for (name, model) in models() {
        let request = Request::random(&model, 9, 70);
        let expected = bits(&request.scores(&model, None));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        assert_eq!(bits(&request.scores(&model, None)), expected, "{name}");
                    }
                });
            }
        });
    }
}

#[test]
fn a_scorer_keeps_its_model_alive() {
    let _guard = ONE_AT_A_TIME.lock();
    let (_, model) = models().swap_remove(0);
    let request = Request::random(&model, 3, 10);
    let expected = bits(&request.scores(&model, None));
    let (user, ads) = (request.columns(true), request.columns(false));
    let mut scorer = model.scorer().expect("a scorer");
    drop(model);
    let mut out = vec![0.0; 30];
    scorer.prepare(request.scenario, &user).expect("prepare");
    scorer.score(10, &ads, None, &mut out).expect("score");
    assert_eq!(bits(&out), expected);
}
