//! The item cache: the same scores from memory as from computing, and only those.

mod zoo;

use polyscore::{Column, ErrorKind, ITEM_KEY, ItemRows, Model, NO_KEY, OpenOptions, Pool, Scorer, TraceCall, Values};
use zoo::{Request, bits, largest_difference};

const POOL: usize = 40;
const SCENARIOS: [u32; 2] = [1, 0];

fn open(zoo: &zoo::Zoo, item_bytes: usize, item_rows: ItemRows) -> Model {
    zoo.open(&OpenOptions { item_bytes, item_rows, item_always: true, max_error: Some(1.0), ..OpenOptions::default() })
}

/// The scores of all tasks in all three calls, by a scorer that may have a request already.
fn scores(scorer: &mut Scorer, request: &Request, keys: Option<&[i64]>, tasks: usize) -> Vec<f32> {
    let columns = keys.map_or(request.columns(false), |keys| request.keyed(keys));
    let n = request.candidates;
    let mixed: Vec<u32> = (0..n).map(|candidate| SCENARIOS[candidate % 2]).collect();
    let mut out = vec![f32::NAN; 4 * tasks * n];
    let (own, rest) = out.split_at_mut(tasks * n);
    let (of_mixed, each) = rest.split_at_mut(tasks * n);
    scorer.prepare(request.scenario, &request.columns(true)).expect("prepare");
    scorer.score(n, &columns, None, own).expect("score");
    scorer.score_mixed(n, &mixed, &columns, None, of_mixed).expect("mixed");
    scorer.score_each(n, &SCENARIOS, &columns, None, each).expect("each");
    out
}

/// Requests that show the same ads, keyed by their place among them and the number of the pool; one has no key.
fn requests(model: &Model, seed: u64) -> Vec<(Request, Vec<i64>)> {
    let mut random = fastrand::Rng::with_seed(seed);
    let ads = Request::random(model, seed, POOL);
    let shown = [POOL, 1, 7, 33, 20, 20, POOL];
    shown
        .into_iter()
        .map(|count| {
            let picked: Vec<usize> = (0..count).map(|_| random.usize(..POOL)).collect();
            let mut keys: Vec<i64> = picked.iter().map(|ad| *ad as i64 + 1000 * seed as i64).collect();
            keys[count / 2] = NO_KEY;
            (ads.pick(&picked), keys)
        })
        .collect()
}

#[test]
fn exact_rows_give_the_bits_of_no_cache() {
    let mut with_rows = 0;
    for zoo in zoo::all() {
        let expected = zoo.open(&OpenOptions::default());
        let tasks = expected.description().tasks.len();
        let usual = OpenOptions { item_bytes: 1 << 20, item_always: true, ..OpenOptions::default() };
        let others = [
            usual.clone(),
            OpenOptions { tile: 3, split: false, ..usual.clone() },
            OpenOptions { item_bytes: 1 << 14, scenario_bytes: 0, isa: Some("portable".into()), ..usual },
        ];
        for options in others {
            let model = zoo.open(&options);
            let mut scorer = model.scorer().expect("a scorer");
            let mut without = expected.scorer().expect("a scorer");
            for (request, keys) in requests(&model, 1).iter().chain(&requests(&model, 2)) {
                let found = scores(&mut scorer, request, Some(keys), tasks);
                let expected = scores(&mut without, request, None, tasks);
                assert_eq!(bits(&found), bits(&expected), "{} {options:?}", zoo.name);
                let found = scores(&mut scorer, request, None, tasks);
                assert_eq!(bits(&found), bits(&expected), "{} without keys", zoo.name);
            }
            let (counters, rows) = (scorer.counters(), model.footprint().item_room);
            let looked_for = counters.item_hits + counters.item_misses;
            assert_eq!(looked_for > 0, model.footprint().item_bytes > 0, "{}", zoo.name);
            assert!(model.footprint().item_bytes <= options.item_bytes as u64);
            if rows >= 4 * POOL as u64 {
                with_rows += 1;
                assert!(counters.item_hits > looked_for / 2, "{}: {counters:?}", zoo.name);
            }
        }
    }
    assert!(with_rows >= 20, "{with_rows} plans kept rows");
}

#[test]
fn rows_of_a_shorter_type_score_the_same_from_memory_as_computed() {
    let mut differ = [0, 0];
    for zoo in zoo::all() {
        let exact = open(&zoo, 0, ItemRows::F32);
        let tasks = exact.description().tasks.len();
        for (place, (rows, bound)) in [(ItemRows::F16, 3e-3), (ItemRows::Int8, 0.2)].into_iter().enumerate() {
            let model = open(&zoo, 1 << 20, rows);
            let mut exact = exact.scorer().expect("a scorer");
            let mut scorer = model.scorer().expect("a scorer");
            for (request, keys) in requests(&model, 3) {
                let cold = scores(&mut scorer, &request, Some(&keys), tasks);
                let warm = scores(&mut scorer, &request, Some(&keys), tasks);
                let without = scores(&mut scorer, &request, None, tasks);
                assert_eq!((bits(&cold), bits(&warm)), (bits(&warm), bits(&without)), "{} {rows:?}", zoo.name);
                let expected = scores(&mut exact, &request, None, tasks);
                let error = largest_difference(&cold, &expected);
                assert!(error <= bound, "{} {rows:?}: {error}", zoo.name);
                differ[place] += usize::from(error > 0.0);
            }
            let traced = trace(&model, 4);
            assert_eq!(bits(&traced.0), bits(&traced.1), "{} {rows:?}", zoo.name);
        }
    }
    assert!(differ.iter().all(|count| *count > 50), "{differ:?}");
}

