//! A trace shows what scoring computes: every step, with the same bits, and nothing that a scorer keeps is changed by it.

mod zoo;

use polyscore::{ErrorKind, Model, OpenOptions, Stage, TraceCall};
use std::collections::HashMap;

/// The scores of a trace of all candidates, whose values go through `change(place, candidate, row, values)`.
fn traced(
    model: &Model,
    request: &zoo::Request,
    mut change: impl FnMut(usize, Option<usize>, usize, &mut [f32]),
) -> Vec<f32> {
    let (user, ads) = (request.columns(true), request.columns(false));
    let call = TraceCall {
        scenario: request.scenario,
        request: &user,
        candidates: request.candidates,
        columns: &ads,
        traced: 0..request.candidates,
    };
    let mut visit = |mut value: polyscore::StepValue<'_>| {
        let (place, candidate) = (value.place, value.candidate);
        value.rows_mut().enumerate().for_each(|(row, values)| change(place, candidate, row, values));
    };
    model.trace(&call, &mut visit).expect("a trace")
}

#[test]
fn its_scores_have_the_bits_of_scoring() {
    for zoo in zoo::all() {
        for options in [
            OpenOptions::default(),
            OpenOptions { split: false, ..OpenOptions::default() },
            OpenOptions { scenario_bytes: 0, tile: 3, ..OpenOptions::default() },
        ] {
            let model = zoo.open(&options);
            for seed in 0..4 {
                let request = zoo::Request::random(&model, seed, 5);
                let expected = request.scores(&model, None);
                assert_eq!(
                    zoo::bits(&traced(&model, &request, |_, _, _, _| {})),
                    zoo::bits(&expected),
                    "{} seed {seed}",
                    zoo.name
                );
            }
        }
    }
}

#[test]
fn every_step_that_computes_a_value_is_shown_once_or_once_per_candidate() {
    for zoo in zoo::all() {
        let model = zoo.open(&OpenOptions::default());
        let request = zoo::Request::random(&model, 8, 3);
        let (user, ads) = (request.columns(true), request.columns(false));
        let (scenario, traced) = (request.scenario, 0..3);
        let call = TraceCall { scenario, request: &user, candidates: 3, columns: &ads, traced };
        let mut seen: HashMap<usize, Vec<Option<usize>>> = HashMap::new();
        model.trace(&call, &mut |value| seen.entry(value.place).or_default().push(value.candidate)).expect("a trace");
        for (place, (stage, step)) in model.plan().steps().enumerate() {
            let expected = match (step.operation_name(), stage) {
                ("enter" | "leave", _) => vec![],
                (_, Stage::Candidate) => vec![Some(0), Some(1), Some(2)],
                _ => vec![None],
            };
            assert_eq!(seen.remove(&place).unwrap_or_default(), expected, "{} {}", zoo.name, step.name);
        }
    }
}

#[test]
fn a_part_of_the_candidates_is_traced_as_it_is_in_the_whole() {
    let model = zoo::named("mmoe_din").open(&OpenOptions::default());
    let request = zoo::Request::random(&model, 3, 6);
    let all = request.scores(&model, None);
    let (user, ads) = (request.columns(true), request.columns(false));
    let call = |traced| TraceCall { scenario: request.scenario, request: &user, candidates: 6, columns: &ads, traced };
    let scores = model.trace(&call(2..5), &mut |_| {}).expect("a trace");
    let expected: Vec<f32> = (0..all.len() / 6).flat_map(|task| all[task * 6 + 2..task * 6 + 5].to_vec()).collect();
    assert_eq!(zoo::bits(&scores), zoo::bits(&expected));
    assert!(model.trace(&call(6..6), &mut |_| {}).expect("a trace").is_empty());
}

