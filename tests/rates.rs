//! The one idea: work is done at the rate at which its inputs change, and only for the tasks asked for.

mod zoo;

use polyscore::{KeptScenarios, Model, OpenOptions, Rate, Stage};
use std::time::Duration;
use zoo::Request;

/// A model of the zoo with the split and without. Without product tables: they would take the user's ids out of the layers.
fn both(name: &str) -> [Model; 2] {
    let zoo = zoo::named(name);
    [true, false].map(|split| zoo.open(&OpenOptions { split, product_bytes: 0, ..OpenOptions::default() }))
}

#[test]
fn the_user_share_of_first_layers_is_computed_once_per_request() {
    // User, context, history, age and city are 16 + 3 + 7 + 1 + 8 of the 59 inputs.
    const USER: usize = 35;
    let first_layers = [("shared_bottom", 33), ("mmoe", 3 * 40 + 2 * 5), ("esmm", 2 * 64), ("pepnet", 18)];
    for (network, outputs) in first_layers {
        let [split, _] = both(network);
        let [_, _, request, _] = split.plan().multiply_adds();
        // PEPNet's personal gates see the user's embedding a second time: 16 inputs of 4 gates of 18.
        let personal = if network == "pepnet" { 4 * 18 * 16 } else { 0 };
        assert_eq!(request, USER * outputs + personal, "{network}");
    }
}

#[test]
fn the_split_moves_products_and_changes_none() {
    for zoo in zoo::all() {
        let [split, whole] = both(&zoo.name);
        let [model, scenario, request, candidate] = split.plan().multiply_adds();
        let [same_model, same_scenario, none, every] = whole.plan().multiply_adds();
        assert_eq!((model, scenario, none), (same_model, same_scenario, 0), "{}", zoo.name);
        // Without the split its history is projected among the steps of the scenario and among the others.
        let twice = if zoo.name == "dffm_scenario" { 2880 } else { 0 };
        assert_eq!(request + candidate + twice, every, "{}", zoo.name);
        assert!(request > 0, "{}: nothing was hoisted", zoo.name);
    }
}

#[test]
fn a_layer_over_several_parts_of_a_row_is_split_as_one_over_one() {
    // For each of 6 clicks the layer sees ad, click, click - ad and another embedding of the click, 8 wide each.
    let [split, _] = both("graph");
    let layer = split.plan().steps().filter(|(_, step)| step.name == "15.linear" && step.operation_name() == "dense");
    let shares: Vec<(Stage, Rate, &str)> = layer.map(|(stage, step)| (stage, step.rate, &*step.shape)).collect();
    assert_eq!(shares, [(Stage::Request, Rate::Request, "6x16x12"), (Stage::Candidate, Rate::Item, "8x12")]);
}

#[test]
fn gates_are_mixed_as_logits_but_for_those_that_change_less_often() {
    let count = |name: &str| {
        let [model, _] = both(name);
        let steps: Vec<(&str, bool)> =
            model.plan().steps().map(|(_, step)| (step.operation_name(), step.shape.starts_with("softmax "))).collect();
        ["softmax", "mixture"].map(|operation| {
            let mine = steps.iter().filter(|(of, _)| *of == operation);
            (mine.clone().count(), mine.filter(|(_, is_softmax)| *is_softmax).count())
        })
    };
    assert_eq!(count("mmoe"), [(0, 0), (2, 2)]);
    assert_eq!(count("taml"), [(0, 0), (6, 6)]);
    // Its gate is of the item, its experts are of the pair.
    assert_eq!(count("graph"), [(3, 0), (1, 0)]);
}

#[test]
fn what_depends_on_the_scenario_alone_is_kept_for_all_scenarios() {
    let [model, _] = both("pepnet");
    let [_, scenario, ..] = model.plan().multiply_adds();
    assert_eq!(scenario, 6 * 18);
    assert!(model.footprint().scenario_bytes > 0);
    let rates: Vec<Rate> =
        model.plan().steps().filter(|(stage, _)| *stage == Stage::Scenario).map(|(_, step)| step.rate).collect();
    assert_eq!(rates, [Rate::Scenario, Rate::Scenario]);
}