/// The scores of a trace, and those of a scorer.
fn trace(model: &Model, seed: u64) -> (Vec<f32>, Vec<f32>) {
    let request = Request::random(model, seed, 5);
    let (user, ads) = (request.columns(true), request.columns(false));
    let call = TraceCall { scenario: request.scenario, request: &user, candidates: 5, columns: &ads, traced: 0..5 };
    (model.trace(&call, &mut |_| ()).expect("a trace"), request.scores(model, None))
}

#[test]
fn the_error_of_shorter_rows_counts_against_the_bound() {
    let zoo = zoo::named("mmoe");
    let options =
        |item_rows| OpenOptions { item_bytes: 1 << 20, item_rows, max_error: Some(1e-5), ..OpenOptions::default() };
    assert!(Model::open(&zoo.path, &options(ItemRows::F32)).is_ok());
    let refused = Model::open(&zoo.path, &options(ItemRows::Int8)).map(|_| ()).expect_err("too coarse");
    assert_eq!(refused.kind(), ErrorKind::Golden);
}

#[test]
fn another_version_of_an_ad_or_of_the_model_is_computed_anew() {
    let zoo = zoo::named("mmoe");
    let model = open(&zoo, 1 << 20, ItemRows::F32);
    let tasks = model.description().tasks.len();
    let (old, new) = (Request::random(&model, 1, 9), Request::random(&model, 2, 9));
    let mut scorer = model.scorer().expect("a scorer");
    let keys = |version: i64| -> Vec<i64> { (0..9).map(|ad| ad + (version << 32)).collect() };
    scores(&mut scorer, &old, Some(&keys(1)), tasks);
    let mut without = open(&zoo, 0, ItemRows::F32).scorer().expect("a scorer");
    let expected = scores(&mut without, &new, None, tasks);
    assert_eq!(bits(&scores(&mut scorer, &new, Some(&keys(2)), tasks)), bits(&expected));
    assert_eq!(scorer.counters().item_misses, 18);

    let reopened = open(&zoo, 1 << 20, ItemRows::F32);
    let mut scorer = reopened.scorer().expect("a scorer");
    assert_eq!(bits(&scores(&mut scorer, &new, Some(&keys(1)), tasks)), bits(&expected));
    assert_eq!((scorer.counters().item_misses, scorer.counters().item_hits), (9, 18));
}

#[test]
fn a_full_cache_makes_room_while_threads_read_it() {
    for name in ["mmoe", "dffm", "graph"] {
        let zoo = zoo::named(name);
        let exact = open(&zoo, 0, ItemRows::F32);
        let tasks = exact.description().tasks.len();
        // Less than half of the ads have room at a time.
        let row_bytes = open(&zoo, 1 << 20, ItemRows::F32).footprint();
        let row_bytes = row_bytes.item_bytes / row_bytes.item_room;
        let model = open(&zoo, 16 * row_bytes as usize, ItemRows::F32);
        assert_eq!(model.footprint().item_room, 16, "{name}");
        let pool = Pool::new(Some(2), "items").expect("threads");
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (model, exact, pool) = (&model, &exact, &pool);
                scope.spawn(move || {
                    let mut scorer = match thread {
                        0 => model.parallel_scorer(pool),
                        _ => model.scorer(),
                    }
                    .expect("a scorer");
                    let mut without = exact.scorer().expect("a scorer");
                    for turn in 0..30 {
                        for (request, keys) in requests(model, 1 + (thread + turn) % 3) {
                            let found = scores(&mut scorer, &request, Some(&keys), tasks);
                            let expected = scores(&mut without, &request, None, tasks);
                            assert_eq!(bits(&found), bits(&expected), "{name}");
                        }
                    }
                    let counters = scorer.counters();
                    assert!(counters.item_hits > 0 && counters.item_misses > 0, "{counters:?}");
                });
            }
        });
    }
}

#[test]
fn a_parallel_call_uses_the_cache_and_counts() {
    let zoo = zoo::named("mmoe");
    let model = open(&zoo, 8 << 20, ItemRows::F32);
    let pool = Pool::new(Some(3), "items").expect("threads");
    let mut scorer = model.parallel_scorer(&pool).expect("a scorer");
    let request = Request::random(&model, 1, 2000);
    let keys: Vec<i64> = (0..2000).collect();
    let expected = request.scores(&model, None);
    scorer.prepare(request.scenario, &request.columns(true)).expect("prepare");
    let mut out = vec![0.0; expected.len()];
    for _ in 0..2 {
        out.fill(0.0);
        scorer.score(2000, &request.keyed(&keys), None, &mut out).expect("score");
        assert_eq!(bits(&out), bits(&expected));
    }
    let counters = scorer.counters();
    assert_eq!(counters.item_hits + counters.item_misses, 4000);
    assert!(counters.item_hits > 1000, "{counters:?}");
}

