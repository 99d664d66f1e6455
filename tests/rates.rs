//! The one idea: work is done at the rate at which its inputs change, and only for the tasks asked for.

mod zoo;

use polyscore::{Model, OpenOptions, Rate, Stage};
use std::path::{Path, PathBuf};
use std::time::Duration;
use zoo::Request;

/// A folder of its own for each test: they run at the same time.
fn folder() -> PathBuf {
    let thread = std::thread::current();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rates").join(thread.name().unwrap_or("main"));
    std::fs::create_dir_all(&folder).expect("a folder for the zoo");
    folder
}

fn both(name: &str) -> [Model; 2] {
    let zoo = zoo::all().into_iter().find(|zoo| zoo.name == name).expect("a model of the zoo");
    [true, false].map(|split| zoo.open(&folder(), &OpenOptions { split, ..OpenOptions::default() }))
}

#[test]
fn the_user_share_of_first_layers_is_computed_once_per_request() {
    // User, context, history and city are 16 + 3 + 7 + 8 of the 58 inputs.
    const USER: usize = 34;
    let first_layers = [("shared_bottom", 33), ("mmoe", 3 * 40 + 2 * 5), ("esmm", 2 * 64), ("pepnet", 18)];
    for (network, outputs) in first_layers {
        let [split, whole] = both(&format!("{network}-plain"));
        let [_, request, candidate] = split.plan().multiply_adds();
        let [_, none, every] = whole.plan().multiply_adds();
        assert_eq!(none, 0, "{network} without the split");
        assert_eq!(request + candidate, every, "{network}: the split computes the same products");
        // PEPNet's personal gates see the user's embedding a second time: 16 inputs of 4 gates of 18.
        let personal = if network == "pepnet" { 4 * 18 * 16 } else { 0 };
        assert_eq!(request, USER * outputs + personal, "{network}");
    }
}

#[test]
fn what_depends_on_the_scenario_alone_is_kept_for_all_scenarios() {
    let [model, _] = both("pepnet-plain");
    let [scenario, ..] = model.plan().multiply_adds();
    assert_eq!(scenario, 6 * 18);
    assert!(model.footprint().scenario_bytes > 0);
    let rates: Vec<Rate> =
        model.plan().steps().filter(|(stage, _)| *stage == Stage::Scenario).map(|(_, step)| step.rate).collect();
    assert_eq!(rates, [Rate::Scenario, Rate::Scenario]);
}

#[test]
fn only_the_steps_of_the_tasks_asked_for_run() {
    for name in ["shared_bottom-plain", "mmoe-plain", "esmm-plain", "pepnet-plain"] {
        let [model, _] = both(name);
        let request = Request::random(1, 5);
        let ran = |tasks: &[u32]| -> Vec<bool> {
            let mut scorer = model.scorer().expect("a scorer");
            scorer.prepare(request.scenario, &request.columns(&model, true)).expect("prepare");
            scorer.start_profile();
            let mut out = vec![0.0; 5 * tasks.len()];
            scorer.score(5, &request.columns(&model, false), Some(tasks), &mut out).expect("score");
            scorer.profile().iter().map(|time| *time > Duration::ZERO).collect()
        };
        let [ctr, cvr, both] = [ran(&[0]), ran(&[1]), ran(&[2])];
        for (place, (stage, step)) in model.plan().steps().enumerate() {
            let expected = |task: u32| stage == Stage::Candidate && step.tasks >> task & 1 == 1;
            assert_eq!(ctr[place], expected(0), "{name} {} for ctr", step.name);
            assert_eq!(cvr[place], expected(1), "{name} {} for cvr", step.name);
            assert_eq!(both[place], expected(2), "{name} {} for ctcvr", step.name);
            let (is_ctr, is_cvr) = (step.name.contains("ctr"), step.name.contains("cvr"));
            assert!(!(ctr[place] && is_cvr || cvr[place] && is_ctr), "{name} {}", step.name);
        }
        assert!(ctr.iter().filter(|ran| **ran).count() < both.iter().filter(|ran| **ran).count());
    }
}

#[test]
fn the_plan_prints_every_step() {
    let [model, _] = both("pepnet-norm");
    let text = model.plan().to_string();
    assert_eq!(text.lines().count(), model.plan().steps().count() + 3);
    for (stage, step) in model.plan().steps() {
        let line = text.lines().find(|line| line.contains(&step.name) && line.contains(&stage.to_string()));
        let line = line.unwrap_or_else(|| panic!("{} is not printed", step.name));
        assert!(line.contains(&step.shape) || text.matches(&step.name).count() > 1, "{line}");
    }
}