#[test]
fn values_are_those_of_the_tables_and_of_the_heads() {
    let model = zoo::named("mmoe").open(&OpenOptions::default());
    let request = zoo::Request::random(&model, 2, 4);
    let (user, ads) = (request.columns(true), request.columns(false));
    let scenario = request.scenario;
    let call = TraceCall { scenario, request: &user, candidates: 4, columns: &ads, traced: 0..4 };
    let table = model.tensor("embeddings.ad.weight").expect("the table of ads");
    let width = table.shape[1];
    let rows: Vec<f32> =
        table.bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("4 bytes"))).collect();
    let (mut found, mut last) = (0, HashMap::new());
    let scores = model
        .trace(&call, &mut |value| {
            if value.step.operation_name() == "gather" && value.step.name == "ad" {
                assert!(rows.chunks_exact(width).any(|row| value.rows().eq([row])), "no row of the table");
                found += 1;
            }
            if let Some(candidate) = value.candidate {
                last.insert(candidate, value.rows().flatten().copied().collect::<Vec<f32>>());
            }
        })
        .expect("a trace");
    assert_eq!(found, 4);
    // The last step is the probability of the last task that is predicted.
    for candidate in 0..4 {
        assert_eq!(last[&candidate], [scores[4 + candidate]], "candidate {candidate}");
    }
}

#[test]
fn a_changed_value_is_what_later_steps_read() {
    for name in ["mmoe", "star", "dffm", "m2m", "graph", "adl"] {
        let model = zoo::named(name).open(&OpenOptions::default());
        let request = zoo::Request::random(&model, 4, 3);
        let mut values = HashMap::new();
        let expected = traced(&model, &request, |place, candidate, row, value| {
            values.insert((place, candidate, row), value.to_vec());
        });
        let same = traced(&model, &request, |place, candidate, row, value| {
            value.copy_from_slice(&values[&(place, candidate, row)]);
        });
        assert_eq!(zoo::bits(&same), zoo::bits(&expected), "{name}");

        for stage in [Stage::Model, Stage::Scenario, Stage::Request, Stage::Candidate] {
            let places: Vec<usize> = model.plan().steps().enumerate().filter(|s| s.1.0 == stage).map(|s| s.0).collect();
            if places.is_empty() {
                continue;
            }
            let changed = traced(&model, &request, |place, _, _, value| {
                if places.contains(&place) {
                    value.iter_mut().for_each(|number| *number = *number * 0.5 + 0.1);
                }
            });
            assert_ne!(zoo::bits(&changed), zoo::bits(&expected), "{name} {stage}");
            assert_eq!(zoo::bits(&request.scores(&model, None)), zoo::bits(&expected), "the model is as it was");
        }
    }
}

#[test]
fn what_cannot_be_traced_is_named_and_nothing_is_shown() {
    let model = zoo::named("mmoe").open(&OpenOptions::default());
    let request = zoo::Request::random(&model, 1, 3);
    let (user, ads) = (request.columns(true), request.columns(false));
    let good = TraceCall { scenario: None, request: &user, candidates: 3, columns: &ads, traced: 0..3 };
    #[expect(clippy::reversed_empty_ranges, reason = "one that ends before it begins is refused")]
    let cases = [
        (TraceCall { traced: 2..4, ..good.clone() }, ErrorKind::InvalidArgument, "traced: is 2..4 of 3 candidates"),
        (TraceCall { traced: 2..1, ..good.clone() }, ErrorKind::InvalidArgument, "traced: is 2..1 of 3 candidates"),
        (TraceCall { candidates: 4, ..good.clone() }, ErrorKind::ColumnLength, "feature `"),
        (TraceCall { request: &ads, ..good.clone() }, ErrorKind::ColumnSide, "feature `"),
        (TraceCall { columns: &[], ..good.clone() }, ErrorKind::MissingFeature, "feature `"),
    ];
    for (call, kind, message) in cases {
        let error = model.trace(&call, &mut |_| panic!("a step was shown")).expect_err("refused");
        assert!(error.kind() == kind && error.to_string().starts_with(message), "{error}");
    }
}