#[test]
fn a_tile_with_rows_of_a_cache_is_of_256_at_most() {
    let zoo = zoo::named("mmoe");
    let options = OpenOptions { item_bytes: 8 << 20, item_always: true, tile: 4096, ..OpenOptions::default() };
    let model = zoo.open(&options);
    assert_eq!(model.plan().tile(), 256);
    let without = zoo.open(&OpenOptions { item_bytes: 0, ..options });
    assert_eq!(without.plan().tile(), 4096);
    let (request, keys) = (Request::random(&model, 1, 1000), (0..1000).collect::<Vec<i64>>());
    let tasks = model.description().tasks.len();
    let expected = scores(&mut without.scorer().expect("a scorer"), &request, None, tasks);
    let mut scorer = model.scorer().expect("a scorer");
    for _ in 0..2 {
        assert_eq!(bits(&scores(&mut scorer, &request, Some(&keys), tasks)), bits(&expected));
    }
    assert_eq!(scorer.counters().item_misses, 1000);
}

#[test]
fn keys_that_break_a_rule_are_refused() {
    let model = open(&zoo::named("mmoe"), 1 << 20, ItemRows::F32);
    let without_cache = open(&zoo::named("mmoe"), 0, ItemRows::F32);
    for model in [model, without_cache] {
        let request = Request::random(&model, 1, 3);
        let mut scorer = model.scorer().expect("a scorer");
        scorer.prepare(request.scenario, &request.columns(true)).expect("prepare");
        let mut out = vec![0.0; 9];
        let column = |values, row_offsets| Column { feature: ITEM_KEY, values, row_offsets };
        let (keys, offsets) = ([1i64, 2, 3], [0i64, 1, 2, 3]);
        let good = column(Values::I64(&keys), None);
        let bad = [
            (vec![column(Values::I64(&keys[..2]), None)], ErrorKind::ColumnLength),
            (vec![column(Values::I32(&[1, 2, 3]), None)], ErrorKind::ColumnType),
            (vec![column(Values::F32(&[1.0; 3]), None)], ErrorKind::ColumnType),
            (vec![column(Values::I64(&keys), Some(&offsets))], ErrorKind::ColumnOffsets),
            (vec![good, good], ErrorKind::DuplicateColumn),
        ];
        for (columns, kind) in bad {
            let columns: Vec<Column<'_>> = request.columns(false).into_iter().chain(columns).collect();
            let fault = scorer.score(3, &columns, None, &mut out).expect_err("refused");
            let error = scorer.explain(fault);
            assert_eq!((error.kind(), error.subject()), (kind, "item keys"));
        }
        let columns: Vec<Column<'_>> = request.columns(true).into_iter().chain([good]).collect();
        let fault = scorer.prepare(request.scenario, &columns).expect_err("refused");
        assert_eq!(fault.kind, ErrorKind::ColumnSide);
        assert!(out.iter().all(|score| *score == 0.0));
    }
}

#[test]
fn rows_are_kept_where_loading_them_is_not_slower() {
    let mut decided = [0, 0];
    for zoo in zoo::all() {
        let options = OpenOptions { item_bytes: 1 << 20, ..OpenOptions::default() };
        let model = zoo.open(&options);
        let always = zoo.open(&OpenOptions { item_always: true, ..options });
        assert_eq!(always.item_times(), None);
        let Some(times) = model.item_times() else {
            assert_eq!(model.footprint().item_bytes, always.footprint().item_bytes, "{}: no room to measure", zoo.name);
            continue;
        };
        let is_kept = times.load <= times.compute;
        decided[usize::from(is_kept)] += 1;
        let expected = if is_kept { always.footprint().item_bytes } else { 0 };
        assert_eq!(model.footprint().item_bytes, expected, "{}: {times:?}", zoo.name);
        // Keys are taken all the same.
        let tasks = model.description().tasks.len();
        let [mut scorer, mut kept] = [&model, &always].map(|model| model.scorer().expect("a scorer"));
        for (request, keys) in requests(&model, 5) {
            let [found, expected] = [&mut scorer, &mut kept].map(|scorer| scores(scorer, &request, Some(&keys), tasks));
            assert_eq!(bits(&found), bits(&expected), "{}", zoo.name);
        }
        let counters = scorer.counters();
        assert_eq!(counters.item_hits + counters.item_misses > 0, is_kept, "{}", zoo.name);
    }
    assert!(decided.iter().sum::<usize>() > 20, "{decided:?}");
    println!("no cache for {} models, one for {}", decided[0], decided[1]);
}
