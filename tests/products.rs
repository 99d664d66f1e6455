//! Product tables: within their budget, and worth the same scores to f32 rounding.

mod zoo;

use polyscore::{Model, OpenOptions, Precision};
use zoo::{Request, bits, largest_difference};

/// Rounding of f32 sums of a few hundred terms, seen in a probability.
const ROUNDING: f64 = 2e-6;

/// The model with that many bytes of product tables, in a precision.
fn open(zoo: &zoo::Zoo, product_bytes: usize, precision: Option<Precision>) -> Model {
    zoo.open(&OpenOptions { product_bytes, precision, max_error: Some(1.0), ..OpenOptions::default() })
}

#[test]
fn tables_change_scores_by_rounding_alone() {
    let mut with_tables = 0;
    for zoo in zoo::all() {
        let (with, without) = (open(&zoo, usize::MAX, None), open(&zoo, 0, None));
        assert_eq!(without.footprint().product_bytes, 0, "{}", zoo.name);
        with_tables += usize::from(with.footprint().product_bytes > 0);
        for seed in 0..30 {
            let request = Request::random(&with, seed, 1 + seed as usize);
            let error = largest_difference(&request.scores(&with, None), &request.scores(&without, None));
            assert!(error <= ROUNDING, "{} request {seed}: {error}", zoo.name);
        }
    }
    assert!(with_tables >= 15, "{with_tables} models have product tables");
}

#[test]
fn unusual_values_are_counted_as_without_tables() {
    for zoo in zoo::all() {
        let counted = [usize::MAX, 0].map(|product_bytes| {
            let model = open(&zoo, product_bytes, None);
            let mut scorer = model.scorer().expect("a scorer");
            for seed in 0..30 {
                let request = Request::random(&model, seed, 2);
                let mut out = vec![0.0; 2 * model.description().tasks.len()];
                scorer.prepare(request.scenario, &request.columns(true)).expect("prepare");
                scorer.score(2, &request.columns(false), None, &mut out).expect("score");
            }
            format!("{:?}", scorer.counters().features)
        });
        assert_eq!(counted[0], counted[1], "{}", zoo.name);
    }
}

#[test]
fn tables_stay_within_their_budget_and_smaller_fields_come_first() {
    let zoo = zoo::named("mmoe");
    let without = open(&zoo, 0, None);
    let all = open(&zoo, usize::MAX, None).footprint().product_bytes as usize;
    let mut before = (0, 0);
    for budget in [0, all / 4, all / 2, all] {
        let model = open(&zoo, budget, None);
        let [.., request, _] = model.plan().multiply_adds();
        let bytes = model.footprint().product_bytes as usize;
        // Beside the rows of the fields there is one of biases.
        let biases = 4 * (3 * 40 + 2 * 5);
        assert!(bytes <= budget + biases, "{bytes} of {budget}");
        assert!(bytes >= before.0, "{bytes} after {}", before.0);
        assert!(request <= before.1 || before.1 == 0, "{request} after {}", before.1);
        before = (bytes, request);
    }
    let [.., request, _] = without.plan().multiply_adds();
    assert!(before.0 == all && before.1 < request, "{before:?} of {all}, {request}");
}

#[test]
fn scores_have_the_same_bits_however_the_plan_runs() {
    for zoo in zoo::all() {
        let usual = OpenOptions { product_bytes: usize::MAX, ..OpenOptions::default() };
        let expected = zoo.open(&usual);
        let others = [
            OpenOptions { tile: 3, ..usual.clone() },
            OpenOptions { split: false, ..usual.clone() },
            OpenOptions { isa: Some("scalar".into()), ..usual.clone() },
        ];
        for options in others {
            let model = zoo.open(&options);
            for seed in 0..5 {
                let request = Request::random(&model, seed, 21);
                let (found, expected) = (request.scores(&model, None), request.scores(&expected, None));
                assert_eq!(bits(&found), bits(&expected), "{} {options:?}", zoo.name);
            }
        }
    }
}

#[test]
fn tables_add_no_error_to_coarse_layers() {
    for zoo in zoo::all() {
        let exact = open(&zoo, 0, None);
        let [with, without] = [usize::MAX, 0].map(|bytes| open(&zoo, bytes, Some(Precision::Int8)));
        let mut errors = [0.0f64; 2];
        for seed in 0..10 {
            let request = Request::random(&exact, seed, 33);
            let expected = request.scores(&exact, None);
            for (model, error) in [&with, &without].iter().zip(&mut errors) {
                *error = error.max(largest_difference(&request.scores(model, None), &expected));
            }
        }
        assert!(errors[0] <= 1.5 * errors[1] + ROUNDING, "{}: {errors:?}", zoo.name);
    }
}
