"""Networks of which one is a special case of another give the same scores, as twins and in the engine."""

import re

import numpy as np
import pytest
import torch
import zoo

import polyscore
from polyscore import networks

BOUND = 2e-6

EXPERTS = {"expert": [33, 17], "gate": [5], "tower": [11]}

# Each network as a special case of TAML, and where its tensors come from: a pattern and what replaces it.
TAML_CASES = {
    "cgc": (
        {"type": "taml", "learners": 1, "shared_experts": 2, "task_experts": 3, "learner_experts": 0},
        {"type": "ple", "levels": 1, "shared_experts": 2, "task_experts": 3},
        [(r"^(gates|towers|heads)\.(\w+)\.0\.", r"\1.\2."), (r"^((task_)?experts|gates)\.", r"levels.0.\1.")],
    ),
    "mmoe": (
        {"type": "taml", "learners": 1, "shared_experts": 3, "task_experts": 0, "learner_experts": 0},
        {"type": "mmoe", "experts": 3},
        [(r"^(gates|towers|heads)\.(\w+)\.0\.", r"\1.\2.")],
    ),
    "mmoe_of_cgc": (
        {"type": "ple", "levels": 1, "shared_experts": 3, "task_experts": 0},
        {"type": "mmoe", "experts": 3},
        [(r"^levels\.0\.", "")],
    ),
}


def renamed(weights, patterns):
    """The same tensors under the names that the patterns, one after another, make of theirs."""
    names = list(weights)
    for pattern, replacement in patterns:
        names = [re.sub(pattern, replacement, name) for name in names]
    assert len(set(names)) == len(names)
    return dict(zip(names, weights.values()))


def describe(network, variant):
    """The description of the zoo with a network that the zoo does not have."""
    return zoo.describe("mmoe", "plain") | {"network": network | zoo.VARIANTS[variant]}


def twin_of(description, weights):
    """The twin that has exactly `weights`."""
    network = networks.build(description, {name: tuple(weights[name].shape) for name in weights})
    network.load_state_dict(weights)
    return network.eval()


def assert_equal(tmp_path, one, other):
    """Two twins score equally, and so do their files in the engine."""
    scorers = []
    for number, twin in enumerate((one, other)):
        path = tmp_path / f"{number}.safetensors"
        polyscore.export(twin.description, twin.state_dict(), path)
        scorers.append(polyscore.Model(path).scorer())
    twins = engine = 0.0
    scores = []
    for count, seed in zip([1, 7, 64, 257] * 2, range(8)):
        request = zoo.request(seed, count)
        expected, found = (zoo.score(twin, request, count) for twin in (one, other))
        twins = max(twins, *(float((expected[task] - found[task]).abs().max()) for task in expected))
        scores += expected.values()
        for scorer in scorers:
            scorer.prepare(request["scenario"], request["request"])
        left, right = (scorer.score(request["candidates"]) for scorer in scorers)
        assert list(left) == list(right) == list(expected)
        engine = max(engine, *(float(np.abs(left[task] - right[task]).max()) for task in left))
    print(f"between twins {twins:.2e}, between files {engine:.2e}")
    assert float(torch.cat(scores).std()) > 0.02, "the scores are flat: agreement would mean nothing"
    assert twins <= BOUND
    assert engine <= BOUND


@pytest.mark.parametrize("case", TAML_CASES)
@pytest.mark.parametrize("variant", zoo.VARIANTS)
def test_a_network_without_what_it_adds_is_the_smaller_one(tmp_path, case, variant):
    larger, smaller, patterns = TAML_CASES[case]
    one = zoo.twin(describe(larger | EXPERTS, variant))
    other = twin_of(describe(smaller | EXPERTS, variant), renamed(one.state_dict(), patterns))
    assert_equal(tmp_path, one, other)


@pytest.mark.parametrize("fusion", ["mean", "gated"])
def test_one_learner_needs_no_fusion(tmp_path, fusion):
    """The fusion gate of a single learner is 1, and a mean of logits is the logit."""
    network = {"type": "taml", "learners": 1, "fusion": fusion} | EXPERTS
    one = zoo.twin(describe(network | {"fuse": "probability"}, "norm"))
    assert_equal(tmp_path, one, twin_of(describe(network | {"fuse": "logit"}, "norm"), one.state_dict()))
    weights = {name: value for name, value in one.state_dict().items() if not name.startswith("fusion.")}
    assert_equal(tmp_path, one, twin_of(describe(network | {"fusion": "mean"}, "norm"), weights))


