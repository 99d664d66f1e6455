//! Promise 6: every precision states its error, and one outside of its bound is refused.

mod zoo;

use polyscore::{ErrorKind, Model, OpenOptions, Precision, Rate};
use zoo::Request;

fn largest_error(expected: &[f32], scores: &[f32]) -> f32 {
    expected.iter().zip(scores).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn finer_integers_are_nearer() {
    let mut worse = 0;
    let zoo = zoo::all();
    for zoo in &zoo {
        let open = |precision| {
            zoo.open(&OpenOptions { precision: Some(precision), max_error: Some(1.0), ..OpenOptions::default() })
        };
        let models = [Precision::F32, Precision::Int12, Precision::Int8].map(open);
        let mut errors = [0.0f32; 2];
        for seed in 0..8 {
            let request = Request::random(&models[0], seed, 64);
            let expected = request.scores(&models[0], None);
            for (error, model) in errors.iter_mut().zip(&models[1..]) {
                *error = error.max(largest_error(&expected, &request.scores(model, None)));
            }
        }
        // AdaSparse drops neurons below a threshold: near it, any difference counts.
        assert!(errors[0] < 2e-2 || zoo.name == "adasparse", "{}: int12 is {} away", zoo.name, errors[0]);
        worse += usize::from(errors[0] >= errors[1]);
    }
    // Networks of small layers may be lucky.
    assert!(worse * 10 <= zoo.len(), "int12 is no better than int8 for {worse} of {}", zoo.len());
}

#[test]
fn a_precision_outside_the_bound_is_refused() {
    let zoo = zoo::named("mmoe");
    let options = OpenOptions { precision: Some(Precision::Int8), max_error: Some(1e-6), ..OpenOptions::default() };
    let error = Model::open(&zoo.path, &options).map(|_| ()).expect_err("int8 is no f32");
    assert_eq!(error.kind(), ErrorKind::Golden);
    assert!(error.to_string().contains("golden.requests[0]"), "{error}");
}

#[test]
fn auto_keeps_its_bound_and_uses_it() {
    let mut integers = 0;
    for zoo in zoo::all() {
        for bound in [1e-2, 1e-3, 2e-5] {
            let options = OpenOptions { auto: true, max_error: Some(bound), ..OpenOptions::default() };
            let model = zoo.open(&options);
            let golden = model.golden().expect("golden requests");
            assert!(golden.max_error <= bound, "{}: {golden:?}", zoo.name);
            integers += model.plan().quantized_layers().len();
        }
    }
    assert!(integers > 100, "{integers} layers of integers in the whole zoo");
}

#[test]
fn auto_needs_golden_requests() {
    let zoo = zoo::named("mmoe");
    let options = OpenOptions { auto: true, max_error: Some(1e-9), ..OpenOptions::default() };
    let error = Model::open(&zoo.path, &options).map(|_| ()).expect_err("not even f32 is so near");
    assert_eq!(error.kind(), ErrorKind::Golden, "{error}");
}

#[test]
fn single_layers_have_their_own_type() {
    let zoo = zoo::named("mmoe");
    let f32 =
        zoo.open(&OpenOptions { precision: Some(Precision::Int8), max_error: Some(1.0), ..OpenOptions::default() });
    let layers = f32.plan().quantized_layers();
    let (name, _) = layers.first_key_value().expect("layers");
    let options = OpenOptions { layers: [(name.clone(), Precision::Int8)].into(), ..OpenOptions::default() };
    let model = zoo.open(&options);
    assert_eq!(model.plan().quantized_layers().keys().collect::<Vec<_>>(), [name]);

    let options = OpenOptions { layers: [("nobody.weight".to_owned(), Precision::Int8)].into(), ..options };
    let error = Model::open(&zoo.path, &options).map(|_| ()).expect_err("no such layer");
    assert_eq!(error.to_string(), "nobody.weight: is no weight of the model");
}

#[test]
fn what_all_candidates_share_has_its_own_type() {
    let zoo = zoo::named("mmoe");
    let options = OpenOptions {
        precision: Some(Precision::Int8),
        shares: Some(Precision::Int16),
        max_error: Some(1.0),
        ..OpenOptions::default()
    };
    let [of_all, own] =
        [OpenOptions { shares: None, ..options.clone() }, options.clone()].map(|options| zoo.open(&options));
    let mut found = [0; 2];
    for (_, step) in own.plan().steps().filter(|(_, step)| step.tensor.is_some() && !step.kernel.contains("f32")) {
        let is_shared = matches!(step.rate, Rate::Model | Rate::Scenario | Rate::Request);
        assert!(step.kernel.contains(if is_shared { "int16" } else { "int8" }), "{}: {}", step.name, step.kernel);
        found[usize::from(is_shared)] += 1;
    }
    assert!(found[0] > 10 && found[1] > 3, "{found:?}");

    let unsplit = zoo.open(&OpenOptions { split: false, ..options });
    let f32 = zoo.open(&OpenOptions::default());
    let mut errors = [0.0f32; 2];
    for seed in 0..8 {
        let request = Request::random(&f32, seed, 64);
        let scores = request.scores(&own, None);
        assert_eq!(scores, request.scores(&unsplit, None), "the types do not depend on when a layer runs");
        for (error, scores) in errors.iter_mut().zip([request.scores(&of_all, None), scores]) {
            *error = error.max(largest_error(&request.scores(&f32, None), &scores));
        }
    }
    assert!(errors[1] < errors[0], "{errors:?}");
}