#[test]
fn only_the_steps_of_the_tasks_asked_for_run() {
    for zoo in zoo::all() {
        let (name, model) = (&zoo.name, zoo.open(&OpenOptions::default()));
        let request = Request::random(&model, 1, 5);
        let ran = |tasks: &[u32]| -> Vec<bool> {
            let mut scorer = model.scorer().expect("a scorer");
            scorer.prepare(request.scenario, &request.columns(true)).expect("prepare");
            scorer.start_profile();
            let mut out = vec![0.0; 5 * tasks.len()];
            scorer.score(5, &request.columns(false), Some(tasks), &mut out).expect("score");
            scorer.profile().iter().map(|time| *time > Duration::ZERO).collect()
        };
        let [ctr, cvr, both] = [ran(&[0]), ran(&[1]), ran(&[2])];
        for (place, (stage, step)) in model.plan().steps().enumerate() {
            let expected = |task: u32| stage == Stage::Candidate && step.tasks >> task & 1 == 1;
            assert_eq!(ctr[place], expected(0), "{name} {} for ctr", step.name);
            assert_eq!(cvr[place], expected(1), "{name} {} for cvr", step.name);
            assert_eq!(both[place], expected(2), "{name} {} for ctcvr", step.name);
            let of = |task: &str| step.name.starts_with(&format!("heads.{task}"));
            assert!(!(ctr[place] && of("cvr") || cvr[place] && of("ctr")), "{name} {}", step.name);
        }
        let count = |ran: &[bool]| ran.iter().filter(|ran| **ran).count();
        assert!(count(&ctr) < count(&both), "{name}");
    }
}

#[test]
fn the_plan_prints_every_step() {
    let [model, _] = both("pepnet_norm");
    let text = model.plan().to_string();
    assert_eq!(text.lines().count(), model.plan().steps().count() + 5);
    for (stage, step) in model.plan().steps() {
        let line = text.lines().find(|line| line.contains(&step.name) && line.contains(&stage.to_string()));
        let line = line.unwrap_or_else(|| panic!("{} is not printed", step.name));
        assert!(line.contains(&step.shape) || text.matches(&step.name).count() > 1, "{line}");
    }
}

#[test]
fn the_scenarios_used_last_are_kept_within_the_budget() {
    let zoo = zoo::named("star");
    let open = |scenario_bytes| zoo.open(&OpenOptions { scenario_bytes, ..OpenOptions::default() });
    let each = open(0).plan().bytes_per_scenario();
    assert!(each > 4 * 33 * 18, "STAR's weights are kept for each scenario");
    for (budget, kept, folded) in [
        (2 * each, KeptScenarios::All(2), [0, 0, 0, 0, 0]),
        (2 * each - 1, KeptScenarios::PerScorer(1), [1, 1, 2, 3, 3]),
        (each - 1, KeptScenarios::PerScorer(0), [1, 1, 2, 3, 3]),
    ] {
        let model = open(budget);
        assert_eq!(model.kept_scenarios(), kept);
        assert!(model.footprint().scenario_bytes as usize <= budget);
        let mut scorer = model.scorer().expect("a scorer");
        let request = Request::random(&model, 1, 1);
        let count = ["feed", "feed", "splash", "feed", "feed"].map(|name| {
            scorer.prepare(model.scenario(name), &request.columns(true)).expect("prepare");
            scorer.counters().scenarios_folded
        });
        assert_eq!(count, folded, "{budget}");
    }
}

#[test]
fn causalint_transfers_a_candidate_once_for_all_scenarios() {
    let model = zoo::named("causalint").open(&OpenOptions::default());
    let bound = |step: &polyscore::Step| step.is_scenario_bound;
    let candidate = || model.plan().steps().filter(|(stage, _)| *stage == Stage::Candidate).map(|(_, step)| step);
    let sum =
        |wanted: bool| candidate().filter(|step| bound(step) == wanted).map(|step| step.multiply_adds).sum::<usize>();
    // Two tasks with towers of 5 over 7 numbers; everything before is free of the scenario.
    assert_eq!(sum(true), 2 * (7 * 5 + 5));
    assert!(sum(false) > 20 * sum(true));
    for step in candidate().filter(|step| bound(step)) {
        assert!(step.name.starts_with("towers.") || step.name.starts_with("heads."), "{}", step.name);
    }

    // A call for three scenarios takes the values of features once per candidate, a call per scenario three times.
    let request = Request::random(&model, 4, 6);
    let mut scorer = model.scorer().expect("a scorer");
    scorer.prepare(request.scenario, &request.columns(true)).expect("prepare");
    let ad = model.feature("ad").expect("a feature") as usize;
    let mut out = vec![0.0; 3 * 3 * 6];
    scorer.score_each(6, &[0, 1, 1], &request.columns(false), None, &mut out).expect("score");
    assert_eq!(scorer.counters().features[ad].values, 6);
    assert_eq!(scorer.counters().candidates, 18);
}