def test_equal_learners_are_one_learner(tmp_path):
    network = {"type": "taml", "shared_experts": 2, "task_experts": 1, "learner_experts": 0} | EXPERTS
    one = zoo.twin(describe(network | {"learners": 1}, "norm"))
    weights = {}
    for name, value in one.state_dict().items():
        learners = 3 if re.match(r"(gates|towers|heads)\.", name) else 1
        weights |= {re.sub(r"^(\w+\.\w+)\.0\.", rf"\1.{m}.", name) if learners > 1 else name: value for m in range(learners)}
    assert_equal(tmp_path, one, twin_of(describe(network | {"learners": 3}, "norm"), weights))


def test_two_classes_are_the_difference_of_their_logits(tmp_path):
    """ESCM2 with a softmax of two logits, and ESMM with their difference."""
    one = zoo.twin(describe({"type": "escm2", "tower": [33, 17], "head": "softmax"}, "norm"))
    weights = one.state_dict()
    for name in weights:
        if name.startswith("heads."):
            weights[name] = (weights[name][1:] - weights[name][:1]).contiguous()
    assert_equal(tmp_path, one, twin_of(describe({"type": "esmm", "tower": [33, 17]}, "norm"), weights))


@pytest.mark.parametrize("changes", [{}, {"domain": [], "domain_width": 120}, {"head": 7, "pooling": "last"},
                                     {"head": 2, "attention_width": None, "pooling": "sum"},
                                     {"slices": "separate", "attention_width": 11}, {"target": ["ad"], "head": 4},
                                     {"target": ["device"], "agnostic": ["ad", "history"], "head": 4}])
def test_fast_and_plain_attention_agree(tmp_path, changes):
    description = zoo.describe("dffm", "plain")
    description["network"] = description["network"] | changes
    twin = zoo.twin(description).double()
    opened = []
    for form in ("auto", "factored", "plain"):
        path = tmp_path / f"{form}.safetensors"
        polyscore.export(description | {"network": description["network"] | {"attention": form}}, twin.state_dict(), path)
        opened.append(polyscore.Model(path))
    plans = {form: model.plan() for form, model in zip(("auto", "factored", "plain"), opened)}
    assert plans["factored"] != plans["plain"]
    for seed, length in enumerate([0, 1, 5, 12]):
        request = zoo.request(seed, 33, twin.features)
        request["request"]["clicks"] = [(3 * i + seed) % 45 for i in range(length)]
        request["request"]["clicked_tags"] = [(5 * i + seed) % 14 for i in range(length)]
        expected, forms = zoo.score(twin, request, 33), []
        for model in opened:
            scorer = model.scorer()
            scorer.prepare(request["scenario"], request["request"])
            forms.append(scorer.score(request["candidates"]))
        for task, reference in expected.items():
            for scores in forms:
                assert np.abs(scores[task] - forms[-1][task]).max() <= 1e-6
                assert np.abs(scores[task] - reference.numpy()).max() <= BOUND


def test_the_domain_may_be_of_the_ad(tmp_path):
    """DFFM with a domain of item rate, and the fields that it takes when none are named."""
    description = zoo.describe("dffm", "plain")
    names = ("ad", "history", "clicks", "category", "device", "slot")
    chosen = [feature for feature in description["features"] if feature["name"] in names]
    description["features"] = [f | {"rate": "item"} if f["name"] == "slot" else f for f in chosen]
    description["network"] = description["network"] | {"history": ["clicks"], "agnostic": None}
    twin = zoo.twin(description).double()
    path = tmp_path / "item.safetensors"
    polyscore.export(description, twin.state_dict(), path)
    scorer = polyscore.Model(path).scorer()
    request = {"scenario": None, "request": {"history": [3, 5], "clicks": [7, 9, 11], "device": 2},
               "candidates": {"ad": [*range(33)], "category": [i % 9 for i in range(33)], "slot": [i % 6 for i in range(33)]}}
    scorer.prepare(None, request["request"])
    scores, expected = scorer.score(request["candidates"]), zoo.score(twin, request, 33)
    for task, reference in expected.items():
        assert np.abs(scores[task] - reference.numpy()).max() <= BOUND


@pytest.mark.parametrize("options", [{}, {"scenario_bytes": 1}, {"split": False}])
def test_star_folded_equals_unfolded(tmp_path, options):
    """The twin multiplies weights, norms and shifts for each row; the engine has one matrix per scenario."""
    description = zoo.describe("star", "plain")
    twin, path = zoo.twin(description), tmp_path / "star.safetensors"
    twin.export(path)
    scorer = polyscore.Model(path, **options).scorer()
    twin.double()
    worst = 0.0
    for scenario in ("feed", "splash", "feed"):
        request = zoo.request(5, 64, description["features"]) | {"scenario": scenario}
        expected = zoo.score(twin, request, 64)
        scorer.prepare(scenario, request["request"])
        for task, scores in scorer.score(request["candidates"]).items():
            worst = max(worst, float(np.abs(scores - expected[task].numpy()).max()))
    assert 0 < worst <= 1e-6
